"""``rxmdnn help``: the keywords of all decks, or one of them in full."""

from __future__ import annotations

from collections.abc import Sequence

from rxmdnn.deck import language as decks
from rxmdnn.deck.help import help_page
from rxmdnn.deck.tables import DOCUMENTED
from rxmdnn.errors import EXIT_CODES, InputError

USAGE = "usage: rxmdnn help [KEYWORD]\n\nIt prints all keywords, or one with values, units, defaults, flags.\n"


def main(argv: Sequence[str]) -> None:
    """Print help on all keywords of all decks, or on one keyword and those whose names begin with it."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        print("\n\n".join(f"{name}\n{'-' * len(name)}\n{help_page(table)}" for name, table in DOCUMENTED.items()))
        print("\nexit codes\n----------\n" + "\n".join(f"{code:<4d}{text}" for code, text in EXIT_CODES.items()))
        return
    wanted = argv[0]
    pages = [(name, help_page(table, k.name, name)) for name, table in DOCUMENTED.items() for k in table
             if k.name == wanted or (k.name.startswith(f"{wanted}_") and wanted in {other.name for other in table})]
    if not pages:
        every = [k.name for table in DOCUMENTED.values() for k in table]
        raise InputError(f"help: {wanted}: unknown keyword{decks.near(wanted, every)}")
    print("\n\n".join(f"{name}: {page}" for name, page in pages))
