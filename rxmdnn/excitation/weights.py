"""The weights of a mixed surface: bound to atoms, which light excites and which decay, or to places of the cell.

Bound: dw/dt = G(t, x) (1 - w) - w/τ, at fixed positions between two steps; the weight then travels with its atom and
makes no force of its own. By place: w_i = w(x_i, t), which adds the force -(e_i^excited - e_i^ground) ∇w_i.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rxmdnn.arrays import Array, namespace
from rxmdnn.atoms import EXCITATION, Atoms
from rxmdnn.backend import Backend
from rxmdnn.dynamics.drive import StepTime
from rxmdnn.engine.domain import Domain
from rxmdnn.excitation.illumination import Illumination, Pulse
from rxmdnn.excitation.regions import Region, union

LEAST = 1e-6  # a smaller weight is taken as 0, and one that lacks less to 1 as 1


def relax(w: np.ndarray, dose: np.ndarray, loss: float) -> tuple[np.ndarray, np.ndarray]:
    """The exact solution of dw/ds = dose (1 - w) - loss w after s = 1, and what has decayed, ∫ loss w ds.

    w : (n,) at the start; dose : (n,) ∫ G dt; loss : dt/τ. Returns (n,), (n,)
    """
    rate = dose + loss
    safe = np.where(rate > 0.0, rate, 1.0)
    end, gone = dose / safe, -np.expm1(-rate)
    new = np.where(rate > 0.0, w + (end - w) * gone, w)
    decayed = loss * np.where(rate > 0.0, end + (w - end) * gone / safe, w)
    return np.clip(new, 0.0, 1.0), decayed


def snapped(w: Array, least: float) -> Array:
    """Weights of which those within ``least`` of 0 and 1 are 0 and 1, so that one model is enough for their atoms."""
    xp = namespace(w)
    return xp.where(w < least, 0.0, xp.where(w > 1.0 - least, 1.0, w))


class BoundWeights:
    """Weights that travel with their atoms. The row EXCITATION of the atoms holds them as they are before ``snapped``.

    Parameters
    ----------
    illumination : Illumination
    lifetime : τ, fs; None: no decay
    least : see ``snapped``
    domain : Domain of the atoms
    """

    def __init__(self, illumination: Illumination, lifetime: float | None, least: float, domain: Domain) -> None:
        self.illumination, self.lifetime, self.least, self.domain = illumination, lifetime, least, domain
        self.next = StepTime(0, 0.0, 0.0)  # the step whose change comes next

    def begin(self, atoms: Atoms, start: float, regions: Sequence[Region]) -> None:
        """Give atoms without weights those of the start: ``start``, in the regions where there are some."""
        if EXCITATION not in atoms.extra:
            s = self.domain.cell.fractional(atoms.x[: atoms.n_owned])
            inside = union(regions, s, self.domain.cell)[0] if regions else s[:, 0] * 0.0 + 1.0
            atoms.extra[EXCITATION] = inside * start

    def acts(self, now: StepTime) -> bool:
        """Whether weights may change in a step."""
        if self.lifetime is not None:
            return True
        return self.illumination.acts(now.time, now.time + now.dt, self.domain.cell)

    def changed(self, atoms: Atoms, now: StepTime) -> tuple[np.ndarray, np.ndarray]:
        """(n_owned,) the weights after a step and what decays in it, at the present positions, on the host."""
        backend, n = self.domain.backend, atoms.n_owned
        dose = self.illumination.dose(backend.to_host(atoms.x[:n]), self.domain.cell, now.time, now.time + now.dt)
        return relax(backend.to_host(atoms.extra[EXCITATION][:n]), dose, now.dt / (self.lifetime or np.inf))

    def present(self, atoms: Atoms) -> Array:
        """See WeightSource."""
        return snapped(atoms.extra[EXCITATION], self.least)

    def coming(self, atoms: Atoms) -> Array:
        """See WeightSource."""
        if not self.acts(self.next):
            return self.present(atoms)
        return snapped(self.domain.backend.from_host(self.changed(atoms, self.next)[0]), self.least)


class PlaceWeights:
    """Weights that are a function of the position, A(t) times that of the regions, and their force.

    Parameters
    ----------
    regions : sequence of Region; none: the weight is A(t) everywhere
    base : A without pulses; pulses : A(t) = 1 - (1 - base) Π (1 - amount f(t))
    domain : Domain of the atoms
    """

    def __init__(self, regions: Sequence[Region], base: float, pulses: Sequence[Pulse], domain: Domain) -> None:
        self.regions, self.base, self.pulses, self.domain = list(regions), base, list(pulses), domain
        self.amplitude = self.next_amplitude = base
        self._inside: Array = None
        self._gradients: list[tuple[Array, Array]] = []

    def amplitude_at(self, time: float) -> float:
        """A(t). time : fs"""
        dark = 1.0 - self.base
        for pulse in self.pulses:
            dark *= 1.0 - pulse.amount * float(pulse.shape.at(time))
        return 1.0 - dark

    def at(self, amplitude: float) -> Array:
        """(n_owned,) weights of an amplitude at the positions of the last call of ``present``."""
        return amplitude * self._inside

    def present(self, atoms: Atoms) -> Array:
        """See WeightSource. The row EXCITATION of the atoms is filled for the output."""
        cell = self.domain.cell
        s = cell.fractional(atoms.x[: atoms.n_owned])
        self._inside, self._gradients = union(self.regions, s, cell) if self.regions else (s[:, 0] * 0.0 + 1.0, [])
        w = self.at(self.amplitude)
        atoms.extra[EXCITATION] = w
        return w

    def coming(self, atoms: Atoms) -> Array:
        """See WeightSource."""
        return self.at(self.next_amplitude)

    def force(self, gap: Array, backend: Backend) -> tuple[Array, np.ndarray]:
        """(n_owned, 3) force -gap ∇w, eV/Å, and its virial Σ d ⊗ f, (3, 3) eV, d from the center of each region.

        gap : (n_owned,) e_i^excited - e_i^ground, eV, zero where only one model is known: there ∇w = 0
        """
        xp, pull = namespace(gap), gap * -self.amplitude
        total, virial = xp.zeros((len(gap), 3)), np.zeros((3, 3))
        for gradient, d in self._gradients:
            f = pull[:, None] * gradient
            total += f
            virial += backend.to_host(xp.einsum("na,nb->ab", d, f))
        return total, virial
