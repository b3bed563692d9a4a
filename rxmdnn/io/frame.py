"""One moment of a run, and the per-frame files: extended XYZ, PDB, the binary format of RXMD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block, in_gid_order, replacing, write_blocks
from rxmdnn.io.rxff import write_rxff
from rxmdnn.parallel import AgreedError, together
from rxmdnn.units import GPA_PER_EV_A3

MOST_SCORE = 99999.0  # the largest number in the column of scores


class Rows(NamedTuple):
    """Rows [start, start + n) of all atoms in order of gid.

    species (n,) int32; x (n, 3) Å, inside the cell; image (n, 3) int32, periods crossed since the start;
    v (n, 3) Å/fs; f (n, 3) eV/Å
    """

    start: int
    species: np.ndarray
    x: np.ndarray
    image: np.ndarray
    v: np.ndarray
    f: np.ndarray


@dataclass
class Frame:
    """One moment of a run, as the writers need it; every rank makes one, with the atoms it owns.

    Parameters
    ----------
    comm, atoms, cell
    n_global : int
    elements : tuple of str; masses : tuple of float, amu
    step : int; time : float, fs
    potential, kinetic : float, eV; temperature : float, K
    stress : (3, 3) float64, GPa, tension positive
    grid : the rank grid, for the binary format of RXMD
    healed : True if it was computed in shorter steps after a failure (rxmdnn.fidelity)
    """

    comm: MPI.Comm
    atoms: Atoms
    cell: Cell
    n_global: int
    elements: tuple[str, ...]
    masses: tuple[float, ...]
    step: int
    time: float
    potential: float
    kinetic: float
    temperature: float
    stress: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    grid: tuple[int, int, int] = (1, 1, 1)
    healed: bool = False

    @cached_property
    def rows(self) -> Rows:
        """The block of this rank of all atoms in order of gid (collective at the first use)."""
        a, n = self.atoms, self.atoms.n_owned
        turns = np.where(self.cell.pbc, np.floor(self.cell.fractional(a.x[:n])), 0.0)
        x, image = a.x[:n] - self.cell.cartesian(turns), a.image + turns.astype(np.int32)
        rows = in_gid_order(self.comm, self.n_global, a.gid[:n], [a.species[:n], x, image, a.v, a.f[:n]])
        return Rows(block(self.n_global, self.comm.size, self.comm.rank)[0], *rows)


def fixed(x: np.ndarray, decimals: int, width: int) -> np.ndarray:
    """(n,) numbers -> (n, width) bytes of text, right-aligned, with `decimals` decimals (0: no point).

    |x| 10^decimals must be below 2^63 and the text must fit the width.
    """
    scaled = np.rint(np.abs(x) * 10.0**decimals).astype(np.int64) if decimals else np.abs(x).astype(np.int64)
    signed = np.asarray(x) < 0
    text = np.full((len(scaled), width), ord(" "), np.uint8)
    at = width - 1
    for _ in range(decimals):
        scaled, digit = np.divmod(scaled, 10)
        text[:, at] = digit + ord("0")
        at -= 1
    if decimals:
        text[:, at] = ord(".")
        at -= 1
    text[:, at] = scaled % 10 + ord("0")
    scaled //= 10
    while scaled.any() or signed.any():
        at -= 1
        more = scaled > 0
        text[:, at] = np.where(more, scaled % 10 + ord("0"), np.where(signed, ord("-"), ord(" ")))
        signed &= more
        scaled //= 10
    return text


def names(species: np.ndarray, elements: tuple[str, ...], width: int) -> np.ndarray:
    """(n,) species -> (n, width) bytes of element names, left-aligned."""
    table = np.frombuffer("".join(e.ljust(width)[:width] for e in elements).encode(), np.uint8).reshape(-1, width)
    return table[species]


def columns(comm: MPI.Comm, x: np.ndarray, decimals: int) -> list[np.ndarray]:
    """(n, 3) -> three arrays of text, of one width on all ranks. Raises AgreedError if a number is too large."""
    largest = comm.allreduce(float(np.nan_to_num(np.abs(x), nan=np.inf).max(initial=0.0)), MPI.MAX)
    if not largest * 10.0**decimals < 2.0**62:
        raise AgreedError(f"the number {largest:g} is too large for a text file: the simulation has become unstable")
    width = decimals + 4 + len(str(int(largest)))
    return [fixed(x[:, k], decimals, width) for k in range(3)]


def write_text(frame: Frame, path: Path, header: str, parts: list[np.ndarray], footer: str = "") -> None:
    """Write rows of fixed width, in order of gid, between a header and a footer."""
    comm, start, n = frame.comm, frame.rows.start, len(frame.rows.species)
    table = np.concatenate([*parts, np.full((n, 1), ord("\n"), np.uint8)], axis=1)
    head = np.frombuffer(header.encode(), np.uint8)
    foot = np.frombuffer(footer.encode(), np.uint8)
    first, last = comm.rank == 0, comm.rank == comm.size - 1
    width = table.shape[1]
    with replacing(comm, path) as part:
        write_blocks(comm, part, [(0, head if first else head[:0]), (len(head) + start * width, table),
                                     (len(head) + frame.n_global * width, foot if last else foot[:0])])


def write_xyz(frame: Frame, folder: Path, name: str | None = None, note: str = "",
              scores: np.ndarray | None = None) -> Path:
    """<folder>/%09d.xyz (or another name): extended XYZ, read by ASE (energy, forces, stress) and OVITO.

    Columns: element, position (Å), ``velo`` velocity (Å/fs), forces (eV/Å), id (gid), and ``score`` where there are
    scores, (n,) of this rank's rows. A frame whose potential energy is NaN has neither energy, stress nor forces.
    note : further keys of the header, with a space at the end.
    """
    rows, comm = frame.rows, frame.comm
    note += "healed=T " if frame.healed else ""
    known = bool(np.isfinite(frame.potential))
    stress = " ".join(f"{s:.8g}" for s in (frame.stress / GPA_PER_EV_A3).ravel())
    energies = (f"energy={frame.potential:.10f} kinetic_energy={frame.kinetic:.10f} "
                f'temperature={frame.temperature:.6f} stress="{stress}" ') if known else ""
    header = (f"{frame.n_global}\n"
              f'Lattice="{" ".join(f"{h:.10f}" for h in frame.cell.h.ravel())}" '
              f"Properties=species:S:1:pos:R:3:velo:R:3{':forces:R:3' if known else ''}:id:I:1"
              f"{':score:R:1' if scores is not None else ''} "
              f'pbc="{" ".join("T" if p else "F" for p in frame.cell.pbc)}" step={frame.step} time={frame.time:.6f} '
              f'{note}{energies}units="A fs eV K" velo_unit="A/fs" time_unit="fs"\n')
    ids = np.arange(rows.start, rows.start + len(rows.species))
    parts = [names(rows.species, frame.elements, 1 + max(map(len, frame.elements))), *columns(comm, rows.x, 8),
             *columns(comm, rows.v, 10), *(columns(comm, rows.f, 8) if known else []),
             fixed(ids, 0, 2 + len(str(frame.n_global))),
             *([] if scores is None else [fixed(np.minimum(scores, MOST_SCORE), 4, 12)])]
    path = Path(folder) / (name or f"{frame.step:09d}.xyz")
    write_text(frame, path, header, parts)
    return path


def write_pdb(frame: Frame, folder: Path) -> Path:
    """<folder>/%09d.pdb: element names and positions (Å, three decimals) in the standard orientation of the cell."""
    rows, n = frame.rows, len(frame.rows.species)
    a, b, c, *angles = frame.cell.parameters
    x = frame.cell.fractional(rows.x) @ Cell.from_parameters(a, b, c, *angles).h
    with together(frame.comm):
        if np.abs(x).max(initial=0.0) >= 1000:
            raise InputError(f"isPDB: {np.abs(x).max():.0f} Å does not fit into a PDB file; use isXYZ or h5md")
    serial = (np.arange(rows.start, rows.start + n) + 1) % 100000
    label = names(rows.species, tuple(e.rjust(2) for e in frame.elements), 2)

    def text(words: str) -> np.ndarray:
        return np.broadcast_to(np.frombuffer(words.encode(), np.uint8), (n, len(words)))

    parts = [text("HETATM"), fixed(serial, 0, 5), text("  "), label, text("  MOL A   1    "),
             *(fixed(x[:, k], 3, 8) for k in range(3)), text("  1.00  0.00          "), label]
    header = (f"REMARK step {frame.step} time {frame.time:.6f} fs energy {frame.potential:.8f} eV\n"
              f"CRYST1{a:9.3f}{b:9.3f}{c:9.3f}{angles[0]:7.2f}{angles[1]:7.2f}{angles[2]:7.2f} P 1           1\n")
    path = Path(folder) / f"{frame.step:09d}.pdb"
    write_text(frame, path, header, parts, "END\n")
    return path


def write_bin(frame: Frame, folder: Path) -> Path:
    """<folder>/%09d.bin: the configuration in the format of RXMD."""
    path = Path(folder) / f"{frame.step:09d}.bin"
    write_rxff(frame.comm, path, frame.atoms, frame.cell, frame.step, frame.grid)
    return path


# Columns of io_type in the deck.
FRAME_WRITERS: dict[str, Callable[[Frame, Path], Path]] = {
    "isXYZ": write_xyz, "isPDB": write_pdb, "isBinary": write_bin}
