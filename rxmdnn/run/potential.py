"""The potential of a run, made from the lines of its model deck."""

from __future__ import annotations

from rxmdnn.backend import Backend
from rxmdnn.deck.light import has_light
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.run import RunDeck
from rxmdnn.errors import InputError
from rxmdnn.excitation.surfaces import MixedSurface
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture, together_unweighted
from rxmdnn.models.pair import LennardJones, Null
from rxmdnn.models.pair_terms import PAIR_TERM_KINDS, PairTerm
from rxmdnn.models.repulsion import Repulsion


def make_potential(run: RunDeck, backend: Backend) -> Potential:
    """The models of rxmdnn.in over the run's elements; every line that fails is reported."""
    members, faults = [], []
    for line in (*run.models, *([run.repulsion] if run.repulsion else [])):
        try:
            members.append(_member(line, run, backend))
        except InputError as error:
            faults += [line.fault(text) for text in error.faults]
    if faults:
        raise InputError(*faults)
    if has_light(run.deck):
        line = run.deck["excite"]
        added = together_unweighted([*members[2:], *_pair_terms(run, backend)])
        return MixedSurface(members[line.ground - 1], members[line.excited - 1], added)
    added = together_unweighted([*([members.pop()] if run.repulsion else []), *_pair_terms(run, backend)])
    alone = len(members) == 1 and run.weights == (1.0,) and added is None
    return members[0] if alone else Mixture(members, run.weights, added)


def make_observers(run: RunDeck, backend: Backend, first: Potential) -> list[Potential]:
    """The models that observe the run. first : the potential of the run. Raises InputError with all faults."""
    out, faults = [], []
    for line in run.observers:
        try:
            out.append(_member(line, run, backend))
            if (out[-1].cutoff > first.cutoff).any():
                faults.append(line.fault(f"an observer whose cutoff, {out[-1].cutoff.max():g} Å, exceeds that of the "
                                         f"first model, {first.cutoff.max():g} Å; omit it"))
        except InputError as error:
            faults += [line.fault(text) for text in error.faults]
    if faults:
        raise InputError(*faults)
    return out


def _pair_terms(run: RunDeck, backend: Backend) -> list[PairTerm]:
    """The potentials of the lines shparams and spparams."""
    if run.pair_terms and backend.on_device:
        raise InputError(f"{', '.join(t.kind for t in run.pair_terms)}: computed on the CPU only; write 'backend cpu'")
    return [PAIR_TERM_KINDS[t.kind](run.elements, t.listed, t.parameters) for t in run.pair_terms]


def _member(line: ModelLine, run: RunDeck, backend: Backend) -> Potential:
    """The potential of one line of the model deck."""
    if line.kind == "lj":
        return LennardJones(backend, run.elements, **line.parameters)
    if line.kind == "zbl":
        return Repulsion(run.elements, **line.parameters, backend=backend)
    if line.kind == "null":
        return Null(run.elements, **line.parameters)
    if line.kind in ("compiled", "ase") and backend.on_device:
        raise InputError("runs on the CPU only; write 'backend cpu'")
    if line.kind == "ase":
        from rxmdnn.models.ase_calculator import AseCalculator  # a user's module, only where it is asked for

        return AseCalculator(line.parameters["factory"], run.elements)
    if line.kind == "compiled":
        from rxmdnn.models.compiled import CompiledLocal, CompiledWhole  # torch, likewise

        return (CompiledWhole if line.is_whole else CompiledLocal)(line.parameters["file"], run.elements)
    from rxmdnn.models.allegro import Allegro  # torch, only where a network runs

    file = line.parameters["file"]
    return Allegro.load(file, run.elements, run.deck["precision"].network, backend, line.native,
                        run.deck["table"].force_error)


def notes_of(potential: object) -> list[str]:
    """The notes of a potential and of its members, each once."""
    notes = [*getattr(potential, "notes", ())]
    for member in getattr(potential, "members", ()):
        notes += notes_of(member)
    return list(dict.fromkeys(notes))
