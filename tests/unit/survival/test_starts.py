"""Start files of studies: several frames state what one frame states."""

import ase.io
import numpy as np
import pytest
from ase import Atoms

from rxmdnn.survival.starts import read_starts


@pytest.mark.parametrize("frames", [1, 3])
def test_deuterium_and_open_axes_are_kept(tmp_path, frames):
    atoms = Atoms("NH3", [[5, 5, 5], [6, 5, 5], [5, 6, 5], [5, 5, 6]], cell=[10, 10, 10], pbc=[True, True, False])
    atoms.set_masses([14.007, 2.014, 2.014, 2.014])
    ase.io.write(tmp_path / "start.xyz", [atoms] * frames, format="extxyz")
    found = read_starts([tmp_path / "start.xyz"], [8])[8]
    assert found.x.shape == (frames, 8, 3) and found.names.tolist() == ["N", "D", "D", "D"] * 2
    assert np.array_equal(found.cell.pbc, [True, True, False])
