"""Time dependence of an electric field: its value at a time, and its exact mean over a time step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from rxmdnn.deck.fields import FieldLine

PER_THZ = 2e-3 * np.pi  # radians per fs of 1 THz
WIDTHS = 1.5  # FWHM from the middle of a pulse, where 2e-3 of its envelope is left
NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)


def value(line: FieldLine, t: float) -> np.ndarray:
    """(3,) V/Å, the field of a line at the time t, fs."""
    return line.strength * VALUES[line.shape](line, t)


def mean(line: FieldLine, t: float, dt: float) -> np.ndarray:
    """(3,) V/Å, (1/dt) ∫ E dt from t to t + dt, fs.

    A free ion that feels this constant field during the step has the exact velocity of E(t) at both of its ends.
    Constant, ramp, sine and table by their integrals, pulse by Gauss-Legendre quadrature to rounding.
    """
    return line.strength * MEANS[line.shape](line, t, dt)


def total(lines: Sequence[FieldLine], t: float, dt: float = 0.0) -> np.ndarray:
    """(3,) V/Å, sum of all lines: the mean from t to t + dt, or the value at t where dt is 0."""
    terms = [mean(line, t, dt) if dt > 0 else value(line, t) for line in lines]
    return np.sum(terms, axis=0) if terms else np.zeros(3)


# ---------------------------------------------------------------------- values, in units of the strength
def _ramp(line: FieldLine, t: float) -> float:
    t0, t1 = line.parameters["t0"], line.parameters["t1"]
    return float(np.clip((t - t0) / (t1 - t0), 0.0, 1.0))


def _sine(line: FieldLine, t: float) -> float:
    p = line.parameters
    return float(np.sin(PER_THZ * p["frequency"] * t + np.radians(p["phase"])))


def _pulse(line: FieldLine, t: float) -> float:
    p = line.parameters
    since = t - p["t0"]
    envelope = np.exp(-4.0 * np.log(2.0) * (since / p["FWHM"]) ** 2)
    return float(envelope * np.cos(PER_THZ * p["frequency"] * since + np.radians(p["phase"])))


def _table(line: FieldLine, t: float) -> float:
    assert line.table is not None
    times, values = line.table
    return float(np.interp(t, times, values, left=0.0, right=0.0))


# ---------------------------------------------------------------------- means over a step
def _mean_of_sine(line: FieldLine, t: float, dt: float) -> float:
    """sin at the middle times sin(ω dt/2)/(ω dt/2)."""
    return _sine(line, t + 0.5 * dt) * float(np.sinc(1e-3 * line.parameters["frequency"] * dt))


def _mean_of_pulse(line: FieldLine, t: float, dt: float) -> float:
    """Gauss-Legendre on panels over which neither phase nor envelope changes much."""
    p = line.parameters
    panels = int(np.ceil(max(p["frequency"] * 1e-3 * dt * 2.0, 2.0 * dt / p["FWHM"], 1.0)))
    h = dt / panels
    return sum(float(w) * _pulse(line, t + h * (k + 0.5 * (1.0 + float(x))))
               for k in range(panels) for x, w in zip(NODES, WEIGHTS)) / (2.0 * panels)


def _piecewise(shape: Callable[[FieldLine, float], float], knots: Callable[[FieldLine], np.ndarray]
               ) -> Callable[[FieldLine, float, float], float]:
    """The mean of a function that is linear between knots: of each piece the value at its middle."""
    def mean_of(line: FieldLine, t: float, dt: float) -> float:
        at = knots(line)
        inside = at[np.searchsorted(at, t, "right"):np.searchsorted(at, t + dt, "left")]
        ends = [t, *inside.tolist(), t + dt]
        return sum((b - a) * shape(line, 0.5 * (a + b)) for a, b in pairwise(ends)) / dt

    return mean_of


def _knots_of_table(line: FieldLine) -> np.ndarray:
    assert line.table is not None
    return line.table[0]


VALUES: dict[str, Callable[[FieldLine, float], float]] = {
    "constant": lambda line, t: 1.0, "ramp": _ramp, "sine": _sine, "pulse": _pulse, "table": _table}
MEANS: dict[str, Callable[[FieldLine, float, float], float]] = {
    "constant": lambda line, t, dt: 1.0, "sine": _mean_of_sine, "pulse": _mean_of_pulse,
    "ramp": _piecewise(_ramp, lambda line: np.array([line.parameters["t0"], line.parameters["t1"]])),
    "table": _piecewise(_table, _knots_of_table)}
EXTENTS: dict[str, Callable[[FieldLine], tuple[float, float]]] = {  # fs: between them the field changes
    "ramp": lambda line: (line.parameters["t0"], line.parameters["t1"]),
    "pulse": lambda line: (line.parameters["t0"] - WIDTHS * line.parameters["FWHM"],
                           line.parameters["t0"] + WIDTHS * line.parameters["FWHM"]),
    "table": lambda line: (float(_knots_of_table(line)[0]), float(_knots_of_table(line)[-1]))}
