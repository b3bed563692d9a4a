"""The set-up of an engine, apart from what the ASE calculator shows of it."""

import numpy as np
import pytest

from rxmdnn.cell import Cell
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from tests.systems import TRICLINIC, argon, spread_atoms


def system(**settings):
    return System.of(argon(), TRICLINIC, np.zeros(20, np.int32), spread_atoms(TRICLINIC, 20, 3.0), **settings)


def test_compute_refuses_other_atoms_and_another_periodicity():
    made, x = system(), spread_atoms(TRICLINIC, 20, 3.0)
    energy = made.compute(TRICLINIC, x).energy
    with pytest.raises(InputError, match="an array of 20 x 3 is needed, not of 19 x 3"):
        made.compute(TRICLINIC, x[:19])
    with pytest.raises(InputError, match="periodic along a b, but the system along a b c"):
        made.compute(Cell(TRICLINIC.h, np.array([True, True, False])), x)
    broken = x.copy()
    broken[7, 1] = np.inf
    with pytest.raises(InputError, match=r"NaN or infinite coordinates of 1 atom\(s\), the first of atom 7"):
        made.compute(TRICLINIC, broken)
    assert made.compute(TRICLINIC, x).energy == energy


def test_faults_of_the_set_up_name_the_deck_word():
    with pytest.raises(InputError, match="processors: a grid of 2 x 1 x 1 needs 2 ranks, and 1 are running"):
        system(grid=(2, 1, 1))
    with pytest.raises(InputError, match="a skin of at least zero"):
        system(skin=-1.0)


def test_edges_are_those_of_the_present_positions():
    made = system()
    before = made.edges()
    n = len(before.center)
    assert n == len(before.neighbor) and (np.linalg.norm(before.r_ij, axis=1) < 6.0).all()
    made.atoms.x[:20] += np.array([3.0, -2.0, 50.0])  # as a whole: the same pairs
    assert len(made.edges().center) == n


def test_a_system_without_atoms():
    made = System(argon(), TRICLINIC)
    assert made.n_global == 0
    answer = made.compute(TRICLINIC, np.zeros((0, 3)))
    assert answer.energy == 0.0 and answer.forces.shape == (0, 3) and not answer.virial.any()
