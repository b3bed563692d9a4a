"""The line table of the run deck: what the log says, what is refused, how far a run moves."""

import re

import numpy as np
import pytest
import torch
from mpi4py import MPI

from rxmdnn.commands import check
from rxmdnn.commands import run as run_command
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import save_model
from tests.runs import MODELS, state, write_start

DECK = "time 0.5 4\nstructure start.xyz\nio_step 4 4\nprecision float64\n"


@pytest.fixture
def place(tmp_path):
    write_start(tmp_path)
    torch.manual_seed(0)
    for name in ("a", "b"):
        config = AllegroConfig(("Ne", "Ar"), 5.0, average_neighbors=5.0, n_scalar=4, n_tensor=2, seed=ord(name))
        save_model(tmp_path / f"{name}.safetensors", AllegroNetwork(config), {})
    (tmp_path / "rxmdnn.in").write_text("allegro a.safetensors 2 Ar 39.95 Ne 20.18\n")
    (tmp_path / "rxmd.in").write_text(DECK)
    return tmp_path


def run(place, name, *flags):
    words = ["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / name), *flags]
    assert run_command.main(words, MPI.COMM_SELF) == 0
    return (place / name / "run.log").read_text(), state(place / name).f


def test_a_run_with_a_table_says_so_and_stays_near_the_one_without(place):
    log, f = run(place, "with", "--table", "1e-6")
    plain, f_plain = run(place, "without")
    note = re.search(r"note +: .*a\.safetensors: two-body part from a table of (\d+) intervals per ordered pair of "
                     r"species, \S+ MiB; largest error of forces (\S+) eV/A", log)
    assert note and int(note[1]) >= 32 and float(note[2]) <= 1e-6
    assert "table         1e-06" in log and "table     " not in plain
    assert 0 < np.abs(f - f_plain).max() < 1e-6


def test_each_model_of_a_mixture_is_named(place, capsys):
    (place / "rxmdnn.in").write_text("".join(f"allegro {name}.safetensors 2 Ar 39.95 Ne 20.18\n" for name in "ab"))
    (place / "rxmd.in").write_text((place / "rxmd.in").read_text() + "table 1e-3\n")
    check.main([str(place / "rxmd.in")])
    said = capsys.readouterr().out
    assert all(f"{name}.safetensors: two-body part from a table" in said for name in "ab")


@pytest.mark.parametrize(("line", "models", "said"), [
    ("table 1e-4", MODELS, r"rxmd\.in:\d+: table: tabulates Allegro networks, but the model deck has no line"),
    ("table 0", None, r"rxmd\.in:\d+: table: force_error = 0: must be from 1e-08 to 0.01 eV/Å"),
    ("table", None, r"rxmd\.in:\d+: table: "),
    ("table fine", None, r"rxmd\.in:\d+: table: force_error must be a number, not 'fine'"),
])
def test_faults(place, line, models, said):
    if models:
        (place / "rxmdnn.in").write_text(models)
    (place / "rxmd.in").write_text(DECK + line + "\n")
    with pytest.raises(InputError, match=said):
        read_run(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / "out")], 1)
