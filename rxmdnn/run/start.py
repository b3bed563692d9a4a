"""What a run starts from, as its deck says: a checkpoint, rxff.bin, input.xyz, or a structure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.deck.run import RunDeck
from rxmdnn.errors import InputError
from rxmdnn.io.checkpoint import find_checkpoint, read_checkpoint
from rxmdnn.io.log import read_energies
from rxmdnn.io.rxff import read_rxff, read_types
from rxmdnn.io.stages import read_stages, stage_at
from rxmdnn.io.start import Start
from rxmdnn.io.structure import formula, read_structure, species_of, start_from_file
from rxmdnn.parallel import on_root


def read_start(comm: MPI.Comm, run: RunDeck) -> Start:
    """The start of a run: the first there is of run_from_xyz, outDir's checkpoint or rxff.bin, and structure.

    The deck's ``start`` line asks for one of them. strain and shear act on structures, not on what a run left.
    Raises InputError, also where the checkpoint or rxff.bin is not of the deck's structure.
    """
    deck, elements = run.deck, run.elements
    strain, shear = tuple(deck["strain"]), tuple(deck["shear"])
    pbc = tuple(deck["pbc"]) if deck["pbc"].given else None
    source = deck["start"].source
    if deck["run_from_xyz"].file and source in ("auto", "structure"):
        return start_from_file(comm, deck["run_from_xyz"].file, elements, strain=strain, shear=shear, pbc=pbc,
                               masses=run.masses)
    line = deck["structure"]

    def find() -> tuple[str, Path]:
        checkpoint, rxff = find_checkpoint(run.folder), run.folder / "rxff.bin"
        if checkpoint and source in ("auto", "checkpoint", "changed"):
            return "checkpoint", checkpoint
        if rxff.is_file() and source in ("auto", "rxff"):
            return "rxff", rxff
        return "structure", Path(line.file)

    kind, path = on_root(comm, find)
    if kind == "structure":
        return start_from_file(comm, path, elements, (line.nx, line.ny, line.nz), strain, shear, frame=line.frame,
                               pbc=pbc, masses=run.masses)
    start = (read_checkpoint if kind == "checkpoint" else read_rxff)(comm, path, elements)
    if kind == "rxff":
        complete(comm, run, start)
    if line.file:
        counts = comm.allreduce(np.bincount(start.species, minlength=len(elements)))

        def compare() -> None:
            names = read_structure(line.file, frame=line.frame).names
            species = species_of(names, elements, line.file, run.masses)
            wanted = np.bincount(species, minlength=len(elements)) * line.nx * line.ny * line.nz
            if not np.array_equal(counts, wanted):
                raise InputError(f"{path}: of another system: it holds {formula(counts, elements)}, "
                                 f"{line.where} makes {formula(wanted, elements)}; use another outDir")
        on_root(comm, compare)
    return start


def complete(comm: MPI.Comm, run: RunDeck, start: Start) -> None:
    """Give a start from rxff.bin its periodicity and its time, which the file does not hold.

    Of the run in its folder; else the periodicity of its side file or the deck, and the time by the dt of the deck.
    """
    def find() -> tuple[Any, float, str]:
        stage = (stage_at(read_stages(run.folder), start.step) or {}) if start.step > 0 else {}
        stated = [*run.deck["pbc"]] if run.deck["pbc"].given else [True] * 3
        types = read_types(start.source, start.n_global)
        pbc = stage.get("pbc", stated if types is None else types.pbc)
        return (pbc, *(time_at(run, start.step) if start.step > 0 else (0.0, "")))

    pbc, start.time, note = on_root(comm, find)
    start.cell = Cell(start.cell.h, np.array(pbc, bool))
    start.notes += [f"{start.source} holds no time: {note}"] if note else []


def time_at(run: RunDeck, step: int) -> tuple[float, str]:
    """The time of a step, fs, by the folder's energies.csv, or else by the time step of the deck; a note on the latter.

    rxff.bin holds the step alone.
    """
    if (run.folder / "energies.csv").is_file():
        rows = read_energies(run.folder)
        known = rows["time_fs"][rows["step"] == step] if rows else []
        if len(known):
            return float(known[-1]), ""
    time = step * run.deck["time"].dt
    return time, f"step {step} is taken as {time:g} fs, by the dt of the deck"


