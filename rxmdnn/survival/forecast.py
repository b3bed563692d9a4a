"""``rxmdnn tfail forecast``: the probability that a run completes, from a fit of times to failure; fits in model files.

P(survive t) = exp(-(t/t_0)^k), ln t_0 = a + b ln(N/N_0) + c (1/T - 1/T_0). Its interval comes from draws of (a, b, c,
ln k) with the covariance of the fit, which includes the differences between models of different training seeds.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.models.model_file import read_metadata
from rxmdnn.schema import Checked, Item, parse_json, read_json, reading
from rxmdnn.survival.stored import LIFETIME as KEY
from rxmdnn.survival.stored import put
from rxmdnn.units import FS_PER_PS

DRAWS = 4000
FIT = "a fit of times to failure"
NEEDED = {"ln_life": Item("float"), "b": Item("any"), "c": Item("any"), "k": Item("float", low=1e-6, high=1e6),
          "covariance": Item("float", (4, 4)), "reference": Item("dict"), "range": Item("dict")}
REFERENCE = {"n": Item("float", low=1e-6), "inverse_temperature": Item("float", low=0)}
RANGE = {"n": Item("float", (2,), low=0), "temperature": Item("float", (2,), low=0)}
TOLD = {"runs": Item("int"), "failures": Item("int"), "by": Item("text"), "dt_fs": Item("float")}


def probability(fit: dict[str, Any], n: float, time: float, temperature: float) -> tuple[float, float, float]:
    """Probability of completing a run without failure, and its 95 % interval.

    fit : of an arm, as the report writes it; n : atoms; time : fs; temperature : K
    """
    mean = np.array([fit["ln_life"], fit["b"] or 0.0, fit["c"] or 0.0, np.log(fit["k"])])
    rng = np.random.default_rng(1)
    draws = np.vstack([mean, rng.multivariate_normal(mean, np.array(fit["covariance"]), DRAWS, method="eigh")])
    term = np.array([1.0, np.log(n / fit["reference"]["n"]), 1 / temperature - fit["reference"]["inverse_temperature"]])
    with np.errstate(over="ignore"):
        p = np.exp(-np.exp(np.exp(draws[:, 3]) * (np.log(time) - draws[:, :3] @ term)))
    low, high = np.percentile(p[1:], [2.5, 97.5])
    return float(p[0]), float(low), float(high)


def outside(fit: dict[str, Any], n: float, temperature: float) -> list[str]:
    """Warnings where a run is outside the range of the fitted runs. temperature : K"""
    out = []
    for unit, value, (low, high), slope in (("atoms", n, fit["range"]["n"], fit["b"]),
                                            ("K", temperature, fit["range"]["temperature"], fit["c"])):
        if not low * 0.999 <= value <= high * 1.001:
            fitted = f"{low:g} to {high:g}" if high > low else f"{low:g}"
            how = "extrapolated" if slope is not None else "of unknown influence, which is neglected"
            out.append(f"{value:g} {unit}: outside the fitted runs ({fitted} {unit}), {how}")
    return out


def text(fit: dict[str, Any], n: float, time: float, temperature: float) -> list[str]:
    """Lines of the forecast, with its warnings. time : fs; temperature : K"""
    p, low, high = probability(fit, n, time, temperature)
    return [f"probability of completing {time / FS_PER_PS:g} ps of {n:g} atoms at {temperature:g} K without failure: "
            f"{p:.3g} (95 %: {low:.3g} to {high:.3g})", *outside(fit, n, temperature)]


def read_fit(path: Path, arm: str | None) -> dict[str, Any]:
    """The fit of an arm, from report.json or from a model file that contains one. Raises InputError."""
    if path.is_dir():  # of a report, or of a study that has one
        path = next((p for p in (path / "report.json", path / "report" / "report.json") if p.is_file()),
                    path / "report.json")
    advice = "give the folder or report.json of `rxmdnn tfail report`, or a model file"
    with reading(path, FIT, advice):
        is_report = path.open("rb").read(1) == b"{"
    if not is_report:
        stored = read_metadata(path).get(KEY)
        if stored is None:
            raise InputError(f"{path}: the model contains no fit of its times to failure; make one: rxmdnn tfail, "
                             "rxmdnn tfail report, then rxmdnn tfail forecast REPORT --store MODEL")
        return checked_fit(parse_json(stored, path, FIT, advice), path, advice)
    fits = Checked(path, advice).entries(read_json(path, FIT, advice), {"fits": Item("dict")})["fits"]
    if arm is None and len(fits) > 1:
        raise InputError(f"{path}: contains several arms; choose one: --arm {' or '.join(fits)}")
    if not fits or (arm is not None and arm not in fits):
        raise InputError(f"{path}: no fit of {f'arm {arm}' if arm else 'any arm'}; it has {', '.join(fits) or 'none'}")
    return checked_fit(fits[arm] if arm is not None else next(iter(fits.values())), path, advice)


def checked_fit(fit: Any, path: Path, advice: str = "") -> dict[str, Any]:
    """A stored fit, with all that a forecast needs. Raises InputError."""
    checked = Checked(path, advice)
    checked.entries(fit, NEEDED, "fit")
    for name, table in (("reference", REFERENCE), ("range", RANGE)):
        checked.entries(fit[name], table, f"fit.{name}")
    for name in ("b", "c"):
        if fit[name] is not None:
            checked.value(f"fit.{name}", fit[name], Item("float"))
    return fit


def store(model: Path, fit: dict[str, Any]) -> None:
    """Put a fit into the metadata of a model file; the bytes of its arrays do not change."""
    put(model, KEY, json.dumps(fit))


def lines(path: Path, n: int, time: float, temperature: float) -> list[str]:
    """Lines for the start of a run log if the model contains a fit, else none. time : fs; temperature : K."""
    try:
        stored = read_metadata(path).get(KEY)
        if not stored or time <= 0 or temperature <= 0:
            return []
        fit = checked_fit(parse_json(stored, path, FIT), path)
        Checked(path).entries(fit, TOLD, "fit")
    except InputError:
        return ["forecast     : the fit of times to failure in the model file is not valid; store it again"]
    return [f"forecast     : {row}" for row in text(fit, n, time, temperature)] + [
        f"forecast     : from {fit['runs']} runs ({fit['failures']} failures by {fit['by']}) with dt "
        f"{fit['dt_fs']:g} fs"]
