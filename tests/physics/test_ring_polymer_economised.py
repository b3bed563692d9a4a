"""Economised rings against exact answers: harmonic oscillators by every splitting, anharmonic wells, estimators."""

import numpy as np
import pytest

from rxmdnn.ring_polymer.economy import fit, kinetic_share
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.splitting import OPERATOR_SEQUENCES
from rxmdnn.units import HBAR, KB
from tests.physics.test_ring_polymer import NATURAL, density_matrix, fixed_point, rings_in_a_well


@pytest.mark.parametrize(("p", "x_max"), [(2, 1.0), (7, 5.0), (8, 12.0), (16, 12.0), (32, 32.4)])
@pytest.mark.parametrize("x", [0.3, 3.0, 10.0])
def test_harmonic_oscillators_have_the_energy_of_the_fit(p, x, x_max):
    """<V> by the linear map of BCOCB, at any stable step, is the share of the fit times the exact ħω/4 coth(x/2)."""
    omega, found = 0.3, fit(p, x_max)
    t = HBAR * omega / (KB * x)
    exact = 0.5 * HBAR * omega * 0.5 / np.tanh(0.5 * x)
    share = float(kinetic_share(found.x, p, np.array([x]))[0])
    for dt in (0.2 / omega, 1.0 / omega):
        u_sq = fixed_point("bcocb", p, omega, t, dt, found.x)[:, 0, 0].sum()  # in k_B T/(m ω²)
        assert 0.5 * KB * t * omega**2 * u_sq == pytest.approx(share * exact, rel=1e-6)
    if x <= x_max:
        assert abs(share - 1.0) < 4.0 * found.rms


@pytest.mark.parametrize("name", OPERATOR_SEQUENCES)
def test_every_splitting_takes_fitted_frequencies(name):
    """3400/cm at 160 K, 32 beads, a short step: 0.989 of the exact energy."""
    omega, t, found = 3400 * 2 * np.pi * 2.99792458e-5, 160.0, fit(32, 32.372)
    u_sq = fixed_point(name, 32, omega, t, 0.02, found.x)[:, 0, 0].sum()
    x = HBAR * omega / (KB * t)
    assert KB * t * omega**2 * u_sq / (HBAR * omega) * 2 * np.tanh(x / 2) == pytest.approx(0.989, abs=6e-4)


QUARTIC = (lambda q: -(q**3), lambda q: q**4 / 4)
MIXED = (lambda q: -q - 0.3 * q**2 - 0.04 * q**3, lambda q: q**2 / 2 + 0.1 * q**3 + 0.01 * q**4)


def exact_averages(force, potential):
    """<V>, <K>, <q²> of m = ħ = 1, β = 8, by products of density matrices of fourth order."""
    v, _ = density_matrix(512, 8.0, potential, force, True)
    x, step = np.linspace(-8.0, 8.0, 801, retstep=True)
    h = np.diag(1 / step**2 + potential(x)) - 0.5 / step**2 * (np.eye(801, k=1) + np.eye(801, k=-1))
    energies, states = np.linalg.eigh(h)
    weight = np.exp(-8.0 * (energies - energies[0]))
    density = (states**2 @ weight) / weight.sum()
    energy = float(energies @ weight / weight.sum())
    assert density @ potential(x) == pytest.approx(v, rel=2e-3)
    return v, energy - float(density @ potential(x)), float(density @ x**2)


@pytest.mark.parametrize(("well", "p", "deviations"), [
    (QUARTIC, 8, (-6.1, -6.1, 2.0)), (QUARTIC, 16, (-1.9, -1.8, 0.6)), (MIXED, 8, (-0.3, -0.7, 0.6))])
def test_anharmonic_wells_deviate_by_known_amounts(well, p, deviations):
    """<V>, <K> and <q²>, in %, at β = 8 with x_max = 12: thousands of rings at once; primitive and virial K agree."""
    (force, potential), beta = well, 8.0
    modes, rows = Modes(p, fit(p, 12.0).x), []
    frequency = modes.frequencies(NATURAL / beta)
    for u, q, a in rings_in_a_well(modes, force, 800):
        virial = 0.5 / beta - 0.5 * (u * a)[:, 1:].sum(axis=(1, 2))
        primitive = 0.5 * p / beta - 0.5 * (frequency[:, None] ** 2 * u**2).sum(axis=(1, 2))
        rows.append((potential(q).mean(axis=(1, 2)), virial, (q**2).mean(axis=(1, 2)), primitive))
    of_ring = np.array(rows).mean(axis=0)  # rings are independent of each other
    mean, error = of_ring.mean(axis=1), of_ring.std(axis=1, ddof=1) / np.sqrt(of_ring.shape[1])
    exact = np.array(exact_averages(force, potential))
    found, uncertain = 100 * (mean[:3] / exact - 1), 100 * error[:3] / exact
    assert (uncertain < 0.5).all()
    assert (np.abs(found - deviations) < 3 * uncertain + 0.1).all(), (found, uncertain)
    assert mean[3] == pytest.approx(mean[1], abs=4 * error[3])
