"""Ratios of times to failure with one shape for all arms, against studies whose truth is known."""

import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.survival.ratios import BOUND, CommonShape, common_shape, log_times, ratio
from rxmdnn.survival.statistics import FailureTimes, ReferencePoint

B, C, K = -0.9, 9000.0, 1.2
N, T = (64, 64, 256), (1200.0, 1500.0, 1800.0)
TRUTH = CommonShape(B, C, K, ReferencePoint(128.0, float(np.mean([1 / t for t in T]))))


def study(rng, lives, seeds=6, spread=0.6, cap=4000.0):
    """Runs of arms of these times to failure (fs, at the reference); models differ by ``spread`` in the logarithm."""
    rows = []
    for arm, life in lives.items():
        for s in range(1, seeds + 1):
            own = np.log(life) + spread * rng.standard_normal()
            for n in N:
                for t in T:
                    scale = np.exp(own + B * np.log(n / 128) + C * (1 / t - TRUTH.reference.inverse_temperature))
                    time = scale * rng.exponential() ** (1 / K)
                    end = np.ceil(time / 6.25) * 6.25
                    rows.append((arm, f"{arm}_{s}", s, n, t, *((end - 6.25, end) if end <= cap else (cap, np.inf))))
    arm, model, seed, n, t, lower, upper = map(np.array, zip(*rows))
    return FailureTimes(arm, model, seed, n.astype(float), t, lower, upper)


def test_the_shape_of_all_arms_is_found():
    found = common_shape(study(np.random.default_rng(1), {"a": 500.0, "b": 2000.0}, seeds=100, spread=0.0))
    assert found.b == pytest.approx(B, abs=0.1) and found.c == pytest.approx(C, rel=0.05)
    assert found.k == pytest.approx(K, rel=0.05) and found.reference.n == pytest.approx(128)


def test_one_temperature_and_size_have_no_slopes():
    times = study(np.random.default_rng(1), {"a": 500.0, "b": 2000.0}, seeds=40, spread=0.0)
    times = times[(times.n == 64) & (times.temperature == 1500)]
    shape = common_shape(times)
    assert (shape.b, shape.c) == (0.0, 0.0)
    assert ratio(times, "b", "a", shape).value == pytest.approx(4.0, rel=0.35)


def test_intervals_cover_the_truth():
    rng, inside = np.random.default_rng(2), 0
    for k in range(300):
        times = study(rng, {"a": 300.0, "b": 1500.0})
        r = ratio(times, "b", "a", common_shape(times), 60, k)
        inside += r.low <= 5.0 <= r.high
        assert r.seeds == 6
    assert inside >= 0.91 * 300


def test_by_hand():
    """k = 1: the scale is the exposure per failure."""
    shape = CommonShape(0.0, 0.0, 1.0, ReferencePoint(64.0, 1 / 1000))

    def runs(rows):
        arm, seed, lower, upper = map(np.array, zip(*rows))
        of = np.full(len(rows), 64.0)
        return FailureTimes(arm, np.char.add(arm, seed.astype(str)), seed, of, of * 0 + 1000.0, lower, upper)

    failed = [("a", 1, 90.0, 110.0), ("a", 2, 290.0, 310.0), ("b", 1, 800.0, np.inf), ("b", 2, 1190.0, 1210.0),
              ("b", 3, 1.0, 2.0)]
    times = runs(failed)
    r = ratio(times, "b", "a", shape)
    assert r.value == pytest.approx(2000.0 / 1 / (400.0 / 2)) and r.seeds == 2  # seed 3 is of b alone
    assert r.low < r.value < r.high
    assert log_times(times, shape)["b1"] == pytest.approx(np.log(800.0 / 0.5))
    none = runs([*failed[:3], ("b", 2, 1200.0, np.inf)])
    r = ratio(none, "b", "a", shape)
    assert r.value == r.high == np.inf and r.low == pytest.approx(2000.0 / BOUND / 200.0)
    r = ratio(runs([failed[0], ("b", 1, 8.0, 12.0)]), "b", "a", shape)
    assert r.value == pytest.approx(0.1) and np.isnan(r.low) and r.seeds == 1
    with pytest.raises(InputError, match="no training seed in common"):
        ratio(runs([failed[0], failed[4]]), "b", "a", shape)


def test_no_failures_are_one_message():
    times = study(np.random.default_rng(1), {"a": 1e12})
    with pytest.raises(InputError, match="no arm has two failures"):
        common_shape(times)
