"""``rxmdnn check`` and ``rxmdnn help``: what a deck says and may say, without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn import deck as decks
from rxmdnn.deck import Keyword
from rxmdnn.domain import choose_grid
from rxmdnn.errors import InputError
from rxmdnn.fidelity.setup import make_monitor
from rxmdnn.fidelity.table import TABLE as TFAIL
from rxmdnn.io.start import read_start
from rxmdnn.ring_polymer.setup import notes as ring_notes
from rxmdnn.run import make_potential, make_simulation
from rxmdnn.run_deck import MODEL_KINDS, RUN, barostat_fault, read_run
from rxmdnn.train.table import TABLE as TRAIN

DECKS: dict[str, Sequence[Keyword]] = {"rxmd.in": RUN, "rxmdnn.in": MODEL_KINDS, "train.in": TRAIN, "tfail.in": TFAIL}


def kind_of(path: str) -> str:
    """Which table the deck's keywords fit best."""
    words = {line.split()[0] for line in decks.load(path).splitlines() if line.split("#")[0].strip()}
    return max(DECKS, key=lambda name: len(words & {k.name for k in DECKS[name]}))


def main(argv: Sequence[str]) -> None:
    """Read and check a deck with all that it names, and print the effective one."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: rxmdnn check DECK [--ranks N] [flags over the deck]\n\n"
              "Reads a run, model or training deck, its models and its structure; runs and writes nothing.")
        return
    path, rest = str(argv[0]), list(argv[1:])
    kind = kind_of(path)
    if kind != "rxmd.in":
        print(decks.read(path, DECKS[kind], rest).echo(), end="")
        print(f"{path}: a sound {kind}")
        return
    ranks, rest = take_ranks(rest)
    run = read_run(["--rxmdin", path, *rest], ranks)
    faults: list[str] = []
    try:
        backend = backends.make(run.deck["backend"].name)
        potential = make_potential(run, backend)
    except InputError as error:
        faults += error.faults
    try:
        start = read_start(MPI.COMM_SELF, run)
        if fault := barostat_fault(run.deck, start.cell.pbc):
            faults.append(fault)
    except InputError as error:
        faults += error.faults
    if faults:
        raise InputError(*faults)
    watched: list[str] = []
    if run.deck["fidelity"].action != "off":
        alone = read_run(["--rxmdin", path, *rest, "--processors", "1", "1", "1"])
        simulation = make_simulation(MPI.COMM_SELF, alone, backend, potential, start)
        watched = make_monitor(MPI.COMM_SELF, alone, simulation).describe()
    counts = np.bincount(start.species, minlength=len(run.elements))
    reach = float(potential.cutoff.max()) + run.deck["skin"].skin
    grid = tuple(run.deck["processors"])
    if ranks and not any(grid):
        grid = choose_grid(ranks, start.cell, reach)
    print(run.deck.echo(), end="")
    for note in (*run.notes, *ring_notes(run.deck, run.elements, run.masses, start.extra)):
        print(f"note: {note}")
    for text in watched:
        print(text)
    print(f"starts from {start.source} at step {start.step}: {start.n_global} atoms ("
          + ", ".join(f"{n} {e}" for n, e in zip(counts, run.elements, strict=True)) + ")")
    print(f"cutoff {potential.cutoff.max():.3f} A; domains of the widths "
          + " ".join(f"{w:.2f}" for w in start.cell.widths / np.maximum(grid, 1)) + " A on a grid of "
          + " x ".join(str(max(g, 1)) for g in grid))
    print(f"{path}: a sound rxmd.in; models of {', '.join(sorted({str(Path(m.where).name) for m in run.models}))}")


def take_ranks(argv: list[str]) -> tuple[int | None, list[str]]:
    """Take ``--ranks N`` out of the arguments."""
    if "--ranks" not in argv:
        return None, argv
    k = argv.index("--ranks")
    if k + 1 >= len(argv) or not argv[k + 1].isdigit() or int(argv[k + 1]) < 1:
        raise InputError("command line: --ranks: a number of ranks is missing")
    return int(argv[k + 1]), argv[:k] + argv[k + 2 :]


def help_main(argv: Sequence[str]) -> None:
    """All keywords of all decks, or one keyword in full."""
    if not argv:
        for name, table in DECKS.items():
            print(f"{name}\n\n{decks.help_page(table)}\n")
        return
    word = argv[0]
    pages = [(name, decks.help_page(table, k.name)) for name, table in DECKS.items() for k in table
             if k.name == word or (k.name.startswith(f"{word}_") and word in {other.name for other in table})]
    if not pages:
        every = [k.name for table in DECKS.values() for k in table]
        raise InputError(f"help: {argv[0]}: unknown keyword{decks.near(argv[0], every)}")
    print("\n\n".join(f"{name}: {page}" for name, page in pages))
