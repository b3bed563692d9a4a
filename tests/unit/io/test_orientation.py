"""Atoms of turned and left-handed cells keep their distances and their handedness in every file that is written."""

import ase.io
import h5py
import MDAnalysis
import numpy as np
import pytest
from ase import Atoms as AseAtoms
from ase.geometry import find_mic
from MDAnalysis.lib.distances import distance_array
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.commands.convert import main as convert
from rxmdnn.io.frame import Frame, write_pdb, write_xyz
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.rxff import write_rxff
from rxmdnn.io.series import open_series
from tests.systems import spread_atoms

SELF = MPI.COMM_SELF
SKEW = np.array([[12.0, 0.0, 0.0], [2.5, 11.0, 0.0], [-2.0, 1.5, 13.0]])
TURN = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))[0]
TURN *= np.linalg.det(TURN)
CELLS = {
    "standard": SKEW, "turned": SKEW @ TURN, "left-handed": SKEW * [1, 1, -1],
    "left-handed, turned": SKEW[[1, 0, 2]] @ TURN,
    "a along y": np.diag([10.0, 11.0, 12.0])[[1, 2, 0]], "left-handed, orthogonal": np.diag([10.0, -11.0, 12.0]),
}


def frame_of(h, pbc=(True, True, True), step=3):
    """30 atoms, some of them outside the cell; no two are nearer than 2 Å."""
    cell, rng = Cell(h, np.array(pbc)), np.random.default_rng(1)
    x = cell.cartesian(spread_atoms(Cell(np.eye(3) * 12), 30, 2.2) @ np.eye(3) / 12)
    atoms = Atoms.of(np.arange(30), np.arange(30) % 2, x, rng.normal(0, 0.01, (30, 3)), rng.integers(-2, 3, (30, 3)),
                     rng.normal(0, 1, (30, 3)))
    return Frame(SELF, atoms, cell, 30, ("Ar", "Ne"), (39.95, 20.18), step, 2.0 * step, -1.0, 0.5, 100.0)


def shape(x, cell, pbc, v):
    """Numbers that no rotation and no other choice of the cell changes, and a mirror image does.

    Distances of the atom 0 to all others; volumes spanned by three of them; the same with a velocity.
    """
    d, length = find_mic(x[1:] - x[0], cell, pbc)
    near = d[np.argsort(length)[:6]]
    volumes = [np.linalg.det(near[[i, i + 1, i + 2]]) for i in range(4)]
    mixed = [np.linalg.det(np.stack([near[i], near[i + 1], v[0]])) for i in range(4)]
    return length, np.array(volumes), np.array(mixed)


def same(atoms, frame, moving=True, atol=1e-6):
    own = shape(frame.atoms.x, frame.cell.h, frame.cell.pbc, frame.atoms.v)
    v = atoms.get_velocities() * ase.units.fs if moving else frame.atoms.v
    again = shape(atoms.positions, np.array(atoms.cell), atoms.pbc, v)
    assert np.allclose(again[0], own[0], atol=atol) and np.allclose(again[1], own[1], atol=100 * atol)
    assert abs(own[1]).max() > 1.0
    if moving:
        assert np.allclose(again[2], own[2], atol=100 * atol) and abs(own[2]).max() > 1e-2


@pytest.mark.parametrize("name", CELLS)
def test_every_file_keeps_distances_and_handedness(tmp_path, name):
    frame = frame_of(CELLS[name])
    same(ase.io.read(write_xyz(frame, tmp_path)), frame)
    same(ase.io.read(write_pdb(frame, tmp_path)), frame, moving=False, atol=2e-3)
    write_rxff(SELF, tmp_path / "rxff.bin", frame.atoms, frame.cell, 3, (2, 1, 1), frame.elements, frame.masses)
    same(read_atoms(tmp_path / "rxff.bin")[0], frame)
    H5MD(SELF, tmp_path / "t.h5md").write(frame)
    same(read_atoms(tmp_path / "t.h5md")[0], frame)
    for out in ("x.data", "x.cif", "POSCAR", "x.traj", "x.pdb", "y.bin"):
        convert([str(tmp_path / "000000003.xyz"), str(tmp_path / out)])
        same(read_atoms(tmp_path / out)[0], frame, moving=out not in ("x.cif", "x.pdb"),
             atol=2e-3 if out.endswith("pdb") else 1e-4)


@pytest.mark.parametrize("name", CELLS)
def test_dimensions_of_mdanalysis_belong_to_its_positions(tmp_path, name):
    frame = frame_of(CELLS[name])
    H5MD(SELF, tmp_path / "t.h5md").write(frame)
    universe = MDAnalysis.Universe.empty(30, trajectory=False)
    universe.load_new(str(tmp_path / "t.h5md"))  # told by its suffix
    ts = universe.trajectory[0]
    d = distance_array(ts.positions[:1], ts.positions[1:], box=ts.dimensions)[0]
    assert np.allclose(d, shape(frame.atoms.x, frame.cell.h, True, frame.atoms.v)[0], atol=1e-4)
    with h5py.File(tmp_path / "t.h5md") as file:
        s = file["particles/all/position/value"][0] @ np.linalg.inv(file["particles/all/box/edges/value"][0])
    assert s.min() > -1e-9 and s.max() < 1 + 1e-9
    assert np.allclose(ts.forces / 96.4853321, frame_turned(frame, "f"), rtol=1e-4, atol=1e-5)
    assert np.allclose(ts.velocities / 1000, frame_turned(frame, "v"), rtol=1e-4, atol=1e-7)


def frame_turned(frame, what):
    return getattr(frame.atoms, what) @ frame.cell.standard().turn


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("name", CELLS)
def test_a_trajectory_is_read_in_the_orientation_of_the_run(tmp_path, name, pbc):
    frame = frame_of(CELLS[name], pbc)
    H5MD(SELF, tmp_path / "t.h5md").write(frame)
    series, rows = open_series(tmp_path / "t.h5md"), frame.rows
    assert np.array_equal(series.cell(0).h, frame.cell.h) and tuple(series.cell(0).pbc) == pbc
    assert np.allclose(series.read("x", [0])[0], rows.x, atol=1e-12)
    assert np.allclose(series.read("v", [0])[0], rows.v, atol=1e-8)
    assert np.array_equal(series.read("image", [0])[0], rows.image)
    assert np.allclose(series.unwrapped([0])[0], rows.x + rows.image @ frame.cell.h, atol=1e-11)


def test_a_standard_cell_is_written_to_the_bit(tmp_path):
    frame = frame_of(SKEW)
    assert frame.cell.standard().same
    H5MD(SELF, tmp_path / "t.h5md").write(frame)
    assert np.array_equal(open_series(tmp_path / "t.h5md").read("x", [0])[0], frame.rows.x)


def test_a_molecule_without_cell_is_not_turned(tmp_path):
    atoms = AseAtoms("NHHH", [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0.2, 0.3, 1]])
    atoms.set_velocities(np.ones((4, 3)))
    ase.io.write(tmp_path / "m.xyz", atoms, format="extxyz")
    convert([str(tmp_path / "m.xyz"), str(tmp_path / "m.traj")])
    again = ase.io.read(tmp_path / "m.traj")
    assert np.allclose(again.positions, atoms.positions) and not again.pbc.any() and again.cell.rank == 0
