"""``rxmdnn convert IN OUT``: frames from one file format to another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ase import Atoms
from tqdm import tqdm

from rxmdnn.deck.models import read_models
from rxmdnn.errors import InputError
from rxmdnn.files import atomic, check_outputs, writing
from rxmdnn.io.canonical import names_of
from rxmdnn.io.folder import numbered_frames
from rxmdnn.io.frame_sink import NUMBERED, Species, format_for, open_sink
from rxmdnn.io.frame_source import FrameSource, open_frames
from rxmdnn.io.lost import lost
from rxmdnn.io.own_formats import CHECKPOINT_FORMAT, H5MD_FORMAT, RXFF_FORMAT

IN_PLACE = (NUMBERED, CHECKPOINT_FORMAT, RXFF_FORMAT)  # their writers replace files at once themselves


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        "rxmdnn convert", description="Convert frames: trajectory.h5md, extended XYZ (one file, or numbered files "
        "where OUT is a folder), rxff.bin and numbered .bin, checkpoint.h5, LAMMPS data (.data), .traj and every "
        "other format of ASE. IN may be the folder of a run. What OUT cannot hold is said.")
    p.add_argument("source", metavar="IN", type=Path, help="a file of atoms, or the folder of a run")
    p.add_argument("out", metavar="OUT", help="file to be made, its format told by its name; or a folder, ending in /")
    p.add_argument("--frames", default="", metavar="K|A:B:C", help="frames from 0, as 5, -1, 0:100:10 (default: all; "
                   "the last one where OUT holds one frame)")
    p.add_argument("--rxmdnn", metavar="F", type=Path, help="model deck: names, masses and order of the types, where "
                   "IN has none (rxff.bin without its side file), and in OUT")
    p.add_argument("--interval", type=float, metavar="FS", help="time between frames, for frames that state none")
    p.add_argument("--from", dest="given", metavar="FORMAT", help="ASE's name of the format of IN")
    p.add_argument("--format", metavar="FORMAT", help="ASE's name of the format of OUT")
    p.add_argument("--overwrite", action="store_true", help="replace OUT")
    return p


def main(argv: Sequence[str]) -> None:
    """Convert; print how many frames were written and what OUT does not hold."""
    a = parser().parse_args(argv)
    if a.interval is not None and not a.interval > 0:
        raise InputError("convert: --interval: must be above zero")
    out = Path(a.out)
    format = format_for(out, a.out.endswith("/"), a.format)
    _free(out, format, a)
    model = read_models(a.rxmdnn)[0] if a.rxmdnn else None
    source = open_frames(a.source, None if model is None else model.elements, a.given)
    if not source.frames:
        raise InputError(f"{a.source}: no frames")
    species = Species(None if model is None else (model.elements, model.masses))
    with writing(out), _target(out, format) as path:
        sink = open_sink(out, path, format, species, a.interval or 1.0)
        rows = source.chosen(a.frames or ("-1" if sink.one else ":"))
        if sink.one and len(rows) > 1:
            raise InputError(f"{out}: this format ({format}) holds one frame, but {len(rows)} are chosen; choose one "
                             "with --frames K")
        first = None
        for k in tqdm(rows, unit="frame", disable=len(rows) < 2 or not sys.stderr.isatty()):
            atoms = _checked(source, k, first, a, format, len(rows))
            if model is not None and not atoms.has("masses"):
                masses = dict(zip(model.elements, model.masses))
                atoms.set_masses([masses.get(str(e), m) for e, m in zip(names_of(atoms), atoms.get_masses())])
            first = atoms.copy() if first is None else first
            sink.add(atoms, k, f"{a.source}: frame {k}")
        sink.close()
    print(f"{a.source}: {len(rows)} frame(s) of {len(atoms)} atoms -> {a.out} ({format})")
    if len(rows) < source.frames and not a.frames:
        print(f"note: the last of {source.frames} frames, since this format holds one; choose with --frames K")
    if missing := lost(source.read(rows[0]), out, format, None if model is None else model.elements):
        print(f"note: {a.out} does not hold {', '.join(missing)}")


def _free(out: Path, format: str, a: argparse.Namespace) -> None:
    """Raises InputError where writing would destroy a file, or is not possible."""
    check_outputs(folders=[out.parent])
    if out.exists() and a.source.exists() and out.resolve() == a.source.resolve():
        raise InputError(f"{out}: the file to be converted; give another name")
    there = bool(numbered_frames(out)) if format == NUMBERED else out.exists()
    if there and not a.overwrite:
        raise InputError(f"{out}: exists already; choose another name, or --overwrite")


@contextmanager
def _target(out: Path, format: str) -> Iterator[Path]:
    """The name under which the file is written; it takes its own when it is complete."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if format in IN_PLACE:
        yield out
        return
    with atomic(out) as new:
        yield new


def _checked(source: FrameSource, k: int, first: Atoms | None, a: argparse.Namespace, format: str, count: int) -> Atoms:
    """A frame, if OUT can hold it after the first one. Raises InputError."""
    atoms = source.read(k)
    if not len(atoms):
        raise InputError(f"{a.source}: frame {k}: no atoms")
    if format == H5MD_FORMAT:
        if count > 1 and "time" not in atoms.info and a.interval is None:
            raise InputError(f"{a.source}: frame {k} states no time; give the time between frames, --interval FS")
        if first is not None and (len(first) != len(atoms) or (names_of(first) != names_of(atoms)).any()):
            raise InputError(f"{a.source}: frame {k} has other atoms than the first one; a trajectory of H5MD has the "
                             "same in every frame: choose with --frames, or write .xyz or .traj")
    return atoms
