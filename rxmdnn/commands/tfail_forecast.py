"""``rxmdnn tfail forecast``: the probability that a run completes, from a fit of times to failure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.survival.forecast import read_fit, store, text
from rxmdnn.units import FS_PER_PS


def main(argv: Sequence[str]) -> None:
    """Print the probability that a run completes without failure, or store the fit in a model file."""
    p = argparse.ArgumentParser("rxmdnn tfail forecast",
                                description="Probability of completing a run without failure.")
    p.add_argument("fit", metavar="FIT", type=Path, help="folder or report.json of `rxmdnn tfail report`; a model file")
    p.add_argument("--arm", help="arm of the report")
    p.add_argument("--atoms", type=float, help="number of atoms of the run")
    p.add_argument("--ps", type=float, help="length of the run, ps")
    p.add_argument("--temperature", type=float, help="temperature of the run, K")
    p.add_argument("--store", metavar="MODEL", type=Path, help="store the fit in this model file")
    a = p.parse_args(argv)
    asked = [a.atoms, a.ps, a.temperature]
    faults = [f"forecast: --{k}: must be positive" for k in ("atoms", "ps", "temperature")
              if getattr(a, k) is not None and getattr(a, k) <= 0]
    if None in asked and (any(v is not None for v in asked) or not a.store):
        faults.append("forecast: --atoms, --ps and --temperature are all needed")
    if faults:
        raise InputError(*faults)
    fit = read_fit(a.fit, a.arm)
    if None not in asked:
        print("\n".join(text(fit, a.atoms, a.ps * FS_PER_PS, a.temperature)))
    if a.store:
        store(a.store, fit)
        print(f"{a.store}: the fit is stored; logs of runs with this model show a forecast")
