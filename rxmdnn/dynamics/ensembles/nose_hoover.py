"""Nosé-Hoover chains, and the barostat built on them.

Martyna, Tuckerman, Tobias and Klein, Mol. Phys. 87, 1117 (1996); the chain is integrated with the weights of Suzuki and
Yoshida.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.cell import transform
from rxmdnn.dynamics.ensembles.cell_change import LARGEST
from rxmdnn.dynamics.ensembles.cell_rescaling import STRAIN_PROJECTIONS, exponential
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Motion, StepTargets
from rxmdnn.parallel import AgreedError
from rxmdnn.units import KB

LENGTH = 3
CELL_DEGREES_OF_FREEDOM = {"isotropic": 1, "semi": 2, "axes": 3, "full": 6}
_W = 1.0 / (4.0 - 4.0 ** (1.0 / 3.0))
WEIGHTS = (_W, _W, 1.0 - 4.0 * _W, _W, _W)  # of a fourth-order splitting


class Chain:
    """A Nosé-Hoover chain on ``degrees_of_freedom``, or one chain on each of the replicas of an array of ``shape``.

    Attributes
    ----------
    position (LENGTH, *shape) float64         ξ
    velocity (LENGTH, *shape) float64, 1/fs   dξ/dt
    """

    def __init__(self, degrees_of_freedom: int, tau: float, shape: tuple[int, ...] = ()) -> None:
        self.degrees_of_freedom, self.tau = degrees_of_freedom, tau
        self.position, self.velocity = np.zeros((LENGTH, *shape)), np.zeros((LENGTH, *shape))

    def _heats(self, temperature: Any) -> tuple[np.ndarray, np.ndarray]:
        """Target energies f_k k_B T of the links, eV, and their masses Q_k = f_k k_B T τ^2, eV fs^2."""
        heats = np.multiply.outer(np.array([self.degrees_of_freedom] + [1] * (LENGTH - 1)), KB * temperature)
        return heats, heats * self.tau**2

    def half_step(self, twice_kinetic: Any, temperature: Any, dt: float) -> Any:
        """Advance the chain by half a step; the factor for the velocities of the system. twice_kinetic : eV."""
        heats, mass = self._heats(temperature)
        v, factor = self.velocity, np.float64(1.0)

        def push(k: int, dt: float) -> None:
            pulling = twice_kinetic * factor**2 if k == 0 else mass[k - 1] * v[k - 1] ** 2
            slow = np.exp(-0.5 * dt * v[k + 1]) if k + 1 < LENGTH else 1.0
            v[k] = (v[k] * slow + dt * (pulling - heats[k]) / mass[k]) * slow

        for w in WEIGHTS:
            d = 0.5 * w * dt
            for k in reversed(range(LENGTH)):
                push(k, 0.5 * d)
            factor = factor * np.exp(-d * v[0])
            self.position += d * v
            for k in range(LENGTH):
                push(k, 0.5 * d)
        return factor

    def energy(self, temperature: Any) -> Any:
        """Contribution of the chain to the conserved quantity, eV."""
        heats, mass = self._heats(temperature)
        return (0.5 * mass * self.velocity**2 + heats * self.position).sum(axis=0)

    def state(self) -> dict[str, Any]:
        return {"place": self.position, "velocity": self.velocity}

    def resume(self, state: dict[str, Any]) -> None:
        self.position, self.velocity = state["place"].copy(), state["velocity"].copy()


class NoseHoover(Ensemble):
    """NVT by a Nosé-Hoover chain. tau : fs; the period of the chain is about 2π tau."""

    thermostatted = True

    def __init__(self, motion: Motion, tau: float, barostat: Any = None) -> None:
        super().__init__(motion, tau, barostat)
        self.chain = Chain(motion.kinetics.degrees_of_freedom, tau)

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        self.half_bath(atoms, targets)
        super().step(atoms, targets)
        self.half_bath(atoms, targets)

    def half_bath(self, atoms: Atoms, targets: StepTargets) -> None:
        atoms.v *= self.chain.half_step(2.0 * self.motion.kinetics.energy(atoms), targets.temperature, self.motion.dt)

    def conserved(self, total: float, targets: StepTargets) -> float:
        return super().conserved(total, targets) + self.chain.energy(targets.temperature)

    def state(self) -> dict[str, Any]:
        return super().state() | {"chain": self.chain.state()}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self.chain.resume(state["chain"])


class MartynaTobiasKlein(NoseHoover):
    """NPT: the cell has a mass, and a chain of its own.

    With h' = h γ, γ symmetric and in the allowed space of strains, and f degrees of freedom: dx/dt = v + x γ,
    dv/dt = F/m - v (γ + tr γ/f), M dγ/dt = P[V (p - p_0) + (1/f) Σ m v^2 1], M = (f + 3) k_B T τ_p^2/3, with p the
    pressure tensor and P the projection on the allowed strains.

    Parameters
    ----------
    motion : Motion
    tau, tau_p : float, fs
    shape : key of STRAIN_PROJECTIONS
    """

    def __init__(self, motion: Motion, tau: float, tau_p: float, shape: str = "isotropic") -> None:
        super().__init__(motion, tau)
        self.tau_p, self.project = tau_p, STRAIN_PROJECTIONS[shape]
        self.rate = np.zeros((3, 3))  # γ, 1/fs
        self.cell_chain = Chain(CELL_DEGREES_OF_FREEDOM[shape], tau_p)
        self.w = np.full((3, 3), np.nan)  # eV, the virial at the present positions

    def begin(self, atoms: Atoms) -> None:
        super().begin(atoms)
        if self.fresh:
            self.w = self.virial(atoms)

    @property
    def keeps_virial(self) -> bool:
        return True

    def add_virial(self, by: np.ndarray) -> None:
        self.w = self.w + by

    def _mass(self, targets: StepTargets) -> float:
        """M, eV fs^2."""
        return (self.chain.degrees_of_freedom + 3) * KB * targets.temperature * self.tau_p**2 / 3.0

    def step(self, atoms: Atoms, targets: StepTargets) -> None:
        self.half_bath(atoms, targets)
        self.push_cell(atoms, targets)
        self.kick(atoms)
        self.drift(atoms, targets)
        self.motion.forces.compute(atoms)
        self.w = self.motion.forces.virial()
        self.kick(atoms)
        self.push_cell(atoms, targets)
        self.half_bath(atoms, targets)

    def half_bath(self, atoms: Atoms, targets: StepTargets) -> None:
        super().half_bath(atoms, targets)
        twice = self._mass(targets) * float((self.rate**2).sum())
        self.rate *= self.cell_chain.half_step(twice, targets.temperature, self.motion.dt)

    def push_cell(self, atoms: Atoms, targets: StepTargets) -> None:
        motion = self.motion.kinetics.tensors(atoms).sum(axis=0)
        even = float(np.trace(motion)) / self.chain.degrees_of_freedom - self.motion.volume * targets.pressure
        self.rate += 0.5 * self.motion.dt / self._mass(targets) * self.project(motion + self.w + even * np.eye(3))

    def kick(self, atoms: Atoms) -> None:
        slowing = self.rate + np.trace(self.rate) / self.chain.degrees_of_freedom * np.eye(3)
        slow = exponential(-0.25 * self.motion.dt * slowing)
        atoms.v = transform(atoms.v, slow)
        self.motion.kick(atoms, 0.5 * self.motion.dt)
        atoms.v = transform(atoms.v, slow)

    def drift(self, atoms: Atoms, targets: StepTargets) -> None:
        growth = self.rate * self.motion.dt
        if not np.abs(growth).max() < LARGEST:
            raise AgreedError(f"barostat: the cell would change by {100 * np.abs(growth).max():.0f} % in one step; "
                              "use a longer tau_p, or minimize first (mdmode 10)")
        self.motion.drift(atoms, 0.5 * self.motion.dt)
        self.motion.deform(atoms, exponential(growth))
        self.motion.drift(atoms, 0.5 * self.motion.dt)

    def conserved(self, total: float, targets: StepTargets) -> float:
        cell = 0.5 * self._mass(targets) * float((self.rate**2).sum()) + targets.pressure * self.motion.volume
        return super().conserved(total, targets) + cell + self.cell_chain.energy(targets.temperature)

    def state(self) -> dict[str, Any]:
        return super().state() | {"rate": self.rate, "cell_chain": self.cell_chain.state(), "virial": self.w}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self.rate, self.w = state["rate"].copy(), state["virial"]
        self.cell_chain.resume(state["cell_chain"])
