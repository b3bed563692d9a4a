"""trajectory.xyz: one extended XYZ file of a whole run, which continues without a gap and opens in other programs."""

import shutil

import ase.io
import ase.units
import MDAnalysis
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.run import main as run
from rxmdnn.errors import InputError
from rxmdnn.io.series import open_series
from rxmdnn.io.xyz_trajectory import XYZTrajectory, frames_of
from tests.runs import write_start
from tests.unit.io.test_series import run_frames

SELF = MPI.COMM_SELF
DECK = ("time 2.0 {n}\ntemperature 100 1.0 1\nio_step 10 10\nh5md 5\nxyz 5\ncheckpoint 10\nstructure start.xyz\n"
        "mdmode 1\nmodel model.in\n")


def go(place, n):
    (place / "rxmd.in").write_text(DECK.format(n=n))
    assert run(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / "out")], SELF) == 0
    return place / "out"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("xyz")
    write_start(place)
    (place / "model.in").write_text("lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n")
    return place


@pytest.fixture(scope="module")
def out(place):
    return go(place, 20)


def test_ase_sees_positions_velocities_ids_and_masses(out):
    frames, series = ase.io.read(out / "trajectory.xyz", ":"), open_series(out / "trajectory.h5md")
    assert [a.info["step"] for a in frames] == [0, 5, 10, 15, 20]
    for k, atoms in enumerate(frames):
        assert np.allclose(atoms.positions, series.read("x", [k])[0], atol=1e-8)
        assert np.allclose(atoms.get_velocities() * ase.units.fs, series.read("v", [k])[0], rtol=1e-5, atol=1e-9)
        assert np.array_equal(atoms.arrays["id"], np.arange(40)) and np.array_equal(atoms.get_masses(), series.mass)
        assert atoms.info["time"] == series.time[k] and atoms.pbc.all()
        assert atoms.calc is None and {"model_energy", "model_virial"} <= set(atoms.info)  # not ASE's labels


def test_the_virial_is_that_of_the_potential_alone(out):
    atoms = ase.io.read(out / "trajectory.xyz", -1)
    v, volume = atoms.get_velocities(), atoms.get_volume()
    motion = np.einsum("a,ai,aj->ij", atoms.get_masses(), v, v)
    total = -(motion + atoms.info["model_virial"].reshape(3, 3)) / volume
    assert np.allclose(total, atoms.info["total_stress"].reshape(3, 3), atol=1e-7)
    assert abs(motion / volume).max() > 1e-4  # which the two keys tell apart


def test_mdanalysis_opens_both_without_options(out):
    universe = MDAnalysis.Universe(str(out / "trajectory.xyz"), str(out / "trajectory.h5md"))
    frames = ase.io.read(out / "trajectory.xyz", ":")
    assert len(universe.trajectory) == 5 and universe.atoms.names.tolist() == frames[0].get_chemical_symbols()
    ts = universe.trajectory[3]
    assert np.allclose(ts.positions, frames[3].positions, atol=1e-4) and ts.time == pytest.approx(0.03)
    assert np.allclose(ts.forces / 96.4853321, frames[3].arrays["model_forces"], rtol=1e-4, atol=1e-6)
    # energies and forces in one system of units
    assert ts.data["potential_energy"] / 96.4853321 == pytest.approx(frames[3].info["model_energy"], abs=1e-8)


def test_ovito_opens_it_without_options(out):
    ovito = pytest.importorskip("ovito.io")
    pipeline = ovito.import_file(str(out / "trajectory.xyz"))
    frames = ase.io.read(out / "trajectory.xyz", ":")
    assert pipeline.source.num_frames == 5
    data = pipeline.compute(3)
    assert np.allclose(data.particles["Position"][...], frames[3].positions, atol=1e-7)
    assert np.allclose(data.particles["Velocity"][...], frames[3].arrays["velo"], atol=1e-9)
    assert np.array_equal(data.particles["Particle Identifier"][...], np.arange(40))
    assert np.allclose(data.cell[:, :3].T, np.array(frames[3].cell), atol=1e-9) and all(data.cell.pbc)


def test_a_continued_run_has_every_frame_once(place):
    whole = (shutil.rmtree(place / "out", ignore_errors=True), go(place, 40))[1]
    text = (whole / "trajectory.xyz").read_bytes()
    shutil.rmtree(whole)
    go(place, 20)
    path = place / "out" / "trajectory.xyz"
    ahead = list(frames_of(path))[-1]
    begun = path.read_bytes()[ahead.start:].replace(b"step=20", b"step=25")[:700]  # killed while it wrote
    path.write_bytes(path.read_bytes() + begun)
    go(place, 40)
    assert [a.info["step"] for a in ase.io.read(path, ":")] == list(range(0, 41, 5))
    again = ase.io.read(path, ":")
    for one, other in zip(again, ase.io.read(_file(place, text), ":")):
        assert np.allclose(one.positions, other.positions, atol=1e-7)


def _file(place, text):
    (place / "whole.xyz").write_bytes(text)
    return place / "whole.xyz"


def test_rewinding_and_a_frame_without_header(tmp_path):
    frames = list(run_frames(("H", "N"), (1.008, 14.007), count=5))
    trajectory = XYZTrajectory(SELF, tmp_path / "t.xyz")
    for frame in (*frames[:4], frames[3]):  # the last one twice
        trajectory.write(frame)
    assert [f.atoms for f in frames_of(tmp_path / "t.xyz")] == [12] * 4
    trajectory.rewind(1)
    trajectory.write(frames[2])
    assert open_series(tmp_path / "t.xyz").step.tolist() == [0, 1, 2]
    size = (tmp_path / "t.xyz").stat().st_size
    with open(tmp_path / "t.xyz", "r+b") as file:  # rows without their header: killed between the two
        file.seek(size + 500)
        file.write(b"Ar 1 1 1\n")
    assert open_series(tmp_path / "t.xyz").step.tolist() == [0, 1, 2]
    XYZTrajectory(SELF, tmp_path / "t.xyz", restart=9).write(frames[4])
    assert [a.info["step"] for a in ase.io.read(tmp_path / "t.xyz", ":")] == [0, 1, 2, 4]


def test_a_file_of_another_program_is_not_continued(tmp_path):
    path = tmp_path / "trajectory.xyz"
    path.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3\nAr 1 1 1\n')
    before = path.read_bytes()
    with pytest.raises(InputError, match="a frame names no step"):
        XYZTrajectory(SELF, path, restart=3)
    assert path.read_bytes() == before
