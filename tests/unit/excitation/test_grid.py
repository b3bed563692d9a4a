"""The grid of cells: places of atoms, sums, centers, the metric."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.excitation.grid import Grid, metric
from tests import device
from tests.systems import TRICLINIC

COMM = MPI.COMM_SELF
SHAPE = (2, 3, 4)


def grid(shape=SHAPE, backend=None):
    return Grid(COMM, backend or backends.make("reference"), shape)


def atoms_at(s, cell=TRICLINIC):
    s = np.atleast_2d(np.array(s, float))
    return Atoms.of(np.arange(len(s)), np.zeros(len(s), np.int32), s @ cell.h)


def test_centers_lie_in_their_own_cells():
    g = grid()
    assert (g.index(atoms_at(g.centers()), TRICLINIC) == np.arange(g.n_cells)).all()


def test_an_atom_beyond_a_periodic_face_counts_to_the_cell_of_its_image():
    g = grid()
    shifts = np.array([[1, 0, 0], [0, -2, 0], [3, 1, -1]])
    s = g.centers()[[5, 11, 17]]
    assert (g.index(atoms_at(s + shifts), TRICLINIC) == [5, 11, 17]).all()


def test_an_atom_beyond_an_open_face_counts_to_the_outermost_cell():
    open_z = Cell(TRICLINIC.h, np.array([True, True, False]))
    place = grid().index(atoms_at([[0.1, 0.1, -0.7], [0.1, 0.1, 1.0], [0.1, 0.1, 5.0]]), open_z)
    assert (place == [0, 3, 3]).all()


def test_a_coordinate_that_rounds_to_one_stays_inside():
    place = grid().index(atoms_at([[-1e-18] * 3]), TRICLINIC)
    assert place[0] == 23


def test_sums_by_cell_with_cells_that_hold_nothing():
    g, place = grid(), np.array([3, 3, 0, 23])
    count, total = g.sums(place, np.array([1.0, 2.0, 4.0, 8.0]))
    assert count.sum() == 4 and count[3] == 2 and count[1] == 0
    assert total[3] == 3.0 and total[0] == 4.0 and total[23] == 8.0 and total.sum() == 15.0


def test_no_atoms_at_all():
    g = grid()
    none = atoms_at(np.empty((0, 3)))
    assert (g.sums(g.index(none, TRICLINIC), np.empty(0)) == 0).all()


def test_values_of_cells_for_atoms():
    g = grid()
    assert (g.of_atoms(np.arange(24.0), np.array([7, 0])) == [7.0, 0.0]).all()


def test_volumes_and_widths():
    g = grid()
    assert g.volume(TRICLINIC) * 24 == pytest.approx(TRICLINIC.volume, rel=1e-14)
    assert g.widths(TRICLINIC) == pytest.approx(TRICLINIC.widths / [2, 3, 4])


def test_the_metric_gives_the_laplacian_of_a_plane_wave():
    q = np.array([1, -2, 3])  # cos(2π q·s) has ∇² = -k² with k = 2π q of the reciprocal lattice
    k = 2 * np.pi * TRICLINIC.inverse @ q
    assert (2 * np.pi) ** 2 * q @ metric(TRICLINIC) @ q == pytest.approx(k @ k, rel=1e-13)


@device.DEVICES
def test_a_device_gives_the_places_and_sums_of_the_host(name):
    there = device.find(name)
    s = np.random.default_rng(1).uniform(-1.5, 1.5, (300, 3))
    host, atoms = grid(), atoms_at(s)
    g = grid(backend=there)
    place = g.index(atoms.on(there.from_host), TRICLINIC)
    assert (there.to_host(place) == host.index(atoms, TRICLINIC)).all()
    value = np.random.default_rng(2).random(300)
    assert (g.sums(place, there.from_host(value)) == host.sums(host.index(atoms, TRICLINIC), value)).all()
    assert (there.to_host(g.of_atoms(np.arange(24.0), place)) == there.to_host(place)).all()
