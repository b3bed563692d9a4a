"""``rxmdnn tfail forecast``: the probability that a run completes, from a fit of times to failure."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.survival.forecast import read_fit, sentence, store
from rxmdnn.units import FS_PER_PS


def main(argv: Sequence[str]) -> None:
    """Print the chance; or store the fit in a model file."""
    p = argparse.ArgumentParser("rxmdnn tfail forecast", description="The chance that a run finishes without failure.")
    p.add_argument("fit", metavar="FIT", type=Path, help="folder or report.json of `rxmdnn tfail report`; a model file")
    p.add_argument("--arm", help="of the report")
    p.add_argument("--atoms", type=float, help="of the run")
    p.add_argument("--ps", type=float, help="how long it is, ps")
    p.add_argument("--temperature", type=float, help="K")
    p.add_argument("--store", metavar="MODEL", type=Path, help="put the fit into this model file")
    a = p.parse_args(argv)
    asked = [a.atoms, a.ps, a.temperature]
    faults = [f"forecast: --{k}: must be above zero" for k in ("atoms", "ps", "temperature")
              if getattr(a, k) is not None and getattr(a, k) <= 0]
    if None in asked and (any(v is not None for v in asked) or not a.store):
        faults.append("forecast: --atoms, --ps and --temperature are all needed")
    if faults:
        raise InputError(*faults)
    fit = read_fit(a.fit, a.arm)
    if None not in asked:
        print("\n".join(sentence(fit, a.atoms, a.ps * FS_PER_PS, a.temperature)))
    if a.store:
        store(a.store, fit)
        print(f"{a.store}: now carries the fit; runs with it print a forecast")
