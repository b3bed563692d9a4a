"""``rxmdnn polarization RUN``: local polarization about cages, topological charge of layers, the loop P(E)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis.polarization import Cages, charge_tensors
from rxmdnn.analysis.polarization_series import LocalPolarization, local_polarization, loop_of
from rxmdnn.atoms import CHARGES
from rxmdnn.cell import Cell
from rxmdnn.commands.arguments import out_folder, tell
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.io.checkpoint import find_checkpoint, read_checkpoint
from rxmdnn.io.log import read_energies
from rxmdnn.io.series import Series, open_all
from rxmdnn.io.structure import read_charges, read_structure

ANIONS = ("O", "F", "Cl", "Br", "I", "S")
CENTERS = ("Ti", "Zr", "Hf", "Nb", "Ta", "Sn", "Mn", "Fe")  # of default cages, the first elements that are there


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("rxmdnn polarization", description="Local polarization p = (1/V_c) Σ w Z u about cages "
                                "(ABO3: a center B with 6 O and 8 A), topological charge of its layers, the loop "
                                "P(E) where a field acted.")
    p.add_argument("run", nargs=1, help="outDir of a run, a trajectory.h5md, or extended XYZ")
    p.add_argument("-o", "--out", type=Path, help="folder of the results (default: the folder of the run)")
    p.add_argument("--charges", nargs="+", default=[], metavar="EL=Q|FILE",
                   help="charges by element, or a file of atoms with columns of charges or Born tensors (default: "
                        "those of the field of the run, from its checkpoint)")
    p.add_argument("--center", nargs="+", metavar="EL",
                   help=f"elements of the centers (default: those of {' '.join(CENTERS)} that are there)")
    p.add_argument("--cage", action="append", default=[], metavar="EL[,EL]=N",
                   help="the N nearest neighbors of these elements (default: 6 anions, and 8 of the other elements)")
    p.add_argument("--reference", type=Path, metavar="FILE",
                   help="structure of zero polarization, with the same atoms in the same order (default: every cage is "
                        "symmetric about its center)")
    p.add_argument("--normal", choices=tuple("abc"), default="c", help="cell vector across the layers")
    p.add_argument("--frames", type=int, default=200, help="largest number of frames")
    p.add_argument("--start", type=float, metavar="PS", help="skip frames before this time, ps")
    p.add_argument("--stop", type=float, metavar="PS", help="skip frames after this time, ps")
    p.add_argument("--json", metavar="F", type=Path, help="also write the numbers to this file")
    return p


def main(argv: Sequence[str]) -> None:
    """Write polarization.h5, .csv, .xyz and figures; print the numbers."""
    a = parser().parse_args(argv)
    if a.frames < 1:
        raise InputError("polarization: --frames: must be above zero")
    folder, run = out_folder(a), Path(a.run[0])
    check_outputs(a.json, folders=[folder])
    (series,) = open_all(a.run, a.start, a.stop)
    local = analyze(series, run, a)
    energies = read_energies(run) if (run / "energies.csv").is_file() else {}
    loop = loop_of(energies, local)
    numbers = local.numbers() | (loop.numbers() if loop is not None else {})
    from rxmdnn.analysis.polarization_figures import draw

    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        made = [*local.write(folder), *draw(folder, local, loop)]
        if a.json:
            made.append(write_json(a.json, numbers | {"notes": local.notes}))
    tell(numbers, local.notes, made)


def analyze(series: Series, run: Path, a: argparse.Namespace) -> LocalPolarization:
    """The local polarization of the frames that the arguments choose."""
    z = charges(series, run, a.charges)
    rows = np.unique(np.linspace(0, len(series.time) - 1, min(a.frames, len(series.time))).astype(int))
    cell, x, reference = series.cell(0), series.read("x", [0])[0], None
    if a.reference is not None:
        cell, x = _reference(series, a.reference)
        reference = x @ cell.inverse
    centers, shells = rule(series.names, a.center, a.cage)
    cages = Cages.of(series.names, x, cell, centers, shells)
    return local_polarization(series, cages, z, rows, "abc".index(a.normal), reference)


def _reference(series: Series, path: Path) -> tuple[Cell, np.ndarray]:
    found = read_structure(path)
    if not np.array_equal(found.names, series.names):
        raise InputError(f"{path}: {len(found.names)} atoms, which are not those of {series.path} in the same order")
    return found.cell, found.x


def rule(names: np.ndarray, center: Sequence[str] | None, cage: Sequence[str]
         ) -> tuple[list[str], list[tuple[list[str], int]]]:
    """Elements of the centers, and (elements, number) of each shell. Raises InputError."""
    present = list(map(str, np.unique(names)))
    centers = list(center) if center else [e for e in CENTERS if e in present]
    if not centers:
        raise InputError(f"polarization: --center: name the elements of the centers, of {' '.join(present)}")
    if cage:
        shells = []
        for text in cage:
            elements, _, number = text.partition("=")
            if not number.isdigit() or int(number) < 1:
                raise InputError(f"polarization: --cage {text}: write for example --cage O=6 --cage Pb,Sr=8")
            shells.append((elements.split(","), int(number)))
        return centers, shells
    anions = [e for e in present if e in ANIONS and e not in centers]
    others = [e for e in present if e not in centers and e not in anions]
    if not anions or not others:
        raise InputError("polarization: --cage: not a perovskite ABO3; write for example --cage O=6 --cage Pb,Sr=8")
    return centers, [(anions, 6), (others, 8)]


def charges(series: Series, run: Path, given: Sequence[str]) -> np.ndarray:
    """(atoms, 3, 3) charges, e: those given, or those of the field of the run. Raises InputError."""
    names = series.names
    if not given:
        return _of_run(names, run)
    if len(given) == 1 and "=" not in given[0]:
        q = read_charges(given[0])
        if len(names) % len(q):
            raise InputError(f"{given[0]}: charges of {len(q)} atoms, and the run has {len(names)}")
        return _tensors(np.tile(q, (len(names) // len(q), *[1] * (q.ndim - 1))))
    table = {}
    for text in given:
        name, _, value = text.partition("=")
        try:
            table[name] = float(value) * np.eye(3)
        except ValueError:
            raise InputError(f"polarization: --charges {text}: write <element>=<charge>, or one file") from None
    return charge_tensors(names, table)


def _tensors(q: np.ndarray) -> np.ndarray:
    return q.reshape(-1, 3, 3) if q.ndim == 2 else q[:, None, None] * np.eye(3)


def _of_run(names: np.ndarray, run: Path) -> np.ndarray:
    """The charges that the checkpoint of a run holds."""
    folder = run if run.is_dir() else run.parent
    path = find_checkpoint(folder)
    if path is None:
        raise InputError(f"{folder}: no checkpoint that holds charges; write --charges <element>=<charge> ...")
    saved = read_checkpoint(MPI.COMM_SELF, path)
    order = np.argsort(saved.gid)
    if len(order) != len(names):
        raise InputError(f"{path}: {len(order)} atoms, and the trajectory has {len(names)}; write --charges")
    if CHARGES in saved.extra:
        return _tensors(saved.extra[CHARGES][order])
    table = saved.state.get("drives", {}).get("field", {}).get("table")
    if table is None:
        raise InputError(f"{path}: its run had no charges; write --charges <element>=<charge> ...")
    return table[saved.species[order]]
