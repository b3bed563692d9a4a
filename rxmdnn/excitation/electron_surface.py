"""A mixed surface whose weights follow T_e: the ground model of cold electrons, the excited one of hot electrons.

The weight of an atom is w(T_e) of its grid cell (``electron_gas.surface_weight``). It is constant during a step, makes
no force of its own, and changes between two steps. The excited model is one of forces at fixed T_e (the gradient of a
free energy F at a high electronic temperature). What the change of a weight adds to the potential energy the electrons
of the cell lose, so that potential, kinetic and electronic energy together are kept. The entropy term T_e S of F
belongs to the energy of the electrons, C_e = -T_e ∂²F/∂T_e².
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rxmdnn.arrays import Array
from rxmdnn.atoms import EXCITATION, Atoms
from rxmdnn.dynamics.drive import Drive, StepTime
from rxmdnn.excitation.electron_gas import surface_weight
from rxmdnn.excitation.electrons import Electrons
from rxmdnn.excitation.mixed_forces import MixedForces
from rxmdnn.excitation.weights import snapped

if TYPE_CHECKING:
    from rxmdnn.dynamics.simulation import Simulation


class ElectronSurface(Drive):
    """The drive of such a surface; its work is what the changes of the weights add to the potential energy.

    Parameters
    ----------
    first, last : K, T_e at which the weight begins to rise from 0, and at which it is 1
    least : a smaller weight counts as 0, and one that lacks less to 1 as 1
    electrons : Electrons, which begin before it
    """

    name, column_names = "surface", ("excited_atoms",)
    shown = column_names

    def __init__(self, first: float, last: float, least: float, electrons: Electrons) -> None:
        super().__init__()
        self.first, self.last, self.least, self.electrons = first, last, least, electrons

    def begin(self, simulation: Simulation) -> None:
        assert isinstance(simulation.forces, MixedForces)
        self.forces, self.comm, self.atoms = simulation.forces, simulation.comm, simulation.atoms
        self.ensemble = simulation.ensemble
        if EXCITATION not in self.atoms.extra:
            self.atoms.extra[EXCITATION] = self.coming(self.atoms)
        self.forces.source = self

    def present(self, atoms: Atoms) -> Array:
        """(n_owned,) weights now: see WeightSource."""
        return atoms.extra[EXCITATION]

    def coming(self, atoms: Atoms) -> Array:
        """(n_owned,) weights of T_e where the atoms are: see WeightSource."""
        return snapped(surface_weight(self.electrons.of_atoms(atoms), self.first, self.last), self.least)

    def before(self, atoms: Atoms, now: StepTime) -> None:
        forces = self.forces
        forces.settle(atoms)
        new = self.coming(atoms)
        if not forces.cover(new):
            forces.compute(atoms)  # nothing has moved: the rows keep their order
        taken = (new - forces.weights) * forces.answers.gap()
        self.work += forces.reweigh_within(self.ensemble, atoms, new)
        atoms.extra[EXCITATION] = new
        self.electrons.deposit(atoms, -1.0 * taken)

    def columns(self) -> dict[str, float]:
        return {"excited_atoms": self.comm.allreduce(float(self.atoms.extra[EXCITATION].sum()))}
