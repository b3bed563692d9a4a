"""``rxmdnn cite DAT``: the papers of the methods that a run used, as BibTeX."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.analysis.citations import methods_of, papers
from rxmdnn.errors import InputError


def main(argv: Sequence[str]) -> None:
    """Print the BibTeX entries of the runs, each once."""
    p = argparse.ArgumentParser("rxmdnn cite", description="The papers of the methods that runs used, as BibTeX: from "
                                "the stages and the log of each run. Prints the program alone without a folder.")
    p.add_argument("folders", metavar="DAT", nargs="*", type=Path, help="outDir of a run; several are put together")
    a = p.parse_args(argv)
    faults = [f"cite: {folder}: no such folder" for folder in a.folders if not folder.is_dir()]
    if faults:
        raise InputError(*faults)
    found = {"rxmdnn"}.union(*(methods_of(folder) for folder in a.folders))
    print("\n\n".join(paper.bibtex for paper in papers(found)))
