"""Observables summed up while a run goes on, so that it need not store velocities: deck lines ``observe ...``.

They are kept in <outDir>/observe.h5, written with every checkpoint and read again on a restart; `rxmdnn spectra` takes
the file in the place of a trajectory.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from mpi4py import MPI

from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.structure import Radial, half_width
from rxmdnn.analysis.tables import write_csv
from rxmdnn.atoms import Atoms
from rxmdnn.backend import load
from rxmdnn.deck.language import Entry
from rxmdnn.deck.run import Run
from rxmdnn.dynamics.simulation import Simulation, Thermo
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.errors import InputError
from rxmdnn.io.checkpoint import room
from rxmdnn.io.ordered import block, in_gid_order, replacing, writable, write_blocks
from rxmdnn.parallel import on_root, together

NAME, PREVIOUS = "observe.h5", "observe.prev.h5"
MOST_ATOMS = 20000  # whose velocities are kept: every k-th atom of a larger system


class Observer(Protocol):
    """One observe line: sampled every ``nstep`` steps; state in a group of the file."""

    def sample(self) -> None: ...

    def arrays(self) -> dict[str, np.ndarray]:
        """What rank 0 stores; collective."""

    def rows(self) -> tuple[int, int, np.ndarray] | None:
        """Rows of all, first row here, rows of this rank: stored by all ranks; None for none."""

    def resume(self, group: h5py.Group) -> None: ...

    def keep(self) -> tuple[Any, ...]:
        """This rank's sums as they stand, copied, for ``go_back``."""

    def go_back(self, kept: tuple[Any, ...]) -> None: ...


class Vdos:
    """Power spectra of segments of velocities, as ``spectra.measure`` has them from a trajectory.

    Memory: a segment of at most MOST_ATOMS atoms, shared out among the ranks.
    """

    def __init__(self, simulation: Simulation, run: Run, nstep: int, resolution: float | None) -> None:
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
        """This rank's rows of an array of the chosen atoms, in order of gid."""
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
                "fixed": np.array(self.s.kinetics.freedoms < 3 * self.s.n_global), "kinds": np.array(self.kinds, "S8")}

    def rows(self) -> tuple[int, int, np.ndarray] | None:
        return self.n, self.lo, self.buffer

    def resume(self, group: h5py.Group) -> None:
        if int(group["length"][()]) != self.length or abs(float(group["dt"][()]) - self.dt) > 1e-9:
            raise InputError(f"observe vdos: the run so far has segments of {group['length'][()]} frames "
                             f"{group['dt'][()]:g} fs apart, the deck now {self.length} of {self.dt:g} fs; give "
                             f"the same line and time step, or move {NAME} away to begin anew")
        self.power, self.correlation = list(group["power"][:]), list(group["correlation"][:])
        self.filled = int(group["filled"][()])
        self.buffer[:] = group["buffer"][self.lo:self.lo + len(self.buffer)]

    def keep(self) -> tuple[Any, ...]:
        return len(self.power), len(self.correlation), self.buffer[:, : self.filled].copy()

    def go_back(self, kept: tuple[Any, ...]) -> None:
        powers, correlations, velocities = kept
        del self.power[powers:], self.correlation[correlations:]
        self.filled = velocities.shape[1]
        self.buffer[:, : self.filled] = velocities


class Gr:
    """g(r) of all pairs within r_max, on copies of the atoms decomposed with a halo of that width."""

    def __init__(self, simulation: Simulation, run: Run, nstep: int, r_max: float | None) -> None:
        self.s = simulation
        self.backend = load("cpu") if simulation.backend.on_device else simulation.backend
        r_max = min(r_max or 10.0, half_width(simulation.cell))
        self.radial = Radial(run.elements, np.zeros(0, np.int64), r_max)
        species = simulation.backend.to_host(simulation.atoms.species[: simulation.atoms.n_owned])
        self.radial.count = simulation.comm.allreduce(np.bincount(species, minlength=len(run.elements)))

    def sample(self) -> None:
        s, n = self.s, self.s.atoms.n_owned
        gx, gy, gz = map(int, s.domain.grid)
        domain = Domain(s.comm, self.backend, s.cell, (gx, gy, gz), self.radial.r_max)
        gid, species, x = (s.backend.to_host(a[:n]) for a in (s.atoms.gid, s.atoms.species, s.atoms.x))
        atoms = Atoms.of(gid, species, x.copy())
        domain.distribute(atoms)
        domain.plan(atoms)
        neighbors = NeighborList(self.backend, np.array([[self.radial.r_max]]), 0.0)
        alike = np.zeros(atoms.n_all, np.int32)
        neighbors.build(atoms.x, alike, atoms.n_owned)
        edges = neighbors.edges(atoms.x, alike)
        self.radial.kind = atoms.species
        self.radial.add(edges.center, edges.neighbor, np.linalg.norm(edges.r_ij, axis=1), s.cell.volume)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"sums": self.s.comm.allreduce(self.radial.sums), "frames": np.array(self.radial.frames),
                "density": self.radial.density, "r": self.radial.r, "pairs": np.array(self.radial.names, dtype="S16")}

    def rows(self) -> tuple[int, int, np.ndarray] | None:
        return None

    def resume(self, group: h5py.Group) -> None:
        if group["sums"].shape != self.radial.sums.shape or abs(group["r"][-1] - self.radial.r[-1]) > 1e-6:
            raise InputError(f"observe gr: the run so far has another r_max; give the same line, or move {NAME} away "
                             "to begin anew")
        if self.s.comm.rank == 0:  # the sum over ranks goes on from here
            self.radial.sums[:] = group["sums"][:]
        self.radial.frames, self.radial.density = int(group["frames"][()]), group["density"][:]

    def keep(self) -> tuple[Any, ...]:
        return self.radial.sums.copy(), self.radial.frames, np.copy(self.radial.density)

    def go_back(self, kept: tuple[Any, ...]) -> None:
        self.radial.sums, self.radial.frames, self.radial.density = kept[0].copy(), kept[1], kept[2].copy()


KINDS: dict[str, Callable[[Simulation, Run, int, float | None], Observer]] = {"vdos": Vdos, "gr": Gr}


class Observers:
    """The observe lines of a run.

    Parameters
    ----------
    continued : the step of the checkpoint that the run goes on from, or None

    Raises AgreedError where the file is of another step or another line.
    """

    def __init__(self, comm: MPI.Comm, run: Run, simulation: Simulation, continued: int | None) -> None:
        self.comm, self.folder = comm, run.folder
        lines: list[Entry] = run.deck["observe"]
        self.members = {e.quantity: KINDS[e.quantity](simulation, run, e.nstep, e.detail) for e in lines}
        self.writers = [(e.nstep, self._caller(self.members[e.quantity], e.nstep)) for e in lines]
        self.kept: dict[int, dict[str, tuple[Any, ...]]] = {}  # {step: the members' sums} of states to go back to
        if continued is not None:
            self._resume(continued)

    def remember(self, steps: list[int]) -> None:
        """Keep the sums of the present step, the last of ``steps``; those of other steps than these are let go."""
        self.kept = {step: kept for step, kept in self.kept.items() if step in steps}
        self.kept[steps[-1]] = {name: m.keep() for name, m in self.members.items()}

    def rewind(self, step: int) -> None:
        """Take back what was summed after a step that was remembered; of another step there is nothing to take back."""
        for name, kept in self.kept.get(step, {}).items():
            self.members[name].go_back(kept)

    def _caller(self, member: Observer, nstep: int) -> Callable[[Thermo], None]:
        def call(thermo: Thermo) -> None:
            if thermo.step % nstep == 0:  # the last step of a run calls all its writers
                member.sample()
        return call

    def save(self, step: int) -> None:
        """Write the file (collective); the one before stays, as the checkpoint's does."""
        path = self.folder / NAME
        arrays = {name: m.arrays() for name, m in self.members.items()}
        rows = {name: m.rows() for name, m in self.members.items()}
        with replacing(self.comm, path, path.with_name(PREVIOUS)) as passing:
            offsets: dict[str, int] = {}
            with writable(self.comm, path):
                if self.comm.rank == 0:
                    offsets = self._create(passing, step, arrays, rows)
            offsets = self.comm.bcast(offsets)
            write_blocks(self.comm, passing, [(offsets[name] + r[1] * r[2][:1].nbytes if len(r[2]) else 0, r[2])
                                              for name, r in rows.items() if r is not None])
        if "gr" in arrays:
            on_root(self.comm, lambda: self._table(arrays["gr"]))

    def _create(self, path: Path, step: int, arrays: dict[str, dict[str, np.ndarray]],
                rows: dict[str, tuple[int, int, np.ndarray] | None]) -> dict[str, int]:
        offsets = {}
        with h5py.File(path, "w") as file:
            file.attrs["observe"] = json.dumps({"step": step, "lines": list(arrays)})
            for name, members in arrays.items():
                group = file.create_group(name)
                for key, array in members.items():
                    group[key] = array
                r = rows[name]
                if r is not None:
                    offsets[name] = room(group, "buffer", r[2].dtype, (r[0], *r[2].shape[1:]))
        return offsets

    def _table(self, gr: dict[str, np.ndarray]) -> None:
        g = gr["sums"] / max(int(gr["frames"]), 1)
        write_csv(self.folder / "gr_observed.csv",
                  {"r_A": gr["r"], **{f"g_{name.decode()}": row for name, row in zip(gr["pairs"].tolist(), g)}})

    def _resume(self, step: int) -> None:
        """Go on from the file of that step, if there is a file."""
        def find() -> Path | None:
            found = [p for p in (self.folder / NAME, self.folder / PREVIOUS) if p.is_file()]
            right = [p for p in found if head(p)["step"] == step and set(self.members) <= set(head(p)["lines"])]
            if found and not right:
                raise InputError(f"{found[0]}: not of step {step} with the deck's observe lines; move it away to begin "
                                 "anew")
            return right[0] if right else None

        path = on_root(self.comm, find)
        if path is None:
            return
        with together(self.comm):
            try:
                with h5py.File(path, "r", locking=False) as file:
                    for name, member in self.members.items():
                        member.resume(file[name])
            except (OSError, KeyError) as error:
                raise InputError(f"{path}: cannot be read ({error}); move it away to begin anew") from None


def head(path: Path) -> dict[str, Any]:
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(file.attrs["observe"])
    except (OSError, KeyError, ValueError) as error:
        raise InputError(f"{path}: no file of observables ({error}); move it away") from None


def find_spectrum(path: str | Path) -> Path | None:
    """observe.h5 itself, or that of a folder without a trajectory; None where a trajectory is meant."""
    path = Path(path)
    if path.is_dir() and not (path / "trajectory.h5").is_file() and not list(path.glob("[0-9]*.xyz")):
        path = path / NAME
    if path.is_file() and h5py.is_hdf5(path):
        with suppress(OSError), h5py.File(path, "r", locking=False) as file:  # a damaged one is told of as a trajectory
            if "observe" in file.attrs:
                return path
    return None


def read_spectrum(path: Path) -> tuple[sp.Spectrum, float]:
    """The spectrum that a run summed up, and its time step, fs. Raises InputError."""
    with h5py.File(path, "r", locking=False) as file:
        if "vdos" not in file:
            raise InputError(f"{path}: no spectrum in it; write 'observe vdos 2' in the run's deck")
        d = {k: v[()] for k, v in file["vdos"].items() if k != "buffer"}
    if not len(d["power"]):
        need = d["length"] * d["dt"] / 1000
        raise InputError(f"{path}: no segment is complete: one takes {need:.3g} ps and {d['filled']} of {d['length']} "
                         "frames are there; run longer, or ask for a coarser resolution in 'observe vdos'")
    return sp.Spectrum(tuple(k.decode() for k in d["kinds"].tolist()), d["count"], d["mass"], float(d["dt"]),
                       int(d["length"]), d["power"], d["correlation"], bool(d["fixed"])), float(d["step_fs"])
