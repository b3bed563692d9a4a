"""``rxmdnn geninit``: rxff.bin and an extended XYZ file from a unit cell, with the options of RXMD."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mpi4py import MPI

from rxmdnn.deck.models import read_models
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_text
from rxmdnn.io.checkpoint import NAME
from rxmdnn.io.frame import Frame, write_xyz
from rxmdnn.io.ordered import writable
from rxmdnn.io.rxff import write_rxff
from rxmdnn.io.start import Start
from rxmdnn.io.structure import formula, read_structure, start_from_file
from rxmdnn.units import RXMD_TIME


def parser() -> argparse.ArgumentParser:
    """The options of RXMD, without abbreviations."""
    p = argparse.ArgumentParser("rxmdnn geninit", description="Make rxff.bin and geninit.xyz from a unit cell.",
                                allow_abbrev=False, add_help=False)
    p.add_argument("-help", "-h", "--help", action="help", help="show this page")
    p.add_argument("-inputxyz", "-i", metavar="F", default="input.xyz", help="input.xyz, or any file of atoms")
    p.add_argument("-mc", "-m", nargs=3, type=int, default=[1, 1, 1], metavar=("nx", "ny", "nz"),
                   help="number of replicas along a, b, c")
    p.add_argument("-vprocs", "-v", nargs=3, type=int, default=[1, 1, 1], metavar=("vx", "vy", "vz"),
                   help="rank grid of the file; rxmdnn reads any grid, RXMD needs that of its run")
    p.add_argument("-output", "-o", metavar="DIR", default=".", help="folder of the files")
    p.add_argument("-rxmdnn", metavar="F",
                   help="model deck; its elements, in order, are the types (default: rxmdnn.in, here or one folder up)")
    p.add_argument("-vread", action="store_true", help="use the velocities of the file")
    p.add_argument("-getreal", "-r", action="store_true", help="only convert: write real.xyz, coordinates in Å")
    p.add_argument("-getnorm", "-n", action="store_true",
                   help="only convert: read coordinates in Å, write norm.xyz, fractional")
    p.add_argument("-noCoordinateShift", "-nocs", action="store_true",
                   help="keep the origin (default: the lowest fractional coordinates become zero)")
    return p


def main(argv: Sequence[str]) -> None:
    """Make <output>/rxff.bin and <output>/geninit.xyz; or convert coordinates."""
    a = parser().parse_args(argv)
    faults = [f"geninit: {k}: expected three numbers above zero, found {' '.join(map(str, v))}"
              for k, v in (("-mc", a.mc), ("-vprocs", a.vprocs)) if min(v) < 1]
    if faults:
        raise InputError(*faults)
    check_outputs(folders=[a.output])
    folder, made = Path(a.output), "real.xyz" if a.getreal else "norm.xyz"
    if a.getreal or a.getnorm:
        elements: tuple[str, ...] = tuple(dict.fromkeys(read_structure(a.inputxyz, angstrom=a.getnorm).names.tolist()))
        masses: tuple[float, ...] = (1.0,) * len(elements)
    else:
        models = next((f for f in (a.rxmdnn, "rxmdnn.in", "../rxmdnn.in") if f and Path(f).is_file()), "rxmdnn.in")
        first = read_models(a.rxmdnn or models)[0]
        elements, masses = first.elements, first.masses
    start = start_from_file(MPI.COMM_SELF, a.inputxyz, elements, tuple(a.mc), angstrom=a.getnorm,
                            masses=None if a.getreal or a.getnorm else masses, repeat_velocities=a.vread)
    cell, n = start.cell, start.n_global
    v = start.v if a.vread and start.v is not None else np.zeros((n, 3))
    if a.vread and start.v is None:
        raise InputError(f"{a.inputxyz}: -vread: it has no velocities")
    if a.getreal or a.getnorm:
        standard = cell.standard()  # the file holds lengths and angles of the cell
        if not standard.same:
            start.x, v, start.cell = start.x @ standard.turn + standard.shift, v @ standard.turn, standard.cell
            cell = start.cell
        with writable(MPI.COMM_SELF, folder / made):
            _write_input_xyz(folder / made, start, start.x if a.getreal else cell.fractional(start.x), v)
        print(f"wrote {folder / made}: {n} atoms, {'Å' if a.getreal else 'fractional'}")
        return
    if (folder / NAME).exists():
        raise InputError(f"{folder / NAME}: a run in {folder} would continue from this checkpoint, not from the "
                         "files of geninit; use another folder, or move the checkpoint away")
    s = cell.fractional(start.x)
    start.x = cell.cartesian(s if a.noCoordinateShift else s - s.min(axis=0))
    start.v = v
    atoms = start.atoms()
    write_rxff(MPI.COMM_SELF, folder / "rxff.bin", atoms, cell, 0, tuple(a.vprocs), elements, masses)
    frame = Frame(MPI.COMM_SELF, atoms, cell, n, elements, masses, 0, 0.0, np.nan, 0.0, 0.0)
    write_xyz(frame, folder, "geninit.xyz")
    print(f"{a.inputxyz}: {n} atoms, {formula(np.bincount(start.species, minlength=len(elements)), elements)}; cell "
          + " ".join(f"{p:.5f}" for p in cell.parameters))
    print(f"wrote {folder / 'rxff.bin'} for {' x '.join(map(str, a.vprocs))} ranks, and {folder / 'geninit.xyz'}")
    for note in start.notes:
        print(f"note: {note}")
    if a.vread and tuple(a.mc) != (1, 1, 1):
        print("note: -vread: all copies have the same velocities and move alike")
    if not cell.pbc.all():
        print(f"note: {a.inputxyz} is not periodic along every axis; rxff.bin.json says so, as rxff.bin cannot: keep "
              "the two together (RXMD itself takes every axis as periodic)")


def _write_input_xyz(path: Path, start: Start, x: np.ndarray, v: np.ndarray) -> None:
    rows = [f"{start.elements[k]:<3s} " + " ".join(f"{w:17.11f}" for w in (*p, *q))
            for k, p, q in zip(start.species, x, v * RXMD_TIME)]
    head = f'{start.n_global:12d}   "{Path(start.source).name}"', " ".join(f"{p:.8f}" for p in start.cell.parameters)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join([*head, *rows]) + "\n")
