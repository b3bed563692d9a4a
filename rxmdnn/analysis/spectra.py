"""Velocity autocorrelation and vibrational density of states, from segments of velocities in bounded memory.

Frequencies ν are in 1/fs inside; results are given as wavenumbers ν/c in 1/cm and energies hν in meV.
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

from rxmdnn.analysis.powder import Sites
from rxmdnn.analysis.site_sums import SiteSums
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series
from rxmdnn.isotopes import element_of, named_by_mass
from rxmdnn.parallel import together
from rxmdnn.units import ACCELERATION, HBAR, KB

C_CM = 2.99792458e-5  # cm/fs
MEV_PER_CM = 2e3 * np.pi * HBAR * C_CM  # meV of one 1/cm
HANN_WIDTH = 1.44  # full width at half maximum of the line of a Hann window, in units of 1/(its length)
MEMORY = 1 << 28  # bytes of velocities in the memory of a rank
OVERLAP = 1 / 6  # correlation of the amplitudes of two Hann segments that share a half (Welch 1967)


def hann(n: int) -> np.ndarray:
    """The periodic Hann window, (n,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)


def power(v: np.ndarray, dt: float) -> np.ndarray:
    """One-sided power density of a segment, under a Hann window, summed over the last axis.

    Parameters
    ----------
    v : (n, frames, 3) float, Å/fs; dt : fs

    Returns
    -------
    (n, frames // 2 + 1) float64, Å²/fs: the integral over ν (1/fs) is the mean of |v|², weighted by the window.
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
    """Power spectra and autocorrelations of segments, by kind of atom (element, or isotope).

    Attributes
    ----------
    kinds : names; count (kinds,) atoms; mass (kinds,) amu
    dt : fs between frames; length : frames of a segment
    power : (segments, kinds, length // 2 + 1) float64: Σ m |v(ν)|² over a kind's atoms, eV fs
    correlation : (half of the segments, kinds, length // 2) float64: Σ m v(0)·v(t), eV
    fixed : the total momentum is zero; there are 3N - 3 modes
    sites : {number of a kind: directions in which its atoms vibrate}, where they were asked for
    """

    kinds: tuple[str, ...]
    count: np.ndarray
    mass: np.ndarray
    dt: float
    length: int
    power: np.ndarray
    correlation: np.ndarray = field(default_factory=lambda: np.zeros((0, 1, 1)))
    fixed: bool = False
    sites: dict[int, Sites] = field(default_factory=dict)

    @property
    def nu(self) -> np.ndarray:
        """(frequencies,) ν, 1/fs."""
        return np.arange(self.length // 2 + 1) / (self.length * self.dt)

    @property
    def wavenumber(self) -> np.ndarray:
        """(frequencies,) wavenumber, 1/cm."""
        return self.nu / C_CM

    @property
    def resolution(self) -> float:
        """Full width at half maximum of a sharp line, 1/cm."""
        return HANN_WIDTH / (self.length * self.dt * C_CM)

    @property
    def degrees_of_freedom(self) -> np.ndarray:
        """(kinds,) degrees of freedom: 3 per atom, less the fraction m/M of each if the total momentum is zero."""
        return 3.0 * self.count * (1.0 - self.mass / (self.count @ self.mass) * self.fixed)

    @property
    def modes(self) -> float:
        """Number of modes: 3N, or 3N - 3."""
        return float(self.degrees_of_freedom.sum())

    @property
    def temperatures(self) -> np.ndarray:
        """(kinds,) temperature of the velocities of each kind, K; equal in equilibrium."""
        return self.power.mean(axis=0).sum(axis=1) * self.nu[1] / (np.maximum(self.degrees_of_freedom, 1e-300) * KB)

    @property
    def temperature(self) -> float:
        """Temperature of all velocities, K."""
        return float((self.temperatures * self.degrees_of_freedom).sum() / self.modes)

    def _scale(self) -> float:
        """Factor to modes per 1/cm; the total integrates to ``modes``."""
        total = self.power.mean(axis=0).sum() * self.nu[1]
        if not total > 0:
            raise InputError("spectra: all velocities are zero; is this the trajectory of a minimization?")
        return self.modes / total * C_CM

    @property
    def dos(self) -> np.ndarray:
        """(kinds, frequencies) modes per 1/cm; with one factor for all kinds, so that unequal temperatures show."""
        return self.power.mean(axis=0) * self._scale()

    @property
    def dos_error(self) -> np.ndarray:
        """Standard error of ``dos``, for segments that overlap by half (Welch); NaN for a single segment."""
        return _error(self.power) * self._scale()

    def weighted(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(frequencies,) Σ weight_k g_k scaled to ``modes``, and its standard error. weight : (kinds,)."""
        p = np.einsum("k,skf->sf", weight, self.power)
        scale = self.modes / (p.mean(axis=0).sum() * self.nu[1]) * C_CM
        return p.mean(axis=0) * scale, _error(p) * scale

    def unshifted(self, step: float) -> Spectrum:
        """The spectrum without the shift of harmonic modes by velocity Verlet, ω = sin(ω' step/2)/(step/2).

        step : fs
        """
        edges = (np.arange(len(self.nu) + 1) - 0.5) * self.nu[1]
        seen = np.arcsin(np.minimum(np.pi * step * edges, 1.0)) / (np.pi * step)
        below = np.concatenate([np.zeros((*self.power.shape[:2], 1)), self.power.cumsum(axis=2)], axis=2)
        moved = [[np.diff(np.interp(seen, edges, sums)) for sums in segment] for segment in below]
        return replace(self, power=np.array(moved))

    @property
    def vacf(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Times (t,) fs; (kinds, t) <v(0)·v(t)>/<v²> and its standard error."""
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
    """Names of the kinds (D and T by their mass), (n,) kind of each atom, (kinds,) mass in amu."""
    labels = named_by_mass([element_of(e) for e in names.tolist()], mass)
    kinds, index = np.unique(labels, return_inverse=True)
    return tuple(kinds.tolist()), index, np.array([mass[index == k].mean() for k in range(len(kinds))])


def segment_length(frames: Sequence[int], dt: float, resolution: float | None) -> int:
    """Number of frames of a segment that resolves lines `resolution` 1/cm apart.

    Default: five segments that overlap by half in the longest trajectory, more where they resolve 2 1/cm.

    Raises InputError if the trajectories are too short.
    """
    longest = max(frames)
    if resolution is None:
        length = min(max(longest // 3, min(longest, 64)), round(HANN_WIDTH / (2.0 * C_CM * dt)))
    else:
        length = round(HANN_WIDTH / (resolution * C_CM * dt))
        if length < 8:
            raise InputError(f"spectra: --resolution {resolution:g} 1/cm gives {length} frames of {dt:g} fs per "
                             "segment; use a finer resolution")
    length -= length % 2
    if length > longest or length < 8:
        need = max(length, 8) * dt / 1000
        best = HANN_WIDTH / (longest * dt * C_CM)
        raise InputError(f"spectra: the longest trajectory has {longest} frames, {longest * dt / 1000:g} ps; a "
                         f"resolution of {resolution or best:.3g} 1/cm needs {need:.3g} ps, and several times that for "
                         f"errors; run longer, or use --resolution {max(1.05 * best, 0.01):.3g} or more")
    return length


def measure(comm: MPI.Comm, series: Sequence[Series], length: int, dt: float, quiet: bool = True,
            directions: bool = False) -> Spectrum:
    """The spectrum of trajectories, in segments of `length` frames that overlap by half, divided among the ranks.

    The unit of work is one segment of a block of atoms; memory stays below MEMORY per rank for trajectories of any
    size. All ranks get the result. directions : also ``sites``
    """
    first = series[0]
    kinds, index, mass = kinds_of(first.names, first.mass)
    n = len(first.names)
    starts = [(s, k) for s in series for k in range(0, len(s.time) - length + 1, length // 2)]
    width = max(1, min(n, MEMORY // (length * 3 * 4 * 6)))  # work arrays: about six of the segment's size
    items = [(k, lo) for k in range(len(starts)) for lo in range(0, n, width)]
    p = np.zeros((len(starts), len(kinds), length // 2 + 1))
    origins = [k for k, (_, at) in enumerate(starts) if at % length == 0]  # these have no frames in common
    row = {k: i for i, k in enumerate(origins)}
    c = np.zeros((len(origins), len(kinds), length // 2))
    mine = items[slice(*block(len(items), comm.size, comm.rank))]
    sites = SiteSums(index, len(kinds), length, dt) if directions else None
    window = hann(length)
    with together(comm):
        for k, lo in tqdm(mine, unit="segment", disable=quiet):
            s, at = starts[k]
            v = s.read("v", np.arange(at, at + length), slice(lo, lo + width)).astype(np.float32)
            if not np.isfinite(v).all():
                raise InputError(f"{s.path}: NaN or infinite velocities after {s.time[at] / 1000:g} ps")
            add(v, index[lo:lo + width], mass, dt, p[k], c[row[k]] if k in row else None)
            if sites is not None:
                sites.add(v, lo, k, window)
    for array in (p, c, *([sites.sums] if sites is not None else [])):
        comm.Allreduce(MPI.IN_PLACE, array)
    return Spectrum(kinds, np.bincount(index), mass, dt, length, p, c, all(map(at_rest, series)),
                    sites.sites() if sites is not None else {})


def at_rest(series: Series) -> bool:
    """True if the total momentum of the last frame is zero, compared with that of thermal motion."""
    v = series.read("v", [len(series.time) - 1])[0].astype(float)
    momentum, thermal = series.mass @ v, float(series.mass**2 @ (v**2).sum(axis=1))
    return len(v) > 1 and float(momentum @ momentum) < 1e-4 * thermal


def add(v: np.ndarray, kind: np.ndarray, mass: np.ndarray, dt: float, p: np.ndarray, c: np.ndarray | None) -> None:
    """Add the segment v (frames, n, 3), Å/fs, to the sums of its kinds, p (kinds, frequencies) and c (kinds, times)."""
    v = np.ascontiguousarray(v.swapaxes(0, 1))
    for k in np.unique(kind):
        part = v[kind == k]
        for lo in range(0, len(part), 64):  # small transforms, which fit into the caches
            p[k] += power(part[lo:lo + 64], dt).sum(axis=0) * (mass[k] / ACCELERATION)
            if c is not None:
                c[k] += autocorrelation(part[lo:lo + 64]).sum(axis=0) * (mass[k] / ACCELERATION)


# ------------------------------------------------------------------ quantum factors
def kubo_factor(wavenumber: np.ndarray, temperature: float) -> np.ndarray:
    """βħω/(1 - exp(-βħω)): factor from a Kubo-transformed (RPMD, classical) spectrum to the quantum one, ω > 0."""
    x = wavenumber * MEV_PER_CM / 1000 / (KB * temperature)
    return np.where(x > 1e-9, x / -np.expm1(-np.maximum(x, 1e-9)), 1.0)


def harmonic_kinetic(wavenumber: np.ndarray, dos: np.ndarray, count: np.ndarray, temperature: float) -> np.ndarray:
    """(kinds,) quantum kinetic energy per atom, meV, of harmonic modes with these densities: ∫ g (ħω/4) coth(βħω/2)."""
    e = wavenumber * MEV_PER_CM
    x = e / (2000 * KB * temperature)
    mean = np.where(x > 1e-9, e / 4 / np.tanh(np.maximum(x, 1e-9)), 500 * KB * temperature)
    return (dos * mean).sum(axis=1) * (wavenumber[1] - wavenumber[0]) / count


# ------------------------------------------------------------------ bands
# Windows of the bands of solid ammonia, 1/cm, and measured positions (quoted from memory; check before publication).
# Those of ND3 are lower, by about the square root of the mass ratio.
AMMONIA = {
    "translations": (20.0, 215.0, (107, 138, 181)), "librations": (215.0, 750.0, (260, 320, 360, 426, 530)),
    "ν2": (900.0, 1300.0, (1060,)), "ν4": (1450.0, 1850.0, (1630,)), "ν1, ν3": (2900.0, 3800.0, (3210, 3375)),
}
HEAVIER = 0.73


def windows(kinds: Sequence[str], count: np.ndarray, wavenumber: np.ndarray, g: np.ndarray) -> dict[str, Any]:
    """{band: (from, to, measured)} in 1/cm: those of ammonia by name, otherwise the regions between gaps of g."""
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
    """One dict per band: modes, mean, standard error of the mean, highest peak, half width, all peaks, in 1/cm.

    segments : (segments, frequencies) a density in modes per 1/cm
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
