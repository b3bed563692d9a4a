"""Minimizers of a decomposed system: conjugate gradients over positions, FIRE over positions and cell."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.atoms import Atoms
from rxmdnn.cell import transform
from rxmdnn.dynamics.ensembles.cell_rescaling import STRAIN_PROJECTIONS, exponential
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces

LONGEST_MOVE = 0.1  # Å, of any atom in one trial
TRIALS = 12  # force evaluations of one line search
VELOCITY = "slide"  # rows of Atoms.extra: FIRE's velocities of the atoms; the name stands in checkpoints
LEFT_BY_MINIMIZERS = ("direction", "f_old", VELOCITY)  # rows of Atoms.extra


class _Minimizer(ABC):
    """Base of the minimizers: iterating yields after each iteration whether it has converged, and ends when it has.

    Directions and velocities are rows of ``atoms.extra``: they migrate with their atoms. A new minimizer first yields
    for its start; one that was given a ``state`` by ``resume`` goes on after the iteration that it belongs to.
    """

    resumed = False

    def __init__(self, domain: Domain, forces: Forces, atoms: Atoms, tolerance: float) -> None:
        self.comm, self.forces, self.atoms, self.tolerance = domain.comm, forces, atoms, tolerance
        self.xp = domain.backend.xp

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Numbers and small arrays that, with the rows of the atoms and their forces, tell where it is."""

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from a ``state``, by ``next``, without the forces of the start, which are known."""
        for name, value in state.items():
            setattr(self, name, value)
        self.resumed = True

    def _dot(self, a: Array, b: Array) -> float:
        return self.comm.allreduce(float(self.xp.vdot(a, b)))

    def _largest(self, a: Array) -> float:
        mine = float((a**2).sum(axis=1).max()) if len(a) else 0.0
        return float(np.sqrt(max(self.comm.allgather(mine))))

    def _f(self) -> Array:
        return self.atoms.f[: self.atoms.n_owned]


class ConjugateGradient(_Minimizer):
    """Conjugate gradients of Polak and Ribière (Rev. Fr. Inform. Rech. Oper. 3, 35 (1969)).

    Converged when an iteration lowers the energy by less than ``tolerance``, eV per atom.
    """

    def __init__(self, domain: Domain, forces: Forces, atoms: Atoms, tolerance: float) -> None:
        super().__init__(domain, forces, atoms, tolerance * domain.comm.allreduce(atoms.n_owned))
        self.energy = 0.0  # eV

    def state(self) -> dict[str, Any]:
        return {"energy": self.energy}

    def __iter__(self) -> Iterator[bool]:
        atoms, done = self.atoms, False
        if not self.resumed:
            atoms.v[:] = 0.0
            self.forces.compute(atoms)
            self.energy = self.forces.enthalpy()
            atoms.extra["direction"] = self._f().copy()
            yield done
        while not done:
            atoms.extra["f_old"] = self._f().copy()
            lower = self._search(self.energy)
            new, old = self._f(), atoms.extra["f_old"]
            along = self._dot(old, old)
            beta = max(0.0, self._dot(new, new - old) / along) if along > 0 else 0.0
            direction = new + beta * atoms.extra["direction"]
            ascending = self._dot(direction, new) <= 0
            atoms.extra["direction"] = new.copy() if ascending else direction
            done, self.energy = self.energy - lower < self.tolerance, lower
            yield done

    def _search(self, start: float) -> float:
        """Line search by secants until the force along the direction nearly vanishes; the energy, eV, never rises."""
        atoms = self.atoms
        slope = self._dot(self._f(), atoms.extra["direction"])
        longest = self._largest(atoms.extra["direction"])
        if slope <= 0 or longest == 0:
            return start
        limit = LONGEST_MOVE / longest
        step, energy = 0.2 * limit, start
        for _ in range(TRIALS):
            atoms.x[: atoms.n_owned] += step * atoms.extra["direction"]
            self.forces.compute(atoms)
            trial = self.forces.enthalpy()
            if trial > energy:
                atoms.x[: atoms.n_owned] -= step * atoms.extra["direction"]
                step *= 0.25
                continue
            energy = trial
            before, slope = slope, self._dot(self._f(), atoms.extra["direction"])
            if slope < 0.1 * before:
                return energy
            step = min(limit, step * slope / (before - slope)) if before > slope else min(limit, 2.0 * step)
        self.forces.compute(atoms)
        return self.forces.enthalpy()


class Fire(_Minimizer):
    """FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006)) as revised by Guénolé et al. (Comput. Mater. Sci. 175,
    109584 (2020)): atoms of unit mass move downhill; velocities are zeroed when the power P = F·v is not positive.

    Converged when no force exceeds ``tolerance``, eV/Å, and no component of the virial per atom, less that of the
    pressure, exceeds it in eV. Time is in Å/sqrt(eV).

    Parameters
    ----------
    shape : key of STRAIN_PROJECTIONS, optional: strains over which the enthalpy is minimized; None: a fixed cell
    pressure : float, eV/Å^3
    """

    FIRST, LONGEST, SHORTEST = 0.1, 1.0, 0.002
    PATIENCE, MIXING = 5, 0.1

    def __init__(self, domain: Domain, forces: Forces, atoms: Atoms, tolerance: float, shape: str | None = None,
                 pressure: float = 0.0) -> None:
        super().__init__(domain, forces, atoms, tolerance)
        self.domain, self.shape, self.pressure = domain, shape, pressure
        self.n_global = domain.comm.allreduce(atoms.n_owned)
        # Å: converts strains to lengths, so that a cell of any size is about as stiff as a bond.
        self.strain_scale = np.sqrt(self.n_global)
        self.cell_velocity = np.zeros((3, 3))  # of the scaled strain
        self.cell_force = np.zeros((3, 3))  # eV/Å
        self.dt, self.mixing, self.downhill = self.FIRST, self.MIXING, 0

    def state(self) -> dict[str, Any]:
        names = ("cell_velocity", "cell_force", "dt", "mixing", "downhill")
        return {name: getattr(self, name) for name in names}

    def _cell_force(self) -> np.ndarray:
        """(3, 3) eV/Å: the generalized force on the strain times ``strain_scale``."""
        if self.shape is None:
            return np.zeros((3, 3))
        outside = self.pressure * self.domain.cell.volume * np.eye(3)
        return STRAIN_PROJECTIONS[self.shape](self.forces.virial() - outside) / self.strain_scale

    def _along(self, a: Array, b: Array, of_cell: np.ndarray, and_cell: np.ndarray) -> float:
        return self._dot(a, b) + float(np.vdot(of_cell, and_cell))

    def _move(self, by: float) -> None:
        """Move atoms and cell by their velocities times a time."""
        atoms = self.atoms
        atoms.x[: atoms.n_owned] += by * atoms.extra[VELOCITY]
        if self.shape is not None:
            grow = exponential(by / self.strain_scale * self.cell_velocity)
            atoms.x[: atoms.n_owned] = transform(atoms.x[: atoms.n_owned], grow)
            self.domain.deform(grow)

    def _converged(self, cell_force: np.ndarray) -> bool:
        # virial per atom = cell_force times strain_scale / n
        return (self._largest(self._f()) < self.tolerance
                and float(np.abs(cell_force).max()) * self.strain_scale / self.n_global < self.tolerance)

    def __iter__(self) -> Iterator[bool]:
        atoms, done = self.atoms, False
        if not self.resumed:
            atoms.v[:] = 0.0
            self.forces.compute(atoms)
            atoms.extra[VELOCITY] = self.xp.zeros((atoms.n_owned, 3))
            self.cell_force = self._cell_force()
            done = self._converged(self.cell_force)
            yield done
        while not done:
            v, f = atoms.extra[VELOCITY], self._f()
            if self._along(f, v, self.cell_force, self.cell_velocity) > 0:
                self.downhill += 1
                if self.downhill > self.PATIENCE:
                    self.dt, self.mixing = min(1.1 * self.dt, self.LONGEST), 0.99 * self.mixing
            else:
                self._move(-0.5 * self.dt)
                self.dt, self.mixing, self.downhill = max(0.5 * self.dt, self.SHORTEST), self.MIXING, 0
                v[:], self.cell_velocity = 0.0, np.zeros((3, 3))
            self._turn_downhill(v, f)
            self._move(self.dt)
            self.forces.compute(atoms)
            self.cell_force = self._cell_force()
            done = self._converged(self.cell_force)
            yield done

    def _turn_downhill(self, v: Array, f: Array) -> None:
        """Accelerate, mix the direction of the force into the velocities, and limit the longest move."""
        v += self.dt * f
        self.cell_velocity = self.cell_velocity + self.dt * self.cell_force
        speed_sq = self._along(v, v, self.cell_velocity, self.cell_velocity)
        ratio = np.sqrt(speed_sq / self._along(f, f, self.cell_force, self.cell_force))
        v *= 1.0 - self.mixing
        v += self.mixing * ratio * f
        self.cell_velocity = (1.0 - self.mixing) * self.cell_velocity + self.mixing * ratio * self.cell_force
        # a strain moves an atom in a corner of the cell farthest
        strain_rate = np.linalg.norm(self.cell_velocity, 2) / self.strain_scale
        reach = float(strain_rate * np.linalg.norm(self.domain.cell.h, 2))
        longest = self.dt * max(self._largest(v), reach)
        if longest > LONGEST_MOVE:
            v *= LONGEST_MOVE / longest
            self.cell_velocity *= LONGEST_MOVE / longest
