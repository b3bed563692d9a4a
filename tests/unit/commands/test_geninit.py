"""rxmdnn geninit: RXMD's options."""

import ase.io
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.geninit import main
from rxmdnn.errors import InputError
from rxmdnn.io.rxff import read_rxff
from rxmdnn.io.structure import read_structure

ELEMENTS = ("H", "N")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rxmdnn.in").write_text("null 3 2 H 1.008 N 14.007\n")
    (tmp_path / "input.xyz").write_text('2 "two"\n4 5 6 80 90 100\nN 0.25 0.5 0.5 1 2 3\nH 0.5 0.75 0.5 0 0 0\n')
    return tmp_path


def test_replicas_keep_their_positions(folder):
    main(["-mc", "2", "3", "1", "-v", "2", "1", "2", "-o", "DAT", "-nocs", "-vread"])
    start = read_rxff(MPI.COMM_SELF, folder / "DAT" / "rxff.bin", ELEMENTS)
    order = np.argsort(start.gid)
    unit = read_structure("input.xyz")
    corners = [np.array([[i, j, 0.0]]) for i in range(2) for j in range(3)]
    expected = np.concatenate([unit.x + unit.cell.cartesian(corner) for corner in corners])
    assert np.allclose(start.x[order], expected) and start.species[order].tolist() == [1, 0] * 6
    assert np.allclose(start.v[order], np.tile(unit.v, (6, 1))) and start.cell.parameters == pytest.approx(
        (8, 15, 6, 80, 90, 100))
    seen = ase.io.read(folder / "DAT" / "geninit.xyz")
    assert np.allclose(seen.positions, expected, atol=1e-8) and seen.calc is None


def test_the_lowest_coordinates_become_zero(folder):
    main([])
    start = read_rxff(MPI.COMM_SELF, folder / "rxff.bin", ELEMENTS)
    assert np.allclose(start.cell.fractional(start.x), [[0, 0, 0], [0.25, 0.25, 0]]) and not start.v.any()


def test_real_and_normalized_coordinates_are_inverses(folder):
    main(["-r"])
    assert read_structure("real.xyz", angstrom=True).x == pytest.approx(read_structure("input.xyz").x)
    main(["-n", "-i", "real.xyz"])
    assert read_structure("norm.xyz").x == pytest.approx(read_structure("input.xyz").x)
    assert not (folder / "rxff.bin").exists()


@pytest.mark.parametrize(("argv", "said"), [
    (["-mc", "0", "1", "1", "-v", "1", "1", "-1"], "geninit: -mc: expected three numbers above zero, found 0 1 1\n"
                                                   "geninit: -vprocs: expected three numbers above zero, found 1 1 -1"),
    (["-i", "none.xyz"], "none.xyz: cannot be read: No such file"),
    (["-rxmdnn", "none.in"], "none.in: no such deck"),
    (["-i", "still.xyz", "-vread"], "still.xyz: -vread: it has no velocities"),
    (["-o", "input.xyz"], "cannot be written"),
])
def test_faults(folder, argv, said):
    (folder / "still.xyz").write_text("1 x\n4 5 6 90 90 90\nN 0 0 0\n")
    with pytest.raises(InputError) as caught:
        main(argv)
    assert said in str(caught.value)


def test_a_folder_with_a_checkpoint_is_left_alone(folder):
    """A run there would go on from the checkpoint and silently ignore the new start."""
    (folder / "checkpoint.h5").write_bytes(b"")
    with pytest.raises(InputError, match=r"checkpoint\.h5: a run in \. would continue from this checkpoint"):
        main([])
    assert not (folder / "rxff.bin").exists()
