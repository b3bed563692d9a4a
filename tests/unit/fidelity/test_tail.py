"""Thresholds by extreme-value theory: false alarms stay within the stated rate, far beyond the samples."""

import numpy as np
import pytest
from scipy import stats

from rxmdnn.errors import InputError
from rxmdnn.fidelity.tail import Tail

LAWS = {"normal": stats.norm(), "chi2": stats.chi2(30), "exponential": stats.expon(), "bounded": stats.beta(5, 5),
        "Pareto 0.1": stats.genpareto(0.1), "Pareto 0.3": stats.genpareto(0.3)}


@pytest.mark.parametrize("name", LAWS)
def test_false_alarms_stay_within_the_stated_rate_at_any_size(name):
    """The exact probability beyond the level, over many calibrations of 20,000 samples."""
    law, rng = LAWS[name], np.random.default_rng(5)
    for size in (2e6, 2e9):  # N atoms x S checks
        alarms = np.array([law.sf(Tail.fit(law.rvs(20000, random_state=rng)).level(0.01 / size)) * size
                           for _ in range(12)])
        assert np.mean(alarms <= 0.01) >= 0.9 and alarms.max() <= 0.1, alarms


@pytest.mark.parametrize("power", [4, 8])
def test_late_power_laws_are_near_the_rate_at_a_hundred_times_the_samples(power):
    """Student's t gets heavier beyond the samples than a fit to them says; on average over calibrations."""
    law, rng = stats.t(power), np.random.default_rng(5)
    alarms = [law.sf(Tail.fit(law.rvs(20000, random_state=rng)).level(0.01 / 2e6)) * 2e6 for _ in range(12)]
    assert np.mean(alarms) <= 0.015 and np.median(alarms) <= 0.01 and max(alarms) <= 0.2, alarms


def test_a_level_is_no_higher_than_it_must_be():
    law, rng = stats.norm(), np.random.default_rng(6)
    level = Tail.fit(law.rvs(100000, random_state=rng)).level(1e-9)
    assert law.isf(1e-9) < level < 2.0 * law.isf(1e-9)


def test_the_formula_at_its_limits():
    tail = Tail(1.0, 2.0, 0.0, 0.1, 1000)
    assert tail.level(0.1) == tail.level(0.5) == 1.0
    assert tail.level(1e-4, errors=0.0) == pytest.approx(1 + 2 * np.log(1e3), rel=1e-4)
    assert Tail(1.0, 2.0, -0.3, 0.1, 1000).level(1e-9, 0.0) == pytest.approx(1 + 2 * np.log(1e8), rel=1e-4)
    assert Tail(1.0, 2.0, 0.3, 0.1, 1000).level(1e-4, 0.0) == pytest.approx(
        1 + stats.genpareto(0.3, scale=2.0).isf(1e-3), rel=1e-9)
    assert Tail.from_dict(tail.to_dict()) == tail


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.2])
def test_the_probability_of_a_value_is_the_inverse_of_the_level(shape):
    tail = Tail(1.0, 2.0, shape, 0.1, 1000)
    for p in (0.09, 1e-3, 1e-9):
        assert tail.exceedance(tail.level(p)) == pytest.approx(p, rel=1e-9)
        assert tail.exceedance(tail.level(p, 0.0), 0.0) == pytest.approx(p, rel=1e-9)
    assert tail.exceedance(1.0) == 1.0 and tail.exceedance(np.nan) == 0.0


def test_too_few_samples_and_no_tail():
    with pytest.raises(InputError, match="force H: 100 samples; a tail needs 200"):
        Tail.fit(np.zeros(100), "force H")
    with pytest.raises(InputError, match="all 1, so no tail"):
        Tail.fit(np.ones(1000))
