"""What run.log tells of a run: its header, the deck of every start, performance, notes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from rxmdnn.schema import read_text

NAME = "run.log"
DECK, NOTE, PERFORMANCE = "deck", "note", "PERFORMANCE"
FACT = re.compile(r"^([a-z][a-z -]*?) *: (.*)$")
ENTRY = re.compile(r"^    (\S+)\s+(.*?)\s*(?:  <.*)?$")


@dataclass
class LoggedStart:
    """One start of a run, from its line of versions on.

    Attributes
    ----------
    facts : {"kernels", "atoms", "cell", "model", ...: text}; deck : {keyword: [values of each of its lines]}
    deck_text : the effective deck, a line each; notes : warnings; performance : the last such line, or empty
    """

    version: str
    facts: dict[str, str] = field(default_factory=dict)
    deck: dict[str, list[list[str]]] = field(default_factory=dict)
    deck_text: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    performance: str = ""


def read_log(folder: str | Path) -> list[LoggedStart]:
    """The starts that run.log of a folder tells of, in order; empty without the file. Raises InputError."""
    path = Path(folder) / NAME
    if not path.is_file():
        return []
    starts: list[LoggedStart] = []
    within_deck = False
    for line in read_text(path, "the log of a run").splitlines():
        if line.startswith("rxmdnn "):
            starts.append(LoggedStart(line))
        if not starts:
            continue
        here = starts[-1]
        if within_deck and (entry := ENTRY.match(line)):
            here.deck.setdefault(entry[1], []).append(entry[2].split())
            here.deck_text.append(line[4:])
            continue
        fact = FACT.match(line)
        within_deck = bool(re.match(rf"{DECK} +:", line))
        if line.startswith(PERFORMANCE):
            here.performance = line[len(PERFORMANCE):].strip()
        elif fact and fact[1] == NOTE:
            here.notes.append(fact[2])
        elif fact and not within_deck and not here.deck:
            here.facts[fact[1]] = fact[2]
    return starts
