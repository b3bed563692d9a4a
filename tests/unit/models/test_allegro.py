"""The Allegro network against exact properties of an energy; its fast evaluation against autograd."""

from itertools import product

import numpy as np
import pytest
import torch

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.models.activations import ACTIVATIONS
from rxmdnn.models.allegro import Allegro, AllegroConfig, AllegroNetwork, blocks_of
from rxmdnn.models.allegro_network import spherical_harmonics

ELEMENTS = ("H", "N", "O")
SMALL = {"elements": ELEMENTS, "r_max": 3.0, "n_scalar": 8, "n_tensor": 4, "embed_width": 12, "latent_width": 10,
         "readout_width": 6, "average_neighbors": 9.0, "scale": (1.0, 2.0, 0.5), "shift": (-1.0, -3.0, 4.0)}
PAIR_CUTOFFS = ((3.0, 2.0, 2.5), (2.2, 3.0, 1.8), (2.8, 3.0, 2.9))
VARIANTS = [
    *({"l_max": a, "n_layers": b, "parity": c} for a, b, c in product(range(4), (1, 2, 3), (True, False))),
    {"r_max": PAIR_CUTOFFS}, {"zbl": True}, {"zbl": True, "zbl_fraction": 2.0}, {"average_neighbors": (8.0, 9.0, 12.0)},
    {"embed_depth": 2, "latent_depth": 2, "readout_depth": 2},
    {"embed_depth": 0, "latent_depth": 0, "readout_depth": 0},
    {"n_bessel": 5, "envelope_p": 7.5, "bessel_trainable": True},
    {"n_splines": 16}, {"n_splines": 9, "spline_span": 0, "r_max": PAIR_CUTOFFS}, {"n_splines": 5, "spline_span": 5},
    *({f"{part}_activation": name, "embed_depth": 2, "latent_depth": 2, "readout_depth": 2}
      for part, name in product(("embed", "latent", "readout"), ACTIVATIONS) if name != "silu")]


def network(dtype=torch.float64, **settings):
    return AllegroNetwork(AllegroConfig(**{**SMALL, **settings}), dtype)


def cluster(n=24, seed=0):
    """Positions at least 0.8 Å apart, about 9 neighbors within 3 Å, and species."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3, indexing="ij"), -1).reshape(-1, 3)
    x = 1.9 * rng.permutation(grid)[:n] + rng.uniform(-0.3, 0.3, (n, 3))
    return x, rng.integers(0, 3, n).astype(np.int32)


def edges_of(x, r_max=3.0):
    d = x[None] - x[:, None]
    r = np.linalg.norm(d, axis=-1)
    center, neighbor = np.nonzero((r < r_max) & (r > 0))
    first = np.searchsorted(center, np.arange(len(x) + 1)).astype(np.int64)
    return Edges(center.astype(np.int32), neighbor.astype(np.int32), np.ascontiguousarray(d[center, neighbor]), first)


def by_autograd(net, edges, species):
    r_ij = torch.from_numpy(edges.r_ij).requires_grad_()
    center, neighbor, types = (torch.from_numpy(a.astype(np.int64)) for a in (edges.center, edges.neighbor, species))
    e_i = net(r_ij, center, types, types[neighbor])
    (g_ij,) = torch.autograd.grad(e_i.sum(), r_ij)
    return e_i.detach().numpy(), g_ij.numpy()


def forces(edges, g_ij):
    f = np.zeros((len(edges.first) - 1, 3))
    np.add.at(f, edges.center, g_ij)
    np.add.at(f, edges.neighbor, -g_ij)
    return f


def test_harmonics_are_those_of_e3nn():
    o3 = pytest.importorskip("e3nn.o3")
    u = torch.from_numpy(np.random.default_rng(1).normal(size=(50, 3)))
    u = torch.nn.functional.normalize(u)
    expected = o3.spherical_harmonics([0, 1, 2, 3], u, normalize=True, normalization="component")
    assert (spherical_harmonics(3, u) - expected).abs().max() < 1e-13


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_fast_evaluation_equals_autograd(settings):
    net = network(**settings)
    x, species = cluster()
    edges = edges_of(x)
    e_i, g_ij = by_autograd(net, edges, species)
    e_fast, g_fast = Allegro(net, ELEMENTS, "float64", block_edges=60).compute(edges, species)
    assert np.abs(e_fast - e_i).max() < 1e-12 * np.abs(e_i).max()
    assert np.abs(g_fast - g_ij).max() < 1e-12 * np.abs(g_ij).max()


@pytest.mark.parametrize("settings", [{"l_max": 2, "n_layers": 3}, {"l_max": 3}, {"zbl": True}, {"n_splines": 16},
                                      {"embed_activation": "gelu", "readout_activation": "mish"}], ids=str)
def test_float32_differs_from_float64_by_rounding(settings):
    net = network(**settings)
    x, species = cluster()
    edges = edges_of(x)
    e_64, g_64 = Allegro(net, ELEMENTS, "float64").compute(edges, species)
    e_32, g_32 = Allegro(net, ELEMENTS).compute(edges, species)
    assert e_32.dtype == g_32.dtype == np.float64
    assert np.abs(e_32 - e_64).max() < 2e-6 * np.abs(e_64).max()
    assert np.abs(g_32 - g_64).max() < 5e-6 * np.abs(g_64).max()


def check_gradient(potential):
    """Check forces against differences of the energy, of fourth order."""
    x, species = cluster(14)

    def energy(at):
        return potential.compute(edges_of(at), species)[0].sum()

    edges = edges_of(x)
    f = forces(edges, potential.compute(edges, species)[1])
    assert np.abs(f.sum(axis=0)).max() < 1e-12 * np.abs(f).max()
    h, numerical = 1e-4, np.zeros_like(f)
    for i, k in product(range(len(x)), range(3)):
        step = np.zeros_like(x)
        step[i, k] = h
        slopes = [(energy(x - s * step) - energy(x + s * step)) / (2 * s * h) for s in (1, 2)]
        numerical[i, k] = (4 * slopes[0] - slopes[1]) / 3
    assert np.abs(numerical - f).max() < 1e-6 * np.abs(f).max()


@pytest.mark.parametrize("l_max", range(4))
def test_forces_are_minus_the_energy_derivative(l_max):
    check_gradient(Allegro(network(l_max=l_max, zbl=l_max == 1), ELEMENTS, "float64"))


def check_symmetry(potential):
    """Rotation, reflection, translation and permutation move energies and forces along."""
    x, species = cluster()
    edges = edges_of(x)
    e_i, g_ij = potential.compute(edges, species)
    f = forces(edges, g_ij)
    q, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))
    order = np.random.default_rng(6).permutation(len(x))
    for rotation in (q, -q):
        moved = edges_of(x[order] @ rotation.T + [3.0, -50.0, 7.0])
        e_moved, g_moved = potential.compute(moved, species[order])
        assert np.abs(e_moved - e_i[order]).max() < 1e-11 * np.abs(e_i).max()
        assert np.abs(forces(moved, g_moved) - f[order] @ rotation.T).max() < 1e-11 * np.abs(f).max()


@pytest.mark.parametrize("parity", [True, False])
def test_rotation_reflection_translation_permutation(parity):
    check_symmetry(Allegro(network(l_max=3, n_layers=3, parity=parity), ELEMENTS, "float64"))


@pytest.mark.parametrize("settings", [{}, {"n_splines": 16}, *({"n_splines": 16, "embed_activation": name}
                                                                for name in ACTIVATIONS)], ids=str)
def test_smooth_at_the_cutoff_and_zero_beyond(settings):
    potential = Allegro(network(l_max=2, **settings), ELEMENTS, "float64")
    species = np.array([0, 1, 2], np.int32)

    def at(r):  # a third atom crosses the cutoff of the first, out of reach of the second
        x = np.array([[0, 0, 0], [0.9, 0.5, 0], [-r, 0, 0.0]])
        edges = Edges(np.zeros(2, np.int32), np.array([1, 2], np.int32), x[1:], np.array([0, 2, 2, 2]))
        e_i, g_ij = potential.compute(edges, species)
        return e_i[0], g_ij

    e_out, g_out = at(3.0)
    assert np.abs(g_out[1]).max() == 0
    assert e_out == at(17.0)[0]
    (e_near, g_near), (e_far, g_far) = at(3.0 - 1e-2), at(3.0 - 1e-3)
    assert 0 < abs(e_far - e_out) < 2e-3 * abs(e_near - e_out)  # falls as the third power
    assert 0 < np.abs(g_far[1]).max() < 2e-2 * np.abs(g_near[1]).max()  # as the second


def test_blocks_and_repetition():
    net = network(l_max=2)
    x, species = cluster(40)
    edges = edges_of(x)
    whole = Allegro(net, ELEMENTS, "float64", block_edges=10**6)
    e_i, g_ij = whole.compute(edges, species)
    degree = int(np.diff(edges.first).max())
    for bound in (1, 25, 100):  # a center with more edges than the bound is evaluated alone
        parted = Allegro(net, ELEMENTS, "float64", block_edges=bound)
        blocks = blocks_of(edges.first, bound)
        assert [i for i0, i1 in blocks for i in range(i0, i1)] == list(range(40))
        assert max(edges.first[i1] - edges.first[i0] for i0, i1 in blocks) < bound + degree
        e_part, g_part = parted.compute(edges, species)
        assert np.abs(e_part - e_i).max() < 1e-13 * np.abs(e_i).max()
        assert np.abs(g_part - g_ij).max() < 1e-13 * np.abs(g_ij).max()
    single = Allegro(net, ELEMENTS)
    before = single.compute(edges, species)
    single.compute(edges_of(x[:7]), species[:7])
    after = single.compute(edges, species)
    assert all(np.array_equal(a, b) for a, b in zip(before, after))


def test_copies_are_neighbors_only():
    potential = Allegro(network(), ELEMENTS, "float64")
    x, species = cluster()
    edges = edges_of(x)
    e_i, g_ij = potential.compute(edges, species)
    m = int(edges.first[10])
    part = Edges(edges.center[:m], edges.neighbor[:m], edges.r_ij[:m], edges.first[:11])
    e_part, g_part = potential.compute(part, species)
    assert np.abs(e_part - e_i[:10]).max() < 1e-13 * np.abs(e_i).max()
    assert np.abs(g_part - g_ij[:m]).max() < 1e-13 * np.abs(g_ij).max()


def test_no_edges_and_no_atoms():
    for zbl in (False, True):
        potential = Allegro(network(zbl=zbl), ("O", "H"))
        none = Edges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3)), np.zeros(4, np.int64))
        e_i, g_ij = potential.compute(none, np.array([0, 1, 1], np.int32))
        assert e_i.tolist() == [4.0, -1.0, -1.0]
        assert g_ij.shape == (0, 3)
        e_plain, g_plain = by_autograd(network(zbl=zbl), none, np.array([2, 0, 0], np.int32))
        assert e_plain.tolist() == [4.0, -1.0, -1.0]
        assert g_plain.shape == (0, 3)
        none.first = np.zeros(1, np.int64)
        e_i, g_ij = potential.compute(none, np.zeros(0, np.int32))
        assert e_i.shape == (0,)
        assert g_ij.shape == (0, 3)


def test_elements_map_by_name():
    net = network(r_max=PAIR_CUTOFFS)
    x, species = cluster()
    edges = edges_of(x)
    e_i, g_ij = Allegro(net, ELEMENTS, "float64").compute(edges, species)
    other = Allegro(net, ("O", "H", "N"), "float64")  # H N O -> 1 2 0
    e_other, g_other = other.compute(edges, np.array([1, 2, 0], np.int32)[species])
    assert np.array_equal(e_i, e_other)
    assert np.array_equal(g_ij, g_other)
    assert other.cutoff[0, 1] == 2.8
    with pytest.raises(InputError, match=r"water\.rxnn: does not know Xe, C; it knows H, N, O"):
        Allegro(net, ("H", "Xe", "C"), name="water.rxnn")


def force_loss(net, edges, species):
    """Σ |g_ij|² + (Σ e_i)², a function of the weights through first derivatives."""
    center, neighbor, types = (torch.from_numpy(a.astype(np.int64)) for a in (edges.center, edges.neighbor, species))
    r_ij = torch.from_numpy(edges.r_ij).requires_grad_()
    e_i = net(r_ij, center, types, types[neighbor])
    (g_ij,) = torch.autograd.grad(e_i.sum(), r_ij, create_graph=True)
    return g_ij.square().sum() + e_i.sum().square()


def check_parameter_gradient(net, gradient, edges, species, rel):
    """The gradient of a force loss by the parameters, along one direction, against a difference of losses."""
    parameters = list(net.parameters())
    generator = torch.Generator().manual_seed(2)
    direction = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in parameters]
    h, values = 1e-5, []
    for s in (h, -2 * h):
        with torch.no_grad():
            for p, d in zip(parameters, direction):
                p += s * d
        values.append(force_loss(net, edges, species).item())
    exact = sum((g * d).sum() for g, d in zip(gradient, direction)).item()
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(exact, rel=rel)


def test_second_derivatives_for_force_training():
    net = network(l_max=2)
    x, species = cluster(12)
    edges = edges_of(x)
    gradient = torch.autograd.grad(force_loss(net, edges, species), list(net.parameters()))
    check_parameter_gradient(net, gradient, edges, species, rel=1e-6)


@pytest.mark.parametrize("settings", [{}, {"l_max": 3, "n_layers": 3}, {"parity": False, "l_max": 2}], ids=str)
def test_compiled_products_equal_plain_torch(settings):
    net = network(**settings)
    x, species = cluster()
    edges = edges_of(x)
    shuffled = np.random.default_rng(3).permutation(len(edges.center))
    mixed = Edges(edges.center[shuffled], edges.neighbor[shuffled], edges.r_ij[shuffled], edges.first)
    results = []
    for net.plain, some in ((True, edges), (False, edges), (False, mixed)):
        loss = force_loss(net, some, species)
        results.append([loss.detach(), *torch.autograd.grad(loss, list(net.parameters()))])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert (a - b).abs().max() < 1e-11 * a.abs().max()


def test_same_seed_same_weights():
    a, b, c = network(seed=3), network(seed=3), network(seed=4)
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    assert not torch.equal(a.center_embed, c.center_embed)


def test_all_faults_of_a_configuration_at_once():
    with pytest.raises(InputError) as caught:
        AllegroConfig(elements=("H", "O"), r_max=-1.0, l_max=4, n_scalar=7, shift=(1.0,), parity=2, zbl="no")
    assert [f.split(":")[0] for f in caught.value.faults] == ["l_max", "parity", "zbl", "r_max", "shift", "n_scalar"]
    for elements in ((), ("H", "H"), "HN", (1, 2), tuple(str(k) for k in range(999))):
        with pytest.raises(InputError, match="elements"):
            AllegroConfig(elements=elements, r_max=4.0)
