"""The error of a table: measured, honored by frames of the shipped model, refused where it cannot be met."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import iread

from rxmdnn import backend
from rxmdnn.atoms import Edges
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.allegro_evaluation import BlockEvaluation
from rxmdnn.models.model_file import load_model
from rxmdnn.models.table_error import environments, error_of, intervals_for
from tests.unit.models import test_allegro

AMMONIA = Path(__file__).parents[3] / "input/ammonia"


def test_environments_are_those_of_the_model():
    config = test_allegro.network(r_max=test_allegro.PAIR_CUTOFFS, average_neighbors=(3.0, 9.0, 12.0)).config
    edges, types = environments(config)
    n = len(edges.first) - 1
    assert np.diff(edges.first).tolist() == [3] * 16 + [9] * 16 + [12] * 16
    assert sorted(set(edges.neighbor)) == list(range(n, n + len(edges.neighbor)))
    r = np.linalg.norm(edges.r_ij, axis=1)
    assert (r < config.cutoff[types[edges.center], types[edges.neighbor]]).all() and r.min() > 0.4
    again, _ = environments(config)
    np.testing.assert_array_equal(again.r_ij, edges.r_ij)


def test_an_error_is_twice_the_largest_sum_over_a_center():
    exact = np.zeros((5, 3))
    wrong = exact.copy()
    wrong[0, 0], wrong[1, 2], wrong[3, 1] = 3.0, -1.0, 2.5
    first = np.array([0, 2, 4, 5])
    assert error_of(wrong, exact, first) == 8.0
    wrong[0, 1] = exact[0, 1] = 16.0  # eV/Å: the error of this center counts a sixteenth
    assert error_of(wrong, exact, first) == 5.0


def test_a_smaller_error_needs_more_intervals():
    net = test_allegro.network()
    found = [intervals_for(net, BlockEvaluation, error, "it") for error in (1e-2, 1e-4, 1e-6)]
    assert all(error <= wanted for (_, error), wanted in zip(found, (1e-2, 1e-4, 1e-6)))
    assert [n for n, _ in found] == sorted({n for n, _ in found})
    with pytest.raises(InputError, match=r"it: a table for an error of 1e-14 eV/Å would need more than \d+ intervals, "
                                         r"which have \S+ eV/Å; allow a larger error, or omit the table"):
        intervals_for(net, BlockEvaluation, 1e-14, "it")


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_frames_honor_the_error(precision):
    net, kernels = load_model(AMMONIA / "ammonia_legato.safetensors"), backend.make("cpu")
    direct, table = (Allegro(net, ("H", "N"), precision, table=error) for error in (None, 1e-4))
    changes = []
    for frame in list(iread(AMMONIA / "revpbe_d3bj.xyz"))[::60]:
        cell = Cell(np.array(frame.cell))
        i, j, s = pairs(kernels, frame.positions, cell, 4.5)
        r_ij = frame.positions[j] + s @ cell.h - frame.positions[i]
        edges = Edges(i.astype(np.int32), j.astype(np.int32), r_ij,
                      np.searchsorted(i, np.arange(len(frame) + 1)).astype(np.int64))
        species = (frame.numbers == 7).astype(np.int32)
        (e_i, g_ij), (e_table, g_table) = (p.compute(edges, species) for p in (direct, table))
        f, f_table = (test_allegro.forces(edges, g) for g in (g_ij, g_table))
        changes.append(np.abs(f_table - f).max())
        assert np.abs(e_table - e_i).max() < 1e-5
    assert len(changes) > 5 and 0 < max(changes) < 1e-4
