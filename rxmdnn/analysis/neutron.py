"""The inelastic neutron spectrum of all atoms of a powder, as one spectrometer sees it.

Every atom scatters with its bound cross sections, coherent and incoherent, in the incoherent approximation: coherent
scattering by one atom has the same form as its incoherent scattering, interference between atoms is left out. One and
two phonons have anisotropic displacements where ``Vibrations.sites`` knows them (``powder``), higher orders the
Gaussian form of ``inelastic``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rxmdnn.analysis import scatterers
from rxmdnn.analysis.inelastic import FWHM, Phonons, like_debye_below
from rxmdnn.analysis.instruments import Spectrometer
from rxmdnn.analysis.powder import Anisotropy, Sites
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.errors import InputError

FINEST = 0.2  # meV: spacing of the energy grid, or a third of the finest resolution where that is finer
ROWS, COLUMNS = 120, 800  # of the map of S(Q, E)
PARTIAL = ("one_phonon", "two_phonons")


@dataclass
class Vibrations:
    """Vibrations of one kind of atom.

    Attributes
    ----------
    name, isotope : of the kind, and what scatters in its place; count : atoms; mass : amu
    energy (k,), g (k,) : density of states, uniform from zero, meV, of any normalization; g is zero above
    sites : directions of the vibrations, or None: isotropic
    """

    name: str
    isotope: str
    count: int
    mass: float
    energy: np.ndarray
    g: np.ndarray
    sites: Sites | None = None


@dataclass
class NeutronSpectrum:
    """S(Q, E) times cross sections, per atom of all kinds, barn/meV, with the resolution of an instrument.

    Attributes
    ----------
    columns : {name: (energies,)}: energy_meV, wavenumber_cm; all, one_phonon, two_phonons: means over the angles;
        incoherent, coherent: shares of ``all``; one_phonon_coherent: that of one phonon; all_<kind>; fwhm_meV; and of
        each angle q_<angle>deg, all_<angle>deg
    q (m,) 1/Å; energy (k,) meV; s (m, k): all orders on a grid of Q and E
    u_squared, tensors : {kind: <u_x²>, Å²}, {kind: (atoms, 6) displacement tensors} where directions are known
    orders : largest number of phonons; low : meV, below which densities are those of Debye
    below : {kind: share of its modes there}
    """

    instrument: Spectrometer
    columns: dict[str, np.ndarray]
    q: np.ndarray
    energy: np.ndarray
    s: np.ndarray
    u_squared: dict[str, float]
    tensors: dict[str, np.ndarray]
    orders: int
    low: float
    below: dict[str, float]


class _Kind:
    """One kind of atom, expanded for an instrument: cross sections and S(Q, E) by order."""

    def __init__(self, v: Vibrations, energy: np.ndarray, temperature: float, q_sq: float, shown: float, low: float
                 ) -> None:
        g = np.interp(energy, v.energy, v.g, right=0.0)
        self.v, self.incoherent = v, float(scatterers.incoherent([v.isotope])[0])
        self.coherent = float(scatterers.cross_sections([v.isotope])[0]) - self.incoherent
        self.phonons = Phonons.of(energy, g, v.mass, temperature, q_sq, shown, low)
        self.upper = self.phonons.energy >= 0
        self.aniso = Anisotropy(v.sites, energy, like_debye_below(energy, g, low), v.mass, temperature, low) \
            if v.sites is not None else None
        self.below = float(g[energy < low].sum() / g.sum())

    def scattering(self, energy: np.ndarray, q_sq: np.ndarray) -> np.ndarray:
        """(3, energies) S per atom, 1/meV: all orders, one phonon, two phonons. energy : above zero, meV."""
        everywhere = np.zeros_like(self.phonons.energy)
        everywhere[self.upper] = q_sq
        each = self.phonons.by_order(everywhere)[:, self.upper]
        one, two = each[0], each[1]
        total = each.sum(axis=0)
        if self.aniso is not None:
            total = total - one - two
            one, two = one * self.aniso.first(energy, q_sq), two * self.aniso.second(energy, q_sq)
            total += one + two
        return np.array([total, one, two])


def neutron_spectrum(kinds: Sequence[Vibrations], temperature: float, instrument: Spectrometer, most: float | None,
                     low: float) -> NeutronSpectrum:
    """The spectrum of all kinds of atoms.

    Parameters
    ----------
    temperature : K
    most : meV, the largest energy transfer, or None for what the instrument measures; low : meV, of Debye's parabola

    Raises InputError for energies that the instrument does not measure, and those of ``Phonons.of``.
    """
    top = instrument.high if most is None else most
    _check(instrument, top, low, max(float(v.energy[-1]) for v in kinds))
    finest = float(np.min(instrument.sigma(np.linspace(instrument.low, top, 100))))
    step = min(FINEST, finest / 1.3, *(float(v.energy[1] - v.energy[0]) for v in kinds))
    shown = min(instrument.reach, top + 4 * float(instrument.sigma(np.array([top]))[0]))
    energy = np.arange(int(max(shown, max(float(v.energy[-1]) for v in kinds)) / step) + 2) * step
    grid = np.arange(round(shown / step) + 1) * step
    q_most = max(float(instrument.q_squared(grid, angle).max()) for angle in instrument.angles)
    expanded = [_Kind(v, energy, temperature, q_most, shown, low) for v in kinds]
    n = sum(v.count for v in kinds)
    columns = _columns(expanded, n, grid, instrument, top)
    q = np.linspace(0.1, 1.05 * np.sqrt(q_most), ROWS)
    here = np.flatnonzero((grid >= instrument.low) & (grid <= top))[:: max(1, int(top / step) // COLUMNS)]
    surface = np.array([np.sum([k.v.count / n * (k.incoherent + k.coherent) * k.scattering(grid, np.full_like(
        grid, x * x))[0] for k in expanded], axis=0) for x in q])
    surface = instrument.broadened(grid, surface)[:, here]
    return NeutronSpectrum(
        instrument, columns, q, grid[here], surface, {k.v.name: k.phonons.u_squared for k in expanded},
        {k.v.name: k.aniso.tensors for k in expanded if k.aniso is not None},
        max(len(k.phonons.orders) for k in expanded), low, {k.v.name: k.below for k in expanded})


def _check(instrument: Spectrometer, top: float, low: float, seen: float) -> None:
    """Raises InputError for energies outside of what the instrument measures or the spectrum holds."""
    span = (f"{instrument.name} measures {instrument.low:.4g} to {instrument.high:.4g} meV "
            f"({instrument.low / MEV_PER_CM:.0f} to {instrument.high / MEV_PER_CM:.0f} 1/cm)")
    if top > instrument.high * (1 + 1e-6) or top <= instrument.low:
        raise InputError(f"--max {top / MEV_PER_CM:.6g} 1/cm: {span}; choose a value in this range"
                         + (", or a larger --incident" if instrument.direct else ""))
    if low >= min(top, seen):
        raise InputError(f"--low {low:g} meV leaves nothing of a spectrum up to {min(top, seen):g} meV")


def _columns(kinds: Sequence[_Kind], n: int, grid: np.ndarray, instrument: Spectrometer, top: float
             ) -> dict[str, np.ndarray]:
    """Columns of neutron.csv, broadened, from the lowest energy of the instrument to ``top``."""
    shares = {"all": np.zeros_like(grid), "one_phonon": np.zeros_like(grid), "two_phonons": np.zeros_like(grid),
              "incoherent": np.zeros_like(grid), "coherent": np.zeros_like(grid),
              "one_phonon_coherent": np.zeros_like(grid)}
    shares |= {f"all_{k.v.name}": np.zeros_like(grid) for k in kinds}
    angles: dict[str, np.ndarray] = {}
    for angle, weight in zip(instrument.angles, instrument.weights):
        q_sq = instrument.q_squared(grid, angle)
        seen = np.zeros_like(grid)
        for k in kinds:
            s = k.v.count / n * k.scattering(grid, q_sq)
            total = k.incoherent + k.coherent
            seen += total * s[0]
            for name, part in (("all", total * s[0]), *zip(PARTIAL, total * s[1:]), ("incoherent", k.incoherent * s[0]),
                               ("coherent", k.coherent * s[0]), ("one_phonon_coherent", k.coherent * s[1]),
                               (f"all_{k.v.name}", total * s[0])):
                shares[name] += weight * part
        angles |= {f"q_{angle:.4g}deg": np.sqrt(q_sq), f"all_{angle:.4g}deg": instrument.broadened(grid, seen)}
    shares = {name: instrument.broadened(grid, s) for name, s in shares.items()}
    columns = {"energy_meV": grid, **shares, "wavenumber_cm": grid / MEV_PER_CM,
               "fwhm_meV": FWHM * instrument.sigma(grid), **angles}
    kept = (grid >= instrument.low) & (grid <= top * (1 + 1e-9))
    return {name: column[kept] for name, column in columns.items()}
