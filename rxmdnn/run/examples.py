"""Example inputs that come with the package: which there are, and copies of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from rxmdnn.deck.language import near
from rxmdnn.errors import InputError
from rxmdnn.files import writing


@dataclass(frozen=True)
class Example:
    """An example. folder : below the folder of inputs; files : from it on; run : what to do with them, line by line"""

    what: str
    folder: str
    files: tuple[str, ...]
    run: tuple[str, ...]


AMMONIA = ("rxmdnn.in", "solid_I.cif", "ammonia_legato.safetensors")
EXAMPLES: dict[str, Example] = {
    "ammonia": Example("solid ammonia at constant energy, 432 atoms: the main job", "ammonia", ("rxmd.in", *AMMONIA), (
        "mpirun -np 2 rxmdnn run --rxmdin rxmd.in --outDir DAT", "rxmdnn report DAT")),
    "heal": Example("a poor model whose broken bonds a run finds and heals", "ammonia", (
        "fidelity/heal.in", "fidelity/heal_model.in", "fidelity/poor.safetensors", "solid_I.cif"), (
        "rxmdnn run --rxmdin fidelity/heal.in --outDir DAT", "rxmdnn plot DAT")),
    "tfail": Example("times to failure of a model, 36 runs", "ammonia", (
        "fidelity/quick.in", "ammonia_gfn1.safetensors", "solid_I.cif"), (
        "rxmdnn tfail fidelity/quick.in", "rxmdnn tfail report fidelity/tfail_quick")),
    "learning": Example("a model that closes a hole in its training data (needs tblite)", "ammonia", (
        "learning/quick.in", "learning/quick_runs.in", "learning/retrain.in", "learning/hole.safetensors",
        "learning/hole.xyz", "solid_I.cif"), ("rxmdnn learn learning/quick.in --outDir OUT",)),
    "quantum": Example("solid ammonia with quantum nuclei: averages, spectra", "ammonia", (
        "nqe/pimd.in", "nqe/eco.in", "nqe/trpmd.in", *AMMONIA), (
        "rxmdnn run --rxmdin nqe/trpmd.in --outDir DAT", "rxmdnn spectra DAT --quantum")),
    "methanol": Example("a methanol molecule: frames, training, run", "methanol", (
        "frames.xyz", "train.in", "rxmd.in", "rxmdnn.in", "start.xyz", "methanol.safetensors"), (
        "rxmdnn train train.in", "rxmdnn run --rxmdin rxmd.in --outDir DAT")),
    "cuau": Example("copper-gold alloys: frames, training, run; a film heated by a laser", "cuau", (
        "frames.xyz", "train.in", "rxmd.in", "rxmdnn.in", "start.xyz", "cuau.safetensors", "pump/rxmd.in"), (
        "rxmdnn train train.in", "rxmdnn run --rxmdin pump/rxmd.in --outDir DAT")),
    "silicon": Example("silicon between two potential surfaces, hit by light", "silicon", (
        "pump/rxmd.in", "pump/rxmdnn.in", "bulk.xyz", "silicon_300K.safetensors", "silicon_20000K.safetensors"), (
        "rxmdnn run --rxmdin pump/rxmd.in --outDir DAT", "rxmdnn plot DAT")),
}


def inputs() -> Path:
    """The folder of inputs: within an installed package, or in its source tree. Raises InputError."""
    package = Path(__file__).parents[1]
    found = next((p for p in (package / "input", package.parent / "input") if p.is_dir()), None)
    if found is None:
        raise InputError(f"examples: this installation has no inputs ({package / 'input'} is missing); install again")
    return found


def copy(name: str, folder: Path) -> Example:
    """Copy an example to a new or empty folder. Raises InputError; nothing that exists is replaced."""
    if name not in EXAMPLES:
        raise InputError(f"examples: {name}: unknown example{near(name, list(EXAMPLES))}; 'rxmdnn examples' lists them")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"examples: {folder}: exists and is not an empty folder; name another one")
    example = EXAMPLES[name]
    source = inputs() / example.folder
    missing = [str(source / file) for file in example.files if not (source / file).is_file()]
    if missing:
        raise InputError(*(f"examples: {file} is missing from this installation; install again" for file in missing))
    with writing(folder):
        for file in example.files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / file, folder / file)
    return example
