"""Charges from the columns of structure files."""

import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.io.structure import read_charges

CELL = 'Lattice="9 0 0 0 9 0 0 0 9" pbc="T T T" Properties=species:S:1:pos:R:3'
TENSORS = np.arange(18.0).reshape(2, 9)
LAMMPS = """salt

2 atoms
2 atom types
0 9 xlo xhi
0 9 ylo yhi
0 9 zlo zhi

Masses

1 22.99 # Na
2 35.45 # Cl

Atoms # charge

2 2 -0.75 4.5 4.5 4.5
1 1 0.75 1.0 1.0 1.0
"""


def xyz(tmp_path, column, values):
    rows = "".join(f"{e} {x} {x} {x} {' '.join(map(str, np.ravel(v)))}\n" for e, x, v in zip("NO", (1.0, 4.0), values))
    (tmp_path / "a.xyz").write_text(f"2\n{CELL}{column}\n{rows}")
    return tmp_path / "a.xyz"


@pytest.mark.parametrize(("column", "values"), [
    (":initial_charges:R:1", [0.5, -0.5]), (":charges:R:1", [0.5, -0.5]), (":born_charges:R:9", TENSORS)])
def test_columns_of_extended_xyz(tmp_path, column, values):
    np.testing.assert_array_equal(read_charges(xyz(tmp_path, column, values)), values)


def test_born_charges_go_before_numbers(tmp_path):
    both = [np.concatenate([[0.1], t]) for t in TENSORS]
    found = read_charges(xyz(tmp_path, ":initial_charges:R:1:born_charges:R:9", both))
    np.testing.assert_array_equal(found, TENSORS)


def test_a_lammps_data_file_in_the_order_of_its_ids(tmp_path):
    (tmp_path / "salt.data").write_text(LAMMPS)
    np.testing.assert_array_equal(read_charges(tmp_path / "salt.data"), [0.75, -0.75])


@pytest.mark.parametrize(("column", "values", "said"), [
    ("", [[], []], "no charges: neither a column born_charges, initial_charges, charges"),
    (":born_charges:R:3", np.ones((2, 3)), "the column 'born_charges' is not one number, or nine, for each atom")])
def test_faults(tmp_path, column, values, said):
    with pytest.raises(InputError, match=said):
        read_charges(xyz(tmp_path, column, values))


def test_an_input_xyz_has_none(tmp_path):
    (tmp_path / "input.xyz").write_text("1\n9 9 9 90 90 90\nN 0 0 0\n")
    with pytest.raises(InputError, match=r"an input\.xyz has no charges; give them by element"):
        read_charges(tmp_path / "input.xyz")
