"""Incoherent inelastic neutron scattering from a density of states: Gaussian form, all multiphonon orders.

F(Q, t) = exp[-Q² γ(t)], γ(t) = (ħ/2m) ∫ dω g(ω)/ω [coth(βħω/2)(1 - cos ωt) - i sin ωt], ∫ g dω = 1. Expanded in
powers of the part that depends on t, order n is a Poisson weight of 2W = Q² <u_x²> times the one-phonon spectrum T_1
convolved n times with itself (Sjölander, Ark. Fys. 14, 315, 1958): the same function, order by order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.fft
from scipy.special import gammaln

from rxmdnn.errors import InputError
from rxmdnn.units import ACCELERATION, HBAR, KB

NEUTRON_MASS = 1.00866491595  # amu
E_OF_Q2 = 1e3 * HBAR**2 * ACCELERATION / (2 * NEUTRON_MASS)  # meV Å²: ħ²/2m of the neutron
FWHM = 2.354820045  # full width at half maximum of a Gaussian, in units of its standard deviation
MOST_ORDERS = 400
TAIL = 1e-9  # sum of the Poisson weights that are neglected


@dataclass
class Instrument:
    """An indirect-geometry spectrometer: final energy (meV), scattering angles (degrees), FWHM ΔE/E (a fraction)."""

    final: float = 3.5
    angles: tuple[float, ...] = (45.0, 135.0)
    broadening: float = 0.015

    def q_squared(self, energy: np.ndarray, angle: float) -> np.ndarray:
        """Q² (Å^-2) of a neutron that lost `energy` (meV). angle : degrees."""
        initial = energy + self.final
        return (initial + self.final - 2 * np.sqrt(initial * self.final) * np.cos(np.radians(angle))) / E_OF_Q2

    def broadened(self, energy: np.ndarray, s: np.ndarray) -> np.ndarray:
        """s on the grid `energy`, as seen by the instrument; see ``broadened``."""
        return broadened(energy, s, self.broadening * energy / FWHM)


def broadened(energy: np.ndarray, s: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """s on the uniform grid `energy` (from zero up, meV), each point spread to a Gaussian of its own width.

    The sum is conserved, except near the ends of the grid.

    s : (..., energies); sigma : (energies,) standard deviations, meV
    """
    step = energy[1] - energy[0]
    sigma = np.maximum(sigma, 1e-3 * step)
    out = np.zeros_like(s)
    for k in np.flatnonzero(energy > 0):
        reach = int(np.ceil(6 * sigma[k] / step))
        lo, hi = max(k - reach, 0), min(k + reach + 1, len(energy))
        w = np.exp(-0.5 * (np.arange(-reach, reach + 1) * step / sigma[k]) ** 2)
        out[..., lo:hi] += s[..., k, None] * (w / w.sum())[lo - k + reach:hi - k + reach]
    return out


class OnePhonon(NamedTuple):
    """Mean square displacements along one direction per energy, Å²/meV, by creation and by absorption of a phonon.

    up, down : (energies - 1,), of the energies above zero; still : at zero energy
    """

    up: np.ndarray
    down: np.ndarray
    still: float

    @classmethod
    def of(cls, energy: np.ndarray, g: np.ndarray, mass: float, temperature: float) -> OnePhonon:
        """Of a density g (energies,), 1/meV, with integral 1 and g ~ E² near zero. mass : amu; temperature : K."""
        e = energy[1:]
        beta = 1.0 / (1000 * KB * temperature)
        scale = 1e3 * HBAR**2 * ACCELERATION / (2 * mass)  # ħ²/2m, meV Å²
        up = scale * g[1:] / e / -np.expm1(-beta * e)
        return cls(up, up * np.exp(-beta * e), scale * g[1] / e[0] ** 2 / beta)  # g ~ ω²: n g/ω tends to a constant


def like_debye_below(energy: np.ndarray, g: np.ndarray, low: float) -> np.ndarray:
    """The density g (energies,), normalized to 1, with the parabola of Debye through g(low) below `low` (meV)."""
    step = energy[1] - energy[0]
    g = np.array(g, float)
    k = round(low / step)
    if k > 0:
        g[:k] = g[k] * (energy[:k] / energy[k]) ** 2
    g[0] = 0.0
    g /= g.sum() * step
    return g


@dataclass
class Phonons:
    """Multiphonon expansion of the vibrations of one kind of atom.

    Attributes
    ----------
    step : meV; orders : (n, energies) float64, 1/meV: T_1 ... T_n at energies `energy`, each with integral 1
    u_squared : <u_x²>, Å²: mean square displacement along one direction
    """

    step: float
    energy: np.ndarray
    orders: np.ndarray
    u_squared: float

    @classmethod
    def of(cls, energy: np.ndarray, g: np.ndarray, mass: float, temperature: float, q_sq_max: float,
           shown: float | None = None, low: float = 0.0) -> Phonons:
        """The expansion from a density of states.

        Parameters
        ----------
        energy : (k,) meV, uniform from zero; g : (k,) density, of any normalization
        mass : amu; temperature : K
        q_sq_max : Å^-2, the largest Q² for which ``scattering`` will be called
        shown : meV: orders are kept from -shown to shown (default: all)
        low : meV: below it g is replaced by the parabola of Debye through g(low)

        Raises InputError for a temperature of zero or displacements too large to expand.
        """
        if temperature <= 0:
            raise InputError("spectra: a neutron spectrum needs a temperature above zero; use --temperature")
        step = energy[1] - energy[0]
        g = like_debye_below(energy, g, low)
        up, down, still = OnePhonon.of(energy, g, mass, temperature)
        u_squared = float((up.sum() + down.sum() + still) * step)
        n = orders_needed(q_sq_max * u_squared)
        if n > MOST_ORDERS:
            raise InputError(f"spectra: <u_x²> = {u_squared:.3g} Å² is too large for a vibration (2W = "
                             f"{q_sq_max * u_squared:.0f}); is this a liquid, or not equilibrated? Set --low, in meV, "
                             "above the energies of its diffusion")
        top = np.flatnonzero(g > 1e-9 * g.max())[-1] + 1
        m = round((shown or energy[-1]) / step)
        size = scipy.fft.next_fast_len(2 * (n * int(top) + max(len(up), m)) + 2)
        t1 = np.zeros(size)
        t1[1:len(up) + 1], t1[-1:-len(up) - 1:-1], t1[0] = up, down, still
        t1 *= step / u_squared
        f = scipy.fft.fft(t1)
        orders, product = np.empty((n, 2 * m + 1)), np.ones_like(f)
        for order in orders:
            product = product * f
            t = scipy.fft.ifft(product).real / step
            order[:] = np.concatenate([t[-m:], t[:m + 1]])
        return cls(step, np.arange(-m, m + 1) * step, orders, u_squared)

    def scattering(self, q_squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """S(Q, E), 1/meV, at Q² (Å^-2) along `energy`: all orders, and one phonon with Debye-Waller. No elastic line.

        q_squared : (energies,), or a number. Two arrays of (energies,).
        """
        each = self.by_order(q_squared)
        return each.sum(axis=0), each[0]

    def by_order(self, q_squared: np.ndarray) -> np.ndarray:
        """(orders, energies) as ``scattering``, each order alone."""
        w = np.broadcast_to(np.asarray(q_squared, float) * self.u_squared, self.energy.shape)
        n = np.arange(1, len(self.orders) + 1)[:, None]
        weight = np.exp(n * np.log(np.maximum(w, 1e-300)) - w - gammaln(n + 1))
        return weight * self.orders


def orders_needed(w: float) -> int:
    """Number of orders that neglect less than TAIL of a Poisson distribution of mean w, so that the sum rules hold."""
    from scipy.stats import poisson

    return int(poisson.isf(TAIL, w)) + 3
