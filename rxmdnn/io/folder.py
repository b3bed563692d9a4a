"""The folder of a run: only one command writes to it at a time; files of an earlier run are moved to a subfolder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.locks import LOCK, held
from rxmdnn.parallel import AgreedError, on_root

OURS = re.compile(  # files of a run and of its analysis; all other files belong to the user
    r"run\.log|energies\.(csv|png)|temperature\.png|trajectory\.(h5md|h5|xyz)|(checkpoint|observe)(\.prev)?\.h5"
    r"|rxff\.bin(\.json)?|stages\.jsonl|\d{9}\.(xyz|pdb|bin)"
    r"|ring_(polymer|kinetic_tensor|heat_capacity|(isotope|momentum)_[A-Z][a-z]?)\.csv"
    r"|(end_to_end|momentum)_[A-Z][a-z]?\.(csv|png)"
    r"|profile\.(h5|png)|electrons\.png|bead_\d+\.h5(md)?|incidents\.(jsonl|xyz)|gr_observed\.csv|(spectra|structure)\.h5|gr\.(csv|png)"
    r"|(bands|vdos|vacf|neutron|static|bragg|bragg_time|bond_length|bond_angle|hydrogen_bonds|msd|displacements|compare)\.(csv|png)"
    r"|(radial|bonds|dynamic|hysteresis|polarization_map|delays_(pair|peaks|line_\S+|plane_\S+))\.png"
    r"|centroid_pairs\.xyz|polarization\.(csv|h5|xyz|png)|topological_charge\.csv|delays\.h5"
    r"|delays_(reflections|intensity|bragg|diffuse|debye_waller|displacements|powder|(temperature|excitation)(_slabs)?)"
    r"\.(csv|png)")
FRAME = re.compile(r"\d{9}\.(xyz|pdb|bin)")


@contextmanager
def locked(comm: MPI.Comm, folder: Path, what: str = "run", other: str = "outDir") -> Iterator[None]:
    """A block in which no other command writes to the folder; the lock ends with the process, however that ends.

    what : the command, for messages; other : the word of the deck that names another folder
    Raises InputError, on all ranks, where another one writes to it.
    """
    with ExitStack() as stack:
        on_root(comm, lambda: stack.enter_context(held(
            folder / LOCK, f"{folder}: another {what} writes to this folder; wait for its end, or use another "
                           f"{other}")))
        try:
            yield
        except AgreedError:  # of all ranks: none goes on while the first still removes the lock and an empty folder
            stack.close()
            comm.Barrier()
            raise


def holds_a_run(folder: Path) -> bool:
    """Whether a run or an analysis has written files there."""
    return folder.is_dir() and any(OURS.fullmatch(file.name) for file in folder.iterdir())


def numbered_frames(folder: Path, suffix: str = "xyz") -> list[Path]:
    """The files of single frames that a run wrote there, <step>.<suffix>, in the order of their steps."""
    return sorted((f for f in folder.glob(f"*.{suffix}") if f.stem.isdigit()), key=lambda f: int(f.stem))


def set_aside(folder: Path, source: str) -> str:
    """Move the files of an earlier run to <folder>/old.N, so that a new run neither loses nor mixes them.

    source : the file from which the new run starts, which stays. Returns a message for the user, or an empty string.
    Raises InputError where that is a numbered frame in the folder.
    """
    start = Path(source).resolve()
    if start.parent == folder.resolve() and FRAME.fullmatch(start.name):
        raise InputError(f"{source}: a frame of the run in this folder, and the new run would overwrite it; copy it to "
                         "another folder, or use another outDir")
    stay = (start, start.with_name(start.name + ".json"))  # an rxff.bin has a side file
    left = [f for f in folder.glob("*") if OURS.fullmatch(f.name) and f.resolve() not in stay]
    return f"{len(left)} file(s) of an earlier run were moved to {move_away(folder, left)}" if left else ""


def set_aside_after(folder: Path, step: int, rewritten: Callable[[int, str], bool]) -> str:
    """Move frames after a step, of an attempt that a run replaces, to <folder>/old.N; a message, or an empty string.

    rewritten : (step, suffix) of a frame -> whether the run will write it again
    """
    frames = [f for f in folder.glob("*") if FRAME.fullmatch(f.name) and int(f.stem) > step]
    left = [f for f in frames if not rewritten(int(f.stem), f.suffix[1:])]
    if not left:
        return ""
    return f"{len(left)} frame(s) after step {step}, of another attempt, were moved to {move_away(folder, left)}"


def move_away(folder: Path, left: list[Path]) -> Path:
    """Move files to the next <folder>/old.N, which is returned."""
    number = 1 + max((int(f.suffix[1:]) for f in folder.glob("old.*") if f.suffix[1:].isdigit()), default=0)
    (folder / f"old.{number}").mkdir()
    for file in left:
        shutil.move(file, folder / f"old.{number}" / file.name)
    return folder / f"old.{number}"
