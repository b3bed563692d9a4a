"""The monitor and the guard in runs, on any rank count: injected failures, rollback to the bit, healing, exit codes."""

import json
from pathlib import Path

import ase.io
import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.analysis import observe
from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.run_figures import stretches
from rxmdnn.analysis.structure_averages import StructureAverages
from rxmdnn.commands import run as run_command
from rxmdnn.deck.run import read_run
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import BY_MONITORING, InputError
from rxmdnn.fidelity.guard import SavedState
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.log import read_energies
from rxmdnn.io.series import open_series
from rxmdnn.parallel import AgreedError
from rxmdnn.ring_polymer.forces import V
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.run.potential import make_potential
from rxmdnn.run.setup import make_simulation
from rxmdnn.run.start import read_start
from tests.runs import killed_at, run_text, same_atoms, state, write

COMM = MPI.COMM_WORLD
DECK = """mdmode 1
time {dt} {steps}
temperature 60.0 1.0 1
io_step 30 10
structure start.xyz
checkpoint 20
h5md 10
skin 0.3
"""


def go(folder, out, lines, steps=60, comm=COMM, dt=2.0):
    """The exit code of the run, and its folder."""
    return run_text(comm, folder, out, DECK.format(steps=steps, dt=dt) + lines + "\n")


def incidents(out):
    path = out / "incidents.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def together_and_alone():
    """Names of folders and communicators: of all ranks, and then of the first alone."""
    return [("all", COMM), ("one", MPI.COMM_SELF)][: 1 if COMM.rank else 2]


def strike(monkeypatch, steps, gid=7, speed=0.3, times=1):
    """Give an atom the velocity ``speed``, Å/fs, at the end of these steps, ``times`` times in total."""
    advance, left = Simulation.advance, [times]

    def struck(self):
        advance(self)
        if self.step in steps and left[0]:
            left[0] -= 1
            rows = np.flatnonzero(self.atoms.gid[: self.atoms.n_owned] == gid)
            self.atoms.v[rows] = [speed, 0.0, 0.0]

    monkeypatch.setattr(Simulation, "advance", struck)


def test_a_clean_run_has_no_incidents(folder):
    code, out = go(folder, "clean", "ensemble langevin 0.1\nfidelity heal 5\nfidelity_heal 3 20 2 20", 30)
    assert code == 0 and not incidents(out) and not (out / "incidents.xyz").exists()
    assert "fidelity: 0 incident(s), 0 rollback(s)" in (out / "run.log").read_text()


@pytest.mark.parametrize("name", ["cuau", "methanol"])
def test_shipped_systems_are_calm_by_the_default_criteria(folder, name):
    """A metal, whose atoms have no bonds, and a molecule in vacuum."""
    deck, out = Path(__file__).parents[2] / "input" / name / "rxmd.in", folder / name
    assert run_command.main(["--rxmdin", str(deck), "--outDir", str(out), "--ntime_step", "20"], COMM) == 0
    COMM.Barrier()
    assert not incidents(out) and "fidelity: 0 incident(s)" in (out / "run.log").read_text()


def test_an_injected_outlier_is_caught_within_one_check_with_the_same_events_on_any_rank_count(folder, monkeypatch):
    lines = "fidelity flag 5\nfidelity_limit force 3.0\nfidelity_limit energy 1e6\nfidelity_watch force pair energy"
    found = []
    for name, comm in together_and_alone():
        with monkeypatch.context() as patch:
            strike(patch, {32}, speed=0.5)  # 1 Å a step: into its neighbors
            found.append(incidents(go(folder, name, lines, 40, comm)[1]))
    COMM.Barrier()
    if COMM.rank == 0:
        everywhere, alone = found
        assert everywhere and everywhere[0]["step"] == 35
        for a, b in zip(everywhere, alone, strict=True):
            assert [(e["kind"], e["step"], e["gid"]) for e in a["events"]] == \
                [(e["kind"], e["step"], e["gid"]) for e in b["events"]]
            np.testing.assert_allclose([e["value"] for e in a["events"]], [e["value"] for e in b["events"]], rtol=1e-6)
        frames = ase.io.read(folder / "all" / "incidents.xyz", ":", parallel=False)
        assert len(frames) == len(everywhere)
        worst = int(np.argmax(frames[0].arrays["score"]))
        assert worst in [e["gid"] for e in everywhere[0]["events"]] and frames[0].arrays["score"].max() > 1
        assert frames[0].info["incident"] == 1 and np.isfinite(frames[0].arrays["model_forces"]).all()


@pytest.mark.parametrize("ensemble", ["ensemble langevin 0.05", "ensemble svr 0.1\nbarostat scr 0.1 0.5 full 1.0",
                                      "ensemble nose-hoover 0.1\nbarostat mtk 0.1 0.3"])
def test_a_rollback_restores_the_state_to_the_bit(folder, ensemble):
    """State, and what follows from it with the same step and noise."""
    if COMM.rank == 0:
        (folder / "rxmd.in").write_text(DECK.format(steps=60, dt=2.0) + ensemble + "\n")
    COMM.Barrier()
    run = read_run(["--rxmdin", str(folder / "rxmd.in")])
    backend = backends.make("cpu")
    s = make_simulation(COMM, run, backend, make_potential(run, backend), read_start(COMM, run))
    s.forces.compute(s.atoms)
    s.ensemble.begin(s.atoms)

    def state():
        n = s.atoms.n_owned
        more = json.dumps(s.ensemble.state(), default=lambda a: a.tobytes().hex())
        return (s.step, s.cell.h.tobytes(), more, *(getattr(s.atoms, k)[:n].tobytes() for k in (
            "gid", "species", "x", "v", "f", "image")))

    for _ in range(5):
        s.advance()
    kept, before = SavedState.of(s), state()
    for _ in range(12):
        s.advance()
    after = state()
    s.atoms.x[:] = np.nan  # an arbitrary later state
    kept.restore(s)
    assert state() == before
    for _ in range(12):
        s.advance()
    assert state() == after


def kick(monkeypatch, step, gid, speed):
    """Give one bead of an atom the velocity ``speed``, Å/fs, before this step, at constant centroid velocity."""
    advance = Simulation.advance

    def kicked(self):
        if self.step == step - 1:
            rows = np.flatnonzero(self.atoms.gid[: self.atoms.n_owned] == gid)
            self.atoms.extra[V][rows, :, 0] += speed * Modes(self.atoms.extra[V].shape[1] + 1).to_modes[1:, 2]
        advance(self)

    monkeypatch.setattr(Simulation, "advance", kicked)


def test_every_bead_of_a_ring_is_monitored(folder, monkeypatch):
    """One bead is an atom; a colliding bead is detected although the force on its centroid is small."""
    lines = "pimd {}\nfidelity flag 5\nfidelity_limit force 0.05\nfidelity_watch force pair"
    found = [[(e["step"], e["gid"], e["value"]) for row in incidents(go(folder, name, text, 20)[1])
              for e in row["events"] if e["kind"] == "force"]
             for name, text in (("atoms", lines.replace("pimd {}\n", "")), ("bead", lines.format("1 rpmd")))]
    assert found[0] and [f[:2] for f in found[0]] == [f[:2] for f in found[1]]
    np.testing.assert_allclose([f[2] for f in found[0]], [f[2] for f in found[1]], rtol=1e-6)

    lines = "pimd 4 rpmd\nfidelity stop 1\nfidelity_watch force\nfidelity_limit force 5.0"
    stops = []
    for name, comm in together_and_alone():
        with monkeypatch.context() as patch:
            kick(patch, 5, 7, 0.3)
            code, out = go(folder, name, lines, 20, comm)
            assert code == BY_MONITORING
            stops.append([(e["step"], e["gid"], round(e["value"], 6)) for e in incidents(out)[0]["events"]])
    COMM.Barrier()
    if COMM.rank == 0:
        assert stops[0] == stops[1] and 7 in [gid for _, gid, _ in stops[0]]
        f = ase.io.read(folder / "all" / "incidents.xyz", parallel=False).arrays["model_forces"]  # of the centroids
        assert np.linalg.norm(f, axis=1).max() < 5.0 < stops[0][0][2]


def test_healing_survives_an_incident_and_reports_it(folder, monkeypatch):
    strike(monkeypatch, {33}, speed=500.0)
    code, out = go(folder, "out", "ensemble langevin 0.1\nfidelity heal 5\nfidelity_heal 3 20 2 15", 60)
    assert code == 0
    (row,) = incidents(out)
    assert (row["action"], row["step"], row["to_step"], row["parts"]) == ("rolled back", 35, 20, 2)
    assert row["kinds"]["energy"] == 1
    e = read_energies(out)
    np.testing.assert_array_equal(e["step"], np.arange(0, 61, 10))  # each once, none of the failed attempt
    assert e["temperature_K"][3:].max() < 300
    log = (out / "run.log").read_text()
    assert "healed; full time step restored" in log
    assert "1 incident(s), 1 rollback(s); steps in parts from 20 to 50" in log
    with h5py.File(out / "trajectory.h5md", locking=False) as file:
        assert list(file["particles/all/position/step"]) == list(range(0, 61, 10))
        assert file["parameters/healed_steps"][:].tolist() == [[20, 50]]
    np.testing.assert_allclose(stretches(out, e), [(0.04, 0.1)])  # what rxmdnn plot marks
    assert "healed" not in ase.io.read(out / "incidents.xyz", parallel=False).info  # it is from before
    marked = ["healed" in ase.io.read(out / f"{step:09d}.xyz", parallel=False).info for step in (0, 30, 60)]
    assert marked == [False, True, False]
    end = state(out)
    assert end.step == 60 and end.time == pytest.approx(120.0) and end.state["fidelity"]["rollbacks"] == 1


def test_what_is_observed_is_what_the_healed_trajectory_holds(folder, monkeypatch):
    """Averages leave out the steps of a failed attempt, also those over segments of spectra."""
    strike(monkeypatch, {133}, speed=500.0)
    lines = "fidelity heal 5\nfidelity_heal 3 50 2 15\nobserve vdos 10 2000\nobserve gr 10 5.0"
    code, out = go(folder, "out", lines, 200)
    assert code == 0 and len(incidents(out)) == 1
    series = open_series(out)
    seen, _ = observe.read_spectrum(out / "observe.h5")
    want = sp.measure(COMM, [series], seen.length, 20.0)
    assert len(series.step) == 21 and len(seen.power) == len(want.power) > 3
    assert np.allclose(want.power, seen.power, rtol=1e-4, atol=1e-7 * want.power.max())
    kinds, index, _ = sp.kinds_of(series.names, series.mass)
    found = StructureAverages.of(series, kinds, index, 5.0)
    found.accumulate(COMM, [series], 10**6, True)
    with h5py.File(out / "observe.h5", locking=False) as file:
        assert file["gr/frames"][()] == 21
        np.testing.assert_allclose(file["gr/sums"][:], found.radial.sums, rtol=1e-9, atol=1e-9)
    series.file.close()


def test_the_spread_of_a_committee_is_per_atom(folder):
    """Members of one and of two forces f: their mean is 1.5 f, their spread 0.5 f."""
    if COMM.rank == 0:
        lj = "lj {} 3.4 6.0 2 Ar 39.95 Ne 20.18\n"
        (folder / "rxmdnn.in").write_text(lj.format(0.0104) + lj.format(0.0208))
    COMM.Barrier()
    code, out = go(folder, "out", "fidelity flag 5\nfidelity_watch spread\nfidelity_limit spread 1e-9", 5)
    frame = ase.io.read(out / "incidents.xyz", parallel=False)
    (row,) = incidents(out)
    assert code == 0 and row["kinds"] == {"spread": 40}
    force = np.linalg.norm(frame.arrays["model_forces"], axis=1)
    np.testing.assert_allclose([e["value"] for e in row["events"]], force / 3.0, rtol=1e-4, atol=1e-7)


def test_observers_change_no_bit_and_are_evaluated_every_n_steps(folder):
    """A second model of two forces f observes: the spread is 0.5 f, f being the force that moves the atoms."""
    lj, lines = "lj {} 3.4 {} 2 Ar 39.95 Ne 20.18\n", "fidelity flag 5\nfidelity_watch pair{}\n{}"
    models = {"alone": lj.format(0.0104, 6.0), "observed": lj.format(0.0104, 6.0) + lj.format(0.0208, 6.0)}
    more = {"alone": ("", ""), "observed": (" spread", "fidelity_limit spread 1e-9\nfidelity_observers 10")}
    for name, text in models.items():
        write(COMM, folder / "rxmdnn.in", text)
        code, out = go(folder, name, lines.format(*more[name]), 25)
        assert code == 0 and "spread of models" not in (out / "run.log").read_text()
    same_atoms(folder / "alone", folder / "observed")
    assert "spread: 1 observers, every 10 steps" in (out / "run.log").read_text()
    (row,) = incidents(out)  # what persists at step 20 is recorded once
    assert row["step"] == 10 and row["kinds"] == {"spread": 40}
    frame = ase.io.read(out / "incidents.xyz", parallel=False)
    force = np.linalg.norm(frame.arrays["model_forces"], axis=1)
    np.testing.assert_allclose([e["value"] for e in row["events"]], force / 2.0, rtol=1e-4, atol=1e-7)


def test_an_observer_of_a_longer_cutoff_is_refused(folder):
    lj = "lj 0.01 3.4 {} 2 Ar 39.95 Ne 20.18\n"
    if COMM.rank == 0:
        (folder / "rxmdnn.in").write_text(lj.format(6.0) + lj.format(7.0))
    COMM.Barrier()
    with pytest.raises((InputError, AgreedError), match="an observer whose cutoff, 7 Å, exceeds that of the first"):
        go(folder, "out", "fidelity flag 5\nfidelity_limit spread 1\nfidelity_observers 10", 5)


def test_healing_may_add_a_repulsion_for_its_time(folder, monkeypatch):
    seen = set()
    strike(monkeypatch, {13}, speed=500.0)
    struck = Simulation.advance

    def watched(self):
        struck(self)
        seen.add((self.parts, getattr(self.forces.potential, "added", None) is not None))

    monkeypatch.setattr(Simulation, "advance", watched)
    assert go(folder, "out", "fidelity heal 5\nfidelity_heal 2 10 2 10 .true.", 40)[0] == 0
    assert seen == {(1, False), (2, True)}


def test_a_failure_that_comes_again_ends_the_run_with_its_exit_code(folder, monkeypatch):
    strike(monkeypatch, {33}, speed=500.0, times=100)
    code, out = go(folder, "out", "ensemble langevin 0.1\nfidelity heal 5\nfidelity_heal 3 10 2 20", 60)
    assert code == BY_MONITORING
    rows = incidents(out)
    assert [r["action"] for r in rows] == ["rolled back", "rolled back", "gave up after 2 retries"]
    assert [r.get("to_step") for r in rows] == [30, 20, None]  # each from an older state
    assert "stopped by fidelity monitoring" in (out / "run.log").read_text()
    assert read_energies(out)["step"][-1] <= 30


def test_stop_ends_the_run_before_invalid_states_are_written(folder, monkeypatch):
    strike(monkeypatch, {23}, speed=500.0)
    code, out = go(folder, "out", "fidelity stop 50", 40)
    assert code == BY_MONITORING and incidents(out)[0]["action"] == "stopped"
    assert read_energies(out)["step"][-1] == 20
    assert state(out).step == 20


def test_a_run_killed_while_it_heals_continues_to_the_same_bits(folder, monkeypatch):
    lines = "ensemble langevin 0.1\nfidelity heal 5\nfidelity_heal 3 20 2 20"

    with monkeypatch.context() as patch:
        strike(patch, {33}, speed=500.0)
        assert go(folder, "whole", lines, 60)[0] == 0
    with killed_at(monkeypatch, 45) as patch:
        strike(patch, {33}, speed=500.0)
        go(folder, "killed", lines, 60)
    assert state(folder / "killed").state["fidelity"]["parts"] == 2
    assert go(folder, "killed", lines, 60)[0] == 0
    assert same_atoms(folder / "whole", folder / "killed")[0].step == 60


TAIL = {"start": 0.0, "scale": 0.01, "shape": 0.0, "rate": 1.0, "exceedances": 5000}  # forces are larger: all is odd


def calibrate(folder, scale):
    """A calibration by hand, of forces on argon and neon."""
    if COMM.rank == 0:
        tails = {"force": {e: TAIL | {"scale": scale} for e in ("Ar", "Ne")}}
        (folder / "tails.json").write_text(json.dumps({"format": "rxmdnn-calibration", "version": 1, "tails": tails}))
    COMM.Barrier()
    return f"fidelity_limit force 100\nfidelity_calibration {folder / 'tails.json'}\nfidelity_martingale 0.05 30"


def test_the_martingale_of_a_run_is_the_same_on_any_rank_count_and_after_a_restart(folder, monkeypatch):
    lines = "fidelity flag 5\n" + calibrate(folder, 0.02)
    saved, file = {}, "checkpoint.h5"
    for name, comm in together_and_alone():
        code, out = go(folder, name, lines, 60, comm)
        assert code == 0
        saved[name] = read_checkpoint(MPI.COMM_SELF, out / file).state["fidelity"]["martingale"]
        assert "martingale: alarm at 20, false in at most 5 % of runs; 40 scores per check, 3 checks" in (
            out / "run.log").read_text()
    with killed_at(monkeypatch, 45):
        go(folder, "killed", lines, 60)
    assert go(folder, "killed", lines, 60)[0] == 0
    saved["killed"] = read_checkpoint(MPI.COMM_SELF, folder / "killed" / file).state["fidelity"]["martingale"]
    assert saved["all"]["blocks"] == 4 and saved["all"]["seen"] == 0 and saved["killed"] == saved["all"]
    if COMM.rank == 0:
        assert saved["one"]["log_bets"] == pytest.approx(saved["all"]["log_bets"], rel=1e-6)


def test_the_martingale_stops_a_run_whose_scores_have_shifted(folder):
    code, out = go(folder, "shifted", "fidelity stop 5\n" + calibrate(folder, 1e-5), 60)
    assert code == BY_MONITORING
    (row,) = incidents(out)
    assert row["kinds"] == {"martingale": 1} and row["events"][0]["gid"] == -1 and row["events"][0]["threshold"] == 20
    assert row["step"] == 15  # the end of the first block


@pytest.mark.parametrize(("lines", "said"), [
    ("fidelity flag\nfidelity_watch latent", "fidelity_watch: latent: no model of rxmdnn.in is a network"),
    ("fidelity flag\nfidelity_watch spread", "spread: a single model has no spread; name several"),
    ("fidelity flag\nfidelity_watch force", "force: no limit is known; write 'fidelity_limit force"),
    ("fidelity flag\nfidelity_watch temperature", "temperature: the temperature is not controlled in this run"),
    ("fidelity flag\nfidelity_limit temperature 50",
     "fidelity_limit: temperature: without effect: the temperature is not controlled in this run; use energy"),
    ("fidelity flag\nfidelity_watch pair\nfidelity_limit force 9",
     "fidelity_limit: force: without effect: it is not monitored; add it to fidelity_watch, or omit this line"),
    ("fidelity flag\nfidelity_limit pair 0.5\nfidelity_limit pair 0.6", "fidelity_limit: pair: given before; keep one"),
    ("fidelity flag\nfidelity_watch coordination", "coordination: no model of rxmdnn.in has training statistics"),
    ("fidelity_watch pair", "fidelity_watch: without effect; also write 'fidelity flag'"),
    ("pimd 4\nfidelity heal", "a ring polymer can be monitored, but not healed"),
    ("pimd 4 rpmd\nfidelity flag\nfidelity_watch energy", "energy: not available for a ring polymer: the springs"),
    ("fidelity heal 30", "states are saved every 100 steps and checks are made every 30"),
    ("fidelity flag\nfidelity_calibration start.xyz", "not a calibration file of 'rxmdnn fidelity calibrate'"),
    ("fidelity flag\nfidelity_martingale 0.05", "also write 'fidelity_calibration <file>'"),
    ("fidelity flag\nfidelity_martingale 2", "alpha = 2: must be above 0 and at most 0.5"),
    ("fidelity_martingale 0.05", "fidelity_martingale: without effect; also write 'fidelity flag'"),
    ("fidelity flag\nfidelity_observers 20", "there is one model, so none observes"),
    ("fidelity flag 10\nfidelity_observers 15", "evaluated every 15 steps, but the checks are made every 10"),
    ("fidelity_observers 15", "fidelity_observers: without effect; also write 'fidelity flag'"),
    ("fidelity hael", "action must be one of off, flag, stop, heal, not 'hael'; did you mean 'heal'"),
])
def test_faults_are_one_message_and_nothing_is_written(folder, lines, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        go(folder, "out", lines)
    assert not (folder / "out").exists()


def test_an_unstable_run_survives_its_incidents_and_reports_them(folder):
    """At the limit of a stable time step, failed steps are taken in parts, and the run reaches its end."""
    lines = "ensemble langevin 0.1\nfidelity {}\nfidelity_heal 4 20 4 20"
    code, out = go(folder, "healed", lines.format("heal 5"), 60, dt=44.0)
    assert code == 0 and incidents(out)[0]["action"] == "rolled back" and read_energies(out)["step"][-1] == 60
    assert f"fidelity: {len(incidents(out))} incident(s)" in (out / "run.log").read_text()
    assert go(folder, "stopped", lines.format("stop 5"), 60, dt=44.0)[0] == BY_MONITORING
