"""Planes between parts of equal load: known loads, least widths, refusal."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.engine.balance import Balance, equal_shares
from rxmdnn.errors import InputError


def test_even_loads_make_even_parts():
    for parts in (1, 2, 3, 5):
        ends = equal_shares(np.ones(120), parts, 0.05)
        np.testing.assert_allclose(ends, np.arange(parts + 1) / parts, atol=1e-12)


def test_planes_cut_the_load_into_equal_shares():
    load = np.zeros(1000)
    load[100:200], load[600:700] = 3.0, 1.0
    ends = equal_shares(load, 4, 0.01)
    shares = np.diff(np.concatenate([[0.0], np.cumsum(load)])[np.rint(ends * 1000).astype(int)])
    np.testing.assert_allclose(shares, 100, atol=3)


@pytest.mark.parametrize("place", [slice(0, 3), slice(500, 503), slice(997, 1000)])
@pytest.mark.parametrize("least", [0.05, 0.2, 0.25 - 1e-6])
def test_no_part_is_thinner_than_the_halo(place, least):
    load = np.zeros(1000)
    load[place] = 1.0
    ends = equal_shares(load, 4, least)
    assert ends[0] == 0 and ends[-1] == 1 and np.diff(ends).min() >= least
    assert np.diff(ends).max() <= 1 - 3 * least + 1e-6


def test_without_a_load_or_space_parts_are_even():
    assert equal_shares(np.zeros(10), 4, 0.1).tolist() == equal_shares(np.eye(10)[0], 4, 0.3).tolist() == [
        0, 0.25, 0.5, 0.75, 1]


def test_atoms_count_by_their_load():
    s = np.array([[0.1, 0.5, 0.5], [0.6, 0.5, 0.5], [0.7, 0.5, 0.5], [0.8, 0.5, 0.5]])
    balance, halo = Balance(np.array([2, 1, 1])), np.full(3, 0.05)
    assert 0.6 < balance.cuts(MPI.COMM_SELF, s, None, halo)[0][1] < 0.7
    assert 0.1 < balance.cuts(MPI.COMM_SELF, s, np.array([9, 1, 1, 1]), halo)[0][1] < 0.11


def test_parts_thinner_than_the_reach_are_refused():
    balance = Balance(np.array([1, 4, 1]))
    balance.check(Cell(np.diag([3.0, 26.0, 3.0])), 6.5)
    with pytest.raises(InputError, match=r"balance: 4 parts along b would be 6.25 Å wide, thinner than .*6.50 Å"):
        balance.check(Cell(np.diag([30.0, 25.0, 30.0])), 6.5)
