"""Parts of unequal width for atoms that do not fill the cell evenly: slabs, droplets, gaps.

The grid of ranks stays; the planes between its parts move. Along each axis they cut the load of all atoms into equal
shares, as far as no part becomes thinner than the halo: a part then has copies of its neighbors alone, as parts of
equal width have. Loads are integers and are added up exactly, so that the planes are a pure function of positions and
loads, whatever the number of ranks and the order of rows.
"""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError

MARGIN = 1e-9  # rounding must not make a part thinner than the halo
BINS = 2048  # along an axis: planes lie between two of them
ATOM_LOAD = 8  # edges that cost as much as an atom (as of rxmdnn.models.allegro.CENTER_LOAD)


class Balance:
    """The planes between the parts of a grid of ranks.

    Parameters
    ----------
    grid : (3,) int
    """

    def __init__(self, grid: np.ndarray) -> None:
        self.grid = grid

    def check(self, cell: Cell, reach: float) -> None:
        """Raise InputError where even parts of equal width are thinner than ``reach``, Å."""
        for axis, (width, parts) in enumerate(zip(cell.widths, self.grid, strict=True)):
            if parts > 1 and width < parts * reach:
                raise InputError(
                    f"balance: {parts} parts along {'abc'[axis]} would be {width / parts:.2f} Å wide, thinner than "
                    f"cutoff and skin together ({reach:.2f} Å), and cannot be balanced; take fewer ranks along "
                    f"{'abc'[axis]} with 'processors', or leave 'balance' out")

    def cuts(self, comm: MPI.Comm, s: np.ndarray, load: np.ndarray | None, halo: np.ndarray) -> list[np.ndarray]:
        """Where the parts along each axis end, (grid + 1,) float64 each, the same on all ranks. All ranks call it.

        Parameters
        ----------
        s : (n_owned, 3) float64, fractional positions inside the cell
        load : (n_owned,) int64, or None: all the same
        halo : (3,) float64, least width of a part, as a fraction of the cell
        """
        weight = np.ones(len(s)) if load is None else load
        bins = np.clip(np.floor(s * BINS).astype(np.int64), 0, BINS - 1)
        # of no atoms NumPy makes a table of integers
        mine = np.array([np.bincount(bins[:, axis], weight, BINS) for axis in range(3)], np.float64)
        total = np.empty_like(mine)
        comm.Allreduce(mine, total)  # integers below 2^53: exact in any order
        return [equal_shares(total[axis], int(self.grid[axis]), float(halo[axis])) for axis in range(3)]


def equal_shares(load: np.ndarray, parts: int, least: float) -> np.ndarray:
    """(parts + 1,) float64: ends of parts of [0, 1) with nearly the same load, none narrower than ``least``.

    load : (bins,) of equal intervals. Parts of equal width where there is no load, or no space for parts so wide.
    """
    even = np.arange(parts + 1) / parts
    if not load.any() or parts * least * (1 + MARGIN) > 1:
        return even
    below = np.concatenate([[0.0], np.cumsum(load)]) / load.sum()
    ends = np.searchsorted(below, even[1:-1], side="left") / len(load)
    steps = least * (1 + MARGIN) * np.arange(1, parts)
    ends = np.maximum.accumulate(np.maximum(ends, steps) - steps) + steps  # from below
    ends = np.minimum.accumulate((np.minimum(ends, 1 - steps[::-1]) - steps)[::-1])[::-1] + steps  # and from above
    return np.concatenate([[0.0], ends, [1.0]])
