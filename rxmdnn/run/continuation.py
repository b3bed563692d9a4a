"""A run that goes on: what it may change of the run before it, and what follows from a change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mpi4py import MPI

from rxmdnn.deck.motion import cell_is_driven, ensemble_settings
from rxmdnn.deck.run import RunDeck
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.minimize import LEFT_BY_MINIMIZERS
from rxmdnn.errors import InputError
from rxmdnn.io.stages import read_stages, stage_at
from rxmdnn.io.start import Start
from rxmdnn.parallel import on_root
from rxmdnn.run.facts import ASKED, FACTS, FIXED, NOTED, USES_VSFACT, Fact, facts_of


@dataclass(frozen=True)
class Continuation:
    """How a run begins.

    Attributes
    ----------
    facts : of this run, for its checkpoints
    begin : the step at which its schedule began; stop : its last step
    forces_known : whether the forces of the start are those of this run
    resumes : whether the ensemble goes on from its state in the checkpoint
    same_stage : whether nothing was changed that enters the conserved quantity
    draws : whether velocities are drawn although the start has some
    minimizes_on : whether a minimizer goes on from its state in the checkpoint
    again : the first line of the log where the run had taken all its steps and takes as many again
    notes : for the log
    """

    facts: dict[str, Any]
    begin: int
    stop: int
    forces_known: bool = False
    resumes: bool = False
    same_stage: bool = False
    draws: bool = False
    minimizes_on: bool = False
    again: str = ""
    notes: list[str] = field(default_factory=list)


def compared(comm: MPI.Comm, run: RunDeck, start: Start) -> Continuation:
    """How a run begins from a start, compared with the run that left it. All ranks call it.

    A checkpoint says what its run was; what rxff.bin was left by is in the folder's list of stages. What they lack, as
    those of earlier versions do, is not compared. Raises AgreedError with all changes that are not allowed.
    """
    def act() -> Continuation:
        facts = facts_of(run)
        if start.f is not None:
            return _from_checkpoint(run, start, facts)
        return _from_rxff(run, start, facts) if start.step > 0 else _anew(run, start, facts)

    return on_root(comm, act)


def last_step(run: RunDeck, begin: int) -> int:
    """The last step of a run whose schedule began at ``begin``."""
    until = run.deck["until"].step
    return begin + run.deck["time"].ntime_step if until is None else until


def _anew(run: RunDeck, start: Start, facts: dict[str, Any]) -> Continuation:
    """From a structure, or from the rxff.bin of geninit."""
    made = not run.deck["run_from_xyz"].file and start.source.endswith("rxff.bin")
    _refuse(_deformed(run, start, facts, {}) if made else [])
    return Continuation(facts, start.step, last_step(run, start.step), draws=facts["random_velocity"])


def _from_rxff(run: RunDeck, start: Start, facts: dict[str, Any]) -> Continuation:
    """A new stage, in a folder whose clock and output go on; the user asked for it, so that changes are only noted."""
    before = stage_at(read_stages(run.folder), start.step) or {}
    faults = _deformed(run, start, facts, before)
    if before.get("atoms", start.n_global) != start.n_global:
        faults.append(f"{start.source}: {start.n_global} atoms, but the run in this folder had {before['atoms']}; use "
                      "another outDir")
    _refuse(faults)
    notes = [_change(fact, run, facts, before) for fact in _changed(facts, before) if fact.rule in (ASKED, NOTED)]
    return Continuation(facts, start.step, last_step(run, start.step), draws=facts["random_velocity"], notes=notes)


def _from_checkpoint(run: RunDeck, start: Start, facts: dict[str, Any]) -> Continuation:
    """The run of a checkpoint goes on, or a new stage begins."""
    saved = start.state
    before: dict[str, Any] = {"masses": saved.get("masses", {}), **saved.get("run", {})}
    changed = _changed(facts, before)
    names = {fact.name for fact in changed}
    other_ensemble = _ensemble(saved.get("ensemble", {}).get("words", [])) != _ensemble(ensemble_settings(run.deck))
    draws = facts["random_velocity"] and "random_velocity" in names
    begin = _begin(run, start, names)
    allowed = run.deck["start"].source == "changed"
    asked = [_change(fact, run, facts, before) for fact in changed if fact.rule == ASKED]
    faults = [] if allowed else [f"{text}; write what the run of {start.source} had, use another outDir, or allow the "
                                 "change with '--start changed'" for text in asked]
    _refuse(_deformed(run, start, facts, before) + _jump(run, start, begin) + faults)
    notes = asked + [_change(fact, run, facts, before) for fact in changed if fact.rule == NOTED]
    notes += _without_effect(run, facts, before, draws)
    known = saved.get("forces_known", True) and not (  # a converted checkpoint has none
        any(fact.forces for fact in changed) or ("rings" not in before and other_ensemble))
    return Continuation(
        facts, begin, last_step(run, begin), forces_known=known, draws=draws, again=_again(run, start), notes=notes,
        resumes=known and not draws and saved.get("ensemble", {}).get("words") == ensemble_settings(run.deck),
        minimizes_on=known and saved.get("minimizer") is not None and not names & {"mdmode", "pramp"},
        same_stage=not (any(fact.stage for fact in changed) or other_ensemble or draws))


def _had_finished(run: RunDeck, start: Start) -> bool:
    """Whether all steps of the deck were taken, so that the same command takes as many again."""
    begin = start.state.get("begin", start.step)
    return last_step(run, begin) <= start.step and run.deck["until"].step is None


def _again(run: RunDeck, start: Start) -> str:
    """What the log of a run says first that had finished and takes as many steps again; nothing of others."""
    if not _had_finished(run, start):
        return ""
    return (f"the run of {start.source} had finished at step {start.step}: this one takes another "
            f"{run.deck['time'].ntime_step} steps; '--until {start.step}' takes none")


def _begin(run: RunDeck, start: Start, changed: set[str]) -> int:
    """The step at which the schedule began, of ntime_step steps and along ramps.

    Here, after a run that had finished, for a new ramp, and for dynamics after a minimization or the reverse.
    """
    deck, begin = run.deck, start.state.get("begin", start.step)
    ramped = cell_is_driven(deck) and start.state.get("stop", start.step + 1) <= start.step
    minimized = any(name in start.extra for name in LEFT_BY_MINIMIZERS)
    other_kind = minimized != (deck["mdmode"].mode == MINIMIZATION)
    new_ramp = bool(changed & {"strain_ramp", "shear_ramp", "pramp"}
                    or ("temperature" in changed and deck["tramp"].t0 is not None))
    return start.step if _had_finished(run, start) or ramped or other_kind or new_ramp else begin


# ---------------------------------------------------------------------- comparison
def _ensemble(words: list[Any]) -> list[Any]:
    """The words of ensemble_settings, in which no ensemble and nve are one."""
    return [] if words in ([None], ["nve"]) else words


def _changed(facts: Mapping[str, Any], before: Mapping[str, Any]) -> list[Fact]:
    """The rows of FACTS that both have, with other values; a structure line that is no longer there is none."""
    return [fact for fact in FACTS if fact.name in before and _unlike(facts[fact.name], before[fact.name])
            and (facts[fact.name] or not fact.hashed)]


def _unlike(now: Any, then: Any) -> bool:
    """Whether two values differ; of dicts, what both have."""
    if isinstance(now, dict) and isinstance(then, dict):
        return any(now[key] != then[key] for key in now.keys() & then.keys())
    return now != then


def _change(fact: Fact, run: RunDeck, facts: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """A change as text: where, what it is now, what it was."""
    now, then = facts[fact.name], before[fact.name]
    if isinstance(now, dict):
        keys = [key for key in now if key in then and now[key] != then[key]]
        now, then = ([x for key in keys for x in (key, d[key])] for d in (now, then))
    if fact.hashed:
        return f"{fact.where(run)}: not used: the run goes on, and did not begin so; '--start structure' begins from it"
    return f"{fact.where(run)}: now {_text(now)}, before {_text(then)}"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(_text(x) for x in value if x is not None and x != []) or "none"
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _refuse(faults: list[str]) -> None:
    if faults:
        raise InputError(*faults)


# ---------------------------------------------------------------------- what cannot be, and what has no effect
def _deformed(run: RunDeck, start: Start, facts: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Faults of strain and shear lines that the run of the start did not have: they act on structures alone."""
    out = []
    for fact in FACTS:
        now = facts[fact.name]
        if fact.rule == FIXED and any(now) and now != before.get(fact.name, None if _tells(start) else now):
            then = f", whose run had {_text(before[fact.name])}" if fact.name in before else ""
            out.append(f"{fact.where(run)}: {_text(now)}: acts on a structure, not on {start.source}{then}; omit this "
                       f"line, begin with '--start structure', or use {fact.keyword}_ramp")
    line = run.deck["pbc"]
    if line.given and [*line] != start.cell.pbc.tolist():
        out.append(line.fault(f"acts on a structure, not on {start.source}, which repeats along "
                              f"{start.cell.axes}; omit this line, or begin with '--start structure'"))
    return out


def _tells(start: Start) -> bool:
    """Whether a start would tell of strain and shear: all but the checkpoints of earlier versions."""
    return start.f is None or "run" in start.state


def _jump(run: RunDeck, start: Start, begin: int) -> list[str]:
    """The fault of a driven cell whose ramp would end at another step than planned: the cell would jump."""
    stop, planned = last_step(run, begin), start.state.get("stop")
    if not cell_is_driven(run.deck) or planned in (None, stop) or begin == start.step:
        return []
    line = run.deck["time" if run.deck["until"].step is None else "until"]
    return [line.fault(f"the run would end at step {stop}, but the ramp of the cell in {start.source} ends at step "
                       f"{planned}; let it end there, then go on")]


def _without_effect(run: RunDeck, facts: Mapping[str, Any], before: Mapping[str, Any], draws: bool) -> list[str]:
    """Notes on lines that do not act on a checkpoint."""
    deck, notes = run.deck, []
    if "seed" not in before:
        notes.append("the checkpoint does not name its models, seed, strain and shear, which are not compared: it is "
                     "of an earlier version, or converted")
        notes += [fact.where(run) + ": not applied again: the checkpoint holds the cell" for fact in FACTS
                  if fact.rule == FIXED and any(facts[fact.name])]
    if facts["random_velocity"] and not draws:
        notes.append(deck["random_velocity"].fault("the velocities of the checkpoint are kept; '--start rxff' draws "
                                                   "new ones"))
    if deck["mdmode"].mode not in USES_VSFACT and _unlike(facts["vsfact"], before.get("vsfact", facts["vsfact"])):
        notes.append(deck["temperature"].fault(f"vsfact does not act in mdmode {deck['mdmode'].mode}"))
    steady = deck["mdmode"].mode == 1 and deck["ensemble"].kind in (None, "nve")
    if steady and not draws and _unlike(facts["temperature"], before.get("temperature", facts["temperature"])):
        notes.append(deck["temperature"].fault("treq does not act at constant energy: the velocities of the checkpoint "
                                               "are kept"))
    return notes
