"""The pair terms of RXMD-NN, shparams and spparams: exact values, gradients, parameter files."""

import math

import numpy as np
import pytest

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.deck.run import read_run
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.models.mixture import Mixture
from rxmdnn.run.potential import make_potential
from tests.runs import write_start

TEXTS = {"shparams": "2\n1 1 0.4 2.0 9 3.5\n1 2 1.5d0 1.5 6 3.0  # Ar-Ne\n",
         "spparams": "2 <number of types>\n2 2 0.7 2.5 1.5 3.5\n1 2 0.2 3.0 0 3.0\n"}


def short_range(r, a, sigma, n, r_c):
    return a * (sigma / r) ** n * math.cos(math.pi * r / (2 * r_c)) if r < r_c else 0.0


def spring(r, a, r_0, r_in, r_out):
    return a * (r - r_0) ** 2 if r_in < r < r_out else 0.0


def potential_of(tmp_path, texts, models="null 2.0 2 Ar 39.95 Ne 20.18\n", flags=()):
    write_start(tmp_path)
    (tmp_path / "rxmdnn.in").write_text(models)
    (tmp_path / "rxmd.in").write_text("time 1.0 1\nstructure start.xyz\nbackend cpu\n"
                                      + "".join(f"{name} {name}.txt\n" for name in texts))
    for name, text in texts.items():
        (tmp_path / f"{name}.txt").write_text(text)
    run = read_run(["--rxmdin", str(tmp_path / "rxmd.in"), *flags])
    return make_potential(run, backends.make("cpu")), run


def energy_of(potential, r, species, box=20.0):
    x = np.array([[1.0, 1.0, 1.0], [1.0 + r / 3, 1.0 + 2 * r / 3, 1.0 + 2 * r / 3]])
    system = System.of(potential, Cell(box * np.eye(3)), np.array(species, np.int32), x)
    return system.compute(system.cell, x), x


@pytest.mark.parametrize("r", [1.6, 2.4, 2.9999, 3.2, 3.49, 3.51])
@pytest.mark.parametrize("species", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_two_atoms(tmp_path, r, species):
    potential, _ = potential_of(tmp_path, TEXTS)
    computed, x = energy_of(potential, r, species)
    pair = tuple(sorted(species))
    terms = {(0, 0): lambda r: short_range(r, 0.4, 2.0, 9, 3.5), (1, 1): lambda r: spring(r, 0.7, 2.5, 1.5, 3.5),
             (0, 1): lambda r: short_range(r, 1.5, 1.5, 6, 3.0) + spring(r, 0.2, 3.0, 0, 3.0)}
    phi = terms[pair]
    assert computed.energy == pytest.approx(phi(r), abs=1e-14)  # counted once
    slope = (phi(r + 1e-6) - phi(r - 1e-6)) / 2e-6
    unit = (x[1] - x[0]) / r
    np.testing.assert_allclose(computed.forces, [slope * unit, -slope * unit], atol=1e-8)
    np.testing.assert_allclose(computed.virial, -r * slope * np.outer(unit, unit), atol=1e-8)
    assert computed.energies == pytest.approx([phi(r) / 2] * 2, abs=1e-14)


def test_forces_and_virial_are_derivatives(tmp_path):
    potential, _ = potential_of(tmp_path, {"shparams": TEXTS["shparams"]}, "lj 0.0104 3.0 4.0 2 Ar 39.95 Ne 20.18\n")
    rng = np.random.default_rng(1)
    x = np.stack(np.meshgrid(*[np.arange(3) * 2.1] * 3), -1).reshape(-1, 3) + rng.normal(0, 0.1, (27, 3))
    species, cell = (np.arange(27) % 2).astype(np.int32), Cell(6.3 * np.eye(3))

    def compute(x, cell):
        return System.of(potential, cell, species, x).compute(cell, x)

    found, h = compute(x, cell), 1e-5
    for atom, axis in ((0, 0), (5, 1), (26, 2)):
        moved = np.zeros_like(x)
        moved[atom, axis] = h
        slope = (compute(x + moved, cell).energy - compute(x - moved, cell).energy) / (2 * h)
        assert found.forces[atom, axis] == pytest.approx(-slope, abs=1e-6)
    strain = np.array([[0.3, 0.1, 0.0], [0.1, -0.2, 0.4], [0.0, 0.4, 0.5]])
    up, down = (compute(x @ f, Cell(cell.h @ f)).energy for f in (np.eye(3) + h * strain, np.eye(3) - h * strain))
    assert (up - down) / (2 * h) == pytest.approx(-np.sum(found.virial * strain), abs=1e-5)
    assert np.abs(found.forces.sum(axis=0)).max() < 1e-10


def test_terms_are_added_once_to_weighted_models(tmp_path):
    models = "lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\nlj 0.02 3.0 6.0 2 Ar 39.95 Ne 20.18\n"
    zbl = "zbl 2.0 2 Ar 39.95 Ne 20.18\n"
    flags = ["--model_weights", "0.3", "0.9"]
    parts = [energy_of(potential_of(tmp_path, texts, text, flags)[0], 2.2, (0, 1))[0].energy
             for texts, text in (({}, models), (TEXTS, models), (TEXTS, models + zbl), ({}, models + zbl))]
    terms = short_range(2.2, 1.5, 1.5, 6, 3.0) + spring(2.2, 0.2, 3.0, 0, 3.0)
    assert parts[1] - parts[0] == pytest.approx(terms, abs=1e-12)
    assert parts[2] - parts[3] == pytest.approx(terms, abs=1e-12)
    potential, _ = potential_of(tmp_path, TEXTS, models, flags)
    assert isinstance(potential, Mixture) and len(potential.members) == 2  # the terms do not enter the spread


def test_jumps_are_said(tmp_path):
    _, run = potential_of(tmp_path, TEXTS)
    notes = [note for note in run.notes if "params" in note]
    assert sum("Ar-Ar: the force of a pair ends at" in note for note in notes) == 1
    assert sum("Ne-Ne: the energy of a pair jumps by 0.7 eV" in note for note in notes) == 2
    assert not any("spparams: Ar-Ne" in note for note in notes)  # zero at rc_out, none at 0 Å


FAULTS = {
    "3\n1 1 1 1 1 1\n": r"sh\.txt:1: 3 types; rxmdnn\.in has 2",
    "1 1 0.4 2.0 9 3.5\n": r"sh\.txt:1: 1 types; rxmdnn\.in has 2",
    "": "the first line must be the number of types, 2",
    "2\n": "no pair of types; write lines 'i j",
    "2\n1 3 0.4 2.0 9 3.5\n": r"sh\.txt:2: types 1 and 3: must be from 1 to 2",
    "2\nAr Ne 0.4 2.0 9 3.5\n": r"sh\.txt:2: 'Ar Ne 0.4 2.0 9 3.5' is not a pair; write 'i j A",
    "2\n1 2 0.4 2.0 9\n": "is not a pair",
    "2\n1 2 0.4 2.0 9 nan\n": "is not a pair",
    "2\n1 2 0.4 2.0 9 1e999\n": "out of range",
    "2\n1 2 0.4 0.0 9 3.0\n": "sigma and rc must be above zero",
    "2\n1 2 0.4 1.0 9 3.0\n\n2 1 0.5 1.0 9 3.0\n": r"sh\.txt:4: types 2 and 1 are given before",
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_of_a_file(tmp_path, text):
    potential_of(tmp_path, {})
    (tmp_path / "sh.txt").write_text(text)
    with pytest.raises(InputError, match=FAULTS[text]) as caught:
        read_run(["--rxmdin", str(tmp_path / "rxmd.in"), "--shparams", str(tmp_path / "sh.txt")])
    assert len(caught.value.faults) == 1 and "shparams: " in str(caught.value)


def test_other_faults(tmp_path):
    potential_of(tmp_path, TEXTS)
    deck = ["--rxmdin", str(tmp_path / "rxmd.in")]
    (tmp_path / "sp.txt").write_text("2\n1 2 0.4 1.0 3.0 2.0\n")
    with pytest.raises(InputError, match=r"sp\.txt:2: rc_in must not be negative, and rc_out must be above rc_in"):
        read_run([*deck, "--spparams", str(tmp_path / "sp.txt")])
    with pytest.raises(InputError, match="no file"):
        read_run([*deck, "--spparams", str(tmp_path / "absent")])
    with pytest.raises(InputError, match=r"shparams: is computed on the CPU only"):
        read_run([*deck, "--backend", "cuda"])
    with pytest.raises(InputError, match="ceparams: not available"):
        read_run([*deck, "--ceparams", "F"])
