"""Labelled frames as data of a training: split by groups, statistics, neighbors, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.training.labelled_frames import LabelledFrame, raise_first

ONE_PLACE = 0.05  # Å: atoms that are nearer are one atom written twice


class Split(NamedTuple):
    """Indices of the frames of each part."""

    training: list[int]
    validation: list[int]
    test: list[int]


def split(frames: Sequence[LabelledFrame], validation: float, test: float, seed: int) -> Split:
    """A random split of the frames, by kind; groups are never split.

    Of each kind, whole groups are drawn for the test until it has its share of frames, then for validation; a kind of
    three or more groups gives at least one to each part whose share is not zero. The kind of a group whose frames are
    of several kinds is all of them together.
    """
    rng = np.random.default_rng([seed, 1])
    parts = Split([], [], [])
    kinds: dict[str, set[str]] = {}
    for f in frames:
        kinds.setdefault(f.group, set()).add(f.kind)
    kind_of = {group: "+".join(sorted(of)) for group, of in kinds.items()}
    for kind in sorted(set(kind_of.values())):
        groups: dict[str, list[int]] = {}
        for k, f in enumerate(frames):
            if kind_of[f.group] == kind:
                groups.setdefault(f.group, []).append(k)
        names = list(groups)
        order = [names[k] for k in rng.permutation(len(names))]
        total = sum(map(len, groups.values()))
        for part, share in ((parts.test, test), (parts.validation, validation)):
            if share == 0 or (len(names) < 3 and len(order) < 2):
                continue
            taken, needs_one = 0, len(names) >= 3
            while len(order) > 1 and (needs_one or taken + len(groups[order[-1]]) / 2 <= share * total):
                taken, needs_one = taken + len(groups[order[-1]]), False
                part += groups[order.pop()]
        for name in order:
            parts.training.extend(groups[name])
    parts = Split(*(sorted(p) for p in parts))
    if not parts.validation:
        raise InputError(f"split: {len(frames)} frames in {len({f.group for f in frames})} groups leave none for "
                         "validation; label more frames or raise its share")
    return parts


@dataclass
class Statistics:
    """Statistics of the training frames that scale the network.

    Attributes
    ----------
    neighbors (T,) float64  average number of neighbors of each species
    scale     (T,) float64  root mean square of the forces on each species (all components), eV/Å
    shift     (T,) float64  energy per atom of each species, eV
    """

    neighbors: np.ndarray
    scale: np.ndarray
    shift: np.ndarray


def statistics(data: Dataset, which: Sequence[int], n_species: int, shift: np.ndarray | None = None,
               known: Mapping[int, Sequence[Any]] | None = None) -> Statistics:
    """Averages over the frames ``which``.

    Energies of atoms are ``shift`` (eV), or a least-squares fit to the frames (of least norm where the compositions do
    not determine them). ``known`` has energies and forces of the frames that the network need not learn (a fixed
    repulsion); they are subtracted first.
    """
    frames = [data.frames[k] for k in which]
    known = known or {k: (0.0, np.zeros_like(f.forces)) for k, f in zip(which, frames)}
    counts = np.array([np.bincount(f.species, minlength=n_species) for f in frames], float)
    species = np.concatenate([f.species for f in frames])
    forces_sq = (np.concatenate([data.frames[k].forces - known[k][1] for k in which]) ** 2).mean(1)
    degree = np.concatenate([np.bincount(data.edges[k][0], minlength=len(data.frames[k].x)) for k in which])
    n = np.maximum(counts.sum(0), 1.0)
    scale = np.sqrt(np.bincount(species, forces_sq, n_species) / n)
    neighbors = np.bincount(species, degree.astype(float), n_species) / n
    if shift is None:
        energy = np.array([data.frames[k].energy - known[k][0] for k in which]) / counts.sum(1)
        shift = np.linalg.lstsq(counts / counts.sum(1, keepdims=True), energy, rcond=1e-6)[0]
    return Statistics(np.maximum(neighbors, 1.0), np.where(scale > 0, scale, 1.0), shift)


@dataclass
class Batch:
    """Frames, concatenated.

    Attributes
    ----------
    species  (n,)   int64
    center, neighbor (m,) int64   rows of atoms
    r_ij     (m, 3) float64       x[neighbor] - x[center] with the shift of the periodic image, Å
    frame    (n,)   int64         frame of each atom
    atoms    (f,)   float64       atoms of each frame
    energy   (f,)   float64       label, eV
    forces   (n, 3) float64       label, eV/Å
    stress   (f, 3, 3) float64    label, eV/Å³, or NaN
    volume   (f,)   float64       Å³
    shares   fraction of the forces, energies and stresses of the batch that is here: below 1 if ranks share it
    weights  (f, 2) float64       of the forces and of the energy of each frame in the loss; None: all are 1
    """

    species: torch.Tensor
    center: torch.Tensor
    neighbor: torch.Tensor
    r_ij: torch.Tensor
    frame: torch.Tensor
    atoms: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    volume: torch.Tensor
    shares: tuple[float, float, float] = (1.0, 1.0, 1.0)
    weights: torch.Tensor | None = None


class Dataset:
    """Frames with their neighbors within ``cutoff`` (Å).

    Attributes
    ----------
    frames : list of LabelledFrame
    edges : list of (center (m,) int64, neighbor (m,) int64, r_ij (m, 3) float64, Å), sorted by center
    weights : (F, 2) float64, of forces and energies of the frames in the loss, or None
    epoch : the pass over the data, for batches that change with it
    """

    weights: np.ndarray | None = None
    epoch = 0

    def __init__(self, frames: list[LabelledFrame], cutoff: float, progress: bool = False) -> None:
        self.frames, self.edges = frames, []
        backend = backends.make("cpu")
        for f in tqdm(frames, desc="neighbors", unit="frame", disable=not progress, leave=False):
            i, j, s = pairs(backend, f.x, Cell(f.cell, f.pbc) if f.pbc.any() else None, cutoff)
            order = np.lexsort((*s.T, j, i))
            i, j, s = i[order].astype(np.int64), j[order].astype(np.int64), s[order]
            self.edges.append((i, j, f.x[j] + s @ f.cell - f.x[i]))

    def coincident(self) -> list[str]:
        """Faults of frames in which two atoms are on one place, or an atom on that of an image."""
        faults = []
        for f, (i, j, r) in zip(self.frames, self.edges):
            near = np.flatnonzero((r * r).sum(1) < ONE_PLACE**2)
            if len(near):
                a, b = sorted((int(i[near[0]]) + 1, int(j[near[0]]) + 1))
                which = f"atoms {a} and {b} are on one place" if a != b else f"atom {a} is on the place of its image"
                faults.append(f"{f.where}: {which} (less than {ONE_PLACE:g} Å apart, images counted); remove one of "
                              "them, or the frame")
        return faults

    def batch(self, which: Sequence[int]) -> Batch:
        """The frames ``which`` as one batch."""
        frames = [self.frames[k] for k in which]
        sizes = np.array([len(f.x) for f in frames])
        starts = np.cumsum(sizes) - sizes

        def tensor(parts: list[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(np.concatenate(parts))

        return Batch(
            species=tensor([f.species for f in frames]),
            center=tensor([self.edges[k][0] + s for k, s in zip(which, starts)]),
            neighbor=tensor([self.edges[k][1] + s for k, s in zip(which, starts)]),
            r_ij=tensor([self.edges[k][2] for k in which]),
            frame=torch.from_numpy(np.repeat(np.arange(len(frames)), sizes)),
            atoms=torch.from_numpy(sizes.astype(np.float64)),
            energy=torch.tensor([f.energy for f in frames], dtype=torch.float64),
            forces=tensor([f.forces for f in frames]),
            stress=torch.from_numpy(np.array([f.stress for f in frames])),
            volume=torch.tensor([abs(np.linalg.det(f.cell)) for f in frames], dtype=torch.float64),
            weights=None if self.weights is None else torch.from_numpy(self.weights[list(which)]))

    def part(self, which: Sequence[int], rank: int, size: int) -> Batch | None:
        """The frames of a batch that this rank computes, dealt out from large to small; None: no frame."""
        if size == 1:
            return self.batch(which)
        mine = sorted(which, key=lambda k: -len(self.frames[k].x))[rank::size]
        if not mine:
            return None
        return replace(self.batch(mine), shares=self.shares(mine, which))

    def shares(self, some: Sequence[int], of: Sequence[int]) -> tuple[float, float, float]:
        """Fractions of the forces, energies and stresses of the frames ``of`` that the frames ``some`` have."""
        def counts(which: Sequence[int]) -> np.ndarray:
            frames = [self.frames[k] for k in which]
            return np.array([sum(len(f.x) for f in frames), len(frames),
                             max(1, sum(np.isfinite(f.stress).all() for f in frames))], float)

        forces, energies, stresses = (counts(some) / counts(of)).tolist()
        return forces, energies, stresses


def with_neighbors(frames: list[LabelledFrame], cutoff: float, progress: bool = False) -> Dataset:
    """The frames with their neighbors within ``cutoff`` (Å). Raises InputError for atoms on one place."""
    data = Dataset(frames, cutoff, progress)
    raise_first(data.coincident())
    return data


def batches(which: Sequence[int], sizes: Sequence[int], limit: int, of_atoms: bool,
            rng: np.random.Generator | None = None) -> list[list[int]]:
    """Batches of the frames ``which`` (shuffled by ``rng``): of ``limit`` frames, or of at most ``limit`` atoms.

    A frame larger than ``limit`` atoms is a batch of its own.
    """
    order = list(which) if rng is None else [which[k] for k in rng.permutation(len(which))]
    out: list[list[int]] = []
    filled = 0
    for k in order:
        size = sizes[k] if of_atoms else 1
        if not out or filled + size > limit:
            out.append([])
            filled = 0
        out[-1].append(k)
        filled += size
    return out
