"""Survival statistics: exact results, agreement with lifelines, synthetic times of a known exponent, biased fits."""

import numpy as np
import pandas
import pytest
from lifelines import WeibullAFTFitter

from rxmdnn.errors import InputError
from rxmdnn.survival import statistics
from rxmdnn.survival.statistics import FailureTimes, ReferencePoint, fit_arm, weibull


def synthetic(exponents, k=1.3, cap=60e3, seeds=8, replicas=8, check=25.0, frailty=0.3, seed=0, shared=True):
    """Runs of a study with Weibull times to failure; a failure is detected at the next check."""
    rng = np.random.default_rng(seed)
    rows = []
    effects = frailty * rng.normal(size=seeds)
    for arm, b in exponents.items():
        for s in range(seeds):
            effect = effects[s] if shared else frailty * rng.normal()
            for n in (32, 64, 128, 256, 512):
                for t in (500.0, 600.0):
                    scale = 3e4 * np.exp(effect + b * np.log(n / 128) + 3000 * (1 / t - 1 / 550))
                    for x in scale * rng.exponential(size=replicas) ** (1 / k):
                        steps = np.floor(x / check) * check
                        rows.append((arm, f"{arm}{s}", s, n, t, min(steps, cap), steps + check if x < cap else np.inf))
    a, m, s, n, t, lower, upper = zip(*rows)
    return FailureTimes(np.array(a), np.array(m), np.array(s), np.array(n, float), np.array(t), np.array(lower),
                 np.array(upper))


def test_the_exponential_law_has_a_closed_answer():
    """k free, but times at the quantiles of one law: all terms are found; a rate is failures over time at k = 1."""
    u = (np.arange(4000) + 0.5) / 4000
    times = 700.0 * (-np.log(u)) ** (1 / 2.5)
    fit = weibull(np.ones((4000, 1)), times, times)
    assert fit.beta[0] == pytest.approx(np.log(700.0), abs=2e-3) and 1 / fit.s == pytest.approx(2.5, rel=5e-3)
    # the score of the intercept is zero: sum of hazards = failures
    capped = np.minimum(times, 600.0)
    fit = weibull(np.ones((4000, 1)), capped, np.where(times < 600, capped, np.inf))
    assert np.exp((np.log(capped) - fit.beta[0]) / fit.s).sum() == pytest.approx((times < 600).sum(), rel=1e-9)


@pytest.mark.parametrize("kind", ["right", "interval"])
def test_equal_to_lifelines(kind):
    times = synthetic({"A": -0.29}, seeds=3, replicas=4, cap=30e3, check=2000.0)
    reference = ReferencePoint.of(times)
    x, _, terms = statistics.design(times, reference, False)
    x[:, 2] *= 1000
    table = pandas.DataFrame(x[:, 1:], columns=list(terms))
    lifelines_fit = WeibullAFTFitter()
    if kind == "right":
        table["t"], table["event"] = times.time / 1e4, times.failed
        fit = weibull(x, times.time / 1e4, np.where(times.failed, times.time / 1e4, np.inf))
        lifelines_fit.fit(table, "t", "event")
    else:
        table["lower"], table["upper"] = times.lower / 1e4, times.upper / 1e4
        fit = weibull(x, times.lower / 1e4, times.upper / 1e4)
        lifelines_fit.fit_interval_censoring(table, "lower", "upper")
    theirs = lifelines_fit.params_["lambda_"]
    assert fit.beta == pytest.approx([theirs["Intercept"], theirs["ln N"], theirs["1/T"]], abs=2e-4)
    assert -np.log(fit.s) == pytest.approx(lifelines_fit.params_["rho_"]["Intercept"], abs=2e-4)
    assert fit.log_likelihood == pytest.approx(lifelines_fit.log_likelihood_, abs=1e-4)
    errors = lifelines_fit.standard_errors_["lambda_"]
    assert np.sqrt(np.diag(fit.covariance)[:3]) == pytest.approx(
        [errors["Intercept"], errors["ln N"], errors["1/T"]], rel=1e-3)


def test_known_exponents_are_recovered_and_naive_ones_are_biased():
    times = synthetic({"A": -0.29, "B": -0.14}, cap=25e3, seed=7, replicas=24)
    assert 0.2 < 1 - times.failed.mean() < 0.5555
    reference = ReferencePoint.of(times)
    found, _, fitted = statistics.intervals(times, reference, resamples=100)
    assert fitted == 100
    for arm, b in (("A", -0.29), ("B", -0.14)):
        value, low, high = found[arm]["b"]
        assert low < b < high and high - low < 0.2
        assert found[arm]["k"][1] < 1.3 < found[arm]["k"][2] and found[arm]["c"][1] < 3000 < found[arm]["c"][2]
        for wrong in (statistics.naive(times[times.arm == arm], reference)["b"],
                      fit_arm(statistics.capped_as_failed(times[times.arm == arm]), reference).values["b"]):
            assert abs(wrong) < 0.75 * abs(b) and wrong > value + 0.03
    difference = found["B against A"]["b"]
    assert difference[1] < 0.15 < difference[2] and difference[1] > 0
    assert found["B against A"]["ln_life"][1] < 0 < found["B against A"]["ln_life"][2]


def test_intervals_cover_with_models_that_differ():
    """Over studies with strong frailty the seeds' interval of the ratio of times covers; the curvature's does not."""
    covered = {"seeds": 0, "curvature": 0, "b": 0}
    for study in range(30):
        times = synthetic({"A": -0.3, "B": -0.3}, seeds=6, replicas=2, frailty=0.6, seed=study, shared=False)
        reference = ReferencePoint.of(times)
        found, _, _ = statistics.intervals(times, reference, resamples=40, seed=study)
        value, low, high = found["B against A"]["ln_life"]
        error = np.hypot(*(fit_arm(times[times.arm == a], reference).errors["ln_life"] for a in "AB"))
        covered["seeds"] += low < 0 < high
        covered["curvature"] += abs(value) < 1.96 * error
        covered["b"] += found["A"]["b"][1] < -0.3 < found["A"]["b"][2]
    assert covered["seeds"] >= 26 and covered["b"] >= 26 and covered["curvature"] <= 20


def test_the_weakest_link_is_recognized():
    linked = statistics.intervals(synthetic({"A": -1 / 1.3}, k=1.3, cap=3e5), REF, 60)[0]["A"]["link"]
    free = statistics.intervals(synthetic({"A": -0.29}, k=1.3, cap=3e5), REF, 60)[0]["A"]["link"]
    assert linked[1] < 0 < linked[2] and free[1] > 0.2


REF = ReferencePoint(128.0, 1 / 550)


def test_goodness_of_fit_sees_a_wrong_law():
    times = synthetic({"A": -0.3}, frailty=0.0, cap=1e6)
    fit = fit_arm(times, REF)
    assert statistics.goodness(times, fit)["p"] > 0.01
    assert statistics.hazard(times, fit).mean() == pytest.approx(1.0, abs=0.02)
    bent = FailureTimes(times.arm, times.model, times.seed, times.n, times.temperature,
                 times.lower * np.where(times.n == 512, 6.0, 1.0), times.upper * np.where(times.n == 512, 6.0, 1.0))
    assert statistics.goodness(bent, fit_arm(bent, REF))["p"] < 1e-3
    aic = statistics.families(times, fit)
    assert aic["Weibull"] < min(aic["log-normal"], aic["log-logistic"]) - 10


def test_kaplan_meier_by_hand():
    upper = np.array([1.0, 2.0, np.inf, 4.0])
    times = FailureTimes(*(np.array(["a"] * 4),) * 2, *(np.ones(4),) * 3, np.array([0.0, 1.0, 3.0, 3.0]), upper)
    t, s, low, high = statistics.kaplan_meier(times)
    assert list(s[np.searchsorted(t, [0, 1, 2, 4])]) == pytest.approx([1, 0.75, 0.5, 0.0])
    assert (low[1:-1] < s[1:-1]).all() and (high[1:-1] > s[1:-1]).all()


def test_no_failures_is_a_message():
    times = synthetic({"A": -0.3}, cap=1.0, seeds=2, replicas=1)
    with pytest.raises(InputError, match="no run failed"):
        fit_arm(times, REF)
