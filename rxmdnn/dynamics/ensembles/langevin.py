"""Langevin dynamics by BAOAB (Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34).

Its positions in a harmonic well have the exact variance at any stable step. Noise acts on every atom's three
components, so the total momentum wanders and all 3N degrees of freedom carry k_B T/2.
"""

from __future__ import annotations

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Now
from rxmdnn.units import ACCELERATION, KB

STREAM = 2


class Langevin(Ensemble):
    """tau : fs, the reciprocal of the friction γ, the same for all atoms."""

    keeps_momentum = False
    thermostatted = True

    def step(self, atoms: Atoms, now: Now) -> None:
        dt = self.motion.dt
        self.motion.kick(atoms, 0.5 * dt)
        self.motion.drift(atoms, 0.5 * dt)
        if self.barostat is not None:
            self.barostat.act(atoms, now)
        self.fluctuate(atoms, now)
        self.motion.drift(atoms, 0.5 * dt)
        self.compute(atoms)
        self.motion.kick(atoms, 0.5 * dt)

    def fluctuate(self, atoms: Atoms, now: Now, share: float = 1.0, stream: int = STREAM) -> None:
        """v -> c v + sqrt((1 - c^2) k_B T/m) z, c = exp(-γ dt): the Ornstein-Uhlenbeck process, exactly.

        share : of the step.
        """
        kinetics, n = self.motion.kinetics, atoms.n_owned
        before = kinetics.energy(atoms)
        with self.motion.forces.timers("integrate"):
            c = np.exp(-share * self.motion.dt / self.tau)
            width = np.sqrt((1.0 - c * c) * KB * now.temperature * ACCELERATION / kinetics.mass)
            z = self.motion.normals(stream, now.step, atoms.gid[:n])
            z *= kinetics.of_atoms(width, atoms)[:, None]
            atoms.v *= c
            atoms.v += z
        self.heat += kinetics.energy(atoms) - before
