"""Charges of the atoms: numbers or Born tensors, of the elements or of each atom, and their sums over the atoms.

A tensor Z has rows of the displacement and columns of the field: F_a = Σ_b Z_ab E_b, P_b = Σ_a Z_ab u_a, with Z in e,
E in V/Å, F in eV/Å and P in eÅ. A number q is q times the unit matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rxmdnn.arrays import Array, namespace, to_device_of
from rxmdnn.atoms import CHARGES, Atoms

ROUNDING = 1e-9  # relative to Σ|Z|: a sum below it is zero


class Charges:
    """Charges of the elements (``table``), or of each atom (``Atoms.extra[CHARGES]``, which migrate).

    Parameters
    ----------
    table : (n_elements, 3, 3) float64, e; None: of each atom
    """

    def __init__(self, table: np.ndarray | None = None) -> None:
        self.table = table

    def force(self, atoms: Atoms, field: np.ndarray) -> Array:
        """(n_owned, 3) eV/Å, F_a = Σ_b Z_ab E_b. field : (3,) V/Å."""
        n = atoms.n_owned
        if self.table is not None:
            return to_device_of(atoms.x, self.table @ field)[atoms.species[:n]]
        q = atoms.extra[CHARGES]
        along = to_device_of(q, field)
        if q.ndim == 1:
            return q[:, None] * along
        # term by term: the bits of a row must not depend on the other rows
        return sum(q.reshape(n, 3, 3)[:, :, b] * along[b] for b in range(3))

    def sum_with(self, atoms: Atoms, rows: Array) -> np.ndarray:
        """(3, 3, 3) Σ_i rows_ic Z_i,ab over owned atoms, index order c a b. rows : (n_owned, 3)."""
        xp, n = namespace(rows), atoms.n_owned
        if self.table is not None:
            out = np.zeros((3, 3, 3))
            for kind, z in enumerate(self.table):
                if z.any():
                    of_kind = xp.where(atoms.species[:n, None] == kind, rows, 0.0).sum(axis=0)
                    out += _host(of_kind)[:, None, None] * z
            return out
        q = atoms.extra[CHARGES]
        if q.ndim == 1:
            return _host((q[:, None] * rows).sum(axis=0))[:, None, None] * np.eye(3)
        return np.stack([_host((rows[:, c, None] * q).sum(axis=0)).reshape(3, 3) for c in range(3)])

    def total(self, atoms: Atoms) -> tuple[np.ndarray, float]:
        """(3, 3) Σ Z, e, and Σ max|Z| over owned atoms."""
        n = atoms.n_owned
        if self.table is not None:
            species = _host(atoms.species[:n])
            count = np.bincount(species, minlength=len(self.table))
            return np.einsum("e,eab->ab", count, self.table), float(count @ np.abs(self.table).max(axis=(1, 2)))
        q = atoms.extra[CHARGES]
        z = _host(q.sum(axis=0))
        size = float(abs(q).sum() if q.ndim == 1 else abs(q).max(axis=1).sum()) if n else 0.0
        return (z * np.eye(3) if q.ndim == 1 else z.reshape(3, 3)), size

    def subtract(self, atoms: Atoms, mean: np.ndarray) -> None:
        """Subtract a tensor, (3, 3) e, from the charge of every atom."""
        if self.table is not None:
            self.table = self.table - mean
            return
        q = atoms.extra[CHARGES]
        of_each = mean[0, 0] if q.ndim == 1 else to_device_of(q, mean.reshape(9))
        atoms.extra[CHARGES] = q - of_each


def _host(array: Any) -> np.ndarray:
    """An array of NumPy or CuPy as one of NumPy."""
    return np.asarray(array.get() if hasattr(array, "get") else array)
