"""Export to nequip without nequip: the content of a checkpoint, and the messages of ``rxmdnn export-model``."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from rxmdnn.commands.export_model import main
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.export_nequip import NEEDS
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import save_model
from rxmdnn.models.nequip_checkpoint import checkpoint

ROOT = Path(__file__).parents[3]
SMALL = {"n_scalar": 64, "n_tensor": 16, "shift": (-1.0, -2.0), "scale": (0.5, 2.0), "average_neighbors": (45.0, 43.0)}

# As nequip 0.19.1 with nequip-allegro 0.8.3 names them, for two layers of l_max 1 with ZBL and a cutoff for each pair.
NAMES = {
    "_empty": (0,), "func.edge_norm._rmax_recip": (4,),
    "func.radial_chemical_embed.bessel_encode.bessel_weights": (1, 8),
    "func.radial_chemical_embed.type_embed.center_embed.weight": (2, 32),
    "func.radial_chemical_embed.type_embed.neighbor_embed.weight": (2, 32),
    "func.radial_chemical_embed.type_embed.basis_linear.mlp.0.weight": (8, 64),
    "func.scalar_embed_mlp.mlp_module.mlp.0.weight": (64, 64),
    "func.scalar_embed_mlp.mlp_module.mlp.2.weight": (64, 64),
    "func.tensor_embed.env_embed_linear.mlp.0.weight": (64, 32),
    "func.allegro.first_layer_env_embed_projection.mlp.0.weight": (64, 96),
    "func.allegro.latents.0.mlp.0.weight": (80, 64), "func.allegro.latents.0.mlp.2.weight": (64, 96),
    "func.allegro.latents.1.mlp.0.weight": (144, 64), "func.allegro.latents.1.mlp.2.weight": (64, 64),
    "func.allegro.tps.0.weights": (16, 4), "func.allegro.tps.0.w3j": (4, 4, 4, 4),
    "func.allegro.tps.1.weights": (16, 2), "func.allegro.tps.1.w3j": (2, 4, 1),
    "func.edge_readout.mlp_module.mlp.0.weight": (192, 32), "func.edge_readout.mlp_module.mlp.2.weight": (32, 1),
    "func.per_type_energy_scale_shift.scales": (2, 1), "func.per_type_energy_scale_shift.shifts": (2, 1),
    "func.pair_potential.atomic_numbers": (2,), "func.pair_potential._qqr2exesquare": ()}
FLOAT64 = ("_rmax_recip", "bessel_weights", "scales", "shifts", "_qqr2exesquare")  # in a float32 model too


def network(dtype=torch.float32, **settings):
    return AllegroNetwork(AllegroConfig(**{"elements": ("N", "H"), "r_max": 4.5, **SMALL, **settings}), dtype)


def state(content):
    prefix = "model.sole_model.model."
    return {name.removeprefix(prefix): value for name, value in content["state_dict"].items() if name != "run_stage"}


def test_names_shapes_and_types_are_those_of_nequip():
    arrays = state(checkpoint(network(zbl=True, r_max=((4.5, 3.0), (4.0, 4.5)))))
    assert {name: tuple(value.shape) for name, value in arrays.items()} == NAMES
    assert {name for name, value in arrays.items() if value.dtype == torch.float64} == {
        name for name in NAMES if name.endswith(FLOAT64)}


def test_settings_and_arrays_hold_the_model():
    net = network(zbl=True, zbl_fraction=0.8)
    content = checkpoint(net, "float64")
    settings, arrays = content["hyper_parameters"]["model"], state(content)
    assert settings["type_names"] == ["N", "H"] and settings["model_dtype"] == "float64"
    assert settings["avg_num_neighbors"] == {"N": 45.0, "H": 43.0}
    assert settings["per_type_energy_shifts"] == {"N": -1.0, "H": -2.0}
    assert settings["pair_potential"]["cutoffs"] == net.config.zbl_cutoff.tolist()
    assert all(value.dtype == torch.float64 for value in arrays.values())
    # column u (l_max + 1) + l of nequip is column l U + u here; of the projection, after the scalars
    ours, theirs = net.tensor_embed.weight, arrays["func.tensor_embed.env_embed_linear.mlp.0.weight"]
    assert all(torch.equal(theirs[:, u * 2 + l].float(), ours[:, l * 16 + u]) for u in range(16) for l in (0, 1))  # noqa: E741
    ours, theirs = net.project.weight, arrays["func.allegro.first_layer_env_embed_projection.mlp.0.weight"]
    assert torch.equal(theirs[:, :64].float(), ours[:, :64])
    assert torch.equal(theirs[:, 64 + 3 * 2 + 1].float(), ours[:, 64 + 16 + 3])
    table, dense = net.tables[0], arrays["func.allegro.tps.0.w3j"].numpy()
    assert np.count_nonzero(dense) == len(table.coefficient)
    assert np.allclose(dense[table.path, table.m1, table.m2, table.m3], table.coefficient)


def test_splines_and_other_nonlinearities():
    net = network(n_splines=10, spline_span=7, latent_activation="mish")
    content = checkpoint(net)
    settings, arrays = content["hyper_parameters"]["model"], state(content)
    assert settings["radial_chemical_embed"]["_target_"].endswith("TwoBodySplineScalarEmbed")
    assert settings["allegro_mlp_nonlinearity"] == "mish" and settings["readout_mlp_nonlinearity"] == "silu"
    weights = arrays["func.radial_chemical_embed.spline.class_embed.weight"]
    assert torch.equal(weights.reshape(2, 2, 64, 10)[1, 0, 5], net.spline[1, 0, :, 5])
    assert not any("bessel" in name or "type_embed" in name for name in arrays)


def test_the_shipped_models_through_the_command(tmp_path, capsys):
    source = ROOT / "input" / "ammonia" / "ammonia_legato.safetensors"
    main([str(source), str(tmp_path / "legato.ckpt"), "--json", str(tmp_path / "model.json")])
    said = capsys.readouterr().out
    assert "elements           N H" in said and "--target pair_allegro" in said
    summary = json.loads((tmp_path / "model.json").read_text())
    assert summary["precision"] == "float32" and summary["loads with"] == NEEDS
    content = torch.load(tmp_path / "legato.ckpt", weights_only=True)  # numbers, text and tensors only
    module = content["hyper_parameters"]["info_dict"]["training_module"]
    assert module["_target_"] == "nequip.train.NequIPLightningModule"
    assert content["rxmdnn"]["exported from"] == source.name


def test_a_model_that_needs_our_module_says_so(tmp_path, capsys):
    save_model(tmp_path / "model", network(zbl=True, zbl_fraction=0.8))
    main([str(tmp_path / "model"), str(tmp_path / "model.ckpt")])
    said = capsys.readouterr().out
    assert f"loads with         {NEEDS} and rxmdnn" in said and "A package (.nequip.zip) carries it" in said


def test_a_model_of_allegro_02_names_its_layers(tmp_path, capsys):
    net = LegacyNetwork(LegacyConfig(("H", "N"), 4.0, n_tensor=4, embed_widths=(6, 8), latent_widths=(8,)))
    save_model(tmp_path / "old", net)
    main([str(tmp_path / "old"), str(tmp_path / "old.ckpt")])
    assert f"loads with         {NEEDS} and rxmdnn" in capsys.readouterr().out
    content = torch.load(tmp_path / "old.ckpt", weights_only=True)
    settings, arrays = content["hyper_parameters"]["model"], state(content)
    assert settings["_target_"] == "rxmdnn.models.nequip_builders.LegacyAllegroModel"
    given = settings["layers"]["weights"] | settings["layers"]["constants"]
    of_layers = {name.split(".")[-1]: list(value.shape) for name, value in arrays.items() if ".legacy." in name}
    assert of_layers == given and given["embed_1"] == [6, 8] and given["ratios"] == [3, 2]
    dense, table = arrays["func.legacy.product_0"].reshape(4, 4, -1).numpy(), net.tables[0]
    assert np.allclose(dense[table.m1, table.m2, table.m3], table.coefficient)


def test_settings_that_nequip_does_not_have_are_refused():
    @dataclass(frozen=True)
    class Newer(AllegroConfig):
        nonlinearity: str = "silu"

    net = network()
    net.config = Newer(**net.config.to_dict())
    checkpoint(net)
    net.config = Newer(**net.config.to_dict() | {"nonlinearity": "gelu"})
    with pytest.raises(InputError, match="nonlinearity is 'gelu'"):
        checkpoint(net)


def command(*words):
    return subprocess.run([sys.executable, "-m", "rxmdnn", "export-model", *map(str, words)], capture_output=True,
                          text=True, check=False)


def test_mistakes_get_one_line_and_change_no_file(tmp_path):
    model = tmp_path / "model.safetensors"
    save_model(model, network())
    (tmp_path / "text.ckpt").write_text("weights")
    torch.save({"state_dict": {}}, tmp_path / "foreign.ckpt")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    for words, message in [
            ((tmp_path / "none", tmp_path / "a.ckpt"), "none: cannot be read"),
            ((tmp_path / "foreign.ckpt", tmp_path / "a.ckpt"), "foreign.ckpt: a checkpoint, or another file"),
            ((model, tmp_path / "text.ckpt"), "text.ckpt: exists already"),
            ((model, tmp_path / "a.pth"), "a.pth: the name must end in .ckpt"),
            ((model, tmp_path / "none" / "a.ckpt"), "a.ckpt: cannot be written: the folder"),
            ((model, "/proc/a.ckpt"), "/proc/a.ckpt: cannot be written"),
            ((model, tmp_path / "a.nequip.zip", "--python", tmp_path / "none"), "a package needs a Python with nequip"),
            ((model, tmp_path / "a.nequip.zip", "--python", "/bin/false"), "or write a.ckpt, which needs neither")]:
        done = command(*words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert message in done.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_help():
    done = command("--help")
    assert done.returncode == 0 and "nequip-compile" in done.stdout and "MODEL OUT" in done.stdout
