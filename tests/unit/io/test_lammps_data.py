"""Data files of LAMMPS, as written by ASE and by hand, of every common style."""

import ase.build
import ase.io
import ase.units
import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.io.lammps_data import STYLES, is_lammps_data, read_lammps_data
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.structure import read_structure

BOX = "0 8 xlo xhi\n0 9 ylo yhi\n-1 9 zlo zhi\n"
ROWS = {  # two atoms, nitrogen at (1, 2, 3) and hydrogen at (4, 5, 6), in each style
    "atomic": ("2 1 4 5 6", "1 2 1 2 3"), "charge": ("2 1 0.3 4 5 6", "1 2 -0.9 1 2 3"),
    "molecular": ("2 1 1 4 5 6", "1 1 2 1 2 3"), "bond": ("2 1 1 4 5 6", "1 1 2 1 2 3"),
    "angle": ("2 1 1 4 5 6", "1 1 2 1 2 3"), "full": ("2 1 1 0.3 4 5 6", "1 1 2 -0.9 1 2 3"),
    "sphere": ("2 1 0.5 1.0 4 5 6", "1 2 0.5 1.0 1 2 3"), "dipole": ("2 1 0.3 4 5 6 0 0 0", "1 2 -0.9 1 2 3 0 0 0"),
    "hybrid": ("2 1 4 5 6 7", "1 2 1 2 3 7")}


def data(style, rows, masses="1 1.008\n2 14.007\n", box=BOX, title="by hand", more=""):
    head = f"Atoms # {style}" if style else "Atoms"
    return (f"{title}\n\n2 atoms\n2 atom types\n{box}\nMasses\n\n{masses}\nPair Coeffs # zero\n\n1\n2\n\n{head}\n\n"
            + "\n".join(rows) + f"\n\n{more}")


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_styles(tmp_path, style, images):
    rows = [row + " 0 1 -1" * images for row in ROWS[style]]
    (tmp_path / "a.data").write_text(data(style, rows))
    atoms = read_lammps_data(tmp_path / "a.data")
    assert atoms.get_chemical_formula() == "HN" and atoms.symbols[0] == "N" and not atoms.pbc.any()
    assert atoms.positions == pytest.approx(np.array([[1, 2, 4], [4, 5, 7.0]]))  # from the corner of the box
    assert atoms.cell.lengths() == pytest.approx([8, 9, 10])
    if STYLES[style].charge is not None:
        assert atoms.get_initial_charges() == pytest.approx([-0.9, 0.3])


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("style", ["atomic", "charge", "molecular", "full"])
def test_styles_without_their_name(tmp_path, style, images):
    rows = [row + " 0 1 -1" * images for row in ROWS[style]]
    (tmp_path / "a.data").write_text(data("", rows))
    assert read_lammps_data(tmp_path / "a.data").positions[0] == pytest.approx([1, 2, 4])


@pytest.mark.parametrize("unit", ["metal", "real", "lj"])
def test_velocities_have_the_unit_of_the_first_line(tmp_path, unit):
    text = data("atomic", ROWS["atomic"], title=f"LAMMPS data file, timestep = 5, units = {unit}",
                more="Velocities\n\n2 0 0 0\n1 0.02 0 0\n")
    (tmp_path / "a.data").write_text(text)
    if unit == "lj":
        with pytest.raises(InputError, match="units lj"):
            read_lammps_data(tmp_path / "a.data")
        return
    v = read_lammps_data(tmp_path / "a.data").get_velocities() * ase.units.fs
    assert v[0, 0] == pytest.approx(2e-5 if unit == "metal" else 0.02) and not v[1].any()


def test_elements_by_comment_label_and_mass(tmp_path):
    for masses, more in (("1 1.1 # H\n2 14.2 # N\n", ""), ("H 1.1\nN 14.2\n", "Atom Type Labels\n\n1 H\n2 N\n")):
        (tmp_path / "a.data").write_text(data("atomic", ROWS["atomic"], masses, more=more))
        assert read_lammps_data(tmp_path / "a.data").get_chemical_symbols() == ["N", "H"]
    labelled = [row.replace(" 1 ", " H ", 1).replace(" 2 ", " N ", 1) for row in ("2 1 4 5 6", "1 2 1 2 3")]
    (tmp_path / "a.data").write_text(data("atomic", labelled, "H 1.1\nN 14.2\n", more="Atom Type Labels\n\n1 H\n2 N\n"))
    assert read_lammps_data(tmp_path / "a.data").get_chemical_symbols() == ["N", "H"]
    (tmp_path / "a.data").write_text(data("atomic", ROWS["atomic"], "1 1.008\n2 14.9\n"))
    with pytest.raises(InputError, match=r"no element has the mass 14\.9 of type 2"):
        read_lammps_data(tmp_path / "a.data")


@pytest.mark.parametrize(("comment", "mass", "symbol"), [
    ("HO", "1.008", "H"), ("CA", "12.011", "C"), ("OS", "15.9994", "O"), ("NA", "14.007", "N"), ("CL", "35.45", "Cl"),
    ("na", "22.98977", "Na"), ("Ca", "40.078", "Ca"), ("AR", "1.5", "Ar"), ("Ar", "1.0", "Ar"), ("D", "2.014", "H")])
def test_names_of_force_fields_are_not_elements_of_another_mass(tmp_path, comment, mass, symbol):
    text = data("atomic", ROWS["atomic"], masses=f"1 {mass} # {comment}\n2 14.007\n")
    (tmp_path / "a.data").write_text(text)
    assert read_lammps_data(tmp_path / "a.data").symbols[1] == symbol


def test_triclinic_box_as_ase_writes_it(tmp_path):
    atoms = ase.build.bulk("Cu", cubic=True) * (2, 2, 2)
    atoms.set_cell([[7.2, 0, 0], [1.0, 7.2, 0], [0.5, 0.7, 7.2]], scale_atoms=True)
    ase.io.write(tmp_path / "in.lmp", atoms, format="lammps-data", masses=True)
    found = read_atoms(tmp_path / "in.lmp")[0]
    assert found.get_all_distances(mic=True) == pytest.approx(atoms.get_all_distances(mic=True), abs=1e-6)


@pytest.mark.parametrize(("change", "said"), [
    (lambda t: t.replace("2 1 4 5 6\n", ""), "expected 2 rows, found 1"),
    (lambda t: t.replace("# atomic", "# peri"), "style 'peri'"),
    (lambda t: t.replace("# atomic", "# bond").replace("2 1 4", "2 1 1 0 4").replace("1 2 1 2 3", "1 1 2 0 1 2 3"),
     "style bond has 6 or 9 columns, found 7"),
    (lambda t: t.replace("4 5 6", "4 nan 6"), "NaN"),
    (lambda t: t.replace("4 5 6", "4 x 6"), "Atoms, from line"),
    (lambda t: t.replace("2 1 4", "1 1 4"), "two atoms have the id 1"),
    (lambda t: t.replace("0 8 xlo", "0 0 xlo"), "no volume"),
    (lambda t: t.replace("2 14.007\n", ""), "no mass of type 2")])
def test_faults(tmp_path, change, said):
    (tmp_path / "a.data").write_text(change(data("atomic", ROWS["atomic"])))
    with pytest.raises(InputError, match=said):
        read_atoms(tmp_path / "a.data")


def test_other_files_are_not_data_files(tmp_path):
    (tmp_path / "a").write_text("2\ncomment\nAr 0 0 0\nAr 4 0 0\n")
    assert not is_lammps_data(tmp_path / "a")


def test_units_that_are_not_stated_are_said(tmp_path):
    text = data("atomic", ROWS["atomic"], more="Velocities\n\n2 0 0 0\n1 0.02 0 0\n")
    (tmp_path / "a.data").write_text(text)
    found = read_structure(tmp_path / "a.data")
    assert any("does not state units; assuming velocities in Å/ps" in note for note in found.notes("a.data"))
    (tmp_path / "a.data").write_text(text.replace("by hand", "by hand, units = metal"))
    assert not any("units" in note for note in read_structure(tmp_path / "a.data").notes("a.data"))
