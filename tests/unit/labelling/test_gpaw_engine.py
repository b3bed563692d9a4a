"""The pipe to GPAW, with a harmonic substitute for GPAW."""

import os
import sys

import numpy as np
import pytest
from ase.calculators.calculator import CalculationFailed
from ase.io import read

from rxmdnn.errors import InputError
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import ammonia_quantum_frames as quantum_frames
from rxmdnn.labelling import gpaw_engine, labelling

STAND_IN = """#!{python}
import json, sys
import numpy as np
print(json.dumps({{"version": "stand-in 1"}}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    x = np.array(request["positions"])
    if x[0, 0] > 90:
        print(json.dumps({{"error": "KohnShamConvergenceError"}}), flush=True)
    elif x[0, 0] > 80:
        sys.exit(1)
    else:
        print(json.dumps({{"energy": 0.5 * float((x**2).sum()), "forces": (-x).tolist(), "net_force": 1e-3,
                           "stress": [1, 2, 3, 4, 5, 6] if request["stress"] else None, "iterations": 9}}), flush=True)
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
    assert gpaw.version == "stand-in 1" and gpaw.notes["kpoints"] == "1 2 2"
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
    assert labelling.run(path, tasks, "gpaw-revpbe-d3bj", 1) == []
    made = read(path, ":")
    assert [a.info["group"] for a in made] == [t.group for t in tasks]
    assert made[0].get_stress() == pytest.approx([1, 2, 3, 4, 5, 6]) and made[0].info["version"] == "stand-in 1"
    assert made[1].info["net_force"] == 1e-3 and "D3(BJ)" in made[1].info["settings"]


def test_missing_engine_is_reported(monkeypatch):
    monkeypatch.delenv(gpaw_engine.PYTHON, raising=False)
    with pytest.raises(InputError, match=gpaw_engine.PYTHON):
        gpaw_engine.Gpaw()


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
