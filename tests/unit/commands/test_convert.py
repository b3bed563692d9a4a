"""``rxmdnn convert``: what a format holds survives, what it does not hold is said, and no file is destroyed."""

import re

import ase.io
import ase.units
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from mpi4py import MPI

import rxmdnn
from rxmdnn.commands.convert import main as convert
from rxmdnn.errors import InputError
from rxmdnn.io.canonical import names_of
from rxmdnn.io.frame_source import open_frames
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.series import open_series


def crystal(k=0, n=8):
    """A frame of ND3-like atoms with everything a frame can state."""
    rng = np.random.default_rng(5)
    atoms = Atoms("NHHH" * (n // 4), rng.random((n, 3)) * 8 + 0.01 * k, cell=[[9, 0, 0], [1, 8, 0], [0.5, -1, 10]],
                  pbc=True)
    atoms.set_masses([14.007, 2.014101778, 2.014101778, 2.014101778] * (n // 4))
    atoms.set_velocities(rng.normal(0, 0.01, (n, 3)) / ase.units.fs)
    atoms.set_array("id", np.arange(n))
    atoms.info |= {"step": 10 * k, "time": 5.0 * k}
    return atoms


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "start.xyz"
    ase.io.write(path, [crystal(k) for k in range(5)], format="extxyz")
    return path


def kept(atoms, like):
    x = atoms.positions + (atoms.arrays["image"] @ atoms.cell if "image" in atoms.arrays else 0)
    assert np.allclose(x, like.positions, atol=1e-6) and np.allclose(atoms.cell, like.cell, atol=1e-6)
    assert np.allclose(atoms.get_velocities(), like.get_velocities(), rtol=1e-4, atol=1e-6)
    assert np.array_equal(names_of(atoms), names_of(like)) and (atoms.pbc == like.pbc).all()


@pytest.mark.parametrize("names", [("a.h5md", "b.xyz"), ("a.traj", "b.h5md"), ("a.extxyz", "b.traj", "c.h5md"),
                                   ("a.h5md", "folder/", "b.h5md")])
def test_all_frames_survive_a_chain_of_formats(tmp_path, start, names):
    source = start
    for name in names:
        convert([str(source), str(tmp_path / name) + ("/" if name.endswith("/") else "")])
        source = tmp_path / name
    found = open_frames(source)
    assert found.frames == 5
    for k in range(5):
        kept(found.read(k), crystal(k))
        assert found.read(k).info["step"] == 10 * k and found.read(k).info["time"] == 5.0 * k


@pytest.mark.parametrize("out", ["one.bin", "checkpoint.h5", "one.traj", "one.xyz", "one.h5md"])
@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_one_frame_keeps_names_velocities_and_open_axes(tmp_path, out, pbc, capsys):
    atoms = crystal(3)
    atoms.pbc = pbc
    ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
    convert([str(tmp_path / "start.xyz"), str(tmp_path / out)])
    said = capsys.readouterr().out.partition("does not hold")[2]
    assert said.strip() == {"one.traj": "ids", "one.bin": "time"}.get(out, "")  # they have no place for them
    again = read_atoms(tmp_path / out)[0]
    if out.endswith("bin"):  # which has atoms inside the cell
        turns = (again.positions - atoms.positions) @ np.linalg.inv(atoms.cell)
        assert np.allclose(turns, np.round(turns), atol=1e-6)
        again.positions = atoms.positions
    kept(again, atoms)


def test_what_a_format_does_not_hold_is_said(tmp_path, start, capsys):
    for out, words in (("x.cif", "isotopes (D), velocities, ids, time and step"), ("x.pdb", "velocities"),
                       ("x.data", "ids as they were (now 1 to 8)"), ("POSCAR", "isotopes (D)")):
        convert([str(start), str(tmp_path / out), "--frames", "0"])
        said = capsys.readouterr().out
        assert "1 frame(s) of 8 atoms" in said and words in said.partition("does not hold")[2], (out, said)


def test_d_beside_h_is_lost_aloud_or_kept(tmp_path, start, capsys):
    atoms = read_atoms(start)[0]
    atoms.set_masses(np.where(np.arange(8) == 1, 1.008, atoms.get_masses()))
    ase.io.write(tmp_path / "hd.xyz", atoms, format="extxyz")
    for out, loses in (("x.data", True), ("x.h5md", False), ("x.bin", False), ("x.traj", False)):
        convert([str(tmp_path / "hd.xyz"), str(tmp_path / out)])
        assert ("isotopes (D)" in capsys.readouterr().out) == loses
        assert (names_of(read_atoms(tmp_path / out)[0]).tolist() == names_of(atoms).tolist()) == (not loses)
    atoms.set_masses(np.where(np.arange(8) == 0, 15.0, atoms.get_masses()))
    ase.io.write(tmp_path / "n15.xyz", atoms, format="extxyz")
    with pytest.raises(InputError, match=r"atom 5 \(N\) has a mass of 14\.007 amu, another one 15; this format"):
        convert([str(tmp_path / "n15.xyz"), str(tmp_path / "n15.h5md")])


def test_labels_stay_labels_and_what_a_model_says_stays_its(tmp_path, capsys):
    atoms = crystal()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.ones((8, 3)))
    ase.io.write(tmp_path / "l.xyz", atoms, format="extxyz")
    convert([str(tmp_path / "l.xyz"), str(tmp_path / "l.traj")])
    assert ase.io.read(tmp_path / "l.traj").get_potential_energy() == -1.5
    convert([str(tmp_path / "l.traj"), str(tmp_path / "l.h5md")])
    assert "labels (energy, forces)" in capsys.readouterr().out
    copy = open_frames(tmp_path / "l.h5md").read(0)
    assert copy.calc is None and "model_forces" not in copy.arrays and "model_energy" not in copy.info
    made = crystal()
    made.set_array("model_forces", np.full((8, 3), 0.25))
    made.info["model_energy"] = -3.0
    ase.io.write(tmp_path / "m.xyz", made, format="extxyz")
    convert([str(tmp_path / "m.xyz"), str(tmp_path / "m.h5md")])
    copy = open_frames(tmp_path / "m.h5md").read(0)
    assert np.allclose(copy.arrays["model_forces"], 0.25) and copy.info["model_energy"] == pytest.approx(-3.0)


def test_the_side_file_names_the_types_and_a_deck_does_without_it(tmp_path, start):
    convert([str(start), str(tmp_path / "r.bin"), "--frames", "2"])
    kept_names = names_of(read_atoms(tmp_path / "r.bin")[0])
    assert set(kept_names.tolist()) == {"N", "D"}
    (tmp_path / "r.bin.json").unlink()
    with pytest.raises(InputError, match="nothing names its types"):
        convert([str(tmp_path / "r.bin"), str(tmp_path / "r.xyz")])
    (tmp_path / "m.in").write_text("lj 0.01 2.0 5.0 2 N 14.007 H 2.014101778\n")
    convert([str(tmp_path / "r.bin"), str(tmp_path / "r.xyz"), "--rxmdnn", str(tmp_path / "m.in")])
    assert np.array_equal(names_of(read_atoms(tmp_path / "r.xyz")[0]), kept_names)
    (tmp_path / "other.in").write_text("lj 0.01 2.0 5.0 2 Ar 39.9 Ne 20.2\n")
    convert([str(start), str(tmp_path / "r.bin"), "--overwrite", "--frames", "2"])
    with pytest.raises(InputError, match=r"its side file names N D, but the elements are Ar Ne"):
        convert([str(tmp_path / "r.bin"), str(tmp_path / "s.xyz"), "--rxmdnn", str(tmp_path / "other.in")])


@pytest.mark.parametrize(("argv", "words"), [
    (["none.xyz", "x.traj"], "none.xyz: no such file"),
    (["start.xyz", "start.xyz", "--overwrite"], "the file to be converted"),
    (["start.xyz", "there.traj"], "there.traj: exists already"),
    (["start.xyz", "x.nonsense"], "ASE writes no format of this name"),
    (["start.xyz", "x.traj", "--from", "exotic"], "start.xyz: no format is called 'exotic'"),
    (["start.xyz", "x.h5"], "name a trajectory .h5md"),
    (["start.xyz", "x.bin", "--frames", ":"], "holds one frame, but 5 are chosen"),
    (["start.xyz", "x.traj", "--frames", "9"], "no frame 9: it holds 5"),
    (["start.xyz", "x.traj", "--frames", "a"], "--frames a: expected a number"),
    (["timeless.xyz", "x.h5md"], "states no time; give the time between frames, --interval"),
    (["mixed.xyz", "x.h5md"], "frame 1 has other atoms"),
    (["molecule.xyz", "x.data"], "no cell of three vectors"),
    (["molecule.xyz", "POSCAR"], "no cell of three vectors"),
    (["cut.bin", "x.xyz"], "cut.bin"),
    (["cut.h5md", "x.xyz"], "cut.h5md: cannot be read"),
    (["cut.traj", "x.xyz"], "cut.traj: ASE cannot read it"),
    (["unit.xyz", "x.h5md"], "frame 0: unknown unit of time 'fortnight'"),
    (["other.h5", "x.xyz"], "neither a trajectory nor a checkpoint"),
])
def test_refusals_leave_no_file(tmp_path, start, argv, words):
    import h5py

    ase.io.write(tmp_path / "there.traj", crystal())
    timeless = [crystal(k) for k in range(2)]
    for atoms in timeless:
        del atoms.info["time"]
    ase.io.write(tmp_path / "timeless.xyz", timeless, format="extxyz")
    ase.io.write(tmp_path / "mixed.xyz", [crystal(0), crystal(1, 4)], format="extxyz")
    ase.io.write(tmp_path / "molecule.xyz", Atoms("NH", [[0, 0, 0], [1, 0, 0]]), format="extxyz")
    convert([str(start), str(tmp_path / "whole.bin"), "--frames", "0"])
    (tmp_path / "cut.bin").write_bytes((tmp_path / "whole.bin").read_bytes()[:-8])
    for suffix in ("h5md", "traj"):
        convert([str(start), str(tmp_path / f"whole.{suffix}")])
        raw = (tmp_path / f"whole.{suffix}").read_bytes()
        (tmp_path / f"cut.{suffix}").write_bytes(raw[:len(raw) // 2])
    (tmp_path / "unit.xyz").write_text(start.read_text().replace("time=", "time_unit=fortnight time="))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = 1
    before = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    paths = [str(tmp_path / argv[0]), str(tmp_path / argv[1])]
    with pytest.raises(InputError) as caught:
        convert([*paths, *argv[2:]])
    assert words in str(caught.value)
    assert {f.name: f.read_bytes() for f in tmp_path.iterdir()} == before


def test_a_dump_of_types_needs_a_deck(tmp_path):
    rows = "2 2 1.0 2.0 3.0\n1 1 0.5 0.5 0.5\n"
    (tmp_path / "d.lammpstrj").write_text("".join(
        f"ITEM: TIMESTEP\n{k}\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS pp pp pp\n0 9\n0 9\n0 9\n"
        f"ITEM: ATOMS id type x y z\n{rows}" for k in range(2)))
    with pytest.raises(InputError, match="names no elements, only types"):
        convert([str(tmp_path / "d.lammpstrj"), str(tmp_path / "d.xyz")])
    (tmp_path / "m.in").write_text("lj 0.01 2.0 5.0 2 Ar 39.95 Ne 20.18\n")
    convert([str(tmp_path / "d.lammpstrj"), str(tmp_path / "d.xyz"), "--rxmdnn", str(tmp_path / "m.in")])
    again = read_atoms(tmp_path / "d.xyz")
    assert len(again) == 2 and all(a.get_chemical_symbols() == ["Ar", "Ne"] for a in again)


def test_frames_without_time_get_the_given_interval(tmp_path):
    frames = [crystal(k) for k in range(3)]
    for atoms in frames:
        atoms.info.clear()
    ase.io.write(tmp_path / "t.xyz", frames, format="extxyz")
    convert([str(tmp_path / "t.xyz"), str(tmp_path / "t.h5md"), "--interval", "2.5"])
    assert open_series(tmp_path / "t.h5md").time.tolist() == [0.0, 2.5, 5.0]


@pytest.mark.parametrize("out", ["t.h5md", "t.traj"])
def test_times_in_ps_are_read_as_such(tmp_path, start, out):
    (tmp_path / "ps.xyz").write_text(start.read_text().replace("time=", "time_unit=ps time="))
    convert([str(tmp_path / "ps.xyz"), str(tmp_path / out)])
    assert open_frames(tmp_path / out).read(2).info["time"] == 10000.0
    assert open_series(tmp_path / "ps.xyz").time[2] == 10000.0


def test_a_folder_of_frames_with_one_step_loses_none(tmp_path, start):
    (tmp_path / "same.xyz").write_text(re.sub("step=[0-9]+", "step=0", start.read_text()))
    with pytest.raises(InputError, match="frame 1: step 0 for the second time"):
        convert([str(tmp_path / "same.xyz"), str(tmp_path / "frames") + "/"])


def test_a_folder_that_is_a_format_of_ase_is_read(tmp_path):
    ase.io.write(tmp_path / "b.bundle", [crystal(k) for k in range(3)], format="bundletrajectory")
    convert([str(tmp_path / "b.bundle"), str(tmp_path / "b.xyz")])
    assert len(read_atoms(tmp_path / "b.xyz")) == 3


def test_a_run_computes_the_forces_that_a_converted_checkpoint_lacks(tmp_path):
    crystal = bulk("Ar", "fcc", 5.3, cubic=True).repeat(3)
    crystal.rattle(0.02, seed=1)
    ase.io.write(tmp_path / "a.xyz", crystal, format="extxyz")
    convert([str(tmp_path / "a.xyz"), str(tmp_path / "DAT/checkpoint.h5")])
    assert "model_forces" not in read_atoms(tmp_path / "DAT/checkpoint.h5")[0].arrays
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.405 7.0 1 Ar 39.948\n")
    (tmp_path / "rxmd.in").write_text("mdmode 1\ntime 1.0 3\nio_step 1 1\n")
    done = rxmdnn.run_deck(tmp_path / "rxmd.in", out=tmp_path / "DAT", comm=MPI.COMM_SELF)
    assert len(done.table["etotal_eV"]) == 3 and np.isfinite(done.table["etotal_eV"]).all()


@pytest.mark.parametrize("read", [read_atoms, open_frames, open_series])
def test_frames_after_a_blank_line_are_not_lost(start, read):
    lines = start.read_text().splitlines()
    start.write_text("\n".join([*lines[:20], "", *lines[20:], "", ""]))
    with pytest.raises(InputError, match=r"a blank line stands before frame 2, counted from 0"):
        read(start)
    start.write_text("\n".join([*lines, "", ""]))
    read(start)


def test_numbered_binary_files_become_a_trajectory(tmp_path, start):
    (tmp_path / "DAT").mkdir()
    for k in range(3):
        convert([str(start), str(tmp_path / f"DAT/{10 * k:09d}.bin"), "--frames", str(k)])
    with pytest.raises(InputError, match="frame 0 states no time"):
        convert([str(tmp_path / "DAT"), str(tmp_path / "t.h5md")])
    convert([str(tmp_path / "DAT"), str(tmp_path / "t.h5md"), "--interval", "5"])
    series = open_series(tmp_path / "t.h5md")
    assert series.step.tolist() == [0, 10, 20] and series.time.tolist() == [0.0, 5.0, 10.0]
    assert series.names.tolist() == names_of(crystal()).tolist()
    again = np.linalg.norm(series.read("v", [2])[0], axis=1)
    assert np.allclose(again, np.linalg.norm(crystal(2).get_velocities(), axis=1) * ase.units.fs, rtol=1e-4)


def test_an_input_of_rxmd_is_converted(tmp_path):
    (tmp_path / "input.xyz").write_text('2 "two"\n10 10 10 90 90 90\nAr 0.1 0.2 0.3\nD 0.5 0.5 0.5\n')
    convert([str(tmp_path / "input.xyz"), str(tmp_path / "x.xyz")])
    again = read_atoms(tmp_path / "x.xyz")[0]
    assert names_of(again).tolist() == ["Ar", "D"] and np.allclose(again.positions, [[1, 2, 3], [5, 5, 5]])
