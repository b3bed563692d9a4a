"""Coherent one-phonon scattering of a powder of harmonic crystals, with the interference between atoms.

Per primitive cell (G. L. Squires, Introduction to the Theory of Thermal Neutron Scattering, 1978, section 3.5)
S(Q, E) = Σ_ν |Σ_d b_d exp(-W_d) Q·e_dν/√m_d|² ħ²/(2 E_ν) (n_ν + 1) δ(E - E_ν), with the modes at q = Q, whose
polarization vectors hold the phases of the positions, and W_d = Q·A_d·Q/2 of the displacement tensor of the atom.
"""

from __future__ import annotations

import numpy as np

from rxmdnn.analysis.instruments import Spectrometer
from rxmdnn.analysis.phonons import IMAGINARY, HarmonicCrystal
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.units import ACCELERATION, HBAR, KB

SPACING = 0.25  # 1/Å, of the shells of |Q|
DIRECTIONS = 160  # wave vectors per shell, |Q| spread over its thickness
BATCH = 512  # wave vectors at once
BARN = 4 * np.pi * 1e-2  # barn of 4π fm²
VOIGT = [[0, 3, 4], [3, 1, 5], [4, 5, 2]]


def shell(q: float, n: int, turn: float) -> np.ndarray:
    """(n, 3) vectors with lengths over q ± SPACING/2, spread over directions (Fibonacci), 1/Å. turn : radians."""
    k = np.arange(n) + 0.5
    z, phi = 1 - 2 * k / n, np.pi * (1 + np.sqrt(5)) * k + turn
    sin = np.sqrt(1 - z**2)
    length = q + SPACING * ((k * 0.6180339887498949) % 1 - 0.5)
    return np.stack([sin * np.cos(phi), sin * np.sin(phi), z], axis=1) * length[:, None]


def powder_map(crystal: HarmonicCrystal, b: np.ndarray, tensors: np.ndarray, temperature: float, q: np.ndarray,
               energy: np.ndarray) -> np.ndarray:
    """(shells, energies) coherent one-phonon σS(Q, E) per atom, barn/meV, with creation of a phonon.

    Parameters
    ----------
    b : (atoms,) coherent scattering lengths, fm; tensors : (atoms, 6) <uu>, Å²; temperature : K
    q : (shells,) 1/Å; energy : (energies,) uniform from zero, meV
    """
    step = energy[1] - energy[0]
    a = tensors[:, VOIGT]
    out = np.zeros((len(q), len(energy)))
    for row, length in enumerate(q):
        vectors = shell(float(length), DIRECTIONS, 2.4 * row)
        for lo in range(0, len(vectors), BATCH):
            part = vectors[lo:lo + BATCH]
            modes = crystal.at(part @ crystal.cell.T / (2 * np.pi))
            damped = b / np.sqrt(crystal.mass) * np.exp(-0.5 * np.einsum("qi,aij,qj->qa", part, a, part))
            amplitude = np.einsum("qa,qvai,qi->qv", damped, modes.vectors, part)
            e = modes.wavenumber * MEV_PER_CM
            good = modes.wavenumber > IMAGINARY
            safe = np.where(good, e, 1.0)
            created = 1e3 * HBAR**2 * ACCELERATION / (2 * safe) / -np.expm1(-safe / (1e3 * KB * temperature))
            s = abs(amplitude) ** 2 * created
            at = (safe / step + 0.5).astype(int)
            good &= at < len(energy)
            out[row] += np.bincount(at[good], s[good], len(energy))
    return out * (BARN / (DIRECTIONS * len(crystal.mass) * step))


def coherent_one_phonon(crystal: HarmonicCrystal, b: np.ndarray, tensors: np.ndarray, temperature: float,
                        instrument: Spectrometer, energy: np.ndarray) -> np.ndarray:
    """(energies,) coherent one-phonon σS along Q(E) of the detectors, per atom, barn/meV, with their resolution.

    Arguments as of ``powder_map``.
    """
    paths = [np.sqrt(instrument.q_squared(energy, angle)) for angle in instrument.angles]
    high = max(float(p.max()) for p in paths)
    low = min(float(p.min()) for p in paths)
    q = np.arange(max(low, SPACING / 2), high + SPACING, SPACING)
    s = powder_map(crystal, b, tensors, temperature, q, energy)
    total = np.zeros_like(energy)
    for path, weight in zip(paths, instrument.weights):
        at = np.clip((path - q[0]) / SPACING, 0, len(q) - 1.001)
        k, share = at.astype(int), at % 1
        here = np.arange(len(energy))
        total += weight * ((1 - share) * s[k, here] + share * s[k + 1, here])
    return instrument.broadened(energy, total)
