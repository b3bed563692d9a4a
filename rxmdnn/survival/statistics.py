"""Survival statistics of times to failure, from runs that failed and runs that did not.

The time to failure t of a run lies in (lower, upper]: failures are detected only at checks (interval censoring), and a
run that reached its cap would have failed later (upper infinite: right censoring). The accelerated-failure-time model
is the Weibull one,

    ln t = a_m + b ln(N/N_0) + c (1/T - 1/T_0) + s G,   P(G > g) = exp(-e^g),   k = 1/s,

with a_m of each model m and b = d ln t / d ln N. Its likelihood is concave in (a/s, b/s, c/s, 1/s) (Burridge, J. R.
Stat. Soc. B 43, 41 (1981)), so Newton's method finds the only maximum. Runs of one trained model are correlated, so
intervals come from resampling training seeds, the same ones in every arm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from rxmdnn.errors import InputError

LEVEL = 0.95
RESAMPLES = 400
FLAT = 1e-13  # smallest curvature of the likelihood, relative to the largest, that exceeds rounding
FAMILIES = {"Weibull": "WeibullAFTFitter", "log-normal": "LogNormalAFTFitter", "log-logistic": "LogLogisticAFTFitter"}


@dataclass(frozen=True)
class FailureTimes:
    """Times to failure of r runs.

    Attributes
    ----------
    arm, model (r,) str
    seed (r,) int64: of the training of the model
    n (r,) float64: atoms
    temperature (r,) float64, K
    lower, upper (r,) float64, fs: the time to failure is in (lower, upper]; upper infinite where the run did not fail
    """

    arm: np.ndarray
    model: np.ndarray
    seed: np.ndarray
    n: np.ndarray
    temperature: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def __len__(self) -> int:
        return len(self.n)

    def __getitem__(self, rows: np.ndarray) -> FailureTimes:
        return FailureTimes(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def failed(self) -> np.ndarray:
        return np.isfinite(self.upper)

    @property
    def time(self) -> np.ndarray:
        """(r,) fs, at which the failure was detected or the run ended."""
        return np.where(self.failed, self.upper, self.lower)


class Fit(NamedTuple):
    """A Weibull accelerated-failure-time fit: ln t = X beta + s G.

    beta (p,) float64; s float; covariance (p + 1, p + 1) of (beta, ln s); log_likelihood of the intervals
    """

    beta: np.ndarray
    s: float
    covariance: np.ndarray
    log_likelihood: float


def weibull(x: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> Fit:
    """The maximum-likelihood fit. Raises InputError where there is no maximum: no failures, or dependent columns.

    x : (r, p) float64; lower, upper : (r,) float64, fs, t in (lower, upper], exact where equal
    """
    failed = np.isfinite(upper)
    exact = lower == upper
    if not failed.any():
        raise InputError("no run failed: no failure times to fit; use higher temperatures, larger systems or "
                         "longer caps")
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise InputError("the terms of the model cannot be separated; more sizes or temperatures are needed")
    with np.errstate(divide="ignore"):
        log_lower, log_upper = np.log(lower), np.log(upper)
    log_lower[lower <= 0] = -np.inf
    middle = np.where(failed & (lower > 0), 0.5 * (log_lower + log_upper), np.where(failed, log_upper - 0.7, log_lower))
    start, *_ = np.linalg.lstsq(x, middle, rcond=None)
    theta = np.append(start, 1.0)  # beta/s, 1/s
    value, slope, curve = _likelihood(theta, x, log_lower, log_upper, failed, exact)
    for _ in range(200):
        try:
            step = np.linalg.solve(-curve, slope)
        except np.linalg.LinAlgError:
            break
        size = 1.0
        while size > 1e-10:
            new = theta + size * step
            if new[-1] > 0:
                found = _likelihood(new, x, log_lower, log_upper, failed, exact)
                if found[0] >= value:
                    break
            size *= 0.5
        else:
            break
        gained, theta = found[0] - value, new
        value, slope, curve = found
        if gained < 1e-11 * (1 + abs(value)) and abs(slope @ step) < 1e-9:
            break
    curvatures = np.linalg.eigvalsh(-curve) if np.isfinite(curve).all() else np.zeros(1)
    if not np.isfinite(theta).all() or theta[-1] > 1e4 or not curvatures[0] > FLAT * curvatures[-1]:
        raise InputError("the fit has no maximum: too few failures for its terms; more failures are needed")
    s, beta = 1 / theta[-1], theta[:-1] / theta[-1]
    jacobian = np.zeros((len(theta), len(theta)))  # d(beta, ln s)/d theta
    jacobian[:-1, :-1] = s * np.eye(len(beta))
    jacobian[:-1, -1] = -s * beta
    jacobian[-1, -1] = -s
    return Fit(beta, float(s), jacobian @ np.linalg.inv(-curve) @ jacobian.T, float(value))


def _likelihood(theta: np.ndarray, x: np.ndarray, log_lower: np.ndarray, log_upper: np.ndarray, failed: np.ndarray,
                exact: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Value, gradient and Hessian; an exact time contributes its density, the others a probability."""
    a, tau = x @ theta[:-1], theta[-1]
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        z_l, z_u = tau * log_lower - a, tau * log_upper - a
        low, high = np.exp(z_l), np.exp(z_u)  # cumulative hazards
        q = np.where(failed, 1 / np.expm1(high - low), 0.0)
        between = failed & ~exact
        value = -low + np.where(between, np.log(-np.expm1(-(high - low))), 0.0)
        value[exact] = (z_u - high - log_upper + np.log(tau))[exact]
        high = np.where(between, high, 0.0)
        g_l, g_u = -low * (1 + q), high * q
        h_ll, h_uu, h_lu = -low * (1 + q) * (1 + low * q), high * q * (1 - high * (1 + q)), low * high * q * (1 + q)
        at = np.exp(z_u[exact])
        g_l[exact], h_ll[exact] = 1 - at, -at
        for array in (g_u, h_uu, h_lu):
            array[~between] = 0.0
    ends = [np.column_stack([-x, np.where(np.isfinite(t), t, 0.0)]) for t in (log_lower, log_upper)]
    slope = ends[0].T @ g_l + ends[1].T @ g_u
    cross = ends[0].T @ (h_lu[:, None] * ends[1])
    curve = ends[0].T @ (h_ll[:, None] * ends[0]) + ends[1].T @ (h_uu[:, None] * ends[1]) + cross + cross.T
    slope[-1] += exact.sum() / tau
    curve[-1, -1] -= exact.sum() / tau**2
    total = float(value.sum())
    return (total if np.isfinite(total) and np.isfinite(curve).all() else -np.inf), slope, curve


# ------------------------------------------------------------------------------------------------ fit of an arm
@dataclass(frozen=True)
class ReferencePoint:
    """N_0 (geometric mean of the sizes) and 1/T_0 (mean, 1/K), at which times to failure are quoted."""

    n: float
    inverse_temperature: float

    @classmethod
    def of(cls, times: FailureTimes) -> ReferencePoint:
        return cls(float(np.exp(np.log(np.unique(times.n)).mean())), float((1 / np.unique(times.temperature)).mean()))


@dataclass(frozen=True)
class ArmFit:
    """The fit of the runs of one arm.

    Attributes
    ----------
    models : names of the models whose a_m come first in ``fit.beta``; ("all",) where they share one
    terms : names of the terms after them: "ln N", "1/T"
    """

    fit: Fit
    models: tuple[str, ...]
    terms: tuple[str, ...]
    reference: ReferencePoint

    @property
    def values(self) -> dict[str, float]:
        """ln_life (of fs, at the reference, mean over models), b, c (K), k, link = b + 1/k; NaN where not fitted."""
        m = len(self.models)
        slope = dict(zip(self.terms, self.fit.beta[m:]))
        b = float(slope.get("ln N", np.nan))
        return {"ln_life": float(self.fit.beta[:m].mean()), "b": b, "c": float(slope.get("1/T", np.nan)),
                "k": 1 / self.fit.s, "link": b + self.fit.s}

    @property
    def errors(self) -> dict[str, float]:
        """Standard errors of ``values`` from the curvature of the likelihood alone."""
        m, p = len(self.models), len(self.fit.beta)
        rows = {"ln_life": np.r_[np.full(m, 1 / m), np.zeros(p + 1 - m)], "k": np.r_[np.zeros(p), -1 / self.fit.s]}
        for name, term in (("b", "ln N"), ("c", "1/T")):
            rows[name] = np.full(p + 1, np.nan)
            if term in self.terms:
                rows[name] = np.eye(p + 1)[m + self.terms.index(term)]
        rows["link"] = rows["b"] + np.r_[np.zeros(p), self.fit.s]
        return {k: float(np.sqrt(v @ self.fit.covariance @ v)) for k, v in rows.items()}

    def log_time(self, n: np.ndarray, temperature: np.ndarray) -> np.ndarray:
        """ln of the characteristic time to failure in fs, which a fraction 1/e survives. temperature : K"""
        value = self.values
        given = {"ln N": np.log(np.asarray(n, float) / self.reference.n),
                 "1/T": 1 / np.asarray(temperature, float) - self.reference.inverse_temperature}
        slope = dict(zip(self.terms, self.fit.beta[len(self.models):]))
        return value["ln_life"] + sum((slope[t] * given[t] for t in self.terms), np.zeros(1))


def design(times: FailureTimes, reference: ReferencePoint, by_model: bool
           ) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """(r, p) columns of the fit, names of the models, names of the terms in which the runs differ."""
    models = tuple(np.unique(times.model).tolist()) if by_model else ("all",)
    intercepts = (times.model[:, None] == np.array(models)).astype(float) if by_model else np.ones((len(times), 1))
    slopes = {"ln N": np.log(times.n / reference.n), "1/T": 1 / times.temperature - reference.inverse_temperature}
    scale = {"ln N": 1.0, "1/T": 1000.0}  # gives columns of similar magnitude
    terms = tuple(t for t, col in slopes.items() if np.ptp(col * scale[t]) > 1e-9)
    return np.column_stack([intercepts, *(slopes[t] for t in terms)]), models, terms


def fit_arm(times: FailureTimes, reference: ReferencePoint) -> ArmFit:
    """The fit of the runs of one arm; each model has its own a_m where every model failed at least twice."""
    models = np.unique(times.model)
    by_model = len(models) > 1 and all((times.failed & (times.model == m)).sum() >= 2 for m in models)
    x, names, terms = design(times, reference, by_model)
    scale = np.array([1.0] * len(names) + [1e-3 if t == "1/T" else 1.0 for t in terms])
    fit = weibull(x / scale, times.lower, times.upper)
    unscale = np.append(1 / scale, 1.0)
    fit = Fit(fit.beta / scale, fit.s, fit.covariance * np.outer(unscale, unscale), fit.log_likelihood)
    return ArmFit(fit, names, terms, reference)


# ------------------------------------------------------------------------------------------------ all arms
def resample(times: FailureTimes, rng: np.random.Generator) -> FailureTimes:
    """Training seeds drawn with replacement, the same in every arm; single runs where an arm has only one seed."""
    seeds = np.unique(times.seed)
    if min(len(np.unique(times.seed[times.arm == a])) for a in np.unique(times.arm)) < 2:
        _, cell = np.unique(np.stack([np.unique(c, return_inverse=True)[1] for c in (
            times.arm, times.n, times.temperature)]), axis=1, return_inverse=True)
        rows = [np.flatnonzero(cell == c) for c in range(cell.max() + 1)]
        return times[np.concatenate([rng.choice(r, len(r)) for r in rows])]
    parts = [np.flatnonzero(times.seed == s) for s in rng.choice(seeds, len(seeds))]
    drawn = times[np.concatenate(parts)]
    # a seed drawn twice counts as two models in the mean over models
    number = np.repeat(np.arange(len(parts)), [len(rows) for rows in parts]).astype(str)
    return replace(drawn, model=np.char.add(np.char.add(drawn.model, " "), number))


def quantities(times: FailureTimes, reference: ReferencePoint,
               fit: Callable[[FailureTimes, ReferencePoint], Any] = fit_arm) -> dict[str, dict[str, float]]:
    """``values`` of every arm; as "B against A", differences of b and of ln(time to failure)."""
    arms = list(dict.fromkeys(times.arm.tolist()))
    values = {a: dict(fit(times[times.arm == a], reference).values) for a in sorted(arms)}
    base = sorted(arms)[0]
    for a in sorted(arms)[1:]:
        values[f"{a} against {base}"] = {f"{k}": values[a][k] - values[base][k] for k in ("ln_life", "b")}
    return values


def intervals(times: FailureTimes, reference: ReferencePoint, resamples: int = RESAMPLES, seed: int = 1
              ) -> tuple[dict[str, dict[str, tuple[float, float, float]]], dict[str, np.ndarray], int]:
    """Estimate and 95 % interval of every quantity.

    The half width is Student's t for S seeds, times the standard deviation over resamples, times √(S/(S - 1)), the
    factor by which resampling whole seeds underestimates it.

    Returns
    -------
    {arm: {quantity: (estimate, low, high)}}, {arm: (4, 4) covariance of ln_life, b, c, ln k},
    number of resamples with a fit
    """
    found = quantities(times, reference)
    rng = np.random.default_rng(seed)
    draws: list[dict[str, dict[str, float]]] = []
    for _ in range(resamples):
        try:
            draws.append(quantities(resample(times, rng), reference))
        except InputError:  # too few failures in this resample
            continue
    seeds = min(len(np.unique(times.seed[times.arm == a])) for a in np.unique(times.arm))
    normal = float(stats.norm.ppf(0.5 + LEVEL / 2))
    t = float(stats.t.ppf(0.5 + LEVEL / 2, seeds - 1)) * np.sqrt(seeds / (seeds - 1)) if seeds > 1 else normal
    draws = [d for d in draws if set(d) == set(found)]
    out: dict[str, dict[str, tuple[float, float, float]]] = {}
    covariance = {}
    for name, values in found.items():
        out[name] = {}
        for key, value in values.items():
            samples = np.array([d[name][key] for d in draws])
            half = t * samples.std(ddof=1) if len(samples) > 1 else np.nan
            out[name][key] = (value, value - half, value + half)
        if "k" in values and len(draws) > 2:
            table = np.array([[d[name][q] for q in ("ln_life", "b", "c")] + [np.log(d[name]["k"])] for d in draws])
            covariance[name] = np.cov(np.nan_to_num(table), rowvar=False) * (t / normal) ** 2
    return out, covariance, len(draws)


def naive(times: FailureTimes, reference: ReferencePoint) -> dict[str, float]:
    """ln_life and b by a common mistake: least squares on ln of cell means, with capped runs taken as failures."""
    cells = np.unique(np.stack([times.n, times.temperature]), axis=1).T
    mean = np.array([np.log(times.time[(times.n == n) & (times.temperature == t)].mean()) for n, t in cells])
    slopes = np.column_stack([np.log(cells[:, 0] / reference.n),
                              1000 * (1 / cells[:, 1] - reference.inverse_temperature)])
    vary = np.flatnonzero(np.ptp(slopes, axis=0) > 1e-9)
    beta, *_ = np.linalg.lstsq(np.column_stack([np.ones(len(cells)), slopes[:, vary]]), mean, rcond=None)
    return {"ln_life": float(beta[0]), "b": float(beta[1]) if 0 in vary else np.nan}


def capped_as_failed(times: FailureTimes) -> FailureTimes:
    """Data of a second common mistake: every capped run is entered as a failure at its cap."""
    return replace(times, lower=np.minimum(times.lower, times.time), upper=times.time)


# ------------------------------------------------------------------------------------------------ goodness of fit
def cells(times: FailureTimes) -> list[tuple[str, float, float, np.ndarray]]:
    """(arm, n, temperature, rows) of every cell of the study, sorted."""
    keys = sorted(set(zip(times.arm.tolist(), times.n.tolist(), times.temperature.tolist())))
    return [(a, n, t, np.flatnonzero((times.arm == a) & (times.n == n) & (times.temperature == t))) for a, n, t in keys]


def hazard(times: FailureTimes, fit: ArmFit) -> np.ndarray:
    """(r,) cumulative hazard of each run by the fit of its arm: the Cox-Snell residual."""
    x, _, _ = design(times, fit.reference, fit.models != ("all",))
    low = np.log(np.maximum(times.lower, 1e-300))
    end = np.where(times.failed & (times.lower > 0), 0.5 * (low + np.log(times.time)), np.log(times.time))
    return np.exp((end - x @ fit.fit.beta) / fit.fit.s)


def goodness(times: FailureTimes, fit: ArmFit) -> dict[str, Any]:
    """chi^2 and p of the failures of cells with at least one expected; a cell expects its sum of cumulative hazards."""
    cumulative = hazard(times, fit)
    observed, expected = (np.array([v[rows].sum() for *_, rows in cells(times)]) for v in (times.failed, cumulative))
    used = expected >= 1
    degrees = int(used.sum()) - len(fit.terms) - 1
    chi_sq = float(((observed - expected)[used] ** 2 / expected[used]).sum())
    return {"chi_sq": chi_sq, "freedoms": degrees,
            "p": float(stats.chi2.sf(chi_sq, degrees)) if degrees > 0 else None, "expected": expected.tolist()}


def families(times: FailureTimes, fit: ArmFit) -> dict[str, float]:
    """Akaike information criterion of several distributions with the same terms, by lifelines; lower is better."""
    import lifelines
    import pandas

    x, _, _ = design(times, fit.reference, False)
    names = list(fit.terms)
    table = pandas.DataFrame(x[:, 1:] * np.where(np.array(names) == "1/T", 1000.0, 1.0), columns=names)
    # times near one keep the optimizer well scaled; the criterion is that of probabilities and has no unit
    unit = float(np.exp(np.log(times.time).mean()))
    table["lower"], table["upper"] = times.lower / unit, times.upper / unit
    out = {}
    for name, fitter in FAMILIES.items():
        try:
            found = getattr(lifelines, fitter)().fit_interval_censoring(table, "lower", "upper")
            out[name] = float(found.AIC_)
        except Exception:  # any error of lifelines' optimizer; a distribution that does not converge is omitted
            continue
    return out


def kaplan_meier(times: FailureTimes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """t (k,) fs, survival (k,) and its 95 % band, by lifelines; a failure counts from the check that detected it."""
    from lifelines import KaplanMeierFitter

    found = KaplanMeierFitter().fit(times.time, times.failed)
    band = found.confidence_interval_.to_numpy()
    return (found.survival_function_.index.to_numpy(float), found.survival_function_.to_numpy()[:, 0], band[:, 0],
            band[:, 1])
