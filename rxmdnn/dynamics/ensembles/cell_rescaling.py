"""Stochastic cell rescaling (Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020); for shapes, Del Tatto et al.,
Appl. Sci. 12, 1139 (2022)).

One formula holds for all shapes. Each step strains cell, positions and (inversely) velocities by the symmetric matrix

    ε = P[ β/(3τ) (p - p_0 1) dt + sqrt(2 k_B T β dt/(3 V τ)) G ],   h -> h exp(ε), x -> x exp(ε), v -> v exp(-ε)

with p the pressure tensor, G a symmetric Gaussian matrix, and P the projection on the strains that the shape allows.
As ε acts by its exponential the drift needs no correction: the noise's own drift cancels the k_B T/V of the volume's
measure. It samples exp(-(E + p_0 V)/k_B T) dV over volumes, uniformly over shapes, whatever β/τ is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from rxmdnn import streams
from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles import cell_change
from rxmdnn.dynamics.ensembles.cell_change import CellChange
from rxmdnn.parallel import AgreedError
from rxmdnn.units import KB

if TYPE_CHECKING:
    from rxmdnn.dynamics.ensembles.ensemble import Motion, StepTargets


def _pair(e: np.ndarray) -> np.ndarray:
    mean = 0.5 * (e[0, 0] + e[1, 1])
    return np.diag([mean, mean, e[2, 2]])


# Projections of a (3, 3) matrix on the strains that a shape of the deck allows.
STRAIN_PROJECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "isotropic": lambda e: np.trace(e) / 3.0 * np.eye(3),
    "semi": _pair,
    "axes": lambda e: np.diag(np.diag(e)),
    "full": lambda e: 0.5 * (e + e.T),
}


class CellRescaling(CellChange):
    """The barostat of any thermostatted ensemble.

    Parameters
    ----------
    motion : Motion
    tau : float, fs
    compressibility : float, Å^3/eV
        β: with tau it sets the rate of relaxation, not the distribution.
    shape : key of STRAIN_PROJECTIONS
    """

    def __init__(self, motion: Motion, tau: float, compressibility: float, shape: str) -> None:
        super().__init__(motion)
        self.project = STRAIN_PROJECTIONS[shape]
        self.mobility = compressibility / (3.0 * tau)

    def act(self, atoms: Atoms, targets: StepTargets) -> None:
        """Strain the cell once, by the pressure from the virial of the last forces and the present velocities."""
        assert self.virial is not None
        motion = self.motion.kinetics.tensors(atoms).sum(axis=0)
        volume, rate = self.motion.volume, self.mobility * self.motion.dt
        excess = (motion + self.virial) / volume - targets.pressure * np.eye(3)
        width = np.sqrt(2.0 * KB * targets.temperature * rate / volume)
        strain = self.project(rate * excess + width * self._noise(targets))
        if not np.abs(strain).max() < cell_change.LARGEST:
            raise AgreedError(f"barostat: the cell would change by {100 * np.abs(strain).max():.0f} % in one step; "
                              "use a longer tau_p, or minimize first (mdmode 10)")
        self.apply(atoms, exponential(strain), exponential(-strain), strain)

    def _noise(self, targets: StepTargets) -> np.ndarray:
        """(3, 3) symmetric Gaussian matrix: variance 1 on the diagonal, 1/2 off the diagonal."""
        diagonal, off_diagonal = self.motion.shared_normals(streams.CELL_RESCALING, targets.step, 2)
        g = np.zeros((3, 3))
        g[[1, 2, 0], [2, 0, 1]] = off_diagonal / np.sqrt(2.0)
        return g + g.T + np.diag(diagonal)


def exponential(a: np.ndarray) -> np.ndarray:
    """exp of a symmetric (3, 3) matrix."""
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.exp(values)) @ vectors.T
