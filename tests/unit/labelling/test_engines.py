"""Any ASE calculator and any command as engine: labels, round trips, failures, resumption, groups in time."""

import sys

import ase.io
import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from rxmdnn.commands.label import INCOMPLETE
from rxmdnn.commands.label import main as label_main
from rxmdnn.errors import InputError
from rxmdnn.io.canonical import names_of
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.labelling.engines import engine_of
from rxmdnn.labelling.file_tasks import groups_of, tasks_of_file
from rxmdnn.labelling.labelling import label
from rxmdnn.labelling.task import Task
from rxmdnn.training.labelled_frames import read

EMT_ENGINE = "ase:ase.calculators.emt:EMT"
SCRIPT = """
import sys
import ase.io
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
atoms = ase.io.read(sys.argv[1])
if len(atoms) == 2:
    sys.exit("SCF did not converge")
atoms.calc = EMT()
e, f = atoms.get_potential_energy(), atoms.get_forces()
atoms.calc = SinglePointCalculator(atoms, energy=e, forces=f)
ase.io.write(sys.argv[2], atoms, format="extxyz")
"""
FACTORY = """
import os
from ase.calculators.emt import EMT


class Fragile(EMT):
    def calculate(self, *args):
        super().calculate(*args)
        if len(self.atoms) == 2:
            raise RuntimeError("SCF did not converge")
        if len(self.atoms) == 5:
            os._exit(7)
        if len(self.atoms) == 3:
            self.results["forces"][0, 0] = 81.0


def make():
    return Fragile()
"""


@pytest.fixture
def mixed(tmp_path):
    """A crystal with fixed atoms, a slab without a vector along its open axis, a molecule with D, and ids."""
    crystal = bulk("Cu", cubic=True)
    crystal.rattle(0.05, seed=1)
    crystal.set_constraint(FixAtoms([0, 1]))
    crystal.info["temperature"] = "300 K"
    slab = fcc111("Cu", (1, 1, 3))
    slab.info.clear()
    slab.rattle(0.05, seed=2)
    methane = molecule("CH4")
    methane.rattle(0.05, seed=3)
    masses = methane.get_masses()
    masses[1] = 2.014
    methane.set_masses(masses)
    methane.set_array("id", np.arange(5) + 7)
    frames = [crystal, slab, methane]
    ase.io.write(tmp_path / "mixed.xyz", frames, format="extxyz", parallel=False)
    return frames


def test_a_mixed_set_keeps_what_its_frames_state(tmp_path, mixed):
    out = tmp_path / "out.xyz"
    assert label_main([str(out), "--frames", str(tmp_path / "mixed.xyz"), "--engine", EMT_ENGINE,
                       "--workers", "1"]) == 0
    for made, given in zip(read_atoms(out), mixed, strict=True):
        assert made.pbc.tolist() == given.pbc.tolist()
        np.testing.assert_allclose(np.array(made.cell), np.array(given.cell), atol=1e-6)
        given = given.copy()
        given.set_constraint()
        given.calc = EMT()
        assert made.get_potential_energy() == pytest.approx(given.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(made.get_forces(), given.get_forces(), atol=2e-5)
        assert ("stress" in made.calc.results) == bool(given.pbc.all())
        if given.pbc.all():
            np.testing.assert_allclose(made.get_stress(), given.get_stress(), atol=1e-7)
    crystal, _, methane = read_atoms(out)
    assert crystal.info["temperature"] == "300 K" and crystal.info["version"].startswith("EMT, ase ")
    assert names_of(methane).tolist() == ["C", "D", "H", "H", "H"]
    assert methane.arrays["id"].tolist() == [7, 8, 9, 10, 11]
    frames = read([out], ("Cu", "C", "H"))
    assert frames[0].temperature == 300 and frames[2].species.tolist() == [1, 2, 2, 2, 2]
    assert [f.pbc.tolist() for f in frames] == [[True] * 3, [True, True, False], [False] * 3]


@pytest.mark.parametrize("kind", ["file", "command"])
def test_failures_are_named_and_the_rest_goes_on(tmp_path, capsys, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    frames = [bulk("Cu") * (n, 1, 1) for n in ((1, 2, 3, 5, 4) if kind == "file" else (1, 2, 4))]
    for k, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=k)
    ase.io.write("in.xyz", frames, parallel=False)
    (tmp_path / "dft.py").write_text(FACTORY)
    (tmp_path / "dft_command.py").write_text(SCRIPT)
    engine = "ase:dft.py:make" if kind == "file" else f"command:{sys.executable} dft_command.py {{input}} {{output}}"
    words = ["out.xyz", "--frames", "in.xyz", "--workers", "1", "--engine", engine]
    assert label_main(words) == INCOMPLETE
    out = capsys.readouterr().out
    assert "in.xyz: frame 2: not labelled: " in out and "SCF did not converge" in out
    assert kind == "command" or "in.xyz: frame 4: not labelled: its process ended (exit code 7" in out
    assert kind == "command" or "in.xyz: frame 3: not labelled: a force of 81 eV/Å, above 50" in out
    made = read_atoms(tmp_path / "out.xyz")
    assert [len(a) for a in made] == [1, 4] and np.isfinite(made[1].get_forces()).all()
    before = (tmp_path / "out.xyz").read_text()
    assert label_main(words) == INCOMPLETE and (tmp_path / "out.xyz").read_text() == before
    assert label_main([*words[:-1], EMT_ENGINE]) == 0  # only the others are labelled, in the order of the file
    assert [len(a) for a in read_atoms(tmp_path / "out.xyz")] == [len(a) for a in frames]


def test_cells_of_one_atom_are_different_frames(tmp_path):
    frames = [bulk("Cu", a=a) for a in (3.5, 3.6, 3.7)]
    ase.io.write(tmp_path / "in.traj", frames, parallel=False)
    for _ in range(2):
        assert label_main([str(tmp_path / "o.xyz"), "--frames", str(tmp_path / "in.traj"), "--engine", EMT_ENGINE,
                           "--workers", "1"]) == 0
    assert [a.cell.volume for a in read_atoms(tmp_path / "o.xyz")] == pytest.approx([a.cell.volume for a in frames])


def test_what_a_program_takes_for_periodic(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dft.py").write_text("from ase.calculators.emt import EMT\nclass Vasp(EMT):\n    pass\n"
                                     "class ORCA(EMT):\n    pass\n")
    vasp, orca, emt = (engine_of(e) for e in ("ase:dft.py:Vasp", "ase:dft.py:ORCA", EMT_ENGINE))
    assert "pbc [True, True, False]; give it a box" in vasp.boundary_fault(np.array([True, True, False]))
    assert "along no axis" in orca.boundary_fault(np.array([True] * 3)) and not orca.boundary_fault(np.zeros(3, bool))
    assert not emt.boundary_fault(np.array([True, True, False]))


@pytest.mark.parametrize("engine, message", [
    ("ase:nowhere.at.all:make", "nowhere.at.all cannot be imported"),
    ("ase:ase.calculators.emt:Emt", "ase.calculators.emt has no 'Emt'"),
    ("ase:gone.py:make", "gone.py: no such file"),
    ("ase:dft.py:number", "'number' cannot be called"),
    ("ase:dft.py:wrong", r"wrong\(\) returned int, not an ASE calculator"),
    ("ase:dft.py:fails", r"fails\(\) failed: ValueError: no license"),
    ("ase:EMT", "write ase:MODULE:FACTORY"),
    ("command:vasp_std", r"\{input\} and \{output\} missing in 'vasp_std'"),
    ("gfn2", "not known; give cp2k-optpbe-vdw, gfn1, .*, ase:MODULE:FACTORY"),
])
def test_engines_that_cannot_be_used_are_a_message(tmp_path, monkeypatch, engine, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dft.py").write_text("number = 3\ndef wrong():\n    return 3\ndef fails():\n"
                                     "    raise ValueError('no license')\n")
    with pytest.raises(InputError, match=message):
        engine_of(engine)


def test_a_job_that_labels_nothing_leaves_no_file(tmp_path, mixed):
    assert label_main([str(tmp_path / "o.xyz"), "--frames", str(tmp_path / "mixed.xyz"), "--workers", "1",
                       "--engine", "command:false {input} {output}"]) == INCOMPLETE
    assert not (tmp_path / "o.xyz").exists()


def test_no_substance_is_a_default(tmp_path):
    with pytest.raises(InputError, match=r"give the frames: --frames FILE, or --recipe ammonia"):
        label_main([str(tmp_path / "x.xyz")])
    assert not (tmp_path / "x.xyz").exists()


def series(**columns):
    frames = []
    for values in zip(*columns.values()):
        atoms = molecule("N2")
        atoms.positions[0, 0] = 0.01 * len(frames)
        atoms.info = dict(zip(columns, values))
        frames.append(atoms)
    return frames


@pytest.mark.parametrize("frames, groups", [
    (series(run=["a/1", "a/1", "b"], kind=["sample", "failure", "before"]), ["a_1", "a_1", "b"]),
    (series(time=[0.0, 5000.0, 100.0, 5400.0]), ["f-t0", "f-t1", "f-t0", "f-t1"]),
    (series(origin=["x.xyz:3", "x.xyz:9", "x.xyz:4", "y.xyz:5"]), ["x_xyz-t0", "x_xyz-t1", "x_xyz-t0", "y_xyz-t0"]),
    (series(group=["g", "h"], time=[0.0, 1.0]), ["g", "h"]),
    (series(note=["a", "b"]), ["", ""]),
])
def test_neighbors_in_time_are_one_group(frames, groups):
    assert groups_of(frames, "f") == groups


def test_results_of_a_model_are_not_kept(tmp_path):
    atoms = molecule("N2")
    atoms.info = {"model_energy": 1.0, "kinetic_energy": 2.0, "REF_energy": 3.0, "step": 4, "note": "kept"}
    atoms.arrays["model_forces"] = np.ones((2, 3))
    ase.io.write(tmp_path / "run.xyz", atoms, format="extxyz", parallel=False)
    (task,) = tasks_of_file(tmp_path / "run.xyz")
    assert task.atoms.info == {"step": 4, "note": "kept"} and set(task.atoms.arrays) == {"numbers", "positions"}


@pytest.mark.parametrize("pbc, labelled", [((False,) * 3, True), ((True,) * 3, True), ((True, True, False), False)])
def test_gfn1_labels_only_the_boundaries_it_knows(pbc, labelled):
    pytest.importorskip("tblite")
    atoms = molecule("NH3", cell=[5.0, 5.0, 9.0], pbc=pbc)
    task = Task("x", 0, atoms=atoms)
    if labelled:
        (made,) = label(task, "gfn1")
        assert ("stress" in made.info) == all(pbc) and made.pbc.tolist() == list(pbc)
    else:
        with pytest.raises(RuntimeError, match=r"GFN1-xTB repeats .* along all axes or none, .*pbc \[True, True, F"):
            label(task, "gfn1")
