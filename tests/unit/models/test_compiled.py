"""Compiled models and ASE calculators by deck line, against the same potentials written here."""


import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from rxmdnn import backend as backends
from rxmdnn.ase import Calculator
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.models.mixture import Mixture
from rxmdnn.run.potential import make_potential

R_MAX, EXTRA = 4.0, {"r_max": "4.0", "type_names": "Au Cu"}  # not the order of the deck
CU_AU = "2 Cu 63.546 Au 196.967\n"


class Local(torch.nn.Module):
    """e_i = a[t_i] + (Σ_j b[t_j] (r_c - r_ij)^3)^2 / 100, with the forces on all atoms."""

    def __init__(self, layers: int = 1):
        super().__init__()
        self.layers = layers
        self.a = torch.nn.Parameter(torch.tensor([-1.0, 2.0], dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.tensor([0.5, 1.5], dtype=torch.float64))

    def forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        pos, cell, shift = data["pos"].detach().requires_grad_(), data["cell"], data["edge_cell_shift"]
        strain = torch.zeros(3, 3, dtype=pos.dtype).requires_grad_()
        i, j, types = data["edge_index"][0], data["edge_index"][1], data["atom_types"]
        deform = torch.eye(3, dtype=pos.dtype) + 0.5 * (strain + strain.t())
        r = ((pos[j] - pos[i] + shift @ cell) @ deform).square().sum(1).sqrt()
        w = torch.relu(4.0 - r) ** 3
        h = self.b[types]
        for _ in range(self.layers):
            h = torch.zeros_like(pos[:, 0]).index_add(0, i, h[j] * w) / 10
        e_i = self.a[types] + h**2
        grads = torch.autograd.grad([e_i.sum()], [pos, strain])
        f, g = grads[0], grads[1]
        assert f is not None and g is not None
        return {"atomic_energy": e_i.detach()[:, None], "forces": -f, "virial": -g[None]}


def by_hand(atoms, layers=1):
    """Energy and per-atom energies of ``Local`` by the neighbor list of ASE."""
    from ase.neighborlist import neighbor_list

    i, j, r = neighbor_list("ijd", atoms, R_MAX)
    copper = atoms.numbers == 29
    h, w = np.where(copper, 1.5, 0.5), (R_MAX - r) ** 3
    for _ in range(layers):
        h = np.bincount(i, h[j] * w, len(atoms)) / 10
    return np.where(copper, 2.0, -1.0) + h**2


@pytest.fixture
def alloy():
    atoms = bulk("Cu", cubic=True, a=3.8) * (2, 2, 1)
    atoms.symbols[::3] = "Au"
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell @ [[1, 0.05, 0], [0, 1, 0.1], [0, 0, 1]], scale_atoms=True)
    return atoms


def potential_of(folder, line, atoms, *flags):
    ase.io.write(folder / "start.xyz", atoms, format="extxyz")
    (folder / "rxmdnn.in").write_text(line)
    (folder / "rxmd.in").write_text("time 1.0 1\nstructure start.xyz\nbackend cpu\n")
    run = read_run(["--rxmdin", str(folder / "rxmd.in"), *flags])
    return make_potential(run, backends.make("cpu"))


def scripted(folder, layers=1, extra=EXTRA):
    torch.jit.script(Local(layers)).save(str(folder / "model.pt"), _extra_files=extra)
    return f"compiled model.pt {layers} {CU_AU}"


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_torchscript_equals_the_formula(tmp_path, alloy, layers):
    potential = potential_of(tmp_path, scripted(tmp_path, layers), alloy)
    alloy.calc = Calculator(potential)
    assert np.abs(alloy.get_potential_energies() - by_hand(alloy, layers)).max() < 1e-12 * np.abs(by_hand(alloy)).max()
    forces, stress, h = alloy.get_forces(), alloy.get_stress(voigt=False), 1e-5
    for atom, axis in ((0, 0), (7, 2)):
        energies = []
        for sign in (1, -1):
            moved = alloy.copy()
            moved.positions[atom, axis] += sign * h
            energies.append(by_hand(moved, layers).sum())
        assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / (2 * h), rel=1e-6, abs=1e-6)
    strain = np.array([[0.3, 0.1, 0.0], [0.1, -0.2, 0.4], [0.0, 0.4, 0.5]])
    energies = []
    for sign in (1, -1):
        moved = alloy.copy()
        moved.set_cell(alloy.cell @ (np.eye(3) + sign * h * strain), scale_atoms=True)
        energies.append(by_hand(moved, layers).sum())
    slope = (energies[0] - energies[1]) / (2 * h)
    assert np.sum(stress * strain) * alloy.get_volume() == pytest.approx(slope, rel=1e-6)


def test_atoms_without_neighbors(tmp_path, alloy):
    potential = potential_of(tmp_path, scripted(tmp_path), alloy)
    lone = alloy[:2]
    lone.set_cell(30 * np.eye(3))
    lone.positions = [[1, 1, 1], [15, 15, 15]]
    lone.calc = Calculator(potential)
    assert lone.get_potential_energies().tolist() == by_hand(lone).tolist() and not lone.get_forces().any()


def test_local_model_in_a_mixture(tmp_path, alloy):
    line = scripted(tmp_path) + "lj 0.01 2.5 6.0 " + CU_AU
    potential = potential_of(tmp_path, line, alloy, "--model_weights", "2.0", "0.0")
    assert isinstance(potential, Mixture)
    alloy.calc = Calculator(potential)
    assert alloy.get_potential_energy() == pytest.approx(2 * by_hand(alloy).sum(), rel=1e-12)


def test_ase_calculator(tmp_path, alloy):
    potential = potential_of(tmp_path, f"ase ase.calculators.emt:EMT {CU_AU}", alloy)
    alloy.calc = EMT()
    expected = alloy.get_potential_energy(), alloy.get_forces(), alloy.get_stress(), alloy.get_potential_energies()
    alloy.calc = Calculator(potential)
    assert alloy.get_potential_energy() == pytest.approx(expected[0], abs=1e-9)
    assert np.abs(alloy.get_forces() - expected[1]).max() < 1e-9
    assert np.abs(alloy.get_stress() - expected[2]).max() < 1e-11
    assert np.abs(alloy.get_potential_energies() - expected[3]).max() < 1e-9
    alloy.positions += alloy.cell[0] * 1.7  # outside of the cell
    assert np.abs(alloy.get_forces() - expected[1]).max() < 1e-9


@pytest.mark.parametrize("line", ["ase ase.calculators.emt:EMT", "compiled model.pt 1"])
def test_deuterium_is_hydrogen(tmp_path, alloy, line):
    scripted(tmp_path, extra={"r_max": "4.0", "type_names": "H Cu"})
    alloy.symbols[alloy.symbols == "Au"] = "H"
    alloy.calc = Calculator(potential_of(tmp_path, f"{line} 2 Cu 63.546 H 1.008\n", alloy))
    expected = alloy.get_forces()
    heavy = potential_of(tmp_path, f"{line} 2 Cu 63.546 D 2.014\n", alloy)
    alloy.set_masses(np.where(alloy.symbols == "H", 2.014, 63.546))
    alloy.calc = Calculator(heavy)
    assert np.array_equal(alloy.get_forces(), expected)


FAULTS = {
    f"compiled model.pt 1 {CU_AU.replace('Au', 'Ag')}": r"rxmdnn\.in:1: compiled: .*model\.pt: does not know Ag; it",
    f"compiled start.xyz 1 {CU_AU}": r"start\.xyz: neither a TorchScript file nor a package",
    f"compiled model.pt 0 {CU_AU}": "layers = 0: must be above zero",
    f"compiled model.pt {CU_AU}": "must be an integer, not 'Cu'",
    f"compiled model.pt 2 {CU_AU}lj 0.01 2.5 6.0 {CU_AU}": "must be the only line",
    f"ase ase.calculators.emt:EMT {CU_AU}zbl 0.8 {CU_AU}": "must be the only line",
    f"ase ase.calculators.emt {CU_AU}": "write MODULE:FACTORY",
    f"ase ase.calculators.emt:Absent {CU_AU}": "ase: ase.calculators.emt:Absent: ase.calculators.emt has no 'Absent'",
    f"ase no_such_module:EMT {CU_AU}": "no_such_module cannot be imported: ModuleNotFoundError",
    f"ase builtins:dict {CU_AU}": "returned dict, not an ASE calculator",
}


@pytest.mark.parametrize("line", FAULTS)
def test_faults_of_lines(tmp_path, alloy, line):
    scripted(tmp_path)
    with pytest.raises(InputError, match=FAULTS[line]) as caught:
        potential_of(tmp_path, line, alloy)
    assert all("\n" not in fault for fault in caught.value.faults)


@pytest.mark.parametrize("flags", [("--pimd", "4"), ("--shparams", "sh.txt"), ("--model_weights", "0.5")])
def test_what_a_whole_model_does_not_support(tmp_path, alloy, flags, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sh.txt").write_text("2\n1 1 1 1 1 1\n")
    with pytest.raises(InputError, match=rf"{flags[0][2:]}: not available with the model 'ase' of"):
        potential_of(tmp_path, f"ase ase.calculators.emt:EMT {CU_AU}", alloy, *flags, "--ensemble", "langevin", "0.1")


def test_faults_of_files(tmp_path, alloy):
    line = scripted(tmp_path, extra={"r_max": "4.0"})
    with pytest.raises(InputError, match=r"model\.pt: its metadata must hold r_max and type_names; it has r_max"):
        potential_of(tmp_path, line, alloy)

    scripted(tmp_path, extra={"r_max": "four", "type_names": "Au Cu"})
    with pytest.raises(InputError, match=r"model\.pt: r_max of its metadata is not a number: 'four'"):
        potential_of(tmp_path, line, alloy)

    class NoForces(torch.nn.Module):
        def forward(self, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return {"atomic_energy": data["pos"][:, 0]}

    torch.jit.script(NoForces()).save(str(tmp_path / "model.pt"), _extra_files=EXTRA)
    alloy.calc = Calculator(potential_of(tmp_path, line, alloy))
    with pytest.raises(InputError, match=r"model\.pt: must return forces of \d+ x 3 numbers; it returns atomic_energy"):
        alloy.get_potential_energy()
