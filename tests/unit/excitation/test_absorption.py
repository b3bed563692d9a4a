"""Light for electrons: a film absorbs what falls on it, whatever the grid."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.excitation.absorption import AbsorbedLight, Flash
from rxmdnn.excitation.grid import Grid
from rxmdnn.excitation.illumination import EV_A2_PER_MJ_CM2, Beam
from rxmdnn.excitation.pulses import GaussianPulse

CPU = backends.make("cpu")
TILTED = Cell(np.array([[10.0, 0.0, 0.0], [3.0, 8.0, 0.0], [40.0, -30.0, 2000.0]]))


def light_on(cell, z=50.0, direction=(0.0, 0.0, 1.0)):
    """A pulse of 2 mJ/cm^2, absorbed within 100 Å below the first atom, at z."""
    atoms = Atoms.of(np.arange(2), np.zeros(2, np.int32), np.array([[0.0, 0.0, z], [0.0, 0.0, 1950.0]]))
    light = AbsorbedLight([Flash(GaussianPulse(100.0, 50.0), 2.0)], Beam(np.array(direction), depth=100.0),
                          MPI.COMM_SELF, CPU)
    light.begin(atoms, cell)
    return light


@pytest.mark.parametrize("nz", [2, 20, 400])
@pytest.mark.parametrize("cell", [Cell(np.diag([10.0, 8.0, 2000.0])), TILTED], ids=["upright", "tilted"])
@pytest.mark.parametrize(("z", "rounding"), [(0.0, 1e-9), (50.0, 0.016)])
def test_a_film_absorbs_the_fluence(cell, nz, z, rounding):
    """F (1 - exp(-thickness/depth)) per area, also of cells that are ten depths thick. Where the surface cuts a cell,
    the layer of its first atoms is known to 1.5 Å of 100 only."""
    light, grid = light_on(cell, z), Grid(MPI.COMM_SELF, CPU, (1, 2, nz))
    assert light.state() == {"surface": z}
    halves = [light.absorbed(grid, cell, np.ones(grid.n_cells), *times) for times in ((-100.0, 100.0), (100.0, 300.0))]
    fluence = 2.0 * EV_A2_PER_MJ_CM2 * cell.volume / cell.widths[2] * (1.0 - np.exp(-(2000.0 - z) / 100.0))
    assert sum(halves).sum() == pytest.approx(fluence, rel=rounding)
    assert halves[0].sum() == pytest.approx(halves[1].sum(), rel=0.02)  # what is deep gets it later
    assert not light.absorbed(grid, cell, np.ones(grid.n_cells), 400.0, 500.0).any()
    of_depth = sum(halves).reshape(2, nz).sum(axis=0)
    if nz > 2:
        assert of_depth[5 * nz // 20] / of_depth[nz // 4 + nz // 20] == pytest.approx(np.e, rel=1e-9)  # 100 Å deeper
        assert z == 0 or not of_depth[: nz // 50].any()


def test_oblique_light_and_cells_without_electrons():
    cell = Cell(np.diag([300.0, 200.0, 2000.0]))
    light = light_on(cell, -1e4, (0.6, 0.0, 0.8))
    totals = []
    for shape in ((1, 1, 20), (10, 1, 200)):
        grid = Grid(MPI.COMM_SELF, CPU, shape)
        s = grid.centers()
        totals.append(light.absorbed(grid, cell, np.where(s[:, 2] > 0.5, 1.0, 0.0), 0.0, 1e3).sum())
        assert totals[-1] < light.absorbed(grid, cell, np.ones(grid.n_cells), 0.0, 1e3).sum()
    assert totals[0] == pytest.approx(totals[1], rel=1e-9)


def test_a_surface_is_kept_over_restarts():
    cell, light = Cell(np.diag([10.0, 10.0, 2000.0])), light_on(Cell(np.diag([10.0, 10.0, 2000.0])))
    grid = Grid(MPI.COMM_SELF, CPU, (1, 1, 1))
    light.resume({"surface": 1900.0})
    total = light.absorbed(grid, cell, np.ones(1), -100.0, 500.0)[0]
    assert total == pytest.approx(2.0 * EV_A2_PER_MJ_CM2 * 100.0 * (1 - np.exp(-1.0)), rel=0.016)
