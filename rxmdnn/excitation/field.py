"""A uniform electric field E(t) on charges or Born charges, with its work, virial, polarization and current.

The field is constant during a step: its mean over the step, so that a free ion has the exact velocity of E(t) at the
ends of every step. Between two steps it jumps at fixed positions. Within a step the atoms move by the Hamiltonian
K + U - E·P (electric enthalpy; Nunes and Gonze, Phys. Rev. B 63, 155107 (2001), to first order in the displacements).

The polarization is counted from the start of the field, P_b = Σ_i Σ_a Z_i,ab u_i,a with the displacements
u_i = (s_i - s_i(0)) h of fractional, unwrapped coordinates s: periods crossed are counted, the image of an atom in the
start does not matter, and a homogeneous strain of the start makes no polarization (the "proper" response of Vanderbilt,
J. Phys. Chem. Solids 61, 147 (2000)). Hence the virial W_ab = Σ_i u_i,a F_i,b. The work of a step is E·ΔP, that of a
change of the cell included; U + K - work is conserved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.deck.fields import FieldLine
from rxmdnn.dynamics.drive import Drive, StepTime
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.excitation.charges import Charges
from rxmdnn.excitation.field_shapes import total
from rxmdnn.units import C_M2_PER_E_A2


class ElectricField(Drive):
    """The field of all ``lines`` on the charges of a run.

    Parameters
    ----------
    charges : Charges, whose sum over all atoms is zero
    lines : terms of E(t); none: polarization and current are only recorded

    Attributes
    ----------
    strength : (3,) float64, V/Å, E of the present step, or of the last one
    work : float, eV, this rank's share of Σ E·ΔP
    """

    name = "field"
    column_names = (*(f"field_{a}_V_A" for a in "xyz"), *(f"polarization_{a}_eA" for a in "xyz"),
                    *(f"polarization_{a}_C_m2" for a in "xyz"), *(f"current_{a}_eA_fs" for a in "xyz"))
    shown = column_names[6:9]

    def __init__(self, charges: Charges, lines: Sequence[FieldLine]) -> None:
        super().__init__()
        self.charges, self.lines = charges, lines
        self.strength = np.zeros(3)
        self._origin: np.ndarray | None = None  # (3, 3, 3) Σ s_c Z_ab of all atoms at the start of the field
        self._polarization: np.ndarray | None = None  # (3,) eÅ, this rank's share at the end of the last step
        self.simulation: Simulation

    def begin(self, simulation: Simulation) -> None:
        """Take the present positions as the origin of the polarization, where no checkpoint gave one."""
        self.simulation = simulation
        if self._origin is None:
            self._origin = simulation.comm.allreduce(self._sum(simulation.atoms))
            self.strength = total(self.lines, simulation.time)

    # ------------------------------------------------------------------ a step
    def before(self, atoms: Atoms, now: StepTime) -> None:
        if self._polarization is None:
            self._polarization = self.polarization(atoms)
        strength = total(self.lines, now.time, now.dt)
        if (strength != self.strength).any():
            atoms.f[: atoms.n_owned] += self.charges.force(atoms, strength - self.strength)
            ensemble = self.simulation.ensemble
            if ensemble.keeps_virial:
                mine = self.moment(atoms) @ (strength - self.strength)
                ensemble.add_virial(self.simulation.comm.allreduce(mine))
            self.strength = strength

    def after(self, atoms: Atoms, now: StepTime) -> None:
        polarization = self.polarization(atoms)
        assert self._polarization is not None
        # The rows of this rank may be others than before the step; the sum over all ranks is the work.
        self.work += float(self.strength @ (polarization - self._polarization))
        self._polarization = polarization

    def add_forces(self, atoms: Atoms) -> None:
        if self.strength.any():
            atoms.f[: atoms.n_owned] += self.charges.force(atoms, self.strength)

    # ------------------------------------------------------------------ sums
    def _sum(self, atoms: Atoms) -> np.ndarray:
        """(3, 3, 3) Σ s_c Z_ab over owned atoms, of unwrapped fractional coordinates s."""
        n = atoms.n_owned
        s = self.simulation.domain.cell.fractional(atoms.x[:n]) + atoms.image[:n]
        return self.charges.sum_with(atoms, s)

    def moment(self, atoms: Atoms) -> np.ndarray:
        """(3, 3, 3) eÅ, Σ u_d Z_ab, index order d a b: this rank's share; the origin is the share of rank 0."""
        out = self._sum(atoms)
        if self.simulation.comm.rank == 0:
            assert self._origin is not None
            out = out - self._origin
        return np.einsum("cd,cab->dab", self.simulation.domain.cell.h, out)

    def polarization(self, atoms: Atoms) -> np.ndarray:
        """(3,) eÅ, P - P(0): this rank's share."""
        return np.einsum("aab->b", self.moment(atoms))

    def energy(self) -> float:
        """eV, -E·P, this rank's share: with the potential energy the enthalpy that a minimization lowers."""
        return -float(self.strength @ self.polarization(self.simulation.atoms))

    def virial(self) -> np.ndarray:
        """(3, 3) eV, W_da = Σ u_d F_a, this rank's share."""
        return self.moment(self.simulation.atoms) @ self.strength

    def columns(self) -> dict[str, float]:
        """Field (V/Å) of the last step, polarization P - P(0) of the cell (eÅ, and C/m^2 by its present volume) and
        its current Σ Z·v (eÅ/fs)."""
        simulation = self.simulation
        atoms, volume = simulation.atoms, simulation.cell.volume
        current = np.einsum("aab->b", self.charges.sum_with(atoms, atoms.v))
        p, j = simulation.comm.allreduce(np.array([self.polarization(atoms), current]))
        values = np.concatenate([self.strength, p, p / volume * C_M2_PER_E_A2, j])
        return dict(zip(self.column_names, values.tolist(), strict=True))

    # ------------------------------------------------------------------ restart
    def state(self) -> dict[str, Any]:
        return {"strength": self.strength, "origin": self._origin, "table": self.charges.table}

    def resume(self, state: dict[str, Any]) -> None:
        """Continue; with other charges than those of the state, the polarization is counted from here."""
        table, own = state["table"], self.charges.table
        if (table is None) == (own is None) and (own is None or np.array_equal(table, own)):
            self.strength, self._origin = np.array(state["strength"]), np.array(state["origin"])
        self._polarization = None
