"""Shapes of light pulses in time: their height f(t), peak 1, and the part of a pulse that has passed by a time.

Times are in fs. The full width at half maximum of the intensity is meant everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from scipy.special import erfc

TAIL = 3.0  # widths from its center at which a Gaussian begins and ends, where f = 2e-11; twice as many for sech²
SECH_HALF = float(np.arccosh(np.sqrt(2.0)))  # sech² of it is 1/2


class PulseShape(ABC):
    """A pulse in time.

    Attributes
    ----------
    begin, end : float, fs: f is zero before and after
    area : float, fs: ∫f dt
    """

    begin: float
    end: float
    area: float

    def at(self, t: np.ndarray | float) -> np.ndarray:
        """f(t), of the shape of ``t``, fs."""
        t = np.asarray(t, float)
        return np.where((t < self.begin) | (t > self.end), 0.0, self._height(np.clip(t, self.begin, self.end)))

    def passed(self, t: np.ndarray | float) -> np.ndarray:
        """∫ f from ``begin`` to t divided by ``area``: 0 before the pulse and 1 after it."""
        t = np.asarray(t, float)
        inside = self._passed(np.clip(t, self.begin, self.end))
        return np.where(t <= self.begin, 0.0, np.where(t >= self.end, 1.0, np.clip(inside, 0.0, 1.0)))

    def acts(self, start: float, stop: float) -> bool:
        """Whether some of the pulse falls between two times."""
        return self.begin < stop and start < self.end

    @abstractmethod
    def _height(self, t: np.ndarray) -> np.ndarray:
        """f between begin and end."""

    @abstractmethod
    def _passed(self, t: np.ndarray) -> np.ndarray:
        """The part that has passed between begin and end."""


def cut_by_run(what: str, begin: float, end: float, first: float, stop: float) -> list[str]:
    """Notes on a pulse that reaches beyond a run, from ``first`` to ``stop``, fs. what : "pulse" or the like"""
    notes = [f"the run begins at {first:g} fs, within this {what}, which begins at {begin:g} fs: that part is left out"]
    return (notes if begin < first < end else []) + (
        [f"the run ends at {stop:g} fs, before this {what} does, at {end:g} fs"] if end > stop else [])


class GaussianPulse(PulseShape):
    """f(t) = exp[-4 ln 2 (t - t_0)²/FWHM²]."""

    def __init__(self, t_0: float, fwhm: float) -> None:
        self.t_0, self.sharpness = t_0, 2.0 * np.sqrt(np.log(2.0)) / fwhm
        self.begin, self.end = t_0 - TAIL * fwhm, t_0 + TAIL * fwhm
        self.area = float(np.sqrt(np.pi) / self.sharpness)

    def _height(self, t: np.ndarray) -> np.ndarray:
        return np.exp(-((self.sharpness * (t - self.t_0)) ** 2))

    def _passed(self, t: np.ndarray) -> np.ndarray:
        return 0.5 * erfc(-self.sharpness * (t - self.t_0))


class SechPulse(PulseShape):
    """f(t) = sech²[2 arcosh(√2) (t - t_0)/FWHM], the pulse of a mode-locked laser; it ends where f = 3e-9."""

    def __init__(self, t_0: float, fwhm: float) -> None:
        self.t_0, self.sharpness = t_0, 2.0 * SECH_HALF / fwhm
        self.begin, self.end = t_0 - 2 * TAIL * fwhm, t_0 + 2 * TAIL * fwhm
        self.area = float(2.0 / self.sharpness)

    def _height(self, t: np.ndarray) -> np.ndarray:
        return np.cosh(self.sharpness * (t - self.t_0)) ** -2

    def _passed(self, t: np.ndarray) -> np.ndarray:
        return 0.5 * (1.0 + np.tanh(self.sharpness * (t - self.t_0)))


class FlatPulse(PulseShape):
    """f rises as (1 - cos πu)/2 over ``rise``, is 1, and falls as it rose; at half height it is as long as FWHM."""

    def __init__(self, t_0: float, fwhm: float, rise: float) -> None:
        self.t_0, self.rise, self.half = t_0, rise, 0.5 * fwhm
        self.begin, self.end, self.area = t_0 - self.half - 0.5 * rise, t_0 + self.half + 0.5 * rise, fwhm

    def _height(self, t: np.ndarray) -> np.ndarray:
        u = np.clip((self.half + 0.5 * self.rise - np.abs(t - self.t_0)) / self.rise, 0.0, 1.0)
        return 0.5 * (1.0 - np.cos(np.pi * u))

    def _passed(self, t: np.ndarray) -> np.ndarray:
        before = -np.abs(t - self.t_0)  # the pulse is symmetric
        v = np.clip(before + self.half + 0.5 * self.rise, 0.0, None)
        u = np.clip(v / self.rise, 0.0, 1.0)
        ramp = 0.5 * self.rise * (u - np.sin(np.pi * u) / np.pi)
        part = (ramp + np.clip(v - self.rise, 0.0, None)) / self.area
        return np.where(t < self.t_0, part, 1.0 - part)


class TablePulse(PulseShape):
    """f as straight lines between points, zero outside them.

    Parameters
    ----------
    t : (n,) float64, fs, increasing; f : (n,) float64, not negative
    """

    def __init__(self, t: np.ndarray, f: np.ndarray) -> None:
        self.t, self.f = t, f
        self.begin, self.end = float(t[0]), float(t[-1])
        self.sums = np.concatenate([[0.0], np.cumsum(0.5 * (f[1:] + f[:-1]) * np.diff(t))])
        self.area = float(self.sums[-1])

    def _height(self, t: np.ndarray) -> np.ndarray:
        return np.interp(t, self.t, self.f)

    def _passed(self, t: np.ndarray) -> np.ndarray:
        k = np.clip(np.searchsorted(self.t, t, side="right") - 1, 0, len(self.t) - 2)
        return (self.sums[k] + 0.5 * (self.f[k] + self._height(t)) * (t - self.t[k])) / self.area
