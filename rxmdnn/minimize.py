"""Conjugate gradients (Polak and Ribière, 1969) over the positions of a decomposed system."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.domain import Domain
from rxmdnn.forces import Forces

LONGEST_MOVE = 0.1  # Å, of any atom in one trial
TRIALS = 12  # of one line search


class ConjugateGradient:
    """Iterates, saying after each iteration whether it gained less than ``tolerance`` an atom; then it ends.

    The search direction travels with its atom, so atoms may change owner within a line search.

    Parameters
    ----------
    tolerance : float, eV per atom
    """

    def __init__(self, domain: Domain, forces: Forces, atoms: Atoms, tolerance: float) -> None:
        self.comm, self.forces, self.atoms = domain.comm, forces, atoms
        self.tolerance = tolerance * self.comm.allreduce(atoms.n_owned)

    def _dot(self, a: np.ndarray, b: np.ndarray) -> float:
        return self.comm.allreduce(float(np.vdot(a, b)))

    def _largest(self, a: np.ndarray) -> float:
        return float(np.sqrt(max(self.comm.allgather(float((a**2).sum(axis=1).max(initial=0.0))))))

    def _f(self) -> np.ndarray:
        return self.atoms.f[: self.atoms.n_owned]

    def __iter__(self) -> Iterator[bool]:
        atoms = self.atoms
        atoms.v[:] = 0.0
        self.forces.compute(atoms)
        energy = self.forces.energy()
        atoms.extra["direction"] = self._f().copy()
        done = False
        yield done
        while not done:
            atoms.extra["f_old"] = self._f().copy()
            lower = self._search(energy)
            new, old = self._f(), atoms.extra["f_old"]
            along = self._dot(old, old)
            beta = max(0.0, self._dot(new, new - old) / along) if along > 0 else 0.0
            direction = new + beta * atoms.extra["direction"]
            uphill = self._dot(direction, new) <= 0
            atoms.extra["direction"] = new.copy() if uphill else direction
            done, energy = energy - lower < self.tolerance, lower
            yield done

    def _search(self, start: float) -> float:
        """Move along the direction to where the force along it nearly vanishes (secant); the energy never rises."""
        atoms = self.atoms
        slope = self._dot(self._f(), atoms.extra["direction"])
        longest = self._largest(atoms.extra["direction"])
        if slope <= 0 or longest == 0:
            return start
        limit = LONGEST_MOVE / longest
        step, energy = 0.2 * limit, start
        for _ in range(TRIALS):
            atoms.x[: atoms.n_owned] += step * atoms.extra["direction"]
            self.forces.compute(atoms)
            trial = self.forces.energy()
            if trial > energy:
                atoms.x[: atoms.n_owned] -= step * atoms.extra["direction"]
                step *= 0.25
                continue
            energy = trial
            before, slope = slope, self._dot(self._f(), atoms.extra["direction"])
            if slope < 0.1 * before:
                return energy
            step = min(limit, step * slope / (before - slope)) if before > slope else min(limit, 2.0 * step)
        self.forces.compute(atoms)
        return self.forces.energy()
