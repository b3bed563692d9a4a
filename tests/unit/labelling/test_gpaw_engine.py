"""Frames for the density functional, and the pipe to GPAW (with a harmonic substitute for GPAW)."""

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


def test_internal_modes_leave_the_molecule_where_it_is():
    x = frames.rotate(frames.molecule()[None], np.array([0]), np.random.default_rng(0))[0]
    modes, nu = quantum_frames.internal_modes(x[1:] - x[:1])
    assert modes.reshape(6, 12) @ modes.reshape(6, 12).T == pytest.approx(np.eye(6), abs=1e-12)
    moves = modes / np.sqrt(quantum_frames.MASSES)[:, None]
    assert np.einsum("a,kac->kc", quantum_frames.MASSES, moves) == pytest.approx(0, abs=1e-12)
    assert np.einsum("a,kac->kc", quantum_frames.MASSES, np.cross(x - x[0], moves)) == pytest.approx(0, abs=1e-12)
    arms = x[1:] - x[:1]
    along = np.einsum("hc,khc->kh", arms / 1.012, moves[:, 1:] - moves[:, :1])
    assert along[3:] == pytest.approx(0, abs=1e-12) and np.ptp(along[0]) < 1e-12  # bends; symmetric stretch
    assert nu[0] == 3296 and nu[3] == 1135


def test_quantum_spread_of_hydrogen():
    rng = np.random.default_rng(0)
    _, x = frames.solid(5.084, (6, 6, 6), *quantum_frames.RELAXED)
    spread = {t: ((quantum_frames.quantum_displace(x, t, rng) - x)[:, 1:] ** 2).sum(2).mean() for t in (5, 77, 300)}
    assert spread[77] == pytest.approx(0.086, rel=0.2)  # <u²>_H of the harmonic solid, Å²
    assert spread[5] < spread[77] < spread[300]
    assert quantum_frames.quantum_width(1000.0, 1.0, 1e-3) == pytest.approx(np.sqrt(16.8576 / 1000))  # the ground state
    nu, temperature = 5.0, 3000.0
    assert quantum_frames.quantum_width(nu, 1.0, temperature) ** 2 == pytest.approx(
        2 * 16.8576 * quantum_frames.KB * temperature / nu**2, rel=1e-4)  # classical: kT / m ω²


def test_plan_is_long_the_same_and_balanced():
    tasks = quantum_frames.plan()
    assert len(tasks) >= 500 and tasks == quantum_frames.plan() and len({t.group for t in tasks}) == len(tasks)
    first = [t.kind for t in tasks[:100]]
    assert all(abs(first.count(k) - 100 * sum(t.kind == k for t in tasks) / len(tasks)) < 2
               for k in quantum_frames.KINDS)
    assert 0.05 < sum("stress" in t.parameters for t in tasks) / len(tasks) < 0.3
    for task in (t for t in tasks[::5] if t.kind != "liquid"):
        h, x = quantum_frames.KINDS[task.kind](dict(task.parameters), task.rng())
        assert np.isfinite(x).all() and quantum_frames.has_no_contacts(h, x)
        assert gpaw_engine.kpoints(h, x.size // 3) == ([1, 2, 2] if len(x) == 8 else [1, 1, 1])


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
    assert labelling.run(path, tasks, "gpaw-revpbe-d3bj", 1) == 3
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
