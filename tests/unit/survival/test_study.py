"""rxmdnn tfail: replicas against the engine; criteria, results, resumption, pairs, faults."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn import files
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.deck import language as decks
from rxmdnn.deck.tfail import TABLE
from rxmdnn.dynamics.ensembles import make as make_ensemble
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.errors import InputError
from rxmdnn.models.pair import LennardJones
from rxmdnn.survival import results
from rxmdnn.survival.plan import StudyRun
from rxmdnn.survival.replicas import THERMOSTATS, Replicas
from rxmdnn.survival.starts import factors
from rxmdnn.survival.study import Study
from tests.systems import TRICLINIC, argon, collect, engine, share, spread_atoms

CPU = backends.make("cpu")
MASS = np.array([39.948])


def three(n=20, cell=TRICLINIC, **more):
    x = np.array([spread_atoms(cell, n, 3.2, seed) for seed in (1, 2, 3)])
    x[1] += 7 * cell.h[0]  # atoms may be outside the cell
    return Replicas(CPU, argon(cutoff=6.0), cell, np.zeros(n, np.int32), MASS, x, np.array([60.0, 90.0, 120.0]),
                    np.array([5, 6, 7]), 3, **more)


def steps(r, thermostat, count, begin=0):
    for step in range(begin + 1, begin + count + 1):
        thermostat.before_forces(step)
        r.compute()
        thermostat.after_forces(step)


def test_forces_are_those_of_the_engine():
    r = three()
    r.draw_velocities()
    start = r.x.copy()
    r.compute()
    energies = []
    for k in range(3):
        e = engine(MPI.COMM_SELF, TRICLINIC, argon(cutoff=6.0))
        atoms = share(MPI.COMM_SELF, start[k], r.species)
        e.domain.distribute(atoms)
        e.compute(atoms)
        (f,) = collect(MPI.COMM_SELF, atoms, atoms.f)
        assert r.f[k] == pytest.approx(f, abs=1e-10)
        energies.append(e.energy())
    assert r.energy == pytest.approx(energies, abs=1e-11)
    moved = start - r.x
    assert abs(moved - np.round(moved @ TRICLINIC.inverse) @ TRICLINIC.h).max() < 1e-9
    unwrapped = r.x + (r.image.reshape(-1, 3) @ TRICLINIC.h).reshape(r.x.shape)
    assert abs(unwrapped - start).max() < 1e-9


@pytest.mark.parametrize("kind", list(THERMOSTATS))
def test_thermostats_are_those_of_the_engine(kind):
    """One replica, 60 steps: energy accounting with noise; without noise, the trajectory of the engine."""
    r = three()
    r.draw_velocities()
    x, v = r.x[1].copy(), r.v[1].copy()
    assert 2 * r.kinetic()[1] / (57 * 8.617333262e-5) == pytest.approx(90.0) and abs(r.v.sum(axis=1)).max() < 1e-12
    r.compute()
    thermostat = THERMOSTATS[kind](r, 2.0, 50.0)
    before = thermostat.conserved()
    steps(r, thermostat, 60)
    assert abs(thermostat.conserved() - before).max() < 2e-3
    assert r.builds > 1
    if kind in ("nve", "nose-hoover"):
        forces = engine(MPI.COMM_SELF, TRICLINIC, argon(cutoff=6.0))
        atoms = Atoms.of(np.arange(20), np.zeros(20, np.int32), x, v)
        forces.domain.distribute(atoms)
        schedule = Schedule(2.0, 60, 1, (90.0, 90.0), 1.0, 1000, 1000, 1)
        s = Simulation(MPI.COMM_SELF, CPU, forces.domain, forces, atoms, MASS, schedule, 20)
        if kind != "nve":
            s.ensemble = make_ensemble(s.motion(), kind, 50.0, None)
        for _ in s.steps(restarted=False):
            pass
        (theirs,) = collect(MPI.COMM_SELF, s.atoms, s.atoms.v)
        assert r.v[1] == pytest.approx(theirs, abs=1e-9)


def test_a_run_does_not_depend_on_the_other_replicas():
    together, alone = three(), three()
    for r in (together, alone):
        r.draw_velocities()
    alone.energy = np.zeros(3)
    alone.keep(np.array([False, True, False]))
    for r in (together, alone):
        r.compute()
        steps(r, THERMOSTATS["langevin"](r, 2.0, 50.0), 30)
    assert together.v[1] == pytest.approx(alone.v[0], abs=1e-10)
    third = together.v[2].copy()
    together.keep(np.array([True, False, True]))
    assert len(together) == 2 and (together.v[1] == third).all()


def test_langevin_and_rescaling_reach_their_temperatures():
    """An ideal gas: mean kinetic temperature of many runs, each at its own target."""
    cell = Cell(30.0 * np.eye(3))
    for kind in ("langevin", "svr"):
        x = np.tile(spread_atoms(cell, 8, 3.0), (40, 1, 1))
        target = np.repeat([100.0, 300.0], 20)
        r = Replicas(CPU, LennardJones(CPU, ("Ar",), 0.0, 3.4, 3.0), cell, np.zeros(8, np.int32), MASS, x, target,
                     np.arange(40), 1)
        r.draw_velocities()
        r.compute()
        thermostat, seen = THERMOSTATS[kind](r, 5.0, 20.0), []
        for step in range(1, 301):
            thermostat.before_forces(step)
            thermostat.after_forces(step)
            if step > 60:
                seen.append(thermostat.temperature())
        mean = np.mean(seen, axis=0).reshape(2, 20).mean(axis=1)
        assert mean == pytest.approx([100.0, 300.0], rel=0.06), kind


# ------------------------------------------------------------------------------------------------ studies
DECK = """model {model} warm 1
sizes 4 8
temperatures 40 100000
replicas 3
start argon.xyz
thermostat svr 50
dt 4.0
cap 0.4
check 5
criteria finite pair temperature
batch 24
frames 2 5
output out
"""


def workplace(folder, text=DECK, **words):
    import ase.build
    import ase.io

    (folder / "a.model").write_text("a")
    (folder / "b.model").write_text("b")
    atoms = ase.build.bulk("Ar", cubic=True, a=5.4)
    ase.io.write(folder / "argon.xyz", atoms, format="extxyz", parallel=False)  # one rank alone may make it
    (folder / "tfail.in").write_text(text.format(model="a.model", **words))
    return folder / "tfail.in"


def lj(file, elements, precision):
    """Soft atoms, which collide at high temperature."""
    return LennardJones(CPU, elements, 0.0104, 1.2, 5.0 if file.name == "a.model" else 5.2)


def run(deck, argv=(), comm=MPI.COMM_SELF):
    study = Study(decks.read(deck, TABLE, argv), comm, lj)
    study.run()
    return study


def test_a_study_from_deck_to_results(tmp_path, capsys):
    study = run(workplace(tmp_path))
    rows = results.read(tmp_path / "out")
    assert len(rows) == 12 and "12 runs: 1 models, 2 sizes, 2 temperatures" in capsys.readouterr().out
    for r in rows:
        cold = r["temperature_K"] == 40
        assert r["failed"] == (not cold) and (r["steps"] == 100 or not cold)
        if not cold:
            assert r["criterion"] == "pair" and r["value"] < r["threshold"]
            assert r["pair_step"] == r["failed_step"] <= 100
            assert 0 <= r["gid"] < r["n_atoms"]
    times = results.failure_times(rows)
    assert (times.upper[times.failed] - times.lower[times.failed] == 20.0).all()  # between two checks
    assert (times.lower[~times.failed] == 400.0).all()
    import h5py
    with h5py.File(tmp_path / "out/results.h5") as file:
        assert list(file["runs/steps"]) == [r["steps"] for r in rows]
        assert file["runs/run"].asstr()[0] == rows[0]["run"]
    frames = results.complete_frames(tmp_path / "out/failures.xyz")
    assert {name for name, _ in frames} == {r["run"] for r in rows if r["failed"]}
    import ase.io
    failed = [a for a in ase.io.read(tmp_path / "out/failures.xyz", ":") if a.info["kind"] == "failure"]
    row = next(r for r in rows if r["run"] == failed[0].info["run"])
    assert failed[0].get_all_distances(mic=True)[row["gid"]].max() > 0 and failed[0].info["step"] == row["failed_step"]
    d = failed[0].get_all_distances(mic=True)[row["gid"]]
    assert np.sort(d)[1] == pytest.approx(row["value"], abs=1e-5)
    from tests.systems import engine as make
    e = make(MPI.COMM_SELF, study.plan.starts[row["n_atoms"]].cell, lj(tmp_path / "a.model", ("Ar",), ""))
    atoms = share(MPI.COMM_SELF, failed[0].positions, np.zeros(len(failed[0]), np.int32))
    e.domain.distribute(atoms)
    e.compute(atoms)
    (f,) = collect(MPI.COMM_SELF, atoms, atoms.f)
    assert failed[0].arrays["model_forces"] == pytest.approx(f, rel=1e-3, abs=1e-3 * abs(f).max())


def test_a_killed_study_goes_on_and_loses_only_runs_in_flight(tmp_path, monkeypatch):
    deck = workplace(tmp_path)
    run(deck, ["--outDir", str(tmp_path / "whole")])
    whole = results.read(tmp_path / "whole")

    class KilledError(Exception):
        pass

    from rxmdnn.survival.dispatcher import Dispatcher
    write, count = Dispatcher._write, []

    def dying(self, row, frames):
        if len(count) == 5:  # the frames are written, the row is truncated
            files.append(self.folder / results.FRAMES, frames or "4\nLattice=")
            files.append(self.folder / results.CSV, row[:20])
            raise KilledError
        count.append(row)
        write(self, row, frames)

    monkeypatch.setattr(Dispatcher, "_write", dying)
    with pytest.raises(KilledError):
        run(deck)
    monkeypatch.undo()
    assert len(results.read(tmp_path / "out")) == 5
    run(deck)
    again = results.read(tmp_path / "out")
    # replicas of the same run move the same way whatever batch they are in
    assert sorted(map(str, again)) == sorted(map(str, whole))
    assert len(results.complete_frames(tmp_path / "out/failures.xyz")) == len(
        results.complete_frames(tmp_path / "whole/failures.xyz"))
    run(deck, ["--replicas", "4"])  # more of the same study
    assert len(results.read(tmp_path / "out")) == 16
    with pytest.raises(InputError, match=r"made by a deck that says 'dt 4.0', not 'dt 2.0'"):
        run(deck, ["--dt", "2.0"])
    (tmp_path / "a.model").write_text("other")
    with pytest.raises(InputError, match="the file of model a has changed since its runs"):
        run(deck)


def test_models_are_compared_in_pairs(tmp_path):
    """The same model under two names runs the same runs; thermalized starts are shared and differ by replica."""
    deck = workplace(tmp_path, DECK.replace("criteria", "thermalize b.model 0.02 2.0\nmodel a.model other 2\ncriteria"))
    study = run(deck)
    rows = {(r["arm"], r["n_atoms"], r["temperature_K"], r["replica"]): (r["steps"], r["value"])
            for r in results.read(tmp_path / "out")}
    assert len(rows) == 24
    assert all(str(rows[("warm", *k[1:])]) == str(v) for k, v in rows.items())
    batch = [StudyRun(study.plan.models[0], 8, 100000.0, k) for k in range(3)]
    x = study.positions.of(batch)
    assert abs(x[0] - x[1]).max() > 0.05 and len({b.key for b in batch}) == 3


def test_few_replicas_of_many_seeds_are_many_runs(tmp_path):
    """Draws by training seed: arms are paired within a seed, seeds differ; replicas by size."""
    more = "model a.model other 1\nmodel b.model warm 2\ncriteria"
    flags = ["--seed", "1", "training", "--replicas", "2", "1"]
    study = run(workplace(tmp_path, DECK.replace("criteria", more)), flags)
    runs = study.plan.runs()
    assert {n: sum(r.n == n for r in runs) for n in (4, 8)} == {4: 12, 8: 6}
    of = {(r.model.arm, r.model.seed): r.key for r in runs if (r.n, r.temperature, r.replica) == (8, 40.0, 0)}
    assert of["warm", 1] == of["other", 1] != of["warm", 2]
    rows = {(r["arm"], r["training_seed"], r["n_atoms"], r["replica"]): str(r["value"])
            for r in results.read(tmp_path / "out") if r["failed"]}
    assert len(rows) == 9 and all(v == rows[("other", *k[1:])] for k, v in rows.items() if k[:2] == ("warm", 1))
    assert rows["warm", 1, 8, 0] != rows["warm", 2, 8, 0]


def test_the_published_criterion_and_what_comes_after(tmp_path):
    text = DECK.replace("criteria finite pair temperature", "criteria published\npublished 100\nafter 20")
    run(workplace(tmp_path, text), ["--temperatures", "200", "--thermostat", "svr", "20", "--sizes", "4"])
    for r in results.read(tmp_path / "out"):
        assert r["failed"] and r["criterion"] == "published" and r["gid"] == -1
        assert abs(r["value"] - 200) > 100 and r["steps"] == min(100, r["failed_step"] + 20)


@pytest.mark.parametrize(("change", "message"), [
    (("sizes 4 8", "sizes 6"), r"tfail.in:2: sizes: 6 atoms do not fit: the starts have 4 atoms; choose multiples"),
    (("cap 0.4", "cap 0.01"), r"cap: 0.01 ps end before the first check, at step 5: no criterion could be reached"),
    (("finite pair", "latent"), r"criteria: 'latent' is unreachable: a study has no limits for it"),
    (("criteria finite pair temperature", "criteria bond"), r"'bond' is unreachable: the start has no bonds"),
    (("batch 24", "batch 24\nmasses He 4.0"), r"masses: He is not in the starts \(Ar\)"),
    (("batch 24", "batch 24\nmodel a.model warm 1"), r"model: warm_1: given twice"),
    (("replicas 3", "replicas 3 2 1"), r"tfail.in:4: replicas: 3 numbers for 2 sizes; give one, or one for each size"),
    (("start argon.xyz", ""), r"start: missing"),
])
def test_faults_come_before_anything_is_written(tmp_path, change, message):
    deck = workplace(tmp_path, DECK.replace(*change))
    with pytest.raises(InputError, match=message):
        run(deck)
    assert not (tmp_path / "out").exists()


def test_replication_makes_the_most_cubic_cell():
    assert factors(8, np.ones(3)) == (2, 2, 2) and sorted(factors(12, np.ones(3))) == [2, 2, 3]
    assert factors(4, np.array([1.0, 1.0, 4.0])) == (2, 2, 1)
