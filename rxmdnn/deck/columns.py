"""Tables of two columns that a deck names: text files of pairs of numbers, '#' before comments."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from rxmdnn.deck.language import NUMBER, number_of
from rxmdnn.errors import InputError


def read_pairs(path: str | Path, first: str, second: str,
               fault: Callable[[float, float], str | None] = lambda x, y: None) -> np.ndarray:
    """(2, n) float64, n at least 2, the first column ascending. Blanks or commas separate the numbers.

    Parameters
    ----------
    first, second : what the columns hold, with units, for messages
    fault : (first, second) of a row -> what is wrong with it, or None

    Raises InputError, with the line, for anything else.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    rows: list[tuple[float, float]] = []
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].replace(",", " ").split()
        if not words:
            continue
        values = [number_of(word) for word in words if NUMBER.match(word)]
        if not len(words) == len(values) == 2 or not np.isfinite(values).all():
            raise InputError(f"{path}:{number}: expected two finite numbers, {first} and {second}, found "
                             f"'{line.strip()}'")
        x, y = values
        if text := fault(x, y):
            raise InputError(f"{path}:{number}: {text}, found '{line.strip()}'")
        if rows and x <= rows[-1][0]:
            raise InputError(f"{path}:{number}: {first} must ascend, but {x:g} follows {rows[-1][0]:g}")
        rows.append((x, y))
    if len(rows) < 2:
        raise InputError(f"{path}: {len(rows)} row(s); at least two are needed, of {first} and {second}")
    return np.array(rows).T
