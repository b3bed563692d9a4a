"""Sphinx extension that writes the reference: pages of keywords, commands and files, from the tables of the program.

The pages stand in docs/reference/generated while the site is built and are not kept in the repository.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import command_pages
import file_pages
import keyword_pages

FOLDER = "reference/generated"
ELSEWHERE = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+)((?:input|tools|tests|rxmdnn|kernels)/[^)]*|[A-Z]+\.md)\)")


def pages() -> dict[str, str]:
    """{path below the folder: Markdown} of all generated pages."""
    return {**keyword_pages.pages(), **command_pages.pages(), **file_pages.pages()}


def write(folder: Path) -> list[Path]:
    """Write the pages, and remove those of earlier builds; their paths."""
    wanted = {folder / name: text for name, text in pages().items()}
    if folder.is_dir() and set(folder.rglob("*.md")) - set(wanted):
        shutil.rmtree(folder)
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    return list(wanted)


def without_links_outside(text: str) -> str:
    """The text of a page whose links to files of the repository outside docs/ are their paths.

    They work where the repository is read; the site holds none of these files.
    """
    return ELSEWHERE.sub(lambda m: f"`{m[3]}`" if m[1].strip("`") == m[3] else f"{m[1]} (`{m[3]}`)", text)


def without_empty_patterns(text: str, folder: Path) -> str:
    """The text without those lines of lists of pages, as /reliability*, that match no page."""
    return re.sub(r"(?m)^/(\S+\*)\n", lambda m: m[0] if any(folder.glob(m[1])) else "", text)


def _on_source(app: Any, name: str, source: list[str]) -> None:
    source[0] = without_empty_patterns(without_links_outside(source[0]), Path(app.srcdir))


def with_whole_descriptions(lines: list[str]) -> list[str]:
    """A docstring whose parameters have no type but a description: what the text after the colon is here.

    Otherwise the first line of ``name : text`` would be set as a type, and the lines after it as its description.
    """
    out, within = [], False
    for k, line in enumerate(lines):
        if k + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[k + 1]):
            within = line in ("Parameters", "Attributes")
        found = re.fullmatch(r"(\S[^:]*) : (.+)", line) if within else None
        out += [found[1], f"    {found[2]}"] if found else [line]
    return out


def _on_docstring(app: Any, what: str, name: str, item: Any, options: Any, lines: list[str]) -> None:
    lines[:] = with_whole_descriptions(lines)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / FOLDER))
    app.connect("source-read", _on_source)
    app.connect("autodoc-process-docstring", _on_docstring, priority=400)  # before napoleon
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
