"""A command's arguments, read by every rank; rank 0 alone speaks of mistakes and prints help."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from mpi4py import MPI

from rxmdnn.deck.words import PARTS


def parse_known(parser: argparse.ArgumentParser, argv: Sequence[str],
                comm: MPI.Comm) -> tuple[argparse.Namespace, list[str]]:
    """The parser's arguments, and the others."""
    unheard = io.StringIO()
    with redirect_stdout(sys.stdout if comm.rank == 0 else unheard), \
            redirect_stderr(sys.stderr if comm.rank == 0 else unheard):
        return parser.parse_known_args(argv)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str], comm: MPI.Comm) -> argparse.Namespace:
    unheard = io.StringIO()
    with redirect_stdout(sys.stdout if comm.rank == 0 else unheard), \
            redirect_stderr(sys.stderr if comm.rank == 0 else unheard):
        return parser.parse_args(argv)


def frames_arguments(p: argparse.ArgumentParser) -> None:
    """MODEL DATA ... and which part of the data."""
    p.add_argument("model", metavar="MODEL", type=Path, help="a native model file")
    p.add_argument("data", metavar="DATA", type=Path, nargs="+", help="labelled frames: extended XYZ or HDF5")
    p.add_argument("--part", choices=("all", *PARTS), default="all",
                   help="of the data the model was trained on: as its training deck split them (default: all frames)")


def run_arguments(parser: argparse.ArgumentParser) -> None:
    """The trajectories and where results go."""
    parser.add_argument("run", nargs="+", help="outDir of a run, trajectory.h5, or extended XYZ; several are averaged")
    parser.add_argument("-o", "--out", type=Path, help="folder of the results (default: the first run's folder)")
    parser.add_argument("--start", type=float, metavar="PS", help="leave out frames before this time, ps")
    parser.add_argument("--stop", type=float, metavar="PS", help="leave out frames after this time, ps")
    parser.add_argument("--json", metavar="F", type=Path, help="also write the figures to this file")


def out_folder(a: argparse.Namespace) -> Path:
    first = Path(a.run[0])
    return a.out or (first if first.is_dir() else first.parent)


def positive(faults: list[str], command: str, a: argparse.Namespace, *names: str) -> None:
    """A fault for each of these options that is given and not above zero."""
    faults += [f"{command}: --{name.replace('_', '-')}: must be above zero" for name in names
               if getattr(a, name) is not None and not getattr(a, name) > 0]
