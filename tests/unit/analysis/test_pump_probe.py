"""Delays: time zero, response and bins, errors over replicas; points of reciprocal space; the transform to G(r)."""

from math import erf

import numpy as np
import pytest

from rxmdnn.analysis.pump_probe import DelayAxis, bragg_and_diffuse, response_weights, with_errors
from rxmdnn.analysis.pump_probe_displacements import fit_isotropic, fit_tensor
from rxmdnn.analysis.pump_probe_points import Crystal, label, read_hkl
from rxmdnn.analysis.pump_probe_powder import delta_g, grid
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError

CUBIC = Crystal(Cell(12.0 * np.eye(3)), np.array([3.0, 3.0, 3.0]))


def test_a_step_seen_by_the_instrument_is_an_error_function():
    t = np.arange(-50.0, 51.0) * 4.0 + 2.0  # the step is half way between two frames
    seen = response_weights(t, 60.0) @ (t > 0).astype(float)
    sigma = 60.0 / np.sqrt(8 * np.log(2))
    assert np.allclose(seen, [0.5 * (1 + erf(x / (np.sqrt(2) * sigma))) for x in t], atol=1e-12)
    assert np.allclose(response_weights(t, 60.0) @ np.ones(len(t)), 1.0, atol=1e-12)
    inside = np.abs(t) < 60
    assert np.allclose((response_weights(t, 30.0) @ t)[inside], t[inside], atol=1e-6)


def test_time_zero_bins_and_reference():
    axis = DelayAxis.of(np.arange(10) * 10.0, 40.0, width=20.0)
    assert axis.before.tolist() == [True] * 4 + [False] * 6
    assert axis.shown.tolist() == [-35.0, -15.0, 5.0, 25.0, 45.0]
    y = np.arange(10.0) ** 2
    assert axis.show(y).tolist() == [0.5, 6.5, 20.5, 42.5, 72.5] and axis.reference(y) == 3.5
    assert DelayAxis.of(np.arange(10) * 10.0, 40.0, before=15.0).before.sum() == 3
    with pytest.raises(InputError, match=r"no frame before time zero: the frames are at 0 to 90 fs.*give the time"):
        DelayAxis.of(np.arange(10) * 10.0, 0.0)


def test_the_jackknife_is_the_standard_error():
    x = np.random.default_rng(3).normal(size=(12, 4, 5))
    value, error = with_errors(lambda m: m, x)
    assert np.allclose(value, x.mean(axis=0)) and np.allclose(error, x.std(axis=0, ddof=1) / np.sqrt(12), rtol=1e-12)
    # a ratio of means, to first order in small scatter: s of (a/A - b/B) a/b
    a, b = 3.0 + 1e-3 * x[:, 0, 0], 2.0 + 1e-3 * x[:, 1, 0]
    value, error = with_errors(lambda m, n: m / n, a, b)
    scatter = (a / a.mean() - b / b.mean()).std(ddof=1) / np.sqrt(12)
    assert error == pytest.approx(value * scatter, rel=1e-3)
    assert np.isnan(with_errors(lambda m: m, x[:1])[1]).all()


def test_bragg_and_diffuse_parts_are_estimated_without_bias():
    """Over all pairs drawn from three values, the mean of the estimates is what the three have."""
    f = np.array([1.0 + 0.5j, 0.2 - 0.3j, 0.7 + 0.1j])
    pairs = [np.array([a, b]) for a in f for b in f]
    found = np.array([bragg_and_diffuse(p, np.abs(p) ** 2) for p in pairs]).mean(axis=0)
    exact = abs(f.mean()) ** 2
    assert np.allclose(found, [exact, (np.abs(f) ** 2).mean() - exact], rtol=1e-12)
    assert np.isnan(bragg_and_diffuse(f[:1], np.abs(f[:1]) ** 2)[1])


def test_reflections_are_read_as_they_are_written():
    assert read_hkl(["220,400", "-1-11"], "--hkl").tolist() == [[2, 2, 0], [4, 0, 0], [-1, -1, 1]]
    assert read_hkl(["10", "0", "0.5"], "--hkl").tolist() == [[10, 0, 0.5]]
    assert read_hkl(["001", "1,0,0.97"], "--hkl").tolist() == [[0, 0, 1], [1, 0, 0.97]]
    assert read_hkl(["2", "0", "0"], "--hkl").tolist() == [[2, 0, 0]]
    assert [label((2, 2, 0)), label((-1, -1, 1)), label((10, 0, 0.5))] == ["220", "-1-11", "10_0_0.5"]
    for words in (["22"], ["abc"], ["1", "0"], ["nan", "0", "0"], [","]):
        with pytest.raises(InputError, match="are not reflections; write three digits each"):
            read_hkl(words, "--hkl")


def test_families_are_those_of_the_lattice():
    assert [len(CUBIC.family(np.array(h, float))) for h in ((2, 0, 0), (2, 2, 0), (1, 1, 1), (3, 1, 1), (3, 2, 1))] == [
        3, 6, 4, 12, 24]
    a = 4.0
    hexagonal = Crystal(Cell(np.array([[a, 0, 0], [-a / 2, a * np.sqrt(3) / 2, 0], [0, 0, 6.5]])), np.ones(3))
    family = hexagonal.family(np.array([1.0, 0.0, 0.0]))
    lengths = np.linalg.norm(hexagonal.q(family), axis=1)
    assert len(family) == 3 and np.allclose(lengths, 2 * np.pi / (a * np.sqrt(0.75)))
    film = Crystal(Cell(np.diag([12.0, 12.0, 30.0]), [True, True, False]), np.array([3, 3, 7.5]))
    assert film.family(np.array([2.0, 0.0, 0.0])).tolist() == [[2, 0, 0], [0, 2, 0]]


def test_points_are_wave_vectors_of_the_cell():
    line = CUBIC.line(np.zeros(3), np.array([4.0, 0, 0]), "--line")
    assert np.allclose(line[0], [1 / 3, 0, 0]) and CUBIC.waves(line, "--line")[:, 0].tolist() == list(range(1, 13))
    plane = CUBIC.plane(np.zeros(3), np.array([2.0, 0, 0]), np.array([0, 1.0, 0]), "--plane")
    assert plane.shape == (4, 7, 3) and plane[3, 6].tolist() == [2, 1, 0]
    with pytest.raises(InputError, match=r"0.5 0 0 is not a wave vector.*3 unit cells along a.*nearest is 0.6666"):
        CUBIC.waves(np.array([[0.5, 0, 0]]), "--hkl")
    with pytest.raises(InputError, match=r"a whole number above zero, not 2.5 3 3"):
        Crystal(CUBIC.cell, np.array([2.5, 3, 3]))
    film = Crystal(Cell(np.diag([12.0, 12.0, 30.0]), [True, True, False]), np.array([3, 3, 7.5]))
    assert film.waves(np.array([[1, 0, 0.123]]), "--hkl")[0].tolist() == [3.0, 0.0, 0.123 * 7.5]


def test_equivalent_points_are_averaged_once():
    points = CUBIC.line(np.zeros(3), np.array([1.0, 0, 0]), "--line")
    members, group, of = CUBIC.expanded(np.concatenate([points, points[:, ::-1]]), True)
    assert of.tolist() == [0, 1, 2] * 2 and np.bincount(group).tolist() == [3, 3, 3] and len(members) == 9
    flat = Crystal(Cell(np.diag([12.0, 4.0, 12.0])), np.array([3.0, 1, 3]))  # holds thirds along a and c only
    members, group, of = flat.expanded(points, True)
    assert np.bincount(group).tolist() == [2, 2, 3] and flat.held(members).all()
    members, group, of = flat.expanded(points, False)
    assert members is points and group.tolist() == of.tolist() == [0, 1, 2]


def test_the_tensor_of_displacements_is_found_from_intensities():
    u = np.array([[0.02, 0.004, 0.0], [0.004, 0.01, -0.002], [0.0, -0.002, 0.03]])
    q = np.random.default_rng(0).normal(size=(9, 3))
    ratio = np.exp(-np.einsum("mi,ij,mj->m", q, u, q))
    assert np.allclose(fit_tensor(q, ratio), u, atol=1e-12)
    assert fit_tensor(np.diag([2.0, 3.0, 4.0]), ratio[:3]) is None  # cross terms are not fixed
    assert fit_isotropic(q, np.exp(-0.03 * (q**2).sum(axis=1))) == pytest.approx(0.03, rel=1e-12)


def test_a_moved_shell_has_its_sign_and_area():
    """One neighbor at 3.5 Å instead of 2.5 Å: r ΔG has the area 1 there, -1 where it was."""
    q, r = grid(0.0, 25.0), np.arange(0.01, 8.0, 0.01)
    change = np.sinc(q * 3.5 / np.pi) - np.sinc(q * 2.5 / np.pi)
    for damping in (None, 0.005):
        g = delta_g(q, change, r, damping)
        assert r[np.argmax(g)] == pytest.approx(3.5, abs=0.02) and r[np.argmin(g)] == pytest.approx(2.5, abs=0.02)
        for low, high, area in ((3.0, 4.0, 1.0), (2.0, 3.0, -1.0)):
            own = (r >= low) & (r < high)
            assert (r * g)[own].sum() * 0.01 == pytest.approx(area, abs=0.02)
