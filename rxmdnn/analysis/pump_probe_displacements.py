"""Displacement tensors U of each kind at every delay: measured on the atoms, and fitted to Bragg intensities."""

from __future__ import annotations

import numpy as np

from rxmdnn.analysis.pump_probe_frames import Measurement, Moment
from rxmdnn.analysis.pump_probe_points import Crystal

NEAR = 1.0  # Å: atoms of one site, brought into one unit cell, are nearer than this
UNLIKE = 0.1  # of N: a kind whose |ρ| at a reflection is below this part is extinct there
B_PER_U = 8 * np.pi**2  # B = 8π² <u²>, of the displacement along one direction
PARTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # elements of a tensor in the order of crystallography
PART_NAMES = ("11", "22", "33", "23", "13", "12")


class MeanPositions(Measurement):
    """Mean fractional positions over all replicas and the frames that it is given.

    An atom is taken to stay within half the cell of where it is in the first frame of the first replica.

    Attributes
    ----------
    s (n, 3) : the mean, after ``arrays`` are summed over ranks
    """

    def __init__(self, first: np.ndarray, pbc: np.ndarray) -> None:
        """first : (n, 3) fractional"""
        self.first, self.pbc = first, pbc
        self.sum, self.n = np.zeros_like(first), np.zeros(1)

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        self.sum += moment.weight * nearest(moment.s - self.first, self.pbc)
        self.n += moment.weight

    def arrays(self) -> list[np.ndarray]:
        return [self.sum, self.n]

    @property
    def s(self) -> np.ndarray:
        return self.first + self.sum / self.n


def nearest(s: np.ndarray, pbc: np.ndarray) -> np.ndarray:
    """(n, 3) fractional differences to the nearest image along the axes that repeat."""
    return s - np.where(pbc, np.round(s), 0.0)


def sites(s: np.ndarray, index: np.ndarray, crystal: Crystal) -> tuple[np.ndarray, bool]:
    """(n,) number of the site in the unit cell that each atom belongs to, and whether that is known.

    Atoms of one kind whose positions are equal up to vectors of the unit cell share a site. Where the sites do not
    hold one atom per unit cell (a melt, defects, other --cells), every atom is its own site.

    Parameters
    ----------
    s : (n, 3) fractional mean positions; index : (n,) kinds
    """
    own = np.arange(len(s)), False
    per_site = round(float(np.prod(crystal.cells[crystal.cell.pbc])))
    if per_site < 2:
        return own
    unit = crystal.cell.h / crystal.cells[:, None]
    reduced = s * crystal.cells
    site, number = np.full(len(s), -1), 0
    rest = np.arange(len(s))
    while len(rest):
        away = nearest(reduced[rest] - reduced[rest[0]], crystal.cell.pbc) @ unit
        same = (np.linalg.norm(away, axis=1) < NEAR) & (index[rest] == index[rest[0]])
        if same.sum() != per_site:
            return own
        site[rest[same]] = number
        rest, number = rest[~same], number + 1
    return site, True


def on_lattice(s: np.ndarray, site: np.ndarray, crystal: Crystal) -> np.ndarray:
    """(n, 3) fractional positions with all atoms of a site at its mean, but for vectors of the unit cell.

    The mean position of an atom over few frames follows its own vibration, that of a site over all cells does not.

    s : (n, 3) fractional mean positions; site : (n,), of ``sites``
    """
    reduced = s * crystal.cells
    _, first = np.unique(site, return_index=True)
    away = nearest(reduced - reduced[first][site], crystal.cell.pbc)
    mean = np.stack([np.bincount(site, away[:, a]) for a in range(3)], axis=1) / np.bincount(site)[:, None]
    return (reduced - away + mean[site]) / crystal.cells


class Displaced(Measurement):
    """Tensors <u u> of each kind, Å², about two references; the drift of the center of mass is taken off.

    Attributes
    ----------
    start (replicas, frames, kinds, 3, 3) : about the mean lattice before time zero; about the mean position of each
        atom where the atoms are on no lattice
    lattice (replicas, frames, kinds, 3, 3) : about the mean of each site over cells and replicas at the same delay,
        times n / (n - 1) for what the mean takes away; NaN for one replica without unit cells
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, n_kinds: int, mass: np.ndarray,
                 reference: np.ndarray, site: np.ndarray) -> None:
        """reference : (n, 3) fractional; site : (n,); mass : (n,) amu."""
        self.index, self.reference, self.site, self.replicas = index, reference, site, shape[0]
        self.mass = mass / mass.sum()
        self.count = np.bincount(index, minlength=n_kinds)
        self.per_site = np.bincount(site)
        self.kind_of_site = np.zeros(len(self.per_site), int)
        self.kind_of_site[site] = index
        self.start, self.lattice = np.zeros((2, *shape, n_kinds, 3, 3))
        self._sums = np.zeros((shape[0], len(self.per_site), 3))

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        u = nearest(moment.s - self.reference, moment.cell.pbc) @ moment.cell.h
        u -= self.mass @ u
        for k in range(len(self.count)):
            own = u[self.index == k]
            self.start[replica, frame, k] += moment.weight * own.T @ own / self.count[k]
        for axis in range(3):
            self._sums[replica, :, axis] += moment.weight * np.bincount(self.site, u[:, axis], len(self.per_site))

    def close(self, frame: int) -> None:
        mean = self._sums.sum(axis=0) / (self.replicas * self.per_site[:, None])
        for k, n in enumerate(self.count):
            own = self.kind_of_site == k
            m, sums, per_site = mean[own], self._sums[:, own], self.per_site[own]
            cross = np.einsum("rsi,sj->rij", sums, m)
            excess = cross + cross.swapaxes(1, 2) - np.einsum("s,si,sj->ij", per_site, m, m)
            samples = self.replicas * n
            factor = samples / (samples - len(m)) if samples > len(m) else np.nan
            self.lattice[:, frame, k] = factor * (self.start[:, frame, k] - excess / n)
        self._sums[:] = 0.0

    def arrays(self) -> list[np.ndarray]:
        return [self.start, self.lattice]


def isotropic(u: np.ndarray) -> np.ndarray:
    """(...) mean <u²> along one direction, Å², of tensors u : (..., 3, 3)."""
    return np.trace(u, axis1=-2, axis2=-1) / 3


def seen(rho: np.ndarray, count: int) -> np.ndarray:
    """(m,) bool: reflections to which a kind contributes. rho : (m,) complex mean ρ_a; count : its atoms."""
    return np.abs(rho) > UNLIKE * count


def fit_isotropic(q: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """(...) ΔU of the least squares of -ln(I/I0) = Q² ΔU, Å². q : (m, 3) 1/Å; ratio : (..., m) I/I0."""
    q_sq = (q**2).sum(axis=1)
    return -np.log(ratio) @ q_sq / (q_sq @ q_sq)


def fit_tensor(q: np.ndarray, ratio: np.ndarray) -> np.ndarray | None:
    """(..., 3, 3) ΔU of the least squares of -ln(I/I0) = Q·ΔU·Q, Å²; None where the reflections do not fix it.

    q : (m, 3) 1/Å; ratio : (..., m) I/I0
    """
    design = np.stack([q[:, i] * q[:, j] * (1 if i == j else 2) for i, j in PARTS], axis=1)
    if len(q) < 6 or np.linalg.matrix_rank(design, tol=1e-6 * np.abs(design).max()) < 6:
        return None
    six = -np.log(ratio) @ np.linalg.pinv(design).T
    out = np.zeros((*six.shape[:-1], 3, 3))
    for k, (i, j) in enumerate(PARTS):
        out[..., i, j] = out[..., j, i] = six[..., k]
    return out
