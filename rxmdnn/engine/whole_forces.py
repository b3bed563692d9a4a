"""Forces of potentials that see all atoms at once, and not the edges of each: models of message passing, calculators.

They run on one rank, where every atom and all its neighbors are known.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from rxmdnn.atoms import Atoms, Edges
from rxmdnn.cell import Cell
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import AgreedError
from rxmdnn.timers import Timers


class WholePotential(Potential, Protocol):
    """A potential that gives energies and forces of all atoms together; its ``compute`` raises InputError."""

    name: str

    def compute_whole(self, cell: Cell, x: np.ndarray, species: np.ndarray, edges: Edges
                      ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energies (n,), eV; forces (n, 3), eV/Å; virial W = -dE/dε (3, 3), eV, NaN where unknown.

        x (n, 3) float64, Å; species (n,) int32; edges : all pairs within the cutoff; neighbors are rows of x, and r_ij
        goes to the periodic image that is meant
        """
        ...


class WholeForces(Forces):
    """As Forces, of a WholePotential. Raises AgreedError on several ranks."""

    potential: WholePotential

    def __init__(self, domain: Domain, neighbors: NeighborList, potential: WholePotential, timers: Timers) -> None:
        if domain.comm.size > 1:
            raise AgreedError(f"{potential.name}: sees all atoms at once and runs on one rank, but "
                              f"{domain.comm.size} are running; start it without mpirun")
        super().__init__(domain, neighbors, potential, timers)
        self._virial = np.zeros((3, 3))

    def compute(self, atoms: Atoms) -> None:
        """As Forces.compute."""
        if not self.refresh(atoms, [atoms.x]):
            with self.timers("halo"):
                self.domain.copy(atoms.x)
        n = atoms.n_owned
        with self.timers("neighbors"):
            edges = self.neighbors.edges(atoms.x, atoms.species)
        with self.timers("network"):
            by_gid = np.argsort(atoms.gid[:n])
            row = by_gid[np.searchsorted(atoms.gid[:n][by_gid], atoms.gid)].astype(np.int32)  # of what is copied
            real = replace(edges, neighbor=row[edges.neighbor], scratch=None)
            e_i, forces, self._virial = self.potential.compute_whole(
                self.domain.cell, atoms.x[:n].copy(), atoms.species[:n], real)
        atoms.f[:] = 0.0
        atoms.f[:n] = forces
        self.edges = len(edges.center)
        self._last = (edges, e_i, np.zeros((len(edges.center), 3)))
        self._add(atoms)

    def virial(self) -> np.ndarray:
        """As Forces.virial: that of the potential and of the added forces."""
        return self._with_added(self._virial)


def forces_of(domain: Domain, neighbors: NeighborList, potential: Potential, timers: Timers) -> Forces:
    """The Forces that a potential needs."""
    if hasattr(potential, "compute_whole"):
        return WholeForces(domain, neighbors, potential, timers)  # type: ignore[arg-type]
    return Forces(domain, neighbors, potential, timers)
