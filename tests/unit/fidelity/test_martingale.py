"""The anytime-valid alarm: exact bets, false alarms of clean runs of any length, detection of shifts, its state."""

import json

import numpy as np
import pytest
from scipy import integrate, signal, stats

from rxmdnn.fidelity import martingale
from rxmdnn.fidelity.criteria import close_edges
from rxmdnn.fidelity.martingale import Martingale, Scores, add, log_bet, log_wealth
from rxmdnn.fidelity.tail import Tail

RUNS, ALPHA = 1000, 0.05


def test_a_bet_is_the_mixture_of_powers_and_has_mean_one():
    for p in (1e-12, 1e-3, 0.3, 0.9, 0.9999, 0.999999, 1.0):
        exact, _ = integrate.quad(lambda e, p=p: e * p ** (e - 1), 0, 1, epsabs=0, epsrel=1e-11, limit=200)
        assert np.exp(log_bet(p)) == pytest.approx(exact, rel=1e-6)
    # ∫_a^1 e(p) dp = 1 - ∫_0^1 a^ε dε
    mean, _ = integrate.quad(lambda x: np.exp(log_bet(np.exp(-x)) - x), 0, -np.log(1e-4), epsrel=1e-10)
    assert mean == pytest.approx(1 - (1 - 1e-4) / -np.log(1e-4), rel=1e-6)
    assert np.isfinite(log_bet(0.0))


def wealth_of(p):
    """(blocks, runs) W of p-values (blocks, runs)."""
    bets, out = np.full(p.shape[1], -np.inf), []
    for t, row in enumerate(p, 1):
        bets = add(bets, t, row)
        out.append(np.exp(log_wealth(bets, t)))
    return np.array(out)


def test_the_wealth_is_the_mixture_over_beginnings():
    p = np.random.default_rng(0).uniform(size=(6, 1)) ** 2
    e, t = np.exp(log_bet(p[:, 0])), 6
    direct = sum(np.prod(e[s - 1:]) / (s * (s + 1)) for s in range(1, t + 1)) + 1 / (t + 1)
    assert wealth_of(p)[-1, 0] == pytest.approx(direct, rel=1e-12)


def block_values(law, rng, blocks, atoms=50):
    """(blocks, runs) p-values of the largest of 50 scores, by the tail of 20,000 clean samples; Bonferroni."""
    tail = Tail.fit(stats.norm.rvs(size=20000, random_state=rng))
    largest = law.ppf(rng.uniform(size=(blocks, RUNS)) ** (1 / atoms))
    exceeded = np.frompyfunc(tail.exceedance, 1, 1)(largest).astype(float)
    return np.minimum(1.0, atoms * exceeded)


def test_clean_runs_of_any_length_rarely_alarm():
    """At most 5 % of 1,000 runs, whatever their length; with exact p-values, and with those of calibrated scores."""
    rng = np.random.default_rng(1)
    exact = wealth_of(rng.uniform(size=(3000, RUNS)))
    alarms = (exact >= 1 / ALPHA).any(axis=0).mean()
    assert 0 < alarms <= ALPHA  # not so tight that it never alarms
    p = block_values(stats.norm(), rng, 400)
    assert (p < 1).any() and (wealth_of(p) >= 1 / ALPHA).any(axis=0).mean() <= ALPHA


def test_correlated_scores_need_blocks():
    """Scores with a memory of 10 checks: one bet per check alarms too often, one bet per 10 checks does not."""
    rng, atoms, a = np.random.default_rng(3), 20, np.exp(-0.1)
    tail = Tail.fit(stats.norm.rvs(size=20000, random_state=rng))
    x = signal.lfilter([np.sqrt(1 - a * a)], [1, -a], rng.normal(size=(400, RUNS, atoms), scale=1.0), axis=0)[100:]
    largest = x.max(axis=2)
    alarms = []
    for block in (1, 10):
        p = np.frompyfunc(tail.exceedance, 1, 1)(largest.reshape(-1, block, RUNS).max(axis=1)).astype(float)
        alarms.append((wealth_of(np.minimum(1.0, atoms * block * p)) >= 1 / ALPHA).any(axis=0).mean())
    assert alarms[0] > ALPHA >= alarms[1]


def test_a_shift_is_detected_also_after_a_long_normal_time():
    rng = np.random.default_rng(2)
    clean, odd = block_values(stats.norm(), rng, 300), block_values(stats.norm(loc=2.0), rng, 60)
    alarms = wealth_of(np.vstack([clean, odd])) >= 1 / ALPHA
    assert alarms[:300].any(axis=0).mean() <= ALPHA and alarms.any(axis=0).mean() > 0.99
    first = np.argmax(alarms[300:], axis=0)[~alarms[:300].any(axis=0)]
    assert np.median(first) <= 15


@pytest.fixture
def scores():
    tails = {"force": {"H": Tail(1.0, 0.5, 0.0, 0.05, 5000), "O": Tail(1.0, 0.5, 0.0, 0.05, 5000)},
             "pair": {"H-H": Tail(-np.log(1.2), 0.1, 0.0, 0.05, 5000)}}
    return Scores(("H", "O"), tails, np.zeros((2, 2)), {"force", "pair"}, np.array([3, 0]))


def test_the_smallest_p_value_of_a_check(scores):
    """Tails of absent species are not tests; forces and distances count."""
    assert scores.tests == 6 and scores.reach == pytest.approx(1.2)
    ends = np.array([0, 1]), np.array([1, 0])
    near, far = (close_edges(*ends, np.array([[r, 0, 0], [-r, 0, 0]]), 3.0) for r in (1.0, 2.0))
    species, f = np.zeros(3, int), np.zeros((3, 3))
    assert scores.least(far, species, f, None, None) == 1.0
    pair = scores.tails["pair", "H-H"].exceedance(0.0)
    assert scores.least(near, species, f, None, None) == pytest.approx(pair) and 0 < pair < 0.05
    f[1, 2] = 9.0
    assert scores.least(near, species, f, None, None) == scores.tails["force", "H"].exceedance(9.0) < pair
    f[1, 2] = np.nan
    assert scores.least(near, species, f, None, None) == 0.0


def test_blocks_alarm_restart_and_state(scores):
    one = Martingale(ALPHA, 2, scores)
    for least in (1.0, 1e-4, 0.5):
        one.look(least)
    assert one.blocks == 1 and one.seen == 1 and one.wealth == pytest.approx(
        0.5 * np.exp(log_bet(1e-4 * 6 * 2)) + 0.5, rel=1e-9)
    two = Martingale(ALPHA, 2, scores)
    two.resume(json.loads(json.dumps(one.state())))
    for m in (one, two):
        m.look(1e-9)
    assert one.state() == two.state() and one.alarmed
    one.restart()
    assert one.wealth == 1.0 and not one.alarmed
    two.resume(json.loads(json.dumps(one.state())))
    assert two.wealth == 1.0
    one.look(0.5)
    one.restart()  # a rollback without an alarm drops the block that has begun
    assert one.seen == 0 and one.blocks == 0 and "false in at most 5 % of runs" in one.describe()
    assert martingale.SMALLEST > 0
