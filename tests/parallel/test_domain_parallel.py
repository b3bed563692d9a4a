"""One owner per atom, copy and give_back adjoint, the same physics on every rank grid. Runs on any rank count."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.domain import Domain, choose_grid
from rxmdnn.errors import InputError
from tests.systems import TRICLINIC, argon, collect, engine, share, spread_atoms

COMM = MPI.COMM_WORLD
TOLERANCE = 1e-10  # relative, float64: only the order of sums differs between grids
SMALL = Cell(np.diag([5.1, 4.3, 6.0]))  # narrower than the cutoff: several copies of one atom


def grids(n: int) -> list[tuple[int, int, int]]:
    return [(a, b, n // a // b) for a in range(1, n + 1) if n % a == 0 for b in range(1, n + 1) if n // a % b == 0]


def by_hand(cell: Cell, x: np.ndarray, potential) -> tuple[float, np.ndarray]:
    """Energy and forces by a double loop over atoms and images: the oracle."""
    epsilon, sigma, r_c = potential.epsilon[0, 0], potential.sigma[0, 0], potential.cutoff[0, 0]
    reach = [range(-n, n + 1) if p else range(1) for n, p in zip(np.ceil(r_c / cell.widths).astype(int) + 1, cell.pbc)]
    shifts = np.array([(i, j, k) for i in reach[0] for j in reach[1] for k in reach[2]]) @ cell.h
    energy, f = 0.0, np.zeros_like(x)
    shift_energy = 4 * epsilon * ((sigma / r_c) ** 12 - (sigma / r_c) ** 6)
    for i in range(len(x)):
        d = (x[None] + shifts[:, None] - x[i]).reshape(-1, 3)
        r = np.linalg.norm(d, axis=1)
        near = (r > 1e-9) & (r < r_c)
        d, r = d[near], r[near]
        s6 = (sigma / r) ** 6
        energy += 0.5 * (4 * epsilon * (s6**2 - s6) - shift_energy).sum()
        f[i] = (4 * epsilon * (-12 * s6**2 + 6 * s6) / r**2) @ d
    return energy, f


@pytest.mark.parametrize("grid", grids(COMM.size), ids=str)
@pytest.mark.parametrize("case", ["triclinic", "small", "slab", "cluster", "empty_ranks", "one_atom"])
def test_energy_and_forces_equal_the_oracle_on_every_grid(grid, case):
    cell, n, closest = {
        "triclinic": (TRICLINIC, 60, 2.6), "small": (SMALL, 5, 2.0),
        "slab": (Cell(np.diag([12.0, 11.0, 40.0]), np.array([True, True, False])), 40, 2.6),
        "cluster": (Cell(np.diag([30.0, 31.0, 32.0]), np.zeros(3, bool)), 20, 2.6),
        "empty_ranks": (Cell(np.diag([40.0] * 3)), 3, 3.0), "one_atom": (SMALL, 1, 2.0),
    }[case]
    x = spread_atoms(cell, n, closest)
    if case == "empty_ranks":
        x = np.array([[1.0, 1, 1], [4, 1, 1], [1, 4.5, 1]])
    potential = argon()
    energy, f = by_hand(cell, x, potential)
    outside = x + np.where(cell.pbc, 3.0, 0.0) @ cell.h  # atoms far outside the cell are brought home
    atoms = share(COMM, outside, np.zeros(len(x), np.int32))
    forces = engine(COMM, cell, potential, grid)
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    (found,) = collect(COMM, atoms, atoms.f)
    assert forces.energy() == pytest.approx(energy, rel=TOLERANCE, abs=1e-12)
    np.testing.assert_allclose(found, f, rtol=0, atol=TOLERANCE * max(1.0, np.abs(f).max()))


def test_give_back_is_the_adjoint_of_copy():
    backend, cell = backends.make("cpu"), TRICLINIC
    atoms = share(COMM, spread_atoms(cell, 80, 1.5), np.zeros(80, np.int32))
    domain = Domain(COMM, backend, cell, (0, 0, 0), 6.5)
    domain.distribute(atoms)
    domain.migrate(atoms)
    domain.plan(atoms)
    rng = np.random.default_rng(COMM.rank)
    u, v = np.zeros((atoms.n_all, 3)), rng.normal(size=(atoms.n_all, 3))
    u[: atoms.n_owned] = rng.normal(size=(atoms.n_owned, 3))
    bare = u[: atoms.n_owned].copy()
    for hop in domain.flows:
        for flow in hop:
            flow.shift = np.zeros(3)  # the linear part of the map
    domain.copy(u)
    left = COMM.allreduce(float((u * v).sum()))
    domain.give_back(v)
    right = COMM.allreduce(float((bare * v[: atoms.n_owned]).sum()))
    assert left == pytest.approx(right, rel=1e-12)


def test_copies_are_images_of_their_owners():
    atoms = share(COMM, spread_atoms(TRICLINIC, 50, 2.0), np.arange(50, dtype=np.int32) % 3)
    forces = engine(COMM, TRICLINIC, argon(elements=("Ar", "Kr", "Xe")))
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    x, species = collect(COMM, atoms, atoms.x, atoms.species)
    turns = TRICLINIC.fractional(atoms.x - x[atoms.gid])
    np.testing.assert_allclose(turns, np.round(turns), atol=1e-12)
    assert (atoms.species == species[atoms.gid]).all()
    assert len({(g, *np.round(t).astype(int)) for g, t in zip(atoms.gid, turns)}) == atoms.n_all


def test_a_trajectory_is_the_same_on_every_rank_count_and_loses_no_atom():
    """Hot atoms that change owner many times; energy conserved; images count the periods crossed."""
    cell, n, mass = Cell(np.diag([17.0, 16.0, 18.0])), 60, np.array([39.95])
    x0 = spread_atoms(cell, n, 3.0)
    runs = []
    for comm in (COMM, MPI.COMM_SELF):
        forces, backend = engine(comm, cell, argon(), skin=0.3), backends.make("cpu")
        atoms = share(comm, x0, np.zeros(n, np.int32))
        kinetics = Kinetics(comm, backend, mass, n)
        kinetics.draw(atoms, 900.0, seed=7, step=0)
        forces.domain.distribute(atoms)
        forces.compute(atoms)
        start = forces.energy() + kinetics.energy(atoms)
        for _ in range(150):
            velocity_verlet(atoms, forces, backend, mass, 2.0)
        end = forces.energy() + kinetics.energy(atoms)
        assert end == pytest.approx(start, abs=2e-3 * kinetics.energy(atoms))
        x, v, image = collect(comm, atoms, atoms.x, atoms.v, atoms.image)
        runs.append((x + image @ cell.h, v, forces.builds))
    np.testing.assert_allclose(runs[0][0], runs[1][0], atol=1e-7)  # chaos grows rounding over 300 fs
    np.testing.assert_allclose(runs[0][1], runs[1][1], atol=1e-8)
    assert runs[0][2] == runs[1][2] > 5


def test_an_atom_that_jumps_over_several_parts_finds_its_owner():
    cell = Cell(np.diag([40.0, 6.0, 6.0]))
    forces = engine(COMM, cell, argon(cutoff=4.0), (COMM.size, 1, 1))
    atoms = share(COMM, spread_atoms(cell, 10, 2.0), np.zeros(10, np.int32))
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    atoms.x[: atoms.n_owned] += [21.0, 0.0, 0.0]
    forces.compute(atoms)
    collect(COMM, atoms)
    s = cell.fractional(atoms.x[: atoms.n_owned])[:, 0]
    assert ((s >= forces.domain.lo[0]) & (s < forces.domain.hi[0])).all()


def test_a_grid_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="processors: a grid of 5 x 1 x 7 needs 35 ranks"):
        Domain(COMM, backends.make("cpu"), TRICLINIC, (5, 1, 7), 5.0)


def test_a_reach_that_no_memory_holds_is_refused_and_a_flat_cluster_is_not():
    x = np.zeros((16, 3)) + np.arange(16)[:, None] * [0.3, 0.2, 0.0]
    for cell, refused in ((SMALL, True), (Cell(np.diag([5.0, 4.0, 1e-3]), np.zeros(3, bool)), False)):
        domain = Domain(COMM, backends.make("cpu"), cell, (0, 0, 0), 5000.0)
        atoms = share(COMM, x, np.zeros(16, np.int32))
        domain.distribute(atoms)
        if refused and atoms.n_owned:
            with pytest.raises(InputError, match=r"skin: with the cutoff it reaches 5000.0 Å, .* than this machine"):
                domain.plan(atoms)
        elif not refused:
            domain.plan(atoms)


def test_the_chosen_grid_has_the_smallest_halo():
    assert choose_grid(8, Cell(np.diag([50.0, 50.0, 50.0])), 5.0) == (2, 2, 2)
    assert choose_grid(8, Cell(np.diag([400.0, 20.0, 20.0])), 5.0) == (8, 1, 1)
    assert choose_grid(6, Cell(np.diag([20.0, 40.0, 60.0])), 5.0) == (1, 2, 3)
