"""Every deck under input/ is sound, and every run deck runs for a few steps."""

from pathlib import Path

import pytest
from mpi4py import MPI

from rxmdnn import check, run
from rxmdnn.io.log import read_energies

INPUT = Path(__file__).parents[2] / "input"
RUNS = sorted(INPUT.glob("**/rxmd.in"))
TRAINING = sorted(INPUT.glob("**/train*.in"))


def test_there_are_decks():
    assert RUNS and TRAINING


@pytest.mark.parametrize("deck", RUNS + TRAINING, ids=lambda f: str(f.relative_to(INPUT)))
def test_the_deck_is_sound(deck, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check.main([str(deck)])
    assert f"{deck}: a sound {'rxmd.in' if deck in RUNS else 'train.in'}" in capsys.readouterr().out


@pytest.mark.parametrize("deck", RUNS, ids=lambda f: str(f.relative_to(INPUT)))
def test_the_deck_runs_and_conserves_energy(deck, tmp_path):
    run.main(["--rxmdin", str(deck), "--outDir", str(tmp_path / "out"), "--ntime_step", "6", "--pstep", "1",
              "--structure", str(INPUT / "ammonia/solid_I.cif"), "2", "2", "2"], MPI.COMM_SELF)
    e = read_energies(tmp_path / "out")
    assert list(e["step"]) == list(range(7))
    # Within 3 fs the kinetic energy changes by much more than the total may.
    assert abs(e["etotal_eV"] - e["etotal_eV"][0]).max() < 0.02 * abs(e["kinetic_eV"] - e["kinetic_eV"][0]).max()
