"""``rxmdnn report DAT``: one self-contained page of HTML about a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.analysis import run_report
from rxmdnn.analysis.structure_view import MISSING, scripts
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs


def main(argv: Sequence[str]) -> None:
    """Write report.html in a run's folder; print its path."""
    p = argparse.ArgumentParser("rxmdnn report", description="One page of HTML about a run, without network access: "
                                "energies, temperature, pressure, g(r), incidents, performance, deck, versions, "
                                "papers, and a 3-D view that turns (with the extra 'report').")
    p.add_argument("folder", metavar="DAT", type=Path, help="the outDir of a run")
    p.add_argument("-o", "--out", metavar="F", type=Path, help="the page (default: DAT/report.html)")
    p.add_argument("--rmax", type=float, default=10.0, help="largest distance of g(r), Å, at most half the cell")
    p.add_argument("--frames", type=int, default=50, help="largest number of frames for g(r)")
    a = p.parse_args(argv)
    if a.rmax <= 0 or a.frames < 1:
        raise InputError("report: --rmax and --frames must be above zero")
    if not a.folder.is_dir():
        raise InputError(f"report: {a.folder}: no such folder; name the outDir of a run")
    out = a.out or a.folder / run_report.PAGE
    check_outputs(out)
    print(f"wrote {run_report.write(a.folder, out, a.frames, a.rmax)}")
    if not scripts():
        print(f"note: {MISSING}")
