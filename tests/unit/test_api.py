"""The public names: what ``rxmdnn`` offers, that their examples are true, and what importing them loads."""

import doctest
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rxmdnn

ROOT = Path(__file__).parents[2]
DOCUMENTED = ("rxmdnn", "rxmdnn.api", "rxmdnn.ase", "rxmdnn.engine.system", "rxmdnn.files")


def test_every_public_name_has_a_docstring_and_is_in_dir():
    for name in rxmdnn.__all__:
        assert (name in dir(rxmdnn) and name in rxmdnn.__doc__) or name == "__version__"
        assert getattr(rxmdnn, name).__doc__
    with pytest.raises(AttributeError, match="simulat"):
        _ = rxmdnn.simulat


@pytest.mark.parametrize("name", DOCUMENTED)
def test_examples(name, monkeypatch):
    monkeypatch.chdir(ROOT)  # examples read input/
    module = import_module(name)
    found = [t for t in doctest.DocTestFinder(exclude_empty=True).find(module) if t.examples]
    assert found
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in found:
        report = []
        runner.run(test, out=report.append)
        assert not runner.failures, "".join(report)


def test_help_shows_the_public_names():
    code = "import rxmdnn; help(rxmdnn)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for words in ("class Calculator", "simulate(atoms", "run_deck(deck", "load_model(model", "class System"):
        assert words in done.stdout


def test_importing_it_loads_nothing_heavy():
    code = ("import sys, rxmdnn\nprint([m for m in ('torch', 'cupy', 'mpi4py', 'numpy', 'numba', 'h5py', 'ase') "
            "if m in sys.modules])")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
