"""Sums over the velocities of all atoms: kinetic energy, temperature, momentum; and drawing them."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.units import ACCELERATION, KB

VELOCITY_STREAM = 1  # of the counter-based random numbers


class Kinetics:
    """What the velocities of a decomposed system add up to. Every method is called by all ranks.

    Parameters
    ----------
    mass : (n_elements,) float64, amu
    n_global : int
        The total momentum is zero, so 3N - 3 degrees of freedom share the kinetic energy (3 for one atom).
    """

    def __init__(self, comm: MPI.Comm, backend: Backend, mass: np.ndarray, n_global: int) -> None:
        self.comm, self.backend, self.mass, self.n_global = comm, backend, mass, n_global
        self.freedoms = 3 * n_global - 3 if n_global > 1 else 3

    def by_element(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """(n_elements,) kinetic energy in eV and number of atoms of each element."""
        species = atoms.species[: atoms.n_owned]
        n = len(self.mass)
        v_sq = np.bincount(species, (atoms.v**2).sum(axis=1), minlength=n)
        mine = np.concatenate([0.5 * self.mass * v_sq / ACCELERATION, np.bincount(species, minlength=n)])
        total = self.comm.allreduce(mine)
        return total[:n], total[n:]

    def energy(self, atoms: Atoms) -> float:
        """Kinetic energy, eV."""
        return float(self.by_element(atoms)[0].sum())

    def temperature_of(self, energy: float) -> float:
        """K, from a kinetic energy in eV."""
        return 2.0 * energy / (self.freedoms * KB)

    def temperature(self, atoms: Atoms) -> float:
        return self.temperature_of(self.energy(atoms))

    def tensor(self, atoms: Atoms) -> np.ndarray:
        """(3, 3) Σ m v ⊗ v, eV: twice the kinetic energy, resolved."""
        m = self.mass[atoms.species[: atoms.n_owned]]
        return self.comm.allreduce((atoms.v * m[:, None]).T @ atoms.v) / ACCELERATION

    def zero_momentum(self, atoms: Atoms) -> None:
        """Take the velocity of the center of mass off every atom."""
        if self.n_global < 2:
            return
        m = self.mass[atoms.species[: atoms.n_owned]]
        total = self.comm.allreduce(np.array([*(m @ atoms.v), m.sum()]))
        atoms.v -= total[:3] / total[3]

    def rescale(self, atoms: Atoms, target: float) -> None:
        """Scale all velocities to ``target`` K; atoms at rest stay at rest."""
        now = self.temperature(atoms)
        if now > 0:
            atoms.v *= np.sqrt(target / now)

    def draw(self, atoms: Atoms, target: float, seed: int, step: int) -> None:
        """Maxwell-Boltzmann velocities at exactly ``target`` K with no total momentum.

        Each component has variance k_B T/m of its own atom's mass. The numbers depend on (seed, step, gid) alone,
        so they are the same for every rank count.
        """
        z = np.empty((atoms.n_owned, 3))
        self.backend.gaussian(seed, VELOCITY_STREAM, step, atoms.gid[: atoms.n_owned], z)
        width = np.sqrt(KB * target * ACCELERATION / self.mass)
        atoms.v = z * width[atoms.species[: atoms.n_owned], None]
        self.zero_momentum(atoms)
        self.rescale(atoms, target)
