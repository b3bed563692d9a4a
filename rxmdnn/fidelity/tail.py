"""Tails of the values in a clean run: how large a value may be in N atoms x S checks before it is a failure.

Peaks over threshold: above a high quantile the excess follows a generalized Pareto distribution (Coles, "An
Introduction to Statistical Modeling of Extreme Values" (2001), chapter 4), which extends the samples to rarer values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.schema import Item

FEWEST, MOST, SHARE = 50, 5000, 0.05  # exceedances of a fit, and of all samples
ONE_SIDED = 1.645  # standard errors of a 95 % upper limit
EXPONENTIAL = 1e-6  # shape
LATE = 0.1  # a positive shape is raised by its own value, at most by this


TAIL = {"start": Item("float", low=-1e30, high=1e30), "scale": Item("float", low=1e-30, high=1e30),
        "shape": Item("float", low=-100, high=100), "rate": Item("float", low=1e-300, high=1),
        "exceedances": Item("int", low=1)}


@dataclass(frozen=True)
class Tail:
    """P(value > y) = rate (1 + shape (y - start)/scale)^(-1/shape) for y > start.

    exceedances : number of samples of the fit
    """

    start: float
    scale: float
    shape: float
    rate: float
    exceedances: int

    @classmethod
    def fit(cls, values: np.ndarray, what: str = "values") -> Tail:
        """Fit by maximum likelihood to the highest samples. Raises InputError if there are too few.

        values : (n,) float64; correlation in time widens the error without changing expectations
        """
        from scipy.stats import genpareto  # slow to import, and only calibrations fit

        n = len(values)
        count = min(MOST, max(FEWEST, int(SHARE * n)))
        if n < 4 * count:
            raise InputError(f"{what}: {n} samples; a tail needs {4 * FEWEST}: use more frames")
        start = float(np.partition(values, n - count - 1)[n - count - 1])
        excess = values[values > start] - start
        if not len(excess):
            raise InputError(f"{what}: the largest samples are all {start:g}, so no tail can be fitted")
        unit = float(excess.mean())
        shape, _, scale = genpareto.fit(excess / unit, floc=0.0)
        return cls(start, float(scale) * unit, float(shape), len(excess) / n, len(excess))

    def level(self, probability: float, errors: float = ONE_SIDED) -> float:
        """The value that a sample exceeds with at most this probability; for probability >= rate, the start.

        It lies far beyond the samples, where the shape decides. The upper limit of the shape is used (standard error
        (1 + shape)/√n, Smith 1987), at least that of an exponential tail; a heavier tail gets a larger shape than
        fitted, because power laws appear late (Student's t of 8 has shape 1/8; its highest 5 % show 0.04). Calibrated
        on 20,000 samples, distributions with an end, exponential or faster tails, and pure power laws (Pareto) then
        keep the rate in 10^5 times as many samples. Limitation: Student's t of 8 has 1.2 times the rate in 10^2 times
        as many (mean over calibrations; up to 13 times in one), and 6 times in 10^5. A rare mechanism that the samples
        do not contain cannot be predicted.
        """
        if probability >= self.rate:
            return self.start
        shape = self._upper_shape(errors)
        return float(self.start + self.scale * np.expm1(shape * np.log(self.rate / probability)) / shape)

    def exceedance(self, value: float, errors: float = ONE_SIDED) -> float:
        """The probability that a sample exceeds a value, the inverse of ``level``; 1 up to the start, 0 of NaN."""
        if value <= self.start:
            return 1.0
        if not np.isfinite(value):
            return 0.0
        shape = self._upper_shape(errors)
        return float(self.rate * np.exp(-np.log1p(shape * (value - self.start) / self.scale) / shape))

    def _upper_shape(self, errors: float) -> float:
        shape = self.shape + errors * max(1.0 + self.shape, 0.0) / np.sqrt(self.exceedances)
        if errors:
            shape += min(max(self.shape, 0.0), LATE)
        return max(shape, EXPONENTIAL)

    def to_dict(self) -> dict[str, float]:
        return {"start": self.start, "scale": self.scale, "shape": self.shape, "rate": self.rate,
                "exceedances": self.exceedances}

    @classmethod
    def from_dict(cls, numbers: Mapping[str, Any]) -> Tail:
        """The tail of stored numbers, checked by TAIL."""
        return cls(**{name: numbers[name] for name in TAIL})
