"""Pairs of forces of a path-integral run, from which a model learns what quantum nuclei add to the classical force.

At a centroid, the mean force of the beads less the force of the model at the centroid itself. A network trained on
these differences of a hot run, added to the model, gives quantum spectra by classical dynamics (temperature-elevated
path-integral coarse graining, Te-PIGS: J. Chem. Phys. 157, 181102 (2022)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.engine.system import System
from rxmdnn.io.frame import Frame
from rxmdnn.io.xyz_trajectory import XYZTrajectory

PAIRS = "centroid_pairs.xyz"
ENGINE = "beads less centroid"  # in the header, by which training takes the frames as labelled
MEAN = "mean_force"  # of the beads, eV/Å; a row of Atoms.extra


class CentroidPairs:
    """Writes <folder>/centroid_pairs.xyz: centroids, and the difference of the two forces as ``model_forces``.

    A training deck names them: 'energy_key model_energy', 'forces_key model_forces'. ``model_energy`` is the mean
    energy of the beads less that of the centroids, eV: for a weight of zero, as it is no potential of these forces.

    Parameters
    ----------
    comm : of the ranks that hold the atoms; frame : the present frame of the run, on the host
    restart : as of XYZTrajectory
    """

    def __init__(self, comm: MPI.Comm, folder: Path, simulation: Simulation, frame: Callable[[Thermo], Frame],
                 restart: int | None) -> None:
        self.comm, self.simulation, self.frame = comm, simulation, frame
        self.file = XYZTrajectory(comm, folder / PAIRS, restart)

    def write(self, thermo: Thermo) -> None:
        """Append the pairs of the present step (collective)."""
        frame, s = self.frame(thermo), self.simulation
        a, n = frame.atoms, frame.atoms.n_owned
        atoms = Atoms.of(a.gid[:n], a.species[:n], a.x[:n], a.v[:n], a.image[:n])
        atoms.extra[MEAN] = a.f[:n].copy()
        system = System(s.forces.potential, frame.cell, atoms, comm=self.comm, backend=s.backend,
                        grid=frame.grid, skin=0.0)
        system.forces.compute(system.atoms)
        found, energy = system.atoms.on(s.backend.to_host), system.forces.energy()
        m = found.n_owned
        found.f[:m] = found.extra.pop(MEAN)[:m] - found.f[:m]
        self.file.write(replace(frame, atoms=found, potential=frame.potential - energy, virial=None,
                                motion={**frame.motion, "engine": ENGINE}))

    def rewind(self, step: int) -> None:
        """Drop what was written after a step."""
        self.file.rewind(step)
