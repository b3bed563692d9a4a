"""``rxmdnn import-model``: convert a model of other packages to a native model file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rxmdnn.models.import_nequip import import_nequip


def main(argv: Sequence[str]) -> None:
    """The command ``rxmdnn import-model``."""
    parser = argparse.ArgumentParser("rxmdnn import-model", description=(
        "Convert a model of nequip + allegro to a native model file: a checkpoint (.ckpt) or package (.nequip.zip) of "
        "nequip-allegro 0.8, or weights of allegro 0.2 under the names of their state dict (.npz, .pth)."))
    parser.add_argument("path_in", metavar="IN", help="the checkpoint, package or weights")
    parser.add_argument("path_out", metavar="OUT", help="the model file to write")
    parser.add_argument("--trust", action="store_true", help="IN, a checkpoint or package, comes from a known source: "
                        "reading it runs the Python code inside it")
    parser.add_argument("--json", metavar="F", help="write what the model is to F")
    weights = parser.add_argument_group("weights of allegro 0.2", "what their arrays do not say")
    weights.add_argument("--config", metavar="F", help="nequip's settings (JSON or YAML; default: IN's name with .json "
                         "or .yaml, or config.yaml, beside IN)")
    weights.add_argument("--elements", nargs="+", metavar="EL", help="species in the order of the model's types")
    weights.add_argument("--cutoff-p", type=float, metavar="P", help="power of the cutoff's envelope")
    weights.add_argument("--readout", choices=("linear", "silu"), help="between the layers of the edge energy's MLP")
    a = parser.parse_args(argv)
    settings: dict[str, Any] = {}
    for name, value in (("chemical_symbols", a.elements), ("PolynomialCutoff_p", a.cutoff_p)):
        if value is not None:
            settings[name] = value
    if a.readout:
        settings["edge_eng_mlp_nonlinearity"] = None if a.readout == "linear" else a.readout
    summary = import_nequip(a.path_in, a.path_out, trust=a.trust, config=a.config, settings=settings)
    print("\n".join(f"{name:<18s} {' '.join(map(str, value)) if isinstance(value, list) else value}"
                    for name, value in summary.items()))
    if a.json:
        Path(a.json).write_text(json.dumps(summary, indent=1) + "\n")
