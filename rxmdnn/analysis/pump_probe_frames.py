"""The frames of pumped replicas, read a frame at a time, and what is measured on each of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.analysis.diffraction import densities
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series, open_series, same_atoms, with_beads
from rxmdnn.parallel import together

SAME_TIME = 1e-3  # fs


@dataclass(frozen=True)
class Moment:
    """One frame. x (n, 3) Å; s (n, 3) fractional; weight : 1 / number of beads, whose sum is a replica."""

    x: np.ndarray
    s: np.ndarray
    cell: Cell
    weight: float


@dataclass(frozen=True)
class Replica:
    """One run of a pumped experiment: its trajectory, and those of its beads (itself where there are none)."""

    series: Series
    beads: tuple[Series, ...]

    def moments(self, frame: int) -> Iterator[Moment]:
        """The frame of each bead. Raises InputError for NaN or infinite positions."""
        for bead in self.beads:
            x, cell = bead.read("x", [frame])[0].astype(float), bead.cell(frame)
            if not np.isfinite(x).all():
                raise InputError(f"{bead.path}: NaN or infinite positions at {bead.time[frame]:g} fs")
            yield Moment(x, cell.fractional(x), cell, 1 / len(self.beads))

    def velocities(self, frame: int) -> np.ndarray | None:
        """(n, 3) Å/fs of the atoms or centroids; None where the trajectory has none."""
        return self.series.read("v", [frame])[0].astype(float) if "v" in self.series.has else None


def open_replicas(paths: Sequence[str | Path], start: float | None = None,
                  stop: float | None = None) -> list[Replica]:
    """The replicas, with frames within [start, stop] ps, all at the same times. Raises InputError."""
    out: list[Replica] = []
    for path in paths:
        series = open_series(path)
        beads = tuple(open_series(p) for p in with_beads([path])) if len(with_beads([path])) > 1 else (series,)
        for s in {id(s): s for s in (series, *beads)}.values():
            if len(s.time) == 0:
                raise InputError(f"{s.path}: no frames; the run has not written any yet")
            if not getattr(s, "timed", True):
                raise InputError(f"{s.path}: frames without time; write time=<fs> in the second line of each frame")
            if (np.diff(s.time) <= 0).any():
                raise InputError(f"{s.path}: the times of its frames do not ascend")
            same_atoms(s, (out[0] if out else Replica(series, beads)).series)
            s.select(start, stop)
        out.append(Replica(series, beads))
    _same_times(out)
    return out


def _same_times(replicas: Sequence[Replica]) -> None:
    first = replicas[0].series
    faults = []
    for s in [s for r in replicas for s in (r.series, *r.beads)]:
        n = min(len(s.time), len(first.time))
        off = np.flatnonzero(np.abs(s.time[:n] - first.time[:n]) > SAME_TIME)
        if len(off):
            k = int(off[0])
            faults.append(f"{s.path}: frame {k} is at {s.time[k]:g} fs, but at {first.time[k]:g} fs in {first.path}; "
                          "replicas have frames at the same times: use the same deck with another seed")
        elif len(s.time) != len(first.time):
            longer, shorter = (s, first) if len(s.time) > len(first.time) else (first, s)
            faults.append(f"{s.path}: {len(s.time)} frames, but {len(first.time)} in {first.path}: {shorter.path} ends "
                          f"at {shorter.time[-1]:g} fs, {longer.path} at {longer.time[-1]:g} fs; choose the times "
                          f"that all replicas hold, as --stop {shorter.time[-1] / 1000:g}")
    if faults:
        raise InputError(*dict.fromkeys(faults))


class Measurement:
    """Something measured on every frame: arrays with a row per frame, filled by the rank that reads the frame."""

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        """Add the frame number ``frame`` of a bead of a replica."""

    def finish(self, replica: int, frame: int, of: Replica) -> None:
        """All beads of a replica are added."""

    def close(self, frame: int) -> None:
        """All replicas of a frame are added."""

    def arrays(self) -> list[np.ndarray]:
        """What is summed over ranks: zero in the rows of other ranks."""
        return []


def measure(comm: MPI.Comm, replicas: Sequence[Replica], frames: Sequence[int] | np.ndarray,
            measurements: Sequence[Measurement], quiet: bool = True, what: str = "frames") -> None:
    """Read frames of all replicas, divided among the ranks, one at a time (collective)."""
    lo, hi = block(len(frames), comm.size, comm.rank)
    with together(comm):
        bar = tqdm(total=(hi - lo) * len(replicas), unit="frame", desc=what, disable=quiet or comm.rank > 0)
        for frame in map(int, frames[lo:hi]):
            for r, replica in enumerate(replicas):
                for moment in replica.moments(frame):
                    for m in measurements:
                        m.add(r, frame, moment)
                for m in measurements:
                    m.finish(r, frame, replica)
                bar.update()
            for m in measurements:
                m.close(frame)
        bar.close()
    for m in measurements:
        for array in m.arrays():
            comm.Allreduce(MPI.IN_PLACE, array)


class Amplitudes(Measurement):
    """Amplitudes at wave vectors, kept for each replica and frame.

    Attributes
    ----------
    rho (replicas, frames, kinds, m) complex : ρ_a(Q), mean over beads
    total (replicas, frames, m) : |Σ_a f_a ρ_a|², mean over beads
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, f: np.ndarray, waves: np.ndarray) -> None:
        """shape : replicas, frames; index (n,) kinds; f (kinds, m) amplitudes; waves (m, 3) indices in the cell."""
        self.index, self.f, self.waves = index, f, waves
        self.rho = np.zeros((*shape, len(f), len(waves)), complex)
        self.total = np.zeros((*shape, len(waves)))

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        rho = densities(moment.s, self.index, len(self.f), self.waves)
        self.rho[replica, frame] += moment.weight * rho
        self.total[replica, frame] += moment.weight * np.abs((self.f * rho).sum(axis=0)) ** 2

    @property
    def amplitude(self) -> np.ndarray:
        """(replicas, frames, m) F = Σ_a f_a ρ_a."""
        return np.einsum("am,rtam->rtm", self.f, self.rho)

    def arrays(self) -> list[np.ndarray]:
        return [self.rho, self.total]


class Map(Measurement):
    """Intensities at many wave vectors, of which only means over replicas and over groups of them are kept.

    Attributes
    ----------
    total (frames, groups) : <|F|²> over replicas and beads
    bragg (frames, groups) : |<F>|², without the part of the scatter (``bragg_and_diffuse``)
    """

    def __init__(self, shape: tuple[int, int], index: np.ndarray, f: np.ndarray, waves: np.ndarray,
                 group: np.ndarray) -> None:
        """group : (m,) of each wave vector; the rest as of ``Amplitudes``."""
        self.index, self.f, self.waves, self.replicas, self.group = index, f, waves, shape[0], group
        self.total, self.bragg = np.zeros((2, shape[1], int(group.max()) + 1))
        self._begin()

    def _mean(self, y: np.ndarray) -> np.ndarray:
        """(groups,) means of y : (m,)."""
        return np.bincount(self.group, y) / np.bincount(self.group)

    def _begin(self) -> None:
        self._of_one = np.zeros(len(self.waves), complex)
        self._sum, self._sq = np.zeros(len(self.waves), complex), np.zeros(len(self.waves))

    def add(self, replica: int, frame: int, moment: Moment) -> None:
        f = (self.f * densities(moment.s, self.index, len(self.f), self.waves)).sum(axis=0)
        self._of_one += moment.weight * f
        self.total[frame] += moment.weight / self.replicas * self._mean(np.abs(f) ** 2)

    def finish(self, replica: int, frame: int, of: Replica) -> None:
        self._sum += self._of_one
        self._sq += np.abs(self._of_one) ** 2
        self._of_one = np.zeros(len(self.waves), complex)

    def close(self, frame: int) -> None:
        n = self.replicas
        mean_sq = np.abs(self._sum / n) ** 2
        self.bragg[frame] = self._mean(mean_sq - (self._sq / n - mean_sq) / (n - 1) if n > 1 else mean_sq)
        self._begin()

    def arrays(self) -> list[np.ndarray]:
        return [self.total, self.bragg]
