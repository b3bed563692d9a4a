"""Names D and T in text formats whose readers in ASE know elements only."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np

from rxmdnn.isotopes import ISOTOPES

NAMED = re.compile(r"(?<![A-Za-z0-9_])[DT](?![A-Za-z0-9_])")
Renamed = tuple[str, list[np.ndarray]]  # text with H for D and T, and (n,) names of each frame ("" where nothing is)


def read_heavy(path: str | Path, format: str) -> tuple[StringIO, list[np.ndarray]] | None:
    """The text of a file with H for D and T, and for each frame (n,) the name of each atom, "" for all others.

    None where the format is not one of these or the file names neither; ASE then reads the file itself.
    """
    if format not in FORMATS:
        return None
    text = Path(path).read_text(encoding="utf-8", errors="replace")
    if not NAMED.search(text):
        return None
    renamed, names = FORMATS[format](text)
    return (StringIO(renamed), names) if any((n != "").any() for n in names) else None


def _xyz(text: str) -> Renamed:
    lines, frames, k = text.splitlines(), [], 0
    while k < len(lines) and lines[k].split() and lines[k].split()[0].isdigit():
        n = int(lines[k].split()[0])
        column = _species_column(lines[k + 1] if k + 1 < len(lines) else "")
        names = []
        for row in range(k + 2, min(k + 2 + n, len(lines))):
            words = lines[row].split()
            name = words[column] if len(words) > column and words[column] in ISOTOPES else ""
            if name:
                words[column] = ISOTOPES[name][0]
                lines[row] = " ".join(words)
            names.append(name)
        frames.append(np.array(names, dtype="U2"))
        k += n + 2
    return "\n".join(lines) + "\n", frames


def _species_column(header: str) -> int:
    """The column of the names in an extended XYZ frame; the first where the header does not say."""
    stated = re.search(r'Properties\s*=\s*"?([^\s"]+)', header)
    at = 0
    fields = stated.group(1).split(":") if stated else []
    for name, _, width in zip(fields[::3], fields[1::3], fields[2::3]):
        if name == "species":
            return at
        at += int(width) if width.isdigit() else 1
    return 0


def _poscar(text: str) -> Renamed:
    lines = text.splitlines()
    if len(lines) < 7:
        return text, []
    words, counts = lines[5].split(), lines[6].split()
    names = [w if w in ISOTOPES else "" for w in words]
    if not all(c.isdigit() for c in counts) or len(counts) != len(words):
        return text, []
    for line in (0, 5):  # the first line may name the elements too
        lines[line] = " ".join(ISOTOPES[w][0] if w in ISOTOPES else w for w in lines[line].split())
    return "\n".join(lines) + "\n", [np.repeat(np.array(names, dtype="U2"), np.array(counts, int))]


def _pdb(text: str) -> Renamed:
    frames: list[list[str]] = [[]]
    lines = text.splitlines()
    for k, line in enumerate(lines):
        if line.startswith(("ATOM", "HETATM")):
            name = line[76:78].strip() or re.sub("[0-9]", "", line[12:16]).strip()[:1]
            heavy = name if name in ISOTOPES else ""
            if heavy:
                element = ISOTOPES[heavy][0]
                line = line[:12] + f" {element}  " + line[16:]
                lines[k] = line[:76].ljust(76) + element.rjust(2) + line[78:]
            frames[-1].append(heavy)
        elif line.startswith("ENDMDL"):
            frames.append([])
    return "\n".join(lines) + "\n", [np.array(f, dtype="U2") for f in frames if f]


FORMATS: dict[str, Callable[[str], Renamed]] = {
    "extxyz": _xyz, "xyz": _xyz, "vasp": _poscar, "proteindatabank": _pdb}
