"""Data from files, checked while they are read: a refusal is one InputError that names the file and the entry.

A ``Item`` says what an entry must be: kind, shape, bounds. ``Checked`` holds the sizes on which the entries of a file
agree. The readers of HDF5 (``hdf5.py``), npz (``npz.py``), JSON and CSV give their entries to it; nothing is allocated
that the file cannot hold.
"""

from __future__ import annotations

import csv
import json
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.errors import InputError

MOST_PACKED = 1100  # times that deflate makes data smaller, at most
MOST_TEXT = 1 << 28  # bytes of a JSON or CSV file, far above any that is written
DEEPEST = 64  # levels of lists and objects in JSON
TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)
KINDS = {"float": "fiu", "int": "iu", "bool": "b", "text": "USOT"}  # those of NumPy that are taken
NAMES = {"float": "a number", "int": "an integer", "bool": "true or false", "text": "text", "dict": "an object",
         "list": "a list"}
# What readers of files raise on damaged ones, those of h5py, json, csv, zipfile, NumPy and torch.
FAULTS = (OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError,
          EOFError, AssertionError, SyntaxError, csv.Error, struct.error, tokenize.TokenError, zipfile.BadZipFile,
          zlib.error)


@dataclass(frozen=True)
class Item:
    """What an entry of a file must be.

    Parameters
    ----------
    kind : "float" (integers too), "int", "bool", "text", "dict", "list" (of anything) or "any"
    shape : a number is that size; a name is a size on which all entries of the file agree; None is any size
    low, high : bounds of every value, included
    finite : whether NaN and infinity are refused
    optional : whether it may be missing
    dtype : of NumPy; the stored type must have its kind and size, where a checksum covers the bytes
    """

    kind: str
    shape: tuple[int | str | None, ...] = ()
    low: float | None = None
    high: float | None = None
    finite: bool = True
    optional: bool = False
    dtype: Any = None


class Checked:
    """The entries of one file. source : for messages; advice : what to do, at the end of each message."""

    def __init__(self, source: str | Path, advice: str = "") -> None:
        self.source, self.advice = str(source), f"; {advice}" if advice else ""
        self.sizes: dict[str, int] = {}

    def fault(self, entry: str, text: str) -> InputError:
        """The refusal of an entry."""
        return InputError(f"{self.source}: {entry}: {text}{self.advice}")

    def kind(self, entry: str, dtype: np.dtype, item: Item) -> None:
        """Raises InputError for a type that is not of the item's kind."""
        if item.dtype is not None and (dtype.kind, dtype.itemsize) != (
                np.dtype(item.dtype).kind, np.dtype(item.dtype).itemsize):
            raise self.fault(entry, f"of type {dtype}, not {np.dtype(item.dtype)}")
        if dtype.kind not in KINDS.get(item.kind, dtype.kind):
            raise self.fault(entry, f"must be {NAMES[item.kind]}, not of type {dtype}")

    def shape(self, entry: str, shape: tuple[int, ...] | None, item: Item) -> None:
        """Raises InputError for another shape than the item's; sizes with names are remembered."""
        wanted = tuple(self.sizes.get(k, k) if isinstance(k, str) else k for k in item.shape)
        if shape is None or len(shape) != len(wanted) or any(
                isinstance(w, int) and w != s for w, s in zip(wanted, shape)):
            raise self.fault(entry, f"has the shape {_shape(shape or ())}, not {_shape(wanted)}")
        self.sizes |= {name: size for name, size in zip(item.shape, shape) if isinstance(name, str)}

    def values(self, entry: str, array: np.ndarray, item: Item) -> None:
        """Raises InputError for values that are not finite or beyond the bounds."""
        if array.dtype.kind not in "fiu" or not array.size:
            return
        if item.finite and array.dtype.kind == "f" and not np.isfinite(array).all():
            raise self.fault(entry, "NaN or infinite")
        if array.dtype.kind == "u" and array.max() >= 2**63:
            raise self.fault(entry, f"{array.max()} is beyond 63 bits")
        for bound, wrong, word in ((item.low, np.less, "below"), (item.high, np.greater, "above")):
            if bound is not None and (bad := wrong(array, bound)).any():
                raise self.fault(entry, f"{array[bad].reshape(-1)[0] if array.ndim else array} is {word} {bound:g}")

    def value(self, entry: str, value: Any, item: Item) -> Any:
        """A value in memory, of JSON, an attribute or an array: a Python value for shape (), tuples of text, arrays."""
        if item.kind == "any":
            return value
        if item.kind in ("dict", "list"):
            if not isinstance(value, dict if item.kind == "dict" else list):
                raise self.fault(entry, f"must be {NAMES[item.kind]}")
            return value
        if value is None or isinstance(value, Mapping):
            raise self.fault(entry, f"must be {NAMES[item.kind]}")
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError):
            raise self.fault(entry, f"must be {NAMES[item.kind]}, in rows of one length") from None
        if not array.size and item.kind != "text":
            array = array.astype({"float": float, "int": int, "bool": bool}[item.kind])
        self.kind(entry, array.dtype, item)
        self.shape(entry, array.shape, item)
        self.values(entry, array, item)
        if item.kind != "text":
            return array if item.shape else array.item()
        words = tuple(self.text(entry, word) for word in array.reshape(-1).tolist())
        return words if item.shape else words[0]

    def text(self, entry: str, word: Any) -> str:
        """One text, of str or of UTF-8 bytes."""
        if isinstance(word, bytes):
            try:
                return word.decode()
            except UnicodeDecodeError:
                raise self.fault(entry, "not UTF-8 text") from None
        if not isinstance(word, str):
            raise self.fault(entry, "must be text")
        return word

    def entries(self, values: Any, table: Mapping[str, Item], within: str = "") -> dict[str, Any]:
        """Those entries of a mapping that the table names. within : its own name in the file"""
        if not isinstance(values, Mapping):
            raise self.fault(within or "content", "must be an object")
        out = {}
        for name, item in table.items():
            entry = f"{within}.{name}" if within else name
            if name in values:
                out[name] = self.value(entry, values[name], item)
            elif not item.optional:
                raise self.fault(entry, "is missing")
        return out

    def alike(self, saved: Any, fresh: Any, entry: str) -> None:
        """Raises InputError where a saved state is not built as a fresh one: keys, kinds, shapes, finite numbers.

        What is None on either side is free, and so is what only the saved state has, and lists but those of arrays.
        """
        if saved is None or fresh is None:
            return
        if isinstance(fresh, (list, tuple)):
            if fresh and all(hasattr(value, "shape") for value in fresh):
                if not isinstance(saved, (list, tuple)) or len(saved) != len(fresh):
                    raise self.fault(entry, f"must be {len(fresh)} arrays")
                for k, value in enumerate(fresh):
                    self.alike(saved[k], value, f"{entry}.{k}")
            return
        if isinstance(fresh, Mapping):
            if not isinstance(saved, Mapping):
                raise self.fault(entry, "must be an object")
            for key, value in fresh.items():
                if key not in saved:
                    raise self.fault(f"{entry}.{key}", "is missing")
                self.alike(saved[key], value, f"{entry}.{key}")
            return
        if isinstance(fresh, str):
            self.value(entry, saved, Item("text"))
        elif (kind := _kind_of(fresh)) is not None:
            self.value(entry, saved, Item(kind, np.shape(fresh), finite=bool(np.isfinite(fresh).all())))


def _kind_of(value: Any) -> str | None:
    return {"b": "bool", "i": "float", "u": "float", "f": "float"}.get(np.asarray(value).dtype.kind)


def _shape(shape: Sequence[int | str | None]) -> str:
    return "(" + ", ".join("any" if s is None else str(s) for s in shape) + ")"


@contextmanager
def reading(source: str | Path, what: str, advice: str = "") -> Iterator[Checked]:
    """A block that reads a file: whatever a damaged one makes its reader raise is one InputError.

    what : what the file should be, as "a checkpoint"; advice : what to do
    """
    checked = Checked(source, advice)
    try:
        yield checked
    except InputError:
        raise
    except FAULTS as error:
        raise InputError(f"{source}: {refused(error, what)}{checked.advice}") from None


def refused(error: BaseException, what: str) -> str:
    """Why a file was refused, in a line."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, KeyError):
        return f"not {what}: {str(error.args[0] if error.args else '').splitlines()[0][:200]} is missing"
    lines = str(error).strip().splitlines()
    return f"not {what}: {lines[0][:200] if lines else type(error).__name__}"


# ------------------------------------------------------------------------------------------------ text, JSON, CSV
def read_text(path: str | Path, what: str, advice: str = "") -> str:
    """The UTF-8 text of a file. Raises InputError, also for one too large to be ``what``."""
    with reading(path, what, advice) as checked:
        if (size := Path(path).stat().st_size) > MOST_TEXT:
            raise InputError(f"{path}: not {what}: {size} bytes{checked.advice}")
        try:
            return Path(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError("not UTF-8 text") from None


def parse_json(text: str | bytes, source: str | Path, what: str, advice: str = "") -> Any:
    """The values of a JSON text of bounded depth. Raises InputError."""
    with reading(source, what, advice):
        text = text.decode() if isinstance(text, bytes) else text
        depth = 0
        for token in TOKENS.finditer(text):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
            if depth > DEEPEST:
                raise ValueError(f"JSON nested deeper than {DEEPEST} levels")
        return json.loads(text)


def read_json(path: str | Path, what: str, advice: str = "") -> Any:
    """The values of a JSON file. Raises InputError."""
    return parse_json(read_text(path, what, advice), path, what, advice)


def read_json_lines(path: str | Path, what: str, advice: str = "", grows: bool = True) -> list[tuple[Checked, Any]]:
    """The values of each line of JSON, with what checks and names that line. Raises InputError.

    grows : a last line without line end is of a killed program and left out; False: the file was written at once
    """
    text = read_text(path, what, advice)
    rows = []
    for number, line in enumerate(text[: text.rfind("\n") + 1 if grows else None].splitlines(), 1):
        if line.strip():
            where = f"{path}:{number}"
            rows.append((Checked(where, advice), parse_json(line, where, what, advice)))
    return rows


def read_csv(path: str | Path, what: str, columns: Sequence[str] | None = None, advice: str = ""
             ) -> tuple[list[str], list[list[str]]]:
    """Names of the columns, and the rows of words; a last row without line end, of a killed program, is left out.

    columns : those that the file must have. Raises InputError, also for rows of another length.
    """
    text = read_text(path, what, advice)
    with reading(path, what, advice) as checked:
        rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
        if not rows or len(set(rows[0])) < len(rows[0]) or (columns is not None and rows[0] != list(columns)):
            raise checked.fault("columns", f"not those of {what}")
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(rows[0]):
                raise InputError(f"{path}:{number}: {len(row)} values for {len(rows[0])} columns{checked.advice}")
        return rows[0], rows[1:]


def columns_of(path: str | Path, rows: Sequence[Sequence[str]], table: Mapping[str, Item], advice: str = ""
            ) -> dict[str, Any]:
    """{column: (rows,) array, or list of text} of rows of words, by their items in order.

    Raises InputError with file and line.
    """
    out: dict[str, Any] = {}
    for (name, item), words in zip(table.items(), zip(*rows) if rows else [()] * len(table), strict=True):
        if item.kind == "text":
            out[name] = list(words)
            continue
        kind, dtype = (int, np.int64) if item.kind == "int" else (float, np.float64)
        try:
            out[name] = np.array([kind(word) for word in words], dtype)
            Checked(path).values(name, out[name], item)
        except (ValueError, OverflowError, InputError):
            for number, word in enumerate(words, 2):
                _one(Checked(f"{path}:{number}", advice), name, word, kind, item)
    return out


def _one(line: Checked, name: str, word: str, kind: Any, item: Item) -> None:
    """Raises InputError for a word that is not such a number."""
    try:
        number = kind(word)
    except ValueError:
        raise line.fault(name, f"must be {NAMES[item.kind]}, not '{word[:40]}'") from None
    line.value(name, number, item)
