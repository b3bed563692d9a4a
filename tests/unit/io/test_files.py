"""Files on one rank: starts, their faults, and text of fixed width. Ranks: tests/parallel/test_io_parallel.py."""

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.io.checkpoint import find_checkpoint, read_checkpoint, write_checkpoint
from rxmdnn.io.frame import Frame, fixed
from rxmdnn.io.rxff import read_rxff, write_rxff
from rxmdnn.io.structure import read_structure, start_from_file
from rxmdnn.run.start import read_start
from rxmdnn.units import RXMD_TIME

SELF, ELEMENTS, MASSES = MPI.COMM_SELF, ("H", "N"), (1.008, 14.007)
CELL = Cell.from_parameters(4.0, 5.0, 6.0, 90.0, 90.0, 90.0)
INPUT_XYZ = '2 "two atoms"\n4 5 6 90 90 90\nN 0.25 0.5 0.5 48.8878 0 0\nH 1.d-1 0 0 0 0 0\n'


def some_frame(n=3, step=5):
    rng = np.random.default_rng(0)
    x = CELL.cartesian((np.arange(3 * n).reshape(n, 3) % 7 + 0.5) / 7.5)
    atoms = Atoms.of(np.arange(n), np.arange(n) % 2, x, rng.normal(size=(n, 3)))
    return Frame(SELF, atoms, CELL, n, ELEMENTS, MASSES, step, 2.5, -1.0, 1.0, 10.0)


def test_fixed_width_text_is_what_python_prints():
    x = np.array([0.0, -0.0, 1.5, -1.5, 123456.789, -99999.99996, 1e-9, -4.99e-5, 0.00005, 12.34565])
    text = [bytes(row).decode() for row in fixed(x, 4, 14)]
    assert all(len(t) == 14 for t in text) and [float(t) for t in text] == pytest.approx(x, abs=5.1e-5)
    assert text[2].strip() == "1.5000" and text[5].strip() == "-100000.0000" and text[3].strip() == "-1.5000"
    assert [int(bytes(row).decode()) for row in fixed(np.array([0, 7, 10, 2**40]), 0, 15)] == [0, 7, 10, 2**40]


def test_input_xyz_of_rxmd(tmp_path):
    (tmp_path / "input.xyz").write_text(INPUT_XYZ)
    found = read_structure(tmp_path / "input.xyz")
    assert found.names.tolist() == ["N", "H"] and found.comment == "two atoms"
    assert np.allclose(found.x, [[1, 2.5, 3], [0.4, 0, 0]]) and found.v[0, 0] == pytest.approx(48.8878 / RXMD_TIME)


@pytest.mark.parametrize(("text", "said"), [
    ("3 x\n4 5 6 90 90 90\nN 0 0 0\n", "expected 3 atoms, found 1: file truncated"),
    ("1 x\n4 5 6 90 90 90\nN 0 0 zero\n", "input.xyz:3: expected 'El x y z', found 'N 0 0 zero'"),
    ("1 x\n4 5 6 90 90 290\nN 0 0 0\n", "input.xyz:2: cell: lengths must be positive and angles"),
    ("1 x\n4 5 6 90 90 90\nN 0 0 nan\n", "atom 1 (N): NaN or infinite coordinate"),
    ("2 x\n4 5 6 90 90 90\nN 0 0 0\nH 0.99 0 1.0\n", "atoms 1 (N) and 2 (H) are 0.040 Å apart; they overlap"),
    ("1 x\n4 5 6 90 90 90\nC 0 0 0\n", "atom 1: element C is not in the model deck (H N)"),
    ("", "the file is empty"),
])
def test_faults_of_a_structure(tmp_path, text, said):
    (tmp_path / "input.xyz").write_text(text)
    with pytest.raises(InputError) as caught:
        start_from_file(SELF, tmp_path / "input.xyz", ELEMENTS)
    assert said in str(caught.value) and "input.xyz" in str(caught.value)


def test_strain_and_shear_keep_fractional_coordinates(tmp_path):
    (tmp_path / "input.xyz").write_text(INPUT_XYZ)
    start = start_from_file(SELF, tmp_path / "input.xyz", ELEMENTS, (2, 1, 1), (0.1, 0, -0.1), (0, 0, 5))
    assert start.cell.parameters == pytest.approx((8.8, 5, 5.4, 90, 90, 95))
    assert np.allclose(start.cell.fractional(start.x)[0], (0.125, 0.5, 0.5))


def test_momenta_of_ase_become_velocities(tmp_path):
    from ase import Atoms as Ase
    from ase import units
    a = Ase("NH", positions=[[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=True)
    a.set_velocities([[0, 0, 0], [0.02 / units.fs, 0, 0]])
    a.write(tmp_path / "a.traj")
    assert read_structure(tmp_path / "a.traj").v[1, 0] == pytest.approx(0.02)


def test_rxff_as_rxmd_lays_it_out(tmp_path):
    """A file put together by hand from the format's description, by two ranks along x, is read; ours says the same."""
    rows = np.zeros((3, 10))
    rows[:, :3] = [[0.1, 0.5, 0.5], [0.25, 0.25, 0.25], [0.2, 0.0, 0.9]]
    rows[1, 3:6] = [1.0, 2.0, 3.0]
    rows[:, 7] = [1 + 3e-13, 2 + 1e-13, 1 + 2e-13]
    raw = (np.array([2, 2, 1, 1, 1, 2, 42], "<i4").tobytes() + np.array(CELL.parameters, "<f8").tobytes()
           + rows.astype("<f8").tobytes())
    (tmp_path / "rxff.bin").write_bytes(raw)
    start = read_rxff(SELF, tmp_path / "rxff.bin", ELEMENTS)
    assert start.gid.tolist() == [2, 0, 1] and start.species.tolist() == [0, 1, 0] and start.step == 42
    assert np.allclose(CELL.fractional(start.x)[:, 0], [0.1, 0.75, 0.7])
    assert np.allclose(start.v[1] * RXMD_TIME, [1, 2, 3])
    write_rxff(SELF, tmp_path / "again.bin", start.atoms(), start.cell, 42, (2, 1, 1))
    again = np.frombuffer((tmp_path / "again.bin").read_bytes(), "<f8", offset=28 + 48).reshape(3, 10)
    assert (tmp_path / "again.bin").read_bytes()[:76] == raw[:76] and np.allclose(again, rows[[0, 1, 2]], atol=1e-14)


def test_numbers_survive_the_packing_of_type_and_gid():
    for kind in (1, 2, 7, 100):
        gid = np.array([1, 10**6 + 1, 2**31 + 1, 10**12 + 1]) if kind < 100 else np.array([1, 2**31 + 1])
        packed = kind + gid * 1e-13
        assert np.array_equal(np.rint((packed - np.rint(packed)) * 1e13).astype(np.int64), gid)


@pytest.mark.parametrize(("harm", "said"), [
    (lambda raw: raw[:-1], "truncated; make it again"),
    (lambda raw: raw[:10], "truncated inside the header"),
    (lambda raw: raw + b"x", "too long"),
    (lambda raw: b"\x07" + raw[1:], "not an rxff.bin"),
    (lambda raw: raw[:-24] + np.array([9.0]).tobytes() + raw[-16:], "type 9, but the model deck has 2 elements"),
    (lambda raw: raw[:-80] + np.array([np.nan]).tobytes() + raw[-72:], "atom 3: NaN or infinite coordinate"),
])
def test_a_damaged_rxff_is_refused(tmp_path, harm, said):
    path = tmp_path / "rxff.bin"
    write_rxff(SELF, path, some_frame().atoms, CELL, 0)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(InputError) as caught:
        read_rxff(SELF, path, ELEMENTS)
    assert said in str(caught.value)


def test_where_a_run_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rxmd.in").write_text("time 0.5 10\nstructure input.xyz 3 1 1\n")
    (tmp_path / "rxmdnn.in").write_text("null 3 2 H 1.008 N 14.007\n")
    (tmp_path / "input.xyz").write_text(INPUT_XYZ)
    assert read_start(SELF, read_run([])).n_global == 6
    frame = some_frame(6)
    write_rxff(SELF, tmp_path / "DAT" / "rxff.bin", frame.atoms, CELL, 3)
    assert read_start(SELF, read_run([])).step == 3
    write_checkpoint(frame, tmp_path / "DAT")
    assert read_start(SELF, read_run([])).step == 5 and read_start(SELF, read_run(["--start", "structure"])).step == 0
    assert read_start(SELF, read_run(["--run_from_xyz", "input.xyz"])).n_global == 2
    with pytest.raises(InputError, match=r"another system: it holds 3 H 3 N, .*rxmd.in:2 makes 2 H 2 N; use another"):
        (tmp_path / "rxmd.in").write_text("time 0.5 10\nstructure input.xyz 2 1 1\n")
        read_start(SELF, read_run([]))


def test_a_lost_checkpoint_leaves_the_one_before(tmp_path):
    for step in (1, 2):
        write_checkpoint(some_frame(step=step), tmp_path)
    (tmp_path / "checkpoint.h5").unlink()
    assert read_checkpoint(SELF, find_checkpoint(tmp_path)).step == 1
    (tmp_path / "checkpoint.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"not a complete checkpoint.*; move it away to continue from checkpoint.prev"):
        read_checkpoint(SELF, find_checkpoint(tmp_path))


def test_checkpoint_is_plain_hdf5(tmp_path):
    path = write_checkpoint(some_frame(), tmp_path, deck="time 0.5 10")
    with h5py.File(path) as file:
        assert file["x"].shape == (3, 3) and np.array_equal(file["gid"][:], [0, 1, 2])
        assert b'"deck": "time 0.5 10"' in file["header"][()]
