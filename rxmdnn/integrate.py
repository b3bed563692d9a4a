"""Velocity Verlet: kick, drift, compute, kick (Swope et al., J. Chem. Phys. 76, 637 (1982))."""

from __future__ import annotations

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.forces import Forces
from rxmdnn.units import ACCELERATION


def velocity_verlet(atoms: Atoms, forces: Forces, backend: Backend, mass: np.ndarray, dt: float) -> None:
    """One step of ``dt`` fs. mass : (n_elements,) float64, amu. Rows of ``atoms`` may end in a new order."""
    timers = forces.timers
    with timers("integrate"):
        half_kick = 0.5 * dt * ACCELERATION / mass
        backend.kick(atoms.f, atoms.species, half_kick, atoms.v)
        backend.drift(atoms.v, dt, atoms.x)
    forces.compute(atoms)
    with timers("integrate"):
        backend.kick(atoms.f, atoms.species, half_kick, atoms.v)
