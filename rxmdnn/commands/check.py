"""``rxmdnn check``: read and check a deck with all that it names; runs and writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.deck import language as decks
from rxmdnn.deck.fields import has_field
from rxmdnn.deck.models import read_models
from rxmdnn.deck.run import RunDeck, checked, read_run
from rxmdnn.deck.run_faults import barostat_fault
from rxmdnn.deck.run_table import RUN
from rxmdnn.deck.tables import DECKS, kind_of
from rxmdnn.engine.domain import choose_grid
from rxmdnn.errors import InputError
from rxmdnn.fidelity.setup import make_monitor
from rxmdnn.io.start import Start
from rxmdnn.models.interface import Potential
from rxmdnn.ring_polymer.economised import refusal
from rxmdnn.ring_polymer.setup import notes as ring_notes
from rxmdnn.run.continuation import compared
from rxmdnn.run.potential import make_observers, make_potential, notes_of
from rxmdnn.run.setup import make_simulation
from rxmdnn.run.start import read_start
from rxmdnn.run.untrained import untrained_notes


def main(argv: Sequence[str]) -> None:
    """Print the effective deck, or all its faults."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: rxmdnn check DECK [--ranks N] [flags over the deck]\n\n"
              "Reads a run, model or training deck, its models, its structure and its data; runs and writes nothing.")
        return
    path, rest = str(argv[0]), list(argv[1:])
    kind = kind_of(path)
    if kind != "rxmd.in":
        deck = decks.read(path, DECKS[kind], rest)
        if kind == "rxmdnn.in":
            run = checked(decks.parse("time 1.0 1\n", path, RUN), read_models(path))
            make_potential(run, backends.make("cpu"))
        print(deck.echo(), end="")
        if kind == "train.in":
            from rxmdnn.training.preview import preview  # torch, only where a training is read

            print("\n".join(preview(deck)))
        print(f"{path}: {kind}: valid")
    else:
        check_run(path, rest)


def check_run(path: str, rest: list[str]) -> None:
    """Print what a run of the deck would be. Raises InputError with the faults of deck, models and start."""
    ranks, rest = take_ranks(rest)
    run = read_run(["--rxmdin", path, *rest], ranks)
    faults: list[str] = []
    try:
        backend = backends.make(run.deck["backend"].name)
        potential = make_potential(run, backend)
        observers = make_observers(run, backend, potential)
    except InputError as error:
        faults += error.faults
    try:
        start = read_start(MPI.COMM_SELF, run)
        if fault := barostat_fault(run.deck, start.cell.pbc):
            faults.append(fault)
        how = compared(MPI.COMM_SELF, run, start)
        faults += [fault for fault in [refusal(run.deck)] if fault]
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(*faults)
    watched: list[str] = []
    monitored = run.deck["fidelity"].action != "off"
    if monitored or has_field(run.deck):
        alone = read_run(["--rxmdin", path, *rest, "--processors", "1", "1", "1"])
        simulation = make_simulation(MPI.COMM_SELF, alone, backend, potential, start, how=how)
        watched = make_monitor(MPI.COMM_SELF, alone, simulation, observers).describe() if monitored else []
    print(run.deck.echo(), end="")
    counts = np.bincount(start.species, minlength=len(run.elements))
    notes = (*run.notes, *start.notes, *how.notes, *notes_of(potential), *untrained_notes(run, counts),
             *ring_notes(run.deck, run.elements, run.masses, start.extra, run.may_bond))
    for note in dict.fromkeys(notes):
        print(f"note: {note}")
    print("\n".join([*watched, *summary(run, start, potential, ranks)]))
    print(f"{path}: rxmd.in: valid; models of {', '.join(sorted({str(Path(m.where).name) for m in run.models}))}")


def summary(run: RunDeck, start: Start, potential: Potential, ranks: int | None) -> list[str]:
    """The start, and the domains of ``ranks`` ranks."""
    counts = np.bincount(start.species, minlength=len(run.elements))
    reach = float(potential.cutoff.max()) + run.deck["skin"].skin
    grid = tuple(run.deck["processors"])
    if ranks and not any(grid):
        grid = choose_grid(ranks, start.cell, reach)
    return [f"starts from {start.source} at step {start.step}: {start.n_global} atoms ("
            + ", ".join(f"{n} {e}" for n, e in zip(counts, run.elements, strict=True)) + ")",
            f"cutoff {potential.cutoff.max():.3f} A; domain widths "
            + " ".join(f"{w:.2f}" for w in start.cell.widths / np.maximum(grid, 1)) + " A on a grid of "
            + " x ".join(str(max(g, 1)) for g in grid)]


def take_ranks(argv: list[str]) -> tuple[int | None, list[str]]:
    """Take ``--ranks N`` out of the arguments."""
    if "--ranks" not in argv:
        return None, argv
    k = argv.index("--ranks")
    if k + 1 >= len(argv) or not argv[k + 1].isdigit() or int(argv[k + 1]) < 1:
        raise InputError("command line: --ranks: a number of ranks is missing")
    return int(argv[k + 1]), argv[:k] + argv[k + 2 :]
