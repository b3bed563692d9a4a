"""Observables of a run in progress: what one ``observe`` line accumulates, and how it goes back after a failure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.structure import Radial, half_width
from rxmdnn.atoms import Atoms
from rxmdnn.backend import load
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.hdf5 import Group
from rxmdnn.io.ordered import block, in_gid_order
from rxmdnn.models.pair import Null
from rxmdnn.schema import Item

FILE = "observe.h5"
MOST_ATOMS = 20000  # whose velocities are kept: every k-th atom of a larger system


VDOS = {"length": Item("int", low=8, high=1 << 32), "dt": Item("float", low=1e-9, high=1e9),
        "step_fs": Item("float", low=1e-9, high=1e9), "filled": Item("int", low=0), "fixed": Item("bool"),
        "kinds": Item("text", ("kinds",)), "count": Item("int", ("kinds",), low=0),
        "mass": Item("float", ("kinds",), low=0)}


class Observer(Protocol):
    """One observe line: sampled every ``nstep`` steps; its state is a group of the file."""

    def sample(self) -> None:
        """Add the present step (collective)."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays that rank 0 stores (collective)."""

    def rows(self) -> tuple[int, int, np.ndarray] | None:
        """Rows of all ranks, first row of this rank, and its rows, which all ranks store; None for none."""

    def resume(self, group: Group) -> None:
        """Continue from the stored state. Raises InputError where it belongs to another line."""

    def keep(self) -> tuple[Any, ...]:
        """A copy of the sums of this rank, for ``go_back``."""

    def go_back(self, kept: tuple[Any, ...]) -> None:
        """Restore the sums that ``keep`` returned."""


class Vdos:
    """Power spectra of segments of velocities, as ``spectra.measure`` computes them from a trajectory.

    Memory: one segment of at most MOST_ATOMS atoms, divided among the ranks.
    """

    def __init__(self, simulation: Simulation, run: RunDeck, nstep: int, resolution: float | None) -> None:
        self.s, self.dt = simulation, nstep * simulation.schedule.dt
        self.length = max(8, 2 * round(sp.HANN_WIDTH / ((resolution or 10.0) * sp.C_CM * self.dt) / 2))
        n = simulation.n_global
        self.stride = -(-n // MOST_ATOMS)
        self.n = -(-n // self.stride)
        self.kinds, self.of_species, self.mass = sp.kinds_of(np.array(run.elements), np.array(run.masses))
        self.lo, hi = block(self.n, simulation.comm.size, simulation.comm.rank)
        self.buffer = np.zeros((hi - self.lo, self.length, 3), np.float32)
        self.kind = self.of_species[self._rows(simulation.atoms.species)]
        self.filled = 0
        self.power: list[np.ndarray] = []
        self.correlation: list[np.ndarray] = []

    def _rows(self, array: np.ndarray) -> np.ndarray:
        """The rows of this rank of an array, of the chosen atoms in order of gid."""
        gid, array = map(self.s.backend.to_host, (self.s.atoms.gid[: self.s.atoms.n_owned], array))
        own = np.flatnonzero(gid % self.stride == 0)
        return in_gid_order(self.s.comm, self.n, gid[own] // self.stride, [array[own]])[0]

    def sample(self) -> None:
        self.buffer[:, self.filled] = self._rows(self.s.atoms.v)
        self.filled += 1
        if self.filled < self.length:
            return
        p = np.zeros((len(self.kinds), self.length // 2 + 1))
        c = np.zeros((len(self.kinds), self.length // 2)) if len(self.power) % 2 == 0 else None
        sp.add(self.buffer.swapaxes(0, 1), self.kind, self.mass, self.dt, p, c)
        self.s.comm.Allreduce(MPI.IN_PLACE, p)
        self.power.append(p)
        if c is not None:
            self.s.comm.Allreduce(MPI.IN_PLACE, c)
            self.correlation.append(c)
        self.filled = self.length - self.length // 2
        self.buffer[:, :self.filled] = self.buffer[:, self.length // 2:].copy()

    def arrays(self) -> dict[str, np.ndarray]:
        count = self.s.comm.allreduce(np.bincount(self.kind, minlength=len(self.kinds)))
        shape = (0, len(self.kinds), 0)
        return {"power": np.array(self.power) if self.power else np.zeros(shape),
                "correlation": np.array(self.correlation) if self.correlation else np.zeros(shape),
                "filled": np.array(self.filled), "length": np.array(self.length), "dt": np.array(self.dt),
                "count": count, "mass": self.mass, "step_fs": np.array(self.s.schedule.dt),
                "fixed": np.array(self.s.kinetics.degrees_of_freedom < 3 * self.s.n_global),
                "kinds": np.array(self.kinds, "S8")}

    def rows(self) -> tuple[int, int, np.ndarray] | None:
        return self.n, self.lo, self.buffer

    def resume(self, group: Group) -> None:
        group.checked.sizes["kinds"] = len(self.kinds)
        d = read_vdos(group)
        if d["length"] != self.length or abs(d["dt"] - self.dt) > 1e-9:
            raise InputError(f"observe vdos: {FILE} has segments of {d['length']} frames {d['dt']:g} fs apart, the "
                             f"deck asks for {self.length} frames {self.dt:g} fs apart; use the same line and time "
                             f"step, or move {FILE} away to start again")
        self.power, self.correlation, self.filled = list(d["power"]), list(d["correlation"]), d["filled"]
        if 2 * len(self.correlation) not in (len(self.power), len(self.power) + 1):
            raise group.checked.fault("vdos/correlation", f"{len(self.correlation)} for {len(self.power)} segments")
        velocities = Item("float", (self.n, self.length, 3), dtype=np.float32)
        mine = slice(self.lo, self.lo + len(self.buffer))
        self.buffer[:] = group.rows("buffer", group.dataset("buffer", velocities), mine, velocities)

    def keep(self) -> tuple[Any, ...]:
        return len(self.power), len(self.correlation), self.buffer[:, : self.filled].copy()

    def go_back(self, kept: tuple[Any, ...]) -> None:
        powers, correlations, velocities = kept
        del self.power[powers:], self.correlation[correlations:]
        self.filled = velocities.shape[1]
        self.buffer[:, : self.filled] = velocities


def read_vdos(group: Group) -> dict[str, Any]:
    """The state of ``Vdos`` without its velocities. Raises InputError."""
    d = {name: group.array(name, item) for name, item in VDOS.items()}
    half = d["length"] // 2
    if d["filled"] >= d["length"]:
        raise group.checked.fault("vdos/filled", f"{d['filled']} of {d['length']} frames")
    for name, width in (("power", half + 1), ("correlation", half)):
        data = group.dataset(name, Item("float", (None, "kinds", None)))
        d[name] = group.array(name, Item("float", (None, "kinds", width if len(data) else 0)))
    return d


class Gr:
    """g(r) of all pairs within r_max, from copies of the atoms with a halo of that width.

    r_max is at most half the width of the cell with which the run began: a cell that changes, and a run that goes on
    with another cell, keep it.
    """

    def __init__(self, simulation: Simulation, run: RunDeck, nstep: int, r_max: float | None) -> None:
        self.s = simulation
        self.backend = load("cpu") if simulation.backend.on_device else simulation.backend
        self.asked = r_max or 10.0
        r_max = min(self.asked, half_width(simulation.cell))
        self.elements, self.radial = run.elements, Radial(run.elements, np.zeros(0, np.int64), r_max)
        species = simulation.backend.to_host(simulation.atoms.species[: simulation.atoms.n_owned])
        self.radial.count = simulation.comm.allreduce(np.bincount(species, minlength=len(run.elements)))

    def sample(self) -> None:
        s, n = self.s, self.s.atoms.n_owned
        gx, gy, gz = map(int, s.domain.grid)
        gid, species, x = (s.backend.to_host(a[:n]) for a in (s.atoms.gid, s.atoms.species, s.atoms.x))
        system = System(Null(self.elements, self.radial.r_max), s.cell, Atoms.of(gid, species, x.copy()), comm=s.comm,
                        backend=self.backend, skin=0.0, grid=(gx, gy, gz))
        edges = system.edges()
        self.radial.kind = system.atoms.species
        self.radial.add(edges.center, edges.neighbor, np.linalg.norm(edges.r_ij, axis=1), s.cell.volume)

    def arrays(self) -> dict[str, np.ndarray]:
        total = self.s.comm.allreduce(self.radial.sums)
        self.radial.sums = total if self.s.comm.rank == 0 else np.zeros_like(total)  # as a run that goes on has them
        return {"sums": total.copy(), "frames": np.array(self.radial.frames), "density": self.radial.density,
                "r": self.radial.r, "pairs": np.array(self.radial.names, dtype="S16"),
                "asked": np.array(self.asked), "r_max": np.array(self.radial.r_max)}

    def rows(self) -> tuple[int, int, np.ndarray] | None:
        return None

    def resume(self, group: Group) -> None:
        bins = Item("float", (None,))
        if "r_max" in group and group.array("asked", Item("float", low=0)) == self.asked:
            count, r_max = self.radial.count, group.array("r_max", Item("float", low=0, high=self.asked))
            self.radial = Radial(self.elements, np.zeros(0, np.int64), r_max)
            self.radial.count = count
        r, density = group.array("r", bins), group.array("density", Item("float", self.radial.density.shape, low=0))
        sums = group.array("sums", Item("float", (None, None), low=0))
        same = sums.shape == self.radial.sums.shape and r.shape == self.radial.r.shape
        if not same or abs(r[-1] - self.radial.r[-1]) > 1e-6:
            raise InputError(f"observe gr: {FILE} has another r_max; use the same line, or move {FILE} away to start "
                             "again")
        if self.s.comm.rank == 0:  # the stored sums are those of all ranks
            self.radial.sums[:] = sums
        self.radial.frames, self.radial.density = group.array("frames", Item("int", low=0)), density

    def keep(self) -> tuple[Any, ...]:
        return self.radial.sums.copy(), self.radial.frames, np.copy(self.radial.density)

    def go_back(self, kept: tuple[Any, ...]) -> None:
        self.radial.sums, self.radial.frames, self.radial.density = kept[0].copy(), kept[1], kept[2].copy()


KINDS: dict[str, Callable[[Simulation, RunDeck, int, float | None], Observer]] = {"vdos": Vdos, "gr": Gr}
