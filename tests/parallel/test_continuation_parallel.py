"""Runs that go on: what may change, velocities, momentum, clock and frames, exit codes. On any rank count."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.analysis.observables import FILE as OBSERVED
from rxmdnn.commands import check, geninit
from rxmdnn.commands import run as run_command
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import BAD_INPUT, FAILED, FINISHED, ON_SIGNAL, InputError
from rxmdnn.io.log import read_energies
from rxmdnn.io.stages import read_stages
from rxmdnn.parallel import run_to_exit_code
from tests.runs import MODELS, killed_at, run_deck, shared_folder, state, write

COMM = MPI.COMM_WORLD
DECK = """mdmode 1
time 2.0 40
temperature 60.0 1.0 1
io_step 20 10
structure start.xyz
checkpoint 20
h5md 20
skin 0.3
"""
MASS = {"Ar": 39.95, "Ne": 20.18}


@pytest.fixture
def folder(tmp_path_factory):
    """One folder for all ranks, with a triclinic mixture of argon and neon."""
    with shared_folder(COMM, tmp_path_factory) as place:
        write(COMM, place / "rxmd.in", DECK)
        yield place


def go(folder, out, *flags, deck="rxmd.in"):
    """The exit code of ``rxmdnn run``, and its folder."""
    return run_deck(COMM, folder / deck, folder / out, *flags)


def note_in(out, text):
    return text in (out / "run.log").read_text()


def momentum(out):
    """|sum of m v| over sum of |m v|, of the checkpoint."""
    s = state(out)
    p = np.array([MASS[e] for e in s.elements])[s.species, None] * s.v
    return np.abs(p.sum(axis=0)).max() / np.abs(p).sum()


# ---------------------------------------------------------------------- what may change
@pytest.mark.parametrize(("models", "flags", "message"), [
    (MODELS.replace("0.0104", "0.0180"), (), r"models: now lj epsilon 0.018 .* before lj epsilon 0.0104"),
    (MODELS + "zbl 0.8 2 Ar 39.95 Ne 20.18\n", (), r"models: now .* zbl fraction 0.8, before"),
    (MODELS.replace("20.18", "22.0"), (), r"masses: now Ne 22, before Ne 20.18"),
    (MODELS, ("--seed", "7"), r"seed: now 7, before 1"),
])
def test_what_a_run_is_may_change_only_where_the_deck_says_so(folder, models, flags, message):
    _, out = go(folder, "out")
    kept = {name: (out / name).read_bytes() for name in ("checkpoint.h5", "energies.csv", "run.log", "trajectory.h5md")}
    write(COMM, folder / "rxmdnn.in", models)
    with pytest.raises(InputError, match=message + r".*or allow the change with '--start changed'"):
        go(folder, "out", *flags)
    assert all((out / name).read_bytes() == kept[name] for name in kept)
    assert go(folder, "out", *flags, "--start", "changed")[0] == FINISHED
    assert note_in(out, message.split(":")[0] + ": now")
    assert list(read_energies(out)["step"]) == list(range(0, 81, 10))
    assert go(folder, "out", *flags)[0] == FINISHED  # it is that run from now on


def test_a_changed_model_acts_from_the_first_half_step(folder):
    """As a start from the same positions and velocities, which computes all forces, does."""
    _, out = go(folder, "out")
    if COMM.rank == 0:
        shutil.copytree(out, folder / "anew")
    write(COMM, folder / "rxmdnn.in", MODELS.replace("0.0104", "0.0180"))
    found = read_energies(go(folder, "out", "--start", "changed")[1])
    expected = read_energies(go(folder, "anew", "--start", "rxff")[1])
    np.testing.assert_allclose(found["etotal_eV"][-4:], expected["etotal_eV"][-4:], rtol=1e-9)


@pytest.mark.parametrize("line", ["strain 0.02 0 0", "shear 0 0 3"])
@pytest.mark.parametrize("start", ["auto", "rxff"])
def test_strain_and_shear_act_on_structures_alone(folder, line, start):
    _, out = go(folder, "out")
    with pytest.raises(InputError, match=rf"{line.split()[0]}: .* acts on a structure, not on .*(point.h5|rxff.bin)"):
        go(folder, "out", *f"--{line} --start {start}".split())
    go(folder, "strained", *f"--{line}".split())
    first = state(folder / "strained").cell.h
    assert go(folder, "strained", *f"--{line} --start {start}".split())[0] == FINISHED  # the same deck goes on
    again = state(folder / "strained").cell
    np.testing.assert_allclose(again.parameters, type(again)(first).parameters, rtol=1e-12)
    assert not note_in(out, "strain: now")


def test_lines_that_do_not_act_on_a_checkpoint_are_noted(folder):
    _, out = go(folder, "out")
    if COMM.rank == 0:
        shutil.copy(folder / "start.xyz", folder / "other.xyz")
        with open(folder / "other.xyz", "a") as file:
            file.write("\n")
    COMM.Barrier()
    go(folder, "out", "--treq", "90", "--vsfact", "1.5", "--dt", "1.0", "--structure", str(folder / "other.xyz"))
    assert note_in(out, "treq does not act at constant energy") and note_in(out, "vsfact does not act in mdmode 1")
    assert note_in(out, "time: now 1, before 2")
    assert note_in(out, "structure: not used: the run goes on, and did not begin so")


def test_random_velocity_acts_once(folder, monkeypatch):
    _, out = go(folder, "out")
    go(folder, "out", "--random_velocity")
    assert note_in(out, "velocities were drawn at 60 K: random_velocity")
    drawn = read_energies(out)["kinetic_eV"][5]
    go(folder, "whole", "--random_velocity", "--ntime_step", "60")
    with killed_at(monkeypatch, 47):
        go(folder, "killed", "--random_velocity", "--ntime_step", "60")
    go(folder, "killed", "--random_velocity", "--ntime_step", "60")
    a, b = (state(folder / name) for name in ("whole", "killed"))
    assert a.v.tobytes() == b.v.tobytes() and drawn > 0


def test_a_cell_that_is_driven_does_not_jump(folder, monkeypatch):
    flags = ("--strain_ramp", "0.04", "0", "0")
    with killed_at(monkeypatch, 27):
        go(folder, "out", *flags)
    with pytest.raises(InputError, match=r"time: the run would end at step 80, but the ramp .* ends at step 40"):
        go(folder, "out", *flags, "--ntime_step", "80")
    _, out = go(folder, "out", *flags)
    first = read_energies(out)["volume_A3"]
    go(folder, "out", *flags, "--ntime_step", "60")
    volumes = read_energies(out)["volume_A3"]
    assert first[-1] / first[0] == pytest.approx(1.04) and len(volumes) == 11
    np.testing.assert_allclose(volumes[5:] / volumes[4], 1.0 + 0.04 * np.arange(1, 7) / 6, rtol=1e-9)


# ---------------------------------------------------------------------- velocities
@pytest.mark.parametrize("flags", [("--ensemble", "nose-hoover", "0.1"), (), ("--start", "rxff"),
                                   ("--ensemble", "langevin", "0.1"), ("--pimd", "2", "trpmd")])
def test_dynamics_after_a_minimization_begins_at_the_temperature(folder, flags):
    assert go(folder, "out", "--mdmode", "10", "--ntime_step", "500")[0] == FINISHED
    last = int(read_energies(folder / "out")["step"][-1])
    code, out = go(folder, "out", "--pstep", "1", "--ntime_step", "20", *flags)
    e = read_energies(out)
    assert code == FINISHED and e["step"][-1] == last + 20
    assert note_in(out, "velocities were drawn at 60 K: the atoms of the start were at rest")
    assert e["temperature_K"][e["step"] == last + 1][0] == pytest.approx(60.0, rel=0.15)
    assert sorted(set(e["step"])) == list(e["step"])
    left = state(out).extra
    assert "f_old" not in left and "direction" not in left


def test_velocities_of_a_structure_that_are_zero_are_drawn_and_none_at_zero_kelvin(folder):
    if COMM.rank == 0:
        text = (folder / "start.xyz").read_text().replace("pos:R:3", "pos:R:3:velo:R:3").splitlines()
        (folder / "start.xyz").write_text("\n".join(text[:2] + [line + " 0 0 0" for line in text[2:]]) + "\n")
    COMM.Barrier()
    assert read_energies(go(folder, "warm")[1])["temperature_K"][0] == pytest.approx(60.0)
    cold = read_energies(go(folder, "cold", "--treq", "0", "--ntime_step", "20")[1])
    assert cold["temperature_K"][0] == 0 and cold["etotal_eV"][-1] == pytest.approx(cold["etotal_eV"][0], rel=1e-3)
    go(folder, "cold", "--treq", "0", "--ntime_step", "20")
    assert not note_in(folder / "cold", "were drawn")


@pytest.mark.parametrize(("first", "then"), [
    ("ensemble langevin 0.05", ""), ("ensemble langevin 0.05", "ensemble nose-hoover 0.1"),
    ("ensemble langevin 0.05", "mdmode 5"), ("ensemble langevin 0.05", "start rxff"),
    ("ensemble langevin 0.05\npimd 2", ""), ("ensemble langevin 0.05\npimd 2", "pimd 2 rpmd"),
    ("", "pimd 2 rpmd"), ("ensemble langevin 0.05", "pimd 2 trpmd")])
def test_momentum_is_zero_where_it_is_conserved(folder, first, then):
    for name, lines in (("first", first), ("then", then)):
        deck = DECK.replace("mdmode 1\n", "") if "mdmode" in lines else DECK
        write(COMM, folder / f"{name}.in", f"{deck}{lines}\n")
    _, out = go(folder, "out", deck="first.in")
    moving = momentum(out)
    assert moving > 1e-4 if "langevin" in first else moving < 1e-12
    go(folder, "out", deck="then.in")
    assert momentum(out) < 1e-12
    assert note_in(out, "center-of-mass velocity") == ("langevin" in first)
    assert note_in(out, f"degrees of freedom: {3 * 40 - 3}")


def test_atoms_go_on_from_rings_with_their_own_forces(folder):
    """As a start that computes them; the force on a centroid is a mean over its beads."""
    _, out = go(folder, "out", "--ensemble", "langevin", "0.1", "--pimd", "8", "--treq", "20", "--ntime_step", "60")
    if COMM.rank == 0:
        shutil.copytree(out, folder / "anew")
    COMM.Barrier()
    found = read_energies(go(folder, "out", "--treq", "20")[1])
    expected = read_energies(go(folder, "anew", "--treq", "20", "--start", "rxff")[1])
    np.testing.assert_allclose(found["etotal_eV"][-4:], expected["etotal_eV"][-4:], rtol=1e-9)


@pytest.mark.parametrize("mdmode", [0, 5, 6, 7, 8, 9])
@pytest.mark.parametrize("pbc", ["T T T", "F F F"])
def test_modes_that_scale_give_the_temperature_that_the_log_counts(folder, mdmode, pbc):
    if COMM.rank == 0:
        head = f'Lattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3 pbc="{pbc}"'
        (folder / "two.xyz").write_text(f"2\n{head}\nAr 6 6 6\nNe 6 6 10\n")
    write(COMM, folder / "rxmd.in", DECK.replace("mdmode 1", f"mdmode {mdmode}").replace("2.0 40", "1e-4 3"))
    for structure in ("start.xyz", "two.xyz"):
        _, out = go(folder, structure[:3], "--treq", "80", "--pstep", "1", "--structure", str(folder / structure))
        e = read_energies(out)
        assert e["temperature_K"][1:] == pytest.approx(80.0, rel=1e-3) and momentum(out) < 1e-12


@pytest.mark.parametrize("mdmode", [5, 7, 8, 9])
def test_a_ramp_from_rest_heats(folder, mdmode):
    write(COMM, folder / "rxmd.in", DECK.replace("mdmode 1", f"mdmode {mdmode}").replace("2.0 40", "1e-4 10"))
    e = read_energies(go(folder, "out", "--tramp", "0", "100", "--pstep", "1")[1])
    assert e["temperature_K"][0] == 0 and e["temperature_K"][2:] == pytest.approx(10.0 * np.arange(1, 10), rel=0.06)


# ---------------------------------------------------------------------- clock and frames
def series(out):
    """Steps and times of energies.csv and of trajectory.h5md."""
    e = read_energies(out)
    with h5py.File(out / "trajectory.h5md", locking=False) as file:
        step, time = (file[f"particles/all/position/{name}"][:].tolist() for name in ("step", "time"))
    return e["step"].tolist(), e["time_fs"].tolist(), step, time


@pytest.mark.parametrize("flags", [(), ("--ensemble", "svr", "0.1"), ("--dt", "1.0"), ("--random_velocity",)])
def test_a_start_from_rxff_in_a_used_folder_goes_on_in_step_and_time(folder, flags):
    observe = ("--observe", "gr", "10", "--xyz", "20")
    go(folder, "out", *observe)
    code, out = go(folder, "out", *observe, "--start", "rxff", *flags)
    assert code == FINISHED
    steps, times, frames, frame_times = series(out)
    dt = 1.0 if "--dt" in flags else 2.0
    assert steps == list(range(0, 81, 10)) and frames == [0, 20, 40, 60, 80]
    assert times == pytest.approx([2.0 * min(s, 40) + dt * max(s - 40, 0) for s in steps])
    assert frame_times == pytest.approx([2.0 * min(s, 40) + dt * max(s - 40, 0) for s in frames])
    with h5py.File(out / OBSERVED, locking=False) as file:
        assert int(file["gr/frames"][()]) == 9
    assert [stage["step"] for stage in read_stages(out)] == [0, 40]
    assert re.findall(r"\sstep=(\d+)", (out / "trajectory.xyz").read_text()) == ["0", "20", "40", "60", "80"]


def test_a_minimization_that_goes_on_doubles_nothing(folder):
    assert go(folder, "out", "--mdmode", "10", "--ntime_step", "3", "--h5md", "1", "--CG_tol", "1e-9")[0] == FAILED
    go(folder, "out", "--mdmode", "10", "--ntime_step", "20", "--h5md", "1", "--CG_tol", "1e-9")
    steps, times, frames, _ = series(folder / "out")
    assert steps == frames == list(range(int(steps[-1]) + 1))
    assert times == pytest.approx([2.0 * step for step in steps])


def test_a_rxff_of_another_system_or_without_a_clock_is_told(folder):
    _, out = go(folder, "out")
    if COMM.rank == 0:
        (folder / "alone").mkdir()
        shutil.copy(out / "rxff.bin", folder / "alone")
        lines = (folder / "start.xyz").read_text().splitlines()
        (folder / "few.xyz").write_text("\n".join(["20", *lines[1:22]]) + "\n")
    COMM.Barrier()
    go(folder, "alone", "--start", "rxff")
    assert note_in(folder / "alone", "rxff.bin holds no time: step 40 is taken as 80 fs, by the dt of the deck")
    assert series(folder / "alone")[1][0] == 80.0
    go(folder, "few", "--structure", str(folder / "few.xyz"))
    if COMM.rank == 0:
        shutil.copy(folder / "few" / "rxff.bin", out)
    COMM.Barrier()
    with pytest.raises(InputError, match=r"rxff.bin: 20 atoms, but the run in this folder had 40; use another outDir"):
        go(folder, "out", "--start", "rxff", "--structure", str(folder / "few.xyz"))


def test_a_slab_stays_one_and_its_atoms_may_leave_the_cell(folder):
    """rxff.bin does not hold periodicity."""
    write(COMM, folder / "slab.xyz",
          '3\nLattice="12 0 0 0 12 0 0 0 14" Properties=species:S:1:pos:R:3:velo:R:3 pbc="T T F"\n'
          "Ar 1 1 0.5 0 0 -0.02\nAr 6 6 13 0 0 0.02\nNe 4 9 7 0 0 0\n")
    slab = ("--structure", str(folder / "slab.xyz"))
    _, out = go(folder, "out", *slab)
    for start in ("rxff", "auto"):
        with pytest.raises(InputError, match=r"pbc: acts on a structure, not on .* repeats along a b; omit"):
            go(folder, "out", *slab, "--start", start, "--pbc", "T", "T", "T")
    go(folder, "out", *slab, "--start", "rxff")
    s = state(out)
    order = np.argsort(s.gid)
    assert s.cell.pbc.tolist() == [True, True, False]
    np.testing.assert_allclose(s.x[order, 2], [0.5 - 0.02 * 160, 13 + 0.02 * 160, 7], atol=1e-6)
    assert read_energies(out)["potential_eV"][-1] == pytest.approx(0.0, abs=1e-9)


def test_a_slab_of_geninit_is_a_slab(folder):
    write(COMM, folder / "slab.xyz", '2\nLattice="12 0 0 0 12 0 0 0 14" Properties=species:S:1:pos:R:3 pbc="T T F"\n'
                                     "Ar 1 1 1\nNe 6 6 13\n")
    if COMM.rank == 0:
        geninit.main(["-i", str(folder / "slab.xyz"), "-o", str(folder / "out"), "-rxmdnn", str(folder / "rxmdnn.in")])
    write(COMM, folder / "rxmd.in", DECK.replace("structure start.xyz\n", ""))
    go(folder, "out")
    assert note_in(folder / "out", "periodic along a b\n")
    if COMM.rank == 0:
        left = ["checkpoint.h5", "checkpoint.prev.h5", "stages.jsonl"]
        shutil.copytree(folder / "out", folder / "other", ignore=lambda *_: left)
    COMM.Barrier()
    go(folder, "other")
    assert note_in(folder / "other", "rxff.bin, step 40, continued")
    assert note_in(folder / "other", "periodic along a b\n")


def test_a_new_run_does_not_overwrite_the_frame_from_which_it_starts(folder):
    _, out = go(folder, "out")
    frame = out / "000000020.xyz"
    before = frame.read_bytes()
    with pytest.raises(InputError, match=r"000000020.xyz: a frame of the run in this folder"):
        go(folder, "out", "--start", "structure", "--structure", str(frame))
    assert frame.read_bytes() == before and (out / "trajectory.h5md").is_file()
    assert go(folder, "new", "--structure", str(frame))[0] == FINISHED


def test_frames_of_an_abandoned_attempt_are_moved_away(folder, monkeypatch):
    with killed_at(monkeypatch, 35):
        go(folder, "out", "--fstep", "5")
    _, out = go(folder, "out", "--fstep", "20")
    assert note_in(out, "3 frame(s) after step 20, of another attempt, were moved to")
    assert sorted(f.name for f in out.glob("0*.xyz")) == [f"{k:09d}.xyz" for k in (0, 5, 10, 15, 20, 40)]
    assert sorted(f.name for f in (out / "old.1").iterdir()) == [f"{k:09d}.xyz" for k in (25, 30, 35)]


# ---------------------------------------------------------------------- endings
def test_a_run_until_a_step_takes_no_step_twice(folder):
    for until, last in ((30, 30), (30, 30), (50, 50), (10, 50)):
        code, out = go(folder, "out", "--until", str(until))
        assert code == FINISHED and read_energies(out)["step"][-1] == last
    assert note_in(out, "timed: 0 steps")


def test_exit_codes_tell_failures(folder):
    assert go(folder, "stuck", "--mdmode", "10", "--ntime_step", "2")[0] == FAILED
    assert note_in(folder / "stuck", "NOT converged")
    assert go(folder, "fire", "--mdmode", "10", "--ntime_step", "2", "--minimizer", "fire", "1e-3")[0] == FAILED
    write(COMM, folder / "close.xyz", '2\nLattice="30 0 0 0 30 0 0 0 30" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
                                      "Ar 6 6 6\nNe 6 6 7.5\n")
    code, out = go(folder, "hot", "--structure", str(folder / "close.xyz"), "--dt", "0.1")
    assert code == FAILED and read_energies(out)["temperature_K"][-1] > 1e6 and note_in(out, "FAILED: the run ended at")
    blown = ["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "blown"), "--dt", "1e3"]
    assert run_to_exit_code(COMM, lambda: run_command.main(blown, COMM)) == FAILED
    bad = ["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "bad"), "--dt", "-1"]
    assert run_to_exit_code(COMM, lambda: run_command.main(bad, COMM)) == BAD_INPUT


@pytest.mark.parametrize("flags", [(), ("--mdmode", "10", "--CG_tol", "1e-12")])
def test_a_signal_ends_a_run_with_a_code_and_it_goes_on(folder, monkeypatch, flags):
    """Looked for at least every ten steps, whatever is printed."""
    due = Simulation._due

    def warned(self, first=False):
        due(self, first)
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "_due", warned)
        code, out = go(folder, "out", "--pstep", "1000", *flags)
    assert code == ON_SIGNAL and note_in(out, "stopped on a signal at step 10")
    assert state(out).step == 10
    assert [f.name for f in out.glob("0*.xyz")] == ["000000000.xyz"]
    go(folder, "out", *flags)
    steps = read_energies(out)["step"].tolist()
    assert steps == sorted(set(steps)) and steps[-1] > 10


def test_stages_are_what_changed(folder):
    for flags in ((), (), ("--ensemble", "svr", "0.1"), ("--ensemble", "svr", "0.1"), ("--dt", "1.0")):
        _, out = go(folder, "out", *flags)
    found = [json.loads(line) for line in Path(out / "stages.jsonl").read_text().splitlines()]
    assert [(s["step"], s["ensemble"][0], s["time_step"]) for s in found] == [
        (0, "nve", 2.0), (81, "svr", 2.0), (161, "nve", 1.0)]


def test_check_refuses_what_a_run_would_refuse(folder):
    go(folder, "out")
    write(COMM, folder / "rxmdnn.in", MODELS.replace("0.0104", "0.0180"))
    if COMM.rank == 0:
        with pytest.raises(InputError, match=r"models: now lj epsilon 0\.018"):
            check.main([str(folder / "rxmd.in"), "--outDir", str(folder / "out")])
