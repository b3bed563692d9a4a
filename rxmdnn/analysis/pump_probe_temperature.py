"""Temperature by kind of atom and by region at every delay."""

from __future__ import annotations

import numpy as np

from rxmdnn.analysis.pump_probe_frames import Measurement, Replica
from rxmdnn.cell import Cell
from rxmdnn.units import ACCELERATION, KB


class Temperatures(Measurement):
    """Kinetic energies and degrees of freedom of each kind in the whole and in slabs.

    T = 2 Σ ½ m (v - V)² / (k_B g) with V the velocity of the center of mass of the region, and g = 3 Σ (1 - m/M) over
    the atoms of the kind: what remains of 3 N when the 3 components of V, shared by mass, are taken off.

    Attributes
    ----------
    energy (replicas, frames, regions, kinds) eV : region 0 is the whole, the others are slabs
    freedom (replicas, frames, regions, kinds) : g
    edges (slabs + 1,) : of the slabs, in fractions of the cell along the axis
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, n_kinds: int, mass: np.ndarray, slabs: int = 0,
                 axis: int = 2, first: np.ndarray | None = None, pbc: bool = True) -> None:
        """slabs along ``axis``; first : (n, 3) fractional positions, whose extent the slabs cover on an open axis."""
        self.index, self.n_kinds, self.mass, self.axis, self.pbc = index, n_kinds, mass, axis, pbc
        low, high = 0.0, 1.0
        if slabs and not pbc and first is not None:
            low, high = float(first[:, axis].min()), float(first[:, axis].max())
        self.edges = np.linspace(low, high, slabs + 1) if slabs else np.zeros(0)
        self.energy, self.freedom = np.zeros((2, *shape, 1 + slabs, n_kinds))

    def finish(self, replica: int, frame: int, of: Replica) -> None:
        v = of.velocities(frame)
        if v is None:
            return
        everywhere = np.zeros(len(v), int)
        self._regions(v, everywhere, self.energy[replica, frame, :1], self.freedom[replica, frame, :1])
        if len(self.edges):
            x, cell = of.series.read("x", [frame])[0].astype(float), of.series.cell(frame)
            self._regions(v, self.slab(x, cell), self.energy[replica, frame, 1:], self.freedom[replica, frame, 1:])

    def slab(self, x: np.ndarray, cell: Cell) -> np.ndarray:
        """(n,) slab of each atom; beyond the ends of an open axis those of the ends."""
        s = cell.fractional(x)[:, self.axis]
        s = s - np.floor(s) if self.pbc else s
        return np.clip(np.searchsorted(self.edges, s, "right") - 1, 0, len(self.edges) - 2)

    def _regions(self, v: np.ndarray, region: np.ndarray, energy: np.ndarray, freedom: np.ndarray) -> None:
        """energy, freedom : (regions, kinds) OUT."""
        n = len(energy)
        mass = np.bincount(region, self.mass, n)
        with np.errstate(invalid="ignore", divide="ignore"):
            flow = np.stack([np.bincount(region, self.mass * v[:, a], n) / mass for a in range(3)], axis=1)
        own = 0.5 * self.mass * ((v - flow[region]) ** 2).sum(axis=1) / ACCELERATION
        at = region * self.n_kinds + self.index
        energy[:] = np.bincount(at, own, energy.size).reshape(energy.shape)
        freedom[:] = np.bincount(at, 3 * (1 - self.mass / mass[region]), energy.size).reshape(energy.shape)

    def arrays(self) -> list[np.ndarray]:
        return [self.energy, self.freedom]


def temperature(energy: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """(...) K, of kinetic energies in eV; NaN without degrees of freedom."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(freedom > 1e-9, 2 * energy / (KB * np.maximum(freedom, 1e-9)), np.nan)
