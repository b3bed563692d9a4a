"""Neighbor lists against brute force and other programs."""

from itertools import product

import numpy as np
import pytest

from rxmdnn.backend import make
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import NeighborList, _Buffers, _Grid, pairs, spatial_order
from rxmdnn.errors import InputError

CPU = make("cpu")
FREE = np.zeros(3, bool)


def brute_force(x, cell, cutoff):
    """Sorted (i, j, S) of all pairs with |x_j + S h - x_i| < cutoff."""
    h, pbc = (np.eye(3), FREE) if cell is None else (cell.h, cell.pbc)
    s = x @ np.linalg.inv(h)
    spread = np.ptp(s, axis=0) if len(x) else np.zeros(3)
    widths = 1 / np.linalg.norm(np.linalg.inv(h), axis=0)
    reach = np.where(pbc, np.ceil(cutoff / widths + spread) + 1, 0).astype(int)
    found = []
    for S in product(*[range(-k, k + 1) for k in reach]):
        d = x[None] + np.array(S) @ h - x[:, None]
        near = (d**2).sum(axis=2) < cutoff**2
        if S == (0, 0, 0):
            np.fill_diagonal(near, False)
        found += [(int(i), int(j), *S) for i, j in np.argwhere(near)]
    return sorted(found)


def ours(x, cell, cutoff, backend=CPU):
    i, j, S = pairs(backend, x, cell, cutoff)
    assert (np.diff(i) >= 0).all()
    return sorted(zip(i.tolist(), j.tolist(), *S.T.tolist(), strict=True))


def rng():
    return np.random.default_rng(11)


def spread(n, h):
    return rng().random((n, 3)) @ np.asarray(h, float)


CUBE = np.eye(3) * 8.0
TILTED = np.array([[7.0, 0, 0], [2.5, 6.0, 0], [-1.5, 2.0, 6.5]])
SKEWED = np.array([[6.0, 0, 0], [17.0, 5.0, 0], [-12.0, 21.0, 5.5]])
SIMPLE = 3.0 * np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3).astype(float)
GAP = np.concatenate([spread(20, CUBE), spread(20, CUBE) + 1e6])
GAP_Z = GAP - np.where(np.arange(40)[:, None] < 20, 0.0, [1e6, 1e6, 0.0])

CONFORMANCE = {
    "no atoms": (np.zeros((0, 3)), Cell(CUBE), 3.0),
    "one atom": (np.array([[1.0, 2, 3]]), Cell(CUBE), 3.0),
    "cutoff 2.6 L": (spread(5, np.eye(3) * 2.0), Cell(np.eye(3) * 2.0), 5.2),
    "simple cubic, cutoff exactly a": (SIMPLE, Cell(np.eye(3) * 9.0), 3.0),
    "cutoff exactly L/2": (np.array([[0.0, 0, 0], [4.0, 0, 0], [1.0, 1, 1]]), Cell(CUBE), 4.0),
    "triclinic": (spread(60, TILTED), Cell(TILTED), 3.1),
    "triclinic, cutoff > 2 L": (spread(4, TILTED / 3), Cell(TILTED / 3), 5.5),
    "very skewed": (spread(40, SKEWED), Cell(SKEWED), 4.0),
    "left-handed": (spread(60, TILTED[[1, 0, 2]]), Cell(TILTED[[1, 0, 2]]), 3.1),
    "atoms 3 L outside": (spread(40, CUBE) + rng().integers(-3, 4, (40, 3)) * 8.0, Cell(CUBE), 3.0),
    "periodic along one axis": (spread(50, CUBE), Cell(CUBE, [False, True, False]), 3.0),
    "periodic along two axes": (spread(50, CUBE), Cell(CUBE, [True, False, True]), 3.0),
    "periodic along one axis, triclinic": (spread(50, TILTED), Cell(TILTED, [False, False, True]), 3.0),
    "periodic along two axes, triclinic": (spread(50, TILTED) + 30.0, Cell(TILTED, [True, True, False]), 3.0),
    "not periodic, no cell": (spread(50, CUBE), None, 3.0),
    "coincident atoms": (np.repeat(spread(10, CUBE), 3, axis=0), Cell(CUBE), 2.5),
    "atom exactly at L": (np.array([[8.0, 0, 0], [0.5, 0, 0], [7.5, 8.0, 8.0]]), Cell(CUBE), 2.0),
    "coordinate -1e-17": (np.array([[-1e-17, 0, -1e-17], [0.5, -1e-17, 0], [7.5, 0, 7.9]]), Cell(CUBE), 2.0),
    "gap of 10^6": (GAP, None, 3.0),
    "gap of 10^6, periodic across it": (GAP_Z, Cell(np.diag([8.0, 8.0, 2e6]), [True, True, False]), 3.0),
    "cell of 1.2 x 1.2 x 40": (spread(12, np.diag([1.2, 1.2, 40])), Cell(np.diag([1.2, 1.2, 40])), 3.0),
}


@pytest.mark.parametrize("case", CONFORMANCE)
def test_conformance(case):
    x, cell, cutoff = CONFORMANCE[case]
    expected = brute_force(x, cell, cutoff)
    assert ours(x, cell, cutoff) == expected
    assert bool(expected) == (len(x) > 1 and not case.endswith("exactly a"))


def test_a_pair_exactly_at_the_cutoff_is_none():
    x = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    assert ours(x, None, 3.0) == []
    assert len(ours(x, None, np.nextafter(3.0, 4.0))) == 2


@pytest.mark.parametrize("trial", range(12))
def test_random_triclinic_boxes_against_brute_force_ase_and_vesin(trial):
    random = np.random.default_rng(trial)
    h = random.normal(size=(3, 3)) * 3 + np.eye(3) * random.uniform(5, 9)
    cell = Cell(h, random.random(3) < 0.8)
    x = random.normal(size=(int(random.integers(1, 50)), 3)) * 8
    cutoff = float(random.uniform(1.5, 5.0))
    got = ours(x, cell, cutoff)
    assert got == brute_force(x, cell, cutoff)
    assert got == ours(x, cell, cutoff, make("reference"))
    from ase.neighborlist import primitive_neighbor_list

    i, j, S = primitive_neighbor_list("ijS", cell.pbc, h, x, cutoff, self_interaction=False)
    assert got == sorted(zip(i.tolist(), j.tolist(), *S.T.tolist(), strict=True))
    vesin = pytest.importorskip("vesin")
    if cell.pbc.all():
        i, j, S = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(x, h, True, "ijS")
        assert got == sorted(zip(i.tolist(), j.tolist(), *S.T.tolist(), strict=True))


def test_many_atoms_against_vesin():
    vesin = pytest.importorskip("vesin")
    x = rng().random((20_000, 3)) * 60.0 + 100.0
    i, j, S = vesin.NeighborList(cutoff=4.5, full_list=True).compute(x, np.eye(3) * 60.0, True, "ijS")
    assert ours(x, Cell(np.eye(3) * 60.0), 4.5) == sorted(zip(i.tolist(), j.tolist(), *S.T.tolist(), strict=True))


@pytest.mark.parametrize("direction", [(1, 0, 0), (1, 1, 1)])
def test_cells_do_not_scale_with_empty_space(direction):
    block = spread(500, np.eye(3) * 18.0)
    dense = _Grid(CPU, block, 4.5, (1, 1, 2), _Buffers(np))
    apart = _Grid(CPU, np.concatenate([block, block + 1000.0 * np.array(direction)]), 4.5, (1, 1, 2), _Buffers(np))
    assert len(apart.first) < 8 * len(dense.first)
    # Candidates of a center: no more than those of the dense block and of one surface of the other.
    def candidates(grid):
        return sum(grid.first[grid.cell + hi + 1].sum() - grid.first[grid.cell + lo].sum() for lo, hi in grid.runs)
    assert candidates(apart) < 3 * candidates(dense)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 30.0, 1e4, 1e9])
def test_number_of_cells_is_bounded(scale):
    for n in (1, 2, 3, 10, 333):
        x = rng().normal(size=(n, 3)) * scale
        assert len(_Grid(CPU, x, 3.0, (1, 1, 2), _Buffers(np)).first) - 1 <= 4 * n + 64
        assert ours(x, None, 3.0) == brute_force(x, None, 3.0)


def periodic_copies(x, cell, reach):
    """(rows, positions) of the images within reach of the cell, made the obvious way."""
    rows, where = [], []
    for S in product((-1, 0, 1), repeat=3):
        moved = x + np.array(S) @ cell.h
        s = cell.fractional(moved)
        near = ((s > -reach / cell.widths) & (s < 1 + reach / cell.widths)).all(axis=1)
        if S != (0, 0, 0):
            rows += np.flatnonzero(near).tolist()
            where += moved[near].tolist()
    return np.array(rows, int), np.array(where).reshape(-1, 3)


CUTOFF = np.array([[3.0, 2.0], [2.6, 1.4]])


@pytest.fixture
def system():
    cell = Cell(TILTED * 1.6)
    x = spread(150, cell.h)
    species = rng().integers(0, 2, 150).astype(np.int32)
    row, copies = periodic_copies(x, cell, 3.5)
    return x, np.concatenate([x, copies]), np.concatenate([species, species[row]]).astype(np.int32)


def expected_edges(x_all, species, n):
    d = x_all[None] - x_all[:n, None]
    near = (d**2).sum(axis=2) < CUTOFF[species[:n, None], species[None]] ** 2
    near[np.arange(n), np.arange(n)] = False
    return [tuple(pair) for pair in np.argwhere(near)]


def test_edges_have_the_cutoff_of_their_ordered_pair_until_the_list_is_stale(system):
    x, x_all, species = system
    n = len(x)
    neighbors = NeighborList(CPU, CUTOFF, 0.5)
    assert neighbors.reach == 3.5
    neighbors.build(x_all, n)
    random = rng()
    for _ in range(3):
        d = random.normal(size=x_all.shape)
        moved = x_all + 0.2499 * d / np.linalg.norm(d, axis=1)[:, None]
        assert not neighbors.is_stale(moved[:n])
        edges = neighbors.edges(moved, species)
        assert sorted(zip(edges.center, edges.neighbor, strict=True)) == expected_edges(moved, species, n)
        assert (np.diff(edges.center) >= 0).all()
        np.testing.assert_array_equal(np.diff(edges.first), np.bincount(edges.center, minlength=n))
        np.testing.assert_array_equal(edges.r_ij, moved[edges.neighbor] - moved[edges.center])
    one = x.copy()
    one[77, 1] += 0.2501
    assert neighbors.is_stale(one)
    assert neighbors.displacement_sq(one) == pytest.approx(0.2501**2)
    one[77, 1] = np.nan
    assert neighbors.is_stale(one)


def test_forces_and_virial_are_the_sums_over_edges(system):
    x, x_all, species = system
    neighbors = NeighborList(CPU, CUTOFF, 0.5)
    neighbors.build(x_all, len(x))
    edges = neighbors.edges(x_all, species)
    g = rng().normal(size=edges.r_ij.shape)
    f, expected = np.full(x_all.shape, np.nan), np.zeros(x_all.shape)
    neighbors.assemble(edges, g, f)
    np.add.at(expected, edges.center, g)
    np.add.at(expected, edges.neighbor, -g)
    np.testing.assert_allclose(f, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(f.sum(axis=0), 0, atol=1e-11)
    np.testing.assert_allclose(neighbors.virial(edges, g), -edges.r_ij.T @ g, rtol=0, atol=1e-10)


def test_a_list_is_rebuilt_for_more_and_fewer_atoms(system):
    _, x_all, species = system
    neighbors = NeighborList(CPU, CUTOFF, 0.5)
    for n_all, n_owned in ((40, 40), (len(x_all), 150), (10, 3), (len(x_all), 0), (0, 0), (1, 1), (200, 200)):
        neighbors.build(x_all[:n_all], n_owned)
        edges = neighbors.edges(x_all[:n_all], species[:n_all])
        assert sorted(zip(edges.center, edges.neighbor, strict=True)) \
            == expected_edges(x_all[:n_all], species[:n_all], n_owned)
        f = np.full((n_all, 3), np.nan)
        neighbors.assemble(edges, edges.r_ij, f)
        assert np.isfinite(f).all()
        assert neighbors.virial(edges, edges.r_ij).shape == (3, 3)
        assert not neighbors.is_stale(x_all[:n_owned])


def test_an_energy_and_its_forces_agree(system):
    """f = -dE/dx by central differences, for Lennard-Jones through edges and assembly."""
    n, species = 20, system[2]
    x = 1.1 * np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)[:n] + rng().normal(size=(n, 3)) * 0.05
    epsilon, sigma = np.array([[1.0, 0.8], [0.8, 0.6]]), np.full((2, 2), 1.05)
    cutoff = np.full((2, 2), 2.6)
    neighbors = NeighborList(CPU, cutoff, 0.3)
    neighbors.build(x, n)

    def energy(x):
        edges = neighbors.edges(x, species[:n])
        e_i, g = np.empty(n), np.empty(edges.r_ij.shape)
        CPU.lennard_jones(edges.r_ij, edges.first, edges.neighbor, species[:n], epsilon, sigma, cutoff, e_i, g)
        return e_i.sum(), edges, g

    _, edges, g = energy(x)
    f, h = np.empty((n, 3)), 1e-5
    neighbors.assemble(edges, g, f)
    for i, a in ((0, 0), (7, 1), (19, 2)):
        step = np.zeros_like(x)
        step[i, a] = h
        slope = (energy(x + step)[0] - energy(x - step)[0]) / (2 * h)
        assert f[i, a] == pytest.approx(-slope, rel=1e-6, abs=1e-7)


def test_spatial_order_is_a_function_of_the_set():
    x, gid = spread(1000, np.eye(3) * 20.0), rng().permutation(1000).astype(np.int64) * 7
    x[10:40] = x[10]
    order = spatial_order(CPU, x, gid, 4.0)
    assert sorted(order) == list(range(1000))
    for seed in range(3):
        shuffled = np.random.default_rng(seed).permutation(1000)
        again = spatial_order(CPU, x[shuffled], gid[shuffled], 4.0)
        np.testing.assert_array_equal(gid[shuffled][again], gid[order])
    # Rows that are near in the order are near in space.
    steps = np.linalg.norm(np.diff(x[order], axis=0), axis=1)
    assert np.median(steps) < 4.0
    assert len(spatial_order(CPU, np.zeros((0, 3)), np.zeros(0, np.int64), 4.0)) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_coordinates_that_are_no_numbers_are_named(bad):
    x = spread(30, CUBE)
    x[13, 2] = bad
    for call in (lambda: pairs(CPU, x, Cell(CUBE), 3.0),
                 lambda: spatial_order(CPU, x, np.arange(30), 3.0),
                 lambda: NeighborList(CPU, CUTOFF, 0.1).build(x, 30)):
        with pytest.raises(InputError, match="row 13"):
            call()


def test_bad_cutoffs_are_refused():
    for cutoff, skin in ((np.array([[np.nan]]), 0.1), (np.array([[0.0]]), 0.1), (np.array([[1.0]]), -0.1)):
        with pytest.raises(InputError, match="cutoff"):
            NeighborList(CPU, cutoff, skin)


def test_an_unknown_backend_is_refused():
    with pytest.raises(InputError, match="gpu2"):
        make("gpu2")
