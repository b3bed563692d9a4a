"""Excited atoms in whole runs: weights on any number of ranks, restart in the middle of a pulse, files, bad decks."""

import re

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.atoms import EXCITATION
from rxmdnn.errors import InputError
from rxmdnn.excitation.illumination import Beam, Pulse
from rxmdnn.excitation.light_plan import LightPlan
from rxmdnn.excitation.pulses import GaussianPulse
from rxmdnn.io.log import read_energies
from rxmdnn.io.own_formats import H5Frames
from tests.excited import lit
from tests.runs import run_deck, same_atoms, shared_folder, state, steps, whole_and_killed, write
from tests.systems import TRICLINIC, collect

COMM = MPI.COMM_WORLD
MODELS = "lj 0.0104 3.0 6.0 2 Ar 39.95 Ne 20.18\nlj 0.02 2.8 5.0 2 Ar 39.95 Ne 20.18\n"
DECK = """mdmode 1
time 2.0 60
temperature 60.0 1.0 1
io_step 20 10
structure start.xyz
checkpoint 20
h5md 20
skin 0.3
"""
BOUND = """excite 1 2 bound
pulse gauss 70 40 0.5
pulse sech2 60 20 0.001 rate
pulse_direction 0 0.2 -1
pulse_absorption 10
pulse_spot 8 0.5 0.5 0.5
excite_decay 100
"""
PLACE = """excite 1 2 place
excite_slab c 0.5 3 2
excite_sphere 0.1 0.2 0.3 1.5 3
pulse flat 100 60 0.8 weight 20
"""


ELECTRONS = """electrons 1 1 4
electrons_capacity linear 100
electrons_coupling 1e16
electrons_conductivity constant 10
"""
FILM = """pulse gauss 40 30 0.05 fluence
pulse_direction 0 0 1
pulse_absorption 20 0
pulse_photon 1.55 0.25
"""


@pytest.fixture
def folder(tmp_path_factory):
    """One folder for all ranks, with a start, two models and decks of both kinds of weights."""
    with shared_folder(COMM, tmp_path_factory, MODELS) as place:
        if COMM.rank == 0:
            upwards = BOUND.replace("excite 1 2", "excite 2 1").replace("decay 100", "decay 100 electrons")
            for name, lines in (("bound", BOUND), ("place", PLACE), ("dark", ""), ("electrons", upwards + ELECTRONS),
                                ("film", ELECTRONS + FILM)):
                (place / f"{name}.in").write_text(DECK + lines)
        COMM.Barrier()
        yield place


def go(folder, deck, out, *flags):
    """The folder of a run."""
    return run_deck(COMM, folder / f"{deck}.in", folder / out, *flags)[1]


def test_weights_and_energies_are_those_of_one_rank():
    """They migrate with their atoms."""
    plan = LightPlan(start=0.1, pulses=[Pulse(GaussianPulse(150.0, 80.0), 0.6)], lifetime=200.0,
                     beam=Beam(np.array([0.0, 0.6, -0.8]), depth=8.0))
    many, one = (lit(plan, comm=comm, stop=150, every=50, temperature=300.0) for comm in (COMM, MPI.COMM_SELF))
    first = dict.fromkeys(many.atoms.gid[: many.atoms.n_owned].tolist())
    rows = [steps(s) for s in (many, one)]
    moved = COMM.allreduce(sum(gid not in first for gid in many.atoms.gid[: many.atoms.n_owned].tolist()))
    assert moved or COMM.size == 1
    w, x = collect(COMM, many.atoms, many.atoms.extra[EXCITATION], many.atoms.v)
    expected, y = collect(MPI.COMM_SELF, one.atoms, one.atoms.extra[EXCITATION], one.atoms.v)
    np.testing.assert_allclose(w, expected, atol=1e-9)
    np.testing.assert_allclose(x, y, atol=1e-9)
    for a, b in zip(*rows, strict=True):
        assert a.conserved == pytest.approx(b.conserved, abs=1e-9)
        assert a.driven == pytest.approx(b.driven, abs=1e-9)


@pytest.mark.parametrize("deck", ["bound", "place", "electrons", "film"])
def test_a_run_killed_in_the_pulse_goes_on_with_the_same_bits(folder, deck, monkeypatch):
    whole, killed = whole_and_killed(monkeypatch, lambda out: go(folder, deck, out), 33)
    a, b = same_atoms(whole, killed)
    for drive, saved in a.state["drives"].items():
        for name, value in saved.items():
            np.testing.assert_array_equal(value, b.state["drives"][drive][name], name)
    if deck != "film":
        assert a.extra[EXCITATION].tobytes() == b.extra[EXCITATION].tobytes() and a.extra[EXCITATION].any()
    one, two = read_energies(whole), read_energies(killed)
    for column in one.keys() - {"seconds"}:
        assert one[column].tobytes() == two[column].tobytes(), column
    work = sum(one[column] for column in one if column.startswith("work_"))
    assert np.ptp(work) > 1e-3 and np.ptp(one["conserved_eV"]) < 0.02 * np.ptp(work)


def test_energy_of_light_atoms_and_electrons(folder):
    """All that light gives is in the atoms or in the electrons; all light that falls on a film is absorbed in it."""
    table = read_energies(go(folder, "electrons", "out"))
    inside = table["etotal_eV"] + table["electron_energy_eV"] - table["absorbed_light_eV"]
    assert np.ptp(inside) < 0.02 * np.ptp(table["absorbed_light_eV"]) and np.ptp(table["absorbed_light_eV"]) > 0.01
    np.testing.assert_allclose(table["absorbed_electrons_eV"], table["decayed_light_eV"], atol=1e-10)
    table = read_energies(go(folder, "film", "film"))
    depth, area = 12.0, TRICLINIC.volume / TRICLINIC.widths[2]  # of the cell, along z
    falls = 0.75 * 0.05 * 0.6241509074 * area * (1 - np.exp(-depth / 20.0))
    assert table["absorbed_electrons_eV"][-1] == pytest.approx(falls, rel=0.02)


def test_files_show_the_weights(folder):
    out = go(folder, "bound", "out")
    if COMM.rank == 0:
        start = state(out)
        expected = start.extra[EXCITATION][np.argsort(start.gid)]
        with h5py.File(out / "trajectory.h5md", locking=False) as file:
            data = file[f"particles/all/{EXCITATION}/value"]
            assert data.shape == (4, 40) and not data[0].any()
            np.testing.assert_allclose(data[-1], expected, atol=1e-7)
        header, *rows = (out / "000000060.xyz").read_text().splitlines()[1:]
        assert ":id:I:1:excitation:R:1 " in header
        np.testing.assert_allclose([float(row.split()[-1]) for row in rows], expected, atol=1e-6)
        np.testing.assert_allclose(H5Frames(out / "trajectory.h5md")[-1].arrays[EXCITATION], expected, atol=1e-7)
        table = read_energies(out)
        assert table["excited_atoms"][-1] == pytest.approx(expected.sum(), rel=1e-12)
    COMM.Barrier()
    dark = go(folder, "dark", "dark", "--model_weights", "1", "0")
    assert EXCITATION not in (dark / "000000060.xyz").read_text()
    assert "work_light_eV" not in read_energies(dark)


def test_the_ground_state_has_the_bits_of_its_model_alone(folder):
    """And lines of light change what a checkpoint goes on with, which the log says."""
    write(COMM, folder / "one.in", MODELS.splitlines()[0] + "\n")
    alone = go(folder, "dark", "alone", "--model", str(folder / "one.in"))
    ground = go(folder, "dark", "ground", "--excite", "1", "2")
    other = go(folder, "dark", "other", "--excite", "2", "1", "--excite_start", "1")
    same_atoms(alone, ground)
    same_atoms(alone, other)
    go(folder, "dark", "ground", "--excite", "1", "2", "--excite_decay", "50")
    assert "excite: now excite_decay 50 lattice, before none" in (ground / "run.log").read_text()


def test_a_run_that_ends_before_its_pulse_says_so(folder):
    out = go(folder, "bound", "out", "--ntime_step", "5")
    log = (out / "run.log").read_text()
    assert re.search(r"pulse: the run ends at 10 fs, before this pulse does, at 190 fs", log)
    assert "the run begins at 0 fs" not in log  # 2e-5 of the pulse are before it


def test_what_begins_anew_after_a_change_is_said(folder):
    anew = "the conserved quantity and the works of light, electrons and fields begin anew"
    out = go(folder, "bound", "out")
    go(folder, "bound", "out", "--ntime_step", "20")
    assert anew not in (out / "run.log").read_text()
    go(folder, "bound", "out", "--ntime_step", "20", "--ensemble", "svr", "0.1")
    assert (out / "run.log").read_text().count(anew) == 1
    go(folder, "bound", "out", "--ntime_step", "20", "--start", "rxff")
    assert "rxff.bin holds positions and velocities only: weights of excited atoms" in (out / "run.log").read_text()


@pytest.mark.parametrize(("lines", "message"), [
    ("excite 1 2 place\nexcite_slab c 0.5 10 3", r"excite_slab: half the thickness or the radius, and the rim, are 8 Å "
     r"together, more than half the width of the cell, 6 Å"),
    ("excite 1 2\nexcite_start 1.5", r"excite_start: weight = 1.5: a weight must be from 0"),
])
def test_a_bad_deck_leaves_no_folder(folder, lines, message):
    if COMM.rank == 0:
        (folder / "bad.in").write_text(DECK + lines + "\n")
    COMM.Barrier()
    with pytest.raises(InputError, match=message):
        go(folder, "bad", "bad")
    assert not (folder / "bad").exists()
