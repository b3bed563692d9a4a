"""`rxmdnn run` from decks: restarts, mdmodes, outputs. Runs on any rank count."""

import os
import signal
from pathlib import Path

import ase.io
import ase.units
import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import geninit
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import InputError
from rxmdnn.io.folder import locked
from rxmdnn.io.log import read_energies
from tests.runs import MODELS, run_deck, same_atoms, state, whole_and_killed, write

COMM = MPI.COMM_WORLD
DECK = """mdmode {mdmode}  # as asked
time 2.0 {steps} <dt> <ntime_step>
temperature 60.0 1.2 5 <treq> <vsfact> <sstep>
io_step 20 10
structure start.xyz
checkpoint 20
h5md 20
skin 0.3
"""


def go(folder: Path, out: str, mdmode: int = 1, steps: int = 60, *flags: str) -> Path:
    write(COMM, folder / "rxmd.in", DECK.format(mdmode=mdmode, steps=steps))
    return run_deck(COMM, folder / "rxmd.in", folder / out, *flags)[1]


@pytest.mark.parametrize("mdmode", [1, 0, 7])
def test_a_killed_run_goes_on_to_the_same_bits(folder, mdmode, monkeypatch):
    whole, killed = whole_and_killed(monkeypatch, lambda out: go(folder, out, mdmode))
    assert same_atoms(whole, killed)[0].step == 60
    e, f = read_energies(whole), read_energies(killed)
    assert list(e["step"]) == list(f["step"]) == [0, 10, 20, 30, 40, 50, 60]
    np.testing.assert_array_equal(e["etotal_eV"][[0, 1, 2, 5, 6]], f["etotal_eV"][[0, 1, 2, 5, 6]])
    with h5py.File(killed / "trajectory.h5md", locking=False) as file:
        assert list(file["particles/all/position/step"]) == [0, 20, 40, 60]


def test_a_run_stopped_by_a_signal_goes_on_and_its_frames_stay_equally_spaced(folder, monkeypatch):
    due = Simulation._due

    def warned(self, first=False):
        due(self, first)
        if self.step == 8:
            os.kill(os.getpid(), signal.SIGTERM)

    flags = ("--h5md", "4", "--pimd", "2", "pimd", "--pimd_dump", "8", "--pstep", "5", "--ensemble", "langevin", "0.1")
    with monkeypatch.context() as patch:
        patch.setattr(Simulation, "_due", warned)
        out = go(folder, "out", 1, 30, *flags)
    assert "stopped on a signal" in (out / "run.log").read_text() and state(out).step == 10
    go(folder, "out", 1, 30, *flags)
    assert state(out).step == 30
    for name, every in (("trajectory", 4), ("bead_1", 8)):
        with h5py.File(out / f"{name}.h5md") as file:
            assert file["particles/all/position/step"][:].tolist() == list(range(0, 31, every))


def test_a_folder_belongs_to_one_run_at_a_time(folder):
    out = go(folder, "out", 1, 20)
    before = (out / "run.log").read_bytes()
    with locked(COMM, out), pytest.raises(InputError, match="another run writes to this folder"):
        go(folder, "out", 1, 20)
    assert (out / "run.log").read_bytes() == before
    go(folder, "out", 1, 20)


def test_a_new_run_moves_away_what_a_run_has_left_and_nothing_else(folder):
    out = go(folder, "out", 1, 20)
    mine = ["labels.xyz", "experiment.csv", "picture.png", "data.h5"]
    if COMM.rank == 0:
        for name in mine:
            (out / name).touch()
    COMM.Barrier()
    go(folder, "out", 1, 20, "--start", "structure")
    assert all((out / name).is_file() for name in mine)
    assert {f.name for f in (out / "old.1").iterdir()} >= {
        "run.log", "energies.csv", "trajectory.h5md", "000000020.xyz"}
    assert "an earlier run were moved to" in (out / "run.log").read_text()


def test_a_start_that_moves_as_a_whole_is_not_hotter_for_it(folder):
    still = read_energies(go(folder, "still", 1, 0))["temperature_K"][0]
    if COMM.rank == 0:
        frame = ase.io.read(folder / "still" / "000000000.xyz", parallel=False)
        v = frame.arrays["velo"] + [0.02, 0.0, -0.01]
        frame.set_velocities(v / ase.units.fs)
        del frame.arrays["velo"]
        ase.io.write(folder / "start.xyz", ase.Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=True,
                                                     momenta=frame.get_momenta(), masses=frame.get_masses()),
                     parallel=False)
    COMM.Barrier()
    out = go(folder, "fly", 1, 0)
    assert read_energies(out)["temperature_K"][0] == pytest.approx(still, rel=1e-5)
    assert "the initial center-of-mass velocity (0.0224 A/fs" in (out / "run.log").read_text()


def test_a_finished_run_goes_on_when_run_again_and_a_new_start_loses_nothing(folder):
    out = go(folder, "out", steps=20)
    assert list(read_energies(out)["step"]) == [0, 10, 20]
    go(folder, "out", 1, 20)
    assert list(read_energies(out)["step"]) == [0, 10, 20, 30, 40]
    first = "had finished at step 20: this one takes another 20 steps"
    assert first in (out / "run.log").read_text().split("finished at step 20\n")[1].splitlines()[0]
    go(folder, "out", 1, 20, "--until", "40")
    assert list(read_energies(out)["step"]) == [0, 10, 20, 30, 40]
    go(folder, "out", 1, 10, "--start", "structure")
    assert list(read_energies(out)["step"]) == [0, 10]
    assert list(read_energies(out / "old.1")["step"]) == [0, 10, 20, 30, 40]


def test_a_start_of_geninit_gets_velocities_at_treq(folder):
    if COMM.rank == 0:
        geninit.main(["-i", str(folder / "start.xyz"), "-o", str(folder / "out"), "-rxmdnn", str(folder / "rxmdnn.in")])
    COMM.Barrier()
    e = read_energies(go(folder, "out", 1, 10))
    assert e["temperature_K"][0] == pytest.approx(60.0)
    assert e["etotal_eV"][-1] == pytest.approx(e["etotal_eV"][0], abs=0.05 * e["kinetic_eV"][0])


@pytest.mark.parametrize("mdmode", [0, 4, 5, 6, 7, 8, 9])
def test_mdmodes_act_on_the_temperature(folder, mdmode):
    out = go(folder, "out", mdmode, 60, "--treq", "90", "--sstep", "10", "--vsfact", "1.1", "--pstep", "1")
    e = read_energies(out)
    # One step after each act; the first ones meet the heat of the disordered start.
    t, after = e["temperature_K"], np.arange(31, 61, 10)
    if mdmode == 4:
        assert (t[after] / t[after - 1]).mean() == pytest.approx(1.21, abs=0.05)
    elif mdmode in (7, 9, 8):
        assert t[after].mean() == pytest.approx(90.0, abs=12.0)
    else:
        np.testing.assert_allclose(t[after], 90.0, atol=6.0)


def test_conjugate_gradients_find_the_minimum(folder):
    out = go(folder, "out", 10, 2000, "--CG_tol", "1e-9")
    e = read_energies(out)
    assert (np.diff(e["potential_eV"]) <= 1e-12).all()
    assert np.abs(state(out).f).max() < 1e-3
    assert e["step"][-1] < 2000


def test_a_ramp_ends_at_its_second_temperature(folder):
    out = go(folder, "out", 5, 100, "--tramp", "20", "100", "--sstep", "1", "--pstep", "10")
    t = read_energies(out)["temperature_K"]
    assert t[-1] == pytest.approx(100.0, abs=3.0)
    assert (np.diff(t[3:]) > 0).all()


def test_a_mixture_is_the_weighted_sum_and_reports_its_spread(folder):
    single = read_energies(go(folder, "single", 1, 0))["potential_eV"][0]
    if COMM.rank == 0:
        (folder / "rxmdnn.in").write_text(MODELS + MODELS.replace("0.0104", "0.0208"))
    e = read_energies(go(folder, "mixed", 1, 0, "--model_weights", "0.25", "0.75"))
    assert e["potential_eV"][0] == pytest.approx(single * (0.25 + 0.75 * 2), rel=1e-12)
    assert e["spread_energy_eV"][0] == pytest.approx(abs(single) / 2, rel=1e-12)
    f = state(folder / "single").f
    assert e["spread_force_eV_A"][0] == pytest.approx(np.sqrt((f**2).mean()) / 2, rel=1e-9)


@pytest.mark.parametrize(("flags", "message"), [
    (["--processors", "7", "1", "1"], "processors: 7 x 1 x 1 = 7 ranks"),
    (["--start", "rxff"], "start: rxff: no file"),
])
def test_faults_are_one_message_on_every_rank(folder, flags, message):
    with pytest.raises(InputError, match=message):
        go(folder, "out", 1, 10, *flags)
    assert not (folder / "out").exists()


def test_a_blown_up_run_says_so(folder):
    with pytest.raises(InputError, match=r"the energy is not finite|NaN or infinite|were lost"):
        go(folder, "out", 1, 100, "--dt", "1e3", "--pstep", "1")


def test_checkpoint_of_another_system_is_refused_and_kept(folder):
    out = go(folder, "out", 1, 20)
    before = (out / "checkpoint.h5").read_bytes()
    if COMM.rank == 0:
        (folder / "rxmdnn.in").write_text(MODELS.replace("2 Ar 39.95 Ne", "2 Kr 83.8 Ne"))
    COMM.Barrier()
    with pytest.raises(InputError, match=r"checkpoint\.h5: a checkpoint of another system: its elements are Ar Ne"):
        go(folder, "out", 1, 20)
    assert (out / "checkpoint.h5").read_bytes() == before


os.environ.setdefault("TQDM_DISABLE", "1")
