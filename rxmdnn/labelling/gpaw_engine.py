"""Density-functional labels by GPAW in plane waves: revPBE-D3(BJ), or what ``gpaw:...`` names (gpaw_settings.py).

GPAW runs in a separate Python, ``$RXMDNN_GPAW_PYTHON``, and communicates through a pipe (``gpaw_worker.py``).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from rxmdnn.errors import InputError
from rxmdnn.files import atomic, writing
from rxmdnn.labelling.gpaw_settings import CUTOFF, REACH, Settings

PYTHON = "RXMDNN_GPAW_PYTHON"
REVPBE_D3 = Settings()
SETTINGS = (f"revPBE, D3(BJ) pairs, PAW setups 0.9.20000, plane waves {CUTOFF:.0f} eV, Monkhorst-Pack k-points 1 "
            f"(axes from {REACH} Angstrom, molecules in a box) or 2 (other axes), Fermi-Dirac 0.1 eV, free energy, "
            "mean force subtracted")


class Gpaw(Calculator):
    """ASE calculator with its own GPAW process, which is restarted if it dies.

    The energy is the free energy of the electrons (Mermin, Phys. Rev. 137, A1441 (1965)); the forces are its gradient.
    """

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's type)

    def __init__(self, settings: Settings = REVPBE_D3) -> None:
        super().__init__()
        self.settings = settings
        self.notes: dict[str, str | float] = {}
        self.worker: subprocess.Popen[str] | None = None
        self._start()

    def _start(self) -> None:
        python = os.environ.get(PYTHON)
        if not python:
            raise InputError(f"${PYTHON} is not set; set it to a Python that has {self._packages()}")
        self.worker = subprocess.Popen([python, str(Path(__file__).with_name("gpaw_worker.py")),
                                        *(["dftd3"] if self.settings.dispersion else [])], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.worker.stdout
        first_line = self.worker.stdout.readline()
        if not first_line:
            raise InputError(f"${PYTHON}={python} cannot import {self._packages()}; its message is above")
        self.version = json.loads(first_line)["version"]

    def _packages(self) -> str:
        return "gpaw and dftd3" if self.settings.dispersion else "gpaw"

    def calculate(self, atoms: ase.Atoms | None = None, properties: tuple[str, ...] = ("energy",),
                  system_changes: tuple[str, ...] = tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.worker and self.worker.stdin and self.worker.stdout
        cell = np.asarray(self.atoms.cell)
        kpts = self.settings.kpoints(cell, len(self.atoms))
        request = {"numbers": self.atoms.numbers.tolist(), "positions": self.atoms.positions.tolist(),
                   "cell": cell.tolist(), "kpts": kpts, "stress": "stress" in properties, **self.settings.request()}
        try:
            self.worker.stdin.write(json.dumps(request) + "\n")
            self.worker.stdin.flush()
            reply = json.loads(self.worker.stdout.readline() or "{}")
        except BrokenPipeError:
            reply = {}
        if "energy" not in reply:
            fault = reply.get("error", "the process ended")
            print(f"GPAW: {fault}", file=sys.stderr)
            if not reply:
                self.worker.kill()
                self.worker.wait()
                self._start()
            raise CalculationFailed(fault)
        self.results = {"energy": reply["energy"], "forces": np.array(reply["forces"])}
        if reply["stress"]:
            self.results["stress"] = np.array(reply["stress"])
        self.notes = {"kpoints": " ".join(map(str, kpts)), "net_force": reply["net_force"],
                      "iterations": reply["iterations"]}
        if reply.get("bands"):
            self.notes["bands"] = reply["bands"]

    def __del__(self) -> None:
        if self.worker and self.worker.stdin:
            self.worker.stdin.close()  # the end of its input ends the process
            self.worker.wait()


@cache
def gpaw(settings: Settings = REVPBE_D3) -> Gpaw:
    """The one calculator of these settings in this process; its GPAW keeps the densities of the last cells."""
    return Gpaw(settings)


def convergence(path: Path, frame: ase.Atoms, settings: Settings = REVPBE_D3) -> None:
    """Write energy and forces of a frame against cutoff and k-points as CSV; the second row is the reference."""
    rows = []
    cutoff, reach = settings.cutoff, settings.reach
    for ratio, length in ((6 / 7, reach), (1, reach), (1, 1.0), (1, 1.5 * reach), (9 / 7, reach)):
        atoms = frame.copy()
        tried = replace(settings, cutoff=round(ratio * cutoff, 6), reach=length)
        atoms.calc = Gpaw(tried)
        rows.append((tried.cutoff, tried.kpoints(np.asarray(atoms.cell), len(atoms)), atoms.get_potential_energy(),
                     atoms.get_forces(), atoms.calc.notes["net_force"]))
    with writing(path), atomic(path) as new, new.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["frame", "cutoff_eV", "kpoints", "energy_eV", "force_rms_difference_eV_per_A",
                        "force_max_difference_eV_per_A", "net_force_eV_per_A"])
        for cutoff, kpts, energy, forces, net in rows:
            d = forces - rows[1][3]
            table.writerow([frame.info.get("group", ""), cutoff, " ".join(map(str, kpts)), f"{energy:.5f}",
                            f"{np.sqrt((d**2).mean()):.5f}", f"{abs(d).max():.5f}", f"{net:.5f}"])
