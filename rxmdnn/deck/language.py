"""Decks: text files of ``keyword values <labels>`` lines, described by one table.

A table is a sequence of `Keyword`. The parser, the defaults, the messages, the command-line flags, the echo (the
effective deck, which can be read again) and the help page all follow from it. Example::

    TABLE = (
        Keyword("time", (Value("dt", "float", unit="fs", check=positive), Value("ntime_step", "int", check=positive)),
                "time step and number of steps", flags={"--dt": ("dt",), "--ntime_step": ("ntime_step",)}),
        Keyword("files", (Value("name", "file"),), "frames to read", rest=1),
    )
    deck = read("train.in", TABLE, argv=["--dt", "0.5"])
    deck["time"].dt, deck["files"].name, deck["time"].given, deck.notes, deck.echo()

Lines are ``keyword v1 v2 ...``; ``#`` starts a comment; Fortran spellings (``1.d-6``, ``.true.``, ``T``) are valid;
text after the last value (``<dt> <ntime_step>``) is ignored, but a number or logical there is a fault. Every keyword
is also a flag (``--time 0.5 1000``), in addition to the flags that its row names; flags override the deck. All faults
of a deck are raised together as one `InputError`, each as ``file:line: keyword: what is wrong``.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rxmdnn.errors import InputError

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "REQUIRED"})()
FAULTY: Any = object()  # a value whose fault is already reported
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([edED][+-]?\d+)?$")
LOGICAL = {"t": True, ".t.": True, "true": True, ".true.": True,
           "f": False, ".f.": False, "false": False, ".false.": False}
VALUE_KINDS = {"int": "an integer", "float": "a number", "bool": "a logical (.true. or .false.)", "str": "a name",
               "path": "a path", "file": "a file"}


def number_of(word: str) -> float:
    """The value of a number, Fortran spellings (1.0d-3) included. Raises ValueError."""
    return float(re.sub("[dD]", "e", word))


@dataclass(frozen=True)
class Value:
    """One positional value of a keyword.

    Parameters
    ----------
    name : str
        Attribute of the parsed line: ``deck["time"].dt``.
    kind : "int", "float", "bool", "str", "path", "file" (a path that must exist), or a tuple of allowed words
        Relative paths in a deck start at the folder of the deck, those of the command line at the working directory.
    default : value where the keyword (or an optional value) is absent; REQUIRED if it must be given
    unit : str
    check : value -> what is wrong with it, or None
    optional : bool
        May be omitted at the end of a line.
    help : str
    words : {allowed value: description}, for the help page
    misplaced : {token that is not one of its values: what is wrong}, where a label would otherwise be assumed
    """

    name: str
    kind: str | tuple[str, ...]
    default: Any = REQUIRED
    unit: str = ""
    check: Callable[[Any], str | None] | None = None
    optional: bool = False
    help: str = ""
    words: Mapping[Any, str] = field(default_factory=dict)
    misplaced: Mapping[str, str] = field(default_factory=dict)

    @property
    def expects(self) -> str:
        return VALUE_KINDS[self.kind] if isinstance(self.kind, str) else "one of " + ", ".join(self.kind)

    def parse(self, token: str, folder: Path) -> Any:
        """The value of a token. Raises ValueError with what is wrong with it."""
        value: Any = token
        if token in self.misplaced:
            raise ValueError(self.misplaced[token])
        if self.kind in ("int", "float"):
            if not NUMBER.match(token):
                raise ValueError(f"{self.name} must be {self.expects}, not '{token}'")
            value = number_of(token)
            if abs(value) == float("inf"):
                raise ValueError(f"{self.name} = {token} is out of range")
            if self.kind == "int":
                if value != int(value):
                    raise ValueError(f"{self.name} must be {self.expects}, not '{token}'")
                value = int(token) if re.match(r"[+-]?\d+$", token) else int(value)
        elif self.kind == "bool":
            if token.lower() not in LOGICAL:
                raise ValueError(f"{self.name} must be {self.expects}, not '{token}'")
            value = LOGICAL[token.lower()]
        elif self.kind in ("path", "file"):
            value = folder / token
            if self.kind == "file" and not value.is_file():
                raise ValueError(f"{self.name}: no file '{value}'")
        elif isinstance(self.kind, tuple) and token not in self.kind:
            raise ValueError(f"{self.name} must be {self.expects}, not '{token}'{near(token, self.kind)}")
        problem = self.check(value) if self.check else None
        if problem:
            raise ValueError(f"{self.name} = {token}: {problem}")
        return value


@dataclass(frozen=True)
class Keyword:
    """One row of a table.

    Parameters
    ----------
    name : str
    values : tuple of Value
    help : str
    flags : {"--long|-short": names of the values it sets}
        ``--name`` with all values always exists. A flag of one logical without argument sets it true.
    repeats : bool
        The line may be given several times; ``deck[name]`` is then a list.
    rest : int
        The last `rest` values are repeated together to the end of the line; each is then a tuple.
    count : str
        Name of an earlier integer value, the number of repetitions.
    unused : str
        Why the keyword is accepted and ignored; its values are not read.
    check : Entry -> what is wrong with the line as a whole, or None
    group : str, one of words.GROUPS
        Heading of the help page under which the keyword stands; empty in tables without headings.
    """

    name: str
    values: tuple[Value, ...]
    help: str
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    repeats: bool = False
    rest: int = 0
    count: str = ""
    unused: str = ""
    check: Callable[[Entry], str | None] | None = None
    group: str = ""

    @property
    def head(self) -> tuple[Value, ...]:
        return self.values[:len(self.values) - self.rest]

    @property
    def repeated(self) -> tuple[Value, ...]:
        return self.values[len(self.values) - self.rest:]

    @property
    def usage(self) -> str:
        names = [f"[<{v.name}>]" if v.optional else f"<{v.name}>" for v in self.values]
        return " ".join([self.name, *names] + (["..."] if self.rest else []))


class Entry:
    """One line: its values as attributes, and its place in the deck.

    Attributes
    ----------
    keyword : Keyword
    values : dict of str to value
    where : str
        ``file:line`` or ``command line`` or ``default``.
    given : bool
        False if all values are defaults.
    """

    def __init__(self, keyword: Keyword, values: dict[str, Any], where: str, given: bool) -> None:
        self.keyword, self.values, self.where, self.given = keyword, values, where, given

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["values"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values.values())

    def fault(self, text: str) -> str:
        """The message for a fault of this line."""
        return f"{self.where}: {self.keyword.name}: {text}"


class Deck(Mapping[str, Any]):
    """A checked deck: ``deck["time"].dt``; a keyword that repeats is a list of entries.

    Attributes
    ----------
    file : Path
    entries : dict of keyword name to Entry or list of Entry
    notes : list of str
        Notes for the user: keywords that are accepted and ignored.
    """

    def __init__(self, file: Path, entries: dict[str, Any], notes: list[str]) -> None:
        self.file, self.entries, self.notes = file, entries, notes

    def __getitem__(self, name: str) -> Any:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def path(self, name: str | Path) -> Path:
        """The path of a file in the folder of the deck."""
        return self.file.parent / name

    def echo(self) -> str:
        """The effective deck as text, which can be read again as a deck."""
        lines = []
        for entry in (e for item in self.entries.values() for e in (item if isinstance(item, list) else [item])):
            keyword, values = entry.keyword, entry.values
            if keyword.unused or any(values[v.name] is None for v in keyword.values if not v.optional):
                continue
            tokens = [self._token(v, values[v.name]) for v in keyword.head if values[v.name] is not None]
            for row in zip(*(values[v.name] for v in keyword.repeated)):
                tokens += [self._token(v, x) for v, x in zip(keyword.repeated, row)]
            if tokens:
                labels = " ".join(f"<{v.name}{', ' + v.unit if v.unit else ''}>" for v in keyword.values)
                lines.append(f"{keyword.name:<13s} {' '.join(tokens):<30s}  {labels}".rstrip())
        return "\n".join(lines) + "\n"

    def _token(self, value: Value, x: Any) -> str:
        if isinstance(x, bool):
            return ".true." if x else ".false."
        text = os.path.relpath(x, self.file.parent) if value.kind in ("path", "file") else \
            repr(x) if isinstance(x, float) else str(x)
        return f'"{text}"' if re.search(r"[\s#]", text) else text


def near(name: str, known: Sequence[str]) -> str:
    """'; did you mean ...?' if one of the known names is close to `name`, else an empty string."""
    lower = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), lower, 1, 0.6)
    return f"; did you mean '{lower[found[0]]}'?" if found else ""


def load(path: str | Path) -> str:
    """The text of a deck."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such deck") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def read(path: str | Path, table: Sequence[Keyword], argv: Sequence[str] = ()) -> Deck:
    """Read and check a deck; `argv` holds flags that override it. Raises InputError with all faults."""
    return parse(load(path), path, table, argv)


def parse(text: str, path: str | Path, table: Sequence[Keyword], argv: Sequence[str] = ()) -> Deck:
    """As `read`, from the text of the file `path`."""
    path, rows, faults, notes = Path(path), {k.name: k for k in table}, [], []
    entries: dict[str, Any] = {}
    meant: set[str] = set()  # keywords that a misspelled line stands for
    for number, line in enumerate(text.splitlines(), 1):
        name, *tokens = words_of(line) or [""]
        where = f"{path}:{number}"
        if not name:
            continue
        if name not in rows:
            hint = near(name, list(rows))
            faults.append(f"{where}: {name}: unknown keyword{hint}")
            meant.add(hint.rpartition("mean ")[2].strip("'?"))
            continue
        keyword = rows[name]
        if keyword.unused:
            notes.append(f"{where}: {name}: ignored (accepted for compatibility): {keyword.unused}")
        if name in entries and not keyword.repeats:
            faults.append(f"{where}: {name}: given before, on line {entries[name].where.rpartition(':')[2]}; keep one")
            continue
        values, wrong = _values(keyword, tokens, path.parent)
        faults += [f"{where}: {name}: {w}" for w in wrong]
        entry = Entry(keyword, values, where, True)
        if keyword.repeats:
            entries.setdefault(name, []).append(entry)
        else:
            entries[name] = entry
    _override(entries, table, list(argv), faults)
    for keyword in table:
        name = keyword.name
        if keyword.repeats:
            entries.setdefault(name, [])
        elif name not in entries:
            entries[name] = Entry(keyword, {}, f"{path}", False)
        for entry in entries[name] if keyword.repeats else [entries[name]]:
            if entry.given or name not in meant:
                _complete(entry, faults)
    if faults:
        raise InputError(*sorted(faults, key=lambda fault: _line(fault, path)))
    return Deck(path, {k.name: entries[k.name] for k in table}, notes)


def words_of(line: str) -> list[str]:
    """The words of a line before '#'; a name with blanks stands in double quotes.

    >>> words_of('structure "my crystal.cif" 2 2 2  # eight cells')
    ['structure', 'my crystal.cif', '2', '2', '2']
    """
    words = re.findall(r'(?<!\S)"([^"]*)"(?!\S)|(#.*)|([^\s#]+)', line)
    out: list[str] = []
    for quoted, comment, plain in words:
        if comment:
            break
        out.append(quoted or plain)
    return out


def _line(fault: str, path: Path) -> float:
    """Line number of a fault; infinity for faults without a line, which come last."""
    number = fault.removeprefix(f"{path}:").split(":")[0]
    return int(number) if number.isdigit() else float("inf")


def _values(keyword: Keyword, tokens: list[str], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Values and faults of a line; a faulty value is FAULTY, so that it is reported once."""
    if keyword.unused:
        return {}, []
    values: dict[str, Any] = {}
    wrong: list[str] = []

    def label(position: int) -> bool:
        return position >= len(tokens) or tokens[position].startswith("<")

    def take(value: Value, position: int) -> Any:
        if label(position):
            if not value.optional:
                wrong.append(f"{value.name} is missing; write '{keyword.usage}'")
            return value.default if value.optional else FAULTY
        try:
            return value.parse(tokens[position], folder)
        except ValueError as error:
            numeric = value.kind in ("int", "float", "bool") and tokens[position][0].isalpha()
            if value.optional and numeric and tokens[position] not in value.misplaced:
                return value.default  # text of a label
            wrong.append(str(error))
            return FAULTY

    for position, value in enumerate(keyword.head):
        values[value.name] = take(value, position)
        if wrong and label(position):
            return {v.name: values.get(v.name, FAULTY) for v in keyword.values}, wrong
    position = len(keyword.head)
    if keyword.repeated:
        wanted = values[keyword.count] if keyword.count else None
        table: list[list[Any]] = []
        while (not label(position) or not table) if wanted in (None, FAULTY) else len(table) < wanted:
            missing = [v for k, v in enumerate(keyword.repeated) if label(position + k)]
            if missing:
                wrong.append(f"{missing[0].name} {len(table) + 1} is missing; write '{keyword.usage}'")
                return {**values, **{v.name: FAULTY for v in keyword.repeated}}, wrong
            table.append([take(value, position + k) for k, value in enumerate(keyword.repeated)])
            position += keyword.rest
        for k, value in enumerate(keyword.repeated):
            values[value.name] = tuple(row[k] for row in table)
    if position < len(tokens) and (NUMBER.match(tokens[position]) or tokens[position].lower() in LOGICAL):
        wrong.append(f"one value too many: '{tokens[position]}'; write '{keyword.usage}'")
    return values, wrong


def _override(entries: dict[str, Any], table: Sequence[Keyword], argv: list[str], faults: list[str]) -> None:
    """Override entries of the deck by the flags of the command line."""
    flags: dict[str, tuple[Keyword, tuple[str, ...]]] = {}
    for keyword in table:
        flags[f"--{keyword.name}"] = keyword, tuple(v.name for v in keyword.values)
        for names, which in keyword.flags.items():
            flags.update(dict.fromkeys(names.split("|"), (keyword, which)))
    seen: set[str] = set()
    while argv:
        flag = argv.pop(0)
        if flag not in flags:
            what = "flag" if flag.startswith("-") else "argument"
            faults.append(f"command line: {flag}: unknown {what}{near(flag, list(flags))}")
            while argv and not argv[0].startswith("-"):
                argv.pop(0)
            continue
        keyword, which = flags[flag]
        tokens: list[str] = []
        while argv and (NUMBER.match(argv[0]) or not argv[0].startswith("-")):
            tokens.append(argv.pop(0))
        values = tuple(v for v in keyword.values if v.name in which)
        if len(values) == 1 and values[0].kind == "bool" and not tokens:
            tokens = [".true."]
        whole = len(values) == len(keyword.values)
        part = Keyword(flag, values, "", rest=keyword.rest if whole else 0, count=keyword.count if whole else "",
                       unused=keyword.unused)
        new, wrong = _values(part, tokens, Path())
        if not wrong and not part.rest and len(tokens) > len(values) and not keyword.unused:
            wrong.append(f"unexpected argument '{tokens[len(values)]}'")
        faults += [f"command line: {flag}: {w}" for w in wrong]
        entry = Entry(keyword, new, "command line", True)
        if keyword.repeats:
            entries[keyword.name] = [*(entries.get(keyword.name, []) if keyword.name in seen else []), entry]
        elif keyword.name in entries:
            old = entries[keyword.name]
            entries[keyword.name] = Entry(keyword, {**old.values, **new}, old.where, True)
        else:
            entries[keyword.name] = entry
        seen.add(keyword.name)


def _complete(entry: Entry, faults: list[str]) -> None:
    """Fill in defaults, in the order of the table, and check the line as a whole."""
    keyword, values = entry.keyword, entry.values
    missing = [v.name for v in keyword.values if v.name not in values and v.default is REQUIRED]
    if missing and not keyword.unused:
        faults.append(entry.fault(f"missing{' ' + ', '.join(missing) if entry.given else ''}; write '{keyword.usage}'"))
    entry.values = {v.name: values.get(v.name, v.default) for v in keyword.values}
    bad = (REQUIRED, FAULTY)
    known = not any(x in bad or (isinstance(x, tuple) and any(y in bad for y in x)) for x in entry)
    problem = keyword.check(entry) if keyword.check and known and entry.given and not keyword.unused else None
    if problem:
        faults.append(entry.fault(problem))


def flag_each(*names: str) -> dict[str, tuple[str, ...]]:
    """Flags of a keyword: one per value, with its name."""
    return {f"--{name}": (name,) for name in names}


def positive(x: float) -> str | None:
    """Check: above zero."""
    return None if x > 0 else "must be above zero"


def not_negative(x: float) -> str | None:
    """Check: zero or above."""
    return None if x >= 0 else "must not be negative"
