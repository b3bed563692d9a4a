"""Elements of a run that no training frame of its models held."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rxmdnn.deck.run import RunDeck
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of
from rxmdnn.models.model_file import atoms_of_training


def untrained_notes(run: RunDeck, counts: Iterable[int]) -> list[str]:
    """A line for each model that moves atoms of an element it was never trained on.

    counts : atoms of each element of the run. Model files that do not tell what they were trained on give no line.
    """
    notes = []
    for line in run.models:
        file = line.parameters.get("file")
        try:
            trained = atoms_of_training(Path(file)) if file else None
        except InputError:  # another kind of model file
            continue
        missing = {e: n for e, n in zip(run.elements, counts)
                   if trained is not None and n and not trained.get(element_of(e), 0)}
        if missing:
            notes.append(f"{Path(str(file)).name}: no frame of its training holds {', '.join(missing)}: the forces on "
                         f"{', '.join(f'{n} {e}' for e, n in missing.items())} are meaningless")
    return notes
