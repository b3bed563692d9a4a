"""Momentum distribution of one element by displaced paths.

The end-to-end distribution ñ(r) of an open path, the Fourier transform of the momentum distribution n(p), is an average
over closed paths that are displaced by r y(τ), with y linear in imaginary time (Lin, Morrone, Car and Parrinello, Phys.
Rev. Lett. 105, 110602 (2010)). Here the path is cut in the middle of the spring between the last and the first bead:
y_j = 1/2 - (j + 1/2)/P, whose amplitudes on the modes of t periods are exactly sqrt(w_t)/x_t, x_t = β ħ ω_t, w_t the
number of such modes:

    ñ(r) = exp(-m r^2/(2 β ħ^2)) <exp(-β [V(q + r y) - V(q)])>,   Y_k = sqrt(w_t)/x_t

With fitted frequencies the same amplitudes are used. For any frequencies and potential, the curvature of ñ at r = 0 is
then -2 m <K>/ħ^2 per component by integration by parts, as <u_k u_l> = 0 for modes of different periods; and in a
harmonic well ñ is the Gaussian of <K>, at any number of beads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rxmdnn import streams
from rxmdnn.arrays import Array
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.estimators import jackknife
from rxmdnn.ring_polymer.forces import U
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.quantities import OneAtom, line_of
from rxmdnn.ring_polymer.virtual import VirtualRings
from rxmdnn.units import ACCELERATION, HBAR, KB

POINTS = 10  # distances up to r_max
RMAX = 0.8  # Å
DECAYED = 0.02  # of ñ at r_max, above which the transform leans on its Gaussian tail


def opening(modes: Modes) -> np.ndarray:
    """(P - 1,) amplitudes Y_k of the internal modes, in the displacement of an open path per end-to-end distance."""
    p = modes.beads
    x = modes.frequencies(1.0)[1:] * HBAR / KB  # β ħ ω_k does not depend on the temperature
    turns = modes.turns[1:]
    shift = np.pi * turns / p  # half a spring
    on_mode = np.sqrt(2.0) * np.where(np.arange(1, p) % 2 == 1, np.sin(shift), np.cos(shift))
    if p % 2 == 0 and p > 1:
        on_mode[-1] = 1.0
    return on_mode / x


class Momentum(OneAtom):
    """ñ(r) along random directions, at POINTS distances up to ``r_max`` Å.

    Each is the mean over r and -r, which removes the noise of first order in r.
    """

    def __init__(self, ring: RingPolymer, virtual: VirtualRings, kind: int, per_sample: int, every: int,
                 element: str, r_max: float) -> None:
        super().__init__(ring, virtual, kind, per_sample, every)
        self.r = r_max * np.arange(1, POINTS + 1) / POINTS
        self.name = f"momentum_{element}"
        self.columns = tuple(f"r_{r:.6g}_A" for r in self.r)
        self.opening = opening(ring.modes)

    def row(self, step: int) -> Sequence[float]:
        atoms, chosen = self.ring.atoms, self.chosen(step)
        assert atoms is not None
        u, samples = atoms.extra[U], []
        before = self.virtual.evaluate(u).potential
        for gid in chosen:
            path = self._path(gid, step)
            samples += [[self._weight(u + way * r * path, before) for r in self.r] for way in (1.0, -1.0)]
        free = 0.5 * self.mass / (ACCELERATION * self.beta * HBAR**2) * self.r**2
        return [float(x) for x in np.exp(-free) * np.mean(samples, axis=0)]

    def _weight(self, u: Array, before: float) -> float:
        """exp(-β times the change of the potential)."""
        return float(np.exp(-self.beta * (self.virtual.evaluate(u).potential - before)))

    def _path(self, gid: int, step: int) -> Array:
        """(n_owned, P - 1, 3) displacement per Å of the atom's internal modes, along a random direction."""
        ids = self.ring.backend.from_host(np.array([gid]))
        z = self.ring.backend.to_host(self.ring.motion.normals(streams.MOMENTUM, step, ids))[0]
        path = self.opening[:, None] * (z / np.linalg.norm(z))
        return self.is_atom(gid) * self.ring.backend.table(path)

    def summary(self, series: dict[str, np.ndarray]) -> list[str]:
        table = np.array([series[name] for name in self.columns])

        def kinetic(*rows: np.ndarray) -> float:
            return 1.5 * HBAR**2 * ACCELERATION / self.mass * initial_width(self.r, np.mean(rows, axis=1))

        last = float(table[-1].mean())
        long = f", not small: the tail is taken as Gaussian; use r_max {1.5 * self.r[-1]:g}" if last > DECAYED else ""
        return [line_of("kinetic_momentum_eV_per_atom", *jackknife(kinetic, *table)),
                f"    n(p): rxmdnn plot on this folder; end-to-end distribution at {self.r[-1]:g} Å: {last:.3g}{long}"]


def initial_width(r: np.ndarray, n: np.ndarray) -> float:
    """<p^2>/(3 ħ^2), 1/Å^2: -2 ln ñ/r^2 extrapolated to r = 0, linear in r^2, from the first half of the points."""
    half = slice(0, max(len(r) // 2, 2))
    width = -2.0 * np.log(np.maximum(n[half], 1e-300)) / r[half] ** 2
    weight = r[half] ** 2 * n[half]  # of equal errors of ñ
    return float(np.polyfit(r[half] ** 2, width, 1, w=weight)[1])
