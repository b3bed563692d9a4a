"""Economised ring polymers: frequencies of the modes that are fitted to the exact quantum harmonic oscillator.

For a harmonic mode, x = β ħ ω, the exact kinetic energy follows from Σ_{k≠0} 1/(x_k^2 + x^2) =
(x/2 coth(x/2) - 1)/x^2 with the Matsubara values x_k = 2 π k, k to infinity. P beads with springs between neighbors
(Trotter) have x_k = 2 P sin(π k/P). Economised rings choose instead the P/2 values that minimize, over all x up to
β ħ ω_max, the squared relative deviation of the sum (arXiv 2607.06414). The springs are then no longer between
neighbors alone, but the modes stay those of a free ring polymer, and a step costs the same.

The frequencies are not those of a physical ring: they are for averages, not for dynamics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rxmdnn.units import HBAR, KB, PER_CM

LARGEST_RMS = 0.02  # of a fit that is taken without being asked for; above it, soft modes are worse than by Trotter
FEWEST_POINTS, POINTS_PER_UNIT = 100, 10  # midpoints in (0, x_max] at which deviations are taken
ITERATIONS, CONVERGED = 1000, 1e-9  # of the fit; relative change of the sum of squares
SERIES_BELOW = 0.5  # of x, where the closed form loses digits


@dataclass(frozen=True)
class FittedModes:
    """Fitted frequencies of a ring.

    Attributes
    ----------
    x     (P // 2,) float64, β ħ ω_k of the modes of 1, 2, ... P // 2 periods
    x_max : float, β ħ ω_max
    rms   : float, of the relative deviation of the sum; trotter : the same of springs between neighbors
    """

    x: np.ndarray
    x_max: float
    rms: float
    trotter: float


def reduced_frequency(per_cm: float, temperature: float) -> float:
    """β ħ ω of a wave number, 1/cm, at a temperature, K."""
    return HBAR * per_cm / (PER_CM * KB * temperature)


def multiplicity(beads: int) -> np.ndarray:
    """(P // 2,) number of modes of each number of periods: 2, but 1 of the last one of an even P."""
    w = np.full(beads // 2, 2.0)
    if beads % 2 == 0 and beads > 1:
        w[-1] = 1.0
    return w


def neighbor_springs(beads: int) -> np.ndarray:
    """(P // 2,) β ħ ω_k of springs between neighboring beads."""
    return 2.0 * beads * np.sin(np.pi * np.arange(1, beads // 2 + 1) / beads)


def exact_sum(x: np.ndarray) -> np.ndarray:
    """(x/2 coth(x/2) - 1)/x^2, the sum over all Matsubara frequencies of 1/(x_k^2 + x^2)."""
    x = np.asarray(x, np.float64)
    series = 1.0 / 12.0 - x**2 / 720.0 + x**4 / 30240.0 - x**6 / 1209600.0
    large = np.where(x < SERIES_BELOW, 1.0, x)
    return np.where(x < SERIES_BELOW, series, (0.5 * large / np.tanh(0.5 * large) - 1.0) / large**2)


def ring_sum(x_k: np.ndarray, beads: int, x: np.ndarray) -> np.ndarray:
    """Σ_k w_k/(x_k^2 + x^2) of the internal modes. x_k : (P // 2,); x : (n,); result (n,)."""
    return (multiplicity(beads) / (x_k**2 + np.asarray(x)[:, None] ** 2)).sum(axis=1)


def kinetic_share(x_k: np.ndarray, beads: int, x: np.ndarray) -> np.ndarray:
    """(n,) kinetic energy of harmonic oscillators of P beads as a share of the exact one. x : (n,) β ħ ω."""
    x = np.asarray(x, np.float64)
    return (1.0 + x**2 * ring_sum(x_k, beads, x)) / (1.0 + x**2 * exact_sum(x))


def midpoints(x_max: float) -> np.ndarray:
    """Values of x at which the deviations of a fit are taken."""
    n = max(FEWEST_POINTS, round(POINTS_PER_UNIT * x_max))
    return (np.arange(n) + 0.5) * (x_max / n)


def fit(beads: int, x_max: float) -> FittedModes:
    """The frequencies of a ring of ``beads`` beads that minimize the mean squared deviation over (0, x_max].

    By the method of Levenberg and Marquardt in ln x_k, from x_k = 2 π k; the same input gives the same bits.
    """
    w, x = multiplicity(beads), midpoints(x_max)
    exact, x_sq = exact_sum(x)[:, None], x[:, None] ** 2
    s = np.log(2.0 * np.pi * np.arange(1, beads // 2 + 1))

    def deviation(s: np.ndarray) -> np.ndarray:
        return (w / (exact * (np.exp(2.0 * s) + x_sq))).sum(axis=1) - 1.0

    def rms(x_k: np.ndarray) -> float:
        return float(np.sqrt(np.mean(deviation(np.log(x_k)) ** 2)))

    now, damping = deviation(s), 1e-3
    for _ in range(ITERATIONS if beads > 1 else 0):
        square = np.exp(2.0 * s)
        slope = -2.0 * w * square / (exact * (square + x_sq) ** 2)
        normal, pull = slope.T @ slope, slope.T @ now
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12 * np.trace(normal)), -pull)
        tried = s + np.clip(step, -1.0, 1.0)
        then = deviation(tried)
        gained = float(now @ now - then @ then)
        if gained < 0:
            damping *= 4.0
            if damping > 1e12:
                break
            continue
        s, damping, done = tried, damping / 3.0, gained <= CONVERGED * float(then @ then)
        now = then
        if done:
            break
    return FittedModes(np.exp(s), x_max, rms(np.exp(s)), rms(neighbor_springs(beads)) if beads > 1 else rms(np.exp(s)))
