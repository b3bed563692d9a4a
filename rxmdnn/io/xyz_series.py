"""Trajectories of extended XYZ, in one file or one file per frame, read by the table of names of ``canonical``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ase
import ase.units
import numpy as np
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ase_atoms import cell_of
from rxmdnn.io.canonical import ID_COLUMNS, VELOCITY_COLUMNS, id_order, stated, time_unit, velocity_unit
from rxmdnn.io.motion import WORDS
from rxmdnn.io.series import EVERY, Series
from rxmdnn.io.xyz_trajectory import FrameAt, frames_of
from rxmdnn.isotopes import element_of, named_by_mass, standard_mass
from rxmdnn.schema import reading

SPECIES, POSITIONS = ("species", "element", "elements"), ("pos", "positions", "position")
MASSES = ("masses", "mass")


class Column(NamedTuple):
    """First word of a row, number of words, and type (S, R, I or L) of a column."""

    at: int
    width: int
    kind: str


class Table(NamedTuple):
    """One frame: its header, its columns by name, and its words, row after row."""

    head: dict[str, Any]
    columns: dict[str, Column]
    words: list[bytes]
    row: int  # words per atom

    def text(self, name: str) -> np.ndarray:
        """(n,) words of a column."""
        return np.array(self.words[self.columns[name].at::self.row])

    def numbers(self, name: str) -> np.ndarray:
        """(n, width) float64 of a column. Raises ValueError where a word is no number."""
        column = self.columns[name]
        return np.array([self.words[k::self.row] for k in range(column.at, column.at + column.width)], float).T

    def first(self, names: Sequence[str]) -> str | None:
        """The first of these columns that the frame has."""
        return next((name for name in names if name in self.columns), None)


def _words(frame: FrameAt, source: str) -> dict[str, Any]:
    """The keys of a header line. Raises InputError."""
    with reading(source, "valid extended XYZ"):
        return key_val_str_to_dict(frame.header.decode(errors="replace"))


class XYZSeries(Series):
    """Frames in one file, or one file per frame.

    Rows are in the order of their ids where there are ids; otherwise every frame must name the same species in the same
    order. Masses: a column ``masses``, or those of the elements, D and T. Velocities: the names and units of
    ``canonical``, or momenta of ASE.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.frames: list[tuple[Path, FrameAt]] = [(file, frame) for file in files for frame in frames_of(file)]
        if not self.frames:
            raise InputError(f"{path}: no frames")
        self._same_number()
        heads = [_words(frame, f"{path}: frame {k}") for k, (_, frame) in enumerate(self.frames)]
        n = len(heads)
        self.rows = np.arange(n)
        self.step = np.array([int(stated({"step": k} | h, "step", f"{path}: frame {k}")) for k, h in enumerate(heads)])
        self.timed = all("time" in h for h in heads)
        self.time = np.arange(n, dtype=float)
        if self.timed:
            self.time = np.array([stated(h, "time", f"{path}: frame {k}") for k, h in enumerate(heads)])
            self.time *= time_unit(heads[0], self._name(0))
        self.stages = []
        for step, head in zip(self.step.tolist(), heads):
            words = {k: str(head[k]) for k in WORDS if k in head}
            if words and (not self.stages or self.stages[-1][1] != words):
                self.stages.append((step, words))
        self.temperatures = np.array([float(h["temperature"]) if isinstance(h.get("temperature"), (int, float))
                                      else np.nan for h in heads])
        self._begin(self._table(0))
        self._kept: tuple[int, Table, np.ndarray | None] = (-1, self._table(0), None)

    def _same_number(self) -> None:
        n = self.frames[0][1].atoms
        wrong = next((k for k, (_, frame) in enumerate(self.frames) if frame.atoms != n), None)
        if wrong is not None:
            raise InputError(f"{self._name(wrong)}: {self.frames[wrong][1].atoms} atoms, but the first frame has {n}; "
                             "a trajectory has the same atoms in every frame")

    def _name(self, row: int) -> str:
        """For messages: the file, and the number of the frame in it, from 0."""
        file = self.frames[row][0]
        number = row - next(k for k, (other, _) in enumerate(self.frames) if other == file)
        return f"{file}: frame {number}"

    def _begin(self, first: Table) -> None:
        """Names, masses, ids and fields, as the first frame has them."""
        try:
            self.id = next((c for c in ID_COLUMNS if c in first.columns and first.columns[c].kind == "I"
                            and first.columns[c].width == 1), None)
            order = np.arange(self.frames[0][1].atoms)
            self.ids = None
            if self.id:
                ids = first.numbers(self.id)[:, 0].astype(np.int64)
                order = id_order(ids, self._name(0))
                self.ids = ids[order]
            self.species = first.text(self._column(first, SPECIES, 0))[order]
            names = np.char.decode(self.species).tolist()
            unknown = sorted({e for e in names if element_of(e) not in atomic_numbers})
            if unknown:
                raise InputError(f"{self.path}: {', '.join(unknown)}: not an element; name atoms by element, or D for "
                                 "deuterium")
            column = first.first(MASSES)
            self.mass = first.numbers(column)[order, 0] if column else np.array([standard_mass(e) for e in names])
            self.names = named_by_mass([element_of(e) for e in names], self.mass)
        except ValueError as error:
            raise InputError(f"{self._name(0)} is truncated or not valid extended XYZ: {error}") from None
        self.position = self._column(first, POSITIONS, 0)
        self.velocity = first.first((*VELOCITY_COLUMNS, "momenta"))
        self.has = {"x"} | ({"v"} if self.velocity else set()) | ({"image", "excitation"} & set(first.columns))

    def _column(self, table: Table, names: Sequence[str], row: int) -> str:
        name = table.first(names)
        if name is None:
            raise InputError(f"{self._name(row)} has no column '{names[0]}'; its columns are "
                             + ", ".join(table.columns))
        return name

    def _table(self, row: int) -> Table:
        file, frame = self.frames[row]
        with open(file, "rb") as text:
            text.seek(frame.start)
            body = text.read(frame.end - frame.start)
        head = _words(frame, self._name(row))
        words = str(head.get("Properties", "species:S:1:pos:R:3")).split(":")
        columns, at = {}, 0
        for name, kind, width in zip(words[::3], words[1::3], words[2::3]):
            if not width.isdigit():
                raise InputError(f"{self._name(row)}: not valid extended XYZ: Properties={':'.join(words)}")
            columns[name] = Column(at, int(width), kind)
            at += int(width)
        body = body[body.index(b"\n") + 1:]
        found = body[body.index(b"\n") + 1:].split() if frame.atoms else []
        if len(found) != at * frame.atoms:
            raise InputError(f"{self._name(row)} is truncated or not valid extended XYZ: expected {at} words for each "
                             f"of {frame.atoms} atoms, found {len(found)} in all")
        return Table(head, columns, found, at)

    def _frame(self, row: int) -> tuple[Table, np.ndarray | None]:
        """A frame, and the order of its rows (None: as they are)."""
        if self._kept[0] != row:
            table = self._table(row)
            self._kept = row, table, self._order(table, row)
        return self._kept[1:]

    def _order(self, table: Table, row: int) -> np.ndarray | None:
        """(n,) rows in the order of the first frame; None as they are. Raises InputError for other atoms."""
        order = None
        if self.ids is not None and self.id in table.columns:
            ids = table.numbers(str(self.id))[:, 0].astype(np.int64)
            if not np.array_equal(ids, self.ids):
                order = id_order(ids, self._name(row))
                if not np.array_equal(ids[order], self.ids):
                    raise InputError(f"{self._name(row)} has other ids than the first frame")
        species = table.text(self._column(table, SPECIES, row))
        if order is not None:
            species = species[order]
        wrong = np.flatnonzero(species != self.species)
        if len(wrong):
            k = int(wrong[0])
            raise InputError(f"{self._name(row)}: atom {k + 1} is {species[k].decode()}, but "
                             f"{self.species[k].decode()} in the first frame: "
                             + ("give every frame the same atoms" if self.ids is not None else
                                "the order of the rows changes; write a column 'id'"))
        return order

    def read(self, field: str, frames: Sequence[int] | np.ndarray, atoms: slice = EVERY) -> np.ndarray:
        column = str({"x": self.position, "v": self.velocity}.get(field, field))
        width = 1 if field == "excitation" else 3
        out = []
        for k in np.asarray(frames):
            row = int(self.rows[k])
            table, order = self._frame(row)
            if column not in table.columns or table.columns[column].width != width:
                numbers = "three numbers" if width == 3 else "one number"
                raise InputError(f"{self._name(row)} has no '{column}' of {numbers}, unlike the first frame")
            try:
                values = table.numbers(column)
            except ValueError as error:
                raise InputError(f"{self._name(row)}: column '{column}': {error}") from None
            values = (values if order is None else values[order])[atoms]
            if field == "v":
                values = values * (ase.units.fs / self.mass[atoms, None] if column == "momenta" else
                                   velocity_unit(table.head, self._name(row)))
            out.append(values[:, 0] if width == 1 else values)
        return np.array(out)

    def cell(self, frame: int) -> Cell:
        row = int(self.rows[frame])
        head = _words(self.frames[row][1], self._name(row))
        lattice = head.get("Lattice")
        h = np.zeros((3, 3)) if lattice is None else np.asarray(lattice, float).T  # ASE: cell vectors as columns
        pbc = np.asarray(head.get("pbc", [lattice is not None] * 3), bool).ravel()
        if h.any(axis=1).all():
            return Cell(h, pbc)
        x = self.read("x", [frame])[0]
        return cell_of(ase.Atoms(numbers=np.ones(len(x), int), positions=x, cell=h, pbc=pbc), self._name(row))

    def interval(self) -> float:
        if not self.timed:
            raise InputError(f"{self.path}: frames without time; write time=<fs> in the second line of each frame")
        return super().interval()

    def temperature(self) -> float:
        return float(np.mean(self.temperatures[self.rows]))
