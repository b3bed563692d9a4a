"""The ending of a run: the last line of its log, and its exit code."""

from __future__ import annotations

from enum import Enum

from rxmdnn import errors
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.simulation import Simulation

HOTTEST = 2e4  # K: no molecule exists at it
OFF_TARGET = 10.0  # a run whose target is near HOTTEST has failed at so many times the target


class Ending(Enum):
    """The value is the last line's text, and the exit code."""

    FINISHED = "finished at step {step}", errors.FINISHED
    CONVERGED = "converged at step {step}", errors.FINISHED
    NOT_CONVERGED = "NOT converged: step limit reached at step {step}", errors.FAILED
    UNSTABLE = "FAILED: unstable, at an unphysical temperature at step {step}", errors.FAILED
    ON_SIGNAL = "stopped on a signal at step {step}; run again to go on", errors.ON_SIGNAL
    BY_MONITORING = "stopped by fidelity monitoring at step {step}", errors.BY_MONITORING

    @classmethod
    def of(cls, simulation: Simulation, failed: bool) -> Ending:
        """The ending of a simulation whose loop has ended. failed : its guard has stopped it. All ranks call it."""
        unstable = temperature_of(simulation) > limit(simulation)
        if failed:
            return cls.BY_MONITORING
        if simulation.schedule.mdmode == MINIMIZATION:
            if simulation.converged:
                return cls.CONVERGED
            return cls.ON_SIGNAL if simulation.signalled else cls.NOT_CONVERGED
        if unstable:
            return cls.UNSTABLE
        return cls.ON_SIGNAL if simulation.signalled else cls.FINISHED

    def text(self, step: int) -> str:
        """The text of the last line of the log."""
        return self.value[0].format(step=step)

    @property
    def exit_code(self) -> int:
        """One of errors.EXIT_CODES."""
        return self.value[1]


def temperature_of(simulation: Simulation) -> float:
    """Its temperature now, K. All ranks call it."""
    return simulation.kinetics.temperature(simulation.atoms)


def limit(simulation: Simulation) -> float:
    """The temperature, K, above which a run has failed."""
    return max(HOTTEST, OFF_TARGET * max(simulation.schedule.ramp))
