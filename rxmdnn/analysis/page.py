"""Self-contained pages of HTML: text, tables, images and scripts in one file that loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

NOTHING = "–"


class Markup(str):
    """Text that is HTML already; every other text is escaped where it enters a page."""


def escaped(value: Any) -> Markup:
    """HTML of any value: Markup as it is, None as a dash, anything else as its text, escaped."""
    if isinstance(value, Markup):
        return value
    return Markup(NOTHING if value is None else html.escape(str(value)))


def tag(name: str, *content: Any, **attributes: Any) -> Markup:
    """One element around its content, all of it escaped; ``class_`` is the attribute class."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
                    for key, value in attributes.items())
    return Markup(f"<{name}{given}>{''.join(map(escaped, content))}</{name}>")


def section(title: str, *content: Any) -> Markup:
    """A part of the page with its heading."""
    return tag("section", tag("h2", title), *content)


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Markup:
    """A table that scrolls sideways on a narrow screen."""
    top = tag("thead", tag("tr", *(tag("th", cell) for cell in head)))
    body = tag("tbody", *(tag("tr", *(tag("td", cell) for cell in row)) for row in rows))
    return tag("div", tag("table", top, body), class_="scroll")


def image(path: Path, text: str) -> Markup:
    """A PNG file within the page. text : what it shows, below it and for those who cannot see it"""
    data = base64.b64encode(path.read_bytes()).decode()
    picture = Markup(f'<img alt="{html.escape(text)}" src="data:image/png;base64,{data}">')
    return tag("figure", picture, tag("figcaption", text))


def page(title: str, *content: Any, scripts: Sequence[str] = ()) -> str:
    """The text of a page, which a browser opens from disk and without a network.

    Its content security policy admits the given scripts, by their SHA-256, and nothing else: no text of the page can
    run as a script, and nothing is fetched (W3C, Content Security Policy Level 3).
    """
    policy = "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src " + (" ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts) or "'none'")
    style = files("rxmdnn.analysis").joinpath("page.css").read_text(encoding="utf-8")
    return "\n".join([
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        tag("title", title), f"<style>{style}</style>", "</head>", "<body>", tag("main", *content),
        *(f"<script>{script}</script>" for script in scripts), "</body>", "</html>", ""])
