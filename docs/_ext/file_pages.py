"""Reference of the files that the program writes, from file_table.py."""

from __future__ import annotations

from collections.abc import Iterable

from file_table import OTHERS, RUN, File
from markdown import code, escaped, table

FORMATS = """## Model files

`*.safetensors` holds the arrays of a network and its settings as text: no code. `rxmdnn evaluate` and the log of a run
name its SHA-256. Files of other programs become such a file by
[`rxmdnn import-model`](commands/import-model.md), and leave by [`rxmdnn export-model`](commands/export-model.md).
"""


def pages() -> dict[str, str]:
    """{path: Markdown} of the one page."""
    parts = ["# Files", "What each command writes. Words in `<>` stand for a step, an element, a pair of elements and "
             "the like. A file takes its name when it is complete; a killed program leaves the old one.",
             "## rxmdnn run, in outDir", *_entries(RUN)]
    for command, files in OTHERS.items():
        parts += [f"## rxmdnn {command}", *_entries(files)]
    return {"files.md": "\n\n".join([*parts, FORMATS])}


def _entries(files: Iterable[File]) -> list[str]:
    out = []
    for f in files:
        out.append(f"### {escaped(f.name)}\n\n{escaped(f.meaning)}")
        if f.columns:
            out.append(table([f.kind, "unit", "meaning"], [[code(n), escaped(u), escaped(m)] for n, u, m in f.columns]))
    return out
