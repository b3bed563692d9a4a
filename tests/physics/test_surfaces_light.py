"""Light on a mixed surface: displaced wells, work and heat, weights by place and their force, what is conserved."""

import numpy as np
import pytest

from rxmdnn.atoms import EXCITATION
from rxmdnn.cell import Cell
from rxmdnn.dynamics.drive import Drive
from rxmdnn.dynamics.ensembles import Barostat, make
from rxmdnn.excitation.illumination import Beam, Pulse
from rxmdnn.excitation.lattice_heat import LatticeHeat
from rxmdnn.excitation.light_plan import LightPlan
from rxmdnn.excitation.pulses import FlatPulse, GaussianPulse, TablePulse
from rxmdnn.excitation.regions import Slab, Sphere
from rxmdnn.excitation.surfaces import MixedSurface
from rxmdnn.fidelity.guard import SavedState
from rxmdnn.units import ACCELERATION
from tests.device import DEVICES, find
from tests.excited import CALM, MASS, lit
from tests.runs import steps
from tests.systems import TRICLINIC

REGIONS = (Slab(2, 0.5, 1.5, 2.5), Sphere((0.2, 0.1, 0.4), 1.0, 3.0))
GAUSS = Pulse(GaussianPulse(200.0, 80.0), 0.6)
BEAM = Beam(np.array([0.0, 0.6, -0.8]), depth=8.0, spot=(6.0, (0.5, 0.5, 0.5)))


class Spring:
    """E = k/2 (r - r_0)² of every pair in reach, half of it on each of its edges."""

    def __init__(self, k, r_0):
        self.k, self.r_0, self.elements, self.cutoff = k, r_0, ("Ar",), np.full((1, 1), 5.0)

    def compute(self, edges, species):
        r = np.linalg.norm(edges.r_ij, axis=1)
        e_i = np.bincount(edges.center, self.k / 4 * (r - self.r_0) ** 2, len(edges.first) - 1)
        return e_i, (self.k / 2 * (r - self.r_0) / r)[:, None] * edges.r_ij


def test_displaced_wells():
    """A pair at rest in the ground state is excited within one step: x(t) = x_1 (1 - cos ωt)."""
    k, r_0, x_1, m = 2.0, 3.0, 0.1, 40.0
    omega = np.sqrt(k * ACCELERATION / (m / 2))
    dt = 0.004 / omega
    s = lit(LightPlan(pulses=[Pulse(TablePulse(np.array([0.0, 0.5 * dt]), np.ones(2)), 1.0)]),
            surface=MixedSurface(Spring(k, r_0), Spring(k, r_0 + x_1)), cell=Cell(20.0 * np.eye(3)),
            x=np.array([[5.0, 5.0, 5.0], [5.0 + r_0, 5.0, 5.0]]), species=np.zeros(2, np.int32), mass=np.array([m]),
            elements=("Ar",), dt=dt, stop=2000, every=2000, temperature=0.0)
    found = []
    rows = steps(s, lambda: found.append(float(np.ptp(s.atoms.x[:2, 0])) - r_0))
    t = dt * np.arange(1, 2001)
    np.testing.assert_allclose(found, x_1 * (1 - np.cos(omega * t)), atol=1e-6)
    assert max(found) == pytest.approx(2 * x_1, abs=1e-6)
    assert s.drives[0].work == pytest.approx(0.5 * k * x_1**2, abs=1e-12)
    assert rows[-1].conserved == pytest.approx(0.0, abs=1e-6) and rows[-1].total == pytest.approx(0.01, abs=1e-6)


# ---------------------------------------------------------------------- what is conserved
PLANS = {
    "pulse": LightPlan(pulses=[GAUSS]),
    "beam": LightPlan(pulses=[GAUSS, Pulse(GaussianPulse(260.0, 30.0), 0.01, is_rate=True)], beam=BEAM, least=1e-3),
    "decay": LightPlan(pulses=[GAUSS], lifetime=150.0),
    "start": LightPlan(start=0.7, regions=(Slab(0, 0.5, 3.0, 0.0),), lifetime=300.0),
    "place": LightPlan(by_place=True, start=1.0, regions=REGIONS),
    "place and pulse": LightPlan(by_place=True, regions=REGIONS, pulses=[Pulse(FlatPulse(200.0, 150.0, 50.0), 0.8)]),
    "everywhere": LightPlan(by_place=True, start=0.1, pulses=[GAUSS]),
}


@pytest.mark.parametrize("name", PLANS)
def test_energy_less_the_work_of_light_is_conserved(name):
    """As flat as with frozen weights; and Σ f = 0, but for places."""
    plan = PLANS[name]
    s, worst = lit(plan, stop=200), [0.0]

    def look():
        worst[0] = max(worst[0], float(np.abs(s.atoms.f[: s.atoms.n_owned].sum(axis=0)).max()))

    rows = steps(s, look)
    flat, changes = (np.ptp([getattr(row, what) for row in rows]) for what in ("conserved", "total"))
    assert worst[0] < 1e-12 or plan.by_place
    frozen = np.ptp([row.conserved for row in steps(lit(LightPlan(start=0.5), stop=200))])
    assert flat < 3 * frozen and (changes > 50 * flat or name in ("place", "start"))  # a decay only heats
    light = rows[-1].driven
    assert light["work_light_eV"] == pytest.approx(light["absorbed_light_eV"], abs=1e-12)  # nothing is owed


def test_the_virial_that_a_barostat_keeps_changes_with_the_weights():
    """As flat as before a jump of all weights, although the pressure jumps with them."""
    jump = Pulse(TablePulse(np.array([200.0, 201.0]), np.ones(2)), 1.0)
    s = lit(LightPlan(pulses=[jump]), stop=200)
    s.schedule.ramp = (60.0, 60.0)
    s.ensemble = make(s.motion(), "svr", 100.0, Barostat("scr", 200.0, "isotropic", 80.0))
    rows = steps(s)
    conserved, pressure = (np.array([getattr(row, what) for row in rows]) for what in ("conserved", "pressure"))
    at = int(np.argmax(np.abs(np.diff(pressure))))
    assert abs(pressure[at + 1] - pressure[at]) > 20 * np.abs(np.diff(pressure[:at])).max()
    assert abs(conserved[at + 1] - conserved[at]) < 3 * np.abs(np.diff(conserved[:at])).max()


def test_weights_are_those_of_the_rate_equation_and_travel_with_their_atoms():
    s = lit(PLANS["pulse"], stop=250, every=250)
    rows = steps(s)
    np.testing.assert_allclose(s.atoms.extra[EXCITATION], 0.6, atol=1e-9)
    assert rows[-1].driven["excited_atoms"] == pytest.approx(24.0, abs=1e-7)
    assert rows[-1].driven["excitation_Ne"] == pytest.approx(0.6, abs=1e-9)
    decaying = lit(LightPlan(start=0.7, regions=(Slab(0, 0.5, 3.0, 0.0),), lifetime=300.0), stop=250, every=250)
    decaying.drives[0].begin(decaying)
    first = dict(zip(decaying.atoms.gid.tolist(), decaying.atoms.extra[EXCITATION].tolist()))
    assert set(first.values()) == {0.0, 0.7}
    steps(decaying)
    for gid, w in zip(decaying.atoms.gid, decaying.atoms.extra[EXCITATION]):
        assert w == pytest.approx(first[int(gid)] * np.exp(-500.0 / 300.0), abs=1e-12)


def test_only_the_answers_of_excited_atoms_are_asked_for_and_once_per_step():
    asked = []

    class Counted(Spring):
        def compute(self, edges, species):
            asked.append((self.r_0, len(edges.first) - 1))
            return super().compute(edges, species)

    surface = MixedSurface(Counted(0.05, 3.3), Counted(0.05, 3.2))
    plan = LightPlan(pulses=[Pulse(FlatPulse(21.0, 10.0, 2.0), 0.5)], regions=(Slab(2, 0.5, 3.0, 0.0),))
    s = lit(plan, surface=surface, species=np.zeros(40, np.int32), mass=MASS[:1], elements=("Ar",), stop=20, every=20)
    steps(s)
    inside = int((s.atoms.extra[EXCITATION] > 0).sum())
    assert 0 < inside < 40
    assert asked.count((3.3, 40)) == 21 and len([n for r, n in asked if r == 3.3]) == 21
    excited = [n for r, n in asked if r == 3.2]
    assert set(excited) == {inside} and 12 <= len(excited) <= 14  # from the start of the pulse at 15 fs


@pytest.mark.parametrize("name", ["decay", "place and pulse"])
def test_a_run_that_goes_back_repeats_its_bits(name):
    """As after a failure that is healed."""
    s, found = lit(PLANS[name], stop=80, every=80), []
    taken = s.steps(restarted=False)
    for _ in range(60):
        next(taken)
    saved = SavedState.of(s)
    for _ in range(2):
        for _ in range(20):
            s.advance()
        found.append((s.atoms.x.tobytes(), s.atoms.extra[EXCITATION].tobytes(), s.drives[0].total_work(s.comm),
                      s.drives[0].columns()))
        saved.restore(s)
    assert found[0] == found[1]


# ---------------------------------------------------------------------- decay
def test_heat_of_decay_keeps_momentum_and_energy_of_each_part():
    s = lit(PLANS["decay"])
    s.drives[0].begin(s)
    atoms, heat = s.atoms, s.drives[0].heat
    assert isinstance(heat, LatticeHeat)
    free = np.random.default_rng(6).normal(0.0, 0.01, 40)
    m = MASS[atoms.species[:40]]
    before = s.kinetics.energy(atoms), m @ atoms.v[:40]
    given = heat.give(atoms, s.cell, free)
    assert s.kinetics.energy(atoms) - before[0] == pytest.approx(given, abs=1e-14)
    assert given == pytest.approx(free.sum(), abs=1e-14) and not heat.owed.any()
    np.testing.assert_allclose(m @ atoms.v[:40], before[1], atol=1e-13)


def test_atoms_at_rest_are_owed_their_heat_and_no_part_is_stopped():
    s = lit(PLANS["decay"], temperature=0.0)
    s.drives[0].begin(s)
    heat, half = s.drives[0].heat, np.full(40, 0.01)
    assert heat.give(s.atoms, s.cell, half) == 0.0 and heat.owed.sum() == pytest.approx(0.4)
    assert not s.atoms.v.any()
    s.kinetics.draw(s.atoms, 60.0, 1, 0)
    before = s.kinetics.energy(s.atoms)
    assert heat.give(s.atoms, s.cell, -half) == pytest.approx(0.0, abs=1e-14) and not heat.owed.any()
    taken = heat.give(s.atoms, s.cell, np.full(40, -1.0))
    assert -taken < before and s.kinetics.energy(s.atoms) == pytest.approx(before + taken, abs=1e-12)
    assert heat.owed.sum() + taken == pytest.approx(-40.0)


class Bath(Drive):
    """Stands for electrons."""

    name, taken = "electrons", 0.0

    def deposit(self, atoms, energy):
        assert energy.shape == (atoms.n_owned,)
        self.taken += float(energy.sum())


def test_electrons_take_what_decays():
    s = lit(LightPlan(pulses=[GAUSS], lifetime=100.0, heat_to="electrons"), stop=250, every=50)
    s.drives.append(bath := Bath())
    rows = steps(s)
    light = rows[-1].driven
    assert light["absorbed_light_eV"] == pytest.approx(light["work_light_eV"] + bath.taken, abs=1e-12)
    assert light["decayed_light_eV"] == pytest.approx(bath.taken, abs=1e-12) and abs(bath.taken) > 0.05
    assert np.ptp([row.conserved for row in rows]) < 1e-3 * abs(bath.taken)


# ---------------------------------------------------------------------- weights by place
def energy_and_force(cell, x, name="cpu"):
    s = lit(LightPlan(by_place=True, start=0.9, regions=REGIONS), cell=cell, x=x, stop=0, temperature=0.0)
    s.drives[0].begin(s)
    s.forces.compute(s.atoms)
    f = np.empty((40, 3))
    f[s.atoms.gid[:40]] = s.atoms.f[:40]
    return s.forces.energy(), f, s.forces.virial()


def test_the_force_of_a_weight_by_place_is_minus_the_gradient():
    _, f, _ = energy_and_force(TRICLINIC, CALM)
    assert np.abs(f.sum(axis=0)).max() > 1e-3
    h = 1e-4
    for i in range(0, 40, 5):
        for k in range(3):
            e = []
            for step in (-2, -1, 1, 2):
                moved = CALM.copy()
                moved[i, k] += step * h
                e.append(energy_and_force(TRICLINIC, moved)[0])
            numeric = -(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
            assert abs(numeric - f[i, k]) < 1e-6 * np.abs(f).max()


def test_the_virial_of_a_weight_by_place_is_minus_the_strain_derivative():
    virial = energy_and_force(TRICLINIC, CALM)[2]
    h = 1e-5
    for a, b in [(0, 0), (1, 1), (2, 2), (0, 1), (2, 1)]:
        e = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h
            e.append(energy_and_force(Cell(TRICLINIC.h @ strain), CALM @ strain)[0])
        assert -(e[0] - e[1]) / (2 * h) == pytest.approx(0.5 * (virial[a, b] + virial[b, a]), abs=2e-6)


# ---------------------------------------------------------------------- devices
@DEVICES
@pytest.mark.parametrize("plan", ["beam", "decay", "place and pulse"])
def test_the_same_on_a_device(plan, name):
    here, there = (steps(lit(PLANS[plan], backend=backend, stop=120, every=40)) for backend in (None, find(name)))
    for a, b in zip(here, there, strict=True):
        assert b.conserved == pytest.approx(a.conserved, abs=1e-9)
        assert b.driven == pytest.approx(a.driven, abs=1e-9)
