"""Arguments of commands, read by every rank; only rank 0 prints mistakes and help."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from mpi4py import MPI

from rxmdnn.deck.words import PARTS
from rxmdnn.io.labels import KEYS, LabelKeys


def parse_known(parser: argparse.ArgumentParser, argv: Sequence[str],
                comm: MPI.Comm) -> tuple[argparse.Namespace, list[str]]:
    """The arguments of the parser, and the unknown ones."""
    discarded = io.StringIO()
    with redirect_stdout(sys.stdout if comm.rank == 0 else discarded), \
            redirect_stderr(sys.stderr if comm.rank == 0 else discarded):
        return parser.parse_known_args(argv)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str], comm: MPI.Comm) -> argparse.Namespace:
    """The arguments of the parser; unknown ones are mistakes."""
    discarded = io.StringIO()
    with redirect_stdout(sys.stdout if comm.rank == 0 else discarded), \
            redirect_stderr(sys.stderr if comm.rank == 0 else discarded):
        return parser.parse_args(argv)


def frames_arguments(p: argparse.ArgumentParser) -> None:
    """Add MODEL DATA ... and --part."""
    p.add_argument("model", metavar="MODEL", type=Path, help="a native model file")
    p.add_argument("data", metavar="DATA", type=Path, nargs="+",
                   help="labelled frames: any format that ASE reads with energy and forces, or HDF5")
    p.add_argument("--part", choices=("all", *PARTS), default="all",
                   help="part of the training data, as the training deck split them (default: all frames)")
    for what, key in KEYS.items():
        p.add_argument(f"--{key}", f"--{key.replace('_', '-')}", metavar="NAME",
                       help=f"name of the {what} in the frames, as in the training deck")


def label_keys(a: argparse.Namespace) -> LabelKeys:
    """The names of the labels that were given."""
    return LabelKeys(*(getattr(a, key) for key in KEYS.values()))


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the trajectories, the times and the folder of the results."""
    parser.add_argument("run", nargs="+", help="outDir of a run, a trajectory.h5md, or extended XYZ; several are "
                        "averaged")
    parser.add_argument("-o", "--out", type=Path, help="folder of the results (default: the first run's folder)")
    parser.add_argument("--start", type=float, metavar="PS", help="skip frames before this time, ps")
    parser.add_argument("--stop", type=float, metavar="PS", help="skip frames after this time, ps")
    parser.add_argument("--json", metavar="F", type=Path, help="also write the numbers to this file")


def out_folder(a: argparse.Namespace) -> Path:
    """The folder of the results: --out, or that of the first run."""
    first = Path(a.run[0])
    return a.out or (first if first.is_dir() else first.parent)


def positive(faults: list[str], command: str, a: argparse.Namespace, *names: str) -> None:
    """Add a fault for each of these options that is given and not above zero."""
    faults += [f"{command}: --{name.replace('_', '-')}: must be above zero" for name in names
               if getattr(a, name) is not None and not getattr(a, name) > 0]


def properties_text(properties: Mapping[str, Any]) -> str:
    """A table of the properties of a model, one a line, by name."""
    return "\n".join(f"{name:<18s} {' '.join(map(str, value)) if isinstance(value, list) else value}"
                     for name, value in properties.items())


def tell(numbers: Mapping[str, Any], notes: Iterable[str], made: Iterable[str | Path], table: str = "") -> None:
    """Print the numbers of an analysis, a table of more of them, its notes, and the files that it has made."""
    for key, value in numbers.items():
        print(f"{key}: {_number(value)}")
    if table:
        print(table)
    for note in notes:
        print(f"note: {note}")
    print("wrote " + " ".join(map(str, made)))


def _number(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_number, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
