"""Every deck under input/ is sound, and every run deck runs for a few steps."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import check
from rxmdnn.commands import run as run_command
from rxmdnn.commands import tfail as tfail_command
from rxmdnn.deck import language as decks
from rxmdnn.deck.run import RUN
from rxmdnn.deck.tfail import TABLE as TFAIL
from rxmdnn.io.log import read_energies
from rxmdnn.survival import results
from rxmdnn.survival.study import Study

INPUT = Path(__file__).parents[2] / "input"
RUNS = sorted(f for f in INPUT.glob("**/*.in") if check.kind_of(str(f)) == "rxmd.in")
CLASSICAL = [f for f in RUNS if decks.read(f, RUN)["pimd"].beads is decks.read(f, RUN)["ensemble"].kind is None]
TRAINING = sorted(INPUT.glob("**/train*.in"))
STUDIES = sorted(f for f in INPUT.glob("**/*.in") if check.kind_of(str(f)) == "tfail.in")


def test_there_are_decks():
    assert RUNS and TRAINING and STUDIES


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
    check.main([str(deck)])
    assert f"{deck}: {'rxmd.in' if deck in RUNS else 'train.in'}: valid" in capsys.readouterr().out


@pytest.mark.parametrize("deck", sorted(set(RUNS) - set(CLASSICAL)), ids=lambda f: str(f.relative_to(INPUT)))
def test_the_deck_runs_rings_or_baths_and_keeps_its_books(deck, tmp_path):
    run_command.main(["--rxmdin", str(deck), "--outDir", str(tmp_path), "--ntime_step", "8", "--pstep", "1",
              "--structure", str(INPUT / "ammonia/solid_I.cif"), "1", "1", "1"], MPI.COMM_SELF)
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
                  "--pstep", "1", "--structure", str(INPUT / "ammonia/solid_I.cif"), "2", "2", "2"], MPI.COMM_SELF)
        e = read_energies(out)
        assert list(e["step"]) == list(range(n + 1))
        errors.append(abs(e["etotal_eV"] - e["etotal_eV"][0]).max())
    assert 3.0 < errors[0] / errors[1] < 5.5
