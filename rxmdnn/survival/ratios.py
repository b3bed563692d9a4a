"""Times to failure of many arms with few runs each: one shape and one pair of slopes for all, a scale for each.

Where an arm has few failures, its own exponents make its time to failure at a reference point uncertain by orders of
magnitude. Here b, c and k of the Weibull model (statistics.py) are fitted to all arms together. At fixed k the scale τ
of a set of runs has a closed form: with the reduced time z = t / [(N/N_0)^b e^{c (1/T - 1/T_0)}],

    τ^k = Σ z^k / d,   d: number of failures (Lawless, Statistical Models and Methods for Lifetime Data, 2003, 5.3).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import stats

from rxmdnn.errors import InputError
from rxmdnn.survival import statistics
from rxmdnn.survival.statistics import FailureTimes, ReferencePoint

HALF = 0.5  # failures of a set of runs without any, where a number is needed
BOUND = -np.log(0.05)  # Σ (z/τ)^k that no failure excludes at 95 %: 3.0


class CommonShape(NamedTuple):
    """Exponent b, slope c (K) and shape k of all arms, and the point at which times to failure are quoted."""

    b: float
    c: float
    k: float
    reference: ReferencePoint

    def exposure(self, times: FailureTimes) -> np.ndarray:
        """(r,) z^k of each run; a failure is at the middle of the interval in which it was found."""
        middle = np.where(times.failed, 0.5 * (times.lower + times.time), times.time)
        factor = self.b * np.log(times.n / self.reference.n) + self.c * (
            1 / times.temperature - self.reference.inverse_temperature)
        return (middle * np.exp(-factor)) ** self.k


class Ratio(NamedTuple):
    """Time to failure of an arm over that of another, with its 95 % interval by ``seeds`` training seeds."""

    value: float
    low: float
    high: float
    seeds: int


def common_shape(times: FailureTimes) -> CommonShape:
    """The fit to all arms with at least two failures. Raises InputError where there are too few."""
    arms = [a for a in np.unique(times.arm) if times.failed[times.arm == a].sum() > 1]
    if not arms:
        raise InputError("no arm has two failures: no failure times to fit; use higher temperatures or longer caps")
    of, reference = times[np.isin(times.arm, arms)], ReferencePoint.of(times)
    slopes, _, terms = statistics.design(of, reference, False)
    scale = np.array([1e-3 if t == "1/T" else 1.0 for t in terms])
    own = (of.arm[:, None] == np.array(arms)).astype(float)
    fit = statistics.weibull(np.column_stack([own, slopes[:, 1:] / scale]), of.lower, of.upper)
    slope = dict(zip(terms, fit.beta[len(arms):] / scale))
    return CommonShape(float(slope.get("ln N", 0.0)), float(slope.get("1/T", 0.0)), 1 / fit.s, reference)


def log_times(times: FailureTimes, shape: CommonShape) -> dict[str, float]:
    """ln of the time to failure (fs) of every model at the reference; without failures, that of HALF a failure."""
    z = shape.exposure(times)
    return {str(m): float(np.log(z[of].sum() / max(HALF, times.failed[of].sum())) / shape.k)
            for m in np.unique(times.model) for of in [times.model == m]}


def ratio(times: FailureTimes, arm: str, base: str, shape: CommonShape, resamples: int = statistics.RESAMPLES,
          seed: int = 1) -> Ratio:
    """Ratio of two arms from the training seeds that both have.

    The half width of the logarithm is as in statistics.intervals. Without a failure of the arm the value is infinite
    and ``low`` its lower 95 % bound at the estimated time of the base. With one seed there is no interval (NaN).
    Raises InputError if the arms have no seed in common, or the base has no failure.
    """
    common = np.intersect1d(times.seed[times.arm == arm], times.seed[times.arm == base])
    z = shape.exposure(times)
    sums = {}  # of arm and base: exposure and failures of each seed, (2, S)
    for a in (arm, base):
        rows = [(times.arm == a) & (times.seed == s) for s in common]
        sums[a] = np.array([[z[of].sum() for of in rows], [times.failed[of].sum() for of in rows]], float)
    if not len(common) or not sums[base][1].any():
        raise InputError(f"{arm} against {base}: no training seed in common, or no failure of {base}")

    def log_ratio(of: np.ndarray) -> float:
        (z_arm, d_arm), (z_base, d_base) = (sums[a][:, of].sum(1) for a in (arm, base))
        return float(np.log(z_arm / max(HALF, d_arm) / (z_base / max(HALF, d_base))) / shape.k)

    every, n = np.arange(len(common)), len(common)
    value = log_ratio(every)
    if not sums[arm][1].any():
        low = value + np.log(HALF / BOUND) / shape.k
        return Ratio(np.inf, float(np.exp(low)), np.inf, n)
    if n < 2:
        return Ratio(float(np.exp(value)), np.nan, np.nan, n)
    rng = np.random.default_rng(seed)
    draws = [log_ratio(rng.choice(every, n)) for _ in range(resamples)]
    half = stats.t.ppf(0.5 + statistics.LEVEL / 2, n - 1) * np.sqrt(n / (n - 1)) * np.std(draws, ddof=1)
    return Ratio(float(np.exp(value)), float(np.exp(value - half)), float(np.exp(value + half)), n)
