"""The ending of a run: the last line of its log, and its exit code."""

from __future__ import annotations

from enum import Enum

from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.fidelity.guard import EXIT_CODE


class Ending(Enum):
    """The value is the last line's text."""

    FINISHED = "finished at step {step}"
    CONVERGED = "converged at step {step}"
    NOT_CONVERGED = "NOT converged: step limit reached at step {step}"
    ON_SIGNAL = "stopped on a signal; run again to go on"
    BY_MONITORING = "stopped by fidelity monitoring"

    @classmethod
    def of(cls, simulation: Simulation, failed: bool) -> Ending:
        """The ending of a simulation whose loop has ended. failed : its guard has stopped it."""
        early = simulation.step < simulation.schedule.stop
        if failed:
            return cls.BY_MONITORING
        if simulation.schedule.mdmode == MINIMIZATION:
            return cls.CONVERGED if early else cls.NOT_CONVERGED
        return cls.ON_SIGNAL if early else cls.FINISHED

    def text(self, step: int) -> str:
        """The text of the last line of the log."""
        return self.value.format(step=step)

    @property
    def exit_code(self) -> int:
        """0, or that of a run which monitoring has stopped."""
        return EXIT_CODE if self is Ending.BY_MONITORING else 0
