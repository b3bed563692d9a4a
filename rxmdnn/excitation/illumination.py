"""Where and when light excites atoms: pulses that come from one direction, are absorbed in depth, and have a spot.

The dose of an atom is ∫ G dt of the rate equation dw/dt = G (1 - w) - w/τ (see weights). A pulse of a given weight W
takes the weight of an atom, without decay, from 0 along W F(t) to W, where F is the part of the pulse that has passed:
exp(-∫ G dt) = (1 - W F_stop)/(1 - W F_start).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.excitation.pulses import PulseShape
from rxmdnn.excitation.regions import Region, nearest, union

LIGHT = 2997.92458  # speed of light, Å/fs
EV_A2_PER_MJ_CM2 = 0.6241509074  # eV/Å^2 in 1 mJ/cm^2
LARGEST_DOSE = 50.0  # exp(-50) of the ground state is left, below rounding


@dataclass(frozen=True)
class Pulse:
    """One pulse. amount : the largest weight, or with ``is_rate`` the largest rate G in 1/fs, at the surface, in the
    middle of the spot. A weight above 1 is 1 down to the depth where that of the fluence is"""

    shape: PulseShape
    amount: float
    is_rate: bool = False

    def dose(self, profile: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """(n,) ∫ G dt between times (n,), fs. profile : (n,) factor of the amount at each atom"""
        before, after = self.shape.passed(start), self.shape.passed(stop)
        if self.is_rate:
            return self.amount * profile * self.shape.area * (after - before)
        w = np.minimum(1.0, self.amount * profile)
        left_before, left_after = 1.0 - w * before, 1.0 - w * after
        safe = np.where(left_before > 0.0, left_before, 1.0)
        left = np.maximum(np.where(left_before > 0.0, left_after, 1.0) / safe, np.exp(-LARGEST_DOSE))
        return np.where(after > before, -np.log(left), 0.0)


@dataclass(frozen=True)
class Beam:
    """The direction of light and what weakens it.

    Attributes
    ----------
    direction : (3,) unit vector, Cartesian, in which light travels; None: every atom has all of it at the same time
    index : refractive index of the material, for the delay index d/c at depth d
    depth : Å, absorption depth δ, for the factor exp(-d/δ); None: no absorption
    surface : Å, x · direction of the surface, where d = 0; None: the first atom in the way of the light
    spot : (radius w_0 in Å, center as three fractions of the cell): the factor exp(-2ρ²/w_0²); None: no limit
    """

    direction: np.ndarray | None = None
    index: float = 1.0
    depth: float | None = None
    surface: float | None = None
    spot: tuple[float, tuple[float, float, float]] | None = None

    def along(self, x: np.ndarray) -> np.ndarray:
        """(n,) x · direction, Å, of (n, 3) positions."""
        assert self.direction is not None
        return x @ self.direction

    def reaches(self, x: np.ndarray, cell: Cell) -> tuple[np.ndarray, np.ndarray]:
        """(n,) factors of the amount of a pulse, and delays, fs, at positions (n, 3), Å."""
        profile, delay = np.ones(len(x)), np.zeros(len(x))
        if self.direction is None:
            return profile, delay
        assert self.surface is not None
        d = np.maximum(self.along(x) - self.surface, 0.0)
        delay = self.index * d / LIGHT
        if self.depth is not None:
            profile = np.exp(-d / self.depth)
        if self.spot is not None:
            radius, center = self.spot
            s = cell.fractional(x) - np.array(center)
            r = cell.cartesian(np.stack([nearest(s[:, k], bool(cell.pbc[k])) for k in range(3)], axis=1))
            rho_sq = (r**2).sum(axis=1) - self.along(r) ** 2
            profile = profile * np.exp(-2.0 * rho_sq / radius**2)
        return profile, delay


    def travel(self, cell: Cell) -> float:
        """fs, at least the time that light takes through the cell."""
        if self.direction is None:
            return 0.0
        return self.index * float(np.linalg.norm(cell.h, axis=1).sum()) / LIGHT


def with_surface(beam: Beam, x: np.ndarray, comm: MPI.Comm) -> Beam:
    """The beam with its surface, which by default is at the first atom in the way. All ranks call it.

    x : (n, 3) Å, atoms of this rank
    """
    if beam.direction is None or beam.surface is not None:
        return beam
    return replace(beam, surface=comm.allreduce(float(beam.along(x).min(initial=np.inf)), MPI.MIN))


class Illumination:
    """All pulses of a run, along one beam, in some regions of the cell.

    Parameters
    ----------
    pulses : sequence of Pulse
    beam : Beam, whose surface is known
    regions : outside which there is no light; none: light is everywhere
    """

    def __init__(self, pulses: Sequence[Pulse], beam: Beam, regions: Sequence[Region] = ()) -> None:
        self.pulses, self.beam, self.regions = list(pulses), beam, list(regions)

    def acts(self, start: float, stop: float, cell: Cell) -> bool:
        """Whether some light falls on the cell between two times, fs."""
        return any(pulse.shape.acts(start - self.beam.travel(cell), stop) for pulse in self.pulses)

    def dose(self, x: np.ndarray, cell: Cell, start: float, stop: float) -> np.ndarray:
        """(n,) ∫ G dt between two times, fs, at fixed positions (n, 3), Å."""
        profile, delay = self.beam.reaches(x, cell)
        if self.regions:
            profile = profile * union(self.regions, cell.fractional(x), cell)[0]
        doses = [pulse.dose(profile, start - delay, stop - delay) for pulse in self.pulses]
        return np.sum(doses, axis=0) if doses else np.zeros(len(x))


def weight_of_fluence(fluence: float, reflectivity: float, depth: float, photon: float, density: float) -> float:
    """Density of carriers at the surface, (1 - R) F/(δ ħω), over that of the excited model; one carrier per photon.

    Above 1 the surface is saturated: the weight of an atom is this times exp(-d/δ), and at most 1.

    fluence : F, mJ/cm^2; reflectivity : R; depth : δ, Å; photon : ħω, eV; density : of carriers of the model, 1/Å^3
    """
    return (1.0 - reflectivity) * fluence * EV_A2_PER_MJ_CM2 / (depth * photon) / density
