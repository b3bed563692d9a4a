"""Forces evaluated while messages travel have the bits of those that wait for every message. Runs on any rank count."""

from functools import cache

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine import domain
from rxmdnn.engine.overlap import Overlap
from rxmdnn.kernels import cpu
from rxmdnn.kernels.cpu import edges as edge_kernels
from rxmdnn.traffic import counted
from tests.systems import TRICLINIC, allegro, argon, collect, engine, share, spread_atoms

COMM = counted(MPI.COMM_WORLD)
WIDE = Cell(np.diag([44.0, 20.0, 18.0]))  # with atoms far from other ranks where it is cut along x
CASES = {
    "wide": (WIDE, 240, 2.6), "triclinic": (TRICLINIC, 60, 2.6), "small": (Cell(np.diag([5.1, 4.3, 6.0])), 5, 2.0),
    "slab": (Cell(np.diag([40.0, 11.0, 12.0]), np.array([False, True, True])), 110, 2.6),
    "empty": (Cell(np.diag([60.0, 40.0, 40.0])), 3, 3.0), "one": (TRICLINIC, 1, 2.0)}
MASS = np.array([39.95, 20.18])


@pytest.fixture(autouse=True)
def few_are_enough(monkeypatch):
    monkeypatch.setattr(domain, "LEAST_INNER", 1)
    monkeypatch.setattr(domain, "LEAST_SHARE", 0.0)


def grids(n: int) -> list[tuple[int, int, int]]:
    return [(a, b, n // a // b) for a in range(1, n + 1) if n % a == 0 for b in range(1, n + 1) if n // a % b == 0]


@cache
def start(case: str) -> np.ndarray:
    return np.array([[1.0, 1, 1], [4.5, 1, 1], [1, 5, 1]]) if case == "empty" else spread_atoms(*CASES[case])


def moved(case: str, grid, potential, overlap: bool, steps: int = 20):
    """x, v, f, e_i of all atoms, energies and virial after some steps, and the number of lists."""
    cell, n, _ = CASES[case]
    x = start(case)
    atoms = share(COMM, x, (np.arange(n) % 2).astype(np.int32))
    forces = engine(COMM, cell, potential, grid, skin=0.25)
    forces.overlap = overlap
    forces.domain.distribute(atoms)
    backend = forces.domain.backend
    Kinetics(COMM, backend, MASS, n).draw(atoms, 250.0, 7, 0)
    forces.compute(atoms)
    energies = []
    for step in range(steps):
        velocity_verlet(atoms, forces, backend, MASS, 4.0)
        energies.append(forces.energy())
        if step == 12:
            forces.stale = True
    sums = np.array([*energies, *forces.virial().ravel()])
    return (*collect(COMM, atoms, atoms.x, atoms.v, atoms.f, forces.last[1]), sums), forces


def lennard_jones():
    potential = argon(elements=("Ar", "Ne"))
    potential.in_parts = True
    return potential


def network(precision="float32"):
    potential = allegro(precision=precision)
    potential.block_edges = 300
    return potential


@pytest.mark.parametrize("grid", grids(COMM.size), ids=str)
@pytest.mark.parametrize("case", CASES)
def test_the_bits_are_those_without_overlap(case, grid):
    one, forces = moved(case, grid, lennard_jones(), True)
    other, plain = moved(case, grid, lennard_jones(), False)
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()
    assert forces.overlaps == (COMM.size > 1) and not plain.overlaps
    assert forces.builds == plain.builds >= (2 if case != "one" else 1)
    assert forces.edges == plain.edges


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_network_has_the_same_bits_and_is_asked_part_by_part(precision, monkeypatch):
    calls, progress = [], []
    one_grid = (COMM.size, 1, 1)
    other, _ = moved("wide", one_grid, network(precision), False, 16)
    potential = network(precision)
    compute = potential.compute

    def watched(edges, species):
        calls.append(len(edges.first) - 1)
        progress.append(edges.progress is not None)
        return compute(edges, species)

    monkeypatch.setattr(potential, "compute", watched)
    one, forces = moved("wide", one_grid, potential, True, 16)
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()
    a, b = forces.domain.parts
    if COMM.size == 2:
        assert 0 < a < b < forces.neighbors.n_owned and any(progress)
        assert calls[-3:] == [a, b - a, forces.neighbors.n_owned - b]


def test_the_bits_of_many_threads_are_the_same(monkeypatch):
    one, _ = moved("wide", (0, 0, 0), lennard_jones(), True)
    for place in (edge_kernels, cpu):
        monkeypatch.setattr(place, "reads_reverse", lambda: True)
    assert backends.make("cpu").reads_reverse()
    other, _ = moved("wide", (0, 0, 0), lennard_jones(), True)
    for a, b in zip(one, other, strict=True):
        assert a.tobytes() == b.tobytes()


def test_atoms_of_the_outer_parts_see_no_copy_of_another_rank():
    _, forces = moved("wide", (COMM.size, 1, 1), lennard_jones(), True, 3)
    a, b = forces.domain.parts
    edges = forces.last[0]
    foreign = np.zeros(int(edges.neighbor.max(initial=0)) + 1 + 10_000, bool)
    for hop in forces.domain.flows:
        for flow in hop:
            away = not forces.domain.is_at_home(hop)
            foreign[flow.start : flow.stop] = away or foreign[flow.rows]
    sees = np.bincount(edges.center, foreign[edges.neighbor], forces.neighbors.n_owned) > 0
    assert not sees[:a].any() and not sees[b:].any()
    assert COMM.size == 1 or sees[a:b].any()


def test_few_atoms_are_evaluated_at_once(monkeypatch):
    monkeypatch.setattr(domain, "LEAST_INNER", 1000)
    _, forces = moved("wide", (COMM.size, 1, 1), lennard_jones(), True, 2)
    assert forces.domain.parts == (0, forces.neighbors.n_owned)


@pytest.mark.skipif(COMM.size == 1, reason="one rank agrees with itself")
def test_one_old_list_ends_the_evaluation_of_all_ranks(monkeypatch):
    """A rank whose atoms have moved too far makes all ranks rebuild, in the same step as without overlap."""
    rebuilt = []
    compute = Overlap.compute

    def watched(self, atoms, state):
        answer, worst = compute(self, atoms, state)
        rebuilt.append((state, worst, answer is None))
        return answer, worst

    monkeypatch.setattr(Overlap, "compute", watched)
    moved("wide", (0, 0, 0), network(), True, 12)
    assert all((worst > 0) == none and worst >= state for state, worst, none in rebuilt)
    assert len(set(COMM.allgather([worst for _, worst, _ in rebuilt])[0])) == 2
