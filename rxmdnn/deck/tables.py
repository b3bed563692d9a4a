"""All kinds of decks by file name, and which of them a file is."""

from __future__ import annotations

from collections.abc import Sequence

from rxmdnn.deck import language as decks
from rxmdnn.deck.language import Keyword
from rxmdnn.deck.learn import TABLE as LEARN
from rxmdnn.deck.models import MODEL_KINDS
from rxmdnn.deck.run_table import RUN
from rxmdnn.deck.tfail import TABLE as TFAIL
from rxmdnn.deck.train import TABLE as TRAIN

DECKS: dict[str, Sequence[Keyword]] = {"rxmd.in": RUN, "rxmdnn.in": MODEL_KINDS, "train.in": TRAIN, "tfail.in": TFAIL}
DOCUMENTED: dict[str, Sequence[Keyword]] = {**DECKS, "learn.in": LEARN}  # those of the help pages and the reference


def kind_of(path: str) -> str:
    """Which table the deck's keywords fit best."""
    words = {line.split()[0] for line in decks.load(path).splitlines() if line.split("#")[0].strip()}
    return max(DECKS, key=lambda name: len(words & {k.name for k in DECKS[name]}))
