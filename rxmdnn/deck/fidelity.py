"""Lines of the run deck for watching a run: `fidelity` and those that go with it."""

from __future__ import annotations

from rxmdnn.deck.language import Keyword, Value, positive
from rxmdnn.deck.words import ACTIONS, CRITERIA, LIMITS


def _level(x: float) -> str | None:
    return None if 0 < x <= 0.5 else "must be above 0 and at most 0.5"


FIDELITY = (
    Keyword("fidelity", (Value("action", tuple(ACTIONS), "off", words=ACTIONS),
                         Value("every", "int", 10, "steps", positive, optional=True, help="between checks"),
                         Value("alarms", "float", 0.01, "", positive, optional=True,
                               help="expected number of false alarms in the whole run, with fidelity_calibration")),
            "action on unphysical geometries or extrapolation of the model", group="fidelity"),
    Keyword("fidelity_watch", (Value("kind", tuple(CRITERIA), (),
                                     words={k: text + (f", {unit}" if unit else "")
                                            for k, (text, unit) in CRITERIA.items()}),),
            "criteria to monitor; absent: all for which the run has limits, except 'published'", rest=1,
            group="fidelity"),
    Keyword("fidelity_limit", (Value("kind", tuple(LIMITS), None, words=LIMITS),
                               Value("value", "float", None, check=positive)),
            "user-defined limit", repeats=True, group="fidelity"),
    Keyword("fidelity_calibration", (Value("file", "file", None),),
            "limits with a fixed rate of false alarms, from 'rxmdnn fidelity calibrate' on a clean run",
            group="fidelity"),
    Keyword("fidelity_martingale",
            (Value("alpha", "float", None, check=_level, help="probability of a false alarm in a run of any length"),
             Value("block", "float", 100.0, "fs", positive, optional=True,
                   help="of checks that make one bet; longer than the memory of forces and distances")),
            "alarm by a test martingale of the scores of fidelity_calibration", group="fidelity"),
    Keyword("fidelity_observers", (Value("nstep", "int", None, "steps", positive, help="between their evaluations"),),
            "the first model alone moves the atoms; the others are evaluated now and then, for the criterion spread",
            group="fidelity"),
    Keyword("fidelity_heal", (Value("keep", "int", 4, check=positive, help="number of saved states, in memory"),
                              Value("interval", "int", 100, "steps", positive, help="between saved states"),
                              Value("retries", "int", 4, check=positive,
                                    help="per failure, each from an older state and with half the time step"),
                              Value("calm", "int", 500, "steps", positive,
                                    help="without an event, until the full time step is restored"),
                              Value("repulsion", "bool", False, optional=True,
                                    help="add a short-range repulsion (zbl 0.8) until then")),
            "parameters of 'fidelity heal'", group="fidelity"),
)
