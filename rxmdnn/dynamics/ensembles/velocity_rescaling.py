"""Stochastic velocity rescaling (Bussi, Donadio and Parrinello, J. Chem. Phys. 126, 014101 (2007))."""

from __future__ import annotations

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Motion, Now
from rxmdnn.units import KB

STREAM = 3
ATTEMPTS = 64  # of the gamma deviate; one fails less than one time in twenty


class VelocityRescaling(Ensemble):
    """tau : fs, the time in which the kinetic energy forgets."""

    thermostatted = True

    def step(self, atoms: Atoms, now: Now) -> None:
        super().step(atoms, now)
        self.rescale(atoms, now)

    def rescale(self, atoms: Atoms, now: Now) -> None:
        """The kinetic energy takes a step of its exact stochastic process (their eq. A7); atoms at rest stay so."""
        kinetics = self.motion.kinetics
        energy, n = kinetics.energy(atoms), kinetics.freedoms
        if energy <= 0:
            return
        c = np.exp(-self.motion.dt / self.tau)
        share = (1.0 - c) * 0.5 * KB * now.temperature / energy
        first, others = deviates(self.motion, now.step, n)
        factor = np.sqrt(max(0.0, c + share * (first**2 + others) + 2.0 * first * np.sqrt(c * share)))
        atoms.v *= factor if first + np.sqrt(c / share) > 0 else -factor
        self.heat += (factor**2 - 1.0) * energy


def deviates(motion: Motion, step: int, n: int) -> tuple[float, float]:
    """A normal deviate, and the sum of squares of n - 1 further ones (n >= 3): the same on every rank.

    The sum is twice a gamma deviate of shape a = (n - 1)/2 (Marsaglia and Tsang, ACM Trans. Math. Softw. 26, 363
    (2000)), whose uniform number comes from two normal ones: u = exp(-(y^2 + z^2)/2).
    """
    z = motion.shared_normals(STREAM, step, ATTEMPTS + 1)
    d = 0.5 * (n - 1) - 1.0 / 3.0
    x, log_u = z[1:, 0], -0.5 * (z[1:, 1] ** 2 + z[1:, 2] ** 2)
    t = 1.0 + x / np.sqrt(9.0 * d)
    v = np.where(t > 0, t, 1.0) ** 3
    good = (t > 0) & (log_u < 0.5 * x**2 + d * (1.0 - v + np.log(v)))
    return float(z[0, 0]), 2.0 * d * float(v[int(np.argmax(good))])
