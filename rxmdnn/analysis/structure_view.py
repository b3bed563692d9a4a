"""A turning 3-D view of structures for pages of HTML, drawn in the browser by plotly.js.

The library comes with the Python package plotly (extra ``report``), which is asked for its JavaScript only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import neighbor_list

from rxmdnn.analysis.page import Markup, tag

MISSING = "the 3-D view needs the package plotly: pip install 'rxmdnn[report]', and write the report again"
BONDED = 1.3  # in sums of covalent radii
MOST_BONDS = 8  # neighbors of an atom; shells of more, as in close-packed metals, are not drawn
DIGITS = 3


def scripts() -> list[str]:
    """The JavaScript of a page with views, plotly.js first; empty without the package plotly."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError:
        return []
    own = files("rxmdnn.analysis").joinpath("structure_view.js").read_text(encoding="utf-8")
    return [get_plotlyjs(), own]


def view(frames: Sequence[Atoms], marked: Sequence[Sequence[int]], captions: Sequence[str]) -> Markup:
    """HTML of one view with a slider over its frames; the page must end with ``scripts``.

    Parameters
    ----------
    frames : of at most some thousand atoms with finite coordinates and any cell; a periodic frame is shown around its
        first marked atom
    marked : indices of the atoms to mark, for each frame
    captions : plain text below the view, for each frame
    """
    drawn = [{**drawing(atoms, rows), "caption": caption} for atoms, rows, caption in zip(frames, marked, captions)]
    several = [] if len(drawn) < 2 else [tag(
        "div", tag("button", "‹", type="button", class_="back", aria_label="previous frame"),
        Markup(f'<input type="range" min="0" max="{len(drawn) - 1}" value="0" aria-label="frame">'),
        tag("button", "›", type="button", class_="on", aria_label="next frame"), class_="controls")]
    return tag("div", *several, tag("div", class_="plot"), tag("div", class_="legend soft"),
               tag("p", class_="caption"), Markup(f'<script type="application/json">{_json(drawn)}</script>'),
               class_="structure-view")


def drawing(atoms: Atoms, marked: Sequence[int]) -> dict[str, Any]:
    """What the browser draws of one frame: balls, halves of bonds, marked atoms and edges of the cell, in Å.

    A bond joins atoms nearer than 1.3 sums of covalent radii that have at most 8 such neighbors. Molecules are drawn
    whole; of a bond that crosses a face of the cell in a network each half belongs to its own atom. Elements have the
    colors of Jmol, which extend those of Corey, Pauling and Koltun.

    Returns
    -------
    {"elements": [{"name", "color", "radius", "rows": indices, "at": n x 3, "bonds": m x 6, begin and end}],
     "marked": [{"name", "row", "at", "radius"}], "cell": 12 edges x 6 or empty}
    """
    placed, corner = _around(atoms, marked)
    i, j, d = _bonds(placed)
    _make_whole(placed, i, j, d, corner)
    begin = placed.positions[i]
    bonds = np.hstack([begin, begin + 0.5 * d])
    elements = []
    for z in sorted(set(placed.numbers.tolist())):
        rows = np.flatnonzero(placed.numbers == z)
        elements.append({"name": chemical_symbols[z], "color": _rgb(z), "radius": ball(z), "rows": rows.tolist(),
                         "at": _list(placed.positions[rows]), "bonds": _list(bonds[placed.numbers[i] == z])})
    return {"elements": elements, "cell": _list(_edges(placed, corner)),
            "marked": [{"name": placed.symbols[k], "row": int(k), "at": _list(placed.positions[k]),
                        "radius": 1.7 * ball(placed.numbers[k])} for k in marked]}


def nearest(atoms: Atoms, row: int) -> tuple[int, float] | None:
    """The nearest neighbor of an atom and its distance, Å, images of a periodic cell included; None for a lone atom."""
    for reach in (2.0, 4.0, 8.0):
        i, j, r = neighbor_list("ijd", atoms, reach)
        of = np.flatnonzero(i == row)
        if len(of):
            best = of[np.argmin(r[of])]
            return int(j[best]), float(r[best])
    return None


def ball(z: int) -> float:
    """Radius of a ball, Å."""
    return round(max(0.24, 0.5 * float(covalent_radii[z])), DIGITS)


def _around(atoms: Atoms, marked: Sequence[int]) -> tuple[Atoms, np.ndarray]:
    """The atoms wrapped along periodic axes into one cell, the first marked atom at its center; its corner, Å."""
    placed = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    corner = np.zeros(3)
    if placed.pbc.any() and placed.cell.rank == 3:
        start = np.zeros(3)
        if len(marked):
            start = np.where(placed.pbc, placed.cell.scaled_positions(placed.positions[marked[0]]) - 0.5, 0.0)
        fraction = placed.cell.scaled_positions(placed.positions)
        fraction -= np.where(placed.pbc, np.floor(fraction - start), 0.0)
        placed.positions = fraction @ np.array(placed.cell)
        corner = start @ np.array(placed.cell)
    return placed, corner


def _bonds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both atoms (m,) of every bond, in both directions, and the way (m, 3) from the first to the second, Å."""
    kinds = set(atoms.numbers.tolist())
    i, j, d = neighbor_list("ijD", atoms, {(a, b): BONDED * float(covalent_radii[a] + covalent_radii[b])
                                           for a in kinds for b in kinds})
    few = np.bincount(i, minlength=len(atoms)) <= MOST_BONDS
    kept = few[i] & few[j]
    return i[kept], j[kept], d[kept]


def _make_whole(atoms: Atoms, i: np.ndarray, j: np.ndarray, d: np.ndarray, corner: np.ndarray) -> None:
    """Move the atoms of each molecule together, its center into the cell; networks without end stay as they are."""
    first = np.searchsorted(i, np.arange(len(atoms) + 1))  # i ascends
    seen = np.zeros(len(atoms), bool)
    for root in range(len(atoms)):
        if seen[root]:
            continue
        place, rows, endless = {root: atoms.positions[root].copy()}, [root], False
        for a in rows:  # grows
            for b, way in zip(j[first[a]:first[a + 1]].tolist(), d[first[a]:first[a + 1]]):
                if b not in place:
                    place[b] = place[a] + way
                    rows.append(b)
                endless = endless or bool(np.abs(place[b] - place[a] - way).max() > 0.01)
        seen[rows] = True
        if len(rows) > 1 and not endless:
            moved = np.array([place[a] for a in rows])
            if atoms.pbc.any() and atoms.cell.rank == 3:
                inside = atoms.cell.scaled_positions(moved.mean(axis=0) - corner)
                moved -= np.where(atoms.pbc, np.floor(inside), 0.0) @ np.array(atoms.cell)
            atoms.positions[rows] = moved


def _edges(atoms: Atoms, corner: np.ndarray) -> np.ndarray:
    """(12, 6) both ends of each edge of the cell, Å; none for a cluster."""
    if not atoms.pbc.any() or atoms.cell.rank < 3:
        return np.zeros((0, 6))
    ends = []
    for axis in range(3):
        for far in np.ndindex(2, 2):
            start = np.insert(np.array(far, float), axis, 0.0)
            stop = start + np.eye(3)[axis]
            ends.append(np.concatenate([corner + start @ np.array(atoms.cell), corner + stop @ np.array(atoms.cell)]))
    return np.array(ends)


def _rgb(z: int) -> str:
    return "rgb({}, {}, {})".format(*(round(255 * float(c)) for c in jmol_colors[z]))


def _list(array: np.ndarray) -> list[Any]:
    return np.round(array, DIGITS).tolist()


def _json(values: Any) -> str:
    """JSON that ends no element of the page, whatever its texts hold."""
    text = json.dumps(values, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
