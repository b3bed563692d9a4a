"""profile.h5: frames, a run that goes on, another grid, files that cannot be read."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.io.profile import NAME, ProfileSeries, read_profile

SELF = MPI.COMM_SELF


def frame(k, shape=(1, 1, 3)):
    return {"T": np.full((*shape, 2), float(k)), "count": np.full((*shape, 2), k)}


def written(folder, steps, restart=None, shape=(1, 1, 3), tell=print):
    series = ProfileSeries(SELF, folder, ["Ar", "Ne"], restart, tell)
    for k in steps:
        series.write(k, 2.0 * k, np.eye(3) * (10 + k), frame(k, shape))
    return read_profile(folder)


def test_frames_come_back(tmp_path):
    p = written(tmp_path, [0, 10, 20])
    assert p["step"].tolist() == [0, 10, 20] and p["time"].tolist() == [0, 20, 40]
    assert p["T"].shape == (3, 1, 1, 3, 2) and (p["count"][2] == 20).all() and list(p["elements"]) == ["Ar", "Ne"]
    assert p["cell"][1, 2, 2] == 20


def test_a_run_that_goes_on_drops_later_frames(tmp_path):
    written(tmp_path, [0, 10, 20, 30])
    assert written(tmp_path, [20, 30, 40], restart=10)["step"].tolist() == [0, 10, 20, 30, 40]
    assert written(tmp_path, [5])["step"].tolist() == [5]


def test_another_grid_begins_a_new_file_and_keeps_the_old_one(tmp_path):
    written(tmp_path, [0, 10])
    told = []
    p = written(tmp_path, [20, 30], restart=10, shape=(2, 1, 3), tell=told.append)
    assert p["step"].tolist() == [20, 30] and p["T"].shape == (2, 2, 1, 3, 2)
    assert read_profile(tmp_path / "old.1")["step"].tolist() == [0, 10]
    assert len(told) == 1 and str(tmp_path / "old.1" / NAME) in told[0]


def test_no_file_and_no_frames_are_nothing(tmp_path):
    assert read_profile(tmp_path) == {}
    ProfileSeries(SELF, tmp_path, ["Ar"], 100, print)
    assert read_profile(tmp_path) == {}


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / NAME).write_bytes(b"not hdf5")
    with pytest.raises(InputError, match=r"profile\.h5: not profiles of a run"):
        read_profile(tmp_path)
