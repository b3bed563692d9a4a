"""Velocities with which a run begins."""

from __future__ import annotations

import numpy as np

from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.io.start import Start
from rxmdnn.ring_polymer.forces import V
from rxmdnn.run.continuation import Continuation


def begin_velocities(simulation: Simulation, start: Start, how: Continuation) -> list[str]:
    """Remove a net momentum, and draw velocities where the atoms are at rest and a temperature is asked for.

    The run of a checkpoint that goes on unchanged keeps its velocities to the bit. Returns notes for the log.
    """
    atoms, kinetics, plan, notes = simulation.atoms, simulation.kinetics, simulation.schedule, []
    settled = how.same_stage and "run" in start.state
    if not settled and (start.f is None or simulation.ensemble.keeps_momentum):
        notes += without_drift(simulation)
    target = plan.target(start.step)
    temperature, at_rest = kinetics.temperature(atoms), kinetics.at_rest(atoms, target)
    if how.draws or at_rest:
        kinetics.draw(atoms, target, plan.seed, start.step)
        atoms.extra.pop(V, None)  # those of ring polymers, which their ensemble draws
        notes.append(f"velocities were drawn at {target:g} K: "
                     + ("the atoms of the start were at rest" if at_rest else "random_velocity"))
    elif start.f is None and temperature > 0:
        notes.append(f"velocities are those of the start, {temperature:.4g} K")
    return notes


def without_drift(simulation: Simulation) -> list[str]:
    """Remove the velocity of the center of mass, which would count as heat; a note for the log where there was one."""
    atoms, kinetics = simulation.atoms, simulation.kinetics
    if simulation.n_global < 2:
        return []
    v, energy = kinetics.drift(atoms)
    if not energy > 1e-6 * kinetics.energy(atoms):
        return []
    kinetics.zero_momentum(atoms)
    return [f"the initial center-of-mass velocity ({np.linalg.norm(v):.3g} A/fs, {energy:.3g} eV) was removed"]
