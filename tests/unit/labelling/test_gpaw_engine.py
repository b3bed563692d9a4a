"""The pipe to GPAW, with a harmonic substitute for GPAW."""

import csv
import os
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.io import read, write

from rxmdnn.commands.label import main as label_main
from rxmdnn.errors import InputError
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import ammonia_quantum_frames as quantum_frames
from rxmdnn.labelling import gpaw_engine, labelling
from rxmdnn.labelling.executor import Processes
from rxmdnn.labelling.gpaw_settings import settings_of

STAND_IN = """#!{python}
import json, sys
import numpy as np
print(json.dumps({{"version": " ".join(["stand-in 1", *sys.argv[2:]])}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    x = np.array(request["positions"])
    if x[0, 0] > 90:
        print(json.dumps({{"error": "KohnShamConvergenceError"}}), flush=True)
    elif x[0, 0] > 80:
        sys.exit(1)
    else:
        bands = request["empty"] and 7
        stress = [1, 2, 3, 4, 5, 6] if request["stress"] else None
        print(json.dumps({{"bands": bands, "energy": 0.5 * float((x**2).sum()), "forces": (-x).tolist(),
                           "net_force": 1e-3, "stress": stress, "iterations": 9}}), flush=True)
"""


@pytest.fixture
def gpaw(tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv(gpaw_engine.PYTHON, str(program))
    return gpaw_engine.Gpaw()


def test_pipe_to_the_engine(gpaw, tmp_path, capfd):
    atoms = frames.to_ase(*frames.solid(5.1, (2, 1, 1)))
    atoms.calc = gpaw
    assert atoms.get_forces() == pytest.approx(-atoms.positions)
    assert gpaw.version == "stand-in 1 dftd3" and "bands" not in gpaw.notes and gpaw.notes["kpoints"] == "1 2 2"
    assert "stress" not in frames.freeze(atoms).info and list(atoms.get_stress()) == [1, 2, 3, 4, 5, 6]
    for fault in (95.0, 85.0):  # no convergence; the process dies
        atoms.positions[0] = fault
        with pytest.raises(CalculationFailed):
            atoms.get_potential_energy()
        atoms.positions[0] = 0.0
        assert atoms.get_potential_energy() == pytest.approx((atoms.positions**2).sum() / 2)
    assert "KohnShamConvergenceError" in capfd.readouterr().err
    path = tmp_path / "set.xyz"
    tasks = [t for t in quantum_frames.plan() if t.kind == "solid"][:3]
    assert labelling.run(path, tasks, "gpaw-revpbe-d3bj", Processes(1)) == {}
    made = read(path, ":")
    assert [a.info["group"] for a in made] == [t.group for t in tasks]
    assert made[0].get_stress() == pytest.approx([1, 2, 3, 4, 5, 6]) and made[0].info["version"] == "stand-in 1 dftd3"
    assert made[1].info["net_force"] == 1e-3 and "D3(BJ)" in made[1].info["settings"]


def test_missing_engine_is_reported(monkeypatch):
    monkeypatch.delenv(gpaw_engine.PYTHON, raising=False)
    with pytest.raises(InputError, match=gpaw_engine.PYTHON):
        gpaw_engine.Gpaw()


def test_settings_reach_the_engine_and_its_frames(gpaw, tmp_path):
    """Any element, no dispersion program; the frame records bands, k-points and the temperature of its electrons."""
    write(tmp_path / "frames.xyz", bulk("Si", "diamond", 5.43, cubic=True))
    name = "gpaw:functional=LDA,cutoff=220,reach=10,temperature=20000K"
    assert label_main([str(tmp_path / "set.xyz"), "--frames", str(tmp_path / "frames.xyz"), "--engine", name,
                       "--workers", "1"]) == 0
    info = read(tmp_path / "set.xyz").info
    assert (info["engine"], info["version"], info["bands"]) == ("LDA", "stand-in 1", 7)
    assert info["kpoints"].tolist() == [2, 2, 2]
    assert "Fermi-Dirac 20000 K" in info["settings"] and "no dispersion" in info["settings"]


def test_convergence_of_settings_and_of_the_engine_of_ammonia(gpaw, tmp_path):
    """Five rows, the second of which has the settings that are asked for."""
    path = tmp_path / "set.xyz"
    write(path, bulk("Si", "diamond", 5.43, cubic=True))
    name = "gpaw:functional=LDA,cutoff=210,reach=10"
    for engine, cutoffs in ((name, [180, 210, 210, 210, 270]), ("gpaw-revpbe-d3bj", [600, 700, 700, 700, 900])):
        assert label_main([str(path), "--converge", "0", "--engine", engine]) == 0
        with (tmp_path / "set_convergence.csv").open() as table:
            rows = list(csv.DictReader(table))
        assert [float(row["cutoff_eV"]) for row in rows] == pytest.approx(cutoffs)
        assert [row["kpoints"] for row in rows] == ["2 2 2", "2 2 2", "1 1 1", "3 3 3", "2 2 2"]


@pytest.mark.skipif(gpaw_engine.PYTHON not in os.environ, reason="GPAW is not installed")
@pytest.mark.validation
def test_gpaw_forces_of_a_molecule_are_gradients():
    x = frames.molecule(1.05)[None] + 4.25
    atoms = frames.to_ase(np.eye(3) * 8.5, x)
    atoms.calc = gpaw_engine.Gpaw()
    force = atoms.get_forces()[1, 0]
    energy = {}
    for step in (-0.01, 0.01):
        moved = atoms.copy()
        moved.calc = atoms.calc
        moved.positions[1, 0] += step
        energy[step] = moved.get_potential_energy()
    assert -(energy[0.01] - energy[-0.01]) / 0.02 == pytest.approx(force, abs=0.01)


@pytest.mark.skipif(gpaw_engine.PYTHON not in os.environ, reason="GPAW is not installed")
@pytest.mark.validation
def test_forces_of_hot_electrons_are_gradients_of_the_free_energy():
    settings = settings_of("gpaw:functional=LDA,cutoff=220,reach=10,temperature=20000K,bands=1e-4")
    energy, force = {}, 0.0
    for step in (0.0, -0.02, 0.02):
        atoms = bulk("Si", "diamond", 5.43)
        atoms.positions[0, 0] += 0.1 + step
        atoms.calc = gpaw_engine.gpaw(settings)
        energy[step] = atoms.get_potential_energy()
        force = force if step else atoms.get_forces()[0, 0]
    assert -(energy[0.02] - energy[-0.02]) / 0.04 == pytest.approx(force, abs=0.01)
    assert atoms.calc.notes["bands"] > 12
