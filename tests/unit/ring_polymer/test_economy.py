"""Fitted frequencies of economised rings, the stiffest mode of a model, and the choice of ω_max."""

import numpy as np
import pytest

from rxmdnn.cell import Cell
from rxmdnn.deck import language as decks
from rxmdnn.deck.run_table import RUN
from rxmdnn.engine.system import System
from rxmdnn.models.pair import Null
from rxmdnn.ring_polymer.economised import Economy, economy_notes, enough_beads, refusal
from rxmdnn.ring_polymer.economy import (
    exact_sum,
    fit,
    kinetic_share,
    multiplicity,
    neighbor_springs,
    reduced_frequency,
    ring_sum,
)
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.stiffest import largest_eigenpair, stiffest_mode
from rxmdnn.units import ACCELERATION, HBAR, KB, PER_CM
from tests.systems import argon

WAVE_NUMBERS = (400.0, 1080.0, 3400.0)
PUBLISHED = [  # K, P, rms of Trotter and of the fit up to 3600/cm, shares of Trotter, shares of the fit
    (160, 16, 0.167, 0.094, (0.994, 0.957, 0.723), (0.995, 1.061, 0.815)),
    (160, 24, 0.090, 0.021, (0.997, 0.980, 0.843), (0.997, 0.993, 0.958)),
    (160, 32, 0.055, 0.0054, (0.9985, 0.989, 0.902), (1.0001, 0.998, 0.989)),
    (160, 64, 0.015, 0.00002, (0.9996, 0.997, 0.973), (1.0, 1.0, 1.0)),
    (240, 24, 0.046, 0.004, (0.999, 0.991, 0.921), (1.0, 0.997, 0.993)),
    (77, 64, 0.056, 0.0055, (0.998, 0.988, 0.896), (1.0005, 0.997, 0.988)),
]


@pytest.mark.parametrize(("t", "p", "trotter", "rms", "shares", "fitted"), PUBLISHED)
def test_fits_have_their_known_errors(t, p, trotter, rms, shares, fitted):
    found = fit(p, reduced_frequency(3600.0, t))
    x = np.array([reduced_frequency(c, t) for c in WAVE_NUMBERS])
    assert found.trotter == pytest.approx(trotter, abs=6e-4)
    assert found.rms == pytest.approx(rms, rel=0.12, abs=5e-5 if rms < 0.01 else 6e-4)
    np.testing.assert_allclose(kinetic_share(neighbor_springs(p), p, x), shares, atol=6e-4)
    np.testing.assert_allclose(kinetic_share(found.x, p, x), fitted, atol=6e-4)


def test_the_exact_sum_is_that_of_the_matsubara_frequencies():
    x, k = np.array([1e-3, 0.1, 0.49999, 0.50001, 3.0, 40.0]), np.arange(1, 200_000)
    direct = [2.0 * (1.0 / ((2 * np.pi * k) ** 2 + a * a)).sum() + 2.0 / (4 * np.pi**2 * k[-1]) for a in x]
    np.testing.assert_allclose(exact_sum(x), direct, rtol=1e-9)


@pytest.mark.parametrize("p", [1, 2, 5, 6, 31])
def test_neighbor_springs_are_those_of_a_ring(p):
    """Their sum is the closed form of P beads, and Modes has the same frequencies."""
    x, t = np.array([0.5, 4.0, 20.0]), 77.0
    assert multiplicity(p).sum() == p - 1
    a = x / (2 * p)
    closed = 0.5 * x / np.tanh(p * np.arcsinh(a)) / np.sqrt(1 + a * a)
    np.testing.assert_allclose(1 + x**2 * ring_sum(neighbor_springs(p), p, x), closed, rtol=1e-12)
    given = Modes(p, neighbor_springs(p)).frequencies(t)
    np.testing.assert_allclose(given, Modes(p).frequencies(t), rtol=1e-12, atol=1e-15)


def test_a_fit_is_deterministic_and_close_to_matsubara_frequencies_with_many_beads():
    a, b = fit(64, 20.0), fit(64, 20.0)
    assert a.x.tobytes() == b.x.tobytes()
    np.testing.assert_allclose(a.x[:3], 2 * np.pi * np.arange(1, 4), rtol=0.05)
    assert a.rms < 1e-5


@pytest.mark.parametrize("x_max", [5.0, 32.4, 67.0])
def test_enough_beads_are_the_fewest_even_ones(x_max):
    n = enough_beads(x_max)
    assert fit(n, x_max).rms <= 0.02 < fit(n - 2, x_max).rms


def test_largest_eigenpair_of_a_matrix():
    rng = np.random.default_rng(3)
    q = np.linalg.qr(rng.normal(size=(60, 60)))[0]
    values = np.concatenate([np.linspace(-30.0, 1.0, 57), [8.0, 9.0, 10.0]])
    matrix = (q * values) @ q.T
    value, vector = largest_eigenpair(lambda v: (matrix @ v.ravel()).reshape(20, 3), rng.normal(size=(20, 3)))
    assert value == pytest.approx(10.0, rel=1e-3)
    assert abs(vector.ravel() @ q[:, -1]) == pytest.approx(1.0, abs=1e-2)


def test_the_stiffest_mode_is_the_highest_of_the_hessian():
    cell = Cell(np.eye(3) * 30.0)
    x = np.array([[10.0, 10, 10], [13.2, 10, 10], [10, 13.9, 10.3], [10.3, 9.0, 13.8], [16.9, 10.4, 10.2]])
    mass, species = np.array([39.95, 20.18, 39.95, 20.18, 20.18]), np.array([0, 1, 0, 1, 1], np.int32)
    system, h, n = System.of(argon(elements=("Ar", "Ne"), cutoff=9.0), cell, species, x), 1e-4, 15
    hessian = np.empty((n, n))
    for k in range(n):
        d = np.zeros(n)
        d[k] = h
        hessian[k] = (system.compute(cell, x - d.reshape(-1, 3)).forces
                      - system.compute(cell, x + d.reshape(-1, 3)).forces).ravel() / (2 * h)
    weight = np.repeat(1 / np.sqrt(mass), 3)
    values, vectors = np.linalg.eigh(ACCELERATION * weight[:, None] * hessian * weight)
    mode = stiffest_mode(system, x, mass)
    assert mode.per_cm == pytest.approx(PER_CM * np.sqrt(values[-1]), rel=1e-3)
    np.testing.assert_allclose(mode.shares, (vectors[:, -1].reshape(-1, 3) ** 2).sum(axis=1), atol=0.02)
    assert mode.named(["Ar", "Ne", "Ar", "Ne", "Ne"]) == "Ne 1 and Ar 0"
    assert mode.evaluations <= 40
    free = System.of(Null(("Ar", "Ne"), 3.0), cell, species, x)
    assert stiffest_mode(free, x, mass).per_cm == 0.0


DECK = "time {dt} 10\ntemperature {t} 1.0 1\nio_step 1 1\nensemble langevin 0.1\n{ring}\n"


def deck_of(ring, dt=0.5, t=160.0):
    return decks.parse(DECK.format(dt=dt, t=t, ring=ring), "rxmd.in", RUN)


@pytest.mark.parametrize(("ring", "said"), [
    ("pimd 32 eco 3600", None), ("pimd 16 eco", None), ("pimd 1 eco 3600", None), ("pimd 16 pimd", None),
    ("pimd 16 eco 3600\npimd_eco 0.1", None),
    ("pimd 16 eco 3600", "rxmd.in:5: pimd: eco: 16 beads are too few for 3600 1/cm at 160 K (beta hbar omega = 32.4): "
     "the rms error of the fitted frequencies is 0.094, above 0.02, and some modes have 6.4 % too much kinetic energy; "
     "use 26 beads, or accept it with 'pimd_eco 0.1'"),
])
def test_too_few_beads_are_refused_unless_asked_for(ring, said):
    assert refusal(deck_of(ring)) == said


@pytest.mark.parametrize(("ring", "dt", "stiffest", "said", "unsaid"), [
    ("pimd 32 eco 3600", 0.5, 3400.0, ["up to 3600 1/cm, beta hbar omega = 32.37: rms error 0.0054 (springs between "
     "neighbors: 0.055)", "the stiffest mode at the start, of H 1 and N 0, has 3400 1/cm, found with 20 evaluations of "
     "the forces"], ["WARNING", "rotates"]),
    ("pimd 32 eco", 0.5, 3590.0, ["evaluations of the forces; omega_max = 3600"], ["WARNING", "rotates"]),
    ("pimd 32 eco 3600", 0.5, 3610.0, ["WARNING: omega_max = 3600 1/cm is below the stiffest mode, of H 1 and N 0, "
     "3610 1/cm: modes above omega_max are not converged; write 'pimd 32 eco 3650'"], ["rotates"]),
    ("pimd 32 eco 3600\npimd_integrator baoab", 4.0, 3400.0, ["the fastest fitted mode rotates by"], []),
])
def test_notes_on_a_fit(ring, dt, stiffest, said, unsaid):
    deck = deck_of(ring, dt)
    economy = Economy(fit(32, reduced_frequency(3600.0, 160.0)), 3600.0, stiffest, "H 1 and N 0", 20)
    notes = "\n".join(economy_notes(deck, economy))
    assert all(text in notes for text in said) and not any(text in notes for text in unsaid)
    again = Economy.of_state(economy.state())
    assert "known from the checkpoint" in "\n".join(economy_notes(deck, again))
    assert again.fit.x.tobytes() == economy.fit.x.tobytes()


def test_reduced_frequencies_are_those_of_a_wave_number():
    assert reduced_frequency(PER_CM, 300.0) == pytest.approx(HBAR / (KB * 300.0))
    assert reduced_frequency(3600.0, 160.0) == pytest.approx(32.372, abs=1e-3)
