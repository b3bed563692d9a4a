"""Which files of a folder a run and its analysis wrote: those are moved away by a new run, others are the user's."""

import pytest

from rxmdnn.io.folder import OURS


@pytest.mark.parametrize("name", [
    "run.log", "energies.csv", "checkpoint.prev.h5", "000000100.xyz", "bead_12.h5md", "ring_isotope_H.csv",
    "centroid_pairs.xyz", "profile.h5", "electrons.png", "momentum_H.png", "neutron.csv", "bands.csv",
    "polarization.h5", "polarization_map.png", "hysteresis.png", "topological_charge.csv", "delays.h5",
    "delays_intensity.csv", "delays_temperature_slabs.csv", "delays_line_000_800.png", "delays_peaks.png"])
def test_files_of_a_run_and_its_analysis(name):
    assert OURS.fullmatch(name)


@pytest.mark.parametrize("name", ["rxmd.in", "start.xyz", "notes.txt", "polarization.txt", "delays.csv", "model.png",
                                  "old.1", "my_centroid_pairs.xyz", "delays_mine.csv"])
def test_files_of_the_user(name):
    assert not OURS.fullmatch(name)
