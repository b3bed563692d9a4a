"""Reference of the commands: what each one's parser says, without running it."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from unittest import mock

from markdown import block, code, escaped, table, tree
from mpi4py import MPI

from rxmdnn.__main__ import COMMANDS
from rxmdnn.errors import EXIT_CODES

DECKS = {"run": "rxmd.in", "check": "", "train": "train.in", "tfail": "tfail.in", "learn": "learn.in"}


class CapturedError(Exception):
    """Carries a parser out of the command that made it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__()
        self.parser = parser


@contextmanager
def _caught() -> Iterator[None]:
    """Within the block, a parser that is used is raised instead."""
    def caught(parser: argparse.ArgumentParser, *_: object, **__: object) -> None:
        raise CapturedError(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_known_args", caught), \
            mock.patch.object(argparse.ArgumentParser, "parse_args", caught):
        yield


def parser_of(name: str) -> argparse.ArgumentParser | None:
    """The parser of a command; None for commands whose arguments are those of a deck."""
    main = import_module("rxmdnn.commands." + name.replace("-", "_").replace(" ", "_")).main
    with _caught(), redirect_stdout(io.StringIO()):
        try:
            main([], MPI.COMM_SELF) if COMMANDS[name][0] else main([])
        except CapturedError as captured:
            return captured.parser
        except Exception:
            return None
    return None


def help_of(name: str) -> str:
    """What ``rxmdnn NAME --help`` prints."""
    main = import_module("rxmdnn.commands." + name.replace("-", "_").replace(" ", "_")).main
    out = io.StringIO()
    with redirect_stdout(out), suppress(SystemExit):
        main(["--help"], MPI.COMM_SELF) if COMMANDS[name][0] else main(["--help"])
    return out.getvalue()


def pages() -> dict[str, str]:
    """{path: Markdown}: an index and one page per command."""
    made = {f"commands/{slug(name)}.md": page(name) for name in COMMANDS}
    rows = [[f"[{code('rxmdnn ' + name)}](#{anchor(name)})", escaped(text), "yes" if parallel else "no"]
            for name, (parallel, text) in COMMANDS.items()]
    codes = [[str(number), escaped(text)] for number, text in EXIT_CODES.items()]
    index = "\n\n".join([
        "# Commands", "`rxmdnn COMMAND --help` prints the arguments of a command; `python -m rxmdnn` is the same "
        "program. Commands that run on several ranks are started as `mpirun -np N rxmdnn COMMAND ...`.",
        table(["command", "purpose", "several ranks"], rows), "## Exit codes", table(["code", "meaning"], codes),
        tree(map(slug, COMMANDS))])
    return {**made, "commands/index.md": index + "\n"}


def page(name: str) -> str:
    """The page of one command."""
    parallel, purpose = COMMANDS[name]
    parts = [f"({anchor(name)})=\n# rxmdnn {name}", escaped(purpose[0].upper() + purpose[1:]) + "."]
    parts.append("Runs on one or several ranks." if parallel else "Runs on one rank.")
    parser = parser_of(name)
    if parser is None:
        text = help_of(name)
        usage = text.split("\n\n")[0] if name != "check" else text
        parts.append(block(usage))
        if deck := DECKS.get(name, ""):
            where = deck.replace(".", "-") if name != "run" else "index"
            parts.append(f"Its flags are the keywords of [{deck}](../keywords/{where}.md).")
    else:
        parts += list(_parts(parser))
    return "\n\n".join(parts) + "\n"


def _parts(parser: argparse.ArgumentParser) -> Iterator[str]:
    if parser.description:
        yield _paragraphs(parser.description)
    yield block(parser.format_usage())
    actions = [a for a in parser._actions if not isinstance(a, (argparse._HelpAction, argparse._SubParsersAction))]
    if actions:
        yield table(["argument", "default", "meaning"], map(_row, actions))
    if parser.epilog:
        yield _paragraphs(parser.epilog)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, sub in action.choices.items():
                yield f"## {word}"
                yield from _parts(sub)


def _row(a: argparse.Action) -> Sequence[str]:
    name = ", ".join(map(code, a.option_strings)) or code(str(a.metavar or a.dest))
    if a.option_strings and a.nargs != 0:
        metavar = a.metavar or ("|".join(map(str, a.choices)) if a.choices else a.dest.upper())
        name += " " + code(" ".join(metavar) if isinstance(metavar, tuple) else str(metavar))
    given = a.default not in (None, argparse.SUPPRESS, False) and "default" not in (a.help or "")
    text = (a.help or "").replace("(default: %(default)s)", "") % {"default": a.default, "prog": "rxmdnn"}
    return [name, escaped(str(a.default)) if given else "", escaped(text)]


def _paragraphs(text: str) -> str:
    """Paragraphs; indented ones are code."""
    paragraphs = re.split(r"\n\s*\n", text.replace("``", "").strip("\n"))
    return "\n\n".join(block(p) if re.match(r" {2,}\S", p) else escaped(p) for p in paragraphs if p.strip())


def anchor(name: str) -> str:
    """The target of links to a command: ``command-tfail-report``."""
    return f"command-{slug(name)}"


def slug(name: str) -> str:
    return name.replace(" ", "-")
