"""What acts on the atoms of a run from outside, each made from its lines of the deck."""

from __future__ import annotations

from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.drive import Drive


def make_drives(run: RunDeck) -> list[Drive]:
    """The drives of the deck, in the order in which they act."""
    return []
