"""The model file of a training, and the line that names it in a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

import rxmdnn
from rxmdnn.errors import InputError
from rxmdnn.fidelity.reference import write as write_reference
from rxmdnn.files import writing
from rxmdnn.isotopes import standard_mass
from rxmdnn.models.allegro_network import AllegroNetwork
from rxmdnn.models.model_file import atoms_of_training, save_model
from rxmdnn.training.reference_samples import of_network
from rxmdnn.training.trainer import Trainer


def deck_line(model: Path, elements: Sequence[str], masses: Sequence[float] | None = None) -> str:
    """The line of rxmdnn.in for a model file, with these or standard masses (amu).

    >>> deck_line(Path("ammonia.safetensors"), ("N", "H"))
    'allegro ammonia.safetensors 2 N 14.007 H 1.008'
    """
    name = f'"{model}"' if " " in str(model) else str(model)
    return f"allegro {name} {species_words(elements, masses or [standard_mass(e) for e in elements])}"


def species_words(elements: Sequence[str], masses: Sequence[float]) -> str:
    """How lines of rxmdnn.in end: the number of species, and the name and mass (amu) of each."""
    return " ".join([str(len(elements)), *(f"{e} {m:g}" for e, m in zip(elements, masses))])


def trained_atoms(trainer: Trainer) -> dict[str, int]:
    """Atoms of each element in the training frames, and in those of the model that the training started from."""
    elements, frames, start = trainer.deck["elements"].element, trainer.data.frames, trainer.deck["from_model"].file
    counts = np.bincount(np.concatenate([frames[k].species for k in trainer.train]), minlength=len(elements))
    before: dict[str, int] = {}
    if start:
        with suppress(InputError):  # a file of another program, which does not tell
            before = atoms_of_training(start) or {}
    return {e: int(n) + before.get(e, 0) for e, n in zip(elements, counts)}


def write_model(trainer: Trainer, network: AllegroNetwork, report: dict[str, Any], origin: dict[str, Any]) -> None:
    """Write the network with its provenance, and the statistics of its training frames for ``fidelity``."""
    deck, data, path = trainer.deck, trainer.data, trainer.deck["model"].file
    part = "test" if "test" in report else "validation"
    with writing(path):
        save_model(path, network, {
            "program": f"rxmdnn {rxmdnn.__version__}, torch {torch.__version__}", "labels": data.frames[0].engine,
            "deck": deck.echo(), "atoms": json.dumps(trained_atoms(trainer)),
            "data_sha256": " ".join(origin["data"]), "frames": json.dumps(report["frames"]),
            "best_epoch": str(report["best_epoch"]), "kept_epoch": str(report["kept_epoch"]),
            f"{part}_errors": json.dumps(report[part]["all"])})
    try:
        reference = of_network(network, data, trainer.train)
        write_reference(reference, path, path, {"frames": str(len(trainer.train)), "kinds": "training"})
        for note in reference.missing():
            print(f"note: fidelity: {note}")
    except InputError as error:
        print(f"note: no statistics for 'fidelity' in the model file: {'; '.join(error.faults)}")
