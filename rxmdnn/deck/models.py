"""The model deck, rxmdnn.in: one line per model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rxmdnn.deck import language as decks
from rxmdnn.deck.language import Keyword, Value, not_negative, positive
from rxmdnn.errors import InputError


def _fraction(x: float) -> str | None:
    return None if 0 < x <= 2 else "must be above 0 and at most 2, in sums of covalent radii"


_ELEMENTS = (Value("n", "int", check=positive), Value("element", "str"),
             Value("mass", "float", unit="amu", check=positive))


def _model(name: str, help: str, *values: Value) -> Keyword:
    return Keyword(name, (*values, *_ELEMENTS), help, repeats=True, rest=2, count="n",
                   check=lambda e: None if len(set(e.element)) == e.n else "an element is given twice")


MODEL_KINDS = (
    _model("allegro", "an Allegro network: a native model file, or a model deployed as TorchScript (RXMD-NN, nequip)",
           Value("file", "file", help="told by its content, whatever its suffix")),
    _model("compiled", "a model compiled by other tools (AOTInductor or TorchScript), whose code is run",
           Value("file", "file"),
           Value("layers", "int", check=positive, help="of message passing: 1 if the energy of an atom depends on its "
                 "own neighbors alone (Allegro), on any number of ranks; more run on one rank")),
    _model("ase", "a calculator of ASE, on one rank, for comparison; the module is Python code, which is run",
           Value("factory", "str", help="MODULE:FACTORY, such as ase.calculators.emt:EMT or dft.py:make, a file "
                 "beside the model deck")),
    _model("lj", "Lennard-Jones, cut and shifted", Value("epsilon", "float", unit="eV", check=not_negative),
           Value("sigma", "float", unit="Å", check=positive), Value("cutoff", "float", unit="Å", check=positive)),
    _model("zbl", "short-range nuclear repulsion, added to the other models; without a weight of its own",
           Value("fraction", "float", check=_fraction,
                 help="cutoff, in sums of covalent radii; 0.8 is below every bond")),
    _model("null", "no forces, for timing the engine alone", Value("cutoff", "float", unit="Å", check=positive)),
)


@dataclass(frozen=True)
class ModelLine:
    """One line of rxmdnn.in.

    Attributes
    ----------
    kind : name of a row of MODEL_KINDS
    parameters : dict
        The line's values before the elements: ``file``, or ``epsilon sigma cutoff``, ...
    elements : tuple of str; masses : tuple of float, amu
    where : str
        ``file:line``, for messages.
    native : Path, optional
        The native copy of the model ``file``, where a run has one.
    """

    kind: str
    parameters: dict[str, Any]
    elements: tuple[str, ...]
    masses: tuple[float, ...]
    where: str
    native: Path | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the model sees all atoms at once, so that it runs on one rank and alone."""
        return self.kind == "ase" or self.parameters.get("layers", 1) > 1

    def fault(self, text: str) -> str:
        return f"{self.where}: {self.kind}: {text}"


def _at(factory: str, deck: Path) -> str:
    """MODULE:FACTORY, with the path of a .py file from the folder of the deck on."""
    module, colon, name = factory.rpartition(":")
    return f"{deck.parent / module}{colon}{name}" if module.endswith(".py") else factory


def read_models(path: str | Path) -> list[ModelLine]:
    """The lines of a model deck, in order, with the same elements and masses. Raises InputError."""
    models = decks.read(path, MODEL_KINDS)
    entries = sorted((e for kind in models.values() for e in kind), key=lambda e: int(e.where.rpartition(":")[2]))
    if not entries:
        raise InputError(f"{path}: no model; write a line such as 'allegro model.safetensors 2 H 1.008 N 14.007'")
    own = {v.name for v in _ELEMENTS}
    lines = [ModelLine(e.keyword.name, {k: _at(v, Path(path)) if k == "factory" else v for k, v in e.values.items()
                                        if k not in own}, e.element, e.mass, e.where) for e in entries]
    first = dict(zip(lines[0].elements, lines[0].masses))
    faults = [line.fault("sees all atoms at once; it must be the only line of the model deck")
              for line in lines if line.is_whole and len(lines) > 1]
    faults += [line.fault(f"elements and masses differ from those of {lines[0].where}; a mixture needs the same")
              for line in lines[1:] if dict(zip(line.elements, line.masses)) != first]
    if faults:
        raise InputError(*faults)
    return lines
