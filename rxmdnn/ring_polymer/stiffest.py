"""The stiffest harmonic mode of a model at given positions, by the Lanczos iteration.

The mass-weighted Hessian is known by its products with vectors alone, central differences of forces; its largest
eigenvalue converges in a few dozen evaluations for any number of atoms. All ranks hold the vectors of all atoms, in the
order of the numbers of the atoms: the result is the same on any grid but for the rounding of forces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rxmdnn.engine.system import System
from rxmdnn.units import ACCELERATION, PER_CM

MOST = 20  # vectors, each of two evaluations of the forces
RESIDUAL = 1e-3  # of the eigenvalue, at which the iteration ends
DISPLACEMENT = 0.005  # Å, of the atom that is displaced most: long for the rounding of forces in single precision


@dataclass(frozen=True)
class StiffestMode:
    """A mode. per_cm : 1/cm, 0 where no mode is stable; shares (n,) of each atom in its kinetic energy; evaluations."""

    per_cm: float
    shares: np.ndarray
    evaluations: int

    def named(self, names: Sequence[str], largest: int = 2) -> str:
        """The atoms that move most, as 'H 12 and N 3'. names (n,) : of the elements."""
        rows = np.argsort(-self.shares, kind="stable")[:largest]
        return " and ".join(f"{names[k]} {k}" for k in rows)


def stiffest_mode(system: System, x: np.ndarray, mass: np.ndarray) -> StiffestMode:
    """The mode of the highest frequency. All ranks call it alike.

    system : of all atoms; x (n, 3) float64, Å, and mass (n,) float64, amu, in the order of the numbers of the atoms
    """
    weight, evaluations = 1.0 / np.sqrt(mass)[:, None], 0

    def forces(at: np.ndarray) -> np.ndarray:
        nonlocal evaluations
        evaluations += 1
        return system.compute(system.cell, at).forces

    def dynamical(v: np.ndarray) -> np.ndarray:
        """M^(-1/2) H M^(-1/2) v, 1/fs^2."""
        d = weight * v
        h = DISPLACEMENT / np.sqrt((d**2).sum(axis=1).max())
        return ACCELERATION * weight * (forces(x - h * d) - forces(x + h * d)) / (2.0 * h)

    value, vector = largest_eigenpair(dynamical, np.random.default_rng(0).normal(size=x.shape))
    return StiffestMode(PER_CM * float(np.sqrt(max(value, 0.0))), (vector**2).sum(axis=1), evaluations)


def largest_eigenpair(product: Callable[[np.ndarray], np.ndarray], start: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest eigenvalue of a symmetric matrix, from below, and its normalized vector, of the shape of start.

    By Lanczos with complete orthogonalization (Golub and Van Loan, Matrix Computations, chapter 10).
    """
    basis = [start / np.linalg.norm(start)]
    diagonal: list[float] = []
    beside: list[float] = []
    while True:
        w = product(basis[-1])
        diagonal.append(float((w * basis[-1]).sum()))
        for _ in range(2):
            for v in basis:
                w = w - (w * v).sum() * v
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
        left = float(np.linalg.norm(w))
        scale = float(np.abs(values).max())
        if (left * abs(vectors[-1, -1]) <= RESIDUAL * scale or len(basis) == min(MOST, start.size)
                or left <= 1e-9 * scale):
            mode = sum(c * v for c, v in zip(vectors[:, -1], basis, strict=True))
            return float(values[-1]), np.asarray(mode)
        beside.append(left)
        basis.append(w / left)
