"""The incoherent inelastic neutron spectrum of hydrogen, from its vibrational density of states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rxmdnn.analysis.inelastic import Instrument, Phonons
from rxmdnn.analysis.spectra import MEV_PER_CM, Spectrum
from rxmdnn.errors import InputError

FINEST = 0.2  # meV: spacing of the energy grid, or half of the spacing of the spectrum where that is finer


@dataclass
class HydrogenSpectrum:
    """S(Q, E) per hydrogen atom.

    Attributes
    ----------
    columns : {name: (energies,)}: energy_meV; q_, all_ and one_phonon_ (1/Å, 1/meV) of each angle; all and one_phonon,
        their means over the angles
    q (m,) 1/Å; energy (k,) meV; s (m, k) 1/meV: all orders on a grid of Q and E
    u_squared : <u_x²>, Å²; orders : number of phonon orders
    low : meV, below which the density is that of Debye; below : fraction of the modes of hydrogen there
    """

    columns: dict[str, np.ndarray]
    q: np.ndarray
    energy: np.ndarray
    s: np.ndarray
    u_squared: float
    orders: int
    low: float
    below: float


def hydrogen_spectrum(s: Spectrum, k: int, temperature: float, instrument: Instrument, most: float,
                      low: float | None = None) -> HydrogenSpectrum:
    """The spectrum of the hydrogen atoms, kind number ``k`` of ``s``.

    Parameters
    ----------
    temperature : K; most : meV, the largest energy; low : meV, or None for the resolution of ``s``

    Raises InputError where ``low`` is above the spectrum, and those of ``Phonons.of``.
    """
    seen = s.wavenumber * MEV_PER_CM
    step = min(FINEST, seen[1] / 2)
    top = min(most, seen[-1])
    energy = np.arange(int(max(seen[-1], 1.1 * top) / step) + 2) * step
    g = np.interp(energy, seen, s.dos[k], right=0.0)
    low = low or s.resolution * MEV_PER_CM
    if low >= top:
        raise InputError(f"spectra: --low {low:g} meV leaves nothing of a spectrum up to {top:g} meV")
    q_most = max(float(instrument.q_squared(np.array([top]), angle)[0]) for angle in instrument.angles)
    margin = 1 + 3 * instrument.broadening  # what the resolution brings in from above
    phonons = Phonons.of(energy, g, float(s.mass[k]), temperature, q_most * margin, top * margin, low)
    e = phonons.energy[phonons.energy >= 0]
    columns = {name: x[e <= top] for name, x in _along_angles(phonons, instrument).items()}
    q = np.linspace(0.1, 1.05 * np.sqrt(q_most), 160)
    shown = (phonons.energy >= 0) & (phonons.energy <= top)
    stride = max(1, int(shown.sum()) // 800)
    surface = np.array([phonons.scattering(x * x)[0][shown][::stride] for x in q])
    return HydrogenSpectrum(columns, q, phonons.energy[shown][::stride], surface, phonons.u_squared,
                            len(phonons.orders), float(low), float(s.dos[k][seen < low].sum() / s.dos[k].sum()))


def _along_angles(phonons: Phonons, instrument: Instrument) -> dict[str, np.ndarray]:
    """Columns of energies from zero up: of each angle, with the resolution of the instrument, and their means."""
    half = phonons.energy >= 0
    e = phonons.energy[half]
    out: dict[str, np.ndarray] = {"energy_meV": e}
    for angle in instrument.angles:
        q_sq = np.zeros_like(phonons.energy)
        q_sq[half] = instrument.q_squared(e, angle)
        every, one = (x[half] for x in phonons.scattering(q_sq))
        name = f"{angle:g}deg"
        out |= {f"q_{name}": np.sqrt(q_sq[half]), f"all_{name}": instrument.broadened(e, every),
                f"one_phonon_{name}": instrument.broadened(e, one)}
    for kind in ("all", "one_phonon"):
        out[kind] = np.mean([out[f"{kind}_{angle:g}deg"] for angle in instrument.angles], axis=0)
    return out
