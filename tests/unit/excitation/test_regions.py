"""Regions: the rim, its gradient, the nearest image, several regions together."""

import numpy as np
import pytest

from rxmdnn.cell import Cell
from rxmdnn.excitation.regions import Slab, Sphere, fall, union
from tests.systems import TRICLINIC

REGIONS = {"slab": Slab(2, 0.9, 1.5, 2.0), "sphere": Sphere((0.1, 0.95, 0.5), 2.0, 3.0)}


def test_the_rim_is_smooth_and_a_step_without_rim():
    q = np.linspace(0.0, 8.0, 801)
    w, slope = fall(q, 2.0, 4.0)
    assert (w[q <= 2.0] == 1.0).all() and (w[q >= 6.0] == 0.0).all() and (np.diff(w) <= 0).all()
    assert w[400] == pytest.approx(0.5)
    np.testing.assert_allclose(slope[1:-1], (w[2:] - w[:-2]) / 0.02, atol=1e-4)
    curvature = np.diff(w, 2) / 1e-4
    assert np.abs(np.diff(curvature)).max() < 0.05  # no jump of the second derivative
    step, flat = fall(q, 2.0, 0.0)
    assert (step == (q <= 2.0)).all() and not flat.any()


@pytest.mark.parametrize("name", REGIONS)
def test_the_gradient_is_that_of_the_weight(name):
    region, random = REGIONS[name], np.random.default_rng(1)
    s = random.random((200, 3))
    w, gradient, d = region.weight(s, TRICLINIC)
    assert w.min() == 0.0 and w.max() == 1.0 and ((w > 0) & (w < 1)).sum() > 10
    h = 1e-5
    for k in range(3):
        step = h * np.eye(3)[k] @ TRICLINIC.inverse
        up, down = (region.weight(s + sign * step, TRICLINIC)[0] for sign in (1, -1))
        np.testing.assert_allclose(gradient[:, k], (up - down) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(np.cross(gradient, d), axis=1), 0.0, atol=1e-12)
    for periods in ([1.0, 0.0, -2.0], [-3.0, -5.0, 0.0]):
        np.testing.assert_allclose(region.weight(s + np.array(periods), TRICLINIC)[0], w, atol=1e-12)


def test_a_slab_is_measured_across_its_planes_and_a_sphere_from_its_center():
    slab = Slab(2, 0.5, 2.0, 1.0)
    s = np.array([[0.3, 0.7, 0.5 + 2.5 / TRICLINIC.widths[2]], [0.9, 0.1, 0.5 - 2.0 / TRICLINIC.widths[2]]])
    np.testing.assert_allclose(slab.weight(s, TRICLINIC)[0], [0.5, 1.0], atol=1e-12)
    sphere = Sphere((0.0, 0.0, 0.0), 2.0, 2.0)
    x = np.array([[0.0, 3.0, 0.0], [0.0, 0.0, -2.0], [14.0 - 3.0, 0.0, 0.0]])
    np.testing.assert_allclose(sphere.weight(TRICLINIC.fractional(x), TRICLINIC)[0], [0.5, 1.0, 0.5], atol=1e-12)
    open_cell = Cell(TRICLINIC.h, np.array([False, True, True]))
    assert sphere.weight(TRICLINIC.fractional(x), open_cell)[0][2] == 0.0


def test_the_room_of_a_region_is_half_the_cell():
    a = TRICLINIC.widths
    assert REGIONS["slab"].room(TRICLINIC) == pytest.approx(a[2] / 2)
    assert REGIONS["sphere"].room(TRICLINIC) == pytest.approx(a.min() / 2)
    alone = Cell(TRICLINIC.h, np.zeros(3, bool))
    assert REGIONS["slab"].room(alone) == REGIONS["sphere"].room(alone) == np.inf


def test_regions_together():
    s = np.random.default_rng(2).random((100, 3))
    parts = [region.weight(s, TRICLINIC)[0] for region in REGIONS.values()]
    w, gradients = union(list(REGIONS.values()), s, TRICLINIC)
    np.testing.assert_allclose(w, 1 - (1 - parts[0]) * (1 - parts[1]), atol=1e-15)
    h = 1e-5
    for k in range(3):
        step = h * np.eye(3)[k] @ TRICLINIC.inverse
        up, down = (union(list(REGIONS.values()), s + sign * step, TRICLINIC)[0] for sign in (1, -1))
        np.testing.assert_allclose(sum(g for g, _ in gradients)[:, k], (up - down) / (2 * h), atol=1e-6)
