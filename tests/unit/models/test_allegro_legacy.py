"""The older form of Allegro: exact properties, the fast evaluation against autograd, import of published weights."""

import json
import os
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch

from rxmdnn.atoms import Edges
from rxmdnn.commands.import_model import main
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro, LegacyConfig, LegacyNetwork
from rxmdnn.models.clebsch_gordan import path_tables, product_tables
from rxmdnn.models.import_nequip import import_nequip
from rxmdnn.models.model_file import load_model, read_metadata, save_model
from tests.unit.models.test_allegro import (
    ELEMENTS,
    by_autograd,
    check_gradient,
    check_parameter_gradient,
    check_symmetry,
    cluster,
    edges_of,
    force_loss,
    forces,
)

PUBLISHED = Path(os.environ.get("RXMDNN_TEST_DATA", ".")) / "legacy_allegro"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="set RXMDNN_TEST_DATA to a folder with the published "
                               "weights in legacy_allegro/, which are not part of the project")
SMALL = {"elements": ELEMENTS, "r_max": 3.0, "n_tensor": 4, "embed_widths": (10, 12), "latent_widths": (12,),
         "readout_widths": (6,), "average_neighbors": 9.0, "scale": (1.0, 2.0, 0.5), "shift": (-1.0, -3.0, 4.0)}
VARIANTS = [
    *({"l_max": a, "n_layers": b, "parity": c} for a, b, c in product(range(4), (1, 2, 3), (True, False))),
    {"latent_widths": (7, 12)}, {"latent_widths": (7, 5, 12), "l_max": 2},
    {"latent_widths": (7, 12), "latent_silu": False}, {"readout_silu": True}, {"readout_widths": ()},
    {"embed_widths": (12,)}, {"embed_silu": False}, {"n_layers": 5}, {"zbl": True, "zbl_fraction": 2.0},
    {"residual": False}, {"residual": False, "latent_widths": (7, 12)}, {"zbl": True},
    {"average_neighbors": (8.0, 9.0, 12.0)}, {"n_bessel": 5, "envelope_p": 7.5, "bessel_trainable": False}]


def network(dtype=torch.float64, **settings):
    net = LegacyNetwork(LegacyConfig(**{**SMALL, **settings}), dtype)
    with torch.no_grad():  # away from the symmetric initial values
        net.bessel += 0.1 * torch.sin(torch.arange(len(net.bessel), dtype=torch.float64))
        net.residual += torch.cos(torch.arange(len(net.residual), dtype=torch.float64))
    return net


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_fast_evaluation_equals_autograd(settings):
    net = network(**settings)
    x, species = cluster()
    edges = edges_of(x)
    e_i, g_ij = by_autograd(net, edges, species)
    e_fast, g_fast = Allegro(net, ELEMENTS, "float64", block_edges=60).compute(edges, species)
    assert np.abs(g_ij).max() > 1e-3
    assert np.abs(e_fast - e_i).max() < 1e-12 * np.abs(e_i).max()
    assert np.abs(g_fast - g_ij).max() < 1e-12 * np.abs(g_ij).max()


@pytest.mark.parametrize("l_max", range(4))
def test_forces_are_minus_the_energy_derivative(l_max):
    check_gradient(Allegro(network(l_max=l_max), ELEMENTS, "float64"))


@pytest.mark.parametrize("parity", [True, False])
def test_rotation_reflection_translation_permutation(parity):
    check_symmetry(Allegro(network(l_max=3, parity=parity), ELEMENTS, "float64"))


def test_zero_beyond_the_cutoff_and_without_edges():
    potential = Allegro(network(), ELEMENTS, "float64")
    species = np.array([0, 1, 2], np.int32)

    def at(r):
        x = np.array([[0.9, 0.5, 0], [-r, 0, 0.0]])
        edges = Edges(np.zeros(2, np.int32), np.array([1, 2], np.int32), x, np.array([0, 2, 2, 2]))
        e_i, g_ij = potential.compute(edges, species)
        return e_i, g_ij

    (e_near, g_near), (e_out, g_out) = at(3.0 - 1e-3), at(3.0)
    assert np.abs(g_out[1]).max() == 0
    assert e_out[0] == at(17.0)[0][0]
    assert 0 < abs(e_near[0] - e_out[0]) < 1e-6
    assert 0 < np.abs(g_near[1]).max() < 1e-3
    assert e_out[1:].tolist() == [-3.0, 4.0]


def test_single_precision_blocks_and_repetition():
    net = network(l_max=2)
    x, species = cluster(40)
    edges = edges_of(x)
    e_i, g_ij = Allegro(net, ELEMENTS, "float64", block_edges=10**6).compute(edges, species)
    single = Allegro(net, ELEMENTS, block_edges=100)
    before = single.compute(edges, species)
    assert np.abs(before[0] - e_i).max() < 3e-6 * np.abs(e_i).max()
    assert np.abs(before[1] - g_ij).max() < 1e-5 * np.abs(g_ij).max()
    single.compute(edges_of(x[:7]), species[:7])
    assert all(np.array_equal(a, b) for a, b in zip(before, single.compute(edges, species)))


@pytest.mark.parametrize("settings", [{}, {"latent_widths": (7, 12), "readout_silu": True, "l_max": 2,
                                           "residual_trainable": True}], ids=str)
def test_second_derivatives_for_force_training(settings):
    net = network(**settings)
    x, species = cluster(12)
    edges = edges_of(x)
    parameters = list(net.parameters())
    gradient = torch.autograd.grad(force_loss(net, edges, species), parameters)
    assert all(g.abs().max() > 0 for g in gradient)  # each weight has a gradient
    net.plain = True
    plain = torch.autograd.grad(force_loss(net, edges, species), parameters)
    assert all((a - b).abs().max() < 1e-11 * a.abs().max() for a, b in zip(gradient, plain))
    check_parameter_gradient(net, gradient, edges, species, rel=1e-5)


def test_paths_joined_with_weights_are_the_products():
    rng = np.random.default_rng(1)
    for l_max, parity in product(range(4), (True, False)):
        for whole, (apart, mixes) in zip(product_tables(l_max, parity, 3), path_tables(l_max, parity, 3)):
            v, a, weight = rng.normal(size=whole.d_in), rng.normal(size=whole.d_env), rng.normal(size=whole.n_paths)
            expected, products = np.zeros(whole.d_out), np.zeros(apart.d_out)
            np.add.at(expected, whole.m3, whole.coefficient * weight[whole.path] * v[whole.m1] * a[whole.m2])
            np.add.at(products, apart.m3, apart.coefficient * v[apart.m1] * a[apart.m2])
            starts = np.cumsum([0, *(mix.paths for mix in mixes)])
            joined = [weight[p0:p1] @ products[mix.start_in + m * mix.paths :][: mix.paths]
                      for (p0, p1), mix in zip(pairwise(starts), mixes) for m in range(2 * mix.l + 1)]
            assert np.abs(np.array(joined) - expected).max() < 1e-13


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_model_file(tmp_path, dtype):
    net = network(dtype)
    save_model(tmp_path / "model", net)
    assert read_metadata(tmp_path / "model")["form"] == "0.2"
    again = load_model(tmp_path / "model")
    assert again.config == net.config
    assert again.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    data = (tmp_path / "model").read_bytes()
    for change, message in (((b'"form":"0.2"', b'"form":"0.1"'), "form '0.1' of Allegro; this program computes 0.8"),
                            ((b'"form":"0.2"', b'"form":"0.8"'), "damaged model file"),
                            ((b"mixes.0.1.weight", b"mixes.0.7.weight"), "are not those of its checksum")):
        assert change[0] in data
        (tmp_path / "bad").write_bytes(data.replace(*change))
        with pytest.raises(InputError) as caught:
            load_model(tmp_path / "bad")
        assert message in str(caught.value)


def test_all_faults_of_a_configuration_at_once():
    with pytest.raises(InputError) as caught:
        LegacyConfig(elements=("H", "O"), r_max=((3.0, 2.0), (2.0, 3.0)), l_max=4, embed_widths=(), residual=1,
                     readout_widths=(0,))
    assert [f.split(":")[0] for f in caught.value.faults] == ["l_max", "residual", "r_max", "embed_widths",
                                                              "readout_widths"]
    with pytest.raises(InputError, match="must end in the size of the latent scalars, 128"):
        LegacyConfig(elements=("H", "O"), r_max=3.0, latent_widths=(64,))


def periodic_edges(x, cell, r_max):
    """All edges in a periodic cell wider than the cutoff."""
    parts = []
    for shift in product((-1, 0, 1), repeat=3):
        d = x[None] + np.array(shift) @ cell - x[:, None]
        r = np.linalg.norm(d, axis=-1)
        i, j = np.nonzero((r < r_max) & (r > 0))
        parts.append((i, j, d[i, j]))
    center, neighbor, r_ij = (np.concatenate(part) for part in zip(*parts))
    order = np.argsort(center, kind="stable")
    return Edges(center[order].astype(np.int32), neighbor[order].astype(np.int32), np.ascontiguousarray(r_ij[order]),
                 np.searchsorted(center[order], np.arange(len(x) + 1)).astype(np.int64))


# The published numbers are float32. Those of "legato" are wrong by up to 7e-5 eV for the first 215 atoms (half of the
# edges: one thread of the program that made them); the other atoms agree as well as all atoms of "allegro".
@published
@pytest.mark.parametrize("name, first_exact, total, force", [("allegro", 0, 3e-4, 1e-4), ("legato", 215, 7e-3, 4e-4)])
def test_published_models(tmp_path, name, first_exact, total, force):
    main([str(PUBLISHED / f"{name}_nh3_weights.npz"), str(tmp_path / "model"), "--elements", "H", "N",
          "--cutoff-p", "7", "--readout", "linear"])
    golden = np.load(PUBLISHED / f"{name}_nh3_432.npz")
    x = golden["positions"]
    species = np.where(golden["atomic_numbers"] == 7, 0, 1).astype(np.int32)
    edges = periodic_edges(x, golden["cell"], 6.0)
    for precision in ("float64", "float32"):
        e_i, g_ij = Allegro.load(tmp_path / "model", ("N", "H"), precision).compute(edges, species)
        assert np.abs(e_i - golden["atomic_energy"][:, 0])[first_exact:].max() < 4e-6
        assert np.abs(e_i - golden["atomic_energy"][:, 0]).max() < 1e-4
        assert abs(e_i.sum() - golden["total_energy"].item()) < total
        assert np.abs(forces(edges, g_ij) - golden["forces"]).max() < force


def state_of(net):
    """The weights of a network, named and laid out as in allegro 0.2, and its settings, named as in nequip."""
    c, core = net.config, "model.func.allegro."
    n_l, n_w, u, s = c.l_max + 1, c.n_layers, c.n_tensor, c.embed_widths[-1]
    out = {"scale_by": np.float32(1.0), "shift_by": np.zeros(0), core + "_zero": np.zeros(1),
           core + "env_sum_normalizations": np.full(n_w, c.average_neighbors**-0.5),
           core + "per_layer_cutoffs": np.full(n_w + 1, c.r_max),
           core + "_latent_resnet_update_params": net.residual.detach().numpy(),
           core + "_env_weighter._w_index": np.zeros(n_l**2, int),
           "model.func.radial_basis.basis._mean": net.basis_mean.numpy(),
           "model.func.radial_basis.basis._inv_std": net.basis_inv_std.numpy(),
           "model.func.radial_basis.basis.basis.bessel_weights": np.pi * net.bessel.detach().numpy(),
           "model.func.per_species_rescale.scales": net.scale.numpy(),
           "model.func.per_species_rescale.shifts": net.shift.numpy()}

    def put(prefix, mlp, of_scalars=None):
        for k, linear in enumerate(mlp.linears):
            weight = linear.weight.detach().numpy()
            if k == 0 and of_scalars:
                tail = weight[s:].reshape(of_scalars, u, -1).transpose(1, 0, 2).reshape(of_scalars * u, -1)
                weight = np.concatenate([weight[:s], tail])
            out[f"{prefix}._forward._weight_{k}"] = weight

    put(core + "latents.0", net.embed)
    put("model.func.edge_eng._module", net.readout)
    for k in range(n_w):
        mixes = net.all_mixes[k]
        put(core + (f"latents.{k + 1}" if k < n_w - 1 else "final_latent"), net.latents[k], mixes[0].paths)
        env = net.env[k].weight.detach().numpy()
        out[f"{core}env_embed_mlps.{k}._forward._weight_0"] = env.reshape(s, -1, n_l, u).swapaxes(2, 3).reshape(s, -1)
        out[f"{core}tps.{k}._big_w3j"] = np.zeros(1)
        linears = net.mixes[k] if k < n_w - 1 else []
        flat = [a.weight.detach().numpy().reshape(-1, u, u).transpose(2, 1, 0).ravel() for a in linears]
        out[f"{core}linears.{k}.w"] = np.concatenate(flat) if flat else np.zeros(u * u * mixes[0].paths)
    return out, {"chemical_symbols": list(c.elements), "PolynomialCutoff_p": c.envelope_p, "parity": (
        "o3_full" if c.parity else "o3_restricted"), "edge_eng_mlp_nonlinearity": "silu" if c.readout_silu else None}


@pytest.mark.parametrize("suffix, settings", [
    (".npz", {}), (".npz", {"l_max": 2, "parity": False, "latent_widths": (7, 12)}), (".pth", {"readout_silu": True})],
    ids=str)
def test_import_gives_back_the_network(tmp_path, suffix, settings):
    net = network(**settings)
    state, names = state_of(net)
    if suffix == ".npz":
        np.savez(tmp_path / "w.npz", **state)
    else:
        torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, tmp_path / "w.pth")
    (tmp_path / "w.json").write_text(json.dumps(names))
    summary = import_nequip(tmp_path / f"w{suffix}", tmp_path / "model")
    assert summary["form"] == "0.2"
    again = load_model(tmp_path / "model")
    assert again.dtype == torch.float64
    for name, value in net.state_dict().items():
        assert torch.allclose(again.state_dict()[name], value, rtol=1e-14, atol=1e-15), name


def without(name):
    return lambda state, names: state.pop(name)


IMPORT_FAULTS = {
    "unknown power": (lambda s, n: n.pop("PolynomialCutoff_p"), "--cutoff-p"),
    "other parity": (lambda s, n: n.update(parity="so3"), "the setting parity is 'so3'"),
    "wrong power": (lambda s, n: n.update(PolynomialCutoff_p="x"), "PolynomialCutoff_p"),
    "other nonlinearity": (lambda s, n: n.update(latent_mlp_nonlinearity="ssp"), "latent_mlp_nonlinearity is 'ssp'"),
    "another element": (lambda s, n: n["chemical_symbols"].append("C"), "has the shape"),
    "an array missing": (without("model.func.allegro.final_latent._forward._weight_0"), "final_latent"),
    "another array": (lambda s, n: s.update({"model.func.allegro.env_linears.0.w": np.ones(3)}), "env_linears"),
    "two cutoffs": (lambda s, n: s.update({"model.func.allegro.per_layer_cutoffs": np.array([3, 3, 3, 2.0])}),
                    "different cutoffs"),
    "NaN": (lambda s, n: s.update({"model.func.per_species_rescale.shifts": np.full(3, np.nan)}), "NaN"),
    "a vector": (lambda s, n: s.update({"model.func.allegro.latents.0._forward._weight_0": np.ones(3)}), "matrices"),
    "a narrow layer": (lambda s, n: s.update({"model.func.allegro.env_embed_mlps.1._forward._weight_0":
                                              np.ones((12, 5))}), "env_embed_mlps.1"),
    "odd neighbors": (lambda s, n: n.update(avg_num_neighbors=11.0), "the arrays say 9.0"),
}


@pytest.mark.parametrize("fault", IMPORT_FAULTS)
def test_faults_of_import(tmp_path, fault):
    change, message = IMPORT_FAULTS[fault]
    state, names = state_of(network())
    change(state, names)
    np.savez(tmp_path / "w.npz", **state)
    (tmp_path / "w.json").write_text(json.dumps(names))
    with pytest.raises(InputError) as caught:
        import_nequip(tmp_path / "w.npz", tmp_path / "model")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model").exists()


def test_foreign_files(tmp_path):
    (tmp_path / "w.npz").write_bytes(b"not a zip")
    (tmp_path / "w.pth").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    for name in ("w.npz", "w.pth"):
        with pytest.raises(InputError, match="not a file of named arrays"):
            import_nequip(tmp_path / name, tmp_path / "model", settings={"chemical_symbols": ["H"]})
    (tmp_path / "w.json").write_text("[1")
    with pytest.raises(InputError, match=r"w\.json: not settings of nequip"):
        import_nequip(tmp_path / "w.npz", tmp_path / "model")
    with pytest.raises(InputError, match="no such file"):
        import_nequip(tmp_path / "w.npz", tmp_path / "model", config=tmp_path / "absent.json")
