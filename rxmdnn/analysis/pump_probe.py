"""Delays of a pumped experiment: time zero, response of the instrument, bins, and errors over replicas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

from rxmdnn.errors import InputError

SIGMA_PER_FWHM = 1 / np.sqrt(8 * np.log(2))


@dataclass(frozen=True)
class DelayAxis:
    """The delays of the frames, and the linear map from frames to the delays that are shown.

    Attributes
    ----------
    delay (frames,) fs : time of each frame minus time zero, ascending
    before (frames,) bool : the frames that are the reference
    weights (shown, frames) : response of the instrument and bins; every row sums to 1
    shown (shown,) fs : the delays of the results
    """

    delay: np.ndarray
    before: np.ndarray
    weights: np.ndarray
    shown: np.ndarray

    @classmethod
    def of(cls, time: np.ndarray, zero: float, response: float = 0.0, width: float = 0.0,
           before: float = 0.0) -> DelayAxis:
        """The axis of frames at times ``time`` (fs, ascending).

        Parameters
        ----------
        zero : fs, time zero
        response : fs, full width at half maximum of the Gaussian response of the instrument; 0 for none
        width : fs, of the bins, one edge of which is time zero; 0 for one delay per frame
        before : fs; the reference are the frames earlier than this before time zero

        Raises InputError without a frame for the reference.
        """
        delay = np.asarray(time, float) - zero
        reference = delay < -before - 1e-9
        if not reference.any():
            raise InputError(f"structure: no frame before time zero: the frames are at {time[0]:g} to {time[-1]:g} fs, "
                             f"the reference ends at {zero - before:g} fs; give the time of the pump as --t0 FS, or "
                             "begin to write frames earlier")
        weights = response_weights(delay, response)
        shown = delay
        if width:
            bins = np.floor((delay + 1e-9) / width)
            each, number = np.unique(bins, return_inverse=True)
            gather = (number == np.arange(len(each))[:, None]).astype(float)
            gather /= gather.sum(axis=1, keepdims=True)
            weights, shown = gather @ weights, gather @ delay
        return cls(delay, reference, weights, shown)

    def reference(self, y: np.ndarray) -> np.ndarray:
        """(...) mean over the frames before time zero of y : (frames, ...), as they are, without the response."""
        return y[self.before].mean(axis=0)

    def show(self, y: np.ndarray) -> np.ndarray:
        """(shown, ...) what the instrument sees of y : (frames, ...)."""
        return np.tensordot(self.weights, y, axes=1)


def response_weights(t: np.ndarray, fwhm: float) -> np.ndarray:
    """(n, n) weights of a Gaussian response: y_seen = weights @ y, for values at the times t (fs, ascending).

    Each value holds from half way to the last time to half way to the next one, the first and the last one without end:
    a step half way between two times becomes an error function exactly, a constant stays constant.

    fwhm : fs, full width at half maximum; 0 gives the unit matrix
    """
    if not fwhm or len(t) < 2:
        return np.eye(len(t))
    edges = 0.5 * (t[1:] + t[:-1])
    below = 0.5 * (1 + erf((edges - t[:, None]) / (np.sqrt(2) * SIGMA_PER_FWHM * fwhm)))
    ends = np.zeros((len(t), 1))
    return np.diff(np.concatenate([ends, below, ends + 1], axis=1), axis=1)


def with_errors(statistic: Callable[..., np.ndarray], *samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The statistic of means over replicas, and its standard error by the jackknife (NaN for one replica).

    error² = (R - 1)/R Σ_r (θ_r - mean θ)², where θ_r is the statistic of the means without replica r: of a mean it is
    the usual s²/R. B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM (1982), chapter 3.

    Parameters
    ----------
    statistic : takes the mean over replicas of each sample
    samples : (replicas, ...) each
    """
    n = len(samples[0])
    means = [s.mean(axis=0) for s in samples]
    value = np.asarray(statistic(*means))
    if n < 2:
        return value, np.full(value.shape, np.nan)
    center, scatter = np.zeros(value.shape), np.zeros(value.shape)
    for r in range(n):  # sums of squares in one pass, as Welford does
        leaf = np.asarray(statistic(*((n * m - s[r]) / (n - 1) for m, s in zip(means, samples))))
        step = leaf - center
        center += step / (r + 1)
        scatter += step * (leaf - center)
    return value, np.sqrt((n - 1) / n * scatter)


def bragg_and_diffuse(amplitude: np.ndarray, total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bragg |<F>|² and diffuse <|F|²> - |<F>|² intensities over replicas, estimated without bias; both (...).

    The mean of R samples scatters by s²/R, which |mean F|² holds in excess and which is taken off. One replica has
    everything in Bragg and NaN in diffuse.

    Parameters
    ----------
    amplitude : (replicas, ...) complex F; total : (replicas, ...) |F|², or its mean over the beads of a replica
    """
    n = len(amplitude)
    mean = amplitude.mean(axis=0)
    bragg = np.abs(mean) ** 2
    if n < 2:
        return bragg, np.full(bragg.shape, np.nan)
    bragg = bragg - (np.abs(amplitude - mean) ** 2).sum(axis=0) / (n * (n - 1))
    return bragg, total.mean(axis=0) - bragg
