"""Help pages of decks, from their tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from rxmdnn.deck.examples_more import caveat_of, example_of
from rxmdnn.deck.language import REQUIRED, Keyword, near
from rxmdnn.deck.words import GROUPS
from rxmdnn.errors import InputError

WIDTH, INDENT = 100, 30  # columns of a help page, and where its texts begin


def help_page(table: Sequence[Keyword], keyword: str | None = None, deck: str = "") -> str:
    """Help on all keywords, under the headings of their groups, or on one keyword in full; at most WIDTH columns.

    deck : name of the table, as ``rxmd.in``, for the example line and the caveat of the keyword
    """
    rows = {k.name: k for k in table}
    if keyword is None:
        groups = sorted({k.group for k in table}, key=lambda group: GROUPS.index(group) if group else -1)
        return "\n\n".join("\n".join([group] * bool(group) + [_summary(k) for k in table if k.group == group])
                           for group in groups)
    if keyword not in rows:
        raise InputError(f"help: {keyword}: unknown keyword{near(keyword, list(rows))}")
    k = rows[keyword]
    lines = [k.usage, _wrapped(k.help, 4)]
    for v in k.values:
        expects = "one of the values below" if v.words else v.expects
        parts = [expects + (f", {v.unit}" if v.unit else ""), default_of(v.default), *([v.help] if v.help else [])]
        lines.append(_beside(f"    {v.name}", "; ".join(parts), 18))
        lines += [_beside(f"{'':18s}{word}", text, INDENT + 2) for word, text in v.words.items()]
    if k.repeats:
        lines.append("    may be given several times")
    if k.unused:
        lines.append(_wrapped(f"ignored (accepted for compatibility): {k.unused}", 4))
    if example := example_of(deck, k.name):
        lines.append(f"    example: {example}")
    if caveat := caveat_of(deck, k.name):
        lines.append(_wrapped(f"note: {caveat}", 4))
    flags = [f"--{k.name}", *(f.replace("|", ", ") for f in k.flags)]
    lines.append(_wrapped(f"flags: {', '.join(dict.fromkeys(flags))}", 4))
    return "\n".join(lines)


def _summary(k: Keyword) -> str:
    """A keyword's line of the page of all keywords: usage, help, and the allowed words."""
    words = [f"{v.name}: {', '.join(map(str, v.words or v.kind))}" for v in k.values
             if v.words or isinstance(v.kind, tuple)]
    text = "; ".join([k.help, *words, *([f"ignored: {k.unused}"] if k.unused else [])])
    return _beside(f"  {k.usage}", text, INDENT)


def _beside(left: str, text: str, indent: int) -> str:
    """Wrapped text to the right of ``left``, from column ``indent`` on; below it where ``left`` is too long."""
    text = _wrapped(text, indent)
    return f"{left:<{indent}s}{text[indent:]}" if len(left) < indent - 1 else f"{left}\n{text}"


def _wrapped(text: str, indent: int) -> str:
    margin = " " * indent
    return textwrap.fill(text, WIDTH, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False)


def default_of(x: Any) -> str:
    """What a help page says of a default."""
    if x is REQUIRED or x is None or x == ():
        return "required" if x is REQUIRED else "no default"
    return "default " + ((".true." if x else ".false.") if isinstance(x, bool) else str(x))
