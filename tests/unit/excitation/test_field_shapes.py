"""E(t): values, and means over a step against quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad

from rxmdnn.deck.fields import FieldLine
from rxmdnn.excitation.field_shapes import mean, total, value

Z = np.array([0.0, 0.0, 2.0])
LINES = {
    "constant": FieldLine("constant", Z),
    "ramp": FieldLine("ramp", Z, {"t0": 3.2, "t1": 7.7}),
    "sine": FieldLine("sine", Z, {"frequency": 30.0, "phase": 40.0}),
    "pulse": FieldLine("pulse", Z, {"t0": 5.0, "FWHM": 4.0, "frequency": 150.0, "phase": 25.0}),
    "unipolar": FieldLine("pulse", Z, {"t0": 5.0, "FWHM": 0.7, "frequency": 0.0, "phase": 0.0}),
    "table": FieldLine("table", Z, table=np.array([[1.0, 1.3, 4.0, 6.5], [0.7, -1.0, 2.0, 0.5]])),
}


@pytest.mark.parametrize("name", LINES)
def test_mean_over_a_step_is_the_integral(name):
    line = LINES[name]
    points = [] if line.table is None else line.table[0].tolist()
    points += [line.parameters[k] for k in ("t0", "t1") if k in line.parameters]
    for t, dt in ((0.0, 0.5), (3.0, 1.0), (4.4, 2.0), (0.0, 10.0), (7.0, 0.25), (100.0, 1.0)):
        inside = [p for p in points if t < p < t + dt]
        exact = quad(lambda time, line=line: value(line, time)[2], t, t + dt, points=inside or None, limit=400,
                     epsabs=1e-13, epsrel=1e-13)[0] / dt
        assert mean(line, t, dt)[2] == pytest.approx(exact, abs=1e-11)
        assert not mean(line, t, dt)[:2].any()


def test_values_of_the_shapes():
    assert value(LINES["ramp"], 0.0)[2] == 0.0
    assert value(LINES["ramp"], 5.45)[2] == pytest.approx(1.0)
    assert value(LINES["ramp"], 50.0)[2] == 2.0
    assert value(LINES["sine"], 0.0)[2] == pytest.approx(2.0 * np.sin(np.radians(40.0)))
    assert value(FieldLine("sine", Z, {"frequency": 1.0, "phase": 0.0}), 250.0)[2] == pytest.approx(2.0)  # 1 THz
    assert value(LINES["unipolar"], 5.0)[2] == 2.0
    assert value(LINES["unipolar"], 5.35)[2] == pytest.approx(1.0)  # half at FWHM/2
    assert value(LINES["table"], 0.9)[2] == 0.0
    assert value(LINES["table"], 1.15)[2] == pytest.approx(-0.3)


def test_terms_add():
    lines = [LINES["ramp"], LINES["sine"]]
    np.testing.assert_allclose(total(lines, 4.0, 1.0), mean(lines[0], 4.0, 1.0) + mean(lines[1], 4.0, 1.0))
    assert not total([], 4.0, 1.0).any()
