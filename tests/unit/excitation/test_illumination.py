"""The dose of light: weights that pulses leave, depth, spot, delay, fluence."""

import numpy as np
import pytest

from rxmdnn.cell import Cell
from rxmdnn.excitation.illumination import Beam, Illumination, Pulse, weight_of_fluence
from rxmdnn.excitation.pulses import GaussianPulse, SechPulse
from rxmdnn.excitation.regions import Slab
from rxmdnn.excitation.weights import relax, snapped

BOX = Cell(np.diag([40.0, 40.0, 400.0]))
CENTER = np.array([[20.0, 20.0, 10.0]])


def weights_after(light, x, dt, start=-400.0, stop=400.0, lifetime=np.inf):
    w = np.zeros(len(x))
    for t in np.arange(start, stop, dt):
        w, _ = relax(w, light.dose(x, BOX, t, t + dt), dt / lifetime)
    return w


@pytest.mark.parametrize("dt", [0.7, 13.0, 300.0])
@pytest.mark.parametrize("amount", [1e-3, 0.4, 1.0])
def test_a_pulse_leaves_its_weight_whatever_the_time_step(dt, amount):
    light = Illumination([Pulse(GaussianPulse(0.0, 50.0), amount)], Beam())
    assert weights_after(light, CENTER, dt)[0] == pytest.approx(amount, abs=1e-12)


def test_two_pulses_excite_what_the_other_has_left():
    light = Illumination([Pulse(GaussianPulse(-100.0, 20.0), 0.3), Pulse(SechPulse(50.0, 30.0), 0.5)], Beam())
    assert weights_after(light, CENTER, 5.0)[0] == pytest.approx(1 - 0.7 * 0.5, abs=1e-12)


def test_a_rate_excites_by_its_integral():
    shape = GaussianPulse(0.0, 50.0)
    light = Illumination([Pulse(shape, 0.01, is_rate=True)], Beam())
    assert weights_after(light, CENTER, 2.0)[0] == pytest.approx(1 - np.exp(-0.01 * shape.area), rel=1e-9)


def test_light_and_decay_follow_the_rate_equation():
    """Against the same equation by small Euler steps, and what has decayed is what is missing."""
    dose, loss = np.array([0.0, 0.3, 2.0, 0.0]), 0.7
    w = np.array([0.5, 0.1, 0.0, 0.0])
    new, decayed = relax(w, dose, loss)
    n, fine, lost = 200000, w.copy(), np.zeros(4)
    for _ in range(n):
        lost += loss * fine / n
        fine += (dose * (1 - fine) - loss * fine) / n
    np.testing.assert_allclose(new, fine, atol=2e-5)
    np.testing.assert_allclose(decayed, lost, atol=2e-5)
    assert new[0] == pytest.approx(0.5 * np.exp(-0.7), abs=1e-15) and new[3] == 0.0
    np.testing.assert_array_equal(relax(w, np.zeros(4), 0.0), [w, np.zeros(4)])


def test_small_weights_count_as_none():
    np.testing.assert_array_equal(snapped(np.array([0.0, 0.009, 0.011, 0.5, 0.989, 0.995, 1.0]), 0.01),
                                  [0.0, 0.0, 0.011, 0.5, 0.989, 1.0, 1.0])
    np.testing.assert_array_equal(snapped(np.array([0.0, 1e-300, 1.0]), 0.0), [0.0, 1e-300, 1.0])


def test_depth_spot_and_delay():
    beam = Beam(np.array([0.0, 0.0, -1.0]), index=4.0, depth=100.0, surface=-300.0, spot=(10.0, (0.5, 0.5, 0.0)))
    x = np.array([[20.0, 20.0, 300.0], [20.0, 20.0, 200.0], [25.0, 20.0, 300.0], [20.0, 20.0, 350.0],
                  [20.0 + 40.0, 20.0, 300.0]])
    profile, delay = beam.reaches(x, BOX)
    np.testing.assert_allclose(profile, [1.0, np.exp(-1), np.exp(-0.5), 1.0, 1.0], rtol=1e-12)
    np.testing.assert_allclose(delay, [0.0, 400.0 / 2997.92458, 0.0, 0.0, 0.0], rtol=1e-12)
    light = Illumination([Pulse(GaussianPulse(0.0, 50.0), 0.5)], beam)
    np.testing.assert_allclose(weights_after(light, x, 10.0), 0.5 * profile, atol=1e-9)
    half = light.dose(x[:2], BOX, -1e3, 0.0)
    assert half[0] > light.dose(x[:1], BOX, -1e3, 0.0 - delay[1])[0] > 0
    assert half[1] == pytest.approx(Pulse(GaussianPulse(0.0, 50.0), 0.5 * np.exp(-1)).dose(
        np.ones(1), np.array([-1e3]), np.array([-delay[1]]))[0], rel=1e-12)


def test_light_acts_while_it_travels_through_the_cell():
    pulse = Pulse(GaussianPulse(0.0, 10.0), 0.5)
    assert Illumination([pulse], Beam()).acts(29.0, 30.0, BOX)
    assert not Illumination([pulse], Beam()).acts(30.0, 31.0, BOX)
    late = Illumination([pulse], Beam(np.array([0.0, 0.0, 1.0]), surface=0.0))
    assert late.acts(30.0, 31.0, BOX) and not late.acts(31.0, 32.0, BOX)
    assert not Illumination([], Beam()).acts(-1e9, 1e9, BOX)


def test_regions_limit_the_light():
    light = Illumination([Pulse(GaussianPulse(0.0, 50.0), 0.5)], Beam(), [Slab(2, 0.5, 50.0, 0.0)])
    x = np.array([[1.0, 1.0, 200.0], [1.0, 1.0, 251.0]])
    np.testing.assert_allclose(weights_after(light, x, 10.0), [0.5, 0.0], atol=1e-12)


def test_a_fluence_is_a_density_of_carriers():
    """1 mJ/cm^2 of 1.55 eV photons absorbed within 1 um: 4.03e19 carriers per cm^3."""
    photons = 1e-3 / (1.55 * 1.602176634e-19)  # per cm^2
    density = 0.7 * photons / 1e-4 / 1e24  # per Å^3
    assert weight_of_fluence(1.0, 0.3, 1e4, 1.55, 1e-4) == pytest.approx(density / 1e-4, rel=1e-9)


def test_a_saturated_surface_is_excited_down_to_the_depth_where_its_carriers_suffice():
    """w = min(1, W exp(-d/δ)), not min(1, W) exp(-d/δ)."""
    light = Illumination([Pulse(GaussianPulse(0.0, 50.0), 3.0)], Beam(np.array([0.0, 0.0, 1.0]), 0.0, 100.0, 0.0))
    x = np.array([[0.0, 0.0, z] for z in (0.0, 50.0, 200.0)])
    np.testing.assert_allclose(weights_after(light, x, 10.0), [1.0, 1.0, 3.0 * np.exp(-2.0)], atol=1e-9)
