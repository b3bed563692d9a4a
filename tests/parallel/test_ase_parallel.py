"""The ASE calculator: its forces and stress are the derivatives of its energy, whatever the cell and the ranks."""

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.eos import EquationOfState
from ase.md.verlet import VelocityVerlet
from ase.mep import NEB
from ase.optimize import BFGS, FIRE
from ase.phonons import Phonons
from ase.units import fs
from mpi4py import MPI

from rxmdnn import Calculator, InputError, simulate
from rxmdnn.models.mixture import Mixture
from tests.systems import TRICLINIC, allegro, argon, spread_atoms

COMM = MPI.COMM_WORLD
pytestmark = pytest.mark.skipif(COMM.size > 4, reason="up to 4 ranks will do")
ELEMENTS = ("Ar", "Ne")


def network(seed=0):
    return allegro(ELEMENTS, "float64", 5.0, seed=seed)


def crystal(h, n, pbc, seed=1):
    x = spread_atoms(TRICLINIC if h is None else h, n, 2.2, seed)
    cell = TRICLINIC.h if h is None else h.h
    return Atoms(["Ne" if k % 3 else "Ar" for k in range(n)], positions=x, cell=cell, pbc=pbc)


SYSTEMS = {
    "triclinic": lambda: crystal(None, 24, True),
    "slab": lambda: crystal(None, 24, (True, True, False)),
    "wire": lambda: crystal(None, 24, (False, False, True)),
    "molecule without a cell": lambda: Atoms("ArNe3", positions=[[0, 0, 0], [2.1, 0, 0], [0, 2.3, 0], [0.3, 0.4, 2.2]]),
    "surface without a third vector": lambda: Atoms(
        "ArNe2", positions=[[0, 0, 0], [1.9, 0.2, 0.1], [0.3, 2.0, 3.1]], cell=[[4, 0, 0], [1, 4, 0], [0, 0, 0]],
        pbc=(True, True, False)),
    "cell smaller than the cutoff": lambda: Atoms(
        "ArNe3", positions=[[0.1, 0, 0], [1.9, 0.1, 0.2], [0.2, 2.0, 0.1], [0.1, 0.2, 2.2]], pbc=True,
        cell=[[3.9, 0, 0], [0.5, 4.1, 0], [-0.3, 0.4, 4.3]]),
    "atoms outside the cell": lambda: (a := crystal(None, 24, True), a.translate((40.0, -35.0, 1.0)))[0],
}


def finite_differences(atoms, calculator, rows, step=1e-4):
    out = np.zeros((len(rows), 3))
    for i, row in enumerate(rows):
        for a in range(3):
            energy = {}
            for sign in (1, -1):
                moved = atoms.copy()
                moved.positions[row, a] += sign * step
                moved.calc = calculator
                energy[sign] = moved.get_potential_energy()
            out[i, a] = -(energy[1] - energy[-1]) / (2 * step)
    return out


@pytest.mark.parametrize("name", SYSTEMS)
def test_forces_are_the_gradient_of_the_energy(name):
    atoms = SYSTEMS[name]()
    atoms.calc = Calculator(network(), skin=0.4)
    rows = np.arange(0, len(atoms), max(1, len(atoms) // 3))
    forces = atoms.get_forces()
    expected = finite_differences(atoms, Calculator(network(), skin=0.4), rows)
    np.testing.assert_allclose(forces[rows], expected, atol=1e-6)
    np.testing.assert_allclose(forces.sum(axis=0), 0.0, atol=1e-10)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-10)


@pytest.mark.parametrize("name", [n for n in SYSTEMS if "without" not in n])
def test_stress_is_the_derivative_by_strain(name):
    atoms, step = SYSTEMS[name](), 1e-5
    calculator = Calculator(network(), skin=0.4)
    atoms.calc = calculator
    stress, x, h = atoms.get_stress(voigt=False), atoms.positions.copy(), np.array(atoms.cell)
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2)):
        energy = {}
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = Atoms(atoms.symbols, x @ strain, cell=h @ strain, pbc=atoms.pbc, calculator=calculator)
            energy[sign] = strained.get_potential_energy()
        assert stress[i, j] == pytest.approx((energy[1] - energy[-1]) / (2 * step * atoms.get_volume()), abs=1e-8)


@pytest.mark.parametrize("name", SYSTEMS)
def test_all_ranks_have_the_answer_of_one(name):
    atoms, alone = SYSTEMS[name](), SYSTEMS[name]()
    atoms.calc, alone.calc = Calculator(network(), skin=0.4), Calculator(network(), skin=0.4, comm=MPI.COMM_SELF)
    for _ in range(3):
        assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), atol=1e-10)
        same = COMM.bcast(atoms.get_forces())
        assert (atoms.get_forces() == same).all()
        for one in (atoms, alone):
            one.rattle(0.15, seed=3)


def test_the_list_is_kept_until_atoms_move_or_are_others():
    atoms = SYSTEMS["triclinic"]()
    calculator = atoms.calc = Calculator(network(), skin=1.0)

    def fresh():
        other = atoms.copy()
        other.calc = Calculator(network(), skin=1.0)
        return other.get_potential_energy(), other.get_forces()

    def agrees():
        energy, forces = fresh()
        assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
        np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-10)

    agrees()
    atoms.rattle(0.05, seed=1)
    agrees()
    assert calculator.system.forces.builds == 1
    atoms.positions[3] += atoms.cell[0]  # a whole period: the same system, a new list at most
    agrees()
    atoms.set_cell(np.array(atoms.cell) * 1.02, scale_atoms=True)
    agrees()
    atoms.set_cell(np.array(atoms.cell) @ np.array([[1, 0.2, 0], [0, 0.9, 0], [0, 0, 1.1]]), scale_atoms=True)
    agrees()
    atoms.translate((1e7, 0.0, 0.0))
    atoms.translate((-1e7, 0.0, 0.0))
    agrees()
    atoms.append("Ne")
    atoms.positions[-1] = atoms.positions[:-1].mean(axis=0) + 0.3
    agrees()
    atoms.pbc = (True, False, True)
    agrees()
    del atoms[0]
    agrees()
    calculator.calculate(SYSTEMS["molecule without a cell"]())
    agrees()


def test_a_committee_and_a_mixture():
    members = [network(seed) for seed in (1, 2)]
    atoms, energies = SYSTEMS["triclinic"](), []
    for potential in (*members, Mixture(members, [0.25, 0.75])):
        atoms.calc = Calculator(potential)
        energies.append(atoms.get_potential_energy())
    assert energies[2] == pytest.approx(0.25 * energies[0] + 0.75 * energies[1], abs=1e-10)


def test_optimizers_dynamics_phonons_neb_and_equation_of_state(tmp_path, monkeypatch):
    folder = COMM.bcast(tmp_path)
    monkeypatch.chdir(folder)
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=2)
    atoms.calc = Calculator(argon(cutoff=8.5))
    assert FIRE(atoms, logfile=None).run(fmax=0.01, steps=200)
    total = []
    atoms.set_momenta(np.random.default_rng(1).normal(scale=0.6, size=(32, 3)))
    dynamics = VelocityVerlet(atoms, 2.0 * fs)
    dynamics.attach(lambda: total.append(atoms.get_total_energy()), 5)
    dynamics.run(50)
    assert np.ptp(total) < 2e-3 * atoms.get_kinetic_energy()
    volumes, energies = [], []
    for a in np.linspace(5.1, 5.4, 7):
        cell = bulk("Ar", "fcc", a=a)
        cell.calc = Calculator(argon(cutoff=8.5))
        volumes.append(cell.get_volume())
        energies.append(cell.get_potential_energy())
    v_0, _, modulus = EquationOfState(volumes, energies).fit()
    assert 5.2 < (4 * v_0) ** (1 / 3) < 5.3 and modulus > 0
    phonons = Phonons(bulk("Ar", "fcc", a=(4 * v_0) ** (1 / 3)), Calculator(argon(cutoff=8.5)), supercell=(3, 3, 3),
                      name=f"phonons_{COMM.size}")
    phonons.run()
    phonons.read(acoustic=True)
    omega = phonons.band_structure([[0, 0, 0], [0.5, 0.5, 0]])
    assert abs(omega[0]).max() < 1e-3 and 5e-3 < omega[1].max() < 12e-3  # 8 meV in solid argon
    COMM.Barrier()


def test_a_vacancy_hops_along_a_band():
    perfect = bulk("Ar", "fcc", a=5.26, cubic=True) * (2, 2, 2)
    first, last = perfect.copy(), perfect.copy()
    del first[0]
    hops = int(np.argmin(np.linalg.norm(first.positions, axis=1)))
    last = first.copy()
    last.positions[hops] = perfect.positions[0]
    calculators = [Calculator(argon(cutoff=6.0)) for _ in range(5)]
    for end in (first, last):
        end.calc = calculators[0]
        assert BFGS(end, logfile=None).run(fmax=0.02, steps=100)
    images = [first, *(first.copy() for _ in range(3)), last]
    for image, calculator in zip(images, calculators, strict=True):
        image.calc = calculator
    band = NEB(images, method="improvedtangent")
    band.interpolate(mic=True)
    FIRE(band, logfile=None).run(fmax=0.05, steps=60)
    energy = [image.get_potential_energy() for image in images]
    assert np.argmax(energy) == 2 and energy[1] == pytest.approx(energy[3], abs=0.01)


BAD = {
    "periodic along a b c, but the cell has no vector": lambda: Atoms("Ar2", [[0, 0, 0], [3, 0, 0]], pbc=True),
    "periodic along b, but": lambda: Atoms("Ar", [[0, 0, 0]], cell=[9, 0, 9], pbc=True),
    "three linearly independent, finite vectors": lambda: Atoms(
        "Ar", [[0, 0, 0]], cell=[[9, 0, 0], [0, 9, 0], [9, 9, 0]], pbc=True),
    "atom 1: element Xe is not in the model (Ar Ne)": lambda: Atoms("ArXe", [[0, 0, 0], [3, 0, 0]]),
    "NaN or infinite coordinates of 1 atom(s), the first of atom 1": lambda: Atoms("Ar2", [[0, 0, 0], [3, np.nan, 0]]),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_atoms_are_one_message(words):
    atoms = BAD[words]()
    atoms.calc = Calculator(network())
    with pytest.raises(InputError) as error:
        atoms.get_potential_energy()
    assert words in str(error.value) and len(error.value.faults) == 1
    atoms = SYSTEMS["triclinic"]()
    used = atoms.calc = Calculator(network())
    energy = atoms.get_potential_energy()
    with pytest.raises(InputError):
        used.get_potential_energy(BAD[words]())
    assert used.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-10)


def test_unknown_arguments_and_models():
    with pytest.raises(InputError, match="Calculator: precission: unknown argument; did you mean 'precision'"):
        Calculator(network(), precission="float64")
    with pytest.raises(InputError, match=r"nowhere.safetensors: no such model file"):
        Calculator("nowhere.safetensors")
    with pytest.raises(InputError, match="precision 'half': must be one of"):
        Calculator("nowhere.safetensors", precision="half")
    with pytest.raises(InputError, match="backend cuda: a Potential runs where it was made"):
        Calculator(network(), backend="cuda")


@pytest.mark.skipif(COMM.size == 1, reason="ranks differ where there are several")
@pytest.mark.parametrize("what", ["positions", "elements", "velocities", "number"])
def test_ranks_with_different_atoms_are_told(what):
    atoms = SYSTEMS["triclinic"]()
    if COMM.rank == 1:
        if what == "positions":
            atoms.positions[3, 1] += 1e-9
        elif what == "elements":
            atoms.symbols[0] = "Ne"
        elif what == "velocities":
            atoms.set_momenta(np.ones((len(atoms), 3)))
        else:
            del atoms[5]
    atoms.calc = Calculator(network())
    words = rf"the ranks have atoms of different {'elements' if what == 'number' else what}"
    with pytest.raises(InputError, match=words):
        simulate(atoms, network(), 2, comm=COMM)
    with pytest.raises(InputError, match=words):
        atoms.get_forces()


@pytest.mark.parametrize("pbc", [(True, True, False), (True, False, False), (False, False, False), (True, True, True)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_atoms_that_cross_domains_along_open_axes_are_kept(pbc, axis):
    """The cell is long along one axis, which the ranks share; atoms cross its domains and leave by its open ends."""
    lengths = np.full(3, 9.0)
    lengths[axis] = 40.0
    rng = np.random.default_rng(axis)
    atoms = Atoms("ArNe" * 6, cell=lengths, pbc=pbc)
    alone = atoms.copy()
    atoms.calc, alone.calc = Calculator(network(), skin=0.4), Calculator(network(), skin=0.4, comm=MPI.COMM_SELF)
    for _ in range(3):
        x = np.sort(rng.random((12, 3)), axis=0) * lengths * (1.0 + 0.4 * (rng.random() - 0.5))
        x[:, axis] = rng.permutation(np.linspace(-4.0, 44.0, 12)) + rng.uniform(-0.8, 0.8, 12)
        for one in (atoms, alone):
            one.positions = x
        assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), atol=1e-9)
    if atoms.calc.comm.size > 1:
        assert atoms.calc.system.domain.grid[axis] > 1
    x = atoms.positions.copy()
    for _ in range(12):  # small steps: the list is renewed on the way, by migration
        x += 0.9 * np.sign(x.mean(axis=0) - x)
        for one in (atoms, alone):
            one.positions = x
        assert atoms.get_potential_energy() == pytest.approx(alone.get_potential_energy(), rel=1e-9, abs=1e-9)


def test_copies_and_pickles():
    atoms = SYSTEMS["triclinic"]()
    atoms.calc = Calculator(network())
    energy = atoms.get_potential_energy()
    twin = copy.deepcopy(atoms)
    twin.rattle(0.1, seed=1)
    assert twin.get_potential_energy() != energy and atoms.get_potential_energy() == energy
    with pytest.raises(TypeError, match="cannot be pickled; give the path"):
        pickle.dumps(atoms.calc)
    model = Path(__file__).parents[2] / "input/ammonia/ammonia_gfn1.safetensors"
    ammonia = Atoms("NH3", [[0, 0, 0], [1, 0, 0.3], [-0.5, 0.87, 0.3], [-0.5, -0.87, 0.3]])
    first = Calculator(model, precision="float64")
    second = pickle.loads(pickle.dumps(first))
    assert first.get_potential_energy(ammonia) == second.get_potential_energy(ammonia)
    for wrong in (None, 3):
        with pytest.raises(InputError, match="model: a path, several paths or a Potential is needed"):
            Calculator(wrong)


def test_atoms_on_one_place_are_an_error():
    atoms = Atoms("Ar2", [[0, 0, 0], [0, 0, 0]])
    atoms.calc = Calculator(argon())
    with pytest.raises(InputError, match="the energy is not finite: atoms are too close"):
        atoms.get_potential_energy()
