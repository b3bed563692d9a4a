"""A calculator of ASE as the potential of a run, for comparison: on one rank, as it sees all atoms at once."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from ase import Atoms

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of
from rxmdnn.models.ase_factory import calculator_factory, first_line

REACH = 0.1  # Å: the run itself needs no pairs


class AseCalculator:
    """Energy, forces and stress of an ASE calculator (see engine.whole_forces.WholePotential). Where it gives no
    energies of atoms, each gets an equal share."""

    def __init__(self, factory: str, elements: tuple[str, ...]) -> None:
        self.name, self.elements = factory, elements
        self._calculator = _made(factory)
        self.cutoff = np.full((len(elements), len(elements)), REACH)

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """Not available: the edges of an atom do not determine its energy."""
        raise InputError(f"{self.name}: a calculator of ASE cannot be a part of a mixture or of a ring polymer")

    def compute_whole(self, cell: Cell, x: np.ndarray, species: np.ndarray, edges: Edges
                      ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See engine.whole_forces.WholePotential."""
        atoms = Atoms([element_of(self.elements[s]) for s in species], x, cell=cell.h, pbc=cell.pbc)
        atoms.calc = self._calculator
        energies, virial = None, np.full((3, 3), np.nan)
        try:
            energy, forces = atoms.get_potential_energy(), atoms.get_forces()
            with contextlib.suppress(Exception):  # what a calculator does not have
                energies = atoms.get_potential_energies()
            with contextlib.suppress(Exception):
                virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
        except Exception as error:  # whatever a calculator raises
            raise InputError(f"{self.name}: the calculator failed: {first_line(error)}") from None
        share = np.full(len(x), energy / len(x))
        fits = energies is not None and np.shape(energies) == share.shape and abs(np.sum(energies) - energy) < 1e-6
        return np.array(energies) if fits else share, np.array(forces), virial


def _made(factory: str) -> Any:
    """The calculator of MODULE:FACTORY. Raises InputError."""
    try:
        return calculator_factory(factory)()
    except InputError as error:
        raise InputError(*(f"{factory}: {fault}" for fault in error.faults)) from None
