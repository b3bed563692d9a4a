"""Parameter files of the pair terms of RXMD-NN, ``--shparams`` and ``--spparams``.

The first line is the number of types; each other line holds a pair of types, counted from 1 in the order of the model
deck, and the parameters of the term. ``#`` starts a comment. A pair that is not listed has no term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rxmdnn.deck.language import NUMBER, load, number_of
from rxmdnn.errors import InputError

PAIR_TERMS = {  # deck line: (parameters after "i j" in its file, what is added to the energy)
    "shparams": (("A(eV)", "sigma(Å)", "n", "rc(Å)"), "A (sigma/r)^n cos(pi r/2 rc) for r < rc"),
    "spparams": (("A(eV/Å^2)", "r0(Å)", "rc_in(Å)", "rc_out(Å)"), "A (r - r0)^2 for rc_in < r < rc_out"),
}


@dataclass(frozen=True)
class PairTable:
    """The parameters of one kind of pair term; listed : (T, T) bool; parameters : (4, T, T) float64, symmetric."""

    kind: str
    listed: np.ndarray
    parameters: np.ndarray

    def jumps(self, elements: tuple[str, ...]) -> list[str]:
        """Notes on the distances where the energy or the force of a pair is not continuous."""
        notes = []
        for i, j in zip(*np.nonzero(np.triu(self.listed))):
            pair, (a, b, c, d) = f"{self.kind}: {elements[i]}-{elements[j]}", self.parameters[:, i, j].tolist()
            if self.kind == "shparams" and (force := abs(a * (b / d) ** c * math.pi / (2 * d))) > 1e-4:
                notes.append(f"{pair}: the force of a pair ends at {force:.2g} eV/Å at rc = {d:g} Å")
            if self.kind == "spparams":
                notes += [f"{pair}: the energy of a pair jumps by {abs(a * (r - b) ** 2):.2g} eV at {r:g} Å, so a pair "
                          "that crosses it changes the total energy" for r in (c, d) if r > 0 and a * (r - b) ** 2]
        return notes


def read_pair_table(kind: str, path: Path, n_types: int) -> PairTable:
    """The parameters in a file. Raises InputError with all its faults, by line."""
    names = PAIR_TERMS[kind][0]
    listed, parameters = np.zeros((n_types, n_types), bool), np.zeros((len(names), n_types, n_types))
    rows = [(f"{path}:{k}", words) for k, line in enumerate(load(path).splitlines(), 1)
            if (words := line.split("#")[0].split())]
    if not rows or not rows[0][1][0].isdigit():
        raise InputError(f"{path}: the first line must be the number of types, {n_types}")
    faults = []
    if int(rows[0][1][0]) != n_types:
        faults.append(f"{rows[0][0]}: {rows[0][1][0]} types; rxmdnn.in has {n_types} elements")
    for where, words in rows[1:]:
        if fault := _fault(kind, words, n_types):
            faults.append(f"{where}: {fault}")
            continue
        i, j = int(words[0]) - 1, int(words[1]) - 1
        values = np.array([number_of(word) for word in words[2:6]])
        if listed[i, j] and (parameters[:, i, j] != values).any():
            faults.append(f"{where}: types {i + 1} and {j + 1} are given before, with other parameters; keep one")
        listed[i, j] = listed[j, i] = True
        parameters[:, i, j] = parameters[:, j, i] = values
    if not faults and not listed.any():
        faults.append(f"{path}: no pair of types; write lines 'i j {' '.join(names)}'")
    if faults:
        raise InputError(*faults)
    return PairTable(kind, listed, parameters)


def _fault(kind: str, words: list[str], n_types: int) -> str | None:
    """What is wrong with a line of a pair."""
    names = PAIR_TERMS[kind][0]
    if len(words) < 2 + len(names) or not all(NUMBER.match(word) for word in words[: 2 + len(names)]):
        return f"'{' '.join(words)[:60]}' is not a pair; write 'i j {' '.join(names)}'"
    if not all(word.isdigit() and 1 <= int(word) <= n_types for word in words[:2]):
        return f"types {words[0]} and {words[1]}: must be from 1 to {n_types}, in the order of rxmdnn.in"
    values = [number_of(word) for word in words[2 : 2 + len(names)]]
    if not all(map(math.isfinite, values)):
        return "a parameter is out of range"
    if kind == "shparams":
        return None if values[1] > 0 and values[3] > 0 and values[2] >= 0 else \
            "sigma and rc must be above zero, n must not be negative"
    return None if 0 <= values[2] < values[3] else "rc_in must not be negative, and rc_out must be above rc_in"
