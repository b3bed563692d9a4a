"""Pieces of Markdown for the generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def escaped(text: str) -> str:
    """Text without meaning for Markdown or for a cell of a table."""
    for character in "\\`*_<>[]|#~{}$":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


def code(text: str) -> str:
    """Text as code within a line, also within a table."""
    return "`" + text.replace("|", "\\|") + "`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def block(text: str, language: str = "text") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


def tree(names: Iterable[str], depth: int = 1) -> str:
    """A hidden list of the pages below this one, for the navigation."""
    return "\n".join(["```{toctree}", ":hidden:", f":maxdepth: {depth}", "", *names, "```"])
