"""Regions of a cell with a smooth rim: the weight of an atom as a function of its position.

A region is fixed to the cell: its center is a fraction of the cell vectors, its size is in Å. So it follows a cell that
changes, and the virial of its force does not depend on the origin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rxmdnn.arrays import Array, namespace, to_device_of
from rxmdnn.cell import Cell


def fall(q: Array, size: float, rim: float) -> tuple[Array, Array]:
    """1 up to ``size``, 0 beyond ``size + rim``, and between them the polynomial of fifth order with two continuous
    derivatives, 1 - u³(10 - 15u + 6u²); and its derivative. q : (n,) Å; rim : Å, zero for a step. Returns (n,), (n,)
    in 1/Å."""
    if rim == 0.0:
        return (q <= size) * 1.0, 0.0 * q
    u = namespace(q).clip((q - size) / rim, 0.0, 1.0)
    return 1.0 - u**3 * (10.0 - 15.0 * u + 6.0 * u**2), u**2 * (1.0 - u) ** 2 * (-30.0 / rim)


class Region(ABC):
    """A region around a plane or a point.

    Attributes
    ----------
    size : float, Å: distance up to which the weight is 1; rim : float, Å: over which it then falls to 0
    """

    size: float
    rim: float

    @abstractmethod
    def apart(self, s: Array, cell: Cell) -> Array:
        """(n, 3) Å: from the center to the nearest image of each atom. s : (n, 3) fractional."""

    @abstractmethod
    def room(self, cell: Cell) -> float:
        """Å: the largest size plus rim for which a region does not meet its own image."""

    def weight(self, s: Array, cell: Cell) -> tuple[Array, Array, Array]:
        """(n,) weights; (n, 3) gradients, 1/Å; (n, 3) distances from the center, Å. s : (n, 3) fractional."""
        d = self.apart(s, cell)
        xp = namespace(d)
        q = xp.sqrt(d[:, 0] ** 2 + d[:, 1] ** 2 + d[:, 2] ** 2)
        w, slope = fall(q, self.size, self.rim)
        return w, (slope / xp.where(q > 0.0, q, 1.0))[:, None] * d, d


def nearest(ds: Array, periodic: bool) -> Array:
    """Differences of fractional coordinates to the nearest image."""
    return ds - namespace(ds).floor(ds + 0.5) if periodic else ds


@dataclass(frozen=True)
class Slab(Region):
    """Between two planes along a pair of cell vectors.

    axis : of the third vector, 0 to 2; center : fraction of it; size : half the thickness, Å; rim : Å
    """

    axis: int
    center: float
    size: float
    rim: float

    def apart(self, s: Array, cell: Cell) -> Array:
        normal = cell.inverse[:, self.axis] * cell.widths[self.axis]
        z = nearest(s[:, self.axis] - self.center, bool(cell.pbc[self.axis])) * float(cell.widths[self.axis])
        return z[:, None] * to_device_of(s, normal)

    def room(self, cell: Cell) -> float:
        return 0.5 * float(cell.widths[self.axis]) if cell.pbc[self.axis] else np.inf


@dataclass(frozen=True)
class Sphere(Region):
    """Around a point. center : (3,) fractions of the cell vectors; size : radius, Å; rim : Å"""

    center: tuple[float, float, float]
    size: float
    rim: float

    def apart(self, s: Array, cell: Cell) -> Array:
        h = to_device_of(s, cell.h)
        parts = [nearest(s[:, k] - self.center[k], bool(cell.pbc[k]))[:, None] * h[k] for k in range(3)]
        return parts[0] + parts[1] + parts[2]

    def room(self, cell: Cell) -> float:
        return 0.5 * float(cell.widths[cell.pbc].min()) if cell.pbc.any() else np.inf


def union(regions: Sequence[Region], s: Array, cell: Cell) -> tuple[Array, list[tuple[Array, Array]]]:
    """The weight of several regions together, w = 1 - Π_k (1 - w_k), as smooth as theirs.

    s : (n, 3) fractional. Returns (n,) weights, and of each region (n, 3) its part of the gradient, 1/Å, with (n, 3)
    the distances from its center, Å.
    """
    found = [region.weight(s, cell) for region in regions]
    out = found[0][0] * 0.0 + 1.0
    for w, _, _ in found:
        out = out * (1.0 - w)
    parts = []
    for k, (_, gradient, d) in enumerate(found):
        others = out * 0.0 + 1.0
        for j, (w, _, _) in enumerate(found):
            if j != k:
                others = others * (1.0 - w)
        parts.append((others[:, None] * gradient, d))
    return 1.0 - out, parts
