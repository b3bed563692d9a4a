"""Nosé-Hoover chains, and the barostat built on them.

Martyna, Tuckerman, Tobias and Klein, Mol. Phys. 87, 1117 (1996); the chain's own steps by Suzuki's and Yoshida's
weights.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.cell import transform
from rxmdnn.dynamics.ensembles.cell_change import LARGEST
from rxmdnn.dynamics.ensembles.cell_rescaling import SHAPES, exponential
from rxmdnn.dynamics.ensembles.ensemble import Ensemble, Motion, Now
from rxmdnn.parallel import AgreedError
from rxmdnn.units import KB

LENGTH = 3
CELL_FREEDOMS = {"isotropic": 1, "semi": 2, "axes": 3, "full": 6}
_W = 1.0 / (4.0 - 4.0 ** (1.0 / 3.0))
WEIGHTS = (_W, _W, 1.0 - 4.0 * _W, _W, _W)  # of a fourth-order product of steps


class Chain:
    """A chain of thermostats on ``freedoms`` degrees of freedom; or one on each of the replicas of ``shape``.

    Attributes
    ----------
    place    (LENGTH, *shape) float64         ξ
    velocity (LENGTH, *shape) float64, 1/fs   dξ/dt
    """

    def __init__(self, freedoms: int, tau: float, shape: tuple[int, ...] = ()) -> None:
        self.freedoms, self.tau = freedoms, tau
        self.place, self.velocity = np.zeros((LENGTH, *shape)), np.zeros((LENGTH, *shape))

    def _heats(self, temperature: Any) -> tuple[np.ndarray, np.ndarray]:
        """Energies k_B T f_k that each link pulls towards, and masses Q_k = f_k k_B T τ^2 (eV fs^2)."""
        heats = np.multiply.outer(np.array([self.freedoms] + [1] * (LENGTH - 1)), KB * temperature)
        return heats, heats * self.tau**2

    def half_step(self, twice_kinetic: Any, temperature: Any, dt: float) -> Any:
        """Half a step of the chain; the factor for the velocities it acts on. twice_kinetic : eV."""
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
            self.place += d * v
            for k in range(LENGTH):
                push(k, 0.5 * d)
        return factor

    def energy(self, temperature: Any) -> Any:
        """eV: the chain's part of the conserved quantity."""
        heats, mass = self._heats(temperature)
        return (0.5 * mass * self.velocity**2 + heats * self.place).sum(axis=0)

    def state(self) -> dict[str, Any]:
        return {"place": self.place, "velocity": self.velocity}

    def resume(self, state: dict[str, Any]) -> None:
        self.place, self.velocity = state["place"].copy(), state["velocity"].copy()


class NoseHoover(Ensemble):
    """tau : fs; the heat bath swings with a period of 2π tau or so."""

    thermostatted = True

    def __init__(self, motion: Motion, tau: float, barostat: Any = None) -> None:
        super().__init__(motion, tau, barostat)
        self.chain = Chain(motion.kinetics.freedoms, tau)

    def step(self, atoms: Atoms, now: Now) -> None:
        self.half_bath(atoms, now)
        super().step(atoms, now)
        self.half_bath(atoms, now)

    def half_bath(self, atoms: Atoms, now: Now) -> None:
        atoms.v *= self.chain.half_step(2.0 * self.motion.kinetics.energy(atoms), now.temperature, self.motion.dt)

    def conserved(self, total: float, now: Now) -> float:
        return super().conserved(total, now) + self.chain.energy(now.temperature)

    def state(self) -> dict[str, Any]:
        return super().state() | {"chain": self.chain.state()}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self.chain.resume(state["chain"])


class MartynaTobiasKlein(NoseHoover):
    """Constant pressure: the cell has a mass and a chain of its own.

    With h' = h γ, γ symmetric and of an allowed shape, and f degrees of freedom: dx/dt = v + x γ,
    dv/dt = F/m - v (γ + tr γ/f), M dγ/dt = P[V (p - p_0) + (1/f) Σ m v^2 1], M = (f + 3) k_B T τ_p^2/3, with p the
    pressure tensor and P the projection on the shape.

    Parameters
    ----------
    motion : Motion
    tau, tau_p : float, fs
    shape : key of SHAPES
    """

    def __init__(self, motion: Motion, tau: float, tau_p: float, shape: str = "isotropic") -> None:
        super().__init__(motion, tau)
        self.tau_p, self.project = tau_p, SHAPES[shape]
        self.rate = np.zeros((3, 3))  # γ, 1/fs
        self.cell_chain = Chain(CELL_FREEDOMS[shape], tau_p)
        self.w = np.full((3, 3), np.nan)  # eV, the virial at the present positions

    def begin(self, atoms: Atoms) -> None:
        super().begin(atoms)
        if self.fresh:
            self.w = self.virial(atoms)

    def _mass(self, now: Now) -> float:
        """M, eV fs^2."""
        return (self.chain.freedoms + 3) * KB * now.temperature * self.tau_p**2 / 3.0

    def step(self, atoms: Atoms, now: Now) -> None:
        self.half_bath(atoms, now)
        self.push_cell(atoms, now)
        self.kick(atoms)
        self.drift(atoms, now)
        self.motion.forces.compute(atoms)
        self.w = self.motion.forces.virial()
        self.kick(atoms)
        self.push_cell(atoms, now)
        self.half_bath(atoms, now)

    def half_bath(self, atoms: Atoms, now: Now) -> None:
        super().half_bath(atoms, now)
        twice = self._mass(now) * float((self.rate**2).sum())
        self.rate *= self.cell_chain.half_step(twice, now.temperature, self.motion.dt)

    def push_cell(self, atoms: Atoms, now: Now) -> None:
        motion = self.motion.kinetics.tensors(atoms).sum(axis=0)
        even = float(np.trace(motion)) / self.chain.freedoms - self.motion.volume * now.pressure
        self.rate += 0.5 * self.motion.dt / self._mass(now) * self.project(motion + self.w + even * np.eye(3))

    def kick(self, atoms: Atoms) -> None:
        slowing = self.rate + np.trace(self.rate) / self.chain.freedoms * np.eye(3)
        slow = exponential(-0.25 * self.motion.dt * slowing)
        atoms.v = transform(atoms.v, slow)
        self.motion.kick(atoms, 0.5 * self.motion.dt)
        atoms.v = transform(atoms.v, slow)

    def drift(self, atoms: Atoms, now: Now) -> None:
        growth = self.rate * self.motion.dt
        if not np.abs(growth).max() < LARGEST:
            raise AgreedError(f"barostat: the cell would change by {100 * np.abs(growth).max():.0f} % in one step; "
                              "use a longer tau_p, or minimize first (mdmode 10)")
        self.motion.drift(atoms, 0.5 * self.motion.dt)
        self.motion.deform(atoms, exponential(growth))
        self.motion.drift(atoms, 0.5 * self.motion.dt)

    def conserved(self, total: float, now: Now) -> float:
        cell = 0.5 * self._mass(now) * float((self.rate**2).sum()) + now.pressure * self.motion.volume
        return super().conserved(total, now) + cell + self.cell_chain.energy(now.temperature)

    def state(self) -> dict[str, Any]:
        return super().state() | {"rate": self.rate, "cell_chain": self.cell_chain.state(), "virial": self.w}

    def resume(self, state: dict[str, Any]) -> None:
        super().resume(state)
        self.rate, self.w = state["rate"].copy(), state["virial"]
        self.cell_chain.resume(state["cell_chain"])
