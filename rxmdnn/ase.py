"""This engine as a calculator of ASE: optimizers, molecular dynamics, phonons, NEB and equations of state run on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numba
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import all_changes
from mpi4py import MPI

from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.deck.language import near
from rxmdnn.engine.system import SKIN, System
from rxmdnn.errors import InputError
from rxmdnn.io.ase_atoms import agree_on, agree_on_atoms, cell_of, species_of_atoms, voigt
from rxmdnn.io.labels import PROGRAM
from rxmdnn.parallel import AgreedError, together
from rxmdnn.run.models import Model, load_potential, names_files
from rxmdnn.run.threads import keeping_threads, thread_count
from rxmdnn.world import all_ranks

SETTINGS = ("skin", "precision", "backend", "threads", "comm")


class Calculator(AseCalculator):
    """Energy, forces, stress and per-atom energies of ASE atoms by a model.

    The neighbor list is kept between calls while the atoms move less than half the skin. Under ``mpirun`` every rank
    calls the calculator with the same atoms; all ranks compute, and every rank gets the same answer. Ranks that work on
    atoms of their own, such as the images of a band, give ``comm=MPI.COMM_SELF``.

    Parameters
    ----------
    model : path of a model file, several paths (a committee with equal weights), or a Potential
    skin : float, Å
        Reach of the neighbor list beyond the cutoff.
    precision : "float32", "float64" or "tf32", of a network that is loaded here
    backend : "auto", "cpu", "cuda" or "reference", or the Backend on which a given Potential was made
    threads : int, of each rank; 0 shares the cores of the machine among its ranks
    comm : MPI communicator, default: all ranks

    Units are ASE's: eV, Å, eV/Å, eV/Å^3. Forces equal the gradient of the energy to 1e-6 eV/Å in float64. The stress
    is that of a cell with three vectors.

    Raises
    ------
    InputError
        An element that the model does not know, a periodic axis without a cell vector, NaN positions, an unknown
        argument, a file that is not a model.

    Example
    -------
    >>> from ase.build import bulk
    >>> from rxmdnn import Calculator
    >>> from rxmdnn.models.pair import LennardJones
    >>> from rxmdnn.backend import make
    >>> atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    >>> atoms.calc = Calculator(LennardJones(make("cpu"), ("Ar",), epsilon=0.0104, sigma=3.4, cutoff=8.5))
    >>> round(atoms.get_potential_energy(), 4)
    -0.3101
    """

    name = PROGRAM  # in the files that ASE writes: these energies and forces are no labels
    implemented_properties = [  # noqa: RUF012 - as ASE declares it
        "energy", "free_energy", "forces", "stress", "energies"]

    def __init__(self, model: Model, *, skin: float = SKIN,
                 precision: str = "float32", backend: str | Backend = "auto", threads: int = 1,
                 comm: MPI.Comm | None = None, **unknown: Any) -> None:
        for name in unknown:
            raise InputError(f"Calculator: {name}: unknown argument{near(name, SETTINGS)}")
        if threads < 0 or not skin >= 0:
            raise InputError(f"Calculator: threads {threads}, skin {skin}: must not be negative")
        super().__init__()
        self.comm = all_ranks() if comm is None else comm
        agree_on(self.comm, (model if names_files(model) else type(model), skin, precision, threads), "Calculator")
        self._settings: dict[str, Any] = {
            "model": model, "skin": skin, "precision": precision, "backend": backend, "threads": threads, "comm": comm}
        self.potential, self.backend = load_potential(self.comm, model, precision, backend)
        self.skin, self._n_threads = skin, thread_count(self.comm, threads)
        self.system: System | None = None
        self._system_of: tuple[bytes, bytes] = b"", b""

    def __deepcopy__(self, memo: dict[int, Any]) -> Calculator:
        """A calculator with the same potential and settings, and a neighbor list of its own."""
        return Calculator(**{**self._settings, "model": self.potential, "backend": self.backend})

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the paths of the model; raises TypeError for a Potential that was given."""
        if not names_files(self._settings["model"]) or self._settings["comm"] is not None:
            raise TypeError("a Calculator of a Potential, or with a communicator, cannot be pickled; give the path "
                            "of a model alone")
        return _from_settings, (self._settings,)

    def calculate(self, atoms: Atoms | None = None, properties: Sequence[str] = ("energy",),
                  system_changes: Sequence[str] = tuple(all_changes)) -> None:
        """Fill ``results``; ASE calls it when something has changed since the last call."""
        super().calculate(atoms, list(properties), list(system_changes))
        assert self.atoms is not None
        cell, x = self._agreed(self.atoms)
        system = self._system(self.atoms, cell, x)
        with keeping_threads():
            numba.set_num_threads(self._n_threads)
            energy, forces, virial, energies = system.compute(cell, x)
        if not np.isfinite(energy):
            raise AgreedError("Calculator: the energy is not finite: atoms are too close, or far from the data of the "
                              "model")
        self.results = {"energy": energy, "free_energy": energy, "forces": forces, "energies": energies}
        if self.atoms.cell.rank == 3:
            self.results["stress"] = voigt(-virial / cell.volume)

    def _agreed(self, atoms: Atoms) -> tuple[Cell, np.ndarray]:
        """Cell and positions. Raises InputError where the ranks have different atoms."""
        with together(self.comm):
            cell = cell_of(atoms)
        agree_on_atoms(self.comm, atoms, "Calculator")
        return cell, np.array(atoms.positions, np.float64)

    def _system(self, atoms: Atoms, cell: Cell, x: np.ndarray) -> System:
        """The system of the call before, or a new one for other atoms."""
        wanted = atoms.numbers.tobytes(), cell.pbc.tobytes()
        if self.system is None or wanted != self._system_of:
            with together(self.comm):
                species = species_of_atoms(atoms, self.potential.elements)
            self.system = System.of(self.potential, cell, species, x, comm=self.comm, backend=self.backend,
                                    skin=self.skin)
            self._system_of = wanted
        return self.system


def _from_settings(settings: dict[str, Any]) -> Calculator:
    """Unpickle a calculator."""
    return Calculator(**settings)
