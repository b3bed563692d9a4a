"""Numbers at the ends of what a file or a deck can say: each is right or refused, and none is a traceback."""

import json
import re
import zlib

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.run import main
from rxmdnn.errors import InputError
from rxmdnn.io.checkpoint import find_checkpoint, read_checkpoint
from rxmdnn.io.log import read_energies
from tests.fuzz.targets import quietly

CELL = 12.0 * np.eye(3)
PAIR = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 5.0]])
RUNS = "runs"
STRUCTURES = {  # name: positions, cell, velocities; what is said
    "two atoms": (PAIR, CELL, None, RUNS),
    "one atom": (PAIR[:1], CELL, None, RUNS),
    "no atom": (PAIR[:0], CELL, None, "no atoms"),
    "NaN position": ([[1, 1, np.nan], [1, 1, 5]], CELL, None, "NaN or infinite"),
    "infinite position": ([[1, 1, np.inf], [1, 1, 5]], CELL, None, "NaN or infinite"),
    "NaN velocity": (PAIR, CELL, [[0, 0, np.nan], [0, 0, 0]], "NaN or infinite|not numbers|velocit"),
    "coincident atoms": (PAIR[[0, 0]], CELL, None, "overlap|same position|nearer than"),
    "coincident copies": ([[1, 1, 1], [1, 1, 13]], CELL, None, "overlap|same position|nearer than"),
    "1e12 Å": (PAIR + 1e12, CELL, None, "beyond 1e\\+08 Å"),
    "1e300 Å": (PAIR + 1e300, CELL, None, "beyond 1e\\+08 Å"),
    "some cells away": (PAIR + 1200.0, CELL, None, RUNS),
    "no volume": (PAIR, np.diag([12.0, 12.0, 0.0]), None, "periodic|linearly independent|volume|cell"),
    "flat": (PAIR, np.diag([12.0, 12.0, 1e-9]), None, "cell"),
    "coplanar": (PAIR, np.array([[12.0, 0, 0], [0, 12, 0], [12, 12, 0]]), None, "cell"),
    "0.3 Å": (PAIR[:1], np.diag([12.0, 12.0, 0.3]), None, "overlap|nearer|cell|runs"),
    "faster than light": (PAIR, CELL, [[0, 0, 1e9], [0, 0, 0]], "speed of light"),
}
DECKS = {  # lines instead of those of the deck; what is said
    "dt 0": ("time 0.0 2", "must be above 0"),
    "dt negative": ("time -1.0 2", "must be above 0"),
    "dt enormous": ("time 1e6 2", "at most 1000"),
    "dt tiny": ("time 1e-12 2", RUNS),
    "1e30 steps": ("time 1.0 1e30", "63 bits"),
    "no steps": ("time 1.0 0", RUNS),
    "seed 2^40": ("seed 1099511627776", RUNS),
    "seed 2^62": ("seed 4611686018427387904", RUNS),
    "seed 2^64": ("seed 18446744073709551616", "63 bits"),
    "a million beads": ("pimd 1000000", "at most 4096"),
    "vdos of no width": ("observe vdos 1 1e-320", "must be from 0.001"),
    "g(r) of no width": ("observe gr 1 1e-320", "must be from 0.1"),
    "1e9 cells": ("structure start.xyz 1000000000 1 1", "GiB"),
    "1e18 cells": ("structure start.xyz 1000000 1000000 1000000", "GiB"),
    "cold": ("temperature 0.0 1.0 1", RUNS),
    "hot": ("temperature 1e30 1.0 1", "speed of light|must be|unstable"),
    "weight 0": ("model_weights 0", "weight"),
    "skin 1e300": ("skin 1e300", "skin"),
}
MODELS = {"mass": ("lj 0.0104 3.4 5.0 1 Ar {}", ("1e300", "1e-300", "0", "nan"), "mass"),
          "cutoff": ("lj 0.0104 3.4 {} 1 Ar 39.95", ("0", "-1", "nan", "1e300", "2000"), "cutoff"),
          "epsilon": ("lj {} 3.4 5.0 1 Ar 39.95", ("nan", "inf", "1e400"), "epsilon")}


def write(place, x, cell, v):
    columns = "species:S:1:pos:R:3" + ("" if v is None else ":velo:R:3")
    rows = np.concatenate([np.asarray(x, float), *([] if v is None else [np.asarray(v, float)])], axis=1)
    (place / "start.xyz").write_text(
        f'{len(x)}\nLattice="{" ".join(map(repr, np.asarray(cell, float).ravel().tolist()))}" Properties={columns} '
        'pbc="T T T"\n' + "".join("Ar " + " ".join(map(repr, row)) + "\n" for row in rows.tolist()))


def outcome(place, deck="", model="lj 0.0104 3.4 5.0 1 Ar 39.95"):
    """RUNS, or the message."""
    lines = {"time": "time 1.0 2", "temperature": "temperature 30.0 1.0 1", "structure": "structure start.xyz",
             "threads": "threads 1", "io_step": "io_step 0 1"} | {deck.split()[0]: deck for deck in deck.splitlines()}
    (place / "rxmd.in").write_text("\n".join(lines.values()) + "\n")
    (place / "rxmdnn.in").write_text(model + "\n")
    try:
        code = quietly(lambda: main(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / "DAT")],
                                    MPI.COMM_SELF))
    except InputError as error:
        return str(error)
    if code == 0 and (place / "DAT/energies.csv").is_file():
        assert np.isfinite(read_energies(place / "DAT")["etotal_eV"]).all()
    return RUNS if code == 0 else f"exit code {code}: unstable"


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(tmp_path, name):
    x, cell, v, said = STRUCTURES[name]
    write(tmp_path, x, cell, v)
    found = outcome(tmp_path)
    assert re.search(said, found), found


@pytest.mark.parametrize("name", DECKS)
def test_lines_of_decks(tmp_path, name):
    line, said = DECKS[name]
    write(tmp_path, PAIR, CELL, None)
    found = outcome(tmp_path, line)
    assert re.search(said, found), found


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, (_, numbers, _) in MODELS.items()
                                              for number in numbers])
def test_models(tmp_path, name, number):
    line, _, said = MODELS[name]
    write(tmp_path, PAIR, CELL, None)
    found = outcome(tmp_path, model=line.format(number))
    assert said in found, found


def test_steps_beyond_32_bits(tmp_path):
    """A run goes on past step 2^31 from its checkpoint."""
    write(tmp_path, PAIR, CELL, None)
    assert outcome(tmp_path) == RUNS
    step = 2**31 - 1
    with h5py.File(find_checkpoint(tmp_path / "DAT"), "r+") as file:
        header = json.loads(file["header"][()])
        header["step"] = step
        header["state"]["dict"] |= {"begin": step, "stop": step + 2}
        text = json.dumps(header)
        del file["header"], file["header_crc32"]
        file["header"], file["header_crc32"] = text, zlib.crc32(text.encode())
    assert outcome(tmp_path) == RUNS
    assert read_checkpoint(MPI.COMM_SELF, find_checkpoint(tmp_path / "DAT")).step > 2**31
