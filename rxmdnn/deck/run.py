"""The run deck, rxmd.in, as a whole: `read_run` reads it together with the model deck.

Both decks, with the flags of the command line over them, are checked against each other and against the number of
ranks. It needs neither MPI nor torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rxmdnn.deck import language as decks
from rxmdnn.deck.electrons import electron_faults, electron_notes, profile_faults
from rxmdnn.deck.fields import field_faults
from rxmdnn.deck.language import Deck
from rxmdnn.deck.light import light_faults
from rxmdnn.deck.models import ModelLine, read_models
from rxmdnn.deck.motion import is_driven
from rxmdnn.deck.pair_terms import PAIR_TERMS, PairTable, read_pair_table
from rxmdnn.deck.run_faults import (
    device_faults,
    ensemble_faults,
    estimate_faults,
    fidelity_faults,
    model_faults,
    observer_faults,
    ring_faults,
    start_faults,
)
from rxmdnn.deck.run_table import RUN
from rxmdnn.errors import InputError
from rxmdnn.files import file_fault
from rxmdnn.isotopes import element_of, standard_mass


@dataclass(frozen=True)
class RunDeck:
    """The decks of a run, read and checked.

    Attributes
    ----------
    deck : Deck
    models : list of ModelLine; the first one's elements are the run's species
    weights : tuple of float, one per model
    notes : list of str, for the user
    repulsion : ModelLine, optional: the zbl line, whose repulsion is added to the models
    pair_terms : tuple of PairTable: the lines shparams and spparams, whose terms are added to the models
    observers : ModelLines: models that are evaluated by the monitor only (fidelity_observers)
    """

    deck: Deck
    models: list[ModelLine]
    weights: tuple[float, ...]
    notes: list[str]
    repulsion: ModelLine | None = None
    pair_terms: tuple[PairTable, ...] = ()
    observers: Sequence[ModelLine] = ()

    @property
    def may_bond(self) -> bool:
        """Whether a model may hold covalent bonds: not Lennard-Jones, nor no forces at all."""
        return any(line.kind not in ("lj", "null") for line in self.models)

    @property
    def elements(self) -> tuple[str, ...]:
        return self.models[0].elements

    @property
    def masses(self) -> tuple[float, ...]:
        return self.models[0].masses

    @property
    def folder(self) -> Path:
        """The folder outDir."""
        return Path(self.deck["outDir"].folder)


def read_run(argv: Sequence[str], n_ranks: int | None = None, default: str = "rxmd.in") -> RunDeck:
    """Read and check the decks that `argv` names (``--rxmdin|-in F``), with the other flags of `argv` over them.

    Parameters
    ----------
    argv : flags of ``rxmdnn run``
    n_ranks : int, optional
        Checked against ``processors`` where given.

    Raises InputError with all faults.
    """
    path, rest = split(argv, ("--rxmdin", "-in"), default)
    deck = decks.read(path, RUN, rest)
    faults: list[str] = []
    models: list[ModelLine] = []
    file = deck["model"].file or deck.path("rxmdnn.in")
    if not file.is_file():
        faults.append(f"{deck.file}: model: no model deck '{file}'; write one there, or name one with 'model <file>'")
    else:
        try:
            models = read_models(file)
        except InputError as error:
            faults += error.faults
    return checked(deck, models, n_ranks, [*faults, *start_faults(deck)], file)


def checked(deck: Deck, models: list[ModelLine], n_ranks: int | None = None, faults: Sequence[str] = (),
            file: str | Path = "the models") -> RunDeck:
    """The run of a deck and its models, once their lines agree with each other. Raises InputError with all faults.

    faults : found before; file : where the models are named
    """
    faults = list(faults)
    models, repulsion = _apart(models, faults)
    faults += observer_faults(deck, models)
    models, observers = (models[:1], models[1:]) if deck["fidelity_observers"].nstep else (models, [])
    weights = deck["model_weights"].weight
    if models and weights and len(weights) != len(models):
        faults.append(deck["model_weights"].fault(f"{len(weights)} weights for the {len(models)} models of {file}"))
    grid, groups = tuple(deck["processors"]), deck["pimd_groups"].number
    wanted = grid[0] * grid[1] * grid[2] * groups
    if n_ranks is not None and n_ranks % groups == 0 and any(grid) and wanted != n_ranks:
        faults.append(deck["processors"].fault(
            f"{' x '.join(map(str, grid))}{f' in each of {groups} groups' if groups > 1 else ''} = {wanted} ranks, but "
            f"{n_ranks} {'is' if n_ranks == 1 else 'are'} running; "
            f"start with mpirun -np {wanted}, or write 'processors 0 0 0' to let rxmdnn choose"))
    faults += model_faults(deck, models, n_ranks, repulsion is not None)
    faults += ensemble_faults(deck)
    faults += ring_faults(deck, len(models), n_ranks)
    faults += estimate_faults(deck, models[0].elements if models else None)
    if deck["pimd_pairs"].nstep and is_driven(deck):
        faults.append(deck["pimd_pairs"].fault("light, electrons and fields would enter the forces; omit their lines"))
    faults += fidelity_faults(deck)
    faults += device_faults(deck)
    faults += light_faults(deck, models, repulsion is not None)
    faults += electron_faults(deck)
    faults += profile_faults(deck)
    faults += field_faults(deck, models[0].elements if models else ())
    if deck["json"].file and (text := file_fault(deck["json"].file, [deck["outDir"].folder])):
        faults.append(deck["json"].fault(text))
    faults += [e.fault(f"{e.quantity} is given before; keep one") for k, e in enumerate(deck["observe"])
               if e.quantity in [other.quantity for other in deck["observe"][:k]]]
    pair_terms = _pair_terms(deck, len(models[0].elements), faults) if models else ()
    if faults:
        raise InputError(*faults)
    notes = list(deck.notes)
    if deck["temperature"].vmag is not None:
        notes.append(deck["temperature"].fault("vmag: ignored (accepted for compatibility): velocities are drawn at "
                                               "treq"))
    if deck["io_type"].isBondFile:
        notes.append(deck["io_type"].fault("isBondFile: not written: a neural network has no bond orders"))
    notes += [line.fault(f"the code of {line.parameters.get('file') or line.parameters['factory']} is run")
              for line in models if line.kind in ("compiled", "ase")]
    notes += _other_masses(models[0])
    notes += electron_notes(deck)
    notes += [note for table in pair_terms for note in table.jumps(models[0].elements)]
    return RunDeck(deck, models, weights or (1.0 / len(models),) * len(models), notes, repulsion,
                   pair_terms, observers)


def _other_masses(line: ModelLine) -> list[str]:
    """A note on masses far from those of their element: swapped, for example. Hydrogen up to 4.1 amu is usual."""
    strange = []
    for name, mass in zip(line.elements, line.masses):
        usual = standard_mass(name)
        if usual > 1.0 and abs(mass / usual - 1) > 0.3 and not (element_of(name) == "H" and 0.9 < mass < 4.1):
            strange.append(f"{name} {mass:g} (usual: {usual:g})")
    return [line.fault(f"masses far from those of the elements, amu: {', '.join(strange)}")] if strange else []


def _pair_terms(deck: Deck, n_types: int, faults: list[str]) -> tuple[PairTable, ...]:
    """The tables of the lines shparams and spparams."""
    tables = []
    for kind in PAIR_TERMS:
        if deck[kind].file is None:
            continue
        if deck["backend"].name == "cuda":
            faults.append(deck[kind].fault("is computed on the CPU only; write 'backend cpu', or use a line "
                                           "'zbl 0.8 ...' in rxmdnn.in (rxmdnn help zbl)"))
        try:
            tables.append(read_pair_table(kind, deck[kind].file, n_types))
        except InputError as error:
            faults += [deck[kind].fault(text) for text in error.faults]
    return tuple(tables)


def _apart(models: list[ModelLine], faults: list[str]) -> tuple[list[ModelLine], ModelLine | None]:
    """The models with weights, and the repulsion added to them; a repulsion alone is the model."""
    others, added = [m for m in models if m.kind != "zbl"], [m for m in models if m.kind == "zbl"]
    faults += [line.fault("given before; keep one") for line in added[1:]]
    return (others, added[0]) if others and added else (models[:1] if added else models, None)


def split(argv: Sequence[str], flags: tuple[str, ...], default: str) -> tuple[str, list[str]]:
    """The value of one flag, and the other arguments."""
    rest, value = list(argv), default
    for k, argument in enumerate(rest):
        if argument in flags:
            if k + 1 == len(rest):
                raise InputError(f"command line: {argument}: a file name is missing")
            value = rest[k + 1]
            return value, rest[:k] + rest[k + 2:]
    return value, rest
