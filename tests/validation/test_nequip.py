"""Allegro against nequip-allegro with the same weights, if the packages nequip and nequip-allegro are installed.

``python tests/validation/test_nequip.py --write-golden`` writes the reference files of tests/unit.
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.compiled import CompiledLocal
from rxmdnn.models.import_nequip import convert
from rxmdnn.models.model_file import load_model, save_model

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
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}  # relative to the largest energy and force


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


@pytest.mark.parametrize(("settings", "message"), [
    ({"readout_mlp_nonlinearity": "softplus"}, "Softplus"), ({"allegro_mlp_nonlinearity": "sigmoid"}, "Sigmoid"),
    ({"pair_potential": {"_target_": "nequip.nn.pair_potential.LennardJones", "lj_sigma": 1.0, "lj_epsilon": 0.1}},
     "LennardJones"),
    ({"pair_potential": {**ZBL, "units": "real"}}, "units")], ids=str)
def test_what_is_not_computed_is_refused(settings, message):
    with pytest.raises(InputError, match=message):
        convert(nequip_model("float32", **settings))


TRAINING = """
run: [train]
cutoff_radius: 4.0
model_type_names: [H, N]
chemical_symbols: ${model_type_names}
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  split_dataset: {file_path: frames.xyz, train: 6, val: 2}
  transforms:
    - {_target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper, model_type_names: "${model_type_names}"}
    - {_target_: nequip.data.transforms.NeighborListTransform, r_max: "${cutoff_radius}"}
  train_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 2}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: 2}
  stats_manager:
    _target_: nequip.data.CommonDataStatisticsManager
    dataloader_kwargs: {batch_size: 2}
    type_names: ${model_type_names}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 2
  enable_progress_bar: false
  logger: false
  callbacks: [{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: ., filename: last, monitor: null}]
training_module:
  _target_: nequip.train.EMALightningModule
  loss: {_target_: nequip.train.EnergyForceLoss, per_atom_energy: true, coeffs: {total_energy: 1.0, forces: 1.0}}
  val_metrics: {_target_: nequip.train.EnergyForceMetrics, coeffs: {per_atom_energy_mae: 1.0, forces_mae: 1.0}}
  optimizer: {_target_: torch.optim.Adam, lr: 0.01}
  model:
    _target_: allegro.model.AllegroModel
    seed: 4
    model_dtype: float64
    type_names: ${model_type_names}
    r_max: ${cutoff_radius}
    l_max: 1
    num_layers: 2
    num_scalar_features: 8
    num_tensor_features: 4
    avg_num_neighbors: 10.0
    radial_chemical_embed: {_target_: allegro.nn.TwoBodyBesselScalarEmbed}
    per_type_energy_shifts: {H: -1.5, N: 2.0}
global_options: {allow_tf32: false}
"""


def test_checkpoint_and_package(tmp_path, record_property):
    import ase.io
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    rng = np.random.default_rng(2)
    frames = []
    for _ in range(8):
        atoms = Atoms("NH3" * 3, positions=rng.random((12, 3)) * 5, cell=[9, 9, 9], pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=rng.normal(), forces=rng.normal(size=(12, 3)))
        frames.append(atoms)
    ase.io.write(tmp_path / "frames.xyz", frames, format="extxyz")
    (tmp_path / "train.yaml").write_text(TRAINING)

    def run(name, *words):
        done = subprocess.run([Path(sys.executable).with_name(name), *words], cwd=tmp_path,
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    def import_model(*words):  # in its own process, where nothing else has initialized nequip
        return subprocess.run([sys.executable, "-m", "rxmdnn", "import-model", *words], cwd=tmp_path,
                              capture_output=True, text=True, check=False)

    run("nequip-train", "-cp", str(tmp_path), "-cn", "train.yaml", f"hydra.run.dir={tmp_path}")
    run("nequip-package", "build", "last.ckpt", "model.nequip.zip")
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = load_saved_model(tmp_path / "last.ckpt")
    x, species = system()
    expected = by_nequip(model, x, species)
    for name in ("last.ckpt", "model.nequip.zip"):
        out = tmp_path / f"{name}.rxnn"
        done = import_model(name, out.name, "--trust", "--json", "figures.json")
        assert (done.returncode, done.stderr) == (0, ""), done.stderr[-2000:]
        summary = json.loads((tmp_path / "figures.json").read_text())
        assert len(done.stdout.splitlines()) == len(summary)
        assert (summary["l_max"], summary["layers"], summary["precision"]) == (1, 2, "float64")
        assert load_model(out).config.elements == NAMES
        differences = largest_differences(by_rxmdnn(Allegro.load(out, NAMES, "float64"), x, species), expected)
        record_property(name, differences)
        assert max(differences) < TOLERANCE["float64"]
    compiled = tmp_path / "compiled.nequip.pt2"  # machine code; its compilation takes a minute
    run("nequip-compile", "last.ckpt", compiled.name, "--mode", "aotinductor", "--device", "cpu", "--target",
        "pair_allegro")
    with pytest.raises(InputError, match="machine code, not the weights"):
        load_model(compiled)
    differences = largest_differences(by_rxmdnn(CompiledLocal(compiled, NAMES), x, species), expected)
    record_property("compiled", differences)
    assert max(differences) < TOLERANCE["float64"]
    for name in ("last.ckpt", "model.nequip.zip"):
        (tmp_path / f"broken.{name}").write_bytes((tmp_path / name).read_bytes()[:999])
        done = import_model(f"broken.{name}", "out", "--trust")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr[-2000:]
        assert f"broken.{name}: nequip cannot read it" in done.stderr and not (tmp_path / "out").exists()


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
