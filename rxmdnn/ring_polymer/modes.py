"""Normal modes of a free ring polymer of P beads.

They are scaled so that u_0 is the centroid and every mode is a particle of the physical mass at the physical
temperature: q_j = Σ_k sqrt(P) C_kj u_k with C orthonormal. Then H = Σ_k [m v_k²/2 + m ω_k² u_k²/2] + (1/P) Σ_j V(q_j)
is the ring-polymer Hamiltonian divided by P, and the force on a mode is the same transform of the forces on the beads
as u_k is of their positions.

Modes are ordered by their number of periods around the ring: the centroid, cosine and sine of one period, of two, ...
and last, where P is even, the alternating mode. u_k hardly depends on P: a ring gets more beads by new modes at the
end, and fewer beads by dropping the last modes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rxmdnn.arrays import Array, namespace
from rxmdnn.units import HBAR, KB


@dataclass(frozen=True)
class Modes:
    """Transforms between the modes and the beads of a ring of ``beads`` beads.

    reduced : (P // 2,) float64, β ħ ω_k of the modes of 1, 2, ... periods; None: of springs between neighbors

    Attributes
    ----------
    turns    (P,)   int64    number of periods of each mode around the ring
    to_beads (P, P) float64  q = to_beads @ u, for positions and velocities
    to_modes (P, P) float64  u = to_modes @ q, for positions, velocities and forces
    """

    beads: int
    reduced: np.ndarray | None = None
    turns: np.ndarray = field(init=False)
    to_beads: np.ndarray = field(init=False)
    to_modes: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        p = self.beads
        k, j = np.arange(p), np.arange(p)
        turns = (k + 1) // 2
        angle = 2.0 * np.pi * ((turns[:, None] * j) % p) / p
        c = np.sqrt(2.0) * np.where(k[:, None] % 2 == 1, np.cos(angle), np.sin(angle))
        c[0] = 1.0
        if p % 2 == 0:
            c[-1] = 1.0 - 2.0 * (j % 2)
        object.__setattr__(self, "turns", turns)
        object.__setattr__(self, "to_beads", np.ascontiguousarray(c.T))
        object.__setattr__(self, "to_modes", c / p)

    def frequencies(self, temperature: float) -> np.ndarray:
        """(P,) ω_k = 2 ω_P sin(π turns/P), 1/fs, with ω_P = P k_B T/ħ; or those given as ``reduced``."""
        if self.reduced is not None:
            return KB * temperature / HBAR * np.concatenate([[0.0], self.reduced])[self.turns]
        return 2.0 * self.beads * KB * temperature / HBAR * np.sin(np.pi * self.turns / self.beads)


def resized(u: Array, beads: int) -> Array:
    """(n, beads - 1, 3) internal modes of u (n, K, 3) for another number of beads: slow pairs kept, new modes zero."""
    kept = 2 * min(u.shape[1] // 2, (beads - 1) // 2)
    new = namespace(u).zeros((len(u), beads - 1, 3))
    new[:, :kept] = u[:, :kept]
    return new
