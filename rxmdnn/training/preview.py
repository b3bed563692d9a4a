"""What a training deck would train on: its data are read and checked, nothing is trained or written."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from rxmdnn.deck.language import Deck
from rxmdnn.training.doubts import doubts, in_time, untrained
from rxmdnn.training.trainer import Trainer
from rxmdnn.training.training import data_and_network


def preview(deck: Deck) -> list[str]:
    """Lines about the frames, their split and the network. Raises InputError as a training would."""
    data, parts, network, statistics = data_and_network(deck)
    trainer = Trainer(network, data, parts.training, parts.validation, deck)  # its faults of the deck
    frames, elements = data.frames, deck["elements"].element
    atoms = np.bincount(np.concatenate([f.species for f in frames]), minlength=len(elements))
    files = Counter(str(Path(f.where.rpartition(": frame")[0])) for f in frames)
    labels = frames[0].engine or "engine not named"
    stresses = sum(bool(np.isfinite(f.stress).all()) for f in frames)
    lines = [f"{n} frames in {file}" for file, n in files.items()]
    lines += [f"{len(frames)} frames ({len(parts.training)} training, {len(parts.validation)} validation, "
              f"{len(parts.test)} test) in {len({f.group for f in frames})} groups; {stresses} with a stress; labels: "
              f"{labels}",
              f"atoms: {', '.join(f'{n} {e}' for n, e in zip(atoms, elements))}; rms force "
              + ", ".join(f"{e} {s:.3g}" for e, s in zip(elements, statistics.scale)) + " eV/Å",
              f"{sum(w.numel() for w in trainer.weights)} weights"]
    return lines + [f"note: {note}" for note in (*doubts(frames), *in_time(frames),
                                                 *untrained(frames, parts.training, elements))]
