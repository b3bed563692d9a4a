"""Labels of a frame: their names, the sign of a virial, whose they are."""

import io

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from rxmdnn.io.labels import LabelKeys, is_by_model, labels_of

STRESS = np.array([[0.01, 0.002, 0.0], [0.002, -0.02, 0.001], [0.0, 0.001, 0.03]])


def frame(words, columns, rows="1 2 3 4 5 6"):
    return ase.io.read(io.StringIO(f'1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:3{columns} {words} '
                                   f'pbc="T T T"\nAr 0 0 0 {rows}\n'), format="extxyz")


def virial(sign=-1):
    return " ".join(map(str, (sign * 64 * STRESS).ravel()))


@pytest.mark.parametrize("words, column, keys", [
    ("energy=-3", "forces", LabelKeys()),
    ("Energy=-3", "force", LabelKeys()),
    ("ENERGY=-3", "Forces", LabelKeys()),
    ("REF_energy=-3", "REF_forces", LabelKeys("REF_energy", "REF_forces")),
    ("energy=99 dft=-3", "forces", LabelKeys("dft")),
])
def test_energy_and_forces_under_their_names(words, column, keys):
    found, wrong = labels_of(frame(words, f":{column}:R:3", "1 2 3"), keys)
    assert wrong == [] and found.energy == -3 and found.forces.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("words, key", [
    ('stress="{}"', None), ('virial="{v}"', None), ('Virial="{v}"', None), ('REF_virial="{v}"', "REF_virial"),
    ('dft_stress="{}"', "dft_stress"), ('stress="9 9 9 9 9 9 9 9 9" virials="{v}"', "virials")])
def test_stress_and_virial_are_the_same_label(words, key):
    text = words.format(" ".join(map(str, STRESS.ravel())), v=virial())
    found, wrong = labels_of(frame("energy=0 " + text, ":forces:R:3", "1 2 3"), LabelKeys(stress=key))
    assert wrong == []
    np.testing.assert_allclose(found.stress, STRESS, atol=1e-12)


@pytest.mark.parametrize("words, columns, keys, message", [
    ("REF_energy=1", ":REF_forces:R:3", LabelKeys("REF_energy"),
     "no forces; the file has the columns species pos REF_forces and the words REF_energy; say 'forces_key REF_forces"),
    ("energy=1", ":forces:R:3", LabelKeys("E0"), "no 'E0', which energy_key names; .* the words energy"),
    ("energy=high", ":forces:R:3", LabelKeys(), "energy is not a number: 'high'"),
    ("energy=1", ":forces:R:2", LabelKeys(), r"forces has the shape \(1, 2\)"),
    ("energy=nan", ":forces:R:3", LabelKeys(), "an energy is NaN or infinite"),
    ("model_energy=1", ":model_forces:R:3", LabelKeys(), "those of a model, not labels"),
])
def test_what_is_wrong_is_said(words, columns, keys, message):
    found, wrong = labels_of(frame(words, columns, "1 2 3" if "2 " not in columns else "1 2"), keys)
    assert found is None
    with pytest.raises(AssertionError, match=message):
        raise AssertionError("; ".join(wrong))


def test_the_free_energy_is_told_beside_the_energy():
    atoms = frame("energy=-3 free_energy=-3.5", ":forces:R:3", "1 2 3")
    assert labels_of(atoms)[0].free_energy == -3.5
    assert labels_of(atoms, LabelKeys("free_energy"))[0].energy == -3.5


def test_frames_of_runs_are_those_of_a_model():
    atoms = Atoms("Ar")
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((1, 3)))
    assert not is_by_model(atoms)
    for words in ({"kinetic_energy": 1.0, "time_unit": "fs", "step": 3}, {"model": "a", "arm": "b", "replica": 1},
                  {"model_energy": 1.0}):
        atoms.info = dict(words)
        assert is_by_model(atoms)
        atoms.info["engine"] = "EMT"  # labelled afterwards
        assert not is_by_model(atoms)
    atoms.info = {"step": 3, "time": 1.0}  # another program's
    assert not is_by_model(atoms)
