"""What a start file states is what ``rxmdnn run`` does, or the log says so; what it cannot be is refused."""

import shutil

import ase.build
import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.constraints import FixAtoms
from mpi4py import MPI

from rxmdnn.commands.check import main as check
from rxmdnn.commands.geninit import main as geninit
from rxmdnn.commands.run import main as run
from rxmdnn.errors import InputError
from rxmdnn.io.canonical import names_of
from rxmdnn.io.log import read_energies
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.structure import read_structure

CRYSTAL = ase.build.bulk("Ar", "fcc", 5.3, cubic=True) * (2, 2, 2)


def start(tmp_path, structure, model="lj 0.0104 3.4 6.0 1 Ar 39.948", lines="", steps=0):
    """Run from a structure: rows of energies.csv and the text of the log."""
    (tmp_path / "rxmdnn.in").write_text(model + "\n")
    (tmp_path / "rxmd.in").write_text(f"time 1.0 {steps}\ntemperature 60 1.0 1\nstructure {structure}\n{lines}")
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    assert run(["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(out)], MPI.COMM_SELF) == 0
    return read_energies(out), (out / "run.log").read_text()


def refused(tmp_path, structure, words, model="lj 0.0104 3.4 6.0 1 Ar 39.948"):
    for command, argv in ((run, ["--rxmdin", str(tmp_path / "rxmd.in")]), (check, [str(tmp_path / "rxmd.in")]),
                          (geninit, ["-i", str(tmp_path / structure), "-rxmdnn", str(tmp_path / "rxmdnn.in")])):
        (tmp_path / "rxmdnn.in").write_text(model + "\n")
        (tmp_path / "rxmd.in").write_text(f"time 1.0 0\ntemperature 60 1.0 1\nstructure {structure}\n")
        with pytest.raises(InputError) as caught:
            command(argv, MPI.COMM_SELF) if command is run else command(argv)
        assert all(word in str(caught.value) for word in words)


CIF = """data_x
_symmetry_space_group_name_H-M 'P 1'
_cell_length_a 5.4
_cell_length_b 5.4
_cell_length_c 5.4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


@pytest.mark.parametrize(("sites", "words"), [
    ("Ar1 Ar 0 0 0 0.55\nKr1 Kr 0 0 0 0.45\nAr2 Ar .5 .5 0 1.0", ["site 1", "Ar 0.55", "Kr 0.45"]),
    ("Ar1 Ar 0 0 0 1.0\nAr2 Ar .5 .5 0 0.25", ["site 2", "Ar 0.25"])])
def test_partial_occupancy_is_refused(tmp_path, sites, words):
    (tmp_path / "a.cif").write_text(CIF + sites + "\n")
    refused(tmp_path, "a.cif", ["a.cif", "occupied", *words])


def test_partial_occupancy_of_alternatives_in_a_pdb_is_refused(tmp_path):
    atoms = CRYSTAL.copy()
    atoms.set_array("occupancy", np.where(np.arange(32) == 3, 0.6, 1.0))
    ase.io.write(tmp_path / "a.pdb", atoms)
    refused(tmp_path, "a.pdb", ["atom 4 (Ar)", "0.6"])


@pytest.mark.parametrize("column", ["velo", "vel", "velocities", "velocity", "momenta"])
def test_velocities_under_every_name(tmp_path, column):
    atoms = CRYSTAL.copy()
    v = np.random.default_rng(3).normal(size=(32, 3)) * 0.002  # Å/fs
    v -= v.mean(0)
    if column == "momenta":
        atoms.set_velocities(v / ase.units.fs)
    else:
        atoms.set_array(column, v)
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    rows, _log = start(tmp_path, "a.xyz")
    kinetic = 0.5 * 39.948 * (v**2).sum() / 9.648533e-3
    assert rows["kinetic_eV"][0] == pytest.approx(kinetic, rel=1e-4)


def test_velocities_in_other_units_and_unknown_ones(tmp_path):
    atoms = CRYSTAL.copy()
    v = np.random.default_rng(3).normal(size=(32, 3)) * 2  # Å/ps
    atoms.set_array("velo", v)
    atoms.info["velo_unit"] = "A/ps"
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    assert read_structure(tmp_path / "a.xyz").v == pytest.approx(v * 1e-3, rel=1e-6)
    atoms.info["velo_unit"] = "furlong"
    ase.io.write(tmp_path / "b.xyz", atoms, format="extxyz")
    refused(tmp_path, "b.xyz", ["b.xyz", "furlong"])


def test_rows_are_in_the_order_of_their_ids(tmp_path):
    for twice in (False, True):
        text = ('2\nLattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3:id:I:1 pbc="T T T"\n'
                f"Ar 8 8 8 2\nKr 1 1 1 {2 if twice else 1}\n")
        (tmp_path / "a.xyz").write_text(text)
        if twice:
            with pytest.raises(InputError, match="two atoms have the id 2"):
                read_structure(tmp_path / "a.xyz")
        else:
            assert read_structure(tmp_path / "a.xyz").names.tolist() == ["Kr", "Ar"]


@pytest.mark.parametrize(("name", "format"), [("POSCAR", "vasp"), ("a.xyz", "extxyz"), ("a.traj", "traj")])
def test_constraints_are_said_to_be_dropped(tmp_path, name, format):
    atoms = CRYSTAL.copy()
    atoms.set_constraint(FixAtoms(range(20)))
    ase.io.write(tmp_path / name, atoms, format=format)
    assert f"{name} fixes 20 of 32 atoms; in this run they move" in start(tmp_path, name)[1]


def test_a_frame_of_several(tmp_path):
    frames = [CRYSTAL.copy(), CRYSTAL.copy()]
    frames[1].rattle(0.1, seed=1)
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    _rows, log = start(tmp_path, "a.xyz")
    assert "holds several frames; the last one is used" in log
    assert read_structure(tmp_path / "a.xyz", frame=0).x == pytest.approx(frames[0].positions, abs=1e-7)
    with pytest.raises(InputError, match="no frame 5"):
        read_structure(tmp_path / "a.xyz", frame=5)


def test_copies_do_not_move_alike(tmp_path):
    atoms = CRYSTAL.copy()
    atoms.set_velocities(np.random.default_rng(3).normal(size=(32, 3)))
    ase.io.write(tmp_path / "a.xyz", atoms, format="extxyz")
    rows, log = start(tmp_path, "a.xyz 2 1 1")
    assert "its velocities are not repeated in 2 copies" in log
    assert rows["temperature_K"][0] == pytest.approx(60, rel=1e-6)


WATER = {
    "a.xyz": '3\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
             "O 0 0 0\nD 1 0 0\nH 0 1 0\n",
    "POSCAR": "HOD\n1.0\n9 0 0\n0 9 0\n0 0 9\nO D H\n1 1 1\nCartesian\n0 0 0\n1 0 0\n0 1 0\n",
    "a.pdb": "CRYST1    9.000    9.000    9.000  90.00  90.00  90.00 P 1\n"
             "ATOM      1  O   HOD A   1       0.000   0.000   0.000  1.00  0.00           O\n"
             "ATOM      2  D   HOD A   1       1.000   0.000   0.000  1.00  0.00           D\n"
             "ATOM      3  H   HOD A   1       0.000   1.000   0.000  1.00  0.00           H\nEND\n",
    "a.cif": CIF.replace("5.4", "9.0") + "O1 O 0 0 0 1.0\nD1 D 0.111111111 0 0 1.0\nH1 H 0 0.111111111 0 1.0\n",
    "a.data": "water\n\n3 atoms\n3 atom types\n0 9 xlo xhi\n0 9 ylo yhi\n0 9 zlo zhi\n\nMasses\n\n1 15.999\n2 2.014\n"
              "3 1.008\n\nAtoms # atomic\n\n1 1 0 0 0\n2 2 1 0 0\n3 3 0 1 0\n"}


@pytest.mark.parametrize("name", WATER)
def test_deuterium_beside_hydrogen(tmp_path, name):
    (tmp_path / name).write_text(WATER[name])
    found = read_structure(tmp_path / name)
    assert found.names.tolist() == ["O", "D", "H"]
    assert found.x == pytest.approx(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.0]]), abs=1e-6)
    _rows, _log = start(tmp_path, name, "lj 0.001 1.0 3.0 3 H 1.008 D 2.014 O 15.999")
    refused(tmp_path, name, [name, "atom 2", "D"], "lj 0.001 1.0 3.0 2 H 1.008 O 15.999")
    assert names_of(read_atoms(tmp_path / name)[0]).tolist() == ["O", "D", "H"]


def test_deuterium_alone_is_the_h_of_a_deck_that_has_its_mass(tmp_path):
    (tmp_path / "a.xyz").write_text(WATER["a.xyz"].replace("H 0 1 0", "D 0 1 0"))
    _rows, _log = start(tmp_path, "a.xyz", "lj 0.001 1.0 3.0 2 H 2.014102 O 15.999")
    refused(tmp_path, "a.xyz", ["give H the mass of D"], "lj 0.001 1.0 3.0 2 H 1.008 O 15.999")


def test_other_masses_are_said(tmp_path):
    atoms = CRYSTAL.copy()
    atoms.set_masses(np.full(32, 36.0))
    ase.io.write(tmp_path / "a.traj", atoms)
    assert "the masses are those of the model deck, amu: Ar 39.948 (in the file: 36)" in start(tmp_path, "a.traj")[1]


@pytest.mark.parametrize("name", ["a b.xyz", "POSCAR@300K", "it's.cif", "x.y.z.data"])
def test_names_of_files(tmp_path, name):
    format = {"a b.xyz": "extxyz", "POSCAR@300K": "vasp", "it's.cif": "cif", "x.y.z.data": "lammps-data"}[name]
    ase.io.write(tmp_path / "plain", CRYSTAL, format=format, **({"masses": True} if "lammps" in format else {}))
    (tmp_path / "plain").rename(tmp_path / name)
    _rows, log = start(tmp_path, f'"{name}" 1 1 1')
    assert "32: 32 Ar" in log


def test_periodicity_by_the_deck(tmp_path):
    pair = Atoms("Ar2", [[0.5, 4, 4], [7.0, 4, 4]], cell=[8, 8, 8], pbc=True)
    ase.io.write(tmp_path / "a.cif", pair)
    assert start(tmp_path, "a.cif")[0]["potential_eV"][0] > 1
    assert start(tmp_path, "a.cif", lines="pbc F T T\n")[0]["potential_eV"][-1] == 0
    ase.io.write(tmp_path / "b.xyz", Atoms("Ar2", [[0, 0, 0], [4, 0, 0]]), format="extxyz")
    with pytest.raises(InputError, match="no cell vector along a b"):
        start(tmp_path, "b.xyz", lines="pbc T T F\n")


def test_swapped_masses_are_said(tmp_path):
    (tmp_path / "a.xyz").write_text(WATER["a.xyz"].replace("D 1 0 0", "H 1 0 0"))
    assert "masses far from those of the elements, amu: H 15.999 (usual: 1.008), O 1.008 (usual: 15.999)" in start(
        tmp_path, "a.xyz", "lj 0.001 1.0 3.0 2 H 15.999 O 1.008")[1]
    for heavy in ("2.014", "3.016", "4.0"):  # isotopes, and hydrogen made heavy for longer time steps
        assert "masses far" not in start(tmp_path, "a.xyz", f"lj 0.001 1.0 3.0 2 H {heavy} O 15.999")[1]


def test_no_bonds_are_told_of_atoms_that_have_none(tmp_path):
    ase.io.write(tmp_path / "a.cif", CRYSTAL)
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.948\n")
    (tmp_path / "rxmd.in").write_text("time 20.0 0\ntemperature 60 1.0 1\nstructure a.cif\n")
    assert run(["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out")], MPI.COMM_SELF) == 0
    assert "is long for bonds" not in (tmp_path / "out" / "run.log").read_text()
