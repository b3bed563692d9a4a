"""Ensembles judged by another program, physical_validation (Merz and Shirts, PLoS ONE 13, e0202764 (2018)): the
distribution of the kinetic energy, and ratios of distributions at two temperatures or two pressures.

A small crystal of argon; deviations are in standard errors. The library takes samples that do not know each other and
drops the others: stochastic rescaling of the cell needs a short tau_p for enough of them.
"""

import numpy as np
import pytest

from rxmdnn.dynamics.ensembles import Barostat, Motion, StepTargets, make
from rxmdnn.units import GPA_PER_EV_A3, KB
from tests.physics.test_ensembles import MASS, crystal

pv = pytest.importorskip("physical_validation")
pytestmark = pytest.mark.validation

UNITS = pv.data.UnitData(kb=KB, energy_conversion=96.485332, length_conversion=0.1, volume_conversion=1e-3,
                         temperature_conversion=1.0, pressure_conversion=1.602176634e6, time_conversion=1e-3)
DT, EVERY, SETTLING = 5.0, 10, 100  # fs; steps between samples; samples left out
WORST = 4.0  # standard errors
TEMPERATURES, PRESSURES = (40.0, 46.0), (0.02, 0.06)  # K; GPa: about one standard deviation apart
THERMOSTATS = {"nose-hoover": 100.0, "svr": 100.0, "langevin": 200.0}  # fs
BAROSTATS = {"mtk": ("nose-hoover", Barostat("mtk", 300.0)),
             "scr": ("svr", Barostat("scr", 40.0, compressibility=64.0)),
             "scr full": ("langevin", Barostat("scr", 40.0, "full", 64.0))}


def sampled(kind, temperature, steps, barostat=None, pressure=0.0, said=None, spoil=None):
    """A run, as physical_validation takes it. pressure : GPa; said : to the library; spoil : acts after every step."""
    forces, kinetics, atoms = crystal(temperature, cells=2, a=5.45, cutoff=5.4)
    ensemble = make(Motion(forces, kinetics, DT, 7), kind, THERMOSTATS[kind], barostat)
    ensemble.begin(atoms)
    rows = []
    for step in range(steps):
        ensemble.step(atoms, StepTargets(step, temperature, pressure / GPA_PER_EV_A3))
        if spoil is not None:
            spoil(kinetics, atoms)
        if step % EVERY == 0:
            rows.append((kinetics.energy(atoms), forces.energy(), forces.domain.cell.volume))
    kinetic, potential, volume = np.array(rows[SETTLING:]).T
    n = atoms.n_owned
    system = pv.data.SystemData(natoms=n, nconstraints=0, ndof_reduction_tra=3 * n - kinetics.degrees_of_freedom,
                                ndof_reduction_rot=0, mass=np.full(n, MASS[0]))
    at = {"pressure": (said or pressure) / GPA_PER_EV_A3} if barostat else {"volume": volume[0]}
    return pv.data.SimulationData(
        units=UNITS, dt=DT, system=system,
        ensemble=pv.data.EnsembleData("NPT" if barostat else "NVT", natoms=n, temperature=temperature, **at),
        observables=pv.data.ObservableData(kinetic_energy=kinetic, potential_energy=potential,
                                           total_energy=kinetic + potential, volume=volume))


def kinetic_deviations(data):
    """Of the mean and of the width of the kinetic energy's distribution."""
    return np.abs(pv.kinetic_energy.distribution(data, strict=False, verbosity=0, bootstrap_seed=1))


def ratio_deviations(*data):
    return np.abs(pv.ensemble.check(*data, verbosity=0, bootstrap_error=False))


@pytest.mark.parametrize("kind", THERMOSTATS)
def test_thermostats_sample_the_canonical_ensemble(kind):
    data = [sampled(kind, t, 6000) for t in TEMPERATURES]
    for one in data:
        assert kinetic_deviations(one).max() < WORST
    assert ratio_deviations(*data).max() < WORST


@pytest.mark.parametrize("name", BAROSTATS)
def test_barostats_sample_the_ensemble_of_constant_pressure(name):
    kind, barostat = BAROSTATS[name]
    data = [sampled(kind, TEMPERATURES[0], 8000, barostat, p) for p in PRESSURES]
    for one in data:
        assert kinetic_deviations(one).max() < WORST
    assert ratio_deviations(*data).max() < WORST


def test_wrong_ensembles_are_told_apart():
    """Velocities rescaled to the target in every step, as mdmode 5 does; pressures that are not those kept."""
    t = TEMPERATURES[0]
    data = sampled("svr", t, 3000, spoil=lambda kinetics, atoms: kinetics.rescale(atoms, t))
    assert kinetic_deviations(data)[1] > 2 * WORST
    kind, barostat = BAROSTATS["mtk"]
    data = [sampled(kind, t, 8000, barostat, p, said) for p, said in zip(PRESSURES, (0.02, 0.14))]
    assert ratio_deviations(*data).max() > WORST
