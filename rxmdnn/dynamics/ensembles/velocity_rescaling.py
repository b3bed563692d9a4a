"""Stochastic velocity rescaling (Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007))."""

from __future__ import annotations

import numpy as np

from rxmdnn import streams
from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Motion, StepTargets
from rxmdnn.units import KB

ATTEMPTS = 64  # trials of the gamma deviate; each is rejected with a probability below 1/20


class VelocityRescaling(Ensemble):
    """NVT by stochastic velocity rescaling. tau : fs, correlation time of the kinetic energy."""

    thermostatted = True

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        super().step(atoms, targets)
        self.rescale(atoms, targets)

    def rescale(self, atoms: Atoms, targets: StepTargets) -> None:
        """Advance the kinetic energy by its exact stochastic process (their eq. A7); atoms at rest stay at rest."""
        kinetics = self.motion.kinetics
        energy, n = kinetics.energy(atoms), kinetics.degrees_of_freedom
        if energy <= 0:
            return
        c = np.exp(-self.motion.dt / self.tau)
        share = (1.0 - c) * 0.5 * KB * targets.temperature / energy
        first, others = deviates(self.motion, targets.step, n)
        factor = np.sqrt(max(0.0, c + share * (first**2 + others) + 2.0 * first * np.sqrt(c * share)))
        atoms.v *= factor if first + np.sqrt(c / share) > 0 else -factor
        self.heat += (factor**2 - 1.0) * energy


def deviates(motion: Motion, step: int, n: int) -> tuple[float, float]:
    """A normal deviate, and the sum of the squares of n - 1 others (n >= 3): the same on every rank.

    The sum is twice a gamma deviate of shape a = (n - 1)/2 (Marsaglia and Tsang, ACM Trans. Math. Softw. 26, 363
    (2000)), with its uniform deviate from two normal ones: u = exp(-(y^2 + z^2)/2).
    """
    z = motion.shared_normals(streams.VELOCITY_RESCALING, step, ATTEMPTS + 1)
    d = 0.5 * (n - 1) - 1.0 / 3.0
    x, log_u = z[1:, 0], -0.5 * (z[1:, 1] ** 2 + z[1:, 2] ** 2)
    t = 1.0 + x / np.sqrt(9.0 * d)
    v = np.where(t > 0, t, 1.0) ** 3
    good = (t > 0) & (log_u < 0.5 * x**2 + d * (1.0 - v + np.log(v)))
    return float(z[0, 0]), 2.0 * d * float(v[int(np.argmax(good))])
