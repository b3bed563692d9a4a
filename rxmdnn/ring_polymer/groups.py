"""Distribution of beads over groups of ranks.

Every group holds all atoms, on a grid of its own ranks, and moves them with the same random numbers; it evaluates only
its share of the beads. One message per step gives every group the forces on the beads of the others. Sums over ranks
may be rounded differently in different groups, so at every new neighbor list all groups take the atoms of the first.
Only the first group prints and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.engine.domain import Domain
from rxmdnn.parallel import together

if TYPE_CHECKING:
    from rxmdnn.dynamics.simulation import Simulation, Thermo

T = TypeVar("T")


class Groups:
    """The ranks of ``everyone`` in ``number`` groups of neighboring ranks.

    Attributes
    ----------
    mine : int, the group of this rank
    inside : communicator of this group
    across : communicator of the ranks with the same part of the cell, one per group, in the order of the groups
    """

    def __init__(self, everyone: MPI.Comm, number: int = 1) -> None:
        self.everyone, self.number = everyone, number
        each = everyone.size // number
        self.mine = everyone.rank // each
        alone = number == 1
        self.inside = everyone if alone else everyone.Split(self.mine, everyone.rank)
        self.across = MPI.COMM_SELF if alone else everyone.Split(everyone.rank % each, everyone.rank)

    # ------------------------------------------------------------------ beads
    def share(self, beads: int, group: int | None = None) -> range:
        """The beads of a group, by default of this rank's group."""
        group = self.mine if group is None else group
        return range(beads * group // self.number, beads * (group + 1) // self.number)

    def gather(self, mine: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """One float64 array from each group's rank of this part of the cell. mine : (sizes[this group],) float64."""
        everything = np.empty(sum(sizes))
        self.across.Allgatherv(mine, [everything, list(sizes)])
        return np.split(everything, np.cumsum(sizes)[:-1])

    def unite(self, atoms: Atoms, domain: Domain) -> None:
        """Copy owned atoms and cell of the first group to all groups, bit for bit; the row order is the same in all."""
        if self.number == 1:
            return
        n, backend = atoms.n_owned, domain.backend
        for array in (atoms.x[:n], atoms.v, atoms.image, *(atoms.extra[name] for name in sorted(atoms.extra))):
            host = backend.to_host(array)
            self.across.Bcast(host)
            if backend.on_device:
                array[:] = backend.from_host(host)
        h = self.across.bcast(domain.cell.h)
        if not np.array_equal(h, domain.cell.h):
            domain.set_cell(Cell(h, domain.cell.pbc))

    # ------------------------------------------------------------------ output
    def agreed(self) -> AbstractContextManager[None]:
        """A block in which an InputError of one rank is raised on all ranks of all groups."""
        return together(self.everyone) if self.number > 1 else nullcontext()

    def first(self, act: Callable[[], T]) -> T | None:
        """Call ``act`` on the first group alone; its result there, None elsewhere."""
        with self.agreed():
            return act() if self.mine == 0 else None
        return None

    def lead(self, simulation: Simulation) -> None:
        """Let only the first group print and write; with each call all groups take the state of its ensemble."""
        if self.number == 1:
            return
        simulation.everyone = self.everyone
        calls = simulation.writers if self.mine == 0 else []
        every = self.everyone.bcast([n for n, _ in calls])
        mine = [call for _, call in calls] or [simulation.on_print] * len(every)

        def led(call: Callable[[Thermo], None]) -> Callable[[Thermo], None]:
            def act(thermo: Thermo) -> None:
                self.first(lambda: call(thermo))
                state: Any = self.across.bcast((simulation.forces.stale, simulation.ensemble.state()))
                if self.mine:
                    simulation.forces.stale = state[0]
                    simulation.ensemble.resume(state[1])
            return act

        simulation.on_print = led(simulation.on_print)
        simulation.writers = [(n, led(call)) for n, call in zip(every, mine, strict=True)]
