"""Atoms that exchange energy with electrons: conservation, the closed solution, equilibrium, restart, device."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.dynamics.drive import StepTime
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.system import System
from rxmdnn.excitation.electron_gas import ElectronModel
from rxmdnn.excitation.electrons import SCALING, ElectronPlan, Electrons, notes_of
from rxmdnn.excitation.heat_capacity import ConstantCapacity, LinearCapacity
from rxmdnn.models.pair import Null
from rxmdnn.parallel import AgreedError
from rxmdnn.units import ACCELERATION, KB
from tests import device
from tests.runs import steps
from tests.systems import TRICLINIC, argon, spread_atoms

SELF = MPI.COMM_SELF
MASS = np.array([39.95])


def simulation(drive, n=40, cell=TRICLINIC, potential=None, dt=2.0, stop=100, backend=None, at=300.0, x=None):
    backend = backend or backends.make("cpu")
    x = spread_atoms(cell, n, 3.0) if x is None else x
    atoms = Atoms.of(np.arange(len(x)), np.zeros(len(x), np.int32), x)
    system = System(potential or argon(backend), cell, atoms, comm=SELF, backend=backend)
    schedule = Schedule(dt, stop, 1, (at, at), 1.0, 0, 10, 7)
    s = Simulation(SELF, backend, system.domain, system.forces, system.atoms, MASS, schedule, len(x))
    s.kinetics.pushed = True
    s.kinetics.count_degrees_of_freedom()
    s.kinetics.draw(s.atoms, at, 3, 0)
    s.drives, s.forces.added = [drive], [drive]
    return s


def plan(shape=(2, 1, 3), t=2000.0, g=1e-9, kappa=0.0, capacity=None, exchange="langevin", **more):
    return ElectronPlan(ElectronModel(capacity or ConstantCapacity(4e-6), g, kappa, **more), shape, t, exchange)


EXCHANGE = pytest.mark.parametrize("exchange", ["langevin", "scaling"])


@EXCHANGE
def test_atoms_and_electrons_keep_their_energy_to_rounding(exchange):
    drive = Electrons(plan(kappa=1e-7, scaled=True, capacity=LinearCapacity(4e-9), exchange=exchange))
    s = simulation(drive, dt=1.0)
    s.forces.compute(s.atoms)
    drive.begin(s)
    for step in range(30):
        before = s.kinetics.energy(s.atoms) + drive.gas.energy.sum()
        work = drive.work
        drive.after(s.atoms, StepTime(step, float(step), 1.0, seed=7))
        after = s.kinetics.energy(s.atoms) + drive.gas.energy.sum()
        assert after == pytest.approx(before, rel=1e-12) and drive.work != work


@EXCHANGE
def test_the_conserved_quantity_is_as_flat_as_without_electrons(exchange):
    drive = Electrons(plan(exchange=exchange))
    rows = steps(simulation(drive, stop=300))
    conserved = np.array([r.conserved for r in rows])
    given = np.array([r.driven["work_electrons_eV"] for r in rows])
    energy = np.array([r.driven["electron_energy_eV"] for r in rows])
    assert np.ptp(given) > 50 * np.ptp(conserved) and np.ptp(conserved) < 0.02
    np.testing.assert_allclose(energy + given, energy[0], rtol=1e-13)


def test_an_ideal_gas_follows_the_closed_solution():
    n, box, g, c_e = 20000, Cell(np.diag([60.0] * 3)), 3e-8, 1e-5
    x = np.random.default_rng(0).random((n, 3)) * 60.0
    drive = Electrons(plan((1, 1, 1), 3000.0, g, capacity=ConstantCapacity(c_e)))
    s = simulation(drive, cell=box, potential=Null(("Ar",), cutoff=1.0), at=300.0, x=x, dt=5.0)
    drive.begin(s)
    c_a = 1.5 * n * KB / box.volume
    for step in range(40):
        drive.after(s.atoms, StepTime(step, 5.0 * step, 5.0, seed=1))
        end, rate = (c_e * 3000.0 + c_a * 300.0) / (c_e + c_a), g * (1 / c_a + 1 / c_e)
        gap = 2700.0 * np.exp(-rate * 5.0 * (step + 1))
        t_a = s.kinetics.energy(s.atoms) / (1.5 * n * KB)
        assert t_a == pytest.approx(end - gap * c_e / (c_e + c_a), abs=0.01 * end)  # 6 standard deviations
        assert drive.temperature()[0] == pytest.approx(end + gap * c_a / (c_e + c_a), abs=0.02 * end)
    assert gap < 0.35 * 2700.0


def test_scaling_follows_the_closed_solution_exactly_and_keeps_momentum():
    drive = Electrons(plan((1, 1, 1), 3000.0, 3e-8, capacity=ConstantCapacity(1e-5), exchange=SCALING))
    s = simulation(drive, potential=Null(("Ar",), cutoff=1.0))
    drive.begin(s)
    s.atoms.v += np.array([1e-3, 0.0, 2e-3])
    p, c_a = s.atoms.v.mean(axis=0), 1.5 * 39 * KB / TRICLINIC.volume
    t_0 = inner_temperature(s)
    for step in range(20):
        drive.after(s.atoms, StepTime(step, 0.0, 5.0))
        end, rate = (1e-5 * 3000.0 + c_a * t_0) / (1e-5 + c_a), 3e-8 * (1 / c_a + 1e5)
        gap = (3000.0 - t_0) * np.exp(-rate * 5.0 * (step + 1))
        assert inner_temperature(s) == pytest.approx(end - gap * 1e-5 / (1e-5 + c_a), rel=1e-10)
        assert drive.temperature()[0] == pytest.approx(end + gap * c_a / (1e-5 + c_a), rel=1e-10)
    np.testing.assert_allclose(s.atoms.v.mean(axis=0), p, atol=1e-15)


def inner_temperature(s):
    """K, without the motion of the center of mass."""
    v = s.atoms.v - s.atoms.v.mean(axis=0)
    return MASS[0] * (v**2).sum() / ACCELERATION / (3 * (len(v) - 1) * KB)


def test_scaling_leaves_atoms_at_rest_and_single_atoms_alone():
    drive = Electrons(plan((2, 2, 2), exchange=SCALING))
    s = simulation(drive)
    drive.begin(s)
    s.atoms.v[:] = 0.0
    drive.after(s.atoms, StepTime(0, 0.0, 1.0))
    assert (s.atoms.v == 0).all() and drive.work == 0


def test_lattice_and_electrons_come_to_one_temperature():
    drive = Electrons(plan((1, 1, 2), 900.0, 3e-8, kappa=1e-5, capacity=ConstantCapacity(2e-5)))
    s = simulation(drive, stop=3000, at=300.0)
    rows = steps(s)
    late = [r for r in rows if r.step > 1000]
    t_e, t_a = (np.mean([r.driven[name] for r in late]) for name in ("Te_K", "Ta_K"))
    assert t_a == pytest.approx(t_e, rel=0.03) and 700 < t_e < 900


def test_the_temperature_of_the_exchange_is_that_of_each_cell():
    """A hot and a cold half without conduction: atoms that do not move far heat up in the hot half alone."""
    drive = Electrons(plan((1, 1, 2), 10.0, 2e-8, capacity=ConstantCapacity(1.0)))
    s = simulation(drive, at=10.0)
    drive.begin(s)
    drive.gas.energy = drive.gas.energy * np.array([1.0, 100.0])
    for step in range(50):
        drive.after(s.atoms, StepTime(step, 0.0, 5.0, seed=2))
    cold, hot = drive.lattice_temperature
    assert cold < 20 and hot > 500


def test_atoms_in_vacuum_at_the_start_feel_no_electrons():
    x = spread_atoms(TRICLINIC, 40, 3.0)
    s_z = TRICLINIC.fractional(x)
    s_z[:, 2] = 0.02 + 0.45 * s_z[:, 2]
    drive = Electrons(plan((1, 1, 2)))
    s = simulation(drive, x=TRICLINIC.cartesian(s_z), potential=Null(("Ar",), cutoff=1.0))
    drive.begin(s)
    assert drive.gas.filled.tolist() == [True, False]
    drive.after(s.atoms, StepTime(0, 0.0, 1.0))
    s.atoms.x[5] += 0.5 * TRICLINIC.h[2]  # it leaves the film
    drive.after(s.atoms, StepTime(1, 1.0, 1.0))
    v = s.atoms.v[5].copy()
    drive.after(s.atoms, StepTime(2, 2.0, 1.0))
    assert (s.atoms.v[5] == v).all() and drive.count.tolist() == [39, 1]
    assert drive.columns()["Te_min_K"] > 0


def test_energy_from_outside_goes_to_the_cells_of_the_atoms():
    drive = Electrons(plan((1, 1, 2), capacity=ConstantCapacity(1e-5)))
    s = simulation(drive)
    drive.begin(s)
    before, index = drive.gas.energy.copy(), drive.grid.index(s.atoms, TRICLINIC)
    drive.deposit(s.atoms, np.where(index == 1, 0.01, 0.0))
    gained = drive.gas.energy - before
    assert gained[0] == 0 and gained[1] == pytest.approx(0.01 * (index == 1).sum(), rel=1e-12)
    assert drive.columns()["absorbed_electrons_eV"] == pytest.approx(gained.sum(), rel=1e-12)


class Steady:
    """1 meV/Å^3 per ps, in the upper half."""

    def begin(self, atoms, cell):
        self.begun = True

    def absorbed(self, grid, cell, share, start, stop):
        assert self.begun
        return np.where(grid.centers()[:, 2] > 0.5, 1e-6 * (stop - start), 0.0) * share * grid.volume(cell)

    def state(self):
        return {}

    def resume(self, state):
        pass


def test_absorbed_light_heats_the_cells_where_it_falls():
    drive = Electrons(plan((1, 1, 2), 300.0, g=0.0, capacity=ConstantCapacity(1e-5)), Steady())
    rows = steps(simulation(drive, stop=50))
    t = drive.temperature()
    assert t[0] == pytest.approx(300.0, rel=1e-12) and t[1] == pytest.approx(300.0 + 1e-6 * 100.0 / 1e-5, rel=1e-12)
    last = rows[-1].driven
    assert last["absorbed_electrons_eV"] == pytest.approx(1e-4 * TRICLINIC.volume / 2, rel=1e-12)
    assert last["Te_max_K"] == pytest.approx(310.0, rel=1e-9) and last["Te_K"] == pytest.approx(305.0, rel=1e-9)


def test_a_run_continues_to_the_bit():
    make = plan((2, 2, 2), kappa=1e-6, scaled=True, capacity=LinearCapacity(1e-8))
    whole, states = simulation(Electrons(make), stop=40), {}

    def keep(thermo):
        a, n = whole.atoms, whole.atoms.n_owned
        states[thermo.step] = ({k: getattr(a, k)[:n].copy() for k in ("gid", "species", "x", "v", "image", "f")},
                               whole.drives[0].saved(SELF))
        whole.rebuild(thermo)
    whole.writers = [(20, keep)]
    rows = steps(whole)
    arrays, saved = states[20]
    again = simulation(drive := Electrons(make), stop=40)
    drive.continue_from(saved, SELF)
    for key, array in arrays.items():
        setattr(again.atoms, key, array.copy())
    again.atoms.n_owned = 40
    again.forces.forget()
    again.step = 20
    rest = steps(again, restarted=True)
    assert [(r.conserved, r.driven) for r in rest] == [(r.conserved, r.driven) for r in rows if r.step > 20]


def test_a_drive_goes_back_within_a_run():
    s = simulation(drive := Electrons(plan()), stop=10)
    drive.begin(s)
    saved = drive.saved(SELF)
    drive.after(s.atoms, StepTime(0, 0.0, 1.0))
    assert (drive.gas.energy != saved["energy"]).any()
    drive.continue_from(saved, SELF)
    assert (drive.gas.energy == saved["energy"]).all() and drive.work == saved["work"]


def test_another_grid_than_that_of_the_checkpoint_is_refused():
    drive = Electrons(plan((2, 2, 2)))
    with pytest.raises(AgreedError, match="the grid is 2 x 2 x 2, but that of the checkpoint is 1 x 1 x 3"):
        drive.resume({"shape": [1, 1, 3]})


def test_the_log_tells_of_stages():
    bath = ConstantCapacity(1e-3)
    note = notes_of(plan((1, 1, 60), kappa=1e-2, capacity=bath), TRICLINIC, 1.0)
    assert len(note) == 1 and "stages per step at 2000 K" in note[0]
    assert notes_of(plan((1, 1, 60), capacity=bath), TRICLINIC, 1.0) == []
    assert "a grid cell is 1.69 k_B at 2000 K" in notes_of(plan((1, 1, 60)), TRICLINIC, 1.0)[0]


@EXCHANGE
@device.DEVICES
def test_a_device_gives_the_run_of_the_host(name, exchange):
    rows = [steps(simulation(Electrons(plan((2, 2, 2), kappa=1e-6, exchange=exchange)), stop=20, backend=b))
            for b in (backends.make("cpu"), device.find(name))]
    for host, there in zip(*rows, strict=True):
        assert there.conserved == pytest.approx(host.conserved, abs=1e-9)
        for key, value in host.driven.items():
            assert there.driven[key] == pytest.approx(value, rel=1e-9), key


def test_the_friction_is_that_of_the_coupling():
    """With a heat bath of T_e = 0 the velocities fall as exp(-λ t), λ = g V/(3 N k_B), in one cell."""
    drive = Electrons(plan((1, 1, 1), 1e-9, 1e-9, capacity=ConstantCapacity(1e6)))
    s = simulation(drive)
    drive.begin(s)
    v = s.atoms.v.copy()
    drive.after(s.atoms, StepTime(0, 0.0, 4.0))
    rate = 1e-9 * TRICLINIC.volume / (3 * 40 * KB)
    np.testing.assert_allclose(s.atoms.v, np.exp(-rate * 4.0) * v, atol=1e-9)
    lost = 0.5 * MASS[0] * (v**2 - s.atoms.v**2).sum() / ACCELERATION
    assert drive.work == pytest.approx(-lost, rel=1e-10)
