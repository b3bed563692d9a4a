"""Displacements of atoms: about their mean positions, and from where they were; diffusion."""

from __future__ import annotations

import numpy as np
import scipy.fft
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series
from rxmdnn.parallel import together

MEMORY = 1 << 28  # bytes of positions in the memory of a rank
PARTS = 5  # number of parts of a trajectory, whose scatter gives errors


def msd(x: np.ndarray) -> np.ndarray:
    """(n, frames, 3) positions -> (n, frames) mean over origins of |x(t) - x(0)|²; by Fourier transform.

    Calandrini et al., Collection SFN 12, 201 (2011): MSD = S_1 - 2 S_2.
    """
    n = x.shape[1]
    x = x - x.mean(axis=1, keepdims=True)
    f = scipy.fft.rfft(x, scipy.fft.next_fast_len(2 * n, real=True), axis=1)
    c = scipy.fft.irfft((f.real**2 + f.imag**2).sum(axis=2), scipy.fft.next_fast_len(2 * n, real=True), axis=1)[:, :n]
    sq = (x**2).sum(axis=2)
    ends = np.zeros((len(x), n + 1))
    np.cumsum(sq, axis=1, out=ends[:, 1:])
    total = ends[:, -1:]
    lag = np.arange(n)
    s1 = ends[:, n - lag] + total - ends[:, lag]
    return (s1 - 2 * c) / (n - lag)


class Displacements:
    """Displacements of the atoms of one trajectory.

    Attributes
    ----------
    mean (n, 3) Å: mean positions, in the mean cell; cell : the mean cell
    u_sq (kinds,) Å²: <|x - <x>|²> (three-dimensional); u_sq_error : from the scatter of PARTS of the time
    u_sq_time (kinds, frames) Å²
    lag (lags,) fs, msd (kinds, lags) Å²: where frames are equally spaced
    diffusion, diffusion_error (kinds,) Å²/fs: slope/6 over the later 80 % of the lags, over PARTS of the time
    exponent (kinds,): power of t with which the MSD grows over the later half of the lags; 1 for diffusion
    """

    lag: np.ndarray | None = None

    def __init__(self, comm: MPI.Comm, series: Series, index: np.ndarray, n_kinds: int, dt: float | None) -> None:
        """Measure (collective). dt : fs between frames, or None where they are not equally spaced."""
        frames, n = len(series.time), len(series.names)
        with together(comm):
            boxes = np.array([series.cell(k).h for k in range(frames)])
        self.cell = Cell(boxes.mean(axis=0), series.cell(0).pbc)
        width = max(1, min(n, MEMORY // (frames * 3 * 8 * 6)))
        lows = range(0, n, width)
        mine = [slice(lo, lo + width) for lo in lows[slice(*block(len(lows), comm.size, comm.rank))]]
        drift = self._drift(comm, series, mine, boxes)
        count = np.bincount(index, minlength=n_kinds)
        self.mean, self.u_sq_time = np.zeros((n, 3)), np.zeros((n_kinds, frames))
        part = frames // PARTS
        lags = frames // 2 if dt else 0
        self.msd, slopes = np.zeros((n_kinds, lags)), np.zeros((n_kinds, PARTS, part // 2 if dt else 0))
        with together(comm):
            for atoms in mine:
                x = _continuous(series, atoms, boxes, self.cell) - drift[:, None]
                x = np.ascontiguousarray(x.swapaxes(0, 1))
                self.mean[atoms] = x.mean(axis=1)
                sq = ((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=2)
                kind = index[atoms]
                for k in np.unique(kind):
                    own = kind == k
                    self.u_sq_time[k] += sq[own].sum(axis=0) / count[k]
                    if lags:
                        self.msd[k] += msd(x[own])[:, :lags].sum(axis=0) / count[k]
                        for p in range(PARTS if part > 3 else 0):
                            slopes[k, p] += msd(x[own, p * part:(p + 1) * part])[:, :part // 2].sum(axis=0) / count[k]
        for array in (self.mean, self.u_sq_time, self.msd, slopes):
            comm.Allreduce(MPI.IN_PLACE, array)
        self._fit(slopes, dt)

    def _drift(self, comm: MPI.Comm, series: Series, mine: list[slice], boxes: np.ndarray) -> np.ndarray:
        """(frames, 3) displacement of the center of mass, Å."""
        drift = np.zeros((len(boxes), 3))
        with together(comm):
            for atoms in mine:
                drift += np.einsum("fai,a->fi", _continuous(series, atoms, boxes, self.cell), series.mass[atoms])
        comm.Allreduce(MPI.IN_PLACE, drift)
        drift /= series.mass.sum()
        drift -= drift[0]
        return drift

    def _fit(self, slopes: np.ndarray, dt: float | None) -> None:
        """Means, errors, exponents and diffusion. slopes : (kinds, PARTS, lags) MSD of each part of the time, Å²."""
        lags = self.msd.shape[1]
        self.u_sq = self.u_sq_time.mean(axis=1)
        parts = np.array([p.mean(axis=1) for p in np.array_split(self.u_sq_time, PARTS, axis=1) if p.size])
        self.u_sq_error = parts.std(axis=0, ddof=1) / np.sqrt(len(parts)) if len(parts) > 1 else self.u_sq * np.nan
        self.diffusion, self.diffusion_error = self.u_sq * np.nan, self.u_sq * np.nan
        self.exponent = self.u_sq * np.nan
        if dt:
            self.lag = np.arange(lags) * dt
        if lags > 8:
            late = np.arange(lags // 2, lags)
            self.exponent = np.array([np.polyfit(np.log(late), np.log(np.maximum(m[late], 1e-300)), 1)[0]
                                      for m in self.msd])
        if dt and slopes.shape[2] > 4:
            first = slopes.shape[2] // 5
            t = np.arange(first, slopes.shape[2]) * dt
            d = np.array([[np.polyfit(t, m[first:], 1)[0] / 6 for m in kind] for kind in slopes])
            self.diffusion, self.diffusion_error = d.mean(axis=1), d.std(axis=1, ddof=1) / np.sqrt(PARTS)


def _continuous(series: Series, atoms: slice, boxes: np.ndarray, cell: Cell) -> np.ndarray:
    """(frames, atoms, 3) positions continuous in time, in the mean cell: fractional ones, times its vectors.

    Without images in the file an atom is taken to move less than half the cell from frame to frame.
    """
    s = np.einsum("fai,fij->faj", series.unwrapped(np.arange(len(boxes)), atoms), np.linalg.inv(boxes))
    if not np.isfinite(s).all():
        raise InputError(f"{series.path}: NaN or infinite positions")
    if "image" not in series.has:
        jumps = np.where(cell.pbc, np.round(np.diff(s, axis=0)), 0.0)
        s[1:] -= np.cumsum(jumps, axis=0)
    return s @ cell.h
