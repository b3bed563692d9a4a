"""Tails of what a sound run shows: how large a value may be in N atoms x S checks before it is a failure.

Peaks over threshold: above a high quantile the excess follows a generalized Pareto distribution (Coles, "An
Introduction to Statistical Modeling of Extreme Values" (2001), chapter 4), which extends the samples to rarer values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rxmdnn.errors import InputError

FEWEST, MOST, SHARE = 50, 5000, 0.05  # exceedances of a fit, and of all samples
ONE_SIDED = 1.645  # standard errors of a 95 % upper limit
EXPONENTIAL = 1e-6  # shape


@dataclass(frozen=True)
class Tail:
    """P(value > y) = rate (1 + shape (y - start)/scale)^(-1/shape) for y > start.

    exceedances : how many samples it was fitted to
    heaviest : the shape that levels are made with is this at least; of a positive fitted shape, see ``fit``
    """

    start: float
    scale: float
    shape: float
    rate: float
    exceedances: int
    heaviest: float = EXPONENTIAL

    @classmethod
    def fit(cls, values: np.ndarray, what: str = "values") -> Tail:
        """Maximum likelihood over the highest samples. Raises InputError where there are too few.

        A tail that is heavier than an exponential may get heavier still beyond the samples (Student's t does: its power
        shows late). Where the fitted shape is positive, a tenth of the exceedances, the highest, are fitted too, and the
        upper limits of both shapes count.

        values : (n,) float64; they may be correlated in time: that widens the error, and moves no expectation
        """
        from scipy.stats import genpareto  # slow to import, and only calibrations fit

        n = len(values)
        count = min(MOST, max(FEWEST, int(SHARE * n)))
        if n < 4 * count:
            raise InputError(f"{what}: {n} samples; a tail needs {4 * FEWEST}: give more frames")
        start = float(np.partition(values, n - count - 1)[n - count - 1])
        excess = values[values > start] - start
        if not len(excess):
            raise InputError(f"{what}: the largest samples are all {start:g}: they have no tail")
        unit = float(excess.mean())
        shape, _, scale = genpareto.fit(excess / unit, floc=0.0)
        heaviest = EXPONENTIAL
        if shape > 0 and len(excess) >= 2 * FEWEST:
            few = max(FEWEST, len(excess) // 10)
            highest = np.partition(excess, len(excess) - few - 1)[len(excess) - few - 1 :]
            far = np.sort(highest - highest[0])[1:]
            if (far > 0).all():
                heaviest = max(EXPONENTIAL, upper(float(genpareto.fit(far / far.mean(), floc=0.0)[0]), few))
        return cls(start, float(scale) * unit, float(shape), len(excess) / n, len(excess), heaviest)

    def level(self, probability: float, errors: float = ONE_SIDED) -> float:
        """The value that a sample exceeds with at most this probability; where probability >= rate, the start.

        It lies far beyond the samples, where the shape decides: the upper limit of the shape is taken, and never a tail
        that ends or falls faster than an exponential. Over 20,000 samples, laws that end, fall as an exponential or
        faster, or are a power beyond the threshold (Pareto) then keep to the rate on average over calibrations at 10^5
        times the samples, Student's t of 4 or 8 at 10^2 times. A tail of which the samples show nothing (a second
        mechanism, rarer than one in their number) no calibration can know.
        """
        if probability >= self.rate:
            return self.start
        shape = max(upper(self.shape, self.exceedances, errors), self.heaviest if errors else EXPONENTIAL)
        return float(self.start + self.scale * np.expm1(shape * np.log(self.rate / probability)) / shape)

    def to_dict(self) -> dict[str, float]:
        return {"start": self.start, "scale": self.scale, "shape": self.shape, "rate": self.rate,
                "exceedances": self.exceedances, "heaviest": self.heaviest}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Tail:
        """Raises KeyError, TypeError or ValueError."""
        start, scale, shape, rate = (float(numbers[k]) for k in ("start", "scale", "shape", "rate"))
        tail = cls(start, scale, shape, rate, int(numbers["exceedances"]), float(numbers.get("heaviest", EXPONENTIAL)))
        if not (np.isfinite([tail.start, tail.scale, tail.shape, tail.heaviest]).all() and tail.scale > 0 and 0 < tail.rate <= 1
                and tail.exceedances > 0):
            raise ValueError("numbers of no tail")
        return tail


def upper(shape: float, exceedances: int, errors: float = ONE_SIDED) -> float:
    """Upper limit of a fitted shape: its standard error is (1 + shape)/√n (Smith, Biometrika 74, 761 (1987))."""
    return shape + errors * max(1.0 + shape, 0.0) / float(np.sqrt(exceedances))
