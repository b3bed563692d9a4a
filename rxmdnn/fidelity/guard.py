"""Reaction of a run to failures: flag them, stop, or heal, i.e. return to a saved state and retry with shorter steps.

Forces are never altered or clamped, and every incident is recorded before any action.
"""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.atoms import FIELDS
from rxmdnn.cell import Cell
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.fidelity.criteria import WHOLE, Event, not_finite
from rxmdnn.fidelity.monitor import Monitor
from rxmdnn.files import append, plain
from rxmdnn.io.ordered import in_gid_order, writable
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import AgreedError
from rxmdnn.schema import Item, reading

MOST_PARTS = 16  # of a step
MOST_EVENTS = 100  # of an incident in the file; all are counted
STORED = {"attempts": Item("int", low=0), "rollbacks": Item("int", low=0), "incidents": Item("int", low=0),
          "until": Item("int", low=-1), "healed": Item("any"), "parts": Item("int", low=1, high=MOST_PARTS),
          "energy_0": Item("any"), "active": Item("list"), "martingale": Item("dict", optional=True)}


@dataclass(frozen=True)
class SavedState:
    """Complete state of one rank, bit for bit: rows in their order, cell, thermostat, barostat and drives.

    Random numbers are functions of (seed, stream, step, id), so the step is their state.
    """

    step: int
    arrays: dict[str, np.ndarray]
    extra: dict[str, np.ndarray]
    cell: Cell
    ensemble: dict[str, Any]
    drives: list[dict[str, Any]]

    @classmethod
    def of(cls, s: Simulation) -> SavedState:
        """Copy the state; the next step begins with a new neighbor list, as after ``restore``."""
        n = s.atoms.n_owned
        arrays = {a.name: getattr(s.atoms, a.name)[:n].copy() for a in FIELDS}
        s.forces.stale = True
        return cls(s.step, arrays, {k: v.copy() for k, v in s.atoms.extra.items()}, s.cell,
                   copy.deepcopy(s.ensemble.state()), [copy.deepcopy(drive.saved(s.comm)) for drive in s.drives])

    def restore(self, s: Simulation) -> None:
        for name, array in self.arrays.items():
            setattr(s.atoms, name, array.copy())
        s.atoms.extra = {k: v.copy() for k, v in self.extra.items()}
        s.atoms.n_owned = len(self.arrays["gid"])
        s.domain.set_cell(self.cell)
        s.ensemble.resume(copy.deepcopy(self.ensemble))
        for drive, state in zip(s.drives, self.drives, strict=True):
            drive.continue_from(copy.deepcopy(state), s.comm)
        s.forces.forget()
        s.step = self.step


@dataclass(frozen=True)
class GuardSettings:
    """Settings of the deck.

    action : flag, stop or heal; every : steps between checks
    keep, interval : number of saved states, steps between them
    retries : per failure, each with half the time step of the one before
    calm : steps after a failure until the full time step is restored
    """

    action: str
    every: int
    keep: int = 4
    interval: int = 100
    retries: int = 4
    calm: int = 500


@dataclass
class Guard:
    """Advances a simulation and reacts to failures (see Simulation.guard). All ranks call every method.

    Parameters
    ----------
    simulation, monitor, settings
    folder : of incidents.jsonl and incidents.xyz
    write_frame : called with a name, a note for the header of the frame, and the scores of the atoms in order of gid
    say : writes a line to the log
    rewind : called with a step when later output belongs to a failed attempt, and when ``healed`` changes
    remember : called with the steps of the saved states after all output of the last of them, the present step
    repulsion : the potential with a short-range repulsion, used while healing; None: the same potential

    Attributes
    ----------
    saved : the latest SavedStates, oldest first
    failed : whether an incident has stopped the run
    attempts : at the present failure; rollbacks : in total; until : step at which the full time step is restored
    rolled_back_to : step of the state of the last rollback
    healed : list of [first, last] steps that were taken in parts
    active : {(kind, gid)} of a run that only flags: recorded events that persist
    """

    simulation: Simulation
    monitor: Monitor
    settings: GuardSettings
    folder: Path
    write_frame: Callable[[str, str, np.ndarray], None]
    say: Callable[[str], None]
    rewind: Callable[[int], None]
    repulsion: Potential | None = None
    remember: Callable[[list[int]], None] = lambda steps: None
    failed: bool = False
    attempts: int = 0
    rollbacks: int = 0
    incidents: int = 0
    until: int = 0
    rolled_back_to: int = 0
    healed: list[list[int]] = field(default_factory=list)
    active: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.saved: deque[SavedState] = deque(maxlen=self.settings.keep)
        self.seed = self.simulation.schedule.seed
        self.bare = self.simulation.forces.potential

    @property
    def healing(self) -> bool:
        return self.attempts > 0

    # ------------------------------------------------------------------ the run
    def begin(self) -> None:
        """Prepare for the first step: set the reference topology, save the first state."""
        self.monitor.begin()
        if self.settings.action == "heal":
            self.saved.append(SavedState.of(self.simulation))

    def advance(self) -> bool:
        """Take a step and check it; False if the run was rolled back, or stops."""
        s, settings = self.simulation, self.settings
        if self.saved and self.saved[-1].step == s.step:
            self.remember([state.step for state in self.saved])
        step = s.step + 1
        watch = step % settings.every == 0 or s.owes(step)
        try:
            with self.monitor.watch.open(watch), np.errstate(over="ignore", invalid="ignore"):
                s.advance()
            events = self.monitor.check() if watch else []
        except AgreedError as error:
            events = self._lost(step, error)
            if settings.action == "flag":
                self._record(events, "flagged", {})
                raise
        if events:
            return self._act(events)
        if watch:
            self.active = self._unchecked(step)
            if settings.action == "heal" and step % settings.interval == 0:
                self.saved.append(SavedState.of(s))
            if self.healing and step >= self.until:
                self._restore_step()
        return True

    def _lost(self, step: int, error: AgreedError) -> list[Event]:
        """Events of a step that could not be completed: atoms with NaN or infinite numbers, or the whole system."""
        s, n = self.simulation, self.simulation.atoms.n_owned
        atoms, time = s.atoms.on(s.backend.to_host), s.time_0 + step * s.schedule.dt
        mine = not_finite(atoms.x[:n], atoms.v, atoms.f[:n]).events(step, time, atoms.gid)
        events = [event for rank in s.comm.allgather(mine) for event in rank]
        self.say(f"fidelity: step {step}: {error}")
        return sorted(events, key=lambda e: e.gid) or [Event("finite", step, time, WHOLE, float("nan"), 0.0)]

    # ------------------------------------------------------------------ incidents
    def _act(self, events: list[Event]) -> bool:
        settings = self.settings
        if settings.action == "flag":
            new = [e for e in events if (e.kind, e.gid) not in self.active]
            self.active = {(e.kind, e.gid) for e in events} | self._unchecked(events[0].step)
            if new:
                self._record(new, "flagged", {})
            return True
        if settings.action == "heal" and self.attempts < settings.retries:
            self._heal(events)
            return False
        what = f"gave up after {self.attempts} retries" if settings.action == "heal" else "stopped"
        self._record(events, what, {"attempt": self.attempts})
        self.failed = self.simulation.stopping = True
        return False

    def _unchecked(self, step: int) -> set[tuple[str, int]]:
        """Recorded events of criteria that are not checked at this step, as those of observers."""
        observers = self.monitor.watch.observers
        return set() if observers is None or observers.due(step) else {a for a in self.active if a[0] == "spread"}

    def _heal(self, events: list[Event]) -> None:
        """Restore a verified state (an older one at each retry), and continue with shorter steps and other noise."""
        s, settings, failed_at = self.simulation, self.settings, events[0].step
        attempt = self.attempts + 1
        while attempt > 1 and len(self.saved) > 1 and self.saved[-1].step >= self.rolled_back_to:
            self.saved.pop()  # this state, and all later ones, led to a failure again
        back = self.saved[-1]
        self.rolled_back_to = back.step
        parts = min(2**attempt, MOST_PARTS)
        self._record(events, "rolled back", {"attempt": attempt, "to_step": back.step, "parts": parts})
        self.attempts = attempt  # from here on frames are of a healed interval; the frame of the incident is not
        back.restore(s)
        self.rollbacks += 1
        self.until = max(self.until, failed_at + settings.calm)
        if self.healed and self.healed[-1][1] >= back.step:
            self.healed[-1] = [min(self.healed[-1][0], back.step), self.until]
        else:
            self.healed.append([back.step, self.until])
        self._set_steps(parts)
        self.monitor.restart()
        self.rewind(back.step)

    def _set_steps(self, parts: int) -> None:
        """Divide steps into parts, with noise that no earlier attempt had."""
        s = self.simulation
        s.parts, s.schedule.seed = parts, self.seed + ((self.rollbacks * MOST_PARTS) << 32)
        wanted = self.repulsion if self.repulsion is not None and parts > 1 else self.bare
        if s.forces.potential is not wanted:
            s.forces.potential = wanted
            self.monitor.energy_0 = None  # the potential energy differs

    def _restore_step(self) -> None:
        s = self.simulation
        self.attempts, self.healed[-1][1] = 0, s.step
        self._set_steps(1)
        self.say(f"fidelity: step {s.step}: healed; full time step restored")
        self.rewind(s.step)

    def _record(self, events: list[Event], action: str, more: dict[str, Any]) -> None:
        """Record an incident in the log, in incidents.jsonl and, if its positions are finite, in incidents.xyz."""
        s, first = self.simulation, events[0]
        self.incidents += 1
        kinds = {kind: sum(e.kind == kind for e in events) for kind in dict.fromkeys(e.kind for e in events)}
        shown = next((e for e in events if e.gid >= 0), first)
        where = f"atom {shown.gid}" if shown.gid >= 0 else "the whole system"
        text = ", ".join(f"{n} {kind}" for kind, n in kinds.items())
        continued = f" to step {more['to_step']}, steps in {more['parts']} parts" if "to_step" in more else ""
        self.say(f"fidelity: step {first.step}: {text} (first: {where}, {shown.kind} {shown.value:.6g}, "
                 f"limit {shown.threshold:.6g}); {action}{continued}")
        written = not any(e.kind == "finite" for e in events) and self._keep_frame(action)
        row = {"incident": self.incidents, "step": first.step, "time_fs": first.time, "action": action, **more,
               "events_total": len(events), "kinds": kinds, "frame": written,
               "events": [e._asdict() for e in events[:MOST_EVENTS]]}
        path = self.folder / "incidents.jsonl"
        with writable(s.comm, path):
            if s.comm.rank == 0:
                append(path, json.dumps(plain(row)) + "\n")

    def _keep_frame(self, action: str) -> bool:
        """Write the frame of an incident; False if its numbers do not fit the format."""
        s, n = self.simulation, self.simulation.atoms.n_owned
        (scores,) = in_gid_order(s.comm, s.n_global, s.backend.to_host(s.atoms.gid[:n]), [self.monitor.scores])
        try:
            self.write_frame(f"incident_{self.incidents}.xyz", f'incident={self.incidents} action="{action}" ', scores)
        except AgreedError:
            return False
        return True

    def summary(self) -> str:
        """Last line of the log; the run may have ended while healing."""
        self.healed = [[a, min(b, self.simulation.step)] for a, b in self.healed]
        parts = f"; steps in parts from {', '.join(f'{a} to {b}' for a, b in self.healed)}" if self.healed else ""
        bets = self.monitor.martingale
        if bets is not None:
            parts += f"; martingale {bets.wealth:.3g} after {bets.blocks} blocks, alarm at {1 / bets.alpha:g}"
        return f"fidelity: {self.incidents} incident(s), {self.rollbacks} rollback(s){parts}"

    # ------------------------------------------------------------------ restart
    def state(self) -> dict[str, Any]:
        """State for a checkpoint, without saved states: after a restart the first one is the start."""
        bets = self.monitor.martingale
        return {"attempts": self.attempts, "rollbacks": self.rollbacks, "incidents": self.incidents,
                "until": self.until, "healed": self.healed, "parts": self.simulation.parts,
                "energy_0": self.monitor.energy_0, "active": [list(a) for a in sorted(self.active)],
                **({} if bets is None else {"martingale": bets.state()})}

    def resume(self, state: dict[str, Any], source: str) -> None:
        """Go on from the state of a checkpoint, whose path is ``source``. Raises InputError."""
        with reading(source, "a state of 'fidelity'") as checked:
            checked.entries(state, STORED, "state.fidelity")
            checked.value("state.fidelity.healed", state["healed"] or np.zeros((0, 2)), Item("int", (None, 2)))
            self._resume(state)

    def _resume(self, state: dict[str, Any]) -> None:
        for name in ("attempts", "rollbacks", "incidents", "until", "healed"):
            setattr(self, name, state[name])
        self.active = {(kind, gid) for kind, gid in state["active"]}
        self._set_steps(state["parts"])
        self.monitor.energy_0 = None if state["energy_0"] is None else tuple(state["energy_0"])
        if self.monitor.martingale is not None and "martingale" in state:
            self.monitor.martingale.resume(state["martingale"])
