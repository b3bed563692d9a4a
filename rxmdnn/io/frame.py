"""One moment of a run, and its texts: extended XYZ, PDB; and the binary format of RXMD."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import EXCITATION, Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block, in_gid_order, replacing, write_blocks
from rxmdnn.io.rxff import SHARED, Types, write_rxff, write_types
from rxmdnn.isotopes import element_of
from rxmdnn.parallel import AgreedError, together
from rxmdnn.units import ACCELERATION, GPA_PER_EV_A3

MODEL = "model_"  # what a model says of a frame, under names that no reader takes for labels (rxmdnn.io.labels)
MODEL_ENERGY, MODEL_FORCES, MODEL_VIRIAL = MODEL + "energy", MODEL + "forces", MODEL + "virial"
ASE_TIME = ACCELERATION**-0.5  # fs: the unit of time of ASE, Å sqrt(amu/eV)
SHOWN = (EXCITATION,)  # rows of Atoms.extra, one number from 0 to 1 per atom, that frames show where there are some
MOST_SCORE = 99999.0  # the largest number in the column of scores


class Rows(NamedTuple):
    """Rows [start, start + n) of all atoms in order of gid.

    species (n,) int32; x (n, 3) Å, inside the cell; image (n, 3) int32, periods crossed since the start;
    v (n, 3) Å/fs; f (n, 3) eV/Å; shown {name of SHOWN: (n,)}
    """

    start: int
    species: np.ndarray
    x: np.ndarray
    image: np.ndarray
    v: np.ndarray
    f: np.ndarray
    shown: dict[str, np.ndarray]


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
    stress : (3, 3) float64, GPa, tension positive, with the part of the motion
    grid : the rank grid, for the binary format of RXMD
    healed : True if it was computed in shorter steps after a failure (rxmdnn.fidelity)
    virial : (3, 3) float64, eV, of the potential alone, -Σ r ⊗ dE/dr; None where it is not known
    motion : what moves the atoms, in the words of rxmdnn.io.motion
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
    virial: np.ndarray | None = None
    motion: dict[str, str] = field(default_factory=dict)

    @cached_property
    def rows(self) -> Rows:
        """The block of this rank of all atoms in order of gid (collective at the first use)."""
        a, n = self.atoms, self.atoms.n_owned
        turns = np.where(self.cell.pbc, np.floor(self.cell.fractional(a.x[:n])), 0.0)
        x, image = a.x[:n] - self.cell.cartesian(turns), a.image + turns.astype(np.int32)
        shown = [name for name in SHOWN if name in a.extra]
        species, x, image, v, f, *more = in_gid_order(
            self.comm, self.n_global, a.gid[:n],
            [a.species[:n], x, image, a.v, a.f[:n], *(a.extra[name] for name in shown)])
        start = block(self.n_global, self.comm.size, self.comm.rank)[0]
        return Rows(start, species, x, image, v, f, dict(zip(shown, more)))


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


def text_blocks(frame: Frame, parts: list[np.ndarray], offset: int) -> tuple[list[tuple[int, np.ndarray]], int]:
    """Blocks of this rank's rows, of fixed width and in order of gid, after `offset`; and the offset of their end."""
    start, n = frame.rows.start, len(frame.rows.species)
    table = np.concatenate([*parts, np.full((n, 1), ord("\n"), np.uint8)], axis=1)
    width = table.shape[1]
    return [(offset + start * width, table)], offset + frame.n_global * width


def write_text(frame: Frame, path: Path, header: str, parts: list[np.ndarray], footer: str = "") -> None:
    """Write rows of fixed width, in order of gid, between a header and a footer."""
    comm = frame.comm
    head = np.frombuffer(header.encode(), np.uint8)
    foot = np.frombuffer(footer.encode(), np.uint8)
    first, last = comm.rank == 0, comm.rank == comm.size - 1
    blocks, end = text_blocks(frame, parts, len(head))
    with replacing(comm, path) as part:
        write_blocks(comm, part, [(0, head if first else head[:0]), *blocks, (end, foot if last else foot[:0])])


def write_xyz(frame: Frame, folder: Path, name: str | None = None, note: str = "",
              scores: np.ndarray | None = None) -> Path:
    """<folder>/%09d.xyz (or another name): extended XYZ, read by ASE and OVITO with positions, velocities and ids.

    note, scores : as of ``xyz_parts``
    """
    header, parts = xyz_parts(frame, note, scores)
    path = Path(folder) / (name or f"{frame.step:09d}.xyz")
    write_text(frame, path, header, parts)
    return path


def xyz_parts(frame: Frame, note: str = "", scores: np.ndarray | None = None) -> tuple[str, list[np.ndarray]]:
    """The two lines above the atoms, and columns of text of this rank's rows (collective).

    Columns: element, position (Å), ``velo`` velocity (Å/fs; OVITO), ``momenta`` (amu Å per unit of time of ASE),
    ``masses`` (amu; D is an H of its mass, as ASE knows elements only), ``model_forces`` (eV/Å), id (gid), those of
    SHOWN, and ``score`` where there are scores, (n,) of this rank's rows. A frame whose potential energy is NaN has
    nothing of the model: model_energy (eV), model_virial (eV, of the potential), total_stress (eV/Å^3, with motion).
    note : further keys of the header, with a space at the end.
    """
    rows, comm = frame.rows, frame.comm
    note += "healed=T " if frame.healed else ""
    note += "".join(f'{key}="{word}" ' for key, word in frame.motion.items())
    known = bool(np.isfinite(frame.potential))
    columns_of = ("species:S:1:pos:R:3:velo:R:3:momenta:R:3:masses:R:1"
                  f"{f':{MODEL_FORCES}:R:3' if known else ''}:id:I:1{''.join(f':{name}:R:1' for name in rows.shown)}"
                  f"{':score:R:1' if scores is not None else ''}")
    header = (f"{frame.n_global}\n"
              f'Lattice="{" ".join(f"{h:.10f}" for h in frame.cell.h.ravel())}" Properties={columns_of} '
              f'pbc="{" ".join("T" if p else "F" for p in frame.cell.pbc)}" step={frame.step} time={frame.time:.6f} '
              f'{note}{_of_model(frame) if known else ""}units="A fs eV K" velo_unit="A/fs" time_unit="fs"\n')
    elements = tuple(map(element_of, frame.elements))
    mass = np.array(frame.masses)
    ids = np.arange(rows.start, rows.start + len(rows.species))
    parts = [names(rows.species, elements, 1 + max(map(len, elements))), *columns(comm, rows.x, 8),
             *columns(comm, rows.v, 10), *columns(comm, rows.v * (mass * ASE_TIME)[rows.species, None], 9),
             _masses(frame.masses)[rows.species], *(columns(comm, rows.f, 8) if known else []),
             fixed(ids, 0, 2 + len(str(frame.n_global))), *(fixed(w, 6, 9) for w in rows.shown.values()),
             *([] if scores is None else [fixed(np.minimum(scores, MOST_SCORE), 4, 12)])]
    return header, parts


def _of_model(frame: Frame) -> str:
    """Keys of the header: energies, temperature, virial of the potential, stress with the motion."""
    stress = " ".join(f"{s:.8g}" for s in (frame.stress / GPA_PER_EV_A3).ravel())
    virial = "" if frame.virial is None else (
        f'{MODEL_VIRIAL}="{" ".join(f"{w:.10g}" for w in frame.virial.ravel())}" ')
    return (f"{MODEL_ENERGY}={frame.potential:.10f} kinetic_energy={frame.kinetic:.10f} "
            f'temperature={frame.temperature:.6f} {virial}total_stress="{stress}" ')


def _masses(masses: tuple[float, ...]) -> np.ndarray:
    """(elements, width) bytes: the masses as text, with all their digits."""
    text = [f" {m:.10g}" for m in masses]
    width = max(map(len, text))
    return np.frombuffer("".join(t.rjust(width) for t in text).encode(), np.uint8).reshape(-1, width)


def small_frame(symbols: Iterable[str], x: np.ndarray, cell: Cell, columns: Mapping[str, tuple[np.ndarray, str]],
                info: Mapping[str, Any]) -> str:
    """One frame in extended XYZ, on one rank, with positions to 1e-6 Å.

    symbols (n,); x (n, 3) Å; columns : {name: (values, (n,) or (n, k), and their format)}; info : keys of the header
    """
    def value(v: Any) -> str:
        return f'"{v}"' if isinstance(v, str) else f"{v:.7f}" if abs(v) > 1000 else f"{v:.10g}"

    tables = {"pos": (x, ".6f"), **columns}
    wide = {name: np.asarray(values).reshape(len(x), -1) for name, (values, _) in tables.items()}
    properties = "".join(f":{name}:R:{array.shape[1]}" for name, array in wide.items())
    head = (f'Lattice="{" ".join(f"{h:.8g}" for h in cell.h.ravel())}" Properties=species:S:1{properties} '
            f'pbc="{" ".join("T" if p else "F" for p in cell.pbc)}" '
            + " ".join(f"{k}={value(v)}" for k, v in info.items()))
    digits = [digit for name, array in wide.items() for digit in [tables[name][1]] * array.shape[1]]
    rows = [" ".join([str(s), *(format(number, digit) for number, digit in zip(row, digits))])
            for s, row in zip(symbols, np.concatenate([*wide.values()], axis=1))]
    return "\n".join([str(len(x)), head, *rows]) + "\n"


def model_frame(symbols: np.ndarray, masses: Sequence[float], x: np.ndarray, f: np.ndarray, cell: Cell,
                info: dict[str, Any]) -> str:
    """As ``small_frame``, with masses, amu, and forces of a model, (n, 3), to 1e-5 eV/Å. D is an H of its mass."""
    return small_frame([element_of(str(s)) for s in symbols], x, cell,
                       {"masses": (np.asarray(masses), ".8g"), MODEL_FORCES: (f, ".5f")}, info)


def write_pdb(frame: Frame, folder: Path) -> Path:
    """<folder>/%09d.pdb: element names and positions (Å, three decimals) in the standard orientation of the cell."""
    rows, n, standard = frame.rows, len(frame.rows.species), frame.cell.standard()
    a, b, c, *angles = standard.cell.parameters
    x = rows.x @ standard.turn + standard.shift
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
    """<folder>/%09d.bin: the configuration in the format of RXMD; one side file names the types of all of them."""
    path = Path(folder) / f"{frame.step:09d}.bin"
    write_rxff(frame.comm, path, frame.atoms, frame.cell, frame.step, frame.grid)
    write_types(frame.comm, path.with_name(SHARED), Types(
        frame.elements, frame.masses, tuple(map(bool, frame.cell.pbc)),
        frame.n_global))
    return path


# Columns of io_type in the deck.
FRAME_WRITERS: dict[str, Callable[[Frame, Path], Path]] = {
    "isXYZ": write_xyz, "isPDB": write_pdb, "isBinary": write_bin}
