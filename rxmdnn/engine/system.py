"""The one set-up of an engine: potential, cell and atoms over the ranks, and the energy and forces at any positions.

``run``, ``driver``, ``fidelity calibrate``, the trial of a device, the ASE calculator and the benchmarks are all built
on it. Ensembles and minimizers move ``system.atoms`` by ``system.forces``; a program that moves the atoms itself asks
``system.compute``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms, Edges
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.engine.whole_forces import forces_of
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import AgreedError, rows_of_all, together
from rxmdnn.timers import Timers

SKIN = 0.5  # Å
FAR = 1e5  # Å: atoms that move so far between two calls were put elsewhere


class Computed(NamedTuple):
    """Answer of ``System.compute``, the same on every rank."""

    energy: float  # eV
    forces: np.ndarray  # (n, 3) float64, eV/Å, in the order of the positions
    virial: np.ndarray  # (3, 3) float64, eV: W = -Σ r_ij ⊗ ∂E/∂r_ij; the stress is -W/V
    energies: np.ndarray  # (n,) float64, eV: each atom's share of the energy


class System:
    """Atoms of one cell, decomposed over the ranks of a communicator.

    Parameters
    ----------
    potential : Potential
    cell : Cell
    atoms : Atoms, optional
        This rank's share, whoever owns them; sent to their owners here. Left out: none yet.
    comm : MPI communicator
    backend : Backend, optional
        Kernels and the place of the arrays, the same as the potential's; default: cpu.
    skin : float, Å
        The neighbor list is good until an atom has moved skin/2.
    grid : three ints
        Ranks along a, b, c; zeros let the engine choose.
    balance : let the parts of the ranks have unequal widths and equal load
    timers : Timers, optional
    make_forces : callable
        Makes the Forces of (domain, neighbors, potential, timers); path integrals have their own.
    at_owners : callable
        Whether the atoms are already where this domain wants them, in the order of the run that they continue.

    Attributes
    ----------
    forces : Forces; domain : Domain; neighbors : NeighborList; atoms : Atoms; n_global : int

    Raises
    ------
    InputError
        If the grid does not fit the number of ranks, or the skin is not valid. All ranks raise it together.

    Example
    -------
    >>> import numpy as np
    >>> from rxmdnn import backend
    >>> from rxmdnn.cell import Cell
    >>> from rxmdnn.models.pair import LennardJones
    >>> argon = LennardJones(backend.make("cpu"), ("Ar",), epsilon=0.0104, sigma=3.4, cutoff=8.5)
    >>> x = np.array([[0.0, 0.0, 0.0], [3.8, 0.0, 0.0]])
    >>> system = System.of(argon, Cell(20.0 * np.eye(3)), np.zeros(2, np.int32), x)
    >>> system.compute(system.cell, x).forces.sum(axis=0)
    array([0., 0., 0.])
    """

    def __init__(self, potential: Potential, cell: Cell, atoms: Atoms | None = None, *,
                 comm: MPI.Comm = MPI.COMM_SELF, backend: Backend | None = None, skin: float = SKIN,
                 grid: tuple[int, int, int] = (0, 0, 0), balance: bool = False, timers: Timers | None = None,
                 make_forces: Callable[[Domain, NeighborList, Potential, Timers], Forces] = forces_of,
                 at_owners: Callable[[Domain], bool] = lambda domain: False) -> None:
        backend = backends.make("cpu") if backend is None else backend
        with together(comm):
            self.neighbors = NeighborList(backend, potential.cutoff, skin)
            self.domain = Domain(comm, backend, cell, grid, self.neighbors.reach, balance)
        self.comm, self.backend, self.potential = comm, backend, potential
        self.timers = timers or Timers()
        self.forces = make_forces(self.domain, self.neighbors, potential, self.timers)
        empty = np.zeros(0, np.int64)
        atoms = Atoms.of(empty, empty, np.zeros((0, 3))) if atoms is None else atoms
        self.atoms = atoms.on(backend.from_host)
        self.n_global: int = comm.allreduce(atoms.n_owned)
        if not at_owners(self.domain):
            self.domain.distribute(self.atoms)

    @classmethod
    def of(cls, potential: Potential, cell: Cell, species: np.ndarray, x: np.ndarray, *,
           comm: MPI.Comm = MPI.COMM_SELF, **settings: Any) -> System:
        """The system of all atoms, which every rank gives alike.

        species : (n,) int32, index into the elements of the potential; x : (n, 3) float64, Å; settings : as of System
        """
        mine = np.arange(comm.rank, len(x), comm.size)
        return cls(potential, cell, Atoms.of(mine, np.asarray(species)[mine], np.asarray(x)[mine]), comm=comm,
                   **settings)

    @property
    def cell(self) -> Cell:
        """The present cell."""
        return self.domain.cell

    # ------------------------------------------------------------------ positions given from outside
    def compute(self, cell: Cell, x: np.ndarray) -> Computed:
        """Energy, forces, virial and energies of the atoms at these positions. All ranks call it alike.

        The neighbor list of the call before is kept while no atom has moved, and the cell has not changed, too far.

        Parameters
        ----------
        cell : Cell, periodic along the same axes as before
        x : (n_global, 3) float64, Å, of all atoms in the order of their numbers, inside the cell or not

        Raises
        ------
        InputError
            If a coordinate is NaN or infinite, or the number of atoms or the periodicity is another one.
        """
        x = np.asarray(x, np.float64)
        self._check(cell, x)
        domain, atoms, backend = self.domain, self.atoms, self.backend
        if not np.array_equal(cell.h, domain.cell.h):
            domain.set_cell(cell)
        n = atoms.n_owned
        gid, image = backend.to_host(atoms.gid[:n]), backend.to_host(atoms.image[:n])
        # Atoms are kept inside the cell: where they are now is where they were then, less the periods taken off since.
        new = x[gid] - cell.cartesian(image.astype(float))
        moved = float(np.abs(new - backend.to_host(atoms.x[:n])).max(initial=0.0))
        if domain.comm.allreduce(moved, MPI.MAX) > FAR:
            self.forces.forget()
        atoms.x[:n] = backend.from_host(new)
        self.forces.compute(atoms)
        if (kept := domain.comm.allreduce(atoms.n_owned)) != self.n_global:
            raise AgreedError(f"positions: {self.n_global - kept} of {self.n_global} atoms were lost between ranks; "
                              "this is a fault of the program: please report it with the positions")
        return self._gathered()

    def _check(self, cell: Cell, x: np.ndarray) -> None:
        if x.shape != (self.n_global, 3):
            raise AgreedError(f"positions: an array of {self.n_global} x 3 is needed, not of "
                             f"{' x '.join(map(str, x.shape))}; make a new System for other atoms")
        if not np.array_equal(cell.pbc, self.cell.pbc):
            raise AgreedError(f"cell: periodic along {cell.axes}, but the system along {self.cell.axes}; make a new "
                             "System")
        if not (finite := np.isfinite(x).all(axis=1)).all():
            row = int(np.argmin(finite))
            raise AgreedError(f"positions: NaN or infinite coordinates of {int((~finite).sum())} atom(s), the first of "
                             f"atom {row}: {x[row]}")

    def _gathered(self) -> Computed:
        """The answers of all ranks, in the order of the numbers of the atoms."""
        atoms, to_host, n = self.atoms, self.backend.to_host, self.atoms.n_owned
        forces, energies = rows_of_all(self.comm, self.n_global, to_host(atoms.gid[:n]),
                                       (to_host(atoms.f[:n]), to_host(self.forces.last[1])))
        return Computed(self.forces.energy(), forces, self.forces.virial(), energies)

    def edges(self) -> Edges:
        """Directed pairs within the cutoff at the present positions of ``atoms``. All ranks call it."""
        if not self.forces.refresh(self.atoms, [self.atoms.x]):
            self.domain.copy(self.atoms.x)
        return self.neighbors.edges(self.atoms.x, self.atoms.species)
