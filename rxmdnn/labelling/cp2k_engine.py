"""Density-functional labels by CP2K: optPBE-vdW, the functional of the published ammonia models.

CP2K runs as ``cp2k_shell`` in a separate process, driven by the calculator of ASE; ``$RXMDNN_CP2K`` is the command.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes
from ase.calculators.cp2k import CP2K
from ase.units import Rydberg

from rxmdnn.errors import InputError
from rxmdnn.labelling.gpaw_settings import REACH, kpoints

COMMAND = "RXMDNN_CP2K"
CUTOFF = 600.0  # Rydberg
SETTINGS = (f"optPBE-vdW, GTH-PBE pseudopotentials, TZV2P-MOLOPT-GTH, {CUTOFF:.0f} Ry, relative 60 Ry, Monkhorst-Pack "
            f"k-points 1 (axes from {REACH} Angstrom, molecules in a box) or 2 (other axes), mean force subtracted")
INPUT = """
&FORCE_EVAL
  &DFT
    &MGRID
      REL_CUTOFF 60
    &END MGRID
    &QS
      EPS_DEFAULT 1.0E-12
    &END QS
    {kpoints}
    &SCF
      SCF_GUESS ATOMIC
      EPS_SCF 1.0E-7
      &DIAGONALIZATION
      &END DIAGONALIZATION
      &MIXING
        METHOD BROYDEN_MIXING
        ALPHA 0.4
      &END MIXING
    &END SCF
    &XC
      &XC_FUNCTIONAL
        &GGA_X_OPTPBE_VDW
        &END GGA_X_OPTPBE_VDW
        &PW92
        &END PW92
      &END XC_FUNCTIONAL
      &VDW_POTENTIAL
        DISPERSION_FUNCTIONAL NON_LOCAL
        &NON_LOCAL
          TYPE DRSLL
          KERNEL_FILE_NAME vdW_kernel_table.dat
        &END NON_LOCAL
      &END VDW_POTENTIAL
    &END XC
  &END DFT
&END FORCE_EVAL
"""
KPOINTS = """&KPOINTS
      SCHEME MONKHORST-PACK {} {} {}
      FULL_GRID TRUE
    &END KPOINTS"""


class Cp2k(Calculator):
    """ASE calculator; CP2K is restarted for another cell and after its process has died."""

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's type)

    def __init__(self) -> None:
        super().__init__()
        self._inner: CP2K | None = None
        self.command = os.environ.get(COMMAND, "cp2k_shell")
        if shutil.which(self.command.split()[0]) is None:
            raise InputError(f"${COMMAND}: program '{self.command}' not found; install CP2K, or set ${COMMAND} to its "
                             "cp2k_shell")
        asked = subprocess.run([*self.command.split(), "--version"], capture_output=True, text=True, check=False)
        self.version = (asked.stdout.strip().splitlines() or ["CP2K"])[0].replace(" version", "").strip()
        self.notes: dict[str, str | float] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="cp2k-")
        self._key: tuple = ()

    def _close(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None and inner._shell is not None:
            inner._shell._child.kill()
            inner._shell.isready, inner._shell._child = False, None
            inner._shell = None

    def calculate(self, atoms: ase.Atoms | None = None, properties: tuple[str, ...] = ("energy",),
                  system_changes: tuple[str, ...] = tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        cell = np.asarray(self.atoms.cell)
        kpts = kpoints(cell, len(self.atoms))
        key = (cell.tobytes(), tuple(self.atoms.numbers), "stress" in properties)
        if key != self._key or self._inner is None:
            self._close()
            sampled = KPOINTS.format(*kpts) if max(kpts) > 1 else ""
            self._inner = CP2K(command=self.command, inp=INPUT.format(kpoints=sampled), xc=None,
                               cutoff=CUTOFF * Rydberg, basis_set="TZV2P-MOLOPT-GTH", pseudo_potential="GTH-PBE",
                               max_scf=80, potential_file="GTH_POTENTIALS", stress_tensor="stress" in properties,
                               print_level="SILENT", label=str(Path(self._folder.name) / "cp2k"))
            self._key = key
        try:
            self._inner.calculate(self.atoms, properties, all_changes)
        except (AssertionError, BrokenPipeError, ValueError) as fault:
            self._close()
            raise CalculationFailed(f"CP2K: {fault or 'the process ended or did not converge'}") from None
        forces = self._inner.results["forces"]
        net = forces.mean(0)
        self.results = {**self._inner.results, "forces": forces - net}
        self.notes = {"kpoints": " ".join(map(str, kpts)), "net_force": float(np.linalg.norm(net))}

    def __del__(self) -> None:
        self._close()


@cache
def cp2k() -> Cp2k:
    """The one calculator of this process."""
    return Cp2k()
