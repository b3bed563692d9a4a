"""A command's arguments, read by every rank; rank 0 alone speaks of mistakes and prints help."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from mpi4py import MPI


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
