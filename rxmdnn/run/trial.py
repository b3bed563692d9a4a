"""The trial of a GPU: ``backend auto`` takes one whose short run of a small system agrees with the CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
from mpi4py import MPI

from rxmdnn.backend import Backend, make
from rxmdnn.cell import Cell
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.models.interface import Potential

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # of the largest number
SPACING = 2.2  # Å, at least, of the lattice from which atoms are displaced
STEPS, DT, TEMPERATURE = 4, 0.1, 300.0  # fs, K


@dataclass(frozen=True)
class Case:
    """What is tried on a device.

    masses : (n_elements,) float64, amu; precision : of the network
    potential_on : makes the potential of the run on a backend
    """

    masses: np.ndarray
    precision: str
    potential_on: Callable[[Backend], Potential]


def short_run(backend: Backend, case: Case) -> dict[str, np.ndarray]:
    """Positions, velocities, forces and energies of 64 atoms of all elements after some steps, the last of them after
    a new neighbor list."""
    potential = case.potential_on(backend)
    random, spacing = np.random.default_rng(1), max(SPACING, 0.5 * float(potential.cutoff.max()))
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x = (grid + random.uniform(-0.12, 0.12, grid.shape)) * spacing
    species = random.permutation(np.arange(len(x)) % len(potential.elements)).astype(np.int32)
    system = System.of(potential, Cell(np.eye(3) * 4 * spacing), species, x, backend=backend)
    forces, atoms, kinetics = system.forces, system.atoms, Kinetics(system.comm, backend, case.masses, len(x))
    kinetics.draw(atoms, TEMPERATURE, seed=1, step=0)
    forces.compute(atoms)
    for step in range(STEPS):
        forces.stale = step == STEPS - 1
        velocity_verlet(atoms, forces, backend, case.masses, DT)
    there = atoms.on(backend.to_host)
    order = np.argsort(there.gid[: len(x)])
    moved = {name: getattr(there, name)[: len(x)][order] for name in ("x", "v", "f")}
    return moved | {"energies": np.append(forces.virial(), [forces.energy(), kinetics.energy(atoms)])}


def device_or_reason(case: Case, load: Callable[[], Backend]) -> Backend | str:
    """A device that passes its trial, or why there is none. load : makes the backend of a device."""
    try:
        device = load()
        here, there = (short_run(backend, case) for backend in (make("cpu"), device))
    except (InputError, RuntimeError, MemoryError) as error:
        return str(error).strip().split("\n")[0]
    worst = float(np.max([np.abs(there[name] - a).max() / (np.abs(a).max() or 1.0) for name, a in here.items()]))
    if not worst < TOLERANCE[case.precision]:
        return f"a short trial of the GPU differs from the CPU by {worst:.1e} of the largest value"
    digits = -np.log10(max(worst, 1e-16))
    device.notes += (f"backend auto: cuda; a short trial agrees with the CPU to 1 part in 10^{digits:.0f}",)
    return device


def choose(comm: MPI.Comm, case: Case, load: Callable[[], Backend]) -> Backend:
    """The backend that ``auto`` stands for: a device if every rank has one that passes, otherwise the CPU and a note
    that says why."""
    cpu = make("cpu")
    if not comm.allreduce(find_spec("cupy") is not None, MPI.LAND):
        return cpu
    found = device_or_reason(case, load)
    reasons = [reason for reason in comm.allgather(found if isinstance(found, str) else None) if reason]
    if isinstance(found, str) or reasons:
        cpu.notes = (f"backend auto: cpu; {reasons[0]}",)
        return cpu
    return found
