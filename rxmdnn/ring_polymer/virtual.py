"""Potential energy of rings whose shapes differ from those of a run: for estimators that displace or scale beads.

The atoms of the run are copied, and evaluated with a halo plan and a neighbor list of their own: the run
keeps its bits.
"""

from __future__ import annotations

from typing import NamedTuple

from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.engine.system import System
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.forces import F, RingForces, U

ANYWHERE = 1e3  # Å: beads of virtual rings may be far from their centroids


class Virtual(NamedTuple):
    """Energies of virtual rings, eV. potential : mean over the beads; pull : Σ u_k·f_k over all modes and atoms."""

    potential: float
    pull: float


class VirtualRings:
    """Evaluates rings of other shapes around the centroids of a run.

    Parameters
    ----------
    comm : of the ranks that hold the atoms
    ring : RingPolymer of the run
    """

    def __init__(self, comm: MPI.Comm, ring: RingPolymer) -> None:
        self.ring, of_run = ring, ring.motion.forces
        assert isinstance(of_run, RingForces)
        nx, ny, nz = map(int, of_run.domain.grid)
        self.system = System(
            of_run.potential, of_run.domain.cell, comm=comm, backend=of_run.domain.backend,
            skin=of_run.least_skin, grid=(nx, ny, nz),
            make_forces=lambda domain, neighbors, potential, timers: RingForces(
                domain, neighbors, potential, timers, ring.modes.beads, ANYWHERE, of_run.contraction))

    def evaluate(self, u: Array) -> Virtual:
        """Energies with internal modes ``u`` (n_owned, P - 1, 3), Å, in the row order of the run. All ranks call it."""
        atoms, system, forces = self.ring.atoms, self.system, self.system.forces
        assert atoms is not None
        n, cell = atoms.n_owned, self.ring.motion.forces.domain.cell
        if cell is not system.cell:
            system.domain.set_cell(cell)
        copy = Atoms(atoms.gid[:n].copy(), atoms.species[:n].copy(), atoms.x[:n].copy(), atoms.v.copy(),
                     atoms.image.copy(), atoms.f[:n].copy(), n, {U: u.copy()})
        forces.forget()
        forces.compute(copy)
        pull = system.comm.allreduce(float((copy.extra[U] * copy.extra[F]).sum()))
        return Virtual(forces.energy(), pull)
