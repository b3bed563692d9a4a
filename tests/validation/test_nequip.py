"""Allegro against nequip-allegro with the same weights, if the packages nequip and nequip-allegro are installed.

Their programs and files: test_nequip_files.

``python tests/validation/test_nequip.py --write-golden`` writes the reference files of tests/unit.
"""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro, AllegroConfig, AllegroNetwork
from rxmdnn.models.import_nequip import convert
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import load_model, save_model
from rxmdnn.models.nequip_checkpoint import checkpoint

pytestmark = [pytest.mark.nequip, pytest.mark.validation]
if __name__ != "__main__":
    pytest.importorskip("nequip")
    pytest.importorskip("allegro")

NAMES = ("H", "N")
BASE = {"l_max": 1, "num_layers": 2, "num_scalar_features": 16, "num_tensor_features": 8, "r_max": 4.0,
        "scalar_embed_mlp_hidden_layers_width": 24, "allegro_mlp_hidden_layers_width": 20,
        "readout_mlp_hidden_layers_width": 12, "avg_num_neighbors": 12.0,
        "radial_chemical_embed": {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed"},
        "per_type_energy_scales": {"H": 0.7, "N": 1.3}, "per_type_energy_shifts": {"H": -1.1, "N": -2.5}}
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": ["H", "N"]}
SPLINES = {"_target_": "allegro.nn.TwoBodySplineScalarEmbed"}
VARIANTS = [
    *({"l_max": a, "num_layers": b, "parity": c} for a in range(4) for b in (1, 2, 3) for c in (True, False)),
    {"per_edge_type_cutoff": {"H": {"H": 3.0, "N": 3.5}, "N": 4.0}},
    {"pair_potential": ZBL},
    {"pair_potential": ZBL, "per_edge_type_cutoff": {"H": 3.0}, "l_max": 2},
    {"avg_num_neighbors": {"H": 10.0, "N": 20.0}},
    {"per_type_energy_scales": None, "per_type_energy_shifts": None},
    {"per_type_energy_scales": 2.0, "per_type_energy_shifts_trainable": True},
    {"tp_path_channel_coupling": False},
    {"readout_mlp_nonlinearity": None, "readout_mlp_hidden_layers_depth": 2},
    {"readout_mlp_hidden_layers_depth": 0, "scalar_embed_mlp_hidden_layers_depth": 0},
    {"allegro_mlp_hidden_layers_depth": 2, "scalar_embed_mlp_hidden_layers_depth": 3, "l_max": 2},
    {"forward_normalize": False},
    {"radial_chemical_embed": {"_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": 6,
                               "bessel_trainable": True, "polynomial_cutoff_p": 8}},
    {"radial_chemical_embed": SPLINES}, {"radial_chemical_embed": {**SPLINES, "num_splines": 9, "spline_span": 4},
                                         "per_edge_type_cutoff": {"H": {"H": 3.0, "N": 3.5}, "N": 4.0}},
    *({f"{part}_mlp_nonlinearity": name, f"{part}_mlp_hidden_layers_depth": 2}
      for part in ("scalar_embed", "allegro", "readout")
      for name in ("silu", "gelu", "mish", "tanh", "ssp", None, "None")),
    *({"weight_individual_irreps": False, "l_max": a, "parity": b} for a in (1, 2, 3) for b in (True, False))]
# Relative to the largest energy and force. In float32 the forces of nequip differ from its own float64 ones by 0.1e-6
# to 5e-6, the most at l_max 3 with 3 layers.
TOLERANCE = {"float32": 3e-6, "float64": 1e-12}


def nequip_model(dtype, **settings):
    from allegro.model import AllegroModel
    from nequip.utils.global_state import set_global_state

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_global_state()
        return AllegroModel(seed=3, model_dtype=dtype, type_names=list(NAMES), **{**BASE, **settings})


def system(n=20, seed=1):
    rng = np.random.default_rng(seed)
    return rng.random((n, 3)) * 6, rng.integers(0, 2, n).astype(np.int32)


def by_nequip(model, x, species):
    from nequip.data import AtomicDataDict as Keys

    edges = edges_of(x)
    data = {Keys.POSITIONS_KEY: torch.tensor(x), Keys.ATOM_TYPE_KEY: torch.tensor(species.astype(np.int64)),
            Keys.EDGE_INDEX_KEY: torch.tensor(np.stack([edges.center, edges.neighbor]).astype(np.int64)),
            Keys.EDGE_CELL_SHIFT_KEY: torch.zeros(len(edges.r_ij), 3, dtype=torch.float64),
            Keys.CELL_KEY: 100 * torch.eye(3, dtype=torch.float64)[None]}
    out = model(data)
    return out["atomic_energy"].detach().numpy()[:, 0], out["forces"].detach().numpy()


def edges_of(x):
    d = x[None] - x[:, None]
    center, neighbor = np.nonzero(np.linalg.norm(d, axis=-1) + 9 * np.eye(len(x)) < 4.0)
    return Edges(center.astype(np.int32), neighbor.astype(np.int32), np.ascontiguousarray(d[center, neighbor]),
                 np.searchsorted(center, np.arange(len(x) + 1)).astype(np.int64))


def by_rxmdnn(potential, x, species):
    edges = edges_of(x)
    e_i, g_ij = potential.compute(edges, species)
    f = np.zeros_like(x)
    np.add.at(f, edges.center, g_ij)
    np.add.at(f, edges.neighbor, -g_ij)
    return e_i, f


def largest_differences(ours, theirs):
    return [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_same_energies_and_forces(dtype, settings, tmp_path, record_property):
    model = nequip_model(dtype, **settings)
    save_model(tmp_path / "model.rxnn", convert(model))
    x, species = system()
    differences = largest_differences(by_rxmdnn(Allegro.load(tmp_path / "model.rxnn", NAMES, dtype), x, species),
                                      by_nequip(model, x, species))
    record_property("relative", differences)
    assert max(differences) < TOLERANCE[dtype]


@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_torchscript_files_are_read_without_their_code(settings, tmp_path, monkeypatch):
    from nequip.model.inference_models.torchscript import save_torchscript_model

    x, species = system()
    expected = by_nequip(nequip_model("float64", **settings), x, species)
    path = tmp_path / "model.nequip.pth"
    save_torchscript_model(nequip_model("float64", **settings), {"r_max": "4.0", "type_names": "H N"}, str(path), "cpu")
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch, "load", None)
    differences = largest_differences(by_rxmdnn(Allegro.load(path, NAMES, "float64"), x, species), expected)
    assert max(differences) < TOLERANCE["float64"]


def rebuilt(network, precision=None):
    """The model of nequip that a checkpoint describes."""
    from hydra.utils import get_method
    from nequip.utils.global_state import set_global_state

    content = checkpoint(network, precision)
    settings, prefix = dict(content["hyper_parameters"]["model"]), "model.sole_model."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        set_global_state()
        model = get_method(settings.pop("_target_"))(**settings)
    model.load_state_dict({name.removeprefix(prefix): value for name, value in content["state_dict"].items()
                           if name.startswith(prefix)})
    return model


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("settings", VARIANTS, ids=str)
def test_an_imported_model_goes_back_unchanged(dtype, settings, record_property):
    network = convert(nequip_model(dtype, **settings))
    model = rebuilt(network)
    again = convert(model).state_dict()
    for name, value in network.state_dict().items():  # float64: times and by the factor of a layer
        assert torch.allclose(value, again[name], rtol=0.0 if dtype == "float32" else 4e-16, atol=0), name
    x, species = system()
    differences = largest_differences(by_nequip(model, x, species),
                                      by_nequip(nequip_model(dtype, **settings), x, species))
    record_property("relative", differences)
    assert max(differences) < TOLERANCE[dtype]


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("settings", [
    {}, {"parity": False, "l_max": 2, "n_layers": 3}, {"n_layers": 1, "l_max": 3}, {"l_max": 0},
    {"embed_depth": 0, "readout_depth": 2, "latent_depth": 2}, {"r_max": ((3.0, 3.5), (4.0, 4.0))},
    {"average_neighbors": 7.0, "scale_trainable": True, "shift_trainable": True},
    {"bessel_trainable": True, "n_bessel": 5, "envelope_p": 8.0},
    {"zbl": True, "zbl_p": 8.0}, {"zbl": True, "zbl_fraction": 0.8, "r_max": ((3.0, 3.5), (0.9, 4.0))}], ids=str)
def test_a_native_model_computes_the_same_in_nequip(precision, settings, tmp_path, record_property):
    config = AllegroConfig(**{**{
        "elements": NAMES, "r_max": 4.0, "n_scalar": 8, "n_tensor": 4, "embed_width": 12, "latent_width": 10,
        "readout_width": 6, "average_neighbors": (12.0, 9.0), "scale": (0.7, 1.3), "shift": (-1.1, -2.5), "seed": 5},
        **settings})
    save_model(tmp_path / "model", AllegroNetwork(config, torch.float64))
    x, species = system()
    theirs = by_nequip(rebuilt(load_model(tmp_path / "model"), precision), x, species)
    differences = largest_differences(by_rxmdnn(Allegro.load(tmp_path / "model", NAMES, "float64"), x, species), theirs)
    record_property("relative", differences)
    assert max(differences) < TOLERANCE[precision]


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("settings", [
    {"l_max": 0, "n_layers": 1}, {"l_max": 1, "n_layers": 3}, {"l_max": 2, "parity": False},
    {"l_max": 3, "n_layers": 2}, {"latent_widths": (7, 12)}, {"latent_widths": (7, 12), "latent_silu": False},
    {"readout_silu": True}, {"readout_widths": ()}, {"embed_silu": False}, {"residual": False}, {"zbl": True},
    {"zbl": True, "zbl_fraction": 0.8, "scale_trainable": True},
    {"bessel_trainable": False, "envelope_p": 7.0}], ids=str)
def test_a_model_of_allegro_02_computes_the_same_in_nequip(precision, settings, tmp_path, record_property):
    config = LegacyConfig(**{**{
        "elements": NAMES, "r_max": 4.0, "n_tensor": 4, "embed_widths": (10, 12), "latent_widths": (12,),
        "readout_widths": (6,), "average_neighbors": (12.0, 9.0), "scale": (0.7, 1.3), "shift": (-1.1, -2.5)},
        **settings})
    network = LegacyNetwork(config, torch.float64)
    network.residual += torch.linspace(-1, 1, config.n_layers)
    save_model(tmp_path / "model", network)
    x, species = system()
    theirs = by_nequip(rebuilt(load_model(tmp_path / "model"), precision), x, species)
    differences = largest_differences(by_rxmdnn(Allegro.load(tmp_path / "model", NAMES, "float64"), x, species), theirs)
    record_property("relative", differences)
    assert max(differences) < TOLERANCE[precision]


@pytest.mark.parametrize(("settings", "message"), [
    ({"readout_mlp_nonlinearity": "softplus"}, "Softplus"), ({"allegro_mlp_nonlinearity": "sigmoid"}, "Sigmoid"),
    ({"pair_potential": {"_target_": "nequip.nn.pair_potential.LennardJones", "lj_sigma": 1.0, "lj_epsilon": 0.1}},
     "LennardJones"),
    ({"pair_potential": {**ZBL, "units": "real"}}, "units")], ids=str)
def test_what_is_not_computed_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        convert(nequip_model("float32", **settings))


def write_golden():
    """Write two small models, and the results of nequip-allegro for twelve atoms, for the tests without nequip."""
    data = Path(__file__).parents[1] / "data"
    for l_max in (1, 2):
        model = nequip_model("float64", l_max=l_max, num_scalar_features=4, num_tensor_features=2,
                             scalar_embed_mlp_hidden_layers_width=5, allegro_mlp_hidden_layers_width=5,
                             readout_mlp_hidden_layers_width=4, pair_potential=ZBL if l_max == 2 else None,
                             per_edge_type_cutoff={"H": {"H": 3.0, "N": 3.5}} if l_max == 2 else None)
        x, species = system(12)
        e, f = by_nequip(model, x, species)
        save_model(data / f"nequip_l{l_max}.rxnn", convert(model), {"imported from": "tests/validation/test_nequip.py"})
        np.savez_compressed(data / f"nequip_l{l_max}.npz", x=x, species=1 - species, e=e, f=f)


if __name__ == "__main__" and sys.argv[1:] == ["--write-golden"]:
    write_golden()
