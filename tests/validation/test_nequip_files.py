"""Models in and out through the command line, with the programs of nequip on the other side.

A Python that has nequip, nequip-allegro and rxmdnn runs them: the one named by RXMDNN_NEQUIP_PYTHON, or else the one of
the tests; the tests are skipped where neither has nequip. ``bash tools/nequip_env.sh`` makes one and runs them.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch

import rxmdnn
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import load_model, save_model

HERE = all(importlib.util.find_spec(name) for name in ("nequip", "allegro"))
PYTHON = os.environ.get("RXMDNN_NEQUIP_PYTHON") or (sys.executable if HERE else "")
pytestmark = [pytest.mark.nequip, pytest.mark.validation, pytest.mark.skipif(
    not PYTHON, reason="set RXMDNN_NEQUIP_PYTHON to a Python with nequip and nequip-allegro (tools/nequip_env.sh)")]

ROOT = Path(rxmdnn.__file__).parents[1]
SHIPPED = ROOT / "input" / "ammonia" / "ammonia_legato.safetensors"
# Of energies of atoms, forces and stresses, relative to the largest (at least 1 eV, 1 eV/Å, 1 eV/Å³). Float64: sums of
# another order. Float32 weights in float64: factors of layers are multiplied in float32. Float32: its rounding.
FLOAT64, WEIGHTS32, FLOAT32 = 1e-9, 3e-7, 5e-6

TRAINING = """
run: [train]
cutoff_radius: 4.0
model_type_names: [H, N]
chemical_species: ${model_type_names}
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  split_dataset: {file_path: frames.xyz, train: 40, val: 8}
  transforms:
    - {_target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper, model_type_names: "${model_type_names}"}
    - {_target_: nequip.data.transforms.NeighborListTransform, r_max: "${cutoff_radius}"}
  train_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 4}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 8}
  stats_manager:
    _target_: nequip.data.CommonDataStatisticsManager
    dataloader_kwargs: {batch_size: 8}
    type_names: ${model_type_names}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 4
  enable_progress_bar: false
  logger: false
  callbacks: [{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: ., filename: last, monitor: null}]
training_module:
  _target_: nequip.train.EMALightningModule
  ema_decay: 0.9
  loss: {_target_: nequip.train.EnergyForceLoss, per_atom_energy: true, coeffs: {total_energy: 1.0, forces: 1.0}}
  val_metrics: {_target_: nequip.train.EnergyForceMetrics, coeffs: {per_atom_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    _target_: allegro.model.AllegroModel
    seed: 4
    model_dtype: float64
    type_names: ${model_type_names}
    r_max: ${cutoff_radius}
    radial_chemical_embed: {_target_: allegro.nn.TwoBodyBesselScalarEmbed, num_bessels: 8}
    scalar_embed_mlp_hidden_layers_width: 24
    l_max: 2
    num_layers: 2
    num_scalar_features: 16
    num_tensor_features: 4
    allegro_mlp_hidden_layers_width: 20
    readout_mlp_hidden_layers_width: 12
    avg_num_neighbors: ${training_data_stats:num_neighbors_mean}
    per_type_energy_scales: ${training_data_stats:per_type_forces_rms}
    per_type_energy_shifts: {H: -50.2, N: -117.5}
    pair_potential: {_target_: nequip.nn.pair_potential.ZBL, units: metal, chemical_species: "${chemical_species}"}
global_options: {allow_tf32: false}
"""


def run(*words, cwd, code=0, path=ROOT):
    """A program of that Python, which looks for modules in ``path`` first; its output."""
    env = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([PYTHON, *map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def rxmdnn_command(*words, cwd, code=0):
    return run("-m", "rxmdnn", *words, cwd=cwd, code=code)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint and a package trained on small frames of ammonia, and frames to compare on."""
    place = tmp_path_factory.mktemp("nequip")
    frames = ase.io.read(ROOT / "input" / "ammonia" / "gfn1_xtb.xyz", ":")
    small, large = [a for a in frames if len(a) < 10], [a for a in frames if len(a) > 100]
    ase.io.write(place / "frames.xyz", small[:48])
    ase.io.write(place / "compare.xyz", [*small[50:100:10], large[0]], columns=["symbols", "positions"],
                 write_results=False)
    (place / "train.yaml").write_text(TRAINING)
    run("-m", "nequip.scripts.train", "-cp", place, "-cn", "train.yaml", f"hydra.run.dir={place}", cwd=place)
    run("-m", "nequip.scripts.package", "build", "last.ckpt", "last.nequip.zip", cwd=place)
    return place


def by_nequip(model, place, path=ROOT):
    out = place / f"{Path(model).name}.npz"
    run(Path(__file__).with_name("energies_by_nequip.py"), model, "compare.xyz", out, cwd=place, path=path)
    return dict(np.load(out))


def by_rxmdnn(model, place, precision="float64"):
    calc, rows = rxmdnn.Calculator(str(model), precision=precision), []
    for atoms in ase.io.read(place / "compare.xyz", ":"):
        atoms.calc = calc
        rows.append((atoms.get_potential_energies(), atoms.get_forces(), atoms.get_stress(voigt=False)))
    e_i, f, stress = zip(*rows)
    return {"e_i": np.concatenate(e_i), "f": np.concatenate(f), "stress": np.stack(stress)}


def check_equal(ours, theirs, tolerance):
    assert np.abs(theirs["f"]).max() > 0.1
    for name, value in ours.items():
        assert np.abs(value - theirs[name]).max() < tolerance * max(1.0, np.abs(theirs[name]).max()), name


@pytest.mark.parametrize("name", ["last.ckpt", "last.nequip.zip"])
def test_a_trained_model_comes_in_and_goes_out(name, folder, tmp_path):
    model, back = tmp_path / "in.safetensors", tmp_path / "back.ckpt"
    done = rxmdnn_command("import-model", name, model, "--trust", "--json", tmp_path / "in.json", cwd=folder)
    summary = json.loads((tmp_path / "in.json").read_text())
    assert len(done.stdout.splitlines()) == len(summary)
    assert (summary["elements"], summary["l_max"], summary["ZBL"]) == (["H", "N"], 2, True)
    theirs = by_nequip(name, folder)
    check_equal(by_rxmdnn(model, folder), theirs, FLOAT64)

    rxmdnn_command("export-model", model, back, cwd=folder)
    check_equal(by_nequip(back, folder), theirs, FLOAT64)

    rxmdnn_command("import-model", back, tmp_path / "again.safetensors", "--trust", cwd=folder)
    first, again = load_model(model).state_dict(), load_model(tmp_path / "again.safetensors").state_dict()
    assert all(torch.allclose(first[key], again[key], rtol=1e-15, atol=0) for key in first)


@pytest.mark.parametrize("name", ["last.ckpt", "last.nequip.zip"])
def test_damaged_files_get_one_line(name, folder, tmp_path):
    (tmp_path / f"broken.{name}").write_bytes((folder / name).read_bytes()[:999])
    done = rxmdnn_command("import-model", f"broken.{name}", "out", "--trust", cwd=tmp_path, code=2)
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr[-2000:]
    assert f"broken.{name}: nequip cannot read it" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(("out", "precision"), [("model.ckpt", "float64"), ("model.nequip.zip", "float32")])
def test_a_shipped_model_goes_out_and_comes_back(out, precision, folder, tmp_path):
    rxmdnn_command("export-model", SHIPPED, tmp_path / out, "--precision", precision, cwd=folder)
    check_equal(by_rxmdnn(SHIPPED, folder), by_nequip(tmp_path / out, folder),
                WEIGHTS32 if precision == "float64" else FLOAT32)
    rxmdnn_command("import-model", tmp_path / out, tmp_path / "back.safetensors", "--trust", cwd=folder)
    first, again = load_model(SHIPPED).state_dict(), load_model(tmp_path / "back.safetensors").state_dict()
    assert all(torch.allclose(first[key].double(), again[key].double(), rtol=0 if precision == "float32" else 1e-15,
                              atol=0) for key in first)


ZBL = AllegroNetwork(AllegroConfig(
    elements=("N", "H"), r_max=4.0, n_scalar=8, n_tensor=4, embed_width=12, latent_width=10, readout_width=6,
    average_neighbors=12.0, shift=(-1.0, -2.0), zbl=True, zbl_fraction=0.9, seed=2), torch.float64)
OLD = LegacyNetwork(LegacyConfig(
    elements=("N", "H"), r_max=4.0, n_tensor=4, embed_widths=(10, 12), latent_widths=(12,), average_neighbors=12.0,
    shift=(-1.0, -2.0), seed=2), torch.float64)


@pytest.mark.parametrize(("network", "out"), [
    (ZBL, "model.ckpt"), (ZBL, "model.nequip.zip"), (OLD, "model.nequip.zip")], ids=["ZBL", "ZBL packed", "0.2 packed"])
def test_modules_that_nequip_does_not_have(network, out, folder, tmp_path):
    save_model(tmp_path / "model.safetensors", network)
    rxmdnn_command("export-model", tmp_path / "model.safetensors", tmp_path / out, cwd=folder)
    path = ROOT
    if out.endswith(".zip"):  # it is loaded where there is no rxmdnn
        path = tmp_path / "without"
        (path / "rxmdnn").mkdir(parents=True)
        (path / "rxmdnn" / "__init__.py").write_text("raise ImportError('not here')")
    check_equal(by_rxmdnn(tmp_path / "model.safetensors", folder), by_nequip(tmp_path / out, folder, path), FLOAT64)
    done = rxmdnn_command("import-model", tmp_path / out, tmp_path / "back.safetensors", "--trust", cwd=folder,
                          code=0 if network is ZBL else 2)
    if network is ZBL:
        again = load_model(tmp_path / "back.safetensors").config
        assert again.zbl_fraction == 0.9 and np.allclose(again.zbl_cutoff, network.config.zbl_cutoff, rtol=1e-12)
    else:
        assert "other parts than an Allegro energy model" in done.stderr and done.stderr.count("\n") == 1


def test_an_exported_model_runs_compiled(folder, tmp_path):
    rxmdnn_command("export-model", SHIPPED, tmp_path / "model.ckpt", cwd=folder)
    run("-m", "nequip.scripts.compile", tmp_path / "model.ckpt", tmp_path / "model.nequip.pt2", "--mode", "aotinductor",
        "--device", "cpu", "--target", "ase", cwd=folder)
    check_equal(by_rxmdnn(SHIPPED, folder, "float32"), by_nequip(tmp_path / "model.nequip.pt2", folder), FLOAT32)


SAVE_TORCHSCRIPT = """
import sys
from pathlib import Path
import torch
from nequip.model.inference_models.torchscript import save_torchscript_model
from nequip.model.saved_models.load_utils import load_saved_model
from nequip.utils.global_state import set_global_state
set_global_state()
model = load_saved_model(sys.argv[1]).eval()
metadata = {name: str(value) for name, value in model.metadata.items()}
save_torchscript_model(model, metadata, Path(sys.argv[2]), torch.device("cpu"))
"""


def test_a_later_torchscript_file_is_refused(folder, tmp_path):
    """nequip-compile makes such files with torch below 2.10; its function still does."""
    run("-c", SAVE_TORCHSCRIPT, "last.ckpt", tmp_path / "model.nequip.pth", cwd=folder)
    done = rxmdnn_command("import-model", tmp_path / "model.nequip.pth", tmp_path / "out", cwd=folder, code=2)
    assert "is imported from its checkpoint (.ckpt) or package (.nequip.zip)" in done.stderr
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_compiled_model_runs_where_a_deck_names_it(folder, tmp_path):
    """The machine code of nequip-compile for pair_allegro, through the function that a deck line calls."""
    run("-m", "nequip.scripts.compile", "last.ckpt", tmp_path / "model.nequip.pt2", "--mode", "aotinductor", "--device",
        "cpu", "--target", "pair_allegro", cwd=folder)
    with pytest.raises(rxmdnn.InputError, match="machine code, not the weights"):
        load_model(tmp_path / "model.nequip.pt2")
    rxmdnn_command("import-model", "last.ckpt", tmp_path / "in.safetensors", "--trust", cwd=folder)
    energies = {}
    for kind, model in (("compiled", "model.nequip.pt2 1"), ("allegro", "in.safetensors")):
        (tmp_path / f"{kind}.in").write_text(f"{kind} {model} 2 H 1.008 N 14.007\n")
        (tmp_path / "rxmd.in").write_text(f"time 0.5 4\ntemperature 150 1.0 1\nmodel {kind}.in\nio_step 100 1\n"
                                          f"structure {folder / 'compare.xyz'}\nprecision float64\n")
        rxmdnn_command("run", "--rxmdin", tmp_path / "rxmd.in", "--outDir", tmp_path / kind, cwd=tmp_path)
        energies[kind] = rxmdnn.read_energies(tmp_path / kind)["potential_eV"]
    assert energies["compiled"] == pytest.approx(energies["allegro"], rel=1e-12)
