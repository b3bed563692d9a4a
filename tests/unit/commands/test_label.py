"""rxmdnn label: frames chosen by a committee, frames of a file labelled, CP2K behind a stand-in for its shell."""

import sys

import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.calculator import CalculationFailed
from ase.calculators.singlepoint import SinglePointCalculator

from rxmdnn.commands import fidelity as fidelity_command
from rxmdnn.commands import label as label_command
from rxmdnn.errors import InputError
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import committee, cp2k_engine, labelling
from rxmdnn.labelling.executor import Processes
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import save_model

SHELL = """#!{python}
import sys
if "--version" in sys.argv:
    print(" CP2K version stand-in 1")
    sys.exit()
x, ready = [], lambda *lines: print(*lines, "* READY", sep="\\n", flush=True)
ready()
for line in sys.stdin:
    word = line.split()[0]
    if word == "VERSION":
        ready("CP2K Shell Version: 6.0")
    elif word == "WRITE_FILE":
        name, n = sys.stdin.readline().strip(), int(sys.stdin.readline())
        open(name, "w").writelines(sys.stdin.readline() for _ in range(n))
        sys.stdin.readline()
        ready()
    elif word == "LOAD":
        ready("1")
    elif word == "SET_CELL":
        [sys.stdin.readline() for _ in range(3)]
        ready()
    elif word == "SET_POS":
        n = int(sys.stdin.readline())
        x = [float(t) for _ in range(n // 3) for t in sys.stdin.readline().split()]
        sys.stdin.readline()
        ready("0.0")
    elif word == "EVAL_EF" and x[0] > 80:
        sys.exit(1)
    elif word == "GET_E":
        ready(repr(0.5 * sum(t * t for t in x)))
    elif word == "GET_F":
        ready(len(x), *(f"{{-x[k]}} {{-x[k + 1]}} {{-x[k + 2]}}" for k in range(0, len(x), 3)), "* END")
    elif word == "GET_STRESS":
        ready("1 6 5 6 2 4 5 4 3")
    else:
        ready()
"""


@pytest.fixture
def models(tmp_path):
    """Three small networks of different seeds."""
    paths = []
    for seed in range(3):
        config = AllegroConfig(("N", "H"), 3.0, n_scalar=8, n_tensor=4, embed_width=8, latent_width=8, readout_width=8,
                               average_neighbors=10.0, seed=seed)
        paths.append(tmp_path / f"{seed}.safetensors")
        save_model(paths[-1], AllegroNetwork(config, torch.float32), {})
    return paths


@pytest.fixture
def pool(tmp_path):
    """Vibrating monomers, no labels."""
    made = [frames.to_ase(*frames.KINDS[t.kind](dict(t.parameters), t.rng())) for t in frames.plan()
            if t.parameters.get("path") == "thermal"][:6]
    for k, atoms in enumerate(made):
        atoms.info = {"group": f"g{k % 2}", "temperature": 100.0 * k}
    ase.io.write(tmp_path / "pool.xyz", made, format="extxyz")
    return tmp_path / "pool.xyz"


def test_the_spread_is_that_of_the_forces_over_the_models(models, pool):
    from rxmdnn.training.dataset import Dataset
    from rxmdnn.training.labelled_frames import LabelledFrame
    from rxmdnn.training.metrics import predict

    found = committee.candidates([pool])
    spread = committee.force_spread(models, found)
    a = found[3]
    frame = LabelledFrame(np.array([("N", "H").index(s) for s in a.symbols]), a.positions, np.array(a.cell), a.pbc, 0.0,
                  np.zeros((len(a), 3)), "", "", 0.0, "", "")
    data = Dataset([frame], 3.0)
    forces = []
    for seed in range(3):
        network = AllegroNetwork(AllegroConfig(
            ("N", "H"), 3.0, n_scalar=8, n_tensor=4, embed_width=8, latent_width=8, readout_width=8,
            average_neighbors=10.0, seed=seed), torch.float64)
        forces.append(predict(network, data, [0], [[0]])[0][1])
    assert spread[3] == pytest.approx(np.sqrt(np.var(forces, axis=0).sum(1)), rel=1e-4)
    assert committee.force_spread([models[0]] * 2, found)[3] == pytest.approx(0, abs=1e-12)


def test_frames_far_from_the_training_set_are_chosen(tmp_path, capsys):
    """With the statistics of its training in its file, one model is enough: broken molecules come first."""
    model = tmp_path / "model.safetensors"
    config = AllegroConfig(("N", "H"), 3.0, n_scalar=4, n_tensor=2, embed_width=4, latent_width=4, readout_width=4,
                           average_neighbors=3.0, seed=1)
    save_model(model, AllegroNetwork(config, torch.float32), {})
    rng = np.random.default_rng(3)
    rest = frames.molecule()[None] + 4.0
    usual = [frames.to_ase(np.eye(3) * 9.0, frames.thermal(rest, 200.0, rng)) for _ in range(40)]
    for k, atoms in enumerate(usual):
        atoms.calc = SinglePointCalculator(atoms, energy=-5.0 - 1e-3 * k, forces=np.zeros((4, 3)))
    ase.io.write(tmp_path / "seen.xyz", usual[:30], format="extxyz", parallel=False)
    fidelity_command.main(["fit", str(model), str(tmp_path / "seen.xyz")])
    broken = usual[35].copy()
    broken.positions[2] += 0.5 * (broken.positions[2] - broken.positions[0])
    ase.io.write(tmp_path / "pool.xyz", [*(a.copy() for a in usual[30:]), broken], format="extxyz", parallel=False)
    label_command.main([str(tmp_path / "out.xyz"), "--select", str(model), "--from", str(tmp_path / "pool.xyz"),
                        "--count", "2"])
    assert "2 of 11 frames" in capsys.readouterr().out
    first, second = ase.io.read(tmp_path / "out.xyz", ":")
    assert first.info["origin"] == "pool.xyz:11" and first.info["latent_distance"] > 3 * second.info["latent_distance"]
    assert int(first.arrays["latent_distance"].argmax()) in (0, 2)


def test_choice():
    score, groups = [0.1, 0.9, 0.5, 7.0, 0.8], ["a", "a", "b", "b", "a"]
    assert committee.choose(score, groups, 3, 0.0, 5.0, None) == [1, 4, 2]
    assert committee.choose(score, groups, 3, 0.0, 9.0, 1) == [3, 1]
    assert committee.choose(score, groups, 3, 0.6, 5.0, None) == [1, 4]


def test_chosen_frames_are_labelled_beside_existing_ones(models, pool, tmp_path, capsys):
    pytest.importorskip("tblite")
    chosen, out = tmp_path / "chosen.xyz", tmp_path / "set.xyz"
    label_command.main([str(chosen), "--select", *map(str, models), "--from", str(pool), "--count", "3",
                        "--spread", "0", "1e9"])
    assert "3 of " in capsys.readouterr().out
    picked = ase.io.read(chosen, ":")
    every = [s.max() for s in committee.force_spread(models, committee.candidates([pool]))]
    assert [a.info["spread_eV_per_A"] for a in picked] == pytest.approx(sorted(every)[:-4:-1], abs=1e-4)
    with pytest.raises(InputError, match="exists already"):
        label_command.main([str(chosen), "--select", *map(str, models), "--from", str(pool)])
    first = [t for t in frames.plan() if t.kind == "monomer"][:2]
    labelling.run(out, first, "gfn1", Processes(1))
    label_command.main([str(out), "--frames", str(chosen), "--workers", "1"])
    made = {a.info.get("origin", a.info["group"]): a for a in ase.io.read(out, ":")}
    assert set(made) == {"monomer-000", "monomer-001", *(a.info["origin"] for a in picked)}
    last = made[picked[2].info["origin"]]
    assert last.info["group"] == picked[2].info["group"] in ("g0", "g1")
    assert last.positions == pytest.approx(picked[2].positions, abs=1e-6) and np.isfinite(last.get_forces()).all()
    assert last.info["origin"] == picked[2].info["origin"].replace(str(tmp_path), "")


@pytest.mark.parametrize(("words", "fault"), [
    (["--select", "0.safetensors", "--from", "pool.xyz"], "0.safetensors: has no statistics .* two or more"),
    (["--select", "0.safetensors", "1.safetensors"], "--from"),
    (["--select", "0.safetensors", "1.safetensors", "--from", "none.xyz"], "none.xyz: no such file"),
    (["--select", "0.safetensors", "1.safetensors", "--from", "pool.xyz", "--spread", "1e6", "1e7"], "no frame has"),
    (["--frames", "none.xyz"], "none.xyz: no such file"),
])
def test_faults(words, fault, models, pool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=fault):
        label_command.main(["out.xyz", *words])
    assert not (tmp_path / "out.xyz").exists()


def test_cp2k_by_its_shell(tmp_path, monkeypatch):
    program = tmp_path / "cp2k_shell"
    program.write_text(SHELL.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv(cp2k_engine.COMMAND, str(program))
    calculator = cp2k_engine.Cp2k()
    assert calculator.version == "CP2K stand-in 1"
    atoms = frames.to_ase(*frames.solid(5.1, (2, 1, 1)))
    atoms.calc = calculator
    mean = atoms.positions.mean(0)
    assert atoms.get_forces() == pytest.approx(mean - atoms.positions)
    assert calculator.notes["kpoints"] == "1 2 2" and calculator.notes["net_force"] == pytest.approx(
        np.linalg.norm(mean))
    assert atoms.get_stress() == pytest.approx([-1, -2, -3, -4, -5, -6])  # CP2K: compression positive
    atoms.positions[0] = 85.0  # the process dies
    with pytest.raises(CalculationFailed):
        atoms.get_potential_energy()
    atoms.positions[0] = 0.0
    assert atoms.get_potential_energy() == pytest.approx((atoms.positions**2).sum() / 2)


def test_missing_cp2k_is_reported(monkeypatch):
    monkeypatch.setenv(cp2k_engine.COMMAND, "no_such_program")
    with pytest.raises(InputError, match="no_such_program"):
        cp2k_engine.Cp2k()
