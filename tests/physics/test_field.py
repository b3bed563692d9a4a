"""Electric fields against exact answers: free ions, work, conservation, virial, oscillators classical and quantum."""

import ase
import numpy as np
import pytest
from mpi4py import MPI

import rxmdnn
from rxmdnn.atoms import CHARGES
from rxmdnn.cell import Cell
from rxmdnn.deck.fields import FieldLine
from rxmdnn.dynamics.ensembles import Barostat, StrainSchedule, make
from rxmdnn.dynamics.minimize import ConjugateGradient, Fire
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.excitation.charges import Charges
from rxmdnn.excitation.field import ElectricField
from rxmdnn.excitation.field_shapes import total
from rxmdnn.fidelity.guard import SavedState
from rxmdnn.models.pair import Null
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.forces import RingForces, U
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.units import ACCELERATION, GPA_PER_EV_A3, HBAR, KB
from tests.runs import steps
from tests.systems import TRICLINIC, argon, share, spread_atoms

SELF = MPI.COMM_SELF
MASS = np.array([20.18, 39.95])
ELEMENTS = ("Ne", "Ar")
SCALARS = np.array([0.6, -0.6])[:, None, None] * np.eye(3)
TENSORS = np.array([1.0, -1.0])[:, None, None] * np.array([[0.6, 0.1, -0.2], [0.3, 0.5, 0.0], [0.0, -0.1, 0.9]])
PULSE = FieldLine("pulse", np.array([0.02, -0.03, 0.05]), {"t0": 90.0, "FWHM": 60.0, "frequency": 9.0, "phase": 30.0})
SINE = FieldLine("sine", np.array([0.01, 0.0, -0.02]), {"frequency": 4.0, "phase": 10.0})
STEADY = FieldLine("constant", np.array([0.03, 0.02, -0.05]))


class Bonds:
    """Springs E = k r²/2 between all pairs nearer than the cutoff."""

    elements = ELEMENTS
    cutoff = np.full((2, 2), 4.0)

    def __init__(self, k):
        self.k = k

    def compute(self, edges, species):
        e_i = np.bincount(edges.center, self.k / 4 * (edges.r_ij**2).sum(axis=1), minlength=len(edges.first) - 1)
        return e_i, self.k / 2 * edges.r_ij


def simulation(lines, potential=None, charges=SCALARS, n=40, cell=TRICLINIC, x=None, dt=2.0, stop=200, temperature=60.0,
               make_forces=None):
    x = spread_atoms(cell, n, 2.9) if x is None else x
    species = (np.arange(len(x)) % 2).astype(np.int32)
    settings = {} if make_forces is None else {"make_forces": make_forces}
    system = System(potential or argon(elements=ELEMENTS), cell, share(SELF, x, species), comm=SELF, **settings)
    schedule = Schedule(dt, stop, 1, (temperature,) * 2, 1.0, 0, 1, 1)
    s = Simulation(SELF, system.backend, system.domain, system.forces, system.atoms, MASS, schedule, len(x))
    s.kinetics.draw(s.atoms, temperature, 5, 0)
    if charges is not None:
        field = ElectricField(Charges(charges), lines)
        s.drives, s.forces.added = [field], [field]
    return s


@pytest.mark.parametrize("charges", [SCALARS, TENSORS], ids=["numbers", "tensors"])
def test_a_free_ion_has_the_exact_velocity_of_the_field(charges):
    """v(t) - v(0) = Z/m ∫E dt at the end of every step, and work = ΔK to rounding."""
    s = simulation([PULSE, SINE], Null(ELEMENTS, 1.0), charges, temperature=30.0)
    v0, e0, states = s.atoms.v[np.argsort(s.atoms.gid[:40])].copy(), s.kinetics.energy(s.atoms), []
    s.writers = [(1, lambda thermo: states.append((thermo.time, s.atoms.v[np.argsort(s.atoms.gid[:40])].copy(),
                                                   thermo)))]
    steps(s)
    for time, v, thermo in states:
        impulse = time * total([PULSE, SINE], 0.0, time) if time else np.zeros(3)
        exact = v0 + ACCELERATION * (charges @ impulse / MASS[:, None])[np.arange(40) % 2]
        np.testing.assert_allclose(v, exact, atol=2e-13)
        assert thermo.driven["work_field_eV"] == pytest.approx(thermo.kinetic - e0, abs=1e-12 * 40)
        assert thermo.conserved == pytest.approx(e0, abs=1e-12 * 40)
    assert len(states) == 201 and abs(thermo.kinetic - e0) > 1e-3


def ensemble_of(s, kind):
    if kind == "nve":
        return s.ensemble
    if kind == "strain":
        barostat = StrainSchedule(s.motion(), np.array([0.02, 0.0, -0.01]), np.array([0.0, 1.0, 0.0]), 0, 200)
        return type(s.ensemble)(s.motion(), 0.0, barostat)
    thermostat, _, of_cell = kind.partition("+")
    barostat = Barostat(of_cell, 200.0, "full", 0.5 * GPA_PER_EV_A3) if of_cell else None
    return make(s.motion(), thermostat, 100.0, barostat)


@pytest.mark.parametrize("kind", ["nve", "strain", "nose-hoover", "svr", "langevin", "svr+scr", "nose-hoover+mtk"])
def test_the_conserved_quantity_is_as_flat_as_without_a_field(kind):
    flat, short = {}, {"dt": 1.0, "stop": 400} if kind == "nose-hoover+mtk" else {}
    for name, lines in (("driven", [PULSE, SINE]), ("free", None)):
        s = simulation(lines or [], charges=SCALARS if lines else None, **short)
        s.ensemble = ensemble_of(s, kind)
        rows = steps(s)
        conserved = np.array([r.conserved for r in rows])
        flat[name] = np.ptp(conserved[1:])
        if lines:
            assert np.ptp([r.driven["work_field_eV"] for r in rows]) > 3 * flat[name]
    assert flat["driven"] < 1.1 * flat["free"]


@pytest.mark.parametrize("charges", [SCALARS, TENSORS], ids=["numbers", "tensors"])
def test_the_virial_is_the_strain_of_the_energy_of_the_field(charges):
    s = simulation([STEADY], charges=charges)
    (field,) = s.drives
    field.begin(s)
    s.forces.compute(s.atoms)
    assert np.abs(field.virial()).max() < 1e-12  # the start is its own reference, whatever its images
    s.atoms.x[:40] += 0.4 * np.random.default_rng(2).normal(size=(40, 3))
    s.forces.stale = True
    s.forces.compute(s.atoms)
    w, motion, h = field.virial(), s.ensemble.motion, 1e-5
    for a in range(3):
        for b in range(3):
            energies = []
            for way in (1.0, -1.0):
                by = np.eye(3)
                by[a, b] += way * h
                motion.deform(s.atoms, by)
                energies.append(field.energy())
                motion.deform(s.atoms, np.linalg.inv(by))
            assert w[a, b] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=1e-9)
    without = s.forces.virial() - w
    s.forces.added = []
    np.testing.assert_allclose(without, s.forces.virial(), atol=1e-12)


def test_polarization_current_and_images():
    """P - P(0) = Σ Z u whatever the periods crossed; the current is its derivative."""
    s = simulation([], Null(ELEMENTS, 1.0), TENSORS, temperature=300.0, stop=500, dt=10.0)
    v = s.atoms.v[np.argsort(s.atoms.gid[:40])].copy()
    exact = np.einsum("nab,na->b", TENSORS[np.arange(40) % 2], v)
    last = steps(s)[-1].driven
    p = [last[f"polarization_{a}_eA"] for a in "xyz"]
    np.testing.assert_allclose([last[f"current_{a}_eA_fs"] for a in "xyz"], exact, rtol=1e-12)
    np.testing.assert_allclose(p, exact * 5000.0, rtol=1e-11)
    assert np.abs(s.atoms.image).max() > 1
    np.testing.assert_allclose([last[f"polarization_{a}_C_m2"] for a in "xyz"],
                               np.array(p) * 1.602176634e-19 * 1e-10 / (TRICLINIC.volume * 1e-30), rtol=1e-12)


def dimers(n=4, apart=12.0, length=0.1):
    """Cell and positions of n³ dimers."""
    sites = np.array(list(np.ndindex(n, n, n)), float) * apart + 3.0
    x = np.repeat(sites, 2, axis=0)
    x[1::2, 0] += length
    return Cell(np.eye(3) * n * apart), x


@pytest.mark.parametrize("charges", [SCALARS, TENSORS], ids=["numbers", "tensors"])
@pytest.mark.parametrize("method", ["cg", "fire"])
def test_minimization_in_a_field_stretches_an_oscillator_by_z_e_over_k(method, charges):
    k, (cell, x) = 2.0, dimers(2)
    s = simulation([STEADY], Bonds(k), charges, cell=cell, x=x)
    s.drives[0].begin(s)
    iterations = (ConjugateGradient(s.domain, s.forces, s.atoms, 1e-14) if method == "cg" else
                  Fire(s.domain, s.forces, s.atoms, 1e-8))
    energies = [s.forces.enthalpy() for _ in iterations]
    order = np.argsort(s.atoms.gid[: s.n_global])
    found = s.atoms.x[: s.n_global][order]
    force = charges[1] @ STEADY.strength
    np.testing.assert_allclose(found[1::2] - found[::2], np.tile(force / k, (8, 1)), atol=1e-5)
    assert (np.diff(energies) < 1e-12).all() or method == "fire"
    shift = force / k - np.array([0.1, 0.0, 0.0])
    exact = 8 * (0.5 * k * (force / k) @ (force / k) - shift @ charges[1] @ STEADY.strength)
    assert s.forces.enthalpy() == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize("beads", [1, 6])
def test_path_integrals_of_an_oscillator_are_shifted_as_a_whole(beads):
    """<r> = Z E/k for any number of beads; the fluctuations are those without a field."""
    k, t, (cell, x) = 0.5, 60.0, dimers(4, 10.0)
    found = {}
    for name, lines in (("field", [STEADY]), ("none", [])):
        s = simulation(lines, Bonds(k), TENSORS, cell=cell, x=x, dt=2.0, stop=0, temperature=t,
                       make_forces=lambda domain, neighbors, potential, timers: RingForces(
                           domain, neighbors, potential, timers, beads, 8.0))
        s.ensemble = RingPolymer(make(s.motion(), "langevin", 26.0), Modes(beads), t, "pimd")
        s.schedule.stop, s.schedule.pstep, means, squares = 1000, 0, [], []
        for step in s.steps(False):
            if step > 420 and step % 2 == 0:
                order = np.argsort(s.atoms.gid[: s.n_global])
                modes = np.concatenate([s.atoms.x[: s.n_global, None], s.atoms.extra[U]], axis=1)[order]
                q = np.einsum("jk,nkc->njc", Modes(beads).to_beads, modes)
                r = q[1::2] - q[::2]
                means.append(r.mean(axis=(0, 1)))
                squares.append((r**2).mean(axis=(0, 1)))
        found[name] = np.mean(means, axis=0), np.mean(squares, axis=0)
    reduced = MASS.prod() / MASS.sum()
    energy = HBAR * np.sqrt(k * ACCELERATION / reduced) / (KB * t) / (2 * beads)
    exact = KB * t / k * (2 * beads * energy) * 0.5 / np.tanh(beads * np.arcsinh(energy)) / np.sqrt(1 + energy**2)
    shift = TENSORS[1] @ STEADY.strength / k
    np.testing.assert_allclose(found["field"][0] - found["none"][0], shift, atol=1e-5)  # the same noise
    for name in found:
        mean = shift * (name == "field")
        np.testing.assert_allclose(found[name][1] - 2 * found[name][0] * mean + mean**2, exact, rtol=0.1)


def test_charges_of_atoms_are_those_of_their_elements():
    """The same trajectory by columns of atoms as by elements, of numbers and of tensors."""
    ends = []
    for charges, column in ((SCALARS, None), (None, SCALARS[:, 0, 0]), (None, SCALARS.reshape(2, 9))):
        s = simulation([PULSE], charges=None, stop=40)
        if column is not None:
            s.atoms.extra[CHARGES] = column[s.atoms.species[:40]]
        field = ElectricField(Charges(charges), [PULSE])
        s.drives, s.forces.added = [field], [field]
        last = steps(s)[-1]
        order = np.argsort(s.atoms.gid[:40])
        ends.append((s.atoms.x[:40][order], last.driven["work_field_eV"], last.driven["polarization_z_eA"]))
    for x, work, p in ends[1:]:
        np.testing.assert_allclose(x, ends[0][0], atol=1e-12)
        assert (work, p) == pytest.approx(ends[0][1:], abs=1e-12)


def test_fields_from_a_python_program():
    """charges="structure" are those of the ASE atoms."""
    x = spread_atoms(TRICLINIC, 40, 2.9)
    atoms = ase.Atoms([ELEMENTS[k % 2] for k in range(40)], x, cell=TRICLINIC.h, pbc=True)
    atoms.set_initial_charges([0.5 if k % 2 else -0.5 for k in range(40)])
    tables = [rxmdnn.simulate(atoms, argon(elements=ELEMENTS), 20, dt=2.0, temperature=60.0, every=5, comm=SELF,
                              field=[("sine", "z", 0.05, 4), ("constant", 1, 1, 0, 0.01)], charges=charges)[1]
              for charges in ("structure", [("Ne", -0.5), ("Ar", 0.5)])]
    for name in tables[0]:
        if name not in ("seconds", "spread_energy_eV", "spread_force_eV_A"):
            np.testing.assert_allclose(tables[0][name], tables[1][name], atol=1e-10, err_msg=name)
    assert abs(tables[0]["work_field_eV"][-1]) > 1e-5
    with pytest.raises(InputError, match="no charges: neither a column born_charges, initial_charges, charges"):
        rxmdnn.simulate(ase.Atoms("Ne2", x[:2], cell=TRICLINIC.h, pbc=True), argon(elements=ELEMENTS), 2, comm=SELF,
                        charges="structure")


def test_a_minimization_keeps_the_charges_of_atoms():
    x = spread_atoms(TRICLINIC, 40, 2.9)
    atoms = ase.Atoms([ELEMENTS[k % 2] for k in range(40)], x, cell=TRICLINIC.h, pbc=True)
    atoms.set_initial_charges([0.5 if k % 2 else -0.5 for k in range(40)])
    _, table = rxmdnn.simulate(atoms, argon(elements=ELEMENTS), 300, every=10, comm=SELF, mdmode=10,
                               minimizer=("fire", 0.01), field=("constant", "y", 0.02), charges="structure")
    assert table["polarization_y_eA"][-1] > 0.0


def test_a_run_that_is_set_back_repeats_itself():
    """As fidelity heal does it."""
    s = simulation([PULSE], stop=100)
    rows = []
    s.on_print = rows.append
    moves = iter(s.steps(False))
    for _ in range(30):
        next(moves)
    saved = SavedState.of(s)
    for _ in range(20):
        next(moves)
    first = [(r.step, r.conserved, r.driven) for r in rows if r.step > 30]
    rows.clear()
    saved.restore(s)
    for _ in range(20):
        next(moves)
    assert [(r.step, r.conserved, r.driven) for r in rows] == first
