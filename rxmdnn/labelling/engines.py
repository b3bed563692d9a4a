"""The engines that label: three by name, GPAW with settings, any ASE calculator, any command."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from ase.calculators.calculator import Calculator

from rxmdnn.errors import InputError
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import ammonia_quantum_frames as quantum_frames
from rxmdnn.labelling import command_calculator, cp2k_engine, gpaw_engine, gpaw_settings, own_calculator


@dataclass(frozen=True)
class Engine:
    """A program that labels: its name and settings, its ASE calculator, and its plan of frames of ammonia.

    A calculator may have ``version`` (str), used instead of that of the package, and ``notes`` (dict), which the last
    frame records. ``axes``: along how many axes a frame may repeat; tblite takes one or two for three, without a word.
    ``stress``: it is asked for the stress of every frame that repeats along all axes.
    """

    name: str
    package: str
    settings: str
    calculator: Callable[[], Calculator]
    kinds: dict[str, frames.Source] = field(default_factory=lambda: frames.KINDS)
    plan: Callable[[float], list[frames.Task]] = frames.plan
    axes: tuple[int, ...] = (0, 1, 2, 3)
    stress: bool = False

    def version(self, calculator: Calculator) -> str:
        """Name and version of the program, which frames record."""
        own = getattr(calculator, "version", None)
        if isinstance(own, str) and own:
            return own
        if not self.package:
            return own_calculator.version_of(calculator)
        return f"{self.package} {importlib.metadata.version(self.package)}"

    def boundary_fault(self, pbc: np.ndarray) -> str:
        """Why this engine cannot label a frame of this periodicity (3,) bool, or an empty text."""
        if int(np.sum(pbc)) in self.axes:
            return ""
        axes = "all axes" if 0 not in self.axes else "all axes or none" if 3 in self.axes else "no axis"
        return (f"{self.name} repeats a frame along {axes}, but this one has pbc "
                f"{np.asarray(pbc).tolist()}; " + (
                    "give it a box with a vacuum and pbc=\"T T T\"" if 3 in self.axes else "take another engine"))


def _gfn1() -> Calculator:
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", accuracy=0.1, electronic_temperature=300.0, max_iterations=300, verbosity=0)


ENGINES = {
    "gfn1": Engine("GFN1-xTB", "tblite", "accuracy 0.1, electronic temperature 300 K, Gamma point", _gfn1,
                   axes=(0, 3)),
    "gpaw-revpbe-d3bj": Engine("revPBE-D3(BJ)", "gpaw", gpaw_engine.SETTINGS, gpaw_engine.gpaw, quantum_frames.KINDS,
                               quantum_frames.plan, axes=(3,)),
    "cp2k-optpbe-vdw": Engine("optPBE-vdW", "cp2k", cp2k_engine.SETTINGS, cp2k_engine.cp2k, quantum_frames.KINDS,
                              quantum_frames.plan, axes=(3,)),
}
KNOWN = f"{', '.join(sorted(ENGINES))}, gpaw:SETTINGS, ase:MODULE:FACTORY or command:TEMPLATE"


def engine_of(name: str) -> Engine:
    """The engine of a name: a key of ENGINES, ``gpaw:SETTINGS``, ``ase:MODULE:FACTORY`` or ``command:TEMPLATE``.

    Raises
    ------
    InputError
        An unknown name or setting; a module, file or factory that cannot be used; a template without its two words.
    """
    if name.startswith(own_calculator.PREFIX):
        return _own(name)
    if name.startswith(command_calculator.PREFIX):
        return _command(name.removeprefix(command_calculator.PREFIX))
    if name.startswith(gpaw_settings.PREFIX):
        return _gpaw(name)
    if name not in ENGINES:
        raise InputError(f"--engine {name}: not known; give {KNOWN}")
    return ENGINES[name]


@cache
def _gpaw(name: str) -> Engine:
    settings = gpaw_settings.settings_of(name)
    return Engine(f"{settings.functional}{'-D3(BJ)' if settings.dispersion else ''}", "gpaw", settings.text,
                  lambda: gpaw_engine.gpaw(settings), axes=(3,))


@cache
def _own(name: str) -> Engine:
    make = own_calculator.own_factory(name)
    made = make()
    return Engine(name, "", own_calculator.settings_of(made), make, stress=True,
                  axes=own_calculator.AXES.get(type(made).__name__, (0, 1, 2, 3)))


@cache
def _command(template: str) -> Engine:
    command_calculator.Command(template)  # its mistakes
    return Engine("command", "", template, lambda: command_calculator.Command(template), stress=True)
