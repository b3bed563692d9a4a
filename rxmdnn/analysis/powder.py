"""Powder averages of incoherent scattering with anisotropic displacements, for one and two phonons.

The almost isotropic approximation (P. C. H. Mitchell, S. F. Parker, A. J. Ramirez-Cuesta, J. Tomkinson, Vibrational
Spectroscopy with Neutrons, 2005, section 2.6; used by CLIMAX and Abins). With the displacement tensors of an atom,
B(E) of the modes at an energy and A of all modes, ``:`` the double contraction,
S_1 = Q²/3 tr B exp[-Q² (tr A + 2 B:A/tr B)/5], S_2 = Q⁴/30 ∫ [tr B tr B' + 2 B:B'] exp(-Q² tr A/3).
For B and A ~ 1 these are the isotropic Gaussian form, so that they are applied here as factors of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft

from rxmdnn.analysis.inelastic import OnePhonon

PARTS = ((0, 0, 1.0), (1, 1, 1.0), (2, 2, 1.0), (0, 1, 2.0), (0, 2, 2.0), (1, 2, 2.0))  # axes; weight in A:B


@dataclass
class Sites:
    """Directions in which atoms of one kind vibrate.

    Attributes
    ----------
    width : meV, of the bins, which are centered at 0, width, 2 width, ...
    shape : (halves, atoms, bins, 6): displacement tensor of an atom at an energy (xx yy zz xy xz yz) in units of the
        mean over atoms of tr/3. Two halves of the data, where they have noise, which then does not correlate; or one.
    """

    width: float
    shape: np.ndarray

    @classmethod
    def of(cls, width: float, sums: np.ndarray) -> Sites:
        """From sums (halves, atoms, bins, 6) over any data; where they are zero, motion is isotropic."""
        mean = sums[..., :3].sum(axis=-1).mean(axis=1, keepdims=True)[..., None] / 3
        still = np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
        return cls(width, np.where(mean > 0, sums / np.where(mean > 0, mean, 1.0), still))


class Anisotropy:
    """Factors by which one- and two-phonon scattering differ from the isotropic form.

    Parameters
    ----------
    sites : of the kind of atom
    energy (k,), g (k,) : its density of states, uniform from zero, meV, with integral 1 (``like_debye_below``)
    mass : amu; temperature : K; low : meV, below which motion is taken as isotropic

    Attributes
    ----------
    energy : (bins,) meV, centers
    tensors : (atoms, 6) A: mean square displacements, Å²
    """

    def __init__(self, sites: Sites, energy: np.ndarray, g: np.ndarray, mass: float, temperature: float,
                 low: float) -> None:
        step, n = energy[1] - energy[0], sites.shape.shape[2]
        up, down, still = OnePhonon.of(energy, g, mass, temperature)
        at = np.minimum((energy[1:] / sites.width + 0.5).astype(int), n - 1)
        self.up = np.bincount(at, up, n) * step
        self.down = np.bincount(at, down, n) * step
        self.still = still * step
        halves = sites.shape.copy()
        halves[:, :, : int(low / sites.width + 0.5)] = (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
        self.halves, self.shape = halves, halves.mean(axis=0)
        self.width, self.energy = sites.width, np.arange(n) * sites.width
        all_modes = self.up + self.down
        all_modes[0] += self.still
        self.u_squared = float(all_modes.sum())
        self.tensors = self._tensors(all_modes)
        trace = self.shape[..., :3].sum(axis=-1)
        double = np.einsum("abp,ap,p->ab", self.shape, self.tensors, [w for _, _, w in PARTS])
        self.trace = self.tensors[:, :3].sum(axis=1)
        self.share = trace / 3
        safe = np.where(trace > 0, trace, 1.0)
        self.exponent = (self.trace[:, None] + 2 * double / safe) / 5
        self.energy_2, self.pairs = self._pairs()

    def _tensors(self, all_modes: np.ndarray) -> np.ndarray:
        """(atoms, 6) A, Å², with the share of its deviation from the isotropic mean that both halves of the data show.

        all_modes : (bins,) mean square displacement along one direction, Å²
        """
        mean = self.u_squared * np.array([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
        apart = np.einsum("habp,b->hap", self.halves, all_modes) - mean
        weights = [w for _, _, w in PARTS]
        common, whole = apart.mean(axis=0), float((apart.mean(axis=0) ** 2 @ weights).sum())
        shared = float((apart[0] * apart[-1] @ weights).sum())
        return mean + common * (min(max(shared / whole, 0.0), 1.0) if whole > 0 else 1.0)

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Energies of two phonons (m,), meV, and (atoms, m) [tr B tr B' + 2 B:B']/15 over its isotropic form, 1/9."""
        n = len(self.energy)
        size = scipy.fft.next_fast_len(4 * n)
        signed = np.zeros(size)
        signed[:n] = self.up
        signed[-1:-n:-1] += self.down[1:]
        signed[0] += self.down[0] + self.still

        def spectrum(part: np.ndarray) -> np.ndarray:
            """Fourier transform of (atoms, bins), weighted with the populations, of creation and absorption."""
            whole = np.zeros((len(part), size))
            whole[:, :n] = part
            whole[:, -1:-n:-1] = part[:, 1:]
            return scipy.fft.rfft(whole * signed, axis=1)

        total = scipy.fft.irfft(scipy.fft.rfft(signed) ** 2, size)[: 2 * n]
        first, second = self.halves[0], self.halves[-1]
        product = spectrum(3 * self.share) ** 2
        for k, (_, _, weight) in enumerate(PARTS):
            product += 2 * weight * spectrum(first[..., k]) * spectrum(second[..., k])
        found = scipy.fft.irfft(product, size, axis=1)[:, : 2 * n] / 15
        some = total > 1e-9 * total.max()
        return np.arange(2 * n) * self.width, np.where(some, found / np.where(some, total, 1.0), 1.0)

    def first(self, energy: np.ndarray, q_squared: np.ndarray) -> np.ndarray:
        """(energies,) factor of one-phonon scattering at energies above zero, meV, and Q² (energies,), Å^-2."""
        q_sq = np.interp(self.energy, energy, q_squared)
        seen = (self.share * np.exp(-q_sq * (self.exponent - self.u_squared))).mean(axis=0)
        return np.interp(energy, self.energy, seen)

    def second(self, energy: np.ndarray, q_squared: np.ndarray) -> np.ndarray:
        """As ``first``, of two-phonon scattering."""
        q_sq = np.interp(self.energy_2, energy, q_squared)
        seen = (self.pairs * np.exp(-q_sq * (self.trace[:, None] / 3 - self.u_squared))).mean(axis=0)
        return np.interp(energy, self.energy_2, seen)
