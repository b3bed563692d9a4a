"""Langevin dynamics by BAOAB (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34).

In a harmonic well the variance of positions is exact at any stable step. Noise acts on all three components of every
velocity, so that the total momentum fluctuates and each of the 3N degrees of freedom has k_B T/2.
"""

from __future__ import annotations

import numpy as np

from rxmdnn import streams
from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, StepTargets
from rxmdnn.units import ACCELERATION, KB


class Langevin(Ensemble):
    """Langevin dynamics. tau : fs, the reciprocal of the friction γ of every atom."""

    keeps_momentum = False
    thermostatted = True

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        dt = self.motion.dt
        self.motion.kick(atoms, 0.5 * dt)
        self.motion.drift(atoms, 0.5 * dt)
        if self.barostat is not None:
            self.barostat.act(atoms, targets)
        self.fluctuate(atoms, targets)
        self.motion.drift(atoms, 0.5 * dt)
        self.compute(atoms)
        self.motion.kick(atoms, 0.5 * dt)

    def fluctuate(self, atoms: Atoms, targets: StepTargets, share: float = 1.0, stream: int = streams.LANGEVIN) -> None:
        """Apply the exact Ornstein-Uhlenbeck process: v -> c v + sqrt((1 - c^2) k_B T/m) z, c = exp(-γ share dt).

        share : part of the step; stream : of rxmdnn.streams
        """
        kinetics, n = self.motion.kinetics, atoms.n_owned
        before = kinetics.energy(atoms)
        with self.motion.forces.timers("integrate"):
            c = np.exp(-share * self.motion.dt / self.tau)
            width = np.sqrt((1.0 - c * c) * KB * targets.temperature * ACCELERATION / kinetics.mass)
            z = self.motion.normals(stream, targets.step, atoms.gid[:n])
            z *= kinetics.of_atoms(width, atoms)[:, None]
            atoms.v *= c
            atoms.v += z
        self.heat += kinetics.energy(atoms) - before
