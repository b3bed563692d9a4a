"""Trajectories of extended XYZ and H5MD: atoms keep their identity, isotopes and units, whatever the writer."""

import ase.io
import numpy as np
import pytest
from ase import Atoms as AseAtoms
from ase.constraints import FixAtoms
from mpi4py import MPI

from rxmdnn.analysis.spectra import kinds_of
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.commands.spectra import main as spectra
from rxmdnn.commands.structure import main as structure
from rxmdnn.errors import InputError
from rxmdnn.io.canonical import names_of
from rxmdnn.io.frame import Frame, model_frame, write_xyz
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.series import open_all, open_series

SELF = MPI.COMM_SELF
HEAD = 'Lattice="20 0 0 0 20 0 0 0 20" Properties=species:S:1:pos:R:3{more} time={k} pbc="T T T"{words}'


def xyz(path, frames, more="", words="", dt=1):
    """Frames of rows of text."""
    path.write_text("".join(f"{len(rows)}\n{HEAD.format(more=more, k=dt * k, words=words)}\n" + "\n".join(rows) + "\n"
                            for k, rows in enumerate(frames)))
    return path


def test_rows_are_in_the_order_of_their_ids(tmp_path):
    a, b = "Ar 1 1 1 1", "Kr 8 8 8 2"
    series = open_series(xyz(tmp_path / "t.xyz", [(a, b), (b, a), (a, b), (b, a)], ":id:I:1"))
    assert series.names.tolist() == ["Ar", "Kr"]
    assert np.array_equal(series.read("x", range(4)), [[[1, 1, 1], [8, 8, 8]]] * 4)
    assert np.array_equal(series.read("x", [1], slice(1, 2)), [[[8, 8, 8]]])


def test_free_flight_in_a_changing_order_has_the_displacement_of_free_flight(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x, v, frames = rng.random((64, 3)) * 20, rng.normal(0, 0.005, (64, 3)), []
    v -= v.mean(axis=0)
    for k in range(10):
        rows = [f"Ar {p[0]:.8f} {p[1]:.8f} {p[2]:.8f} {w[0]:.8f} {w[1]:.8f} {w[2]:.8f} {i}"
                for i, (p, w) in enumerate(zip(x + 20 * k * v, v))]
        frames.append([rows[i] for i in rng.permutation(64)])
    path = xyz(tmp_path / "t.xyz", frames, ":velo:R:3:id:I:1", dt=20)
    structure([str(path), "-o", str(tmp_path), "--qmax", "0", "--rmax", "5"])
    capsys.readouterr()
    msd = np.genfromtxt(tmp_path / "msd.csv", delimiter=",", names=True)
    at = int(np.argmax(msd["time_fs"] >= 100))
    assert msd["msd_Ar_A2"][at] == pytest.approx((v**2).sum(axis=1).mean() * msd["time_fs"][at] ** 2, rel=1e-5)


def test_other_atoms_in_a_later_frame_are_refused_with_its_number(tmp_path):
    a, b = "Ar 1 1 1", "Kr 8 8 8"
    with pytest.raises(InputError, match=r"t\.xyz: frame 2: atom 1 is Kr, but Ar in the first frame: the order"):
        open_series(xyz(tmp_path / "t.xyz", [(a, b), (a, b), (b, a)])).read("x", range(3))
    with pytest.raises(InputError, match=r"t\.xyz: frame 1: 3 atoms, but the first frame has 2"):
        open_series(xyz(tmp_path / "t.xyz", [(a, b), (a, b, a)]))
    with pytest.raises(InputError, match=r"t\.xyz: frame 1 has other ids than the first frame"):
        open_series(xyz(tmp_path / "t.xyz", [(f"{a} 1", f"{b} 2"), (f"{a} 1", f"{b} 3")], ":id:I:1")).read("x", [1])
    with pytest.raises(InputError, match="two atoms have the id 7"):
        open_series(xyz(tmp_path / "t.xyz", [(f"{a} 7", f"{b} 7")], ":id:I:1"))
    (tmp_path / "numbered").mkdir()
    for k, rows in enumerate([(a, b), (a, b), (b, a)]):
        xyz(tmp_path / f"numbered/{k:09d}.xyz", [rows])
    with pytest.raises(InputError, match=r"000000002\.xyz: frame 0: atom 1 is Kr"):
        open_series(tmp_path / "numbered").read("x", range(3))


def test_logical_text_and_integer_columns_pass(tmp_path):
    rows = ["Ar T top 4 1 2 3 0.5 0 0", "Kr F low 5 4 5 6 0 0.5 0"]
    head = ('Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:move_mask:L:1:site:S:1:layer:I:1:pos:R:3:vel:R:3 '
            'velo_unit="A/ps" pbc="T T F"')
    (tmp_path / "t.xyz").write_text("".join(f"2\n{head} time={k}\n" + "\n".join(rows) + "\n" for k in range(2)))
    series = open_series(tmp_path / "t.xyz")
    assert np.array_equal(series.read("x", [1])[0], [[1, 2, 3], [4, 5, 6]])
    assert np.allclose(series.read("v", [0])[0], [[5e-4, 0, 0], [0, 5e-4, 0]]) and not series.cell(0).pbc[2]


def test_a_constrained_run_of_ase_is_analyzed(tmp_path):
    atoms = AseAtoms("Ar2", [[1, 1, 1], [5, 5, 5]], cell=[9, 9, 9], pbc=True, constraint=FixAtoms([0]))
    for k in range(3):
        atoms.info["time"], atoms.positions[1, 0] = float(k), 5 + 0.1 * k
        atoms.set_velocities([[0, 0, 0], [0.1 / ase.units.fs, 0, 0]])
        ase.io.write(tmp_path / "t.xyz", atoms, append=True)
    series = open_series(tmp_path / "t.xyz")
    assert np.allclose(series.read("x", [2])[0][1], [5.2, 5, 5])
    assert np.allclose(series.read("v", [2])[0][1], [0.1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(("column", "unit", "factor"), [
    ("velo", "A/fs", 1.0), ("vel", "A/fs", 1.0), ("velocities", "A/ps", 1e-3), ("velocity", "nm/ps", 1e-2)])
def test_every_name_and_unit_of_velocities(tmp_path, column, unit, factor):
    path = xyz(tmp_path / "t.xyz", [("Ar 1 1 1 2 3 4",)], f":{column}:R:3", f' velo_unit="{unit}"')
    assert np.allclose(open_series(path).read("v", [0])[0], [[2 * factor, 3 * factor, 4 * factor]])
    assert np.allclose(ase.io.read(path).arrays[column], [[2, 3, 4]])
    bad = xyz(tmp_path / "bad.xyz", [("Ar 1 1 1 2 3 4",)], f":{column}:R:3", ' velo_unit="furlong/day"')
    with pytest.raises(InputError, match="unknown unit of velocity 'furlong/day'"):
        open_series(bad).read("v", [0])


@pytest.mark.parametrize("damage", ["cut", "word"])
def test_a_damaged_frame_is_named(tmp_path, damage):
    last = "Ar 2 2 x" if damage == "word" else "Ar 2 2"
    path = xyz(tmp_path / "t.xyz", [("Ar 1 1 1", "Ar 2 2 2"), ("Ar 1 1 1", last)])
    path.write_text(path.read_text() + "2\n")
    with pytest.raises(InputError, match=r"t\.xyz: frame 1"):
        open_series(path).read("x", [0, 1])


def run_frames(elements, masses, n=12, count=40):
    """Frames of a crystal in vibration, as a run gives them to its writers."""
    rng = np.random.default_rng(2)
    species = np.arange(n) % len(elements)
    home, phase = rng.random((n, 3)) * 9, rng.random((n, 3)) * 7
    for k in range(count):
        x, v = home + 0.1 * np.sin(0.2 * k + phase), 0.1 * 0.2 * np.cos(0.2 * k + phase)
        atoms = Atoms.of(np.arange(n), species, x, v, None, rng.normal(size=(n, 3)))
        yield Frame(SELF, atoms, Cell(9 * np.eye(3)), n, elements, masses, k, float(k), -1.0, 1.0, 100.0,
                    motion={"motion": "nve"})


@pytest.mark.parametrize("elements", [("H", "N"), ("D", "N")])
def test_deuterium_is_deuterium_in_every_trajectory(tmp_path, elements):
    trajectory = H5MD(SELF, tmp_path / "t.h5md")
    (tmp_path / "n").mkdir()
    for frame in run_frames(elements, (2.014102, 14.007)):
        trajectory.write(frame)
        write_xyz(frame, tmp_path / "n")
    one, other = open_series(tmp_path / "t.h5md"), open_series(tmp_path / "n")
    assert np.array_equal(one.names, other.names) and kinds_of(one.names, one.mass)[0] == ("D", "N")
    assert np.allclose(one.mass, other.mass) and open_all([tmp_path / "t.h5md", tmp_path / "n"])
    first = ase.io.read(tmp_path / "n/000000000.xyz")  # ASE knows elements only
    assert first.get_chemical_symbols()[0] == "H" and first.get_masses()[0] == 2.014102
    for what in "xv":
        assert np.allclose(one.read(what, range(40)), other.read(what, range(40)), atol=1e-8)


def test_spectra_of_both_files_of_a_run_are_the_same(tmp_path):
    trajectory = H5MD(SELF, tmp_path / "t.h5md")
    (tmp_path / "n").mkdir()
    for frame in run_frames(("H", "N"), (2.014102, 14.007)):
        trajectory.write(frame)
        write_xyz(frame, tmp_path / "n")
    for name in ("t.h5md", "n"):
        spectra([str(tmp_path / name), "-o", str(tmp_path / f"of_{name}")])
    one, other = (np.genfromtxt(tmp_path / f"of_{n}/vdos.csv", delimiter=",", names=True) for n in ("t.h5md", "n"))
    assert one.dtype.names == other.dtype.names and "D_modes_per_cm" in one.dtype.names
    assert np.allclose(one["total_modes_per_cm"], other["total_modes_per_cm"], rtol=1e-4, atol=1e-6)


def described(tmp_path, name, stages, temperature=100.0):
    """A trajectory whose stages begin at these steps."""
    trajectory = H5MD(SELF, tmp_path / name)
    for frame in run_frames(("H", "N"), (1.008, 14.007), count=20):
        frame.motion = [words for first, words in stages if first <= frame.step][-1]
        frame.temperature = temperature
        trajectory.write(frame)
    return tmp_path / name


def test_a_trajectory_of_an_earlier_version_is_continued_in_its_own_way(tmp_path):
    import h5py

    frames = list(run_frames(("H", "N"), (1.008, 14.007), count=4))
    for frame in frames:
        frame.cell = Cell(9 * np.eye(3)[[1, 0, 2]])  # turned, left-handed
    trajectory = H5MD(SELF, tmp_path / "old.h5md")
    for frame in frames[:2]:
        trajectory.write(frame)
    with h5py.File(tmp_path / "old.h5md", "r+") as file:  # as they were
        box = file["particles/all/box"]
        box["edges/value"][:] = box["run_edges"][:]
        del box["run_edges"], file["parameters/stages"]
        for name in ("potential_energy", "kinetic_energy", "total_energy"):
            file[f"observables/{name}/value"].attrs["unit"] = "eV"
            file[f"observables/{name}/value"][:] = -1.0
        for k in range(2):
            file["particles/all/position/value"][k], file["particles/all/velocity/value"][k] = frames[k].rows.x, frames[
                k].rows.v
    (tmp_path / "run").mkdir()
    (tmp_path / "old.h5md").rename(tmp_path / "run/trajectory.h5")
    again = H5MD(SELF, tmp_path / "run/trajectory.h5md", restart=1)
    for frame in frames[2:]:
        again.write(frame)
    assert [f.name for f in (tmp_path / "run").iterdir()] == ["trajectory.h5"]
    series = open_series(tmp_path / "run")
    for k in range(4):
        assert np.allclose(series.read("x", [k])[0], frames[k].rows.x, atol=1e-12)
        assert np.allclose(series.read("v", [k])[0], frames[k].rows.v, atol=1e-8)
    with h5py.File(tmp_path / "run/trajectory.h5", locking=False) as file:
        assert file["observables/potential_energy/value"][:].tolist() == [-1.0] * 4
    assert read_atoms(tmp_path / "run/trajectory.h5")[3].info["model_energy"] == -1.0


def test_frames_of_a_study_keep_isotopes_and_have_no_labels(tmp_path):
    text = model_frame(np.array(["D", "N"]), [2.014101778, 14.007], np.eye(3)[:2], np.ones((2, 3)),
                       Cell(9 * np.eye(3), np.array([True, False, True])), {"run": "a/1", "time_fs": 2.5})
    (tmp_path / "failures.xyz").write_text(text)
    (atoms,) = read_atoms(tmp_path / "failures.xyz")
    assert names_of(atoms).tolist() == ["D", "N"] and atoms.calc is None and not atoms.pbc[1]
    assert np.array_equal(atoms.arrays["model_forces"], np.ones((2, 3))) and atoms.info["run"] == "a/1"


NVE, TRPMD = {"motion": "nve"}, {"motion": "trpmd", "beads": "4", "positions": "centroids", "target_K": "100"}


@pytest.mark.parametrize(("other", "t", "words"), [
    (TRPMD, 100.0, "classical dynamics and trpmd with 4 beads"), (NVE, 160.0, "runs at 100 K and 160 K"),
    ({"motion": "svr", "target_K": "90"}, 110.0, "")])
def test_unlike_runs_are_not_averaged(tmp_path, other, t, words):
    paths = [described(tmp_path, "a.h5md", [(0, NVE)]), described(tmp_path, "b.h5md", [(0, other)], t)]
    if not words:
        assert len(open_all(paths)) == 2
        return
    with pytest.raises(InputError, match=f"are unlike: {words}"):
        open_all(paths)


def test_targets_and_beads_make_runs_unlike(tmp_path):
    one = described(tmp_path, "a.h5md", [(0, TRPMD)])
    for change in ({"beads": "8"}, {"target_K": "120"}, {"motion": "rpmd"}, {"positions": "bead 1"}):
        with pytest.raises(InputError, match="are unlike"):
            open_all([one, described(tmp_path, "b.h5md", [(0, TRPMD | change)])])


def test_stages_of_one_file_are_kept_apart(tmp_path):
    path = described(tmp_path, "a.h5md", [(0, {"motion": "minimization"}), (12, NVE)])
    with pytest.raises(InputError, match=r"not of one kind: minimization and classical dynamics, the last part from "
                                         r"0\.012 ps on; select a part with --start"):
        open_all([path])
    assert open_all([path], start=0.012)[0].motion == NVE
    assert open_all([path], stop=0.011)[0].motion == {"motion": "minimization"}
    H5MD(SELF, path, restart=5)  # the run continues from before the second stage
    assert open_series(path).stages == [(0, {"motion": "minimization"})]
