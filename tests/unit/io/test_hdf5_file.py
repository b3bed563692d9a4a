"""HDF5 files that are changed at once: every state between two writes opens and holds complete frames."""

import errno
import os
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import files
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.frame import Frame
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.hdf5_file import changing
from rxmdnn.io.own_formats import H5Frames
from rxmdnn.io.profile import ProfileSeries, read_profile
from rxmdnn.io.series import open_series

N = 5


def frame(step, motion="verlet"):
    x = np.full((N, 3), 0.1) + step + np.arange(N)[:, None]
    atoms = Atoms.of(np.arange(N), np.zeros(N, np.int32), x, 0.5 * x, np.zeros((N, 3), np.int32), 2 * x)
    return Frame(MPI.COMM_SELF, atoms, Cell(np.eye(3) * (500 + 0.01 * step), np.ones(3, bool)), N, ("Ar",), (39.95,),
                 step, 2.0 * step, -1.0, 0.5, 80.0, np.zeros((3, 3)), motion={"motion": motion})


def complete(path, most):
    """The steps of a trajectory, all of whose frames hold what was written."""
    if not path.exists():
        return 0
    with h5py.File(path, "r", locking=False) as file:
        everything = file["particles/all"]
        step = everything["position/step"][:]
        assert step.tolist() == list(range(len(step))) and len(step) <= most
        for name, factor in (("position", 1.0), ("velocity", 0.5)):
            values = everything[name]["value"][:len(step)]
            expected = factor * (0.1 + step[:, None, None] + np.arange(N)[None, :, None]) * np.ones(3)
            np.testing.assert_allclose(values, expected, rtol=1e-6)
        np.testing.assert_allclose(everything["box/edges/value"][:len(step), 0, 0], 500 + 0.01 * step)
        np.testing.assert_allclose(file["observables/total_energy/value"][:len(step)], -0.5 * 96.4853321233)
    return len(step)


@pytest.fixture
def states(monkeypatch, tmp_path):
    """Calls a function with the file after every single write to it."""
    seen = SimpleNamespace(look=lambda: None, writes=0)
    write = files.write_at

    def writing(file, offset, data):
        write(file, offset, data)
        seen.writes += 1
        seen.look()
    monkeypatch.setattr(files, "write_at", writing)
    return seen


def test_a_trajectory_opens_after_every_write(tmp_path, states):
    """150 frames: over two chunks of boxes, with splits of indices; another motion now and then."""
    path = tmp_path / "trajectory.h5md"
    file, known = H5MD(MPI.COMM_SELF, path), []
    for step in range(150):
        looks = step % 32 < 3 or step > 145
        states.look = (lambda most=step + 1: known.append(complete(path, most))) if looks else lambda: None
        file.write(frame(step, "a" if step % 50 else "b"))
        if known:
            assert known[-1] == step + 1 or step % 32 >= 3
    assert complete(path, 150) == 150 and states.writes > 600 and {0, 64, 65, 128} <= set(known) | {0}
    states.look = lambda: known.append(complete(path, 150))
    again = H5MD(MPI.COMM_SELF, path, restart=70)
    assert complete(path, 150) == 71
    known.clear()
    again.write(frame(71))
    assert complete(path, 72) == 72 and known[-1] == 72 and known[0] == 71
    for last in (64, 63, 1):
        H5MD(MPI.COMM_SELF, path, restart=last)
        assert complete(path, 150) == last + 1
    assert open_series(path).step.tolist() == [0, 1]
    H5MD(MPI.COMM_SELF, path, restart=-1).write(frame(0))
    assert complete(path, 1) == 1


def test_a_run_killed_at_any_write_is_read_and_goes_on(tmp_path, states):
    """Between any two writes the trajectory is read whole, with its stages, and a restart continues a copy of it."""
    path, copy = tmp_path / "trajectory.h5md", tmp_path / "copy" / "trajectory.h5md"
    copy.parent.mkdir()
    seen = []

    def look():
        look_again, states.look = states.look, lambda: None
        if path.exists():
            copy.write_bytes(path.read_bytes())
            frames = H5Frames(copy)
            steps, stages = frames.series.step.tolist(), frames.series.stages
            for step in steps:
                np.testing.assert_allclose(frames[step].positions[0], 0.1 + step)
            frames.series.file.close()  # HDF5 would give what it knows of it, not what is on the disk
            last = len(steps) - 1
            assert steps == list(range(last + 1))
            again = H5MD(MPI.COMM_SELF, copy, restart=last)
            again.write(frame(last + 1, "c"))
            assert complete(copy, last + 2) == last + 2
            whole = open_series(copy)
            whole.file.close()
            assert whole.stages == [*(s for s in stages if s[0] <= last), (last + 1, {"motion": "c"})]
            seen.append(last)
        states.look = look_again

    file = H5MD(MPI.COMM_SELF, path)
    file.write(frame(0))
    states.look = look
    file.write(frame(1, "b"))
    file.rewind(0, [[2, 2]])
    file.rewind(0, [[2, 2], [1, 1]])
    assert set(seen) == {0, 1} and open_series(path).step.tolist() == [0]
    with h5py.File(path) as held:
        assert held["parameters/healed_steps"][:].tolist() == [[2, 2], [1, 1]]


def test_a_profile_killed_at_any_write_goes_on(tmp_path, states):
    folder, told, seen = tmp_path / "copy", [], []
    folder.mkdir()

    def look():
        look_again, states.look = states.look, lambda: None
        if (tmp_path / "profile.h5").exists():
            (folder / "profile.h5").write_bytes((tmp_path / "profile.h5").read_bytes())
            n = len(read_profile(folder)["step"])
            again = ProfileSeries(MPI.COMM_SELF, folder, ["Ar"], n - 1, told.append)
            again.write(n, 0.0, np.eye(3), {"t": np.ones(3) * n})
            assert read_profile(folder)["t"][:, 0].tolist() == list(range(n + 1))
            seen.append(n)
        states.look = look_again
    states.look = look
    series = ProfileSeries(MPI.COMM_SELF, tmp_path, ["Ar"], None, told.append)
    for step in range(4):
        series.write(step, 0.0, np.eye(3), {"t": np.ones(3) * step})
    series.rewind(0)
    assert set(seen) == {1, 2, 3, 4} and not told
    states.look = lambda: None
    series.rewind(-1)
    series.write(0, 0.0, np.eye(3), {"t": np.ones(7)})
    assert read_profile(tmp_path)["t"].shape == (1, 7) and not told  # nothing was in the file


def test_a_damaged_trajectory_or_a_full_disk_at_a_restart_is_one_message(tmp_path, monkeypatch):
    path = tmp_path / "trajectory.h5md"
    file = H5MD(MPI.COMM_SELF, path)
    for step in range(3):
        file.write(frame(step))
    whole = path.read_bytes()

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch, pytest.raises(InputError, match=r"h5md: cannot be written: No space left"):
        patch.setattr(files, "write_at", full)
        H5MD(MPI.COMM_SELF, path, restart=1)
    assert path.read_bytes() == whole
    with h5py.File(path, "r+") as held:
        del held["observables/temperature"]
    with pytest.raises(InputError, match=r"h5md: not an H5MD trajectory that can be continued: .*; move it away"):
        H5MD(MPI.COMM_SELF, path, restart=1)


def test_a_profile_opens_after_every_write(tmp_path, states):
    series, seen = ProfileSeries(MPI.COMM_SELF, tmp_path, ["Ar"], None, lambda text: None), []
    states.look = lambda: seen.append(len(read_profile(tmp_path).get("step", ())))
    for step in range(40):
        series.write(step, 2.0 * step, np.eye(3), {"temperature": np.full((30, 30), float(step))})
        found = read_profile(tmp_path)["temperature"]
        assert (found == np.arange(step + 1)[:, None, None]).all()
    assert seen[-1] == 40 and sorted(seen) == seen and len(seen) > 80
    ProfileSeries(MPI.COMM_SELF, tmp_path, ["Ar"], 9, lambda text: None)
    assert len(read_profile(tmp_path)["step"]) == 10


@pytest.mark.parametrize("fail_at", range(12))
def test_a_full_disk_leaves_the_frames_that_are_there(tmp_path, monkeypatch, fail_at):
    path = tmp_path / "trajectory.h5md"
    file = H5MD(MPI.COMM_SELF, path)
    for step in range(3):
        file.write(frame(step))
    count, real = [0], {name: getattr(os, name) for name in ("pwrite", "posix_fallocate")}

    def failing(name):
        def call(*arguments):
            count[0] += 1
            if count[0] == fail_at + 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real[name](*arguments)
        return call
    with monkeypatch.context() as patch:
        for name in real:
            patch.setattr(os, name, failing(name))
        with pytest.raises(InputError, match=r"trajectory.h5md: cannot be written: No space left on device"):
            file.write(frame(3))
    assert complete(path, 3) == 3
    file.write(frame(3))
    assert complete(path, 4) == 4


def test_a_change_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "a.h5"
    with changing(path, new=True) as file:
        file["x"] = np.arange(5)
    before = path.read_bytes()
    with pytest.raises(KeyError), changing(path) as file:
        file["y"] = np.arange(1000)
        file["z"][()]
    assert path.read_bytes() == before
    with changing(path) as file:
        file["y"] = np.arange(1000)
    with h5py.File(path) as file:
        assert file["x"][:].tolist() == list(range(5)) and file["y"][-1] == 999
