"""Velocity autocorrelation and vibrational density of states, of segments of velocities in bounded memory.

Inside, frequencies ν are in 1/fs; wavenumbers ν/c in 1/cm and energies hν in meV are for the eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.fft
from mpi4py import MPI
from scipy.signal import find_peaks
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series
from rxmdnn.parallel import together
from rxmdnn.units import ACCELERATION, HBAR, KB

C_CM = 2.99792458e-5  # cm/fs
MEV_PER_CM = 2e3 * np.pi * HBAR * C_CM  # meV of one 1/cm
HANN_WIDTH = 1.44  # full width at half maximum of a Hann window's line, in units of 1/(its length)
MEMORY = 1 << 28  # bytes of velocities that a rank works on at a time
OVERLAP = 1 / 6  # correlation of the amplitudes of two Hann segments that share a half (Welch 1967)


def hann(n: int) -> np.ndarray:
    """(n,) the periodic Hann window."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def power(v: np.ndarray, dt: float) -> np.ndarray:
    """One-sided power density of a segment, under a Hann window, summed over the last axis.

    Parameters
    ----------
    v : (n, frames, 3) float, Å/fs; dt : fs

    Returns
    -------
    (n, frames // 2 + 1) float64, Å²/fs: the integral over ν (1/fs) is the window's mean of |v|².
    """
    n = v.shape[1]
    w = hann(n).astype(v.dtype)
    f = scipy.fft.rfft(v * w[:, None], axis=1)
    p = (f.real.astype(float) ** 2 + f.imag.astype(float) ** 2).sum(axis=2) * (2 * dt / (w.astype(float) ** 2).sum())
    p[:, 0] /= 2
    if n % 2 == 0:
        p[:, -1] /= 2
    return p


def autocorrelation(v: np.ndarray) -> np.ndarray:
    """(n, frames, 3) -> (n, frames // 2) mean over origins of v(0)·v(t), Å²/fs², t up to half the segment."""
    n = v.shape[1]
    f = scipy.fft.rfft(v, scipy.fft.next_fast_len(n + n // 2, real=True), axis=1)
    c = scipy.fft.irfft((f.real**2 + f.imag**2).sum(axis=2), scipy.fft.next_fast_len(n + n // 2, real=True), axis=1)
    return c[:, :n // 2] / (n - np.arange(n // 2))


@dataclass
class Spectrum:
    """What segments add up to, by kind of atom (element, or isotope).

    Attributes
    ----------
    kinds : names; count (kinds,) atoms; mass (kinds,) amu
    dt : fs between frames; length : frames of a segment
    power : (segments, kinds, length // 2 + 1) float64: Σ m |v(ν)|² over a kind's atoms, eV fs
    correlation : (half of the segments, kinds, length // 2) float64: Σ m v(0)·v(t), eV
    fixed : the total momentum is zero, so that 3N - 3 modes are seen
    """

    kinds: tuple[str, ...]
    count: np.ndarray
    mass: np.ndarray
    dt: float
    length: int
    power: np.ndarray
    correlation: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1)))
    fixed: bool = False

    @property
    def nu(self) -> np.ndarray:
        """1/fs."""
        return np.arange(self.length // 2 + 1) / (self.length * self.dt)

    @property
    def wavenumber(self) -> np.ndarray:
        """1/cm."""
        return self.nu / C_CM

    @property
    def resolution(self) -> float:
        """1/cm: full width at half maximum of a sharp line."""
        return HANN_WIDTH / (self.length * self.dt * C_CM)

    @property
    def freedoms(self) -> np.ndarray:
        """(kinds,) degrees of freedom: 3 an atom, less m/M of each where the total momentum is zero."""
        return 3.0 * self.count * (1.0 - self.mass / (self.count @ self.mass) * self.fixed)

    @property
    def modes(self) -> float:
        """3N, or 3N - 3."""
        return float(self.freedoms.sum())

    @property
    def temperatures(self) -> np.ndarray:
        """(kinds,) K, of each kind's velocities: equal in equilibrium."""
        return self.power.mean(axis=0).sum(axis=1) * self.nu[1] / (np.maximum(self.freedoms, 1e-300) * KB)

    @property
    def temperature(self) -> float:
        """K, of all velocities."""
        return float((self.temperatures * self.freedoms).sum() / self.modes)

    def _scale(self) -> float:
        """To modes a 1/cm: the total integrates to ``modes``."""
        total = self.power.mean(axis=0).sum() * self.nu[1]
        if not total > 0:
            raise InputError("spectra: all velocities are zero; is this the trajectory of a minimization?")
        return self.modes / total * C_CM

    @property
    def dos(self) -> np.ndarray:
        """(kinds, frequencies) modes a 1/cm; one factor for all kinds: their shares show equipartition, or its lack."""
        return self.power.mean(axis=0) * self._scale()

    @property
    def dos_error(self) -> np.ndarray:
        """Standard error of ``dos``, of segments that overlap by half (Welch); nan for a single one."""
        return _error(self.power) * self._scale()

    def weighted(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(frequencies,) Σ weight_k g_k scaled to ``modes``, and its standard error. weight : (kinds,)."""
        p = np.einsum("k,skf->sf", weight, self.power)
        scale = self.modes / (p.mean(axis=0).sum() * self.nu[1]) * C_CM
        return p.mean(axis=0) * scale, _error(p) * scale

    def unshifted(self, step: float) -> Spectrum:
        """With harmonic modes of a velocity-Verlet run of `step` fs where they belong, sin(ω step/2)/(step/2)."""
        edges = (np.arange(len(self.nu) + 1) - 0.5) * self.nu[1]
        seen = np.arcsin(np.minimum(np.pi * step * edges, 1.0)) / (np.pi * step)
        below = np.concatenate([np.zeros((*self.power.shape[:2], 1)), self.power.cumsum(axis=2)], axis=2)
        moved = [[np.diff(np.interp(seen, edges, sums)) for sums in segment] for segment in below]
        return replace(self, power=np.array(moved))

    @property
    def vacf(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """t (fs); (kinds, t) <v(0)·v(t)>/<v²> and its standard error."""
        c = self.correlation / np.maximum(self.correlation.mean(axis=0)[:, :1], 1e-300)
        k = len(c)
        error = c.std(axis=0, ddof=1) / np.sqrt(k) if k > 1 else np.full(c.shape[1:], np.nan)
        return np.arange(c.shape[2]) * self.dt, c.mean(axis=0), error


def _error(p: np.ndarray) -> np.ndarray:
    k = len(p)
    if k < 2:
        return np.full(p.shape[1:], np.nan)
    return p.std(axis=0, ddof=1) * np.sqrt((1 + 2 * OVERLAP**2 * (k - 1) / k) / k)


def kinds_of(names: np.ndarray, mass: np.ndarray) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Kinds of atoms (heavy hydrogen by its mass), (n,) index of each atom's, (kinds,) mass in amu."""
    labels = np.array([("T" if m > 2.6 else "D" if m > 1.5 else "H") if e in ("H", "D", "T") else e
                       for e, m in zip(names.tolist(), mass.tolist())])
    kinds, index = np.unique(labels, return_inverse=True)
    return tuple(kinds.tolist()), index, np.array([mass[index == k].mean() for k in range(len(kinds))])


def segment_length(frames: Sequence[int], dt: float, resolution: float | None) -> int:
    """Frames of a segment that resolves lines `resolution` 1/cm apart.

    Without one: five segments that overlap by half in the longest trajectory, more where they resolve 2 1/cm.

    Raises InputError if the trajectories are too short, saying what would do.
    """
    longest = max(frames)
    if resolution is None:
        length = min(max(longest // 3, min(longest, 64)), round(HANN_WIDTH / (2.0 * C_CM * dt)))
    else:
        length = round(HANN_WIDTH / (resolution * C_CM * dt))
        if length < 8:
            raise InputError(f"spectra: --resolution {resolution:g} 1/cm leaves {length} frames of {dt:g} fs to a "
                             "segment; ask for a finer one")
    length -= length % 2
    if length > longest or length < 8:
        need = max(length, 8) * dt / 1000
        best = HANN_WIDTH / (longest * dt * C_CM)
        raise InputError(f"spectra: the longest trajectory has {longest} frames, {longest * dt / 1000:g} ps; a "
                         f"resolution of {resolution or best:.3g} 1/cm needs {need:.3g} ps, several times that for "
                         f"errors; run longer, or ask for --resolution {max(1.05 * best, 0.01):.3g} or more")
    return length


def measure(comm: MPI.Comm, series: Sequence[Series], length: int, dt: float, quiet: bool = True) -> Spectrum:
    """The spectrum of trajectories, in segments of `length` frames that overlap by half, shared out among the ranks.

    A piece of work is one segment of a block of atoms; memory stays below MEMORY a rank whatever the trajectory's
    size. All ranks get the result.
    """
    first = series[0]
    kinds, index, mass = kinds_of(first.names, first.mass)
    n = len(first.names)
    starts = [(s, k) for s in series for k in range(0, len(s.time) - length + 1, length // 2)]
    width = max(1, min(n, MEMORY // (length * 3 * 4 * 6)))  # work arrays: about six of the segment's size
    items = [(k, lo) for k in range(len(starts)) for lo in range(0, n, width)]
    p = np.zeros((len(starts), len(kinds), length // 2 + 1))
    origins = [k for k, (_, at) in enumerate(starts) if at % length == 0]  # these share no frames
    row = {k: i for i, k in enumerate(origins)}
    c = np.zeros((len(origins), len(kinds), length // 2))
    mine = items[slice(*block(len(items), comm.size, comm.rank))]
    with together(comm):
        for k, lo in tqdm(mine, unit="segment", disable=quiet):
            s, at = starts[k]
            v = s.read("v", np.arange(at, at + length), slice(lo, lo + width)).astype(np.float32)
            if not np.isfinite(v).all():
                raise InputError(f"{s.path}: velocities that are no numbers after {s.time[at] / 1000:g} ps")
            add(v, index[lo:lo + width], mass, dt, p[k], c[row[k]] if k in row else None)
    for array in (p, c):
        comm.Allreduce(MPI.IN_PLACE, array)
    return Spectrum(kinds, np.bincount(index), mass, dt, length, p, c, all(map(at_rest, series)))


def at_rest(series: Series) -> bool:
    """Is the total momentum zero, as dynamics without friction keep it? (Of the last frame, against m k_B T.)"""
    v = series.read("v", [len(series.time) - 1])[0].astype(float)
    momentum, thermal = series.mass @ v, float(series.mass**2 @ (v**2).sum(axis=1))
    return len(v) > 1 and float(momentum @ momentum) < 1e-4 * thermal


def add(v: np.ndarray, kind: np.ndarray, mass: np.ndarray, dt: float, p: np.ndarray, c: np.ndarray | None) -> None:
    """Add the segment v (frames, n, 3), Å/fs, to the sums of its kinds, p (kinds, frequencies) and c (kinds, times)."""
    v = np.ascontiguousarray(v.swapaxes(0, 1))
    for k in np.unique(kind):
        part = v[kind == k]
        for lo in range(0, len(part), 64):  # transforms that stay near the caches
            p[k] += power(part[lo:lo + 64], dt).sum(axis=0) * (mass[k] / ACCELERATION)
            if c is not None:
                c[k] += autocorrelation(part[lo:lo + 64]).sum(axis=0) * (mass[k] / ACCELERATION)


# ------------------------------------------------------------------ quantum factors
def kubo_factor(wavenumber: np.ndarray, temperature: float) -> np.ndarray:
    """βħω/(1 - exp(-βħω)): from a Kubo-transformed (RPMD, classical) spectrum to the quantum one, ω > 0."""
    x = wavenumber * MEV_PER_CM / 1000 / (KB * temperature)
    return np.where(x > 1e-9, x / -np.expm1(-np.maximum(x, 1e-9)), 1.0)


def harmonic_kinetic(wavenumber: np.ndarray, dos: np.ndarray, count: np.ndarray, temperature: float) -> np.ndarray:
    """(kinds,) quantum kinetic energy of an atom, meV, of harmonic modes of these densities: ∫ g (ħω/4) coth(βħω/2)."""
    e = wavenumber * MEV_PER_CM
    x = e / (2000 * KB * temperature)
    mean = np.where(x > 1e-9, e / 4 / np.tanh(np.maximum(x, 1e-9)), 500 * KB * temperature)
    return (dos * mean).sum(axis=1) * (wavenumber[1] - wavenumber[0]) / count


# ------------------------------------------------------------------ bands
# Windows of solid ammonia's bands, 1/cm, and where they were measured (from memory of the literature; check before
# print). Those of ND3 lie lower by about the root of the mass.
AMMONIA = {
    "translations": (20.0, 215.0, (107, 138, 181)), "librations": (215.0, 750.0, (260, 320, 360, 426, 530)),
    "ν2": (900.0, 1300.0, (1060,)), "ν4": (1450.0, 1850.0, (1630,)), "ν1, ν3": (2900.0, 3800.0, (3210, 3375)),
}
HEAVIER = 0.73


def windows(kinds: Sequence[str], count: np.ndarray, wavenumber: np.ndarray, g: np.ndarray) -> dict[str, Any]:
    """{band: (from, to, measured)} in 1/cm: ammonia's by name, otherwise the regions between gaps of g."""
    number = dict(zip(kinds, count.tolist()))
    hydrogen = number.get("H", 0) + number.get("D", 0)
    if set(number) <= {"N", "H", "D"} and number.get("N", 0) * 3 == hydrogen > 0:
        if "D" not in number:
            return AMMONIA
        if "H" not in number:
            return {name: (lo * (HEAVIER if lo > 100 else 1), hi * HEAVIER, ())
                    for name, (lo, hi, _) in AMMONIA.items()}
    filled = g > 0.01 * g.max()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], filled.astype(int), [0]])))
    regions = [(wavenumber[a], wavenumber[b - 1]) for a, b in zip(edges[::2], edges[1::2]) if b - a > 2]
    return {f"{lo:.0f}-{hi:.0f}": (lo, hi, ()) for lo, hi in regions}


def bands(wavenumber: np.ndarray, segments: np.ndarray, named: dict[str, Any]) -> list[dict[str, Any]]:
    """Each band's modes, mean, standard error of the mean, highest peak, half width, and all its peaks, in 1/cm.

    segments : (segments, frequencies) a density in modes a 1/cm
    """
    g, step, rows = segments.mean(axis=0), wavenumber[1] - wavenumber[0], []
    for name, (lo, hi, _) in named.items():
        inside = (wavenumber >= lo) & (wavenumber <= hi)
        modes = g[inside].sum() * step
        if inside.sum() < 3 or modes < 1e-3 * g.sum() * step:
            continue
        x, y = wavenumber[inside], g[inside]
        means = (segments[:, inside] @ x) / np.maximum(segments[:, inside].sum(axis=1), 1e-300)
        top = int(np.argmax(y))
        above = np.flatnonzero(y >= y[top] / 2)
        peaks, _ = find_peaks(y, prominence=0.1 * y[top])
        rows.append({"band": name, "from_cm": float(lo), "to_cm": float(hi), "modes": float(modes),
                     "mean_cm": float(y @ x / y.sum()),
                     "mean_error_cm": float(_error(means[:, None])[0]) if len(means) > 1 else float("nan"),
                     "peak_cm": float(x[top]), "half_width_cm": float((x[above[-1]] - x[above[0]] + step) / 2),
                     "peaks_cm": [float(f) for f in x[peaks]]})
    return rows
