"""Shapes of pulses: height, width, and the part that has passed, which is the integral of the height."""

import numpy as np
import pytest

from rxmdnn.excitation.pulses import FlatPulse, GaussianPulse, SechPulse, TablePulse

SHAPES = {
    "gauss": GaussianPulse(120.0, 50.0), "sech2": SechPulse(120.0, 50.0), "flat": FlatPulse(120.0, 50.0, 10.0),
    "box": FlatPulse(120.0, 50.0, 1e-3),
    "table": TablePulse(np.array([70.0, 95.0, 145.0, 170.0]), np.array([0.0, 1, 1, 0]))}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_what_has_passed_is_the_integral_of_the_height(shape):
    t = np.linspace(shape.begin, shape.end, 400001)
    sums = np.concatenate([[0.0], np.cumsum(0.5 * (shape.at(t)[1:] + shape.at(t)[:-1]) * np.diff(t))])
    assert sums[-1] == pytest.approx(shape.area, rel=1e-6)
    np.testing.assert_allclose(shape.passed(t), sums / shape.area, atol=2e-6)
    assert shape.passed(shape.begin - 1.0) == 0.0 and shape.passed(shape.end + 1e9) == 1.0
    assert shape.at(shape.begin - 1e-9) == 0.0 and shape.at(shape.end + 1e-9) == 0.0


@pytest.mark.parametrize("name", ["gauss", "sech2", "flat"])
def test_half_the_height_at_half_the_width(name):
    shape = SHAPES[name]
    assert shape.at(120.0) == 1.0 and shape.passed(120.0) == pytest.approx(0.5)
    np.testing.assert_allclose(shape.at(np.array([95.0, 145.0])), 0.5, rtol=1e-12)


def test_a_pulse_acts_between_its_begin_and_end():
    shape = SHAPES["flat"]
    assert (shape.begin, shape.end) == (90.0, 150.0)
    assert shape.acts(80.0, 91.0) and shape.acts(149.0, 160.0) and shape.acts(0.0, 300.0)
    assert not shape.acts(0.0, 90.0) and not shape.acts(150.0, 151.0)
