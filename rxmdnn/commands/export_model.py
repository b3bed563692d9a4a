"""``rxmdnn export-model``: write a native model as a file that the tools of nequip load."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.commands.arguments import properties_text
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.models.export_nequip import CHECKPOINT, PACKAGE, export_nequip
from rxmdnn.models.nequip_checkpoint import PRECISIONS

TARGETS = {"LAMMPS": "pair_allegro", "ASE": "ase", "torch-sim": "batch"}  # of nequip-compile


def main(argv: Sequence[str]) -> None:
    """The command ``rxmdnn export-model``."""
    parser = argparse.ArgumentParser("rxmdnn export-model", description=(
        "Write a native model as a checkpoint of nequip (.ckpt; needs no further package) or as a package "
        "(.nequip.zip; needs nequip and nequip-allegro), with the same energies and forces. nequip-compile makes of "
        "either the file that LAMMPS, ASE or torch-sim runs. The layers of allegro 0.2 and a repulsion with its own "
        "cutoffs, which nequip does not have, are modules of rxmdnn: packages hold them, checkpoints name them."))
    parser.add_argument("path_in", metavar="MODEL", help="the native model file (.safetensors)")
    parser.add_argument("path_out", metavar="OUT", help="the file to write; its name ends in .ckpt or .nequip.zip")
    parser.add_argument("--precision", choices=tuple(PRECISIONS),
                        help="in which nequip computes (default: that of MODEL)")
    parser.add_argument("--python", metavar="P",
                        help="of a package: a Python that has nequip and nequip-allegro (default: this one)")
    parser.add_argument("--json", metavar="F", help="write the properties of the model to F")
    a = parser.parse_args(argv)
    check_outputs(a.path_out, a.json)
    summary = export_nequip(a.path_in, a.path_out, a.precision, a.python)
    print(properties_text(summary))
    print(f"\nWhere nequip-allegro is installed ({' '.join(summary['elements'])} is the order of the types):")
    stem = Path(a.path_out).name.removesuffix(PACKAGE).removesuffix(CHECKPOINT)
    for program, target in TARGETS.items():
        print(f"  {program + ':':<11s}nequip-compile {a.path_out} {stem}.{target}.nequip.pt2 --mode aotinductor "
              f"--device cpu --target {target}")
    if "rxmdnn" in summary["loads with"]:
        print(f"  rxmdnn must be installed there too: the model has a module of it. A package ({PACKAGE}) carries it.")
    if a.json:
        with writing(a.json):
            write_json(a.json, summary)
