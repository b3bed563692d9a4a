"""What acts from outside: the conserved quantity of a driven run, columns, and a restart in the middle."""

import numpy as np
from mpi4py import MPI

from rxmdnn.dynamics.drive import Drive
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.system import System
from tests.runs import steps
from tests.systems import TRICLINIC, argon, share, spread_atoms

SELF = MPI.COMM_SELF
MASS = np.array([39.95])


class Swing(Drive):
    """Pushes even atoms along x and odd ones against it, with a strength (eV/Å) that swings in time."""

    name, column_names = "swing", ("strength_eV_per_A",)

    strength = 0.0

    def begin(self, simulation):
        self.simulation = simulation

    def before(self, atoms, now):
        n = atoms.n_owned
        new = 0.01 * np.sin(2 * np.pi * now.time / 300.0)
        atoms.f[:n, 0] += (new - self.strength) * self.sign(atoms)
        self.strength, self.first = new, self.along(atoms)

    def after(self, atoms, now):
        self.work += self.strength * (self.along(atoms) - self.first)

    def add_forces(self, atoms):
        atoms.f[: atoms.n_owned, 0] += self.strength * self.sign(atoms)

    def virial(self):
        return np.diag([self.strength * self.along(self.simulation.atoms), 0.0, 0.0])

    def columns(self):
        return {"strength_eV_per_A": self.strength}

    def state(self):
        return {"strength": self.strength}

    def resume(self, state):
        self.strength = state["strength"]

    def sign(self, atoms):
        return np.where(atoms.gid[: atoms.n_owned] % 2, -1.0, 1.0)

    def along(self, atoms):
        """Å: the sum of the unwrapped x, odd atoms counted negative."""
        n = atoms.n_owned
        return float(self.sign(atoms) @ (atoms.x[:n] + atoms.image @ self.simulation.cell.h)[:, 0])


def driven(drives, stop, dt=2.0, begin=None):
    x = spread_atoms(TRICLINIC, 40, 2.9)
    atoms = share(SELF, x, np.zeros(40, np.int32))
    system = System(argon(), TRICLINIC, atoms, comm=SELF)
    schedule = Schedule(dt, stop, 1, (0.0, 0.0), 1.0, 0, 10, 1)
    s = Simulation(SELF, system.backend, system.domain, system.forces, system.atoms, MASS, schedule, 40)
    s.drives, s.forces.added = drives, list(drives)
    if begin:
        begin(s)
    return s


def test_conserved_quantity_of_a_driven_run_is_as_flat_as_without():
    flat = {}
    for name, drives in (("driven", [Swing()]), ("free", [])):
        rows = steps(driven(drives, 400))
        conserved, total = (np.array([getattr(r, key) for r in rows]) for key in ("conserved", "total"))
        flat[name] = np.ptp(conserved[1:])
        assert name == "free" or np.ptp(total) > 20 * flat[name]
    assert flat["driven"] < 3 * flat["free"] + 1e-12


def test_forces_and_virial_of_a_drive_are_added_to_those_of_the_potential():
    s = driven([swing := Swing()], 5)
    swing.begin(s)
    s.forces.compute(s.atoms)
    f, virial = s.atoms.f[:40].copy(), s.forces.virial()
    swing.strength = 0.5
    s.forces.compute(s.atoms)
    np.testing.assert_allclose(s.atoms.f[:40, 0] - f[:, 0], 0.5 * swing.sign(s.atoms), atol=1e-12)
    np.testing.assert_allclose(s.forces.virial() - virial, np.diag([0.5 * swing.along(s.atoms), 0, 0]), atol=1e-12)
    assert s.thermo().driven == {"work_swing_eV": 0.0, "strength_eV_per_A": 0.5, "work_ensemble_eV": 0.0}
    assert list(s.thermo().driven) == s.driven_columns


def test_a_run_continues_from_the_state_of_its_drive_to_the_bit():
    whole = driven([Swing()], 40)
    states = {}

    def keep(thermo):
        a, n = whole.atoms, whole.atoms.n_owned
        states[thermo.step] = ([getattr(a, k)[:n].copy() for k in ("gid", "species", "x", "v", "image", "f")],
                               whole.drives[0].saved(SELF))
        whole.rebuild(thermo)
    whole.writers = [(20, keep)]
    rows = steps(whole)

    arrays, saved = states[20]
    swing = Swing()
    swing.continue_from(saved, SELF)
    again = driven([swing], 40)
    for key, array in zip(("gid", "species", "x", "v", "image", "f"), arrays):
        setattr(again.atoms, key, array.copy())
    again.atoms.n_owned = 40
    again.forces.forget()
    again.step = 20
    rest = steps(again, restarted=True)
    assert [r.conserved for r in rest] == [r.conserved for r in rows if r.step > 20]
    assert rest[-1].driven == rows[-1].driven
