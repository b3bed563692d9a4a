"""Weights that follow T_e: their values, the energy of atoms and electrons together, the device."""

import numpy as np
import pytest

from rxmdnn.atoms import EXCITATION
from rxmdnn.dynamics.drive import StepTime
from rxmdnn.dynamics.ensembles import Barostat, make
from rxmdnn.excitation.electron_gas import ElectronModel
from rxmdnn.excitation.electron_surface import ElectronSurface
from rxmdnn.excitation.electrons import SCALING, ElectronPlan, Electrons
from rxmdnn.excitation.heat_capacity import ConstantCapacity
from rxmdnn.excitation.light_plan import LightPlan
from tests import device
from tests.excited import lit
from tests.runs import steps

PLAN = ElectronPlan(ElectronModel(ConstantCapacity(1e-5), 2e-8), (1, 1, 2), 3000.0, SCALING)


def following(stop=200, plan=PLAN, first=500.0, last=3500.0, **more):
    s = lit(LightPlan(), stop=stop, **more)
    electrons = Electrons(plan)
    s.drives = [electrons, ElectronSurface(first, last, 1e-6, electrons)]
    s.forces.added = list(s.drives)
    return s, electrons


def test_the_energy_of_atoms_and_electrons_together_is_kept():
    s, _ = following(stop=400, dt=1.0, first=2000.0, last=3300.0)
    rows = steps(s)
    total = np.array([r.total + r.driven["electron_energy_eV"] for r in rows])
    conserved = np.array([r.conserved for r in rows])
    work = np.array([r.driven["work_surface_eV"] for r in rows])
    assert np.ptp(work) > 0.1 and np.ptp(total) < 0.02 * np.ptp(work) and np.ptp(conserved) < 0.02 * np.ptp(work)
    np.testing.assert_allclose(total - conserved, (total - conserved)[0], atol=1e-10)


def test_weights_are_those_of_the_temperature_of_each_cell():
    s, electrons = following(stop=1)
    electrons.begin(s)
    electrons.gas.energy = electrons.gas.energy * np.array([2000.0 / 3000.0, 0.1])
    s.drives[1].begin(s)
    index = electrons.grid.index(s.atoms, s.cell)
    np.testing.assert_allclose(s.atoms.extra[EXCITATION], np.where(index == 0, 0.5, 0.0), atol=1e-12)


def test_cold_electrons_leave_the_ground_state_and_hot_ones_the_excited():
    for first, last, w in ((5000.0, 9000.0, 0.0), (10.0, 20.0, 1.0)):
        s, _ = following(stop=20, first=first, last=last)
        rows = steps(s)
        assert rows[-1].driven["excited_atoms"] == 40 * w
        assert rows[-1].driven["work_surface_eV"] == 0 and (s.forces.answers.excited is None) == (w == 0)


def test_the_virial_that_a_barostat_keeps_follows_the_weights():
    s, electrons = following(stop=20)
    s.ensemble = make(s.motion(), "nose-hoover", 100.0, Barostat("mtk", 200.0, "full", 80.0))
    s.schedule.ramp, surface = (60.0, 60.0), s.drives[1]
    steps(s)
    before = s.ensemble.w.copy()
    electrons.gas.energy = electrons.gas.energy * 0.2
    surface.before(s.atoms, StepTime(20, 40.0, 2.0))
    s.forces.compute(s.atoms)  # of the new weights
    assert np.abs(s.ensemble.w - before).max() > 0.1
    np.testing.assert_allclose(s.ensemble.w, s.forces.virial(), atol=1e-9)


@device.DEVICES
def test_a_device_gives_the_run_of_the_host(name):
    host, there = (steps(following(stop=20, backend=backend)[0]) for backend in (None, device.find(name)))
    for a, b in zip(host, there, strict=True):
        assert b.conserved == pytest.approx(a.conserved, abs=1e-9)
        for key, value in a.driven.items():
            assert b.driven[key] == pytest.approx(value, rel=1e-8, abs=1e-9), key
