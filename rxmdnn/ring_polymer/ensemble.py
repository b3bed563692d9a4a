"""Path-integral dynamics of ring polymers: an ensemble moves the centroids, a splitting the internal modes.

Between two kicks, centroids and internal modes are independent. A step is therefore: the first operators on the
internal modes, a whole step of the ensemble of the centroids (which computes the forces), the last operators on the
internal modes. With ``ensemble langevin`` this is PILE-L, with ``svr`` PILE-G. Without a thermostat of the centroids it
is ring-polymer molecular dynamics (RPMD), thermostatted RPMD (TRPMD; Rossi, Ceriotti and Manolopoulos, J. Chem. Phys.
140, 234116 (2014)), or partially adiabatic centroid molecular dynamics (PACMD; Hone, Rossky and Voth, J. Chem. Phys.
124, 154103 (2006)). In PACMD all internal modes have the frequency Ω = P^(P/(P-1)) k_B T/ħ, by dynamic masses
m (ω_k/Ω)^2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rxmdnn import streams
from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles import Ensemble, StepTargets
from rxmdnn.dynamics.ensembles.langevin import Langevin
from rxmdnn.ring_polymer.forces import F, U, V
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.splitting import Splitting
from rxmdnn.units import ACCELERATION, HBAR, KB


@dataclass(frozen=True)
class Method:
    """friction : default λ of the internal modes; adiabatic : whether all of them have one frequency."""

    friction: float
    adiabatic: bool = False


METHOD_SETTINGS = {
    "pimd": Method(1.0),
    "eco": Method(1.0),
    "suzuki-chin": Method(1.0),
    "rpmd": Method(0.0),
    "trpmd": Method(0.5),
    "pacmd": Method(1.0, adiabatic=True),
}


def split(modes: Modes, temperature: float, dt: float, method: str, friction: float | None = None,
          integrator: str = "bcocb", table: Callable[[np.ndarray], Array] = lambda values: values) -> Splitting:
    """The splitting of the internal modes. temperature : K; dt : fs; friction : λ, by default that of the method."""
    kind, p = METHOD_SETTINGS[method], modes.beads
    omega, inertia = modes.frequencies(temperature)[1:], None
    if kind.adiabatic and p > 1:
        one = p ** (p / (p - 1.0)) * KB * temperature / HBAR
        omega, inertia = np.full(p - 1, one), (omega / one) ** 2
    scale = kind.friction if friction is None else friction
    return Splitting(integrator, omega, 2.0 * scale * omega, dt, inertia, table)


class OutsideLangevin(Langevin):
    """Langevin dynamics by OBABO."""

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        self.fluctuate(atoms, targets, 0.5)
        Ensemble.step(self, atoms, targets)
        self.fluctuate(atoms, targets, 0.5, streams.CENTROIDS)


class RingPolymer(Ensemble):
    """Ring polymers of beads, with their centroids in an ensemble.

    Parameters
    ----------
    centroid : Ensemble, with RingForces of as many beads as forces
    modes : Modes
    temperature : float, K, of the springs
    method : key of METHOD_SETTINGS
    friction : float, optional: λ
    integrator : key of OPERATOR_SEQUENCES
    economy : how the frequencies of ``modes`` were fitted, for checkpoints; None for springs between neighbors

    Attributes
    ----------
    spring (P - 1,) float64, 1/fs^2: ω_k^2 of the internal modes
    """

    def __init__(self, centroid: Ensemble, modes: Modes, temperature: float, method: str,
                 friction: float | None = None, integrator: str = "bcocb",
                 economy: dict[str, Any] | None = None) -> None:
        if integrator == "obabo" and isinstance(centroid, Langevin):
            centroid = OutsideLangevin(centroid.motion, centroid.tau, centroid.barostat)
        self.keeps_momentum, self.thermostatted = centroid.keeps_momentum, centroid.thermostatted
        super().__init__(centroid.motion, centroid.tau, None)
        self.centroid, self.modes, self.temperature = centroid, modes, temperature
        self.backend = self.motion.kinetics.backend
        self.splitting = split(modes, temperature, self.motion.dt, method, friction, integrator, self.backend.table)
        self.spring = modes.frequencies(temperature)[1:] ** 2
        self.atoms: Atoms | None = None
        self.economy = economy

    def begin(self, atoms: Atoms) -> None:
        """Prepare for the first step; rings that are new, or of other beads, get forces and thermal velocities."""
        self.atoms, n_modes = atoms, self.modes.beads - 1
        self.centroid.begin(atoms)
        if F not in atoms.extra or atoms.extra[F].shape[1] != n_modes:
            self.motion.forces.compute(atoms)
        if V not in atoms.extra or atoms.extra[V].shape[1] != n_modes:
            inertia = self.backend.table(np.sqrt(self.splitting.inertia)[:, None])
            width = self._thermal(atoms, self.temperature) / inertia
            atoms.extra[V] = width * self._normals(atoms, streams.RING_VELOCITIES, 0)

    @property
    def keeps_virial(self) -> bool:
        return self.centroid.keeps_virial

    def add_virial(self, by: np.ndarray) -> None:
        self.centroid.add_virial(by)

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        self._apply(self.splitting.sequence.before, atoms, targets, streams.RING_BEFORE)
        self.centroid.step(atoms, targets)
        self._apply(self.splitting.sequence.after, atoms, targets, streams.RING_AFTER)

    def _apply(self, operators: str, atoms: Atoms, targets: StepTargets, stream: int) -> None:
        """Apply operators, with one O at most, to the internal modes."""
        kinetics = self.motion.kinetics
        with self.motion.forces.timers("ring"):
            a = atoms.extra[F] * kinetics.of_atoms(ACCELERATION / kinetics.mass, atoms)[:, None, None]
            a /= self.backend.table(self.splitting.inertia[:, None])
            thermal = self._thermal(atoms, targets.temperature)
            gain = self.splitting.apply(operators, atoms.extra[U], atoms.extra[V], a, thermal,
                                        lambda _: self._normals(atoms, stream, targets.step))
            if "O" in operators and self.splitting.noisy:
                mine = 0.5 / ACCELERATION * float(kinetics.of_atoms(kinetics.mass, atoms) @ gain)
                self.heat += kinetics.comm.allreduce(mine)

    def _thermal(self, atoms: Atoms, temperature: float) -> Array:
        """(n_owned, 1, 1) sqrt(k_B T/m), Å/fs."""
        width = np.sqrt(KB * temperature * ACCELERATION / self.motion.kinetics.mass)
        return self.motion.kinetics.of_atoms(width, atoms)[:, None, None]

    def _normals(self, atoms: Atoms, stream: int, step: int) -> Array:
        """(n_owned, P - 1, 3) normal deviates of (seed, stream, step, gid, mode) alone."""
        n, p = atoms.n_owned, self.modes.beads
        counter = (atoms.gid[:n, None] * p + self.backend.table(np.arange(1, p))).reshape(-1)
        return self.motion.normals(stream, step, counter).reshape(n, p - 1, 3)

    # ------------------------------------------------------------------ energies
    def mode_energies(self, atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
        """(n_elements,) each, eV: kinetic energy of the internal modes, energy of the springs. All ranks call it."""
        kinetics, xp, table = self.motion.kinetics, self.backend.xp, self.backend.table
        m = 0.5 * kinetics.of_atoms(kinetics.mass, atoms) / ACCELERATION
        both = [self.by_element(atoms, m * xp.einsum("nkc,nkc,k->n", x, x, table(weight))) for x, weight in
                ((atoms.extra[V], self.splitting.inertia), (atoms.extra[U], self.spring))]
        return both[0], both[1]

    def by_element(self, atoms: Atoms, of_atom: Array) -> np.ndarray:
        """(n_elements,) sums over all atoms. of_atom : (n_owned,)."""
        kinetics, to_host = self.motion.kinetics, self.backend.to_host
        mine = np.bincount(to_host(atoms.species[: atoms.n_owned]), to_host(of_atom), minlength=len(kinetics.mass))
        return kinetics.comm.allreduce(mine)

    def conserved(self, total: float, targets: StepTargets) -> float:
        assert self.atoms is not None
        internal = sum(float(e.sum()) for e in self.mode_energies(self.atoms))
        return self.centroid.conserved(total, targets) + internal - self.heat

    # ------------------------------------------------------------------ restart
    def state(self) -> dict[str, Any]:
        economy = {} if self.economy is None else {"economy": self.economy}
        return {"heat": self.heat, "centroid": self.centroid.state()} | economy

    def resume(self, state: dict[str, Any]) -> None:
        self.heat, self.fresh = state["heat"], False
        self.centroid.resume(state["centroid"])
