"""Certificates: lower bounds of the probability that a run completes, from runs of one model that may never fail.

H is the cumulative hazard of the run that is certified (N atoms, time t, temperature T): P(no failure) = exp(-H). The
cumulative hazard of run i of a study until it ended, s_i, is at least w_i H with

    w_i = min(1, n_i/N) (s_i e^{c (1/T - 1/T_i)}/t)^k,

where the hazard does not fall with the number of atoms, and rises at most in proportion to it. Cumulative hazards are
unit exponential (Lawless, Statistical Models and Methods for Lifetime Data (2003), 1.2 and 4.1), so that d failures of
runs that lived through Y = Σ H_i are those of a Poisson process of rate 1, and with the exposure X = Σ w_i ≤ Y/H

    H ≤ χ²(1 - α; 2 d + 2)/(2 X):   without failures -ln α/X, i.e. 3.0/X at 95 %.

Memoryless times to failure have k = 1, which is assumed where the failures are too few to fit k. Otherwise each w_i
takes the worst k of the interval of the fit and 1, or, where asked for, 1 if the 95 % interval contains it. The slope c
of a ladder of temperatures takes the worst value of its interval; α is divided among the intervals that are used
(Bonferroni).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from rxmdnn.errors import InputError
from rxmdnn.models.model_file import read_metadata
from rxmdnn.schema import Checked, Item, parse_json
from rxmdnn.survival import stored
from rxmdnn.survival.statistics import ArmFit, FailureTimes, ReferencePoint, fit_arm
from rxmdnn.units import FS_PER_PS

SAME = 0.01  # relative difference of temperatures that count as equal
FEWEST = 5  # failures of a fit
LARGEST, LONGEST = 1000.0, 100.0  # atoms and time of a certified run, relative to the largest and longest of the study
METHODS = ("auto", "direct", "ladder")
SIZE_RULE = "the hazard does not fall with the number of atoms, and rises at most in proportion to it"


class Interval(NamedTuple):
    """An estimate and its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Certificate:
    """A lower bound of the probability that a run completes.

    Attributes
    ----------
    atoms, ps, temperature : of the run
    confidence : of the bound; lower : the bound; estimate : of the probability, 1 without failures
    runs, failures : that were used; exposure : X, in runs of the certified kind
    by : criterion of failure; method : "direct" or "ladder"; dt_fs : largest time step of the runs
    coldest, hottest : K, temperatures of runs that the certificate covers
    conservative : whether the worst shape is used instead of the memoryless form
    power : of the time, with which the bound of H grows, at most 1
    shape : Interval of k, or None; slope : Interval of c, K, or None
    """

    atoms: float
    ps: float
    temperature: float
    confidence: float
    lower: float
    estimate: float
    runs: int
    failures: int
    exposure: float
    by: str
    method: str
    dt_fs: float
    coldest: float
    hottest: float
    conservative: bool
    power: float
    shape: Interval | None
    slope: Interval | None

    def text(self) -> list[str]:
        """Lines about the bound, what it is from and what it assumes."""
        level = f"{100 * self.confidence:g} %"
        lines = [f"probability of completing {self.ps:g} ps of {self.atoms:g} atoms at {self.temperature:g} K without "
                 f"failure: at least {self.lower:.3g} ({level} confidence); estimate {self.estimate:.3g}",
                 f"from {self.runs} runs with {self.failures} failures by {self.by}, dt {self.dt_fs:g} fs; exposure "
                 f"{self.exposure:.4g} times that of the run"]
        if self.slope is not None:
            lines.append(f"ladder of temperatures: ln t = a + c/T with c = {_shown(self.slope)} K")
        form = f"assumed, not tested: fewer than {FEWEST} failures" if self.shape is None else (
            f"{'not ' * (self.shape.low <= 1 <= self.shape.high)}contradicted by the shape {_shown(self.shape)}; "
            + ("the worst shape of this interval and 1 is used" if self.conservative else "assumed"))
        lines += [f"memoryless times to failure: {form}", f"assumed: {SIZE_RULE}"]
        if self.coldest < (1 - 2 * SAME) * self.temperature:
            lines[-1] += f", nor rises on cooling, which covers runs from {self.coldest:.4g} K"
        needed = -np.log(1 - self.confidence) / -np.log(self.confidence)
        if self.lower < self.confidence:
            lines.append(f"a bound of {self.confidence:g} needs an exposure of {needed:.3g} without failure")
        return lines


def _shown(of: Interval) -> str:
    return f"{of.value:.4g} ({of.low:.4g} to {of.high:.4g})"


def bound(failures: float | np.ndarray, exposure: float | np.ndarray, alpha: float) -> np.ndarray:
    """Upper bound of the hazard at confidence 1 - alpha: χ²(1 - alpha; 2 failures + 2)/(2 exposure)."""
    return stats.chi2.ppf(1 - alpha, 2 * np.asarray(failures) + 2) / (2 * np.asarray(exposure))


def exposures(n: np.ndarray, time: np.ndarray, temperature: np.ndarray, run: tuple[float, float, float],
              slopes: Sequence[float] = (0.0,), shapes: Sequence[float] | np.ndarray = (1.0,)) -> np.ndarray:
    """w_i of the module, the least over the slopes (K) and shapes; of any shape.

    n, time, temperature : atoms, fs and K of the runs; run : of the certified one
    """
    atoms, t, target = run
    scaled = np.log(np.maximum(time, 1e-300) / t)
    z = np.min([scaled + c * (1 / target - 1 / temperature) for c in slopes], axis=0)
    return np.minimum(1.0, n / atoms) * np.exp(np.min([k * z for k in shapes], axis=0))


def certify(times: FailureTimes, atoms: float, time: float, temperature: float, confidence: float = 0.95,
            by: str = "failed", dt: float = 0.0, method: str = "auto", memoryless: bool = False) -> Certificate:
    """The certificate of a run. Raises InputError if the study cannot support one.

    Parameters
    ----------
    times : of one model; a failed run counts until its last normal check
    atoms, time (fs), temperature (K) : of the run
    by, dt : criterion and time step (fs) of the study
    method : "direct" uses the runs at this temperature, "ladder" all; "auto" is direct where there are such runs
    memoryless : assume it unless the interval of the shape contradicts it
    """
    same = np.abs(times.temperature - temperature) <= SAME * temperature
    direct = method == "direct" or (method == "auto" and bool(same.any()))
    if direct and not same.any():
        raise InputError(f"certify: no run at {temperature:g} K; the study has {_temperatures(times)} K; use --method "
                         "ladder")
    if not direct:
        _check_ladder(times, temperature)
    used = times[same] if direct else times
    fit = _fit(used)
    if fit is None and not direct:
        raise InputError(f"certify: {temperature:g} K was not run, and the failures of the other temperatures do not "
                         "determine a slope; run more, or certify one of " + _temperatures(times) + " K")
    shape = None if fit is None else _shape(fit, used, 0.05)
    conservative = shape is not None and not (memoryless and shape.low <= 1 <= shape.high)
    alpha = (1 - confidence) / (1 + conservative + (not direct))
    slope, shapes = None, np.ones(1)
    if fit is not None and conservative:
        worst = _shape(fit, used, alpha)
        shapes = np.array([worst.low, 1.0, worst.high])
    if fit is not None and not direct:
        slope = _interval(fit.values["c"], fit.errors["c"], _freedoms(fit, used), alpha)
    slopes = (0.0,) if slope is None else (slope.low, slope.high)
    run = (atoms, time, temperature)
    alive = exposures(used.n, used.lower, used.temperature, run, slopes, shapes)
    _check_range(used, run, slopes)
    failures, exposure = int(used.failed.sum()), float(alive.sum())
    with np.errstate(divide="ignore"):
        hazard = float(bound(failures, exposure, alpha))
    best = exposures(used.n, used.lower, used.temperature, run, (0.0,) if slope is None else (slope.value,)).sum()
    cold, hot = float(used.temperature.min()), float(used.temperature.max())
    return Certificate(
        atoms, time / FS_PER_PS, temperature, confidence, float(np.exp(-hazard)),
        float(np.exp(-failures / max(best, 1e-300))) if failures else 1.0, len(used), failures, exposure, by,
        "direct" if direct else "ladder", dt, (1 - SAME) * min(temperature, cold),
        (1 + SAME) * (min(temperature, hot) if direct else temperature), conservative, float(shapes.min()), shape,
        slope)


def _temperatures(times: FailureTimes) -> str:
    return ", ".join(f"{t:g}" for t in np.unique(times.temperature))


def _check_ladder(times: FailureTimes, temperature: float) -> None:
    """Raises InputError outside the range of the ladder: colder by more than its own width in 1/T, or hotter."""
    inverse, failed = 1 / np.unique(times.temperature), times[times.failed]
    width = float(np.ptp(inverse))
    coldest, hottest = 1 / (inverse.max() + width), 1 / inverse.min()
    if len(np.unique(failed.temperature)) < 2 or len(failed) < FEWEST:
        at = f" at {_temperatures(failed)} K" if len(failed) else ""
        raise InputError(f"certify: a ladder to {temperature:g} K needs {FEWEST} failures, at two temperatures or "
                         f"more; the study has {len(failed)}{at}; run hotter, or certify one of {_temperatures(times)} "
                         "K")
    if not coldest * (1 - SAME) <= temperature <= hottest * (1 + SAME):
        raise InputError(f"certify: {temperature:g} K is outside the range of the ladder, {coldest:.4g} to "
                         f"{hottest:.4g} K (colder than its runs by at most its own width in 1/T); add temperatures to "
                         "the study")


def _check_range(times: FailureTimes, run: tuple[float, float, float], slopes: Sequence[float]) -> None:
    """Raises InputError for a run much larger or longer than those of the study."""
    atoms, time, temperature = run
    z = np.min([c * (1 / temperature - 1 / times.temperature) for c in slopes], axis=0)
    largest, longest = LARGEST * times.n.max(), LONGEST * float((times.lower * np.exp(z)).max())
    if atoms > largest:
        raise InputError(f"certify: --atoms {atoms:g}: more than {LARGEST:g} times the largest system of the study, "
                         f"{times.n.max():g} atoms; add a larger size")
    if time > longest:
        raise InputError(f"certify: --ps {time / FS_PER_PS:g}: more than {LONGEST:g} times the longest run of the "
                         f"study, {longest / LONGEST / FS_PER_PS:.4g} ps at {temperature:g} K; run longer")


# ------------------------------------------------------------------------------------------------ shape and slope
def _fit(times: FailureTimes) -> ArmFit | None:
    """The Weibull fit of runs of one model; None where their failures are too few."""
    if times.failed.sum() < FEWEST:
        return None
    try:
        return fit_arm(times, ReferencePoint.of(times))
    except InputError:
        return None


def _freedoms(fit: ArmFit, times: FailureTimes) -> int:
    return max(1, int(times.failed.sum()) - len(fit.fit.beta))


def _interval(value: float, error: float, freedoms: int, alpha: float) -> Interval:
    half = float(stats.t.ppf(1 - alpha / 2, freedoms)) * error
    return Interval(value, value - half, value + half)


def _shape(fit: ArmFit, times: FailureTimes, alpha: float) -> Interval:
    """Interval of the shape k, symmetric in ln k."""
    k = fit.values["k"]
    return Interval(*np.exp(_interval(np.log(k), fit.errors["k"] / k, _freedoms(fit, times), alpha)).tolist())


# ------------------------------------------------------------------------------------------------ model files
def store(model: Path, certificate: Certificate) -> None:
    """Put a certificate into the metadata of a model file; the bytes of its arrays do not change."""
    stored.put(model, stored.CERTIFICATE, json.dumps(asdict(certificate)))


def read(path: Path) -> Certificate | None:
    """The certificate in a model file, or None. Raises InputError if it is not valid."""
    text = read_metadata(path).get(stored.CERTIFICATE)
    if not text:
        return None
    kinds = {"float": Item("float"), "int": Item("int"), "str": Item("text"), "bool": Item("bool"),
             "Interval | None": Item("any")}
    table = {f.name: kinds[str(f.type)] for f in fields(Certificate)}
    checked = Checked(path)
    found = checked.entries(parse_json(text, path, "a certificate"), table, "certificate")
    for key in ("shape", "slope"):
        if found[key] is not None:
            values = checked.value(f"certificate.{key}", found[key], Item("float", (3,), finite=False))
            found[key] = Interval(*values.tolist())
    return Certificate(**found)


def covered(c: Certificate, n: int, time: float, temperatures: tuple[float, float], dt: float) -> float | str:
    """Lower bound for a run within the range of a certificate; otherwise what is outside.

    n : atoms; time : fs; temperatures : lowest and highest target, K; dt : fs
    """
    faults = []
    if not temperatures[0] > 0:
        faults.append("the run has no target temperature")
    elif not c.coldest <= temperatures[0] <= temperatures[1] <= c.hottest:
        faults.append(f"{' to '.join(f'{t:g}' for t in sorted(set(temperatures)))} K is outside {c.coldest:.4g} to "
                      f"{c.hottest:.4g} K")
    if dt > c.dt_fs * 1.001:
        faults.append(f"dt {dt:g} fs is longer than {c.dt_fs:g} fs")
    part = max(1.0, n / c.atoms) * (time / FS_PER_PS / c.ps) ** c.power
    if part > 1.001:
        faults.append(f"{n} atoms for {time / FS_PER_PS:g} ps exceed {c.atoms:g} atoms for {c.ps:g} ps")
    return "; ".join(faults) or float(c.lower**part)


def lines(path: Path, n: int, time: float, temperatures: tuple[float, float], dt: float, changed: str = ""
          ) -> list[str]:
    """Lines for the start of a run log if the model has a certificate, else none.

    As for ``covered``; changed : what else the run has that the runs of the study do not have
    """
    try:
        c = read(path)
        if c is None or time <= 0:
            return []
        found = covered(c, n, time, temperatures, dt)
        if changed or isinstance(found, str):
            outside = "; ".join(t for t in (changed, found) if t and isinstance(t, str))
            return [f"certificate  : none for this run: {outside}; make one: rxmdnn tfail certify"]
        return [f"certificate  : probability of completing {time / FS_PER_PS:g} ps of {n} atoms without failure: at "
                f"least {found:.3g} ({100 * c.confidence:g} % confidence)",
                f"certificate  : from {c.runs} runs ({c.failures} failures by {c.by}, {c.method}) with dt "
                f"{c.dt_fs:g} fs"]
    except InputError:
        return ["certificate  : the certificate in the model file is not valid; store it again"]
