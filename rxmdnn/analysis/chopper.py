"""Energy resolution of direct-geometry spectrometers with a Fermi chopper, from their dimensions.

Contributions to the spread of the time at the detector (moderator pulse, chopper opening, aperture, sample, detector)
are added in quadrature; a time is an energy of the scattered neutron by ΔE = 2 E_f v_f Δt/L. The equations are those of
C. G. Windsor, Pulsed Neutron Scattering (1981), and of D. L. Abernathy et al., Rev. Sci. Instrum. 83, 015114 (2012);
the dimensions those of PyChop (R. I. Bewley et al., 2018; J. Y. Y. Lin et al., Physica B 562, 26 (2019) for SEQUOIA;
R. A. Ewings et al., Rev. Sci. Instrum. 90, 035110 (2019) for MAPS).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rxmdnn.errors import InputError

SPEED = 437.392  # m/s of a neutron of 1 meV
MOST_BLOCKED = 4.0  # parameter of the slits from which on no neutron passes
TUBE_WALL = 0.063  # of the radius of a detector tube


@dataclass(frozen=True)
class FermiChopper:
    """A spectrometer with a Fermi chopper; lengths in m, angles in degrees.

    Attributes
    ----------
    to_chopper, to_sample, to_detector : moderator to chopper, chopper to sample, sample to detector
    aperture_to_chopper : from the aperture at the moderator, of width ``aperture``
    tilt : of the moderator face against the beam
    slit, radius, curvature : width of a slit of the chopper, radius of the chopper, radius of curvature of the slits
    sample_variance : m², of the sample along its width; tube : diameter of a detector tube
    pulse : variance of the moderator pulse, s², at an incident energy in meV
    """

    to_chopper: float
    to_sample: float
    to_detector: float
    aperture_to_chopper: float
    aperture: float
    tilt: float
    slit: float
    radius: float
    curvature: float
    sample_variance: float
    tube: float
    pulse: Callable[[float], float]

    def sigma(self, incident: float, frequency: float, energy: np.ndarray) -> np.ndarray:
        """(energies,) standard deviation of the energy transfer, meV.

        Parameters
        ----------
        incident : meV; frequency : of the chopper, Hz; energy : (energies,) transfer, meV, below the incident energy

        Raises InputError where the chopper lets nothing through.
        """
        v_i, v_f = SPEED * np.sqrt(incident), SPEED * np.sqrt(incident - np.asarray(energy, float))
        turn, tilt = 2 * np.pi * frequency, np.tan(np.radians(self.tilt))
        x0, x1, x2 = self.to_chopper, self.to_sample, self.to_detector
        lever = (v_i / v_f) ** 3 * x2
        early = (x1 + lever) / x0  # of a neutron that leaves the moderator late
        arm = turn * (self.aperture_to_chopper + x1)

        def tilted(length: float) -> np.ndarray:
            """What a shift at the aperture or the sample does, through the tilted moderator and the turning chopper."""
            g = 1.0 - turn * tilt / v_i * length
            return (1.0 + x1 / x0 * g) / arm + lever / x0 * g / arm

        variance = (self.pulse(incident) * early**2 + self._opening(incident, frequency) * (1.0 + early) ** 2
                    + self.aperture**2 / 12 * tilted(self.aperture_to_chopper + x1) ** 2
                    + self.sample_variance * tilted(x0 - self.aperture_to_chopper) ** 2
                    + (0.25 * self.tube * (1.0 - TUBE_WALL) / v_f) ** 2)
        return 2 * (incident - energy) * v_f * np.sqrt(variance) / x2

    def _opening(self, incident: float, frequency: float) -> float:
        """Variance of the time at which the chopper lets neutrons through, s²."""
        turn, v = 2 * np.pi * frequency, SPEED * np.sqrt(incident)
        blocked = 2 * self.radius**2 / self.slit * abs(1 / self.curvature - 2 * turn / v)
        if blocked >= MOST_BLOCKED:
            raise InputError(f"a Fermi chopper of {frequency:g} Hz with slits of radius {self.curvature:g} m passes no "
                             f"neutrons of {incident:g} meV; give another --incident or --chopper")
        if blocked <= 1.0:
            shape = (1.0 - blocked**4 / 10) / (1.0 - blocked**2 / 6)
        else:
            root = np.sqrt(blocked)
            shape = 0.6 * blocked * (root - 2) ** 2 * (root + 8) / (root + 4)
        return float((self.slit / (2 * self.radius * turn)) ** 2 / 6 * shape)


def ikeda_carpenter(s1: float, s2: float, decay: float, slow: float, mixed: float) -> Callable[[float], float]:
    """Variance of the pulse of a moderator, s², at an incident energy in meV (Ikeda and Carpenter 1985).

    s1, s2 : cross sections of slowing down, 1/m; decay, slow : 1/µs, of the storage term above and below 130 meV;
    mixed : meV, of the Boltzmann factor of the storage term
    """
    def variance(incident: float) -> float:
        slowing = SPEED * 1e-6 * np.sqrt(s1**2 + s2**2 * 81.8048 / incident) * np.sqrt(incident)
        share = np.exp(-incident / mixed)
        return float((3 / slowing**2 + share * (2 - share) / (decay if incident > 130 else slow) ** 2) * 1e-12)
    return variance


def chi_squared(fixed: float, growing: float) -> Callable[[float], float]:
    """Variance of the pulse of a water moderator of depth ``fixed`` + ``growing`` √E_i (mm), s²."""
    return lambda incident: float(((fixed + growing * np.sqrt(incident)) * 1e-3 / 1.96
                                   / (SPEED * np.sqrt(incident))) ** 2)


SEQUOIA = FermiChopper(18.01, 2.0, 5.5, 17.0, 0.050, -13.75, 2.03e-3, 0.050, 0.580, 0.048**2 / 8, 0.025,
                       ikeda_carpenter(30.13, 10.0, 0.08, 0.07, 50.42))
MAPS = FermiChopper(10.143, 1.899, 6.0, 8.27, 0.094, 32.0, 1.087e-3, 0.049, 1.300, 0.048**2 / 12, 0.025,
                    chi_squared(38.6, 0.5226))
