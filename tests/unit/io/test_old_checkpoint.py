"""A checkpoint written at commit f864442, before the package was divided into rooms, is continued as it was then."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.run import main
from rxmdnn.errors import InputError
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


@pytest.mark.parametrize(("flags", "masses", "said"), [
    (("--strain", "0.01", "0", "0"), "20.18", "strain: not applied again: the checkpoint holds the cell"),
    (("--ensemble", "svr", "0.1", "--barostat", "scr", "0.1", "0.5"), "20.18", "of an earlier version"),
    ((), "22.0", "masses: now Ne 22, before Ne 20.18"),
])
def test_what_it_does_not_hold_is_not_compared(tmp_path, flags, masses, said):
    place = tmp_path / "run"
    shutil.copytree(OLD, place)
    (place / "DAT").mkdir()
    shutil.copy(place / "checkpoint.h5", place / "DAT")
    model = place / "rxmdnn.in"
    model.write_text(model.read_text().replace("20.18", masses))
    words = ["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / "DAT"), "--ntime_step", "30", *flags]
    if masses != "20.18":
        with pytest.raises(InputError, match=said):
            main(words, MPI.COMM_SELF)
        return
    assert main(words, MPI.COMM_SELF) == 0
    assert said in (place / "DAT/run.log").read_text()
