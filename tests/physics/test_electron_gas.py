"""Electrons on their grid against closed solutions: Fourier modes, energy, the uniform two-temperature model."""

import numpy as np
import pytest

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.excitation.conduction import Conduction, advanced, super_step
from rxmdnn.excitation.electron_gas import ElectronGas, ElectronModel, matter_share, surface_weight
from rxmdnn.excitation.heat_capacity import ConstantCapacity, LinearCapacity
from rxmdnn.units import KB
from tests.systems import TRICLINIC

C = 2e-6  # eV/(Å^3 K)
ORTHOGONAL = Cell(np.diag([14.0, 13.0, 12.0]))
HEXAGONAL = Cell(np.array([[14.0, 0, 0], [-7.0, 12.124355652982141, 0], [0, 0, 12.0]]))


def gas(t, shape, cell, kappa=1e-4, capacity=None, share=None, scaled=False, coupling=0.0):
    share = np.ones(int(np.prod(shape))) if share is None else share
    g = ElectronGas.at(1.0, ElectronModel(capacity or ConstantCapacity(C), coupling, kappa, scaled), shape, cell, share)
    g.energy = g.volumes(cell) * g.model.capacity.energy(t)
    return g


def centers(shape):
    axes = ((np.arange(n) + 0.5) / n for n in shape)
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)


def decay_error(cell, shape, q, time, steps=1):
    """Relative error of the amplitude of a Fourier mode after some time, against exp(-D k² t)."""
    k = 2 * np.pi * cell.inverse @ q
    wave = np.cos(2 * np.pi * centers(shape) @ q + 0.3)
    g = gas(1000.0 + 100.0 * wave, shape, cell)
    for _ in range(steps):
        g.conduct(np.zeros(g.energy.shape), cell, time / steps)
    amplitude = 2.0 * np.mean((g.temperature(cell) - 1000.0) * wave)
    return abs(amplitude / (100.0 * np.exp(-1e-4 / C * (k @ k) * time)) - 1), g


CELLS = pytest.mark.parametrize("cell", [ORTHOGONAL, TRICLINIC, HEXAGONAL],
                                ids=["orthogonal", "triclinic", "hexagonal"])
WAVES = pytest.mark.parametrize("q", [(1, 0, 0), (1, 1, 0), (1, -1, 1), (0, 2, 1)])


@CELLS
@WAVES
def test_the_flow_of_a_wave_is_that_of_theory_with_an_error_of_second_order(cell, q):
    def error(n):
        wave = np.cos(2 * np.pi * centers((n, n, n)) @ q + 0.3)
        flow = Conduction((n, n, n), cell.pbc, np.ones(n**3)).flow(wave, np.full(n**3, 1e-4), cell)
        exact = -1e-4 * (k @ k) * wave * cell.volume / n**3
        return np.abs(flow - exact).max() / np.abs(exact).max()
    k = 2 * np.pi * cell.inverse @ q
    assert error(64) < 5e-3 and error(32) / error(64) > 3.5


@CELLS
@WAVES
def test_a_fourier_mode_decays_as_in_theory(cell, q):
    k = 2 * np.pi * cell.inverse @ q
    assert decay_error(cell, (24, 24, 24), np.array(q, float), C / (1e-4 * (k @ k)), 8)[0] < 0.025


def test_a_flat_grid_takes_many_stages_and_is_exact_to_its_error():
    error, g = decay_error(ORTHOGONAL, (1, 1, 96), np.array([0, 0, 1.0]), 0.1)
    single = 0.9 * C * (12.0 / 96) ** 2 / (2 * 1e-4)  # one axis: 2 and not 6
    assert error < 5e-3 and g.stages < 0.25 * 0.1 / single


def test_stages_cover_the_time():
    for time in (0.1, 1.0, 1.01, 7.0, 263.0, 264.0, 5000.0):
        step, s = super_step(time, 1.0)
        assert step <= (s * s + s - 2) / 4 and (time / step) == pytest.approx(round(time / step)) and 2 <= s <= 20


@pytest.mark.parametrize("stages", [2, 3, 8])
def test_a_step_is_of_second_order(stages):
    def error(n):
        y = np.array([1.0, 0.0])
        for _ in range(n):
            y = advanced(y, lambda y: (y[1] - y[0]) * np.array([1.0, -1.0]), 1.0 / n, stages)
        return abs(y[0] - 0.5 - 0.5 * np.exp(-2.0))
    assert 3.6 < error(8) / error(16) < 4.6


def test_cubes_have_the_step_of_the_literature():
    cube = Cell(np.diag([12.0] * 3))
    conduction = Conduction((6, 6, 6), cube.pbc, np.ones(216))
    step = conduction.stable_step(np.full(216, C), np.full(216, 1e-4), cube)
    assert step == pytest.approx(0.9 * C * 2.0**2 / (6 * 1e-4), rel=1e-12)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_conduction_keeps_the_energy_and_levels_the_temperature(pbc):
    cell, rng = Cell(TRICLINIC.h, np.array(pbc)), np.random.default_rng(0)
    share = np.where(rng.random(60) < 0.25, 0.0, rng.uniform(0.3, 1.0, 60))
    share[:4] = 1.0
    g = gas(rng.uniform(300, 5000, 60), (3, 4, 5), cell, capacity=LinearCapacity(4e-10), share=share, scaled=True)
    before = g.energy.copy()
    for _ in range(50):
        g.conduct(np.full(60, 300.0), cell, 0.01)
    assert g.energy.sum() == pytest.approx(before.sum(), rel=1e-13)
    assert (g.energy[share == 0] == 0).all() and (g.temperature(cell)[share == 0] == 0).all()
    after = g.temperature(cell)[share > 0]
    assert after.min() > 300 and np.ptp(after) < 4000


def test_heat_does_not_cross_vacuum_or_an_open_face():
    share = np.array([1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    t = np.array([1000.0, 1000.0, 0.0, 300.0, 300.0, 300.0])
    open_z = Cell(ORTHOGONAL.h, np.array([True, True, False]))
    g = gas(t, (1, 1, 6), open_z, share=share)
    g.conduct(np.zeros(6), open_z, 10.0)
    np.testing.assert_allclose(g.temperature(open_z), t, rtol=1e-13)
    g = gas(t, (1, 1, 6), ORTHOGONAL, share=share)  # periodic: through the outer face
    for _ in range(40):
        g.conduct(np.zeros(6), ORTHOGONAL, 0.5)
    np.testing.assert_allclose(g.temperature(ORTHOGONAL)[share > 0], 580.0, rtol=1e-6)


def test_the_uniform_model_follows_its_closed_solution():
    """C_e dT_e/dt = -g (T_e - T_a) = -C_a dT_a/dt: T_e - T_a decays with g (1/C_a + 1/C_e); steps of any length."""
    n, g_ea, volume = 50, 2e-10, ORTHOGONAL.volume
    c_a = 1.5 * n * KB / volume
    for dt in (1.0, 30.0):
        gas_ = gas(np.array([5000.0]), (1, 1, 1), ORTHOGONAL, coupling=g_ea)
        t_a = 300.0
        for step in range(1, 11):
            t_e = gas_.temperature(ORTHOGONAL)
            given = c_a * volume * gas_.exchanged(t_e, np.array([n]), ORTHOGONAL, dt) * (t_e - t_a)
            gas_.energy = gas_.energy - given
            t_a += float(given[0]) / (c_a * volume)
            end = (C * 5000.0 + c_a * 300.0) / (C + c_a)
            gap = 4700.0 * np.exp(-g_ea * (1 / c_a + 1 / C) * dt * step)
            assert t_a == pytest.approx(end - gap * C / (C + c_a), rel=1e-6)
            assert gas_.temperature(ORTHOGONAL)[0] == pytest.approx(end + gap * c_a / (C + c_a), rel=1e-6)


def test_the_exchange_is_that_of_the_friction_where_the_electrons_are_a_bath():
    g = gas(np.array([5000.0]), (1, 1, 1), ORTHOGONAL, coupling=2e-10, capacity=ConstantCapacity(1e6))
    rate = 2e-10 * ORTHOGONAL.volume / (3 * 50 * KB)  # λ = g V/(3 N k_B)
    part = g.exchanged(np.array([5000.0]), np.array([50]), ORTHOGONAL, 2.0)[0]
    assert part == pytest.approx(1 - np.exp(-2 * rate * 2.0), rel=1e-9)


def test_cells_without_atoms_or_electrons_exchange_nothing():
    g = gas(np.full(3, 1000.0), (1, 1, 3), ORTHOGONAL, coupling=1e-10, share=np.array([1.0, 0.0, 1.0]))
    part = g.exchanged(g.temperature(ORTHOGONAL), np.array([5, 5, 0]), ORTHOGONAL, 1.0)
    assert part[0] > 0 and part[1] == 0 and part[2] == 0


def test_a_larger_cell_keeps_the_energy_and_cools_the_electrons():
    g = gas(np.full(8, 1000.0), (2, 2, 2), ORTHOGONAL)
    larger = ORTHOGONAL.deformed(np.diag([1.1, 1.0, 1.0]))
    np.testing.assert_allclose(g.temperature(larger), 1000.0 / 1.1, rtol=1e-12)


def test_electrons_below_zero_are_one_message():
    g = gas(np.full(4, 10.0), (1, 1, 4), ORTHOGONAL)
    g.energy = g.energy - np.array([0, 0, 2 * g.energy[2], 0])
    with pytest.raises(InputError, match=r"electrons: T_e = -10 K in 1 of 4 grid cells"):
        g.temperature(ORTHOGONAL)
    g.energy[2] = np.nan
    with pytest.raises(InputError, match="T_e = nan K"):
        g.temperature(ORTHOGONAL)


def test_shares_of_a_film():
    assert (matter_share(np.array([0, 3, 12, 8, 12, 12, 0])) == [0, 0.5, 1, 1, 1, 1, 0]).all()
    assert (matter_share(np.zeros(3)) == 0).all()


def test_the_weight_of_a_surface_follows_the_electrons():
    w = surface_weight(np.array([0.0, 1000.0, 5500.0, 10000.0, 2e4]), 1000.0, 10000.0)
    assert (w == [0, 0, 0.5, 1, 1]).all()
