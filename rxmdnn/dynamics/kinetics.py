"""Sums over the velocities of all atoms (kinetic energy, temperature, momentum), and drawing of velocities."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from rxmdnn import streams
from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.kernels import n_chunks
from rxmdnn.units import ACCELERATION, KB

AT_REST = 1e-9  # of a target temperature: below it, velocities are only rounding, or what residual forces have made


class Kinetics:
    """Kinetic quantities of a decomposed system. All ranks call every method.

    Parameters
    ----------
    mass : (n_elements,) float64, amu
    n_global : int
        Number of atoms N. With zero total momentum there are 3N - 3 degrees of freedom (3 for one atom); see
        ``count_degrees_of_freedom``.
    """

    def __init__(self, comm: MPI.Comm, backend: Backend, mass: np.ndarray, n_global: int) -> None:
        self.comm, self.backend, self.mass, self.n_global = comm, backend, mass, n_global
        self.pushed = False  # whether something from outside changes the total momentum
        self.count_degrees_of_freedom()

    def count_degrees_of_freedom(self, momentum_kept: bool = True) -> None:
        """Set ``degrees_of_freedom`` to 3N, less three where the dynamics conserves the total momentum."""
        self.degrees_of_freedom = 3 * self.n_global - (
            3 if momentum_kept and not self.pushed and self.n_global > 1 else 0)

    def tensors(self, atoms: Atoms) -> np.ndarray:
        """(n_elements, 3, 3) Σ m v ⊗ v over the atoms of each element, eV."""
        partial = self.backend.xp.empty((n_chunks(atoms.n_owned), len(self.mass), 3, 3))
        self.backend.kinetic(atoms.v, atoms.species, self.mass, partial)
        return self.comm.allreduce(self.backend.to_host(partial).sum(axis=0))

    def of_atoms(self, values: np.ndarray, atoms: Atoms) -> Array:
        """(n_owned,) value of each owned atom's element. values : (n_elements,)."""
        return self.backend.table(values)[atoms.species[: atoms.n_owned]]

    def by_element(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """(n_elements,) kinetic energy in eV and number of atoms of each element."""
        count = np.bincount(self.backend.to_host(atoms.species[: atoms.n_owned]), minlength=len(self.mass))
        return 0.5 * np.trace(self.tensors(atoms), axis1=1, axis2=2), self.comm.allreduce(count)

    def energy(self, atoms: Atoms) -> float:
        """Kinetic energy, eV."""
        return 0.5 * float(np.trace(self.tensors(atoms).sum(axis=0)))

    def temperature_of(self, energy: float) -> float:
        """Temperature, K, of a kinetic energy in eV."""
        return 2.0 * energy / (self.degrees_of_freedom * KB)

    def temperature(self, atoms: Atoms) -> float:
        return self.temperature_of(self.energy(atoms))

    def zero_momentum(self, atoms: Atoms) -> None:
        """Subtract the center-of-mass velocity from every atom."""
        if self.n_global > 1:
            atoms.v -= self.backend.table(self.drift(atoms)[0])

    def drift(self, atoms: Atoms) -> tuple[np.ndarray, float]:
        """Center-of-mass velocity, (3,) Å/fs, and kinetic energy of that motion, eV."""
        m = self.of_atoms(self.mass, atoms)
        total = self.comm.allreduce(np.array([*self.backend.to_host(m @ atoms.v), float(m.sum())]))
        v = total[:3] / total[3]
        return v, 0.5 * float(total[3] * (v @ v)) / ACCELERATION

    def rescale(self, atoms: Atoms, target: float) -> None:
        """Scale all velocities to ``target`` K; atoms at rest stay at rest."""
        now = self.temperature(atoms)
        if now > 0:
            atoms.v *= np.sqrt(target / now)

    def at_rest(self, atoms: Atoms, target: float) -> bool:
        """Whether there is no motion to be scaled to ``target`` K, which is above zero."""
        return target > 0 and self.temperature(atoms) <= AT_REST * target

    def draw(self, atoms: Atoms, target: float, seed: int, step: int) -> None:
        """Draw Maxwell-Boltzmann velocities at exactly ``target`` K with zero total momentum.

        Each component has variance k_B T/m before the rescaling. The deviates depend on (seed, step, gid) alone, so
        they are the same for every rank count.
        """
        z = self.backend.xp.empty((atoms.n_owned, 3))
        self.backend.gaussian(seed, streams.VELOCITIES, step, atoms.gid[: atoms.n_owned], z)
        width = np.sqrt(KB * target * ACCELERATION / self.mass)
        atoms.v = z * self.of_atoms(width, atoms)[:, None]
        self.zero_momentum(atoms)
        self.rescale(atoms, target)
