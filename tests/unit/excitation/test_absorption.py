"""Light for electrons: all of a fluence is absorbed in a thick film."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.excitation.absorption import AbsorbedLight, Flash
from rxmdnn.excitation.illumination import EV_A2_PER_MJ_CM2, Beam
from rxmdnn.excitation.pulses import GaussianPulse


def test_a_thick_film_absorbs_the_fluence():
    cell = Cell(np.diag([10.0, 10.0, 2000.0]))
    atoms = Atoms.of(np.arange(2), np.zeros(2, np.int32), np.array([[0.0, 0.0, 50.0], [0.0, 0.0, 1950.0]]))
    light = AbsorbedLight([Flash(GaussianPulse(100.0, 50.0), 2.0)], Beam(np.array([0.0, 0.0, 1.0]), depth=100.0),
                          MPI.COMM_SELF, backends.make("cpu"))
    light.begin(atoms, cell)
    assert light.state() == {"surface": 50.0}
    z = np.arange(50.25, 2000.0, 0.5)
    x = np.stack([0 * z, 0 * z, z], axis=1)
    halves = [light.absorbed(x, cell, *times) for times in ((-100.0, 100.0), (100.0, 300.0))]
    assert 0.5 * sum(halves).sum() == pytest.approx(2.0 * EV_A2_PER_MJ_CM2, rel=1e-5)
    assert halves[0].sum() == pytest.approx(halves[1].sum(), rel=5e-3)  # what is deep gets it later
    light.resume({"surface": 60.0})
    assert light.absorbed(x[:1], cell, -100.0, 300.0)[0] == pytest.approx(2.0 * EV_A2_PER_MJ_CM2 / 100.0)
