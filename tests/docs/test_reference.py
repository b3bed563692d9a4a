"""The reference has every keyword, command and argument, and what it says of them is true."""

import argparse
import re
from dataclasses import replace
from pathlib import Path

import command_pages
import generated
import keyword_pages
import pytest

from rxmdnn.__main__ import COMMANDS
from rxmdnn.deck.examples_more import CAVEATS, MORE, example_of
from rxmdnn.deck.language import parse
from rxmdnn.deck.tables import DOCUMENTED

ROOT = Path(__file__).parents[2]
ROWS = [(deck, keyword) for deck, table in DOCUMENTED.items() for keyword in table]


@pytest.fixture(scope="module")
def pages():
    return generated.pages()


@pytest.mark.parametrize("deck, keyword", ROWS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_the_example_of_a_keyword_is_a_line_of_its_deck(deck, keyword):
    """Its values are read by the table, files excepted, which need not exist."""
    line = example_of(deck, keyword.name)
    if "not available" in keyword.help:
        assert not line
        return
    assert line, f"write an example of '{keyword.name}' of {deck} into rxmdnn/deck/examples.py or examples_more.py"
    anyhow = replace(keyword, values=tuple(replace(v, kind="path") if v.kind == "file" else v for v in keyword.values))
    entry = parse(line, deck, [anyhow])[keyword.name]
    entry = entry[0] if isinstance(entry, list) else entry
    assert entry.given and line.split()[0] == keyword.name
    assert len(line.split()) - 1 >= sum(not v.optional for v in keyword.values) or keyword.rest or keyword.unused


def test_examples_and_caveats_are_of_keywords_that_exist():
    for texts in (MORE, CAVEATS):
        for deck, of in texts.items():
            assert set(of) <= {k.name for k in DOCUMENTED[deck]}, deck


@pytest.mark.parametrize("deck, keyword", ROWS, ids=lambda x: x if isinstance(x, str) else x.name)
def test_every_keyword_has_its_entry(deck, keyword, pages):
    found = [text for name, text in pages.items()
             if f"({keyword_pages.anchor(deck, keyword.name)})=\n## {keyword.name}\n" in text]
    assert len(found) == 1
    entry = found[0].partition(f"({keyword_pages.anchor(deck, keyword.name)})=")[2].partition("\n(keyword-")[0]
    assert keyword.usage in entry and example_of(deck, keyword.name) in entry
    for value in keyword.values:
        assert f"| `{value.name}` |" in entry
        assert not value.unit or f"| {keyword_pages.escaped(value.unit)} |" in entry
        assert all(f"| `{word}` |" in entry for word in value.words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_page(name, pages):
    text = pages[f"commands/{command_pages.slug(name)}.md"]
    parser = command_pages.parser_of(name)
    assert f"# rxmdnn {name}\n" in text and (parser is not None or "usage: " in text)
    parsers = [parser] if parser else []
    for p in parsers:
        for action in p._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            elif not isinstance(action, argparse._HelpAction):
                assert action.help and all(f"`{flag}`" in text for flag in action.option_strings), action


def test_decks_of_commands_without_a_parser():
    """A command whose arguments are those of a deck says which."""
    assert {name for name in COMMANDS if command_pages.parser_of(name) is None} == set(command_pages.DECKS) | {"help"}


def test_pages_name_commands_that_exist():
    """`rxmdnn X` within the pages is a command."""
    commands = {c.split()[0] for c in COMMANDS}
    for page in [ROOT / "README.md", *(p for p in ROOT.glob("docs/**/*.md") if "generated" not in p.parts)]:
        for word in re.findall(r"(?m)(?:`|^)rxmdnn ([a-z][a-z-]*)\b", page.read_text(encoding="utf-8")):
            assert word in commands, f"{page}: rxmdnn {word}"
