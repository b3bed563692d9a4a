"""Trajectories made up for the analysis tests, written by the product's own writers."""

from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.io.frame import Frame, write_xyz
from rxmdnn.io.h5md import H5MD, resize_trajectory


def frames(names, mass, x, v, cell, dt, image=None, motion=None):
    """Frames of x, v (frames, n, 3), `dt` fs and two steps apart."""
    elements, species = np.unique(names, return_inverse=True)
    masses = tuple(float(mass[species == k][0]) for k in range(len(elements)))
    for k in range(len(x)):
        atoms = Atoms.of(np.arange(len(names)), species, x[k], v[k], None if image is None else image[k])
        yield Frame(MPI.COMM_SELF, atoms, cell, len(names), tuple(elements.tolist()), masses, 2 * k, dt * k, -1.0, 1.0,
                    10.0, motion=motion or {})


def write(folder: Path, names, mass, x, v=None, cell=None, dt=1.0, image=None, xyz=False, motion=None) -> Path:
    """A run's trajectory.h5md (or its numbered extended XYZ files) in `folder`."""
    cell = Cell(20.0 * np.eye(3)) if cell is None else cell
    v = np.zeros_like(x) if v is None else v
    folder.mkdir(parents=True, exist_ok=True)
    made = frames(np.asarray(names), np.asarray(mass, float), x, v, cell, dt, image, motion)
    if xyz:
        for frame in made:
            write_xyz(frame, folder)
        return folder
    first = next(made)
    H5MD(MPI.COMM_SELF, folder / "trajectory.h5md").write(first)
    with h5py.File(folder / "trajectory.h5md", "r+") as file:  # the other frames at once
        resize_trajectory(file, len(x))
        group = file["particles/all"]
        group["position/step"][:], group["position/time"][:] = 2 * np.arange(len(x)), dt * np.arange(len(x))
        standard = cell.standard()
        group["box/edges/value"][:], group["box/run_edges"][:] = standard.cell.h, cell.h
        turns = np.floor(x @ cell.inverse)
        group["position/value"][:] = (x - turns @ cell.h) @ standard.turn + standard.shift
        group["velocity/value"][:] = v @ standard.turn
        group["image/value"][:] = standard.images(turns + (0 if image is None else image))
    return folder
