"""Every deck under input/ is sound, and every run deck runs for a few steps."""

import json
import os
import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from mpi4py import MPI

from rxmdnn.commands import check
from rxmdnn.commands import run as run_command
from rxmdnn.commands import tfail as tfail_command
from rxmdnn.commands import train as train_command
from rxmdnn.deck import language as decks
from rxmdnn.deck.run_table import RUN
from rxmdnn.deck.tfail import TABLE as TFAIL
from rxmdnn.errors import InputError
from rxmdnn.io.log import read_energies
from rxmdnn.survival import results
from rxmdnn.survival.study import Study
from rxmdnn.training.evaluate import evaluate

INPUT = Path(__file__).parents[2] / "input"
RUNS = sorted(f for f in INPUT.glob("**/*.in") if check.kind_of(str(f)) == "rxmd.in")
CLASSICAL = [f for f in RUNS if decks.read(f, RUN)["pimd"].beads is decks.read(f, RUN)["ensemble"].kind is None]
TRAINING = sorted(INPUT.glob("**/train*.in"))
SMALL = {"cuau": ("start.xyz", "1", "1", "1"), "methanol": ("start.xyz",)}  # smaller starts of the decks of a folder
ELSEWHERE = {"psto": ("published/psto.pth", "pbtio3.xyz", "1", "1", "1")}  # models that are not shipped; small starts
STARTS = SMALL | {"silicon": ("bulk.xyz", "2", "2", "2")} | {k: v[1:] for k, v in ELSEWHERE.items()}
MODELS = {**{name: (name, "frames.xyz") for name in SMALL},
          **{f"silicon_{t}": ("silicon", f"labels_{t}.xyz") for t in ("300K", "20000K")}}  # folder and frames
LABELS = sorted(INPUT.glob("*/labels.py"))
STUDIES = sorted(f for f in INPUT.glob("**/*.in") if check.kind_of(str(f)) == "tfail.in")


def test_there_are_decks():
    assert RUNS and TRAINING and STUDIES and {path.parent.name for path in LABELS} == set(SMALL)


def structure(deck, *default):
    """The arguments for a small start of a run deck."""
    system = deck.relative_to(INPUT).parts[0]
    name, *cells = STARTS.get(system, default)
    return ["--structure", str(INPUT / system / name), *cells]


def model(deck, tmp_path):
    """The arguments for the model of a run deck, if it is not beside it; skips the test where it is absent."""
    system = deck.relative_to(INPUT).parts[0]
    if system not in ELSEWHERE:
        return []
    file = Path(os.environ.get("RXMDNN_TEST_DATA", ".")) / ELSEWHERE[system][0]
    if not file.is_file():
        pytest.skip(f"set RXMDNN_TEST_DATA to a folder with {ELSEWHERE[system][0]}")
    (tmp_path / "rxmdnn.in").write_text((INPUT / system / "rxmdnn.in").read_text().replace(file.name, str(file)))
    return ["--model", str(tmp_path / "rxmdnn.in")]


@pytest.mark.parametrize("deck", STUDIES, ids=lambda f: str(f.relative_to(INPUT)))
def test_the_study_is_sound_and_runs(deck, tmp_path, capsys):
    """Its sizes fit, its criteria can be met; a first check of the smallest is run, with the model that is shipped."""
    text = re.sub(r"(?m)^model +\S+", f"model {INPUT}/ammonia/ammonia_gfn1.safetensors", deck.read_text())
    text = re.sub(r"(?m)^(start|output)( +)(\S+)", lambda m: f"{m[1]} " + os.path.relpath(
        deck.parent / m[3] if m[1] == "start" else tmp_path / "out", tmp_path), text)
    text = re.sub(r"(?m)^thermalize +\S+ +\S+", f"thermalize {INPUT}/ammonia/ammonia_gfn1.safetensors 0.005", text)
    (tmp_path / "tfail.in").write_text(text + ("" if "\nmodel" in text else f"\nmodel {INPUT}/ammonia/ammonia_gfn1"
                                                ".safetensors shipped 1\n"))
    check.main([str(tmp_path / "tfail.in")])
    assert "tfail.in: tfail.in: valid" in capsys.readouterr().out
    study = Study(decks.read(tmp_path / "tfail.in", TFAIL), MPI.COMM_SELF)
    plan = study.plan
    n, step = min(plan.starts), plan.check_steps
    assert set(plan.starts) == set(plan.deck["sizes"].atoms)
    argv = ["--sizes", str(n), "--replicas", "1", "--cap", str((step + 0.5) * plan.dt / 1000),
            "--outDir", str(tmp_path / "out")]
    tfail_command.main([str(tmp_path / "tfail.in"), *argv])
    rows = results.read(tmp_path / "out")
    assert len(rows) == len(plan.deck["model"]) * len(plan.deck["temperatures"].t)
    assert all(0 < r["steps"] <= step for r in rows)


@pytest.mark.parametrize("deck", RUNS + TRAINING, ids=lambda f: str(f.relative_to(INPUT)))
def test_the_deck_is_sound(deck, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check.main([str(deck), *model(deck, tmp_path)])
    assert f"{deck}: {'rxmd.in' if deck in RUNS else 'train.in'}: valid" in capsys.readouterr().out


@pytest.mark.parametrize("deck", sorted(set(RUNS) - set(CLASSICAL)), ids=lambda f: str(f.relative_to(INPUT)))
def test_the_deck_runs_rings_or_baths_and_keeps_its_books(deck, tmp_path):
    run_command.main(["--rxmdin", str(deck), "--outDir", str(tmp_path), "--ntime_step", "8", "--pstep", "1",
                      *structure(deck, "solid_I.cif", "1", "1", "1"), *model(deck, tmp_path)], MPI.COMM_SELF)
    e = read_energies(tmp_path)
    assert list(e["step"]) == list(range(9))
    assert np.ptp(e["conserved_eV"]) < 0.06 * np.ptp(e["etotal_eV"])


@pytest.mark.parametrize("deck", CLASSICAL, ids=lambda f: str(f.relative_to(INPUT)))
def test_the_deck_runs_and_conserves_energy(deck, tmp_path):
    """The error of the total energy over a few steps is that of velocity Verlet: it falls as dt squared."""
    dt, errors = decks.read(deck, RUN)["time"].dt, []
    for n in (6, 12):
        out = tmp_path / str(n)
        run_command.main(["--rxmdin", str(deck), "--outDir", str(out), "--ntime_step", str(n), "--dt", str(6 * dt / n),
                          "--pstep", "1", *structure(deck, "solid_I.cif", "2", "2", "2"), *model(deck, tmp_path)],
                         MPI.COMM_SELF)
        e = read_energies(out)
        assert list(e["step"]) == list(range(n + 1))
        kept = e.get("conserved_eV", e["etotal_eV"])  # of a driven run, without the work of what drives it
        errors.append(abs(kept - kept[0]).max())
    assert 3.0 < errors[0] / errors[1] < 5.5


@pytest.mark.parametrize("name", SMALL)
def test_a_calm_run_has_no_incident_and_says_whose_bonds_are_watched(name, tmp_path):
    deck = INPUT / name / "rxmd.in"
    assert run_command.main(["--rxmdin", str(deck), "--outDir", str(tmp_path), "--ntime_step", "200",
                             *structure(deck)], MPI.COMM_SELF) == 0
    log = (tmp_path / "run.log").read_text()
    assert "fidelity: 0 incident(s)" in log and not (tmp_path / "incidents.jsonl").exists()
    assert {"cuau": "not watched for Cu-Cu, Cu-Au, Au-Au: the training frames do not tell bonds from other pairs there",
            "methanol": "bond and coordination: watched for H-H, H-C, H-O, C-C, C-O, O-O"}[name] in log


def test_a_broken_molecule_is_an_incident(tmp_path):
    """The hydrogen of the hydroxyl group leaves."""
    atoms = ase.io.read(INPUT / "methanol/start.xyz")
    atoms.set_array("velo", np.where(np.arange(6)[:, None] == 3, [[0.6, 0.0, 0.0]], 0.0))  # Å/fs
    atoms.positions[3] += 0.3 * (atoms.positions[3] - atoms.positions[1])
    ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
    code = run_command.main(["--rxmdin", str(INPUT / "methanol/rxmd.in"), "--outDir", str(tmp_path / "out"),
                             "--ntime_step", "60", "--fidelity", "stop", "5",
                             "--structure", str(tmp_path / "start.xyz")], MPI.COMM_SELF)
    first = json.loads((tmp_path / "out/incidents.jsonl").read_text().splitlines()[0])
    assert code == 3 and first["kinds"].keys() & {"bond", "coordination"}


@pytest.mark.parametrize("script", LABELS, ids=lambda f: f.parent.name)
def test_the_frames_are_those_of_the_script(script):
    """Labels of the committed frames, by the calculator of the script."""
    frames = ase.io.read(script.parent / "frames.xyz", ":")
    if script.parent.name == "methanol":
        calculator = pytest.importorskip("tblite.ase").TBLite(method="GFN1-xTB", verbosity=0)
        tolerance = 1e-3  # of its self-consistency
    else:
        calculator, tolerance = EMT(), 1e-7
    for labelled in frames[:: len(frames) // 3]:
        again = labelled.copy()
        again.calc = calculator
        assert again.get_potential_energy() == pytest.approx(labelled.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(again.get_forces(), labelled.get_forces(), atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_the_model_has_the_errors_that_the_page_states(name):
    """Held-out errors, from frames and model."""
    folder, frames = INPUT / MODELS[name][0], MODELS[name][1]
    found = evaluate(folder / f"{name}.safetensors", [folder / frames], "test", "float32")
    stated = json.loads((folder / f"{name}_errors.json").read_text())["test"]["all"]
    for error in ("force_mae", "energy_mae"):
        assert found.report["errors"]["all"][error] == pytest.approx(stated[error], rel=0.01)


def test_bonds_of_a_metal_are_watched_only_with_a_limit_of_the_user(tmp_path):
    deck = (INPUT / "cuau/rxmd.in").read_text().replace("start.xyz 2 2 2", f"{INPUT}/cuau/start.xyz 1 1 1")
    deck += f"model {INPUT}/cuau/rxmdnn.in\nfidelity_watch bond\n"
    (tmp_path / "rxmd.in").write_text(deck)
    argv = ["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out"), "--ntime_step", "40",
            "--treq", "3000"]
    with pytest.raises(InputError, match=r"fidelity_watch: bond: not watched for Cu-Cu, Cu-Au, Au-Au: .*; omit it, or "
                                         "write 'fidelity_limit bond <sums of covalent radii>'"):
        run_command.main(argv, MPI.COMM_SELF)
    (tmp_path / "rxmd.in").write_text(deck + "fidelity_limit bond 1.32\n")
    assert run_command.main(argv, MPI.COMM_SELF) == 0
    rows = [json.loads(line) for line in (tmp_path / "out/incidents.jsonl").read_text().splitlines()]
    assert rows and {kind for row in rows for kind in row["kinds"]} == {"bond"}


@pytest.mark.parametrize("name", SMALL)
def test_from_frames_to_a_run(name, tmp_path):
    """One epoch of the training deck, then a run of the run deck with that model."""
    model = tmp_path / f"{name}.safetensors"
    train_command.main([str(INPUT / name / "train.in"), "--epochs", "1", "--output", str(tmp_path / "training"),
                        "--model", str(model)])
    (tmp_path / "rxmdnn.in").write_text((INPUT / name / "rxmdnn.in").read_text())
    assert run_command.main(["--rxmdin", str(INPUT / name / "rxmd.in"), "--model", str(tmp_path / "rxmdnn.in"),
                             "--outDir", str(tmp_path / "out"), "--ntime_step", "5",
                             *structure(INPUT / name / "rxmd.in")], MPI.COMM_SELF) == 0
    log = (tmp_path / "out/run.log").read_text()
    assert "fidelity: " in log and "latent" in log and os.path.relpath(model) in log
