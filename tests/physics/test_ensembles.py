"""Ensembles against exact answers: conserved quantities, distributions of energy, position and volume, diffusion."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.ensembles import (
    Barostat,
    Motion,
    StepTargets,
    StrainSchedule,
    cell_change,
    make,
)
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.dynamics.minimize import Fire
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.models.pair import Null
from rxmdnn.timers import Timers
from rxmdnn.units import ACCELERATION, GPA_PER_EV_A3, KB
from tests.systems import TRICLINIC, argon, engine, share, spread_atoms

SELF, BACKEND = MPI.COMM_SELF, backends.make("cpu")
MASS = np.array([39.95])


class Tethered(Forces):
    """Atoms on springs to their sites: f = -k u."""

    def __init__(self, cell, k):
        neighbors = NeighborList(BACKEND, np.array([[0.5]]), 5.0)
        domain = Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach)
        super().__init__(domain, neighbors, Null(("Ar",), 0.5), Timers())
        self.k = k

    def away(self, atoms):
        n = atoms.n_owned
        return atoms.x[:n] + atoms.image @ self.domain.cell.h - atoms.extra["site"]

    def compute(self, atoms):
        super().compute(atoms)
        atoms.f[: atoms.n_owned] -= self.k * self.away(atoms)


def gas(n, edge, temperature, seed=1):
    """Atoms at random without forces."""
    cell = Cell(np.diag([edge] * 3))
    neighbors = NeighborList(BACKEND, np.array([[0.5]]), 2.0)
    forces = Forces(Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach), neighbors, Null(("Ar",), 0.5), Timers())
    return begin(forces, share(SELF, spread_atoms(cell, n, 0.1, seed), np.zeros(n, np.int32)), temperature, seed)


def crystal(temperature, cells=3, a=5.4, cutoff=7.5):
    """Argon, face-centered cubic."""
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    x = (np.array(list(np.ndindex(cells, cells, cells)))[:, None] + sites).reshape(-1, 3) * a
    forces = engine(SELF, Cell(np.eye(3) * a * cells), argon(cutoff=cutoff))
    return begin(forces, share(SELF, x, np.zeros(len(x), np.int32)), temperature, 1)


def begin(forces, atoms, temperature, seed):
    kinetics = Kinetics(SELF, BACKEND, MASS, atoms.n_owned)
    kinetics.draw(atoms, temperature, seed, 0)
    forces.compute(atoms)
    return forces, kinetics, atoms


def go(forces, kinetics, atoms, kind, tau, temperature, dt, steps, barostat=None, pressure=0.0, seed=7, every=1):
    """Rows of (kinetic energy, conserved energy, volume, instantaneous pressure), one per interval."""
    ensemble = make(Motion(forces, kinetics, dt, seed), kind, tau, barostat)
    ensemble.begin(atoms)
    rows = []
    for step in range(steps):
        now = StepTargets(step, temperature, pressure)
        ensemble.step(atoms, now)
        if (step + 1) % every == 0:
            kinetic, volume = kinetics.energy(atoms), forces.domain.cell.volume
            p = (2 * kinetic + np.trace(forces.virial())) / (3 * volume)
            rows.append((kinetic, ensemble.conserved(forces.energy() + kinetic, now), volume, p))
    return np.array(rows).T


def standard_error(x, blocks=20):
    means = np.array([b.mean() for b in np.array_split(x, blocks)])
    return means.std(ddof=1) / np.sqrt(blocks)


@pytest.mark.parametrize(("kind", "barostat"), [
    ("nose-hoover", None), ("svr", None), ("langevin", None),
    ("nose-hoover", Barostat("mtk", 500.0)), ("nose-hoover", Barostat("mtk", 500.0, "axes")),
    ("nose-hoover", Barostat("mtk", 500.0, "full")), ("svr", Barostat("scr", 1000.0, "full", 100.0)),
    ("langevin", Barostat("scr", 1000.0, "isotropic", 100.0)),
])
def test_the_error_of_the_conserved_quantity_is_of_second_order_in_dt(kind, barostat):
    cell, n, errors = Cell(np.diag([22.0] * 3)), 100, []
    for dt in (8.0, 4.0, 2.0):
        # a long cutoff: the force of a cut pair jumps there, which is an error of its own
        system = begin(engine(SELF, cell, argon(cutoff=11.0)),
                       share(SELF, spread_atoms(cell, n, 3.2), np.zeros(n, np.int32)), 40.0, 3)
        kinetic, conserved, _, _ = go(*system, kind, 200.0, 40.0, dt, int(1600 / dt), barostat, 0.02 / GPA_PER_EV_A3)
        errors.append(conserved.std())
    assert errors[0] < 0.01 * kinetic.std()
    assert 3.0 < errors[0] / errors[1] < 5.0 and 3.0 < errors[1] / errors[2] < 5.0


def test_nve_is_velocity_verlet_to_the_bit():
    systems = [crystal(60.0, cells=2, a=6.2, cutoff=6.0) for _ in range(2)]
    go(*systems[0], "nve", 0.0, 60.0, 4.0, 30)
    for _ in range(30):
        forces, _, atoms = systems[1]
        velocity_verlet(atoms, forces, BACKEND, MASS, 4.0)
    for name in ("gid", "x", "v", "f"):
        assert getattr(systems[0][2], name).tobytes() == getattr(systems[1][2], name).tobytes()


@pytest.mark.parametrize(("kind", "degrees_of_freedom"), [("svr", 3 * 20 - 3), ("langevin", 3 * 20)])
def test_kinetic_energy_of_an_ideal_gas_is_canonical(kind, degrees_of_freedom):
    """Mean f kT/2 and variance f (kT)^2/2 for the f degrees of freedom of the temperature."""
    t, samples = 100.0, 4000
    forces, kinetics, atoms = gas(20, 30.0, t)
    energy = go(forces, kinetics, atoms, kind, 2.0, t, 10.0, samples)[0] / (KB * t)  # 5 tau apart: independent
    assert kinetics.degrees_of_freedom == degrees_of_freedom
    assert energy.mean() == pytest.approx(degrees_of_freedom / 2, abs=4 * np.sqrt(degrees_of_freedom / 2 / samples))
    assert energy.var() == pytest.approx(degrees_of_freedom / 2, rel=4 * np.sqrt(2 / samples))
    momentum = np.abs(atoms.v.sum(axis=0)).max()
    assert (momentum < 1e-12) == (kind == "svr")


def test_langevin_positions_in_a_harmonic_well_are_exact_at_any_time_step():
    """<u^2> = k_B T/k per component, here at ω dt = 1, where velocity Verlet gives 4/3 of that."""
    n, t, k = 400, 150.0, 0.05
    cell = Cell(np.diag([40.0] * 3))
    atoms = share(SELF, spread_atoms(cell, n, 0.1), np.zeros(n, np.int32))
    atoms.extra["site"] = atoms.x.copy()
    forces, kinetics, atoms = begin(Tethered(cell, k), atoms, t, 1)
    omega = np.sqrt(k * ACCELERATION / MASS[0])
    ensemble = make(Motion(forces, kinetics, 1.0 / omega, 3), "langevin", 0.5 / omega)
    means = []
    for step in range(1200):
        ensemble.step(atoms, StepTargets(step, t))
        if step > 100 and step % 5 == 0:
            means.append((forces.away(atoms) ** 2).mean())
    exact = KB * t / k
    assert np.mean(means) == pytest.approx(exact, abs=4 * standard_error(np.array(means)))
    assert standard_error(np.array(means)) < 0.005 * exact


def test_free_langevin_particles_diffuse():
    """<u^2> = 2 D (t - τ (1 - exp(-t/τ))) per component, D = k_B T τ/m."""
    n, t, tau, dt, steps = 2000, 100.0, 100.0, 5.0, 200
    forces, kinetics, atoms = gas(n, 60.0, t)
    start = np.empty((n, 3))
    start[atoms.gid[:n]] = atoms.x[:n] + atoms.image @ forces.domain.cell.h
    go(forces, kinetics, atoms, "langevin", tau, t, dt, steps, every=steps)
    u = atoms.x[:n] + atoms.image @ forces.domain.cell.h - start[atoms.gid[:n]]
    time = dt * steps
    exact = 2 * KB * t * ACCELERATION * tau / MASS[0] * (time - tau * (1 - np.exp(-time / tau)))
    assert (u**2).mean() == pytest.approx(exact, rel=4 * np.sqrt(2 / (3 * n)))


@pytest.mark.parametrize(("kind", "shape", "degrees_of_freedom"), [
    ("svr", "isotropic", 57), ("langevin", "isotropic", 60), ("svr", "full", 57)])
def test_volume_of_an_ideal_gas_at_constant_pressure(kind, shape, degrees_of_freedom, monkeypatch):
    """V is gamma-distributed, of shape f/3 + 1 and scale k_B T/p; the mean pressure is p."""
    monkeypatch.setattr(cell_change, "LARGEST", 0.5)  # so few atoms, so wild a cell
    n, t, steps = 20, 100.0, 2000 if shape == "full" else 8000
    forces, kinetics, atoms = gas(n, 20.0, t)
    p = n * KB * t / 20.0**3
    barostat = Barostat("scr", 40.0, shape, 1.0 / p)
    v, pressure = go(forces, kinetics, atoms, kind, 10.0, t, 4.0, steps, barostat, p)[2:, 200:]
    a, scale = degrees_of_freedom / 3 + 1, KB * t / p
    assert v.mean() == pytest.approx(a * scale, abs=4 * standard_error(v))
    assert pressure.mean() == pytest.approx(p, abs=4 * standard_error(pressure))
    assert v.var() == pytest.approx(a * scale**2, rel=0.3)
    if shape == "isotropic":
        assert standard_error(v) < 0.02 * v.mean()
        np.testing.assert_allclose(forces.domain.cell.h, np.eye(3) * forces.domain.cell.volume ** (1 / 3), atol=1e-9)


def test_targets_on_a_ramp_are_followed():
    forces, kinetics, atoms = gas(200, 30.0, 50.0)
    ensemble = make(Motion(forces, kinetics, 5.0, 3), "svr", 20.0)
    energy = []
    for step in range(400):
        ensemble.step(atoms, StepTargets(step, 50.0 + 0.5 * step))
        energy.append(kinetics.temperature(atoms))
    assert np.mean(energy[300:]) == pytest.approx(225.0 - 0.5 * 4, abs=4 * 225 * np.sqrt(2 / 597 / 12))


def test_a_schedule_of_strain_compresses_a_gas_adiabatically():
    """Without forces, v A^-T: the kinetic energy along each axis is proportional to length^-2."""
    forces, kinetics, atoms = gas(50, 30.0, 100.0)
    before = kinetics.tensors(atoms)[0]
    stretch = np.array([-0.3, 0.2, 0.0])
    motion = Motion(forces, kinetics, 5.0, 3)
    ensemble = make(motion, "nve", 0.0, StrainSchedule(motion, stretch, np.zeros(3), 10, 60))
    ensemble.begin(atoms)
    start = kinetics.energy(atoms)
    for step in range(10, 60):
        ensemble.step(atoms, StepTargets(step, 0.0))
    np.testing.assert_allclose(kinetics.tensors(atoms)[0], before / np.outer(1 + stretch, 1 + stretch), rtol=1e-12)
    np.testing.assert_allclose(forces.domain.cell.h, np.diag(30.0 * (1 + stretch)), atol=1e-12)
    assert ensemble.conserved(kinetics.energy(atoms), StepTargets(60, 0.0)) == pytest.approx(start, rel=1e-12)


@pytest.mark.parametrize("kind", ["nve", "svr"])
def test_the_work_of_strain_and_shear_is_accounted_for(kind):
    n, errors = 40, []
    for dt in (8.0, 4.0, 2.0):
        forces, kinetics, atoms = begin(engine(SELF, TRICLINIC, argon(cutoff=9.0)),
                                        share(SELF, spread_atoms(TRICLINIC, n, 3.2), np.zeros(n, np.int32)), 40.0, 3)
        steps, motion = int(480 / dt), Motion(forces, kinetics, dt, 7)
        stretch, shear = np.array([0.03, 0.0, -0.02]), np.array([0.0, 4.0, -3.0])
        ensemble = make(motion, kind, 200.0, StrainSchedule(motion, stretch, shear, 0, steps))
        ensemble.begin(atoms)
        conserved, total = [], []
        for step in range(steps):
            ensemble.step(atoms, StepTargets(step, 40.0))
            total.append(forces.energy() + kinetics.energy(atoms))
            conserved.append(ensemble.conserved(total[-1], StepTargets(step, 40.0)))
        errors.append(np.std(conserved))
    assert errors[0] < 0.02 * np.std(total)
    assert 3.0 < errors[0] / errors[1] < 5.0 and 3.0 < errors[1] / errors[2] < 5.0
    a, b = np.array(forces.domain.cell.parameters), np.array(TRICLINIC.parameters)
    np.testing.assert_allclose(a, [*(b[:3] * (1 + stretch)), *(b[3:] + shear)], rtol=1e-10)


@pytest.mark.parametrize("pressure", [0.0, 1.0])
def test_fire_finds_the_cell_of_least_enthalpy(pressure):
    """A strained and sheared crystal becomes cubic again, with the size found by a search over sizes."""
    p, wrong = pressure / GPA_PER_EV_A3, np.array([[1.03, 0.02, 0.0], [0.0, 0.98, 0.03], [0.0, 0.0, 1.01]])
    # no shell of neighbors near the cutoff
    forces, _, atoms = crystal(0.0, cells=3, a=5.4, cutoff=7.1)
    atoms.x[: atoms.n_owned] = atoms.x[: atoms.n_owned] @ wrong
    forces.domain.deform(wrong)
    for done in Fire(forces.domain, forces, atoms, 1e-5, "full", p):
        if done:
            break
    cell = forces.domain.cell
    np.testing.assert_allclose(forces.virial(), p * cell.volume * np.eye(3), atol=1e-5 * atoms.n_owned)
    np.testing.assert_allclose(cell.parameters[3:], 90.0, atol=0.01)

    def enthalpy(a):
        one, _, _ = crystal(0.0, cells=3, a=a, cutoff=7.1)
        return one.energy() + p * (3 * a) ** 3

    sizes = cell.volume ** (1 / 3) / 3 + np.array([-0.002, 0.0, 0.002])
    e = [enthalpy(a) for a in sizes]
    assert e[1] < min(e[0], e[2])
    np.testing.assert_allclose(np.array(cell.parameters[:3]) / 3, sizes[1], atol=1e-3)


@pytest.mark.validation
@pytest.mark.parametrize("kind", ["nose-hoover", "svr", "langevin"])
def test_kinetic_energy_of_a_crystal_is_canonical(kind):
    t = 40.0
    system = crystal(t, cells=2, a=5.45, cutoff=5.4)
    energy = go(*system, kind, 100.0, t, 5.0, 40_000, every=4)[0][500:] / (KB * t)
    f = system[1].degrees_of_freedom
    assert energy.mean() == pytest.approx(f / 2, abs=4 * standard_error(energy) + 2e-3 * f / 2)
    assert energy.var() == pytest.approx(f / 2, rel=0.12)


@pytest.mark.validation
def test_barostats_agree_on_the_volume_of_a_crystal_and_keep_the_pressure():
    """Mean pressure (of every axis) the target; mean and variance of the volume the same for all of them."""
    t, p = 40.0, 0.05 / GPA_PER_EV_A3
    found = []
    for kind, barostat in [("svr", Barostat("scr", 500.0, "isotropic", 80.0)), ("nose-hoover", Barostat("mtk", 500.0)),
                           ("langevin", Barostat("scr", 500.0, "isotropic", 80.0)),
                           ("nose-hoover", Barostat("mtk", 500.0, "full")),
                           ("svr", Barostat("scr", 500.0, "full", 80.0))]:
        v, pressure = go(*crystal(t), kind, 200.0, t, 5.0, 16_000, barostat, p, every=4)[2:, 500:]
        assert pressure.mean() == pytest.approx(p, abs=4 * standard_error(pressure) + 2e-3 * p)
        found.append((v.mean(), standard_error(v), v.std()))
    means, errors, widths = np.array(found).T
    assert np.abs(means - means[0]).max() < 4 * np.hypot(errors, errors[0]).max()
    np.testing.assert_allclose(widths, widths[0], rtol=0.2)
