"""Whole runs whose arrays live on a device, a GPU or tests/device.py, are those of the CPU to rounding.

On 1, 2 and 4 ranks, which share one GPU.
"""

import json

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.commands import run as run_command
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.engine.system import System
from rxmdnn.errors import FAILED, FINISHED
from rxmdnn.io.log import read_energies
from rxmdnn.models.mixture import Mixture
from rxmdnn.models.pair import LennardJones
from rxmdnn.models.repulsion import Repulsion
from rxmdnn.ring_polymer.forces import RingForces
from rxmdnn.run import job
from rxmdnn.timers import Timers
from tests import device
from tests.device import DEVICES, Waits
from tests.runs import MODELS, killed_at, run_deck, same_atoms, shared_folder, state, write
from tests.systems import TRICLINIC, allegro, argon, collect, engine, share, spread_atoms

COMM = MPI.COMM_WORLD
pytestmark = pytest.mark.skipif(COMM.size not in (1, 2, 4), reason="1, 2 and 4 ranks will do")
few = pytest.mark.skipif(COMM.size > 2, reason="1 and 2 ranks will do")
ROUNDING = 1e-9  # Å, Å/fs, eV/Å over some dozens of steps of float64: sums in another order
SINGLE = 2e-5  # of a network in float32


def move(backend, potential, steps: int, skin: float = 0.3, say=None):
    """x, v, f of all atoms in order of gid, on the host, and the forces, after steps of 2 fs from 300 K.

    say : makes it use graphs
    """
    x = spread_atoms(TRICLINIC, 40, 2.9)
    atoms = share(COMM, x, np.arange(40, dtype=np.int32) % 2).on(backend.from_host)
    mass = np.array([39.95, 20.18])
    forces = engine(COMM, TRICLINIC, potential, skin=skin, backend=backend)
    if say is not None:
        forces.use_graphs(say)
    forces.domain.distribute(atoms)
    Kinetics(COMM, backend, mass, 40).draw(atoms, 300.0, seed=3, step=0)
    forces.compute(atoms)
    for _ in range(steps):
        velocity_verlet(atoms, forces, backend, mass, 2.0)
    here = atoms.on(backend.to_host)
    return collect(COMM, here, here.x, here.v, here.f, here.image), forces


@DEVICES
@pytest.mark.parametrize("way", ["pinned", "direct"])
def test_lennard_jones_moves_as_on_the_cpu(name, way):
    cpu, there = backends.make("cpu"), device.find(name, direct=way == "direct")
    expected, forces = move(cpu, argon(cpu, elements=("Ar", "Ne")), 100)
    got, others = move(there, argon(there, elements=("Ar", "Ne")), 100)
    assert forces.builds == others.builds > 3
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, atol=ROUNDING, rtol=0)
    assert others.energy() == pytest.approx(forces.energy(), abs=1e-10)
    np.testing.assert_allclose(others.virial(), forces.virial(), atol=1e-9)


def test_warps_and_blocks_move_them_too():
    cpu, there = backends.make("cpu"), device.make(plain=False)
    (expected, *_), _ = move(cpu, argon(cpu, elements=("Ar", "Ne")), 4, skin=0.1)
    (got, *_), _ = move(there, argon(there, elements=("Ar", "Ne")), 4, skin=0.1)
    np.testing.assert_allclose(got, expected, atol=1e-11, rtol=0)


@DEVICES
def test_the_same_bits_from_run_to_run(name):
    there = device.find(name)
    one, other = (move(there, argon(there, elements=("Ar", "Ne")), 40)[0] for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@DEVICES
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_allegro_moves_as_on_the_cpu(name, precision):
    there = device.find(name)
    expected, _ = move(backends.make("cpu"), allegro(precision=precision), 30)
    got, _ = move(there, allegro(precision=precision, backend=there), 30)
    again, _ = move(there, allegro(precision=precision, backend=there), 30)
    assert all(np.array_equal(a, b) for a, b in zip(got, again, strict=True))
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, atol=ROUNDING if precision == "float64" else SINGLE, rtol=0)


@pytest.mark.parametrize("graphs", [False, True])
def test_a_steady_step_waits_for_the_device_twice_and_for_the_halo(graphs):
    """How far atoms have moved, and without graphs how many edges there are; a message in each exchange that leaves
    the rank."""
    there = device.make()
    _, forces = move(there, argon(there, elements=("Ar", "Ne")), 0, skin=2.0)
    messages = sum(not forces.domain.is_at_home(hop) for hop in forces.domain.flows)
    x = spread_atoms(TRICLINIC, 40, 2.9)
    atoms = share(COMM, x, np.arange(40, dtype=np.int32) % 2).on(there.from_host)
    forces = engine(COMM, TRICLINIC, argon(there, elements=("Ar", "Ne")), skin=2.0, backend=there)
    if graphs:
        forces.use_graphs(pytest.fail)
    forces.domain.distribute(atoms)
    mass = np.array([39.95, 20.18])
    for _ in range(3):
        velocity_verlet(atoms, forces, there, mass, 1.0)
    assert forces.builds == 1
    before = Waits.n
    velocity_verlet(atoms, forces, there, mass, 1.0)
    assert forces.builds == 1
    both_ways, of_each = 2, 3  # two arrays come to the host, and one wait says that buffers are free
    assert Waits.n - before <= 2 - graphs + both_ways * of_each * messages


def test_how_often_rings_wait_for_the_device_does_not_grow_with_the_beads():
    there = device.make()
    potential, x, n = argon(there, elements=("Ar", "Ne")), spread_atoms(TRICLINIC, 40, 2.9), {}
    for beads in (2, 8):
        neighbors = NeighborList(there, potential.cutoff, 1.0)
        domain = Domain(MPI.COMM_SELF, there, TRICLINIC, (1, 1, 1), neighbors.reach)
        forces = RingForces(domain, neighbors, potential, Timers(), beads, 5.0)
        atoms = share(MPI.COMM_SELF, x, np.arange(40, dtype=np.int32) % 2).on(there.from_host)
        domain.distribute(atoms)
        forces.compute(atoms)
        before = Waits.n
        forces.compute(atoms)
        assert forces.builds == 1
        n[beads] = Waits.n - before
    assert n[2] == n[8] == 5  # how far they are, how many edges, energy, virial, virial of the modes


@DEVICES
@pytest.mark.parametrize("kind", ["lj", "allegro", "allegro in blocks", "zbl"])
def test_graphs_move_the_atoms_as_single_kernels_do(name, kind):
    there, said = device.find(name), []

    def potential(backend):
        if "allegro" in kind:
            made = allegro(precision="float64", backend=backend)
            made.block_edges = 400 if "blocks" in kind else made.block_edges
            return made
        lj = argon(backend, elements=("Ar", "Ne"))
        return lj if kind == "lj" else Mixture([lj], added=Repulsion(("Ar", "Ne"), 1.3, backend))

    steps = 30 if "allegro" in kind else 60
    expected, forces = move(backends.make("cpu"), potential(backends.make("cpu")), steps)
    got, others = move(there, potential(there), steps, say=said.append)
    assert said == [] and others.repeated.graphs > 2 and forces.builds == others.builds > 2
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, atol=ROUNDING, rtol=0)
    assert others.energy() == pytest.approx(forces.energy(), abs=1e-9)
    np.testing.assert_allclose(others.virial(), forces.virial(), atol=1e-8)


def test_what_cannot_be_a_graph_is_said_once_and_done_without():
    class Curious(LennardJones):
        def compute(self, edges, species):
            assert float((edges.r_ij**2).sum()) > 0
            return super().compute(edges, species)

    there, said = device.make(), []
    (expected, _), (got, forces) = (
        move(backend, Curious(backend, ("Ar", "Ne"), 0.0104, 3.4, 6.0), 20, say=say)
        for backend, say in ((backends.make("cpu"), None), (there, said.append)))
    assert said == ["the host waits for the device within a graph"] and forces.repeated.graphs == 0
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_allclose(b, a, atol=ROUNDING, rtol=0)


DECK = """mdmode {mdmode}
time 2.0 {steps}
temperature 200.0 1.2 5
io_step 20 5
io_type T F T T
structure start.xyz
checkpoint 20
h5md 20
skin 0.3
backend {backend}
"""


@pytest.fixture
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory) as place:
        yield place


def go(folder, out: str, there, monkeypatch, *flags: str, mdmode: int = 1, steps: int = 40):
    """outDir of a run, on the backend ``there`` or the CPU."""
    write(COMM, folder / "rxmd.in", DECK.format(mdmode=mdmode, steps=steps, backend="cuda" if there else "cpu"))
    with monkeypatch.context() as patch:
        if there:
            patch.setattr(job, "make_backend", lambda comm, run: there)
        return run_deck(COMM, folder / "rxmd.in", folder / out, *flags)[1]


RUNS = {
    "nve": (1, ""), "draw": (0, ""), "each element": (7, ""), "hot atoms": (9, ""), "when off": (8, ""),
    "nose-hoover": (1, "--ensemble nose-hoover 0.05"), "langevin": (1, "--ensemble langevin 0.05"),
    "svr": (1, "--ensemble svr 0.05"), "scr": (1, "--ensemble svr 0.05 --barostat scr 0.1 0.5 full"),
    "mtk": (1, "--ensemble nose-hoover 0.05 --barostat mtk 0.1 0.5 axes"), "strain": (1, "--strain_ramp 0.02 0 0"),
}


@few
@DEVICES
@pytest.mark.parametrize("kind", RUNS)
def test_every_ensemble_runs_as_on_the_cpu(folder, name, kind, monkeypatch):
    mdmode, flags = RUNS[kind]
    expected, got = (go(folder, out, there, monkeypatch, *flags.split(), mdmode=mdmode)
                     for out, there in (("here", None), ("there", device.find(name))))
    a, b = state(expected), state(got)
    assert a.step == b.step == 40
    i, j = np.argsort(a.gid), np.argsort(b.gid)
    np.testing.assert_allclose(b.cell.h, a.cell.h, atol=ROUNDING)
    for name in ("x", "v", "f"):
        np.testing.assert_allclose(getattr(b, name)[j], getattr(a, name)[i], atol=10 * ROUNDING, err_msg=name)
    if COMM.rank == 0:
        energies, others = read_energies(expected), read_energies(got)
        for column in energies:
            if not column.startswith("seconds"):
                np.testing.assert_allclose(others[column], energies[column], atol=1e-6, err_msg=column)
        assert {f.suffix for f in expected.iterdir()} == {f.suffix for f in got.iterdir()}


@few
@DEVICES
@pytest.mark.parametrize("method", ["cg", "fire 1e-9 full 0.1"])
def test_minimizers_go_the_same_way(folder, name, method, monkeypatch):
    flags = ("--minimizer", *method.split())
    a, b = (state(go(folder, out, there, monkeypatch, *flags, mdmode=10, steps=12))
            for out, there in (("here", None), ("there", device.find(name))))
    assert a.step == b.step == 12
    np.testing.assert_allclose(b.x[np.argsort(b.gid)], a.x[np.argsort(a.gid)], atol=1e-7)
    np.testing.assert_allclose(b.cell.h, a.cell.h, atol=1e-7)


@DEVICES
@pytest.mark.parametrize("more", [(), ("--graphs", "T")])
def test_a_killed_run_on_a_device_goes_on_to_the_same_bits(folder, name, more, monkeypatch, capfd):
    there, flags = device.find(name), ("--ensemble", "langevin", "0.05", *more)
    whole = go(folder, "whole", there, monkeypatch, *flags)
    with killed_at(monkeypatch, 27):
        go(folder, "killed", there, monkeypatch, *flags)
    killed = go(folder, "killed", there, monkeypatch, *flags)
    a, _ = same_atoms(whole, killed)
    assert a.step == 40
    assert "graphs: disabled" not in capfd.readouterr().out


@DEVICES
def test_a_mixture_of_cutoffs_runs_as_on_the_cpu(folder, name, monkeypatch):
    if COMM.rank == 0:
        (folder / "rxmdnn.in").write_text(MODELS + "lj 0.01 3.3 5.0 2 Ar 39.95 Ne 20.18\n")
    COMM.Barrier()
    expected, got = (go(folder, out, there, monkeypatch, steps=20)
                     for out, there in (("here", None), ("there", device.find(name))))
    a, b = state(expected), state(got)
    np.testing.assert_allclose(b.f[np.argsort(b.gid)], a.f[np.argsort(a.gid)], atol=ROUNDING)


@pytest.mark.parametrize("lines", [
    "fidelity flag 5\nfidelity_limit force 3.0\nfidelity_watch force pair bond energy\nfidelity_limit bond 1.6",
    "ensemble langevin 0.05\nfidelity heal 5\nfidelity_heal 3 20 3 20\nfidelity_limit force 3.0\n"
    "fidelity_watch force pair temperature",
    "pimd 4 rpmd\nfidelity flag 5\nfidelity_limit force 0.5\nfidelity_watch force pair bond\nfidelity_limit bond 1.6"])
def test_a_watched_run_sees_and_heals_the_same_as_on_the_cpu(folder, lines, monkeypatch):
    """An atom is thrown into its neighbors at step 22."""
    advance, left = Simulation.advance, [0]

    def struck(self):
        advance(self)
        if self.step == 22 and left[0]:
            left[0] -= 1
            gid = self.backend.to_host(self.atoms.gid[: self.atoms.n_owned])
            for row in np.flatnonzero(gid == 7):
                self.atoms.v[int(row)] = self.backend.from_host(np.array([0.1 if "pimd" in lines else 0.5, 0.0, 0.0]))

    found = []
    for out, there in (("here", None), ("there", device.make())):
        left[0] = 1
        if COMM.rank == 0:
            (folder / "rxmd.in").write_text(DECK.format(mdmode=1, steps=40, backend="cuda" if there else "cpu") + lines)
        COMM.Barrier()
        with monkeypatch.context() as patch:
            patch.setattr(Simulation, "advance", struck)
            if there:
                patch.setattr(job, "make_backend", lambda comm, run, there=there: there)
            code = run_command.main(["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / out)], COMM)
        assert code == (FAILED if lines.startswith("fidelity flag") else FINISHED)  # it goes on, and ends at 8e6 K
        COMM.Barrier()
        rows = [json.loads(line) for line in (folder / out / "incidents.jsonl").read_text().splitlines()]
        found.append(([(r["step"], r["action"], [(e["kind"], e["gid"]) for e in r["events"]]) for r in rows],
                      state(folder / out)))
    (here, a), (there, b) = found
    assert here == there and here
    np.testing.assert_allclose(b.x[np.argsort(b.gid)], a.x[np.argsort(a.gid)], atol=1e-6)


RINGS = {
    "pile-l": "--pimd 8 pimd --ensemble langevin 0.05", "pile-g and a barostat": "--pimd 6 pimd --ensemble svr 0.05 "
    "--barostat scr 0.1 0.5", "trpmd by obabo": "--pimd 4 trpmd --pimd_integrator obabo", "pacmd": "--pimd 4 pacmd",
    "suzuki-chin": "--pimd 4 suzuki-chin --ensemble langevin 0.05",
    "economised": "--pimd 4 eco --pimd_eco 0.3 --ensemble langevin 0.05 --pimd_estimate isotope 10 Ne 22.0 2 "
    "--pimd_estimate momentum 20 Ar 0.3 --pimd_estimate heat_capacity 10 --pimd_estimate kinetic_tensor 5",
    "groups": "--pimd 4 pimd --ensemble langevin 0.05 --pimd_groups 2",
    "groups of suzuki-chin": "--pimd 4 suzuki-chin --ensemble langevin 0.05 --pimd_groups 2",
}


@DEVICES
@pytest.mark.parametrize("kind", RINGS)
def test_rings_move_as_on_the_cpu(folder, name, kind, monkeypatch):
    if "groups" in kind and COMM.size == 1:
        pytest.skip("two groups need two ranks")
    flags = (*RINGS[kind].split(), "--temperature", "60.0", "1.0", "1", "--pimd_dump", "10")
    expected, got = (go(folder, out, there, monkeypatch, *flags, steps=20)
                     for out, there in (("here", None), ("there", device.find(name))))
    a, b = state(expected), state(got)
    i, j = np.argsort(a.gid), np.argsort(b.gid)
    for field in ("x", "v", "f"):
        np.testing.assert_allclose(getattr(b, field)[j], getattr(a, field)[i], atol=10 * ROUNDING, err_msg=field)
    for field in ("ring_u", "ring_v", "ring_f"):
        np.testing.assert_allclose(b.extra[field][j], a.extra[field][i], atol=10 * ROUNDING, err_msg=field)
    if COMM.rank == 0:
        series = sorted(path.name for path in expected.glob("ring_*.csv"))
        assert len(series) == (5 if kind == "economised" else 1)
        for file in series:
            rows, others = (np.loadtxt(out / file, delimiter=",", skiprows=1) for out in (expected, got))
            np.testing.assert_allclose(others, rows, rtol=1e-6, atol=1e-6, err_msg=file)


@few
def test_observables_are_summed_up_as_on_the_cpu(folder, monkeypatch):
    flags = ("--observe", "gr", "10", "5.0", "--observe", "vdos", "2", "200")
    for out, there in (("here", None), ("there", device.make())):
        go(folder, out, there, monkeypatch, *flags)
    with h5py.File(folder / "here/observe.h5") as a, h5py.File(folder / "there/observe.h5") as b:
        datasets = []
        a.visititems(lambda name, item: datasets.append(name) if isinstance(item, h5py.Dataset) else None)
        assert len(datasets) > 8
        for name in datasets:
            if a[name].dtype.kind == "f":
                np.testing.assert_allclose(b[name][()], a[name][()], rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_driver_serves_forces_from_the_device():
    there, answers = device.make(), []
    x = spread_atoms(TRICLINIC, 40, 2.9)
    for backend in (backends.make("cpu"), there):
        served = System.of(argon(backend, elements=("Ar", "Ne")), TRICLINIC, np.arange(40) % 2, x, comm=COMM,
                           backend=backend)
        served.compute(TRICLINIC, x)
        answers.append(served.compute(Cell(1.01 * TRICLINIC.h), 1.01 * x + 0.5 * TRICLINIC.h[0]))
    for here, there in zip(*answers, strict=True):
        np.testing.assert_allclose(there, here, atol=1e-9)


@few
def test_features_of_a_network_come_from_the_device():
    there, sums = device.make(), []
    for backend in (backends.make("cpu"), there):
        potential = allegro(precision="float64", backend=backend)
        potential.watched = True
        move(backend, potential, 2)
        sums.append(COMM.allreduce(potential.features().sum(axis=0)))  # which needs no order of atoms
    np.testing.assert_allclose(sums[1], sums[0], atol=1e-9)
