"""``rxmdnn help``: the keywords of all decks, or one of them in full."""

from __future__ import annotations

from collections.abc import Sequence

from rxmdnn.deck import language as decks
from rxmdnn.deck.tables import DECKS
from rxmdnn.errors import InputError


def main(argv: Sequence[str]) -> None:
    """All keywords of all decks, or one keyword in full."""
    if not argv:
        for name, table in DECKS.items():
            print(f"{name}\n\n{decks.help_page(table)}\n")
        return
    word = argv[0]
    pages = [(name, decks.help_page(table, k.name)) for name, table in DECKS.items() for k in table
             if k.name == word or (k.name.startswith(f"{word}_") and word in {other.name for other in table})]
    if not pages:
        every = [k.name for table in DECKS.values() for k in table]
        raise InputError(f"help: {argv[0]}: unknown keyword{decks.near(argv[0], every)}")
    print("\n\n".join(f"{name}: {page}" for name, page in pages))
