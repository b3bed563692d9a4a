"""Allegro with a tabulated two-body part: near the network, exact in itself, the same on a device."""

import numpy as np
import pytest
import torch

from rxmdnn.atoms import Edges
from rxmdnn.models.allegro import Allegro
from tests import device
from tests.unit.models import test_allegro, test_allegro_legacy
from tests.unit.models.test_allegro import (
    ELEMENTS,
    by_autograd,
    check_gradient,
    check_symmetry,
    cluster,
    edges_of,
    forces,
)
from tests.unit.test_device import answer

FORMS = [test_allegro, test_allegro_legacy]
CASES = [(form, settings) for form in FORMS for settings in form.VARIANTS[1::3]]
ERROR = 1e-4  # eV/Å


@pytest.mark.parametrize(("form", "settings"), CASES, ids=str)
def test_forces_are_within_the_error_of_those_of_the_network(form, settings):
    net = form.network(**settings)
    x, species = cluster()
    edges = edges_of(x)
    e_i, g_ij = by_autograd(net, edges, species)
    potential = Allegro(net, ELEMENTS, "float64", block_edges=60, table=ERROR)
    e_table, g_table = potential.compute(edges, species)
    change = np.abs(forces(edges, g_table) - forces(edges, g_ij)).max()
    assert 0 < change < ERROR < 1e-2 * np.abs(g_ij).max()
    assert np.abs(e_table - e_i).max() < ERROR
    assert "table of" in potential.notes[0]


@pytest.mark.parametrize("form", FORMS)
def test_forces_are_minus_the_derivative_of_the_tabulated_energy(form):
    """However coarse the table."""
    check_gradient(Allegro(form.network(l_max=2), ELEMENTS, "float64", table=1e-2))


@pytest.mark.parametrize("form", FORMS)
def test_rotation_reflection_translation_permutation(form):
    check_symmetry(Allegro(form.network(l_max=2, n_layers=3), ELEMENTS, "float64", table=1e-2))


@pytest.mark.parametrize("form", FORMS)
def test_smooth_at_the_cutoff_and_zero_beyond(form):
    potential = Allegro(form.network(), ELEMENTS, "float64", table=1e-2)
    species = np.array([0, 1, 2], np.int32)

    def at(r):
        x = np.array([[0.9, 0.5, 0], [-r, 0, 0.0]])
        edges = Edges(np.zeros(2, np.int32), np.array([1, 2], np.int32), x, np.array([0, 2, 2, 2]))
        e_i, g_ij = potential.compute(edges, species)
        return e_i[0], g_ij

    (e_near, g_near), (e_far, g_far), (e_out, g_out) = at(3.0 - 1e-2), at(3.0 - 1e-3), at(3.0)
    assert np.abs(g_out[1]).max() == 0 and e_out == at(17.0)[0]
    assert 0 < abs(e_far - e_out) < 2e-3 * abs(e_near - e_out)  # falls as the third power
    assert 0 < np.abs(g_far[1]).max() < 2e-2 * np.abs(g_near[1]).max()  # as the second


@pytest.mark.parametrize("settings", [{}, {"latent_widths": (7, 12)}], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_single_precision_repetition_and_features(form, settings):
    net = form.network(**(settings if form is test_allegro_legacy else {"l_max": 2}))
    x, species = cluster(40)
    edges = edges_of(x)
    exact = Allegro(net, ELEMENTS, "float64", table=ERROR)
    single = Allegro(net, ELEMENTS, block_edges=100, table=ERROR)
    direct = Allegro(net, ELEMENTS, "float64")
    direct.watched = exact.watched = single.watched = True
    e_i, g_ij = exact.compute(edges, species)
    before = single.compute(edges, species)
    assert np.abs(before[0] - e_i).max() < 3e-6 * np.abs(e_i).max()
    assert np.abs(before[1] - g_ij).max() < 3e-5 * np.abs(g_ij).max()
    direct.compute(edges, species)
    assert direct.latent.shape == exact.latent.shape
    assert np.abs(exact.latent - direct.latent).max() < 1e-4 * np.abs(direct.latent).max()
    single.compute(edges_of(x[:7]), species[:7])
    assert all(np.array_equal(a, b) for a, b in zip(before, single.compute(edges, species)))


@device.DEVICES
@pytest.mark.parametrize("settings", [{}, {"r_max": test_allegro.PAIR_CUTOFFS}, {"latent_widths": (7, 12)}], ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_on_a_device(name, form, settings):
    if settings and ("r_max" in settings) != (form is test_allegro):
        pytest.skip("a setting of the other form")
    agrees(device.find(name), form.network(**settings))


@pytest.mark.parametrize("form", FORMS)
def test_by_warps(form):
    agrees(device.make(plain=False), form.network(n_tensor=40))


def agrees(there, net):
    x, species = cluster()
    edges = edges_of(x, 3.4)  # some beyond the cutoff
    edges.with_skin = True
    here = Allegro(net, ELEMENTS, "float64", table=1e-2)
    far = Allegro(net, ELEMENTS, "float64", backend=there, table=1e-2, block_edges=60)
    here.watched = far.watched = True
    for a, b in zip(here.compute(edges, species), answer(far, there, edges, species), strict=True):
        assert np.abs(b - a).max() < 1e-12 * np.abs(a).max()
    assert np.abs(far.features() - here.latent).max() < 1e-12 * np.abs(here.latent).max()


def test_no_edges_and_no_atoms():
    potential = Allegro(test_allegro.network(), ("O", "H"), table=1e-2)
    none = Edges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3)), np.zeros(3, np.int64))
    assert potential.compute(none, np.array([0, 1], np.int32))[0].tolist() == [4.0, -1.0]
    none.first = np.zeros(1, np.int64)
    assert potential.compute(none, np.zeros(0, np.int32))[0].shape == (0,)


def test_training_is_not_touched():
    net = test_allegro.network()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    Allegro(net, ELEMENTS, table=1e-2)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
