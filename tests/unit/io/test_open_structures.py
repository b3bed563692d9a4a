"""What a structure file says of its cell and periodicity is what a run does, through ``rxmdnn run``."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from mpi4py import MPI

from rxmdnn.commands.run import main
from rxmdnn.errors import InputError
from rxmdnn.io.log import read_energies
from rxmdnn.parallel import run_to_exit_code

PAIR = [[0.5, 4, 4], [7.0, 4, 4]]  # 6.5 Å apart, 1.5 Å through the boundary of the cell
BOX = "8 0 0 0 8 0 0 0 8"


def energy(tmp_path, name, text, copies="1 1 1"):
    """Potential energy, eV, of two argon atoms with a cutoff of 6 Å, and the log."""
    if text is not None:
        (tmp_path / name).write_text(text)
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.948\n")
    (tmp_path / "rxmd.in").write_text(f"time 1.0 0\ntemperature 0 1.0 1\nstructure {name} {copies}\n")
    out = tmp_path / "out"
    assert main(["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(out)], MPI.COMM_SELF) == 0
    return read_energies(out)["potential_eV"][0], (out / "run.log").read_text()


def extxyz(lattice, pbc):
    head = [f'Lattice="{lattice}"'] * bool(lattice) + ["Properties=species:S:1:pos:R:3"] + [f'pbc="{pbc}"'] * bool(pbc)
    return f"2\n{' '.join(head)}\n" + "".join(f"Ar {a} {b} {c}\n" for a, b, c in PAIR)


CASES = {  # name: (file, text, close through the boundary, words of the log)
    "open in all directions": ("a.xyz", extxyz(BOX, "F F F"), False, "non-periodic"),
    "open along a": ("a.xyz", extxyz(BOX, "F T T"), False, "periodic along b c"),
    "periodic along a alone": ("a.xyz", extxyz(BOX, "T F F"), True, "periodic along a"),
    "a lattice without pbc": ("a.xyz", extxyz(BOX, ""), True, "periodic along a b c"),
    "no cell at all": ("a.xyz", extxyz("", ""), False, "no cell vector along a b c: non-periodic there"),
    "a plain xyz file": ("a.xyz", "2\na comment\nAr 0.5 4 4\nAr 7.0 4 4\n", False, "non-periodic"),
    "a zero vector along an open axis": ("a.xyz", extxyz("8 0 0 0 8 0 0 0 0", "T T F"), True,
                                         "no cell vector along c: non-periodic there"),
}


@pytest.mark.parametrize("name", CASES)
def test_extended_xyz(tmp_path, name):
    file, text, close, words = CASES[name]
    found, log = energy(tmp_path, file, text)
    assert (found > 1.0) == close and (found != 0.0) == close
    assert words in log and "does not specify periodicity" not in log


@pytest.mark.parametrize(("file", "pbc", "close", "note"), [
    ("a.traj", False, False, False), ("a.traj", True, True, False), ("a.json", (False, True, True), False, False),
    ("POSCAR", True, True, False), ("a.cif", True, True, False), ("a@300K.xyz", True, True, False)])
def test_other_formats(tmp_path, file, pbc, close, note):
    atoms = Atoms("Ar2", PAIR, cell=[8, 8, 8], pbc=pbc)
    kind = file.split(".")[-1]
    ase.io.write(tmp_path / "plain", atoms, format={"POSCAR": "vasp", "xyz": "extxyz"}.get(kind, kind))
    (tmp_path / "plain").rename(tmp_path / file)
    found, log = energy(tmp_path, file, None)
    assert (found > 1.0) == close and ("does not specify periodicity" in log) == note


def test_a_molecule_is_not_repeated(tmp_path, capsys):
    with pytest.raises(InputError, match=r"a.xyz: cannot be repeated along a c: the file has no cell vector there"):
        energy(tmp_path, "a.xyz", extxyz("", ""), "2 1 2")
    (tmp_path / "a.xyz").write_text(extxyz("8 0 0 0 8 0 0 0 0", "T T T"))
    words = ["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out")]
    assert run_to_exit_code(MPI.COMM_SELF, lambda: main(words, MPI.COMM_SELF)) == 2
    assert "a.xyz: periodic along c, but the cell has no vector there" in capsys.readouterr().err
    assert not np.isnan(energy(tmp_path, "b.xyz", extxyz("8 0 0 0 8 0 0 0 0", "T T F"), "2 2 1")[0])
