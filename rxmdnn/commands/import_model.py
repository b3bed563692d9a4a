"""``rxmdnn import-model``: convert a model of another package to a native model file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from rxmdnn.commands.arguments import properties_text
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.models.import_nequip import import_nequip


def main(argv: Sequence[str]) -> None:
    """The command ``rxmdnn import-model``."""
    parser = argparse.ArgumentParser("rxmdnn import-model", description=(
        "Convert a model of nequip + allegro to a native model file: a checkpoint (.ckpt) or package (.nequip.zip) of "
        "nequip-allegro 0.8, a model of it or of allegro 0.2 deployed as TorchScript (.pth, .nequip.pth, .deploy; no "
        "code in it is run), or weights of allegro 0.2 under the names of their state dict (.npz, .pth). Files are "
        "told by their content, whatever their names."))
    parser.add_argument("path_in", metavar="IN", help="the checkpoint, package, deployed model or weights")
    parser.add_argument("path_out", metavar="OUT", help="the model file to write")
    parser.add_argument("--trust", action="store_true", help="read a checkpoint or package, which runs the Python "
                        "code inside it; use it only for files from a source that you trust")
    parser.add_argument("--json", metavar="F", help="write the properties of the model to F")
    weights = parser.add_argument_group("weights of allegro 0.2", "settings that the arrays do not contain; "
                                         "a deployed model contains them")
    weights.add_argument("--config", metavar="F", help="settings of nequip (JSON or YAML; default: in the folder of "
                         "IN, its name with .json or .yaml, or config.yaml)")
    weights.add_argument("--elements", nargs="+", metavar="EL", help="species in the order of the types of the model")
    weights.add_argument("--cutoff-p", type=float, metavar="P", help="power of the cutoff envelope")
    weights.add_argument("--readout", choices=("linear", "silu"),
                         help="function between the layers of the MLP of the edge energy")
    a = parser.parse_args(argv)
    settings: dict[str, Any] = {}
    for name, value in (("chemical_symbols", a.elements), ("PolynomialCutoff_p", a.cutoff_p)):
        if value is not None:
            settings[name] = value
    if a.readout:
        settings["edge_eng_mlp_nonlinearity"] = None if a.readout == "linear" else a.readout
    check_outputs(a.path_out, a.json)
    summary = import_nequip(a.path_in, a.path_out, trust=a.trust, config=a.config, settings=settings)
    print(properties_text(summary))
    if a.json:
        with writing(a.json):
            write_json(a.json, summary)
