"""The laws that the engine and every potential must keep: gradients, conservation, invariance, strain."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.units import GPA_PER_EV_A3
from tests.systems import TRICLINIC, allegro, argon, collect, engine, share, spread_atoms

SELF = MPI.COMM_SELF
MASS = np.array([39.95, 20.18])


@pytest.fixture(params=["lennard_jones", "allegro"])
def system(request):
    """A potential, a triclinic cell smaller than twice the cutoff, positions and species."""
    if request.param == "allegro":
        potential = allegro(("Ar", "Ne"), precision="float64")
    else:
        potential = argon(elements=("Ar", "Ne"))
    x = spread_atoms(TRICLINIC, 30, 2.8)
    return potential, TRICLINIC, x, (np.arange(30) % 2).astype(np.int32)


def evaluate(potential, cell, x, species):
    """Energy, forces in order of gid, virial."""
    atoms, forces = share(SELF, x, species), engine(SELF, cell, potential)
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    return forces.energy(), collect(SELF, atoms, atoms.f)[0], forces.virial()


def test_forces_are_minus_the_gradient(system):
    potential, cell, x, species = system
    _, f, _ = evaluate(potential, cell, x, species)
    scale, h = np.abs(f).max(), 1e-4
    for i, k in [(0, 0), (7, 1), (29, 2), (12, 0)]:
        e = []
        for step in (-2, -1, 1, 2):
            moved = x.copy()
            moved[i, k] += step * h
            e.append(evaluate(potential, cell, moved, species)[0])
        numeric = -(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
        assert abs(numeric - f[i, k]) < 1e-6 * scale


def test_forces_sum_to_zero(system):
    potential, cell, x, species = system
    _, f, _ = evaluate(potential, cell, x, species)
    assert np.abs(f.sum(axis=0)).max() < 1e-12 * np.abs(f).sum()


def test_translation_wrapping_rotation_and_permutation_change_nothing(system):
    potential, cell, x, species = system
    energy, f, virial = evaluate(potential, cell, x, species)
    moved = x + [1.7, -2.3, 0.4] + np.random.default_rng(1).integers(-2, 3, (30, 3)) @ cell.h
    e, g, w = evaluate(potential, cell, moved, species)
    assert e == pytest.approx(energy, rel=1e-11)
    np.testing.assert_allclose(g, f, atol=1e-10 * np.abs(f).max())
    np.testing.assert_allclose(w, virial, atol=1e-10 * np.abs(virial).max())
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))[0]
    e, g, w = evaluate(potential, Cell(cell.h @ turn), x @ turn, species)
    assert e == pytest.approx(energy, rel=1e-10)
    np.testing.assert_allclose(g, f @ turn, atol=1e-9 * np.abs(f).max())
    np.testing.assert_allclose(w, turn.T @ virial @ turn, atol=1e-9 * np.abs(virial).max())
    order = np.random.default_rng(3).permutation(30)
    e, g, _ = evaluate(potential, cell, x[order], species[order])
    assert e == pytest.approx(energy, rel=1e-11)
    np.testing.assert_allclose(g, f[order], atol=1e-10 * np.abs(f).max())


def test_virial_is_minus_the_strain_derivative(system):
    """W = -∂E/∂ε for x -> (1 + ε) x, h -> (1 + ε) h."""
    potential, cell, x, species = system
    virial = evaluate(potential, cell, x, species)[2]
    for a, b in [(0, 0), (1, 1), (0, 1), (2, 1)]:
        e = []
        for eps in (-1e-5, 1e-5):
            strain = np.eye(3)
            strain[a, b] += eps
            e.append(evaluate(potential, Cell(cell.h @ strain.T), x @ strain.T, species)[0])
        assert -(e[1] - e[0]) / 2e-5 == pytest.approx(virial[a, b], rel=1e-6, abs=1e-6 * np.abs(virial).max())


def test_energy_error_falls_as_dt_squared_and_momentum_is_kept():
    cell, n = Cell(np.diag([22.0, 22.0, 22.0])), 100
    x, species = spread_atoms(cell, n, 3.2), (np.arange(n) % 2).astype(np.int32)
    backend, errors = backends.make("cpu"), []
    for dt in (8.0, 4.0, 2.0):
        # a long cutoff: the force of a cut pair jumps there, which is an error of its own
        forces, atoms = engine(SELF, cell, argon(cutoff=11.0, elements=("Ar", "Ne"))), share(SELF, x, species)
        kinetics = Kinetics(SELF, backend, MASS, n)
        kinetics.draw(atoms, 40.0, seed=3, step=0)
        forces.domain.distribute(atoms)
        forces.compute(atoms)
        totals = []
        for _ in range(int(800 / dt)):
            velocity_verlet(atoms, forces, backend, MASS, dt)
            totals.append(forces.energy() + kinetics.energy(atoms))
        errors.append(np.std(totals))
        momentum = (atoms.v * MASS[atoms.species[:n], None]).sum(axis=0)
        assert np.abs(momentum).max() < 1e-12 * np.abs(atoms.v * MASS[atoms.species[:n], None]).sum()
    assert 3.0 < errors[0] / errors[1] < 5.5
    assert 3.0 < errors[1] / errors[2] < 5.5


def test_velocities_are_mass_weighted_and_do_not_depend_on_the_rank():
    n = 20_000
    atoms = share(SELF, np.zeros((n, 3)), (np.arange(n) % 2).astype(np.int32))
    kinetics = Kinetics(SELF, backends.make("cpu"), MASS, n)
    kinetics.draw(atoms, 300.0, seed=5, step=0)
    assert kinetics.temperature(atoms) == pytest.approx(300.0, rel=1e-12)
    energy, count = kinetics.by_element(atoms)
    t = 2 * energy / (3 * count * 8.617333262e-5)
    np.testing.assert_allclose(t, 300.0, rtol=5 * np.sqrt(2 / (3 * n / 2)))  # 5 standard errors


def test_pressure_of_an_ideal_gas():
    """p V = N k T with no forces."""
    n, cell = 500, Cell(np.diag([30.0] * 3))
    atoms = share(SELF, spread_atoms(cell, n, 0.1), np.zeros(n, np.int32))
    kinetics = Kinetics(SELF, backends.make("cpu"), MASS, n)
    kinetics.draw(atoms, 250.0, seed=5, step=0)
    pressure = np.trace(kinetics.tensors(atoms).sum(axis=0)) / 3 / cell.volume * GPA_PER_EV_A3
    assert pressure == pytest.approx((n - 1) * 8.617333262e-5 * 250 / cell.volume * GPA_PER_EV_A3, rel=1e-12)
