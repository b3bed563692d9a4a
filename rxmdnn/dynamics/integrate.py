"""Velocity Verlet: kick, drift, compute, kick (Swope et al., J. Chem. Phys. 76, 637 (1982))."""

from __future__ import annotations

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.engine.forces import Forces
from rxmdnn.units import ACCELERATION


def kick(atoms: Atoms, forces: Forces, backend: Backend, mass: np.ndarray, dt: float) -> None:
    """v += dt f/m. mass : (n_elements,) float64, amu; dt : fs."""
    with forces.timers("integrate"):
        backend.kick(atoms.f, atoms.species, dt * ACCELERATION / mass, atoms.v)


def drift(atoms: Atoms, forces: Forces, backend: Backend, dt: float) -> None:
    """x += dt v. dt : fs."""
    with forces.timers("integrate"):
        backend.drift(atoms.v, dt, atoms.x)


def velocity_verlet(atoms: Atoms, forces: Forces, backend: Backend, mass: np.ndarray, dt: float) -> None:
    """Take one step of ``dt`` fs. mass : (n_elements,) float64, amu. Rows of ``atoms`` may be reordered."""
    kick(atoms, forces, backend, mass, 0.5 * dt)
    drift(atoms, forces, backend, dt)
    forces.compute(atoms)
    kick(atoms, forces, backend, mass, 0.5 * dt)
