"""A calculator that is a shell command: ``command:TEMPLATE`` reads one extended XYZ file and writes another."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path

import ase
import ase.io
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from rxmdnn.errors import InputError
from rxmdnn.io.read_atoms import read_atoms

PREFIX = "command:"
USAGE = "write command:TEMPLATE with {input} and {output}, for example 'command:python label.py {input} {output}'"
MOVED = 1e-3  # Å: how far positions of the answer may be from those asked for


class Command(Calculator):
    """Runs the template for each frame, in the present folder, with the two names put in.

    ``{input}`` is an extended XYZ file of one frame; the command must write ``{output}``, extended XYZ with the same
    atoms in the same order, ``energy=`` (eV), a column ``forces`` (eV/Å) and, if it likes, ``stress=`` (eV/Å³,
    tension positive), and end with code 0.
    """

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's type)

    def __init__(self, template: str) -> None:
        super().__init__()
        missing = [word for word in ("{input}", "{output}") if word not in template]
        if missing:
            raise InputError(f"--engine command: {' and '.join(missing)} missing in '{template}'; {USAGE}")
        self.template = template

    def calculate(self, atoms: ase.Atoms | None = None, properties: tuple[str, ...] = ("energy",),
                  system_changes: tuple[str, ...] = tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        with tempfile.TemporaryDirectory(prefix="rxmdnn-label-") as folder:
            given, made = Path(folder) / "input.xyz", Path(folder) / "output.xyz"
            bare = self.atoms.copy()
            bare.set_constraint()
            ase.io.write(given, bare, format="extxyz", parallel=False)
            line = self.template.replace("{input}", shlex.quote(str(given))).replace("{output}", shlex.quote(str(made)))
            done = subprocess.run(line, shell=True, capture_output=True, text=True, errors="replace", check=False)
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()
            last = f": {said[-1]}" if said else ""
            if done.returncode:
                raise CalculationFailed(f"the command ended with code {done.returncode}{last}")
            if not made.is_file():
                raise CalculationFailed(f"the command wrote no {{output}}{last}")
            try:
                answer = read_atoms(made, "-1", "extxyz")[0]
            except InputError as error:
                raise CalculationFailed(str(error).replace(str(made), "{output}")) from None
        self.results = _results(answer, self.atoms)


def _results(answer: ase.Atoms, asked: ase.Atoms) -> dict[str, float | np.ndarray]:
    """Energy, forces and stress of the answer. Raises CalculationFailed."""
    results = answer.calc.results if answer.calc is not None else {}
    missing = [name for name in ("energy", "forces") if name not in results]
    if missing:
        raise CalculationFailed(f"{{output}} has no {' and no '.join(missing)}")
    if list(answer.symbols) != list(asked.symbols) or abs(answer.positions - asked.positions).max(initial=0) > MOVED:
        raise CalculationFailed("{output} holds other atoms than {input}, or another order of them")
    return {k: results[k] for k in ("energy", "forces", "stress") if k in results}
