"""Reference of the keywords of all decks, from the tables that read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markdown import block, code, escaped, table, tree

from rxmdnn.deck.examples_more import caveat_of, example_of
from rxmdnn.deck.help import default_of
from rxmdnn.deck.language import Keyword, Value
from rxmdnn.deck.tables import DOCUMENTED
from rxmdnn.deck.words import GROUPS

DECKS = {
    "rxmd.in": "The run deck: `rxmdnn run --rxmdin rxmd.in`. Every keyword is also a flag of `rxmdnn run`.",
    "rxmdnn.in": "The model deck, beside the run deck: one line per model, with the elements and masses of the run.",
    "train.in": "The deck of a training: `rxmdnn train train.in`.",
    "tfail.in": "The deck of a study of times to failure: `rxmdnn tfail tfail.in`.",
    "learn.in": "The deck of the loop that repairs a model: `rxmdnn learn learn.in`.",
}
RULES = """A deck is a text file of lines `keyword value value ...`.
`#` begins a comment. Text after the last value is ignored, so a line may carry labels such as `<dt, fs>`.
Logicals are `T` or `F` (also `.true.`, `.false.`); numbers may be written as in Fortran (`1.0d-6`).
Paths in a deck start at the folder of the deck. `rxmdnn check DECK` lists all faults of a deck at once.
`rxmdnn help KEYWORD` prints the entry of a keyword."""


def pages() -> dict[str, str]:
    """{path: Markdown}: an index, one page per group of the run deck, one per other deck."""
    made: dict[str, str] = {}
    parts: list[str] = []
    for deck, rows in DOCUMENTED.items():
        groups = [g for g in GROUPS if any(k.group == g for k in rows)] if deck == "rxmd.in" else [""]
        parts.append(f"## {deck}\n\n{DECKS[deck]}")
        for group in groups:
            keywords = [k for k in rows if k.group == group or not groups[0]]
            name = slug(f"{deck} {group}")
            title = f"{deck}: {group}" if group else deck
            text = "" if group else f"{DECKS[deck]}\n\n"
            made[f"keywords/{name}.md"] = f"# {title}\n\n{text}" + "\n\n".join(entry(deck, k) for k in keywords) + "\n"
            listed = [[f"[{code(k.name)}](#{anchor(deck, k.name)})", escaped(k.help)] for k in keywords]
            heading = f"### {group[0].upper() + group[1:]}\n\n" if group else ""
            parts.append(heading + table(["keyword", "meaning"], listed))
    index = "\n\n".join(["# Deck keywords", RULES, *parts, tree(name.split("/")[1][:-3] for name in made)])
    return {**made, "keywords/index.md": index + "\n"}


def entry(deck: str, k: Keyword) -> str:
    """The entry of one keyword: syntax, values with units and defaults, example, caveats, flags."""
    parts = [f"({anchor(deck, k.name)})=\n## {k.name}", escaped(k.help[0].upper() + k.help[1:]) + ".", block(k.usage)]
    if k.unused:
        parts.append(f"Ignored (accepted for compatibility): {escaped(k.unused)}.")
    if k.values:
        parts.append(table(*_without_empty(["value", "kind", "unit", "default", "meaning"], list(map(_row, k.values)))))
    parts += [table([f"`{v.name}`", "meaning"], [[code(str(word)), escaped(text)] for word, text in v.words.items()])
              for v in k.values if v.words]
    if k.repeats:
        parts.append("The line may be given several times.")
    if example := example_of(deck, k.name):
        parts.append(f"Example:\n\n{block(example)}")
    if caveat := caveat_of(deck, k.name):
        parts.append(f":::{{note}}\n{escaped(caveat[0].upper() + caveat[1:])}.\n:::")
    if deck != "rxmdnn.in":
        flags = dict.fromkeys([f"--{k.name}", *(f for flag in k.flags for f in flag.split("|"))])
        parts.append("Flags: " + ", ".join(map(code, flags)))
    return "\n\n".join(parts)


def _row(v: Value) -> Sequence[str]:
    kind = ", ".join(map(str, v.words or v.kind)) if v.words or isinstance(v.kind, tuple) else v.expects
    default = default_of(v.default).removeprefix("default ")
    told = "; ".join([*(["may be left out"] if v.optional else []), *([v.help] if v.help else [])])
    return [code(v.name), escaped(kind), escaped(v.unit), escaped(default), escaped(told)]


def _without_empty(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """A table without the columns that are empty in every row."""
    kept = [k for k in range(len(head)) if any(row[k] for row in rows)]
    return [head[k] for k in kept], [[row[k] for k in kept] for row in rows]


def anchor(deck: str, keyword: str) -> str:
    """The target of links to a keyword: ``keyword-rxmd-mdmode``."""
    return f"keyword-{slug(deck.removesuffix('.in'))}-{slug(keyword)}"


def slug(text: str) -> str:
    """A name for files and anchors."""
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
