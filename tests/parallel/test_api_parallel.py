"""The Python API: what it computes is what a deck that says the same computes, on any number of ranks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.units import fs
from mpi4py import MPI

import rxmdnn
from rxmdnn import InputError, errors
from rxmdnn.io.log import read_energies
from rxmdnn.models.pair import Null
from rxmdnn.run.ending import Ending
from tests.runs import shared_folder
from tests.systems import TRICLINIC, argon, spread_atoms

COMM = MPI.COMM_WORLD
pytestmark = pytest.mark.skipif(COMM.size > 4, reason="up to 4 ranks will do")
CASES = {
    "constant energy": ({"seed": 1}, ""),
    "Langevin": ({"ensemble": "langevin", "seed": 5}, "ensemble langevin 0.1\nseed 5\n"),
    "pressure": ({"ensemble": ("svr", 0.05), "barostat": ("scr", 0.1, 0.5, "full"), "seed": 2},
                 "ensemble svr 0.05\nbarostat scr 0.1 0.5 full\nseed 2\n"),
    "rings": ({"ensemble": "langevin", "beads": 4, "seed": 7}, "ensemble langevin 0.1\npimd 4\nseed 7\n"),
    "further keywords": ({"skin": 1.0, "seed": 3, "tramp": (60, 90), "ensemble": "svr"},
                         "skin 1.0\nseed 3\ntramp 60 90\nensemble svr 0.1\n"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory) as place:
        yield place


def start():
    """What tests.runs.write_start writes."""
    x = [[float(f"{a:.9f}") for a in row] for row in spread_atoms(TRICLINIC, 40, 2.9)]
    return Atoms([("Ne", "Ar")[i % 2] for i in range(40)], x, cell=TRICLINIC.h, pbc=True)


def mixed():
    """The potential of tests.runs.MODELS."""
    return argon(elements=("Ar", "Ne"))


@pytest.mark.parametrize("name", CASES)
def test_simulate_gives_the_bits_of_the_deck(folder, name):
    arguments, lines = CASES[name]
    atoms = start()
    atoms.set_masses([{"Ar": 39.95, "Ne": 20.18}[s] for s in atoms.symbols])
    given = atoms.positions.copy()
    end, table = rxmdnn.simulate(atoms, mixed(), 20, dt=2.0, temperature=60.0, every=5, checkpoint=0, threads=1,
                                 comm=COMM, **arguments)
    deck = folder / f"{name.replace(' ', '_')}.in"
    if COMM.rank == 0:
        deck.write_text(f"time 2.0 20\ntemperature 60.0 1.0 1\nio_step 0 5\nh5md 5\ncheckpoint 0\nstructure start.xyz\n"
                        f"threads 1\n{lines}")
    COMM.Barrier()
    done = rxmdnn.run_deck(deck, out=folder / name, comm=COMM)
    assert done.ending is Ending.FINISHED and done.step == 20
    for column in ("step", "potential_eV", "kinetic_eV", "stress_xy_GPa", "conserved_eV", "volume_A3"):
        np.testing.assert_array_equal(table[column], done.table[column])
    assert table["step"].tolist() == [0, 5, 10, 15, 20]
    np.testing.assert_array_equal(read_energies(folder / name)["potential_eV"], table["potential_eV"])
    frames = rxmdnn.read_trajectory(folder / name)
    np.testing.assert_allclose(frames.positions[-1], end.positions, atol=1e-9)
    np.testing.assert_array_equal(frames.step, table["step"])
    np.testing.assert_allclose(frames.cells[-1], np.array(end.cell), atol=1e-12)
    assert (atoms.positions == given).all() and not atoms.has("momenta")
    assert end.get_potential_energy() == pytest.approx(table["potential_eV"][-1], abs=1e-9)
    assert (COMM.bcast(end.positions) == end.positions).all()


def test_velocities_go_in_and_out():
    atoms = start()
    first, _ = rxmdnn.simulate(atoms, mixed(), 10, dt=2.0, temperature=60.0, comm=COMM)
    second, table = rxmdnn.simulate(first, mixed(), 10, dt=2.0, comm=COMM)
    whole, both = rxmdnn.simulate(atoms, mixed(), 20, dt=2.0, temperature=60.0, comm=COMM)
    np.testing.assert_allclose(second.positions, whole.positions, atol=1e-9)
    np.testing.assert_allclose(table["etotal_eV"][-1], both["etotal_eV"][-1], atol=1e-9)
    assert second.get_kinetic_energy() == pytest.approx(table["kinetic_eV"][-1], rel=1e-7)  # older constants in ASE
    again, _ = rxmdnn.simulate(second, mixed(), 0, comm=COMM)
    np.testing.assert_allclose(again.get_forces(), second.get_forces(), atol=1e-9)
    np.testing.assert_allclose(again.get_stress(), second.get_stress(), atol=1e-9)


def test_an_open_molecule_and_a_minimization():
    cluster = Atoms("Ar4", 3.9 * np.array([[0, 0, 0], [1, 0, 0], [0.5, 0.9, 0], [0.5, 0.3, 0.8]]))
    end, table = rxmdnn.simulate(cluster, argon(cutoff=12.0), 300, mdmode=10, minimizer=("fire", 1e-3), comm=COMM)
    pair = lambda r: 4 * 0.0104 * ((3.4 / r) ** 12 - (3.4 / r) ** 6)  # noqa: E731
    assert abs(end.get_forces()).max() < 1e-3
    assert end.get_potential_energy() == pytest.approx(-6 * 0.0104 - 6 * pair(12.0), abs=1e-4)
    assert not end.pbc.any() and table["step"][-1] < 300


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_atoms_of_a_slab_leave_its_cell(ensemble):
    """Free flight over several domains and out of the open ends: the ensemble has no temperature to give."""
    atoms = Atoms("Ar2", [[1, 1, 20], [6, 6, 25]], cell=[11, 11, 30], pbc=(True, True, False))
    atoms.set_velocities(np.array([[0, 0, -0.01], [0, 0, 0.01]]) / fs)
    end, table = rxmdnn.simulate(atoms, Null(("Ar",), 5.0), 1000, dt=1.0, every=100, comm=COMM, temperature=1e-12,
                                 ensemble=ensemble if ensemble == "nve" else (ensemble, 1e9))
    np.testing.assert_allclose(end.positions[:, 2], [10.0, 35.0], atol=1e-4)
    assert table["step"][-1] == 1000


def test_a_slab_of_rings_and_a_minimized_slab():
    x = spread_atoms(TRICLINIC, 30, 2.9)
    atoms = Atoms("Ar30", x, cell=TRICLINIC.h, pbc=(True, True, False))
    atoms.set_cell(np.diag([14.0, 13.0, 40.0]))
    rings, _ = rxmdnn.simulate(atoms, argon(), 60, dt=2.0, ensemble="langevin", temperature=400.0, beads=4, comm=COMM)
    alone, _ = rxmdnn.simulate(atoms, argon(), 60, dt=2.0, ensemble="langevin", temperature=400.0, beads=4,
                               comm=MPI.COMM_SELF)
    np.testing.assert_allclose(rings.positions, alone.positions, atol=1e-6)
    relaxed, _ = rxmdnn.simulate(atoms, argon(), 400, mdmode=10, minimizer=("fire", 1e-3), comm=COMM)
    assert abs(relaxed.get_forces()).max() < 1e-3


def test_reports_and_outputs(folder, capsys):
    rows = []
    out = folder / "reported"
    rxmdnn.simulate(start(), mixed(), 20, dt=2.0, temperature=60.0, every=10, report=rows.append, out=out, comm=COMM)
    assert [row["step"] for row in rows] == ([0, 10, 20] if COMM.rank == 0 else [])
    assert (out / "checkpoint.h5").is_file() and "finished at step 20" in (out / "run.log").read_text()
    with pytest.raises(InputError, match="holds another run; name another folder"):
        rxmdnn.simulate(start(), mixed(), 20, out=out, comm=COMM)
    capsys.readouterr()
    rxmdnn.simulate(start(), mixed(), 10, report=True, comm=COMM)
    assert capsys.readouterr().out.count("step") == (2 if COMM.rank == 0 else 0)


def test_runs_in_a_loop_draw_new_noise():
    """Langevin dynamics in 40 chunks keeps its temperature, and the same call repeats its result."""
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2)
    temperatures = []
    for _ in range(40):
        before = atoms
        atoms, table = rxmdnn.simulate(atoms, argon(cutoff=8.0), 20, dt=5.0, ensemble=("langevin", 0.1), every=20,
                                       temperature=40.0, comm=COMM, threads=1)
        temperatures.append(table["temperature_K"][-1])
    assert 30.0 < np.mean(temperatures[10:]) < 50.0
    again, _ = rxmdnn.simulate(before, argon(cutoff=8.0), 20, dt=5.0, ensemble=("langevin", 0.1), every=20,
                               temperature=40.0, comm=COMM, threads=1)
    assert (again.positions == atoms.positions).all()


def test_folders_with_blanks_and_other_threads(folder):
    out = folder / "a run #2"
    rxmdnn.simulate(start(), mixed(), 4, dt=1.0, out=out, comm=COMM)
    assert (out / "run.log").is_file()
    if COMM.size == 1:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(rxmdnn.simulate, start(), mixed(), 4, comm=COMM).result().table["step"][-1] == 4


def test_constraints_and_no_atoms_are_refused():
    atoms = start()
    atoms.set_constraint(FixAtoms([0, 1]))
    with pytest.raises(InputError, match=r"simulate: atoms: constraints \(FixAtoms\) are not supported"):
        rxmdnn.simulate(atoms, mixed(), 4, comm=COMM)
    with pytest.raises(InputError, match="simulate: atoms: no atoms"):
        rxmdnn.simulate(Atoms(cell=[9, 9, 9], pbc=True), mixed(), 4, comm=COMM)


@pytest.mark.skipif(COMM.size == 1, reason="ranks differ where there are several")
def test_ranks_with_different_arguments_are_told():
    with pytest.raises(InputError, match="simulate: the ranks give different arguments"):
        rxmdnn.simulate(start(), mixed(), 2 + COMM.rank, comm=COMM)
    with pytest.raises(InputError, match="Calculator: the ranks give different arguments"):
        rxmdnn.Calculator(mixed(), skin=0.5 + COMM.rank, comm=COMM)


def test_an_error_of_a_report_ends_the_run_on_all_ranks():
    def broken(row):
        raise ZeroDivisionError("of the user")

    with pytest.raises(ZeroDivisionError if COMM.rank == 0 else InputError):
        rxmdnn.simulate(start(), mixed(), 10, report=broken, comm=COMM)
    rxmdnn.simulate(start(), mixed(), 2, comm=COMM)


def test_a_run_that_monitoring_stops_is_told(folder):
    atoms = Atoms("Ar2", [[5, 5, 5], [9, 5, 5]], cell=[14, 14, 14], pbc=True)
    atoms.set_velocities(np.array([[0.1, 0, 0], [-0.1, 0, 0]]))
    settings = {"fidelity": ("stop", 5), "fidelity_watch": "pair", "fidelity_limit": ("pair", 1.5), "comm": COMM}
    with pytest.warns(UserWarning, match="stopped by fidelity monitoring"):
        _, table = rxmdnn.simulate(atoms, argon(), 400, dt=1.0, out=folder / "stopped", **settings)
    assert table["step"][-1] < 400
    with pytest.raises(InputError, match="simulate: fidelity: needs out, the folder for its files"):
        rxmdnn.simulate(atoms, argon(), 400, dt=1.0, **settings)
    with pytest.raises(InputError, match="simulate: profile: needs out"):
        rxmdnn.simulate(atoms, argon(), 4, dt=1.0, profile=(2, 1, 1, 4), comm=COMM)


def test_a_run_that_fails_is_told(folder):
    close = Atoms("Ar2", [[5, 5, 5], [6.5, 5, 5]], cell=[14, 14, 14], pbc=True)
    with pytest.warns(UserWarning, match="FAILED: unstable, at an unphysical temperature at step 20"):
        _, table = rxmdnn.simulate(close, argon(), 20, dt=0.1, comm=COMM)
    assert table["temperature_K"][-1] > 1e6
    with pytest.warns(UserWarning, match="NOT converged: step limit reached at step 1"):
        rxmdnn.simulate(close, argon(), 1, mdmode=10, comm=COMM)
    with pytest.raises(InputError, match=r"the simulation has become unstable|not finite|were lost") as failed:
        rxmdnn.simulate(Atoms("Ar2", [[5, 5, 5], [6, 5, 5]], cell=close.cell, pbc=True), argon(), 20, dt=1e3, comm=COMM)
    assert failed.value.exit_code == errors.FAILED


def test_run_deck_goes_on(folder):
    deck = folder / "goes_on.in"
    if COMM.rank == 0:
        deck.write_text("time 2.0 10\ntemperature 60.0 1.0 1\nio_step 0 5\nstructure start.xyz\n")
    COMM.Barrier()
    assert rxmdnn.run_deck(deck, out=folder / "on", comm=COMM).step == 10
    more = rxmdnn.run_deck(deck, out=folder / "on", time=(2.0, 20), comm=COMM)
    assert more.step == 20 and more.table["step"].tolist() == [15, 20]


BAD = {
    "simulate: temprature: unknown argument; did you mean 'temperature'?": {"temprature": 300},
    "simulate: stps: unknown argument; did you mean 'steps'?": {"stps": 1.0},
    "must be one of nve, nose-hoover, langevin, svr; did you mean 'langevin'?": {"ensemble": "langewin"},
    "needs a thermostat": {"barostat": ("scr", 0.1, 0.5)},
    "simulate: strain: unknown argument": {"strain": (0.1, 0, 0)},
    "simulate: pimd: given twice": {"beads": 2, "pimd": (4, "trpmd")},
    "simulate: time: unknown argument": {"time": (1.0, 5)},
    "simulate: precision: that of a Potential": {"precision": "float64"},
    "time: dt = -1.0: must be above 0 and at most 1000": {"dt": -1.0},
    "suzuki-chin needs an even number of beads": {"pimd": (3, "suzuki-chin"), "ensemble": "svr"},
}


@pytest.mark.parametrize("words", BAD)
def test_bad_arguments_are_messages_of_a_deck(words):
    with pytest.raises(InputError) as error:
        rxmdnn.simulate(start(), mixed(), 5, comm=COMM, **BAD[words])
    assert words in str(error.value)


def test_bad_atoms_and_models(folder):
    atoms = start()
    atoms.symbols[3] = "Xe"
    with pytest.raises(InputError, match=r"simulate: atoms: atom 3: element Xe is not in the model \(Ar Ne\)"):
        rxmdnn.simulate(atoms, mixed(), 5, comm=COMM)
    atoms = start()
    atoms.set_masses(np.arange(40) + 1.0)
    with pytest.raises(InputError, match="atoms of Ar have masses from"):
        rxmdnn.simulate(atoms, mixed(), 5, comm=COMM)
    for call in (lambda: rxmdnn.simulate(start(), "no.safetensors", 5, comm=COMM),
                 lambda: rxmdnn.load_model("no.safetensors", comm=COMM)):
        with pytest.raises(InputError, match=r"no.safetensors: no such model file"):
            call()
    with pytest.raises(InputError, match=r"start.xyz: not an rxmdnn model file"):
        rxmdnn.load_model(folder / "start.xyz", comm=COMM)
    with pytest.raises(InputError, match="no such deck"):
        rxmdnn.run_deck(folder / "nowhere.in", comm=COMM)


@pytest.mark.skipif(COMM.size > 2, reason="1 and 2 ranks will do")
def test_train_and_evaluate(folder):
    """A training from Python, its model in a simulation, and its errors on files and on ASE atoms."""
    frames = []
    for seed in range(12):
        x = spread_atoms(TRICLINIC, 20, 3.0, seed)
        atoms = Atoms("ArNe" * 10, x, cell=TRICLINIC.h, pbc=True)
        atoms.calc = rxmdnn.Calculator(mixed(), comm=MPI.COMM_SELF)
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    if COMM.rank == 0:
        ase.io.write(folder / "set.xyz", frames, format="extxyz", parallel=False)
        (folder / "train.in").write_text(
            "elements Ar Ne\ndata set.xyz\nmodel made.safetensors\nr_max 4.0\nsplit 0.2 0.2\nnetwork 1 1 4 2\n"
            "mlp 1 8 8\nepochs 1\noutput train\n")
    COMM.Barrier()
    report = rxmdnn.train(folder / "train.in", epochs=2, comm=COMM)
    assert report["epochs"] == 2 and report["validation"]["all"]["force_mae"] > 0
    model = folder / "made.safetensors"
    whole = rxmdnn.evaluate(model, folder / "set.xyz")["errors"]["all"]
    same = rxmdnn.evaluate(model, frames)["errors"]["all"]
    assert same["force_mae"] == pytest.approx(whole["force_mae"], rel=1e-6)
    part = rxmdnn.evaluate(model, [folder / "set.xyz"], part="validation")["errors"]["all"]
    assert part["force_mae"] == pytest.approx(report["validation"]["all"]["force_mae"], rel=1e-4)
    atoms, table = rxmdnn.simulate(frames[0], model, 4, dt=1.0, every=2, comm=COMM)
    assert table["step"].tolist() == [0, 2, 4] and atoms.get_potential_energy() == table["potential_eV"][-1]
    committee, _ = rxmdnn.simulate(frames[0], [model, model], 4, dt=1.0, comm=COMM)
    np.testing.assert_allclose(committee.positions, atoms.positions, atol=1e-9)
    bare = frames[0].copy()
    with pytest.raises(InputError, match="frames: frame 1: no energy"):
        rxmdnn.evaluate(model, [bare])
    with pytest.raises(InputError, match=r"epoch: unknown flag|epochs"):
        rxmdnn.train(folder / "train.in", epoch=3, comm=COMM)


def test_deuterium_beside_hydrogen_is_a_species_of_its_own(folder):
    """NH2D by simulate and by a deck with H and D: the same bits; the classical T of D and H is the same in the end."""
    model = "input/ammonia/ammonia_gfn1.safetensors"
    atoms = molecule("NH3")
    masses = atoms.get_masses()
    masses[1] = 2.014
    atoms.set_masses(masses)
    atoms.positions = np.round(atoms.positions, 8)
    _, table = rxmdnn.simulate(atoms, model, 20, temperature=300.0, every=5, threads=1, seed=4, comm=COMM)
    if COMM.rank == 0:
        (folder / "nh2d.xyz").write_text("4\nProperties=species:S:1:pos:R:3 pbc=\"F F F\"\n" + "".join(
            f"{'D' if k == 1 else s} {x:.8f} {y:.8f} {z:.8f}\n"
            for k, (s, (x, y, z)) in enumerate(zip(atoms.symbols, atoms.positions))))
        (folder / "hd.in").write_text(f"allegro {Path(model).resolve()} 3 H 1.008 N 14.007 D 2.014\n")
        (folder / "nh2d.in").write_text("time 0.5 20\ntemperature 300 1.0 1\nstructure nh2d.xyz\nmodel hd.in\nseed 4\n"
                                        "io_step 100 5\nthreads 1\n")
    COMM.barrier()
    done = rxmdnn.run_deck(folder / "nh2d.in", out=folder / "nh2d", comm=COMM)
    assert (done.table["etotal_eV"] == table["etotal_eV"]).all()
    assert done.table["kinetic_eV"][0] == pytest.approx(1.5 * 3 * 300 * 8.617333262e-5, rel=1e-6)  # N - 1 atoms
