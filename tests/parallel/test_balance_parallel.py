"""Parts of unequal width: the energy and forces of even parts, and shares of equal load. Runs on any rank count."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.models.pair import LennardJones
from tests.runs import run_text, same_atoms, whole_and_killed
from tests.systems import argon, collect, share

COMM = MPI.COMM_WORLD
TOLERANCE = 1e-10  # relative: only the order of sums differs
MASS = np.array([39.95])


def lattice(*shape: int) -> np.ndarray:
    """Atoms near the points of a simple cubic lattice with 3.6 Å."""
    x = 3.6 * (np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(-1, 3) + 0.5)
    return x + np.random.default_rng(3).uniform(-0.2, 0.2, x.shape)


def slab() -> tuple[Cell, np.ndarray]:
    """Atoms in the lower third of a cell that is cut along x."""
    return Cell(np.diag([108.0, 14.4, 14.4])), lattice(10, 4, 4)


def droplet() -> tuple[Cell, np.ndarray]:
    x = lattice(7, 7, 7)
    return Cell(np.diag([60.0, 40.0, 39.0])), x[np.linalg.norm(x - 12.6, axis=1) < 11]


def moved(kind, grid, balance, steps=6, potential=None, skin=0.3):
    cell, x = kind()
    system = System(potential or argon(), cell, share(COMM, x, np.zeros(len(x), np.int32)), comm=COMM, grid=grid,
                    skin=skin, balance=balance)
    atoms, forces = system.atoms, system.forces
    Kinetics(COMM, system.backend, MASS, len(x)).draw(atoms, 200.0, 5, 0)
    forces.compute(atoms)
    for _ in range(steps):
        velocity_verlet(atoms, forces, system.backend, MASS, 4.0)
    answer = (*collect(COMM, atoms, atoms.x + atoms_image(system), atoms.v, atoms.f), forces.energy(), forces.virial())
    return answer, system


def atoms_image(system):
    moved_by = np.zeros_like(system.atoms.x)
    moved_by[: system.atoms.n_owned] = system.cell.cartesian(system.atoms.image.astype(float))
    return moved_by


def grids():
    n = COMM.size
    return [(n, 1, 1)] + ([(n // 2, 2, 1)] if n % 2 == 0 and n > 2 else [])


@pytest.mark.parametrize("grid", grids(), ids=str)
@pytest.mark.parametrize("kind", [slab, droplet])
def test_energy_and_forces_are_those_of_even_parts(kind, grid):
    even, _ = moved(kind, grid, False)
    cut, system = moved(kind, grid, True)
    for a, b in zip(even, cut, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(a).max())))
    widths = np.concatenate([np.diff(c) * w for c, w in zip(system.domain.cuts, system.cell.widths)])
    assert widths[: COMM.size].min() >= system.neighbors.reach or COMM.size == 1
    assert (system.domain.hops[np.array(grid) > 1] == 1).all()


@pytest.mark.skipif(COMM.size not in (2, 4), reason="a slab that two or four parts can share")
def test_the_parts_of_a_slab_have_nearly_the_same_number_of_edges():
    edges = {}
    short = LennardJones(backends.make("cpu"), ("Ar",), 0.0104, 3.4, 5.0)
    for balance in (False, True):
        _, system = moved(slab, (COMM.size, 1, 1), balance, potential=short)
        each = np.array(COMM.allgather(system.forces.edges))
        edges[balance] = each.max() / each.mean()
    assert edges[False] > 1.8 and edges[True] < 1.2


@pytest.mark.skipif(COMM.size == 1, reason="one part has no neighbor")
def test_parts_that_are_too_thin_are_refused_on_all_ranks():
    with pytest.raises(InputError, match=r"balance: \d parts along c would be .* take fewer ranks along c"):
        System(argon(), Cell(np.diag([90.0, 40.0, 6.2 * COMM.size])), comm=COMM, grid=(1, 1, COMM.size), balance=True)


def test_a_killed_run_with_balance_goes_on_to_the_same_bits(folder, monkeypatch):
    text = ("mdmode 1\ntime 2.0 60\ntemperature 60.0 1.0 100\nio_step 20 10\nstructure start.xyz\ncheckpoint 20\n"
            f"skin 0.1\nbalance T\nprocessors 1 {COMM.size} 1\npbc T T F\n")
    if COMM.size > 1:
        text = text.replace("start.xyz\n", "start.xyz 1 4 1\n")
    whole, killed = whole_and_killed(monkeypatch, lambda out: run_text(COMM, folder, out, text)[1])
    assert same_atoms(whole, killed)[0].step == 60
