"""The run log: on standard output and in <outDir>/run.log; as a table in <outDir>/energies.csv."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.files import Lines
from rxmdnn.io.ordered import writable
from rxmdnn.schema import Item, columns_of, read_csv, read_text
from rxmdnn.units import EV_PER_KCAL_MOL

COLUMNS = ("step", "time_fs", "etotal_eV", "kinetic_eV", "potential_eV", "temperature_K", "pressure_GPa",
           *(f"stress_{c}_GPa" for c in ("xx", "yy", "zz", "yz", "zx", "xy")), "spread_energy_eV", "spread_force_eV_A",
           "seconds")
SETTLED = Item("float", low=-1e30, high=1e30)
ENSEMBLE_COLUMNS = ("volume_A3", "conserved_eV")  # of a run with an ensemble line
WORK, EV = "work_", "_eV"  # beginning and end of the names of columns of works
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (2, 0), (0, 1))
ENERGY = {"ev": ("eV", 1.0), "kcal": ("kcal/mol", 1.0 / EV_PER_KCAL_MOL)}


class SupportsWrite(Protocol):
    """A stream for ``print``."""

    def write(self, text: str, /) -> Any: ...

    def flush(self) -> Any: ...


def row_of(thermo: Any) -> dict[str, float]:
    """All columns of energies.csv of one step. thermo : as of Log.thermo"""
    t = thermo
    stress = [t.stress[i, j] for i, j in VOIGT]
    row = [t.step, t.time, t.total, t.kinetic, t.potential, t.temperature, t.pressure, *stress,
           *(t.spread or (float("nan"), float("nan"))), t.seconds, t.volume, t.conserved]
    return {**dict(zip(COLUMNS + ENSEMBLE_COLUMNS, row, strict=True)), **t.driven}


class Log:
    """The log of a run; every rank calls, rank 0 writes.

    Parameters
    ----------
    comm : MPI communicator
    folder : outDir, made if it does not exist
    units : "ev" or "kcal": energies of the lines; energies.csv is always in eV
    restart : int, optional
        The step from which a restarted run continues: run.log is appended to, later rows of energies.csv are dropped.
    echo : a second stream for the lines (default: standard output)
    ensemble : also write volume and conserved quantity
    driven : names of the columns of what acts from outside (rxmdnn.dynamics.drive)
    shown : those of them that the log shows: works, "work_<name>_eV", and others
    """

    def __init__(self, comm: MPI.Comm, folder: str | Path, units: str = "ev", restart: int | None = None,
                 echo: SupportsWrite | None = None, ensemble: bool = False,
                 driven: Sequence[str] = (), shown: Sequence[str] = ()) -> None:
        self.comm, self.folder = comm, Path(folder)
        self.unit, self.factor = ENERGY[units]
        self.echo: SupportsWrite = sys.stdout if echo is None else echo
        self.told = COLUMNS + (ENSEMBLE_COLUMNS if ensemble else ()) + tuple(driven)
        self.columns, self.shown = self.told, tuple(shown)
        self.ensemble = ensemble
        self.text: Lines | None = None
        self.rows: Lines | None = None

        def begin() -> None:
            self.folder.mkdir(parents=True, exist_ok=True)
            csv = self.folder / "energies.csv"
            kept: list[str] = []
            if restart is not None and csv.exists():
                self.columns, kept = _rows_until(csv, restart, self.columns)
            self.text = Lines(self.folder / "run.log", "" if restart is None else None)
            self._begin_rows(csv, kept)

        self._on_root(begin)

    def _begin_rows(self, csv: Path, kept: Sequence[str]) -> None:
        self.rows = Lines(csv, "\n".join([",".join(self.columns), *kept]) + "\n")

    def rewind(self, step: int) -> None:
        """Return to an earlier step: later rows of energies.csv are dropped; run.log keeps its lines."""
        def act() -> None:
            assert self.rows
            self.rows.close()
            csv = self.folder / "energies.csv"
            self.columns, kept = _rows_until(csv, step, self.columns)
            self._begin_rows(csv, kept)

        self._on_root(act)

    def _on_root(self, act: Callable[[], None]) -> None:
        with writable(self.comm, self.folder / "run.log"):
            if self.comm.rank == 0:
                act()

    def write(self, *lines: str) -> None:
        """Write lines of text to run.log and to `echo`."""
        self._on_root(lambda: self._put(lines))

    def thermo(self, thermo: Any) -> None:
        """Write one log line and one row of energies.csv.

        thermo : with step, time (fs), total, kinetic, potential (eV), temperature (K), pressure (GPa), stress (3, 3)
        (GPa), spread (energy eV, force eV/Å, or None), seconds, volume (Å^3), conserved (eV), driven (dict)
        """
        t, u = thermo, self.unit
        stress = [t.stress[i, j] for i, j in VOIGT]
        e = [x * self.factor for x in (t.total, t.kinetic, t.potential)]
        line = (f"MDstep,Etotal({u}),KE({u}),PE({u}),T(K),time(s): {t.step:9d} {e[0]:18.6f} {e[1]:16.6f} {e[2]:18.6f} "
                f"{t.temperature:10.3f} {t.seconds:9.3f}")
        lines = [line, "stress(GPa): " + " ".join(f"{s:12.5f}" for s in stress)]
        if t.spread is not None:
            lines.append(f"spread of models: energy({u}) {t.spread[0] * self.factor:.6f} "
                         f"force({u}/A) {t.spread[1] * self.factor:.6f}")
        if self.ensemble:
            lines.append(f"conserved({u}): {t.conserved * self.factor:18.6f}  pressure(GPa): {t.pressure:12.5f}  "
                         f"volume(A^3): {t.volume:16.5f}")
        if self.shown:
            lines.append(self._driven(t.driven))
        known = row_of(t)
        values = [known[name] if name in self.told else float("nan") for name in self.columns]

        self._on_root(lambda: self._put(lines, ",".join(str(x) if isinstance(x, int) else f"{x:.17g}" for x in values)))

    def _driven(self, values: Mapping[str, float]) -> str:
        """One line: works in the unit of the log, and the other columns that it shows by their names."""
        works = [f"{name[len(WORK):-len(EV)]} {values[name] * self.factor:.6f}"
                 for name in self.shown if name.startswith(WORK)]
        return "  ".join([f"work({self.unit}):", *works,
                          *(f"{name} {values[name]:.6g}" for name in self.shown if not name.startswith(WORK))])

    def _put(self, lines: Sequence[str], row: str = "") -> None:
        assert self.text and self.rows
        for line in lines:
            print(line, file=self.echo, flush=True)
        self.text.add("".join(line + "\n" for line in lines))
        if row:
            self.rows.add(row + "\n")

    def close(self) -> None:
        """Close run.log and energies.csv."""
        for file in (self.text, self.rows):
            if file:
                file.close()


def _rows_until(path: Path, step: int, columns: tuple[str, ...]) -> tuple[tuple[str, ...], list[str]]:
    """The columns of the file with the missing ones added, and its rows up to a step, "nan" in new columns."""
    lines = read_text(path, "the energies of a run", "move it away").splitlines()
    old = tuple(lines[0].split(",")) if lines else ()
    if old[: len(COLUMNS)] != COLUMNS:
        return columns, []
    new = tuple(name for name in columns if name not in old)
    kept = []
    for line in lines[1:]:
        first = line.split(",")[0]
        if line.count(",") == len(old) - 1 and first.isdigit() and int(first) <= step:
            kept.append(",".join([line, *("nan" for _ in new)]))
    return old + new, kept


def read_energies(folder: str | Path, needed: Sequence[str] = ("step", "time_fs")) -> dict[str, np.ndarray]:
    """Columns of <folder>/energies.csv by name. Raises InputError.

    needed : columns that must be there, with a number in every row
    """
    path = Path(folder) / "energies.csv"
    names, rows = read_csv(path, "the energies of a run", advice="is its folder the outDir of a run?")
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"{path}: columns: {', '.join(missing)} missing")
    if not rows:
        return {}
    table = columns_of(path, rows, {name: SETTLED if name in needed else Item("float", finite=False) for name in names})
    if (back := np.flatnonzero(np.diff(table["step"]) < 0)).size:
        raise InputError(f"{path}:{back[0] + 3}: step: the steps go backwards; remove the rows of another run")
    return table
