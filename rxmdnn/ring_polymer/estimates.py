"""The ``pimd_estimate`` lines of a run: a series file for each, and their averages in the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mpi4py import MPI

from rxmdnn.deck.language import Entry
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.momentum import RMAX, Momentum
from rxmdnn.ring_polymer.quantities import IsotopeRatio, KineticTensor, Quantity, ScaledHeatCapacity
from rxmdnn.ring_polymer.series import SETTLING, RingSeries
from rxmdnn.ring_polymer.virtual import VirtualRings


class RingEstimates:
    """Writers of the quantities, every so many steps.

    Parameters
    ----------
    comm : of the ranks that hold the atoms
    lines : the pimd_estimate lines
    write : writes lines of text to the log
    restart : as of RingSeries
    """

    def __init__(self, comm: MPI.Comm, folder: Path, ring: RingPolymer, lines: Sequence[Entry],
                 elements: tuple[str, ...], write: Callable[..., None], restart: int | None) -> None:
        self.tell = write
        virtual = VirtualRings(comm, ring) if any(e.quantity != "kinetic_tensor" for e in lines) else None
        self.members = [(e.nstep, _made(e, ring, virtual, elements)) for e in lines]
        self.series = [RingSeries(comm, folder / f"ring_{q.name}.csv", q.columns, restart) for _, q in self.members]

    @property
    def writers(self) -> list[tuple[int, Callable[[Any], None]]]:
        """(every so many steps, what is called with a Thermo)."""
        return [(every, self._caller(every, q, series))
                for (every, q), series in zip(self.members, self.series, strict=True)]

    def _caller(self, every: int, quantity: Quantity, series: RingSeries) -> Callable[[Any], None]:
        def call(thermo: Any) -> None:
            if thermo.step % every == 0:  # the last step of a run calls all its writers
                with quantity.ring.motion.forces.timers("estimates"):
                    series.add(thermo.step, thermo.time, quantity.row(thermo.step))

        return call

    def averages(self, first: int) -> None:
        """Write to the log the averages over the rows from step ``first`` on."""
        for (_, quantity), series in zip(self.members, self.series, strict=True):
            lines = series.summarized(first, lambda columns, quantity=quantity: [  # type: ignore[misc]
                f"{quantity.name}: averages of {len(columns['step'])} rows (the first {100 * SETTLING:.0f} % left out)",
                *quantity.summary(columns)])
            if lines:
                self.tell(*lines)


def _made(line: Entry, ring: RingPolymer, virtual: VirtualRings | None, elements: tuple[str, ...]) -> Quantity:
    if virtual is None or line.quantity == "kinetic_tensor":
        return KineticTensor(ring, elements)
    if line.quantity == "heat_capacity":
        return ScaledHeatCapacity(ring, virtual)
    of = (ring, virtual, elements.index(line.element), line.atoms, line.nstep, line.element)
    return IsotopeRatio(*of, line.value) if line.quantity == "isotope" else Momentum(*of, line.value or RMAX)
