"""The trial of a GPU: ``backend auto`` takes one that moves a small system as the CPU does."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend, make
from rxmdnn.cell import Cell
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.errors import InputError
from rxmdnn.models.interface import Potential
from rxmdnn.timers import Timers

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # of the largest number
SPACING = 2.2  # Å, at least, of the lattice that the atoms are shaken on
SKIN = 0.5  # Å
STEPS, DT, TEMPERATURE = 4, 0.1, 300.0  # fs, K


def answers(backend: Backend, potential: Potential, masses: np.ndarray) -> dict[str, np.ndarray]:
    """What a run computes, of 64 atoms of all elements that take some steps, the last after a new list.

    masses : (n_elements,) float64, amu
    """
    random, spacing = np.random.default_rng(1), max(SPACING, 0.5 * float(potential.cutoff.max()))
    grid = np.stack(np.meshgrid(*[np.arange(4.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    x = (grid + random.uniform(-0.12, 0.12, grid.shape)) * spacing
    species = random.permutation(np.arange(len(x)) % len(potential.elements)).astype(np.int32)
    neighbors = NeighborList(backend, potential.cutoff, SKIN)
    domain = Domain(MPI.COMM_SELF, backend, Cell(np.eye(3) * 4 * spacing), (1, 1, 1), neighbors.reach)
    forces, kinetics = Forces(domain, neighbors, potential, Timers()), Kinetics(MPI.COMM_SELF, backend, masses, len(x))
    atoms = Atoms.of(np.arange(len(x)), species, x).on(backend.from_host)
    kinetics.draw(atoms, TEMPERATURE, seed=1, step=0)
    forces.compute(atoms)
    for step in range(STEPS):
        forces.stale = step == STEPS - 1
        velocity_verlet(atoms, forces, backend, masses, DT)
    there = atoms.on(backend.to_host)
    order = np.argsort(there.gid[: len(x)])
    moved = {name: getattr(there, name)[: len(x)][order] for name in ("x", "v", "f")}
    return moved | {"energies": np.append(forces.virial(), [forces.energy(), kinetics.energy(atoms)])}


def tried(run: RunDeck, load: Callable[[], Backend], potential_on: Callable[[Backend], Potential]) -> Backend | str:
    """A device that passes its trial, or why there is none.

    Parameters
    ----------
    load : makes the backend of a device
    potential_on : makes the run's potential on a backend
    """
    try:
        device = load()
        here, there = (answers(b, potential_on(b), np.array(run.masses)) for b in (make("cpu"), device))
    except (InputError, RuntimeError, MemoryError) as error:
        return str(error).strip().split("\n")[0]
    worst = float(np.max([np.abs(there[name] - a).max() / (np.abs(a).max() or 1.0) for name, a in here.items()]))
    if not worst < TOLERANCE[run.deck["precision"].network]:
        return f"a trial of the GPU differs from the CPU by {worst:.1e} of the largest value"
    digits = -np.log10(max(worst, 1e-16))
    device.notes += (f"backend auto: cuda; some steps of a trial are the CPU's to 1 part in 10^{digits:.0f}",)
    return device


def choose(comm: MPI.Comm, run: RunDeck, load: Callable[[], Backend],
           potential_on: Callable[[Backend], Potential]) -> Backend:
    """What ``backend auto`` is: a device where every rank has one that passes, otherwise the CPU, which says why."""
    cpu = make("cpu")
    if not comm.allreduce(find_spec("cupy") is not None, MPI.LAND):
        return cpu
    found = tried(run, load, potential_on)
    reasons = [reason for reason in comm.allgather(found if isinstance(found, str) else None) if reason]
    if isinstance(found, str) or reasons:
        cpu.notes = (f"backend auto: cpu; {reasons[0]}",)
        return cpu
    return found
