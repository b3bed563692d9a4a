"""rxmdnn: neural-network quantum molecular dynamics by spatial decomposition.

From a shell: ``rxmdnn --help``. From Python, the names below; each is imported when it is first used, so that
``import rxmdnn`` loads neither torch nor CuPy nor MPI.

Calculator        this engine as a calculator of ASE
simulate          molecular dynamics of ASE atoms: an ensemble, a barostat, path integrals
run_deck          what ``rxmdnn run`` does
load_model        the potential of a model file
System            decomposed atoms: energy, forces and virial at any positions
train, evaluate   a model from labelled frames, and its errors
read_trajectory, read_energies    what a run has written, as NumPy arrays
Cell              the periodic cell
InputError        the exception of every mistake in what the user gives

Example
-------
>>> import ase.io, rxmdnn
>>> atoms = ase.io.read("input/ammonia/solid_I.cif")
>>> atoms, table = rxmdnn.simulate(atoms, "input/ammonia/ammonia_legato.safetensors", steps=10, temperature=150.0)
>>> table["step"].tolist()
[0, 10]
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {"Calculator": "rxmdnn.ase", "System": "rxmdnn.engine.system", "Cell": "rxmdnn.cell",
          "InputError": "rxmdnn.errors", "read_energies": "rxmdnn.io.log",
          **dict.fromkeys(("simulate", "run_deck", "load_model", "train", "evaluate", "read_trajectory"), "rxmdnn.api")}

__all__ = ["Calculator", "Cell", "InputError", "System", "__version__", "evaluate", "load_model", "read_energies",
           "read_trajectory", "run_deck", "simulate", "train"]

if TYPE_CHECKING:
    from rxmdnn.api import evaluate, load_model, read_trajectory, run_deck, simulate, train
    from rxmdnn.ase import Calculator
    from rxmdnn.cell import Cell
    from rxmdnn.engine.system import System
    from rxmdnn.errors import InputError
    from rxmdnn.io.log import read_energies


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'rxmdnn' has no attribute {name!r}")
    from rxmdnn.serial import provide

    provide()
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
