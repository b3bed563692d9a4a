"""Beads shared out among groups of ranks.

Every group has all atoms, on a grid of its own ranks, and moves them by itself with the same random numbers; it
evaluates its share of the beads alone. One message a step gives every group the others' forces on beads. Sums over
ranks may be rounded differently from group to group, so at every new list all take over the first group's atoms. The
first group alone prints and writes.
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
    mine : int, this rank's group
    inside : communicator of this group
    across : communicator of the ranks that have the same part of the cell, in the order of the groups
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
        """The beads of a group, this rank's by default."""
        group = self.mine if group is None else group
        return range(beads * group // self.number, beads * (group + 1) // self.number)

    def gather(self, mine: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
        """What each group's rank of this part has. mine : (sizes[this group],) float64."""
        everything = np.empty(sum(sizes))
        self.across.Allgatherv(mine, [everything, list(sizes)])
        return np.split(everything, np.cumsum(sizes)[:-1])

    def unite(self, atoms: Atoms, domain: Domain) -> None:
        """Owned atoms and cell become the first group's to the last bit: rows are in the same order everywhere."""
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
        """A block for all groups, or for the first, whose InputError is everyone's."""
        return together(self.everyone) if self.number > 1 else nullcontext()

    def first(self, act: Callable[[], T]) -> T | None:
        """What the first group does alone; its result there."""
        with self.agreed():
            return act() if self.mine == 0 else None
        return None

    def lead(self, simulation: Simulation) -> None:
        """Have the first group print and write what is due, and its ensemble's state taken over with every line."""
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
