"""The cell: three vectors, the periodic ones among them, and fractional coordinates.

A cell may be triclinic, left- or right-handed, and periodic along any of its axes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rxmdnn.arrays import Array, to_device_of
from rxmdnn.errors import InputError


@dataclass(frozen=True)
class Cell:
    """A parallelepiped with vectors a, b, c in the rows of ``h``.

    Parameters
    ----------
    h : (3, 3) float64, Å
        Rows are the cell vectors.
    pbc : (3,) bool
        Whether the system is periodic along each vector.

    Attributes
    ----------
    inverse : (3, 3) float64, 1/Å
        Fractional coordinates are ``x @ inverse``.
    volume : float, Å^3
    widths : (3,) float64, Å
        Distances between opposite faces.
    """

    h: np.ndarray
    pbc: np.ndarray = field(default_factory=lambda: np.ones(3, bool))
    inverse: np.ndarray = field(init=False)
    volume: float = field(init=False)
    widths: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        h = np.array(self.h, np.float64)
        if h.shape != (3, 3) or not np.isfinite(h).all() or abs(np.linalg.det(h)) < 1e-12:
            raise InputError(f"cell: needs three linearly independent, finite vectors, not {self.h!r}")
        inverse = np.linalg.inv(h)
        object.__setattr__(self, "h", h)
        object.__setattr__(self, "pbc", np.array(self.pbc, bool))
        object.__setattr__(self, "inverse", inverse)
        object.__setattr__(self, "volume", abs(float(np.linalg.det(h))))
        object.__setattr__(self, "widths", 1.0 / np.linalg.norm(inverse, axis=0))

    @classmethod
    def from_parameters(cls, a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> Cell:
        """The cell of given lengths (Å) and angles (degrees), with a along x and b in the x-y plane."""
        if min(a, b, c) <= 0 or not all(0 < t < 180 for t in (alpha, beta, gamma)):
            raise InputError(f"cell: lengths must be positive and angles between 0 and 180, not "
                             f"{a, b, c, alpha, beta, gamma}")
        cos_a, cos_b, cos_g = (0.0 if t == 90.0 else float(np.cos(np.radians(t))) for t in (alpha, beta, gamma))
        sin_g = float(np.sqrt(1.0 - cos_g**2))
        cy = (cos_a - cos_b * cos_g) / sin_g
        rest = 1.0 - cos_b**2 - cy**2
        if rest <= 0:
            raise InputError(f"cell: angles {alpha, beta, gamma} do not define a cell")
        return cls(np.array([[a, 0, 0], [b * cos_g, b * sin_g, 0], [c * cos_b, c * cy, c * np.sqrt(rest)]], float))

    @property
    def parameters(self) -> tuple[float, float, float, float, float, float]:
        """a, b, c (Å), alpha, beta, gamma (degrees)."""
        lengths = np.linalg.norm(self.h, axis=1)
        cosines = [self.h[i] @ self.h[j] / (lengths[i] * lengths[j]) for i, j in ((1, 2), (0, 2), (0, 1))]
        a, b, c = map(float, lengths)
        alpha, beta, gamma = (float(np.degrees(np.arccos(t))) for t in cosines)
        return a, b, c, alpha, beta, gamma

    def standard(self) -> Standard:
        """The right-handed cell of the same lattice in its standard orientation, and how coordinates change.

        Formats that hold lengths and angles of a cell, or are read so, know no other. A left-handed cell has one vector
        reversed, a periodic one where there is one: atoms are turned, never mirrored.
        """
        h, flipped = self.h, None
        if np.linalg.det(h) < 0:
            flipped = int(np.flatnonzero(self.pbc)[-1]) if self.pbc.any() else 2
            h = h * np.where(np.arange(3) == flipped, -1.0, 1.0)[:, None]
        if not np.triu(h, 1).any() and (np.diag(h) > 0).all():
            lower, turn = h, np.eye(3)
        else:
            q, r = np.linalg.qr(h.T)
            signs = np.where(np.diag(r) < 0, -1.0, 1.0)
            lower, turn = np.tril(r.T * signs), q * signs
        periodic = flipped is not None and bool(self.pbc[flipped])
        return Standard(Cell(lower, self.pbc), turn, flipped, lower[flipped] if periodic else np.zeros(3))

    @property
    def axes(self) -> str:
        """The names of the periodic axes: "a b c", or "no axis"."""
        return " ".join(name for name, repeats in zip("abc", self.pbc) if repeats) or "no axis"

    def fractional(self, x: Array) -> Array:
        """(n, 3) fractional coordinates of x : (n, 3) Cartesian, Å.

        The sum is made term by term, not by a matrix product: the bits of a row must not depend on the other rows,
        since several ranks decide by them who owns an atom.
        """
        return transform(x, self.inverse)

    def deformed(self, by: np.ndarray) -> Cell:
        """The cell whose vectors are the rows of ``h @ by``. by : (3, 3) float64, no unit."""
        return Cell(self.h @ by, self.pbc)

    def cartesian(self, s: Array) -> Array:
        """(n, 3) Cartesian coordinates, Å, of s : (n, 3) fractional."""
        return s @ to_device_of(s, self.h)


class Standard(NamedTuple):
    """A cell with a along x, b in the x-y plane and c above it, and the way to it.

    Attributes
    ----------
    cell : Cell
    turn (3, 3) : x @ turn are vectors (velocities, forces) in this orientation; a rotation
    flipped : the axis whose vector is reversed, or None. Positions inside the cell are x @ turn + shift, and along a
        flipped periodic axis a number of periods k becomes -1 - k
    shift (3,) float64, Å
    """

    cell: Cell
    turn: np.ndarray
    flipped: int | None
    shift: np.ndarray

    @property
    def same(self) -> bool:
        """Whether nothing changes."""
        return self.flipped is None and bool((self.turn == np.eye(3)).all())

    def images(self, image: np.ndarray) -> np.ndarray:
        """(..., 3) periods along the vectors of one cell in terms of the other; its own inverse."""
        if self.flipped is None or not self.cell.pbc[self.flipped]:
            return image
        image = image.copy()
        image[..., self.flipped] = -1 - image[..., self.flipped]
        return image


def transform(x: Array, by: np.ndarray) -> Array:
    """(n, 3) product of rows x : (n, 3) and a (3, 3) matrix, summed term by term: no row depends on another."""
    by = to_device_of(x, by)
    return x[:, 0, None] * by[0] + x[:, 1, None] * by[1] + x[:, 2, None] * by[2]
