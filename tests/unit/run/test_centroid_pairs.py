"""Pairs of forces of a ring-polymer run: the difference is that of the beads and of the centroid, on restarts too."""

import ase.io
import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.ase import Calculator
from rxmdnn.backend import make
from rxmdnn.commands.run import main as run
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.io.labels import LabelKeys, labels_of
from rxmdnn.io.series import open_series
from rxmdnn.models.pair import LennardJones
from tests.runs import write_start

DECK = """time 2.0 {steps}
temperature 30 1 1
ensemble langevin 0.1
pimd 4 pimd
pimd_pairs 10
pimd_dump 10
io_step 0 20
h5md 10
checkpoint 10
structure start.xyz
model model.in
"""


def go(place, out, steps, *flags):
    (place / "model.in").write_text("lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n")
    (place / "rxmd.in").write_text(DECK.format(steps=steps))
    assert run(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / out), *flags], MPI.COMM_SELF) == 0
    return place / out


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("pairs")
    write_start(place)
    return place


def test_the_difference_is_that_of_beads_and_centroid(place):
    out = go(place, "whole", 20)
    frames = ase.io.read(out / "centroid_pairs.xyz", ":")
    assert [f.info["step"] for f in frames] == [0, 10, 20]
    calc = Calculator(LennardJones(make("cpu"), ("Ar", "Ne"), epsilon=0.0104, sigma=3.4, cutoff=6.0),
                      backend=make("cpu"), comm=MPI.COMM_SELF)

    def forces(x):
        atoms = frames[-1].copy()
        atoms.positions, atoms.calc = x, calc
        return atoms.get_forces(), atoms.get_potential_energy()

    beads = [open_series(f) for f in sorted(out.glob("bead_*.h5md"))]
    found = [forces(b.read("x", [len(b.time) - 1])[0].astype(float)) for b in beads]
    still, at_centroid = forces(frames[-1].positions)
    want = np.mean([f for f, _ in found], axis=0) - still
    assert np.abs(want).max() > 1e-3
    assert np.allclose(frames[-1].arrays["model_forces"], want, atol=2e-5)
    labels, wrong = labels_of(frames[-1], LabelKeys("model_energy", "model_forces"))
    assert not wrong and np.allclose(labels.forces, want, atol=2e-5)  # what training takes
    assert frames[-1].info["model_energy"] == pytest.approx(np.mean([e for _, e in found]) - at_centroid, abs=1e-5)


def test_a_continued_run_goes_on_with_its_file_and_the_same_bits(place):
    whole = (place / "whole/centroid_pairs.xyz").read_bytes()
    go(place, "parts", 10)
    go(place, "parts", 10)
    assert (place / "parts/centroid_pairs.xyz").read_bytes() == whole
    with h5py.File(place / "parts/checkpoint.h5") as file:
        assert not any("mean_force" in name for name in file)


def test_a_new_run_moves_the_pairs_of_an_earlier_one_away(place):
    out = go(place, "again", 10)
    pairs = (out / "centroid_pairs.xyz").read_bytes()
    go(place, "again", 0, "--start", "structure")
    assert (out / "old.1/centroid_pairs.xyz").read_bytes() == pairs != (out / "centroid_pairs.xyz").read_bytes()


def test_pairs_need_a_ring_that_samples(place):
    for line, words in (("", "pimd_pairs: needs a line 'pimd <beads> <method>'"),
                        ("pimd 4 trpmd", "pimd_pairs: needs the distribution of 'pimd 4 pimd', not of trpmd")):
        (place / "bad.in").write_text(DECK.format(steps=1).replace("pimd 4 pimd", line))
        with pytest.raises(InputError, match=words):
            read_run(["--rxmdin", str(place / "bad.in")])
