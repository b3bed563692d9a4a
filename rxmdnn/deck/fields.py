"""Lines of the run deck for electric fields and charges: `field`, `efield` and `charges`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rxmdnn.deck.columns import read_pairs
from rxmdnn.deck.language import NUMBER, Deck, Entry, Keyword, Value, near, number_of
from rxmdnn.deck.words import EXCITATION, MINIMIZATION
from rxmdnn.errors import InputError

SHAPES_OF_FIELDS = {  # shape: (names of its parameters after the strength, number of them that may be left out, text)
    "constant": ((), 0, "the same at all times"),
    "ramp": (("t0", "t1"), 0, "zero until t0 (fs), then linear in time up to the strength at t1 (fs), then constant"),
    "sine": (("frequency", "phase"), 1, "strength sin(2 pi frequency t + phase), in THz and degrees (0)"),
    "pulse": (("t0", "FWHM", "frequency", "phase"), 2,
              "strength exp(-4 ln 2 (t - t0)^2/FWHM^2) cos(2 pi frequency (t - t0) + phase), in fs, fs, THz (0) and "
              "degrees (0); FWHM is that of the envelope of the field, not of the intensity"),
    "table": (("file",), 0, "strength times the second column of the file (V/Å), at times of the first (fs), linear "
                            "between rows, zero outside; strength is then a factor"),
}
AXES = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0)}
STRUCTURE, FILE, NEUTRAL = "structure", "file", "neutral"  # words of the line charges
EXAMPLE = "write for example 'field constant z 0.01'"

FIELD = (
    Keyword("field", (Value("shape", tuple(SHAPES_OF_FIELDS), None,
                            words={shape: " ".join([f"<{name}>" for name in names] + [text])
                                   for shape, (names, _, text) in SHAPES_OF_FIELDS.items()}),
                      Value("word", "str", (), help="direction (x, y, z or three numbers), strength in V/Å, and the "
                                                    "values of the shape")),
            "electric field on the charges of the atoms, E(t) with t the time of the run in fs; several lines add; "
            "for example 'field sine z 0.01 0.05' and 'field pulse 1 1 0 0.02 500 200 1.5'", repeats=True, rest=1,
            group=EXCITATION),
    Keyword("charges", (Value("word", "str", ()),),
            "charges for the field, e, whose sum must be zero: '<element> <q>', or '<element>' and the nine numbers xx "
            "xy xz yx yy yz zx zy zz of a Born tensor, rows for the displacement and columns for the field (force_a = "
            "sum_b Z_ab E_b); 'file <file>' with such lines; 'structure': of the columns born_charges (nine), "
            "initial_charges or charges of the structure file, or of a LAMMPS data file; 'neutral <q>': a mean charge "
            "of up to q per atom, as of rounded values, is subtracted from every atom. Without a field, polarization "
            "and current are recorded", repeats=True, rest=1, group=EXCITATION),
)


@dataclass(frozen=True)
class FieldLine:
    """One term of the field E(t).

    Attributes
    ----------
    shape : key of SHAPES_OF_FIELDS
    strength (3,) float64 : V/Å, direction times strength
    parameters : {name: number} of the shape
    table (2, n) float64 : times, fs, and factors of the strength, of shape "table"
    where : file and line, for messages
    """

    shape: str
    strength: np.ndarray
    parameters: dict[str, float] = field(default_factory=dict)
    table: np.ndarray | None = None
    where: str = ""


@dataclass(frozen=True)
class ChargeLines:
    """What the lines charges say.

    Attributes
    ----------
    by_element : {element: (3, 3) float64}, e; a scalar charge q is q times the unit matrix
    of_structure : the charges are columns of the structure file
    neutral : e per atom, the largest mean charge that is subtracted from every atom; None: none may be left
    where : the first line, for messages; empty without any line
    """

    by_element: dict[str, np.ndarray] = field(default_factory=dict)
    of_structure: bool = False
    neutral: float | None = None
    where: str = ""

    @property
    def given(self) -> bool:
        return bool(self.by_element) or self.of_structure


def _numbers(words: Sequence[str], names: Sequence[str]) -> list[float]:
    """The numbers that words are. Raises ValueError naming the first that is none."""
    for word, name in zip(words, names):
        if not NUMBER.match(word):
            raise ValueError(f"{name} must be a number, not '{word}'")
    return [number_of(word) for word in words]


def _read_charges(path: Path) -> list[tuple[int, list[str]]]:
    """(number of the line, its words) of a file of charges. Raises ValueError for another number of columns."""
    what = "<element> <q> or <element> <nine numbers>"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    rows = [(k, words) for k, line in enumerate(text.splitlines(), 1) if (words := line.split("#")[0].split())]
    for k, words in rows:
        if len(words) not in (2, 10):
            raise ValueError(f"{path}:{k}: expected '{what}', found '{' '.join(words)}'")
    if not rows:
        raise ValueError(f"{path}: no rows; expected '{what}'")
    return rows


# ---------------------------------------------------------------------- field
def parse_field(entry: Entry, at: Callable[[str], Path]) -> FieldLine:
    """The field of a line. Raises ValueError with what is wrong. at : the path of a file that the line names"""
    words = list(entry.word)
    names, optional, _ = SHAPES_OF_FIELDS[entry.shape]
    if words[0] in AXES:
        direction, words = np.array(AXES[words[0]]), words[1:]
    else:
        if len(words) < 3 or not all(map(NUMBER.match, words[:3])):
            raise ValueError(f"the direction must be x, y, z or three numbers, not '{' '.join(words[:3])}'; {EXAMPLE}")
        direction = np.array(_numbers(words[:3], "xyz"))
        if not np.linalg.norm(direction) > 0:
            raise ValueError("the direction has no length")
        direction, words = direction / np.linalg.norm(direction), words[3:]
    usage = " ".join(["field", entry.shape, "<direction>", "<strength>", *(f"<{n}>" for n in names)])
    if not len(names) - optional <= len(words) - 1 <= len(names):
        raise ValueError(f"{len(words)} value(s) after the direction; write '{usage}'")
    table, parameters = None, {}
    strength = _numbers(words[:1], ["strength"])[0]
    if entry.shape == "table":
        table = _time_table(at(words[1]))
    else:
        parameters = dict.fromkeys(names, 0.0) | dict(zip(names, _numbers(words[1:], names)))
        _check(entry.shape, parameters)
    return FieldLine(entry.shape, strength * direction, parameters, table, entry.where)


def _check(shape: str, parameters: dict[str, float]) -> None:
    if shape == "ramp" and not parameters["t1"] > parameters["t0"]:
        raise ValueError(f"t1 = {parameters['t1']:g} fs must be after t0 = {parameters['t0']:g} fs")
    if shape == "sine" and not parameters["frequency"] > 0:
        raise ValueError("frequency must be above zero")
    if shape == "pulse" and not parameters["FWHM"] > 0:
        raise ValueError("FWHM must be above zero")
    if shape == "pulse" and parameters["frequency"] < 0:
        raise ValueError("frequency must not be negative")


def _time_table(path: Path) -> np.ndarray:
    """(2, n) times and values of a file. Raises ValueError."""
    try:
        return read_pairs(path, "t (fs)", "E (V/Å)")
    except InputError as error:
        raise ValueError(*error.faults) from None


def has_field(deck: Deck) -> bool:
    """Whether the deck has charges, whose polarization is recorded, or a field on them."""
    return bool(deck["charges"] or deck["field"] or deck["efield"].strength)


def field_lines(deck: Deck) -> list[FieldLine]:
    """The terms of the field of a deck whose lines are valid; those of strength zero are left out."""
    lines = [parse_field(entry, _finder(deck, entry)) for entry in deck["field"]]
    rxmd = deck["efield"]
    if rxmd.strength:
        lines.append(FieldLine("constant", rxmd.strength * np.eye(3)[rxmd.direction - 1], where=rxmd.where))
    return [line for line in lines if line.strength.any()]


def _finder(deck: Deck, entry: Entry) -> Callable[[str], Path]:
    """Paths that a line names: of the deck from its folder, of the command line from the working directory."""
    return Path if entry.where == "command line" else deck.path


# ---------------------------------------------------------------------- charges
def charge_lines(deck: Deck, elements: Sequence[str]) -> ChargeLines:
    """The charges of a deck. elements : of the run, all of which need a charge. Raises InputError with all faults."""
    faults: list[str] = []
    by_element: dict[str, np.ndarray] = {}
    of_structure, neutral, where = False, None, ""
    for entry in deck["charges"]:
        where = where or entry.where
        first, *rest = entry.word
        try:
            if first == STRUCTURE:
                of_structure = True
                if rest:
                    raise ValueError(f"'{rest[0]}' after structure; write 'charges structure'")
            elif first == NEUTRAL:
                if len(rest) != 1:
                    raise ValueError("write 'charges neutral <largest mean charge, e per atom>'")
                neutral = _numbers(rest, ["the largest mean charge"])[0]
                if not neutral > 0:
                    raise ValueError("the largest mean charge must be above zero")
            elif first == FILE:
                if len(rest) != 1:
                    raise ValueError("write 'charges file <file>'")
                path = _finder(deck, entry)(rest[0])
                for k, words in _read_charges(path):
                    _add(by_element, words, elements, f"{path}:{k}: ")
            else:
                _add(by_element, [first, *rest], elements)
        except ValueError as error:
            faults.append(entry.fault(str(error)))
    if deck["charges"] and not faults:
        last = deck["charges"][-1]
        missing = [e for e in elements if e not in by_element]
        if of_structure and by_element:
            faults.append(last.fault("charges of the structure and of elements; keep one kind"))
        elif not of_structure and missing:
            faults.append(last.fault(f"no charge of {', '.join(missing)}; write 'charges {missing[0]} <q>' (0 for "
                                     "an atom without one)"))
    if faults:
        raise InputError(*faults)
    return ChargeLines(by_element, of_structure, neutral, where)


def _add(by_element: dict[str, np.ndarray], words: Sequence[str], elements: Sequence[str], at: str = "") -> None:
    """Add the charge of an element. Raises ValueError."""
    name, *values = words
    if name not in elements:
        raise ValueError(f"{at}{name}: not an element of the models ({' '.join(elements)})"
                         f"{near(name, list(elements))}; write <element> <q>, <element> <nine numbers>, 'structure', "
                         "'file <file>' or 'neutral <q>'")
    if name in by_element:
        raise ValueError(f"{at}{name}: its charge is given before; keep one")
    if len(values) not in (1, 9):
        raise ValueError(f"{at}{name}: one number or nine (xx xy xz yx ... zz) are needed, not {len(values)}")
    try:
        numbers = _numbers(values, ["the charge"] * 9)
    except ValueError as error:
        raise ValueError(f"{at}{name}: {error}") from None
    by_element[name] = numbers[0] * np.eye(3) if len(numbers) == 1 else np.array(numbers).reshape(3, 3)


# ---------------------------------------------------------------------- checks
def field_faults(deck: Deck, elements: Sequence[str]) -> list[str]:
    """Faults of the lines field, efield and charges. elements : of the models, empty where they are faulty."""
    faults, lines = [], []
    for entry in deck["field"]:
        try:
            lines.append((entry, parse_field(entry, _finder(deck, entry))))
        except ValueError as error:
            faults.append(entry.fault(str(error)))
    rxmd, charges = deck["efield"], deck["charges"]
    acting = [entry for entry, line in lines if line.strength.any()] + ([rxmd] if rxmd.strength else [])
    if acting and not charges:
        faults.append(acting[0].fault("a field needs charges; write 'charges <element> <q>' for every element, or "
                                      "'charges structure'"))
    if charges and elements:
        try:
            said = charge_lines(deck, elements)
            if not said.given:
                faults.append(charges[0].fault("no charges; write 'charges <element> <q>' for every element, or "
                                               "'charges structure'"))
        except InputError as error:
            faults += error.faults
    if deck["mdmode"].mode == MINIMIZATION:
        faults += [entry.fault(f"a minimization has no time; '{line.shape}' changes with it: use 'field constant'")
                   for entry, line in lines if line.shape != "constant" and line.strength.any()]
    if acting and deck["pimd"].method == "suzuki-chin" and deck["pimd"].beads is not None:
        faults.append(acting[0].fault("not available with suzuki-chin, whose forces are squared; use 'pimd <beads> "
                                      "pimd'"))
    return faults
