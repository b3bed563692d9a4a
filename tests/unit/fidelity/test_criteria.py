"""Criteria of failure on plain arrays: injected failures are found, with atom and value, and no others."""

from dataclasses import replace

import numpy as np
import pytest

from rxmdnn import backend as backends
from rxmdnn.engine.neighbors import pairs
from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import Band, Limits, close_edges, examine, topology

ELEMENTS = ("H", "N")
MOLECULE = np.array([[0.0, 0.0, 0.0], [0.94, 0.0, 0.38], [-0.47, 0.81, 0.38], [-0.47, -0.81, 0.38]])


def system(n=8, seed=0):
    """n ammonia molecules on a line; species, positions, and limits with every criterion on."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([MOLECULE + np.array([4.0 * k, 0, 0]) for k in range(n)]) + rng.normal(0, 0.01, (4 * n, 3))
    limits = Limits.of(ELEMENTS)
    limits = replace(limits, fewest=np.array([[0.0, 1.0], [3.0, 0.0]]), most=np.array([[0.0, 1.0], [3.0, 0.0]]),
                     force=np.array([10.0, 20.0]), latent=np.array([3.0, 4.0]), spread=np.array([0.5, 0.5]))
    return np.tile(np.array([1, 0, 0, 0], np.int32), n), x, limits


def look(species, x, limits, reference=None, f=None, **more):
    backend = backends.make("cpu")
    i, j, _ = pairs(backend, x, None, 4.5)
    gid = 100 + np.arange(len(x))
    edges = i, j, x[j] - x[i]
    bonds = more.pop("bonds", None)
    if reference is not None:
        i0, j0, _ = pairs(backend, reference, None, 4.5)
        close = close_edges(i0, j0, reference[j0] - reference[i0], limits.reach)
        bonds = topology(close, species, gid, len(x), limits.bonded)
    kinds = None if bonds is None else species[np.where(bonds < 0, 0, bonds - 100)]
    zero = np.zeros_like(x)
    found = examine(limits, *edges, species, gid, x, zero, zero if f is None else f, bonds, kinds, **more)
    return {a.kind: a for a in found}


def test_a_normal_system_has_no_event():
    species, x, limits = system()
    n = len(x)
    assert not look(species, x, limits, x, np.full((n, 3), 5.0), latent=np.full(n, 2.9), spread=np.full(n, 0.4))


def test_a_crushed_pair_is_found_at_both_atoms():
    species, x, limits = system()
    reference = x.copy()
    x[5] = x[4] + [0.5, 0, 0]
    found = look(species, x, limits, reference)
    assert list(found["pair"].row) == list(found["bond"].row) == [4, 5]
    np.testing.assert_allclose(found["pair"].value, 0.5)
    np.testing.assert_allclose(found["pair"].threshold, limits.closest[0, 1])


@pytest.mark.parametrize(("length", "seen"), [(1.7, True), (1.55, False), (30.0, True)])
def test_a_broken_bond_is_found_however_far_the_atom_is(length, seen):
    species, x, limits = system()
    reference = x.copy()
    x[5] = x[4] + np.array([0.0, 0.0, -length])
    found = look(species, x, replace(limits, fewest=np.full((2, 2), -np.inf)), reference)
    assert list(found["bond"].row if "bond" in found else []) == ([4, 5] if seen else [])
    if seen:
        np.testing.assert_allclose(found["bond"].value, min(length, limits.reach))


def test_exchanged_partners_are_a_failure_of_bonds_but_not_of_coordination():
    species, x, limits = system()
    swapped = x.copy()
    swapped[[1, 5]] = x[[5, 1]]
    found = look(species, swapped, limits, x)
    assert set(found) == {"bond"} and list(found["bond"].row) == [0, 1, 4, 5]


def test_a_coordination_outside_the_reference():
    species, x, limits = system()
    x[7] = x[4] + np.array([0.0, 0.0, -6.0])
    found = look(species, x, limits)
    assert set(found) == {"coordination"} and list(found["coordination"].row) == [4, 7]
    np.testing.assert_array_equal(found["coordination"].value, [2, 0])
    np.testing.assert_array_equal(found["coordination"].threshold, [3, 1])


def test_force_latent_spread_and_nan():
    species, x, limits = system()
    n = len(x)
    f, latent, spread = np.zeros((n, 3)), np.zeros(n), np.zeros(n)
    f[3], f[4], latent[8], spread[9] = [0, 11, 0], [0, 19, 0], 4.5, np.inf
    found = look(species, x, limits, x, f, latent=latent, spread=spread)
    assert {k: list(a.row) for k, a in found.items()} == {"force": [3], "latent": [8], "spread": [9]}
    f[11, 2] = np.nan
    assert list(look(species, x, limits, x, f)["finite"].row) == [11]
    assert not look(species, x, limits.only(set()), x, np.where(np.isfinite(f), f, 0.0), latent=latent, spread=spread)


def test_events_name_the_atom():
    found = criteria.outliers("force", np.array([0.0, 7.0]), np.zeros(2, np.int32), np.array([5.0]))
    assert found.events(30, 15.0, np.array([8, 6])) == [("force", 30, 15.0, 6, 7.0, 5.0)]


def test_the_band_of_the_temperature():
    assert criteria.sigma_t(200.0, 3456) == pytest.approx(200 * np.sqrt(2 / 3 / 3456))
    np.testing.assert_allclose(criteria.allowed(np.array([200.0, 300.0]), 32), [173.2051, 259.8076], rtol=1e-6)
    assert criteria.allowed(200.0, 3456) == 100.0
    band = Band(interval=10.0)  # fs: ten values are 100 fs
    for t in (200.0, 250.0):
        band.push(np.array([200.0, t]))
    for _ in range(8):
        band.push(np.array([200.0, 301.0]))
    out, mean = band.outside(np.array([np.nan, 330.0]), 200.0, 100.0)
    np.testing.assert_array_equal(out, [True, False])
    assert mean[1] == pytest.approx((250 + 8 * 301 + 330) / 10)
    assert band.outside(np.array([200.0, 500.0]), 200.0, 100.0)[0].all()
    # σ_T from Maxwell-Boltzmann velocities
    n, rng = 20, np.random.default_rng(1)
    t = 300.0 * (rng.normal(size=(20000, 3 * n)) ** 2).mean(axis=1)
    assert t.std() == pytest.approx(criteria.sigma_t(300.0, n), rel=0.02)


def test_the_published_criterion():
    np.testing.assert_array_equal(criteria.published([100.0, 99.9, 300.0, 300.1, np.nan]),
                                  [False, True, False, True, True])
