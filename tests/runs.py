"""What tests of whole runs share: a folder with a start that all ranks see, decks that run, and the death of a run."""

import shutil
from contextlib import contextmanager

import pytest
from mpi4py import MPI

from rxmdnn.commands import run as run_command
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.io.checkpoint import read_checkpoint
from tests.systems import TRICLINIC, spread_atoms

MODELS = "lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n"


def write_start(place, pbc="T T T", elements=("Ne", "Ar")):
    """start.xyz: 40 atoms in a triclinic cell, the elements in turn."""
    names = [elements[i % len(elements)] for i in range(40)]
    rows = "".join(f"{e} {a:.9f} {b:.9f} {c:.9f}\n" for e, (a, b, c) in zip(names, spread_atoms(TRICLINIC, 40, 2.9)))
    lattice = " ".join(map(str, TRICLINIC.h.ravel()))
    (place / "start.xyz").write_text(f'40\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="{pbc}"\n{rows}')


@contextmanager
def shared_folder(comm: MPI.Comm, tmp_path_factory, models=MODELS, elements=("Ne", "Ar")):
    """One folder for all ranks, with a start and a model deck; gone afterwards."""
    place = comm.bcast(tmp_path_factory.mktemp("run") if comm.rank == 0 else None)
    if comm.rank == 0:
        write_start(place, elements=elements)
        (place / "rxmdnn.in").write_text(models)
    comm.Barrier()
    yield place
    comm.Barrier()
    if comm.rank == 0:
        shutil.rmtree(place)


def write(comm: MPI.Comm, path, text):
    """Rank 0 writes a file, which all ranks then see."""
    if comm.rank == 0:
        path.write_text(text)
    comm.Barrier()


def run_deck(comm: MPI.Comm, deck, out, *flags):
    """The exit code of ``rxmdnn run`` of a deck into the folder ``out``, and the folder."""
    code = run_command.main(["--rxmdin", str(deck), "--outDir", str(out), *flags], comm)
    comm.Barrier()
    return code, out


def run_text(comm: MPI.Comm, folder, out, text, *flags):
    """As ``run_deck``, of the deck ``text``, which is written to ``folder/<out>.in``."""
    write(comm, folder / f"{out}.in", text)
    return run_deck(comm, folder / f"{out}.in", folder / out, *flags)


def state(out):
    """What the checkpoint of a run holds."""
    return read_checkpoint(MPI.COMM_SELF, out / "checkpoint.h5")


def same_atoms(out, other, columns=("gid", "x", "v", "f", "image"), extra=()):
    """The checkpoints of two runs, whose atoms and cells must be the same to the bit. extra : columns of atoms.extra"""
    a, b = state(out), state(other)
    assert a.step == b.step
    for column in columns:
        assert getattr(a, column).tobytes() == getattr(b, column).tobytes(), column
    for column in extra:
        assert a.extra[column].tobytes() == b.extra[column].tobytes(), column
    assert a.cell.h.tobytes() == b.cell.h.tobytes()
    return a, b


def steps(simulation, look=lambda: None, restarted=False):
    """Take all steps; the Thermo of each that was printed. look : called after each step"""
    rows = []
    simulation.on_print = rows.append
    for _ in simulation.steps(restarted):
        look()
    return rows


@contextmanager
def killed_at(monkeypatch, step):
    """The run inside dies after what is due at ``step``."""
    due = Simulation._due

    def die(self, first=False):
        due(self, first)
        if self.step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Simulation, "_due", die)
        yield patch


def whole_and_killed(monkeypatch, go, step=47):
    """The folders of a run, and of one that dies after ``step`` and is then continued. go : takes a name, runs there"""
    whole = go("whole")
    with killed_at(monkeypatch, step):
        go("killed")
    return whole, go("killed")
