"""Frames of ammonia for the density functional: vibrations, quantum widths, the plan."""

import numpy as np
import pytest

from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import ammonia_quantum_frames as quantum_frames
from rxmdnn.labelling import gpaw_settings


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
        assert gpaw_settings.kpoints(h, x.size // 3) == ([1, 2, 2] if len(x) == 8 else [1, 1, 1])
