"""``rxmdnn tfail certify``: a lower bound of the probability that a run completes, from runs that may never fail."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rxmdnn.deck.tfail import WATCHED
from rxmdnn.errors import InputError
from rxmdnn.files import write_json
from rxmdnn.survival import results
from rxmdnn.survival.certificate import METHODS, certify, store
from rxmdnn.survival.stored import digest
from rxmdnn.units import FS_PER_PS


def main(argv: Sequence[str]) -> None:
    """Print the certificate of a run; write it as JSON, and store it in the model file, where asked for."""
    a = _arguments(argv)
    faults = [f"certify: --{k}: must be positive" for k in ("atoms", "ps", "temperature")
              if not 0 < getattr(a, k) < np.inf]
    if not 0.5 <= a.confidence < 1:
        faults.append("certify: --confidence: must be at least 0.5 and less than 1")
    if faults:
        raise InputError(*faults)
    rows = results.read(a.results)
    name = _model(a.results, rows, a.model)
    rows = [row for row in rows if row["model"] == name]
    if a.store:
        _check_same(a.results, name, a.store)
    found = certify(results.failure_times(rows, a.by), a.atoms, a.ps * FS_PER_PS, a.temperature, a.confidence, a.by,
                    max(row["dt_fs"] for row in rows), a.method, a.memoryless)
    print("\n".join([f"model {name}", *found.text()]))
    if a.json:
        write_json(a.json, {"model": name, **found.__dict__})
    if a.store:
        store(a.store, found)
        print(f"{a.store}: the certificate is stored; logs of runs within its range show it")


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    p = argparse.ArgumentParser("rxmdnn tfail certify", formatter_class=argparse.ArgumentDefaultsHelpFormatter,
                                description="Lower bound of the probability of completing a run without failure.")
    p.add_argument("results", metavar="DIR", type=Path, help="folder of a study, or its results.csv")
    p.add_argument("--atoms", type=float, required=True, help="number of atoms of the run")
    p.add_argument("--ps", type=float, required=True, help="length of the run, ps")
    p.add_argument("--temperature", type=float, required=True, help="temperature of the run, K")
    p.add_argument("--confidence", type=float, default=0.95, help="confidence of the bound")
    p.add_argument("--model", metavar="NAME", help="model of the study; needed if it has several")
    p.add_argument("--by", default="failed", choices=("failed", *WATCHED),
                   help="failure criterion: that of the study, or another that was recorded")
    p.add_argument("--method", default="auto", choices=METHODS,
                   help="direct: runs at this temperature; ladder: all temperatures, with a fitted slope; auto: direct "
                        "where there are such runs")
    p.add_argument("--memoryless", action="store_true",
                   help="assume a constant hazard unless the interval of the Weibull shape excludes it; otherwise the "
                        "worst shape of that interval is used")
    p.add_argument("--json", metavar="FILE", type=Path, help="write the certificate to this file")
    p.add_argument("--store", metavar="MODEL", type=Path, help="store the certificate in the model file of the study")
    return p.parse_args(argv)


def _model(path: Path, rows: Sequence[dict[str, object]], asked: str | None) -> str:
    """The model whose runs are used. Raises InputError."""
    names = sorted({str(row["model"]) for row in rows})
    if not names:
        raise InputError(f"{path}: no run has ended; finish the study first")
    if asked is None and len(names) > 1:
        raise InputError(f"{path}: contains several models; choose one: --model {' or '.join(names)}")
    if asked is not None and asked not in names:
        raise InputError(f"{path}: no runs of model {asked}; it has {', '.join(names)}")
    return asked or names[0]


def _check_same(path: Path, name: str, file: Path) -> None:
    """Raises InputError unless the study ran this model file."""
    study = (path if path.is_dir() else path.parent) / results.STUDY
    expected = results.read_study(study)["models"].get(name) if study.is_file() else None
    if expected is None:
        raise InputError(f"{study}: needed to store a certificate, but it does not tell which file model {name} was")
    if not file.is_file():
        raise InputError(f"{file}: no such model file")
    if digest(file) != expected:
        raise InputError(f"{file}: not the file that the study ran as model {name}; give that file to --store")
