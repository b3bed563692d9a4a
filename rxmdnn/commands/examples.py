"""``rxmdnn examples [NAME DIR]``: list the example inputs, or copy one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.run.examples import EXAMPLES, copy


def main(argv: Sequence[str]) -> None:
    """List the examples, or copy one to a new folder and say what to run there."""
    p = argparse.ArgumentParser("rxmdnn examples", description="List the example inputs of the package, or copy one of "
                                "them to a new folder.")
    p.add_argument("name", metavar="NAME", nargs="?", help="an example of the list")
    p.add_argument("folder", metavar="DIR", nargs="?", type=Path, help="a folder that does not exist, or an empty one")
    a = p.parse_args(argv)
    if a.name is None:
        print("\n".join(f"{name:<12s}{example.what}" for name, example in EXAMPLES.items()))
        print("\nrxmdnn examples NAME DIR copies one.")
        return
    if a.folder is None:
        raise InputError(f"examples: name a folder for the copy: rxmdnn examples {a.name} DIR")
    example = copy(a.name, a.folder)
    print(f"{a.folder}: {example.what}; {len(example.files)} files. Next:")
    print("\n".join(f"  {line}" for line in (f"cd {a.folder}", *example.run)))
