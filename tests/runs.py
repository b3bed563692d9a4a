"""What tests of whole runs share: a folder with a start that all ranks see, and the death of a run."""

import shutil
from contextlib import contextmanager

import pytest
from mpi4py import MPI

from rxmdnn.dynamics.simulation import Simulation
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
