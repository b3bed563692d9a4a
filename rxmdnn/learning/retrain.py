"""Retraining with replay: from the present weights, on the old data and all new labels, guarded by kinds of frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rxmdnn.deck.language import Deck
from rxmdnn.models.model_file import load_model
from rxmdnn.training import metrics
from rxmdnn.training.evaluate import predict, trained_with, training_lines
from rxmdnn.training.labelled_frames import LabelledFrame
from rxmdnn.training.training import read_frames, split_of

Errors = dict[str, float]


def held_out(deck: Deck) -> tuple[list[LabelledFrame], list[LabelledFrame]]:
    """All frames of a training deck, and those that it does not train on."""
    frames = read_frames(deck)
    parts = split_of(deck, frames)
    return frames, [frames[k] for k in sorted([*parts.validation, *parts.test])]


def split_faults(model: Path, deck: Deck) -> list[str]:
    """Why the held-out frames of a deck are frames that the model was trained on, where its file tells."""
    if not trained_with(model, deck["data"].file):
        return []
    lines, faults = training_lines(model), []
    for name in ("split", "seed"):
        now = [*deck[name]]
        was = lines.get(name, [])[:len(now)]  # notes follow
        if was and [float(word) for word in was] != now:
            faults.append(deck[name].fault(f"{model.name} was trained with '{name} {' '.join(was)}'; write this, or "
                                           "frames that it has learned count as held out"))
    return faults


def errors_by_kind(model: Path, frames: Sequence[LabelledFrame]) -> tuple[Errors, Errors]:
    """Mean absolute errors by kind of frame, "all" first: of forces, eV/Å, and of energies, eV/atom."""
    found = metrics.errors(list(frames), predict(model, list(frames)), load_model(model).config.elements)
    rows = {"all": found["all"], **{k.removeprefix("kind "): row for k, row in found.items() if k.startswith("kind ")}}
    return ({kind: row["force_mae"] for kind, row in rows.items()},
            {kind: row["energy_mae"] for kind, row in rows.items() if "energy_mae" in row})


def worsened(before: Errors, after: Errors, percent: float) -> list[str]:
    """The kinds of held-out frames whose error has risen by more than this.

    >>> worsened({"all": 0.02, "solid": 0.02, "liquid": 0.03}, {"all": 0.02, "solid": 0.023, "liquid": 0.02}, 10.0)
    ['solid']
    """
    return [kind for kind, error in after.items() if kind in before and error > before[kind] * (1 + percent / 100)]
