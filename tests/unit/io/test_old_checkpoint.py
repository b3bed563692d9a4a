"""A checkpoint written at commit f864442, before the package was divided into rooms, is continued as it was then."""

import shutil
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn.commands.run import main
from rxmdnn.io.log import read_energies

OLD = Path(__file__).parents[2] / "data/before_redesign"


def test_it_goes_on_to_the_same_energies(tmp_path):
    place = tmp_path / "run"
    shutil.copytree(OLD, place)
    (place / "DAT").mkdir()
    shutil.copy(place / "checkpoint.h5", place / "DAT")
    words = ["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / "DAT"), "--ntime_step", "40"]
    assert main(words, MPI.COMM_SELF) == 0
    assert "checkpoint.h5, step 20, continued" in (place / "DAT/run.log").read_text()
    found = read_energies(place / "DAT")
    expected = np.genfromtxt(OLD / "energies.csv", delimiter=",", names=True)
    late = expected[expected["step"] > 20]
    assert found["step"].tolist() == late["step"].tolist()
    for name in ("etotal_eV", "temperature_K", "stress_xy_GPa", "volume_A3", "conserved_eV"):
        np.testing.assert_allclose(found[name], late[name], rtol=1e-10)
