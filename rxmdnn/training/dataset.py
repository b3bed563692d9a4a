"""Labelled frames: reading, checks, split by groups, statistics, neighbors, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import ase
import ase.io
import h5py
import numpy as np
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import chemical_symbols
from ase.stress import voigt_6_to_full_3x3_stress
from tqdm import tqdm

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.io.read_atoms import read_atoms

SHOWN = 10  # faults that are printed
UNITS = {"energy": ("ev",), "force": ("ev/ang", "ev/angstrom", "ev/å", "ev/a"), "length": ("ang", "angstrom", "å", "a"),
         "stress": ("ev/ang^3", "ev/angstrom^3", "ev/å^3", "ev/a^3")}  # values allowed for an info key <name>_unit(s)
ENERGY_UNITS = {"Hartree": 1 / 27.211386, "Rydberg": 1 / 13.605693, "kcal/mol": 23.060548, "kJ/mol": 96.485332,
                "meV": 1000.0}  # units per eV


@dataclass
class LabelledFrame:
    """One labelled configuration.

    Attributes
    ----------
    species (n,)   int64    index into the deck's elements
    x       (n, 3) float64  Å
    cell    (3, 3) float64  rows are cell vectors, Å
    pbc     (3,)   bool
    energy  float           eV
    forces  (n, 3) float64  eV/Å
    group, kind : str       trajectory and kind of the frame; temperature : float, K, or NaN
    engine  str             program and settings of the labels, or ""
    where   str             ``file: frame number``
    stress  (3, 3) float64  eV/Å³, tension positive; NaN if not labelled
    """

    species: np.ndarray
    x: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    energy: float
    forces: np.ndarray
    group: str
    kind: str
    temperature: float
    engine: str
    where: str
    stress: np.ndarray = field(default_factory=lambda: np.full((3, 3), np.nan))


def read(paths: Sequence[Path], elements: Sequence[str], group: str = "group", kind: str = "kind"
         ) -> list[LabelledFrame]:
    """All frames of the files; ``group`` and ``kind`` are their info keys.

    Raises InputError: faults name the file and the frame number (from 1).
    """
    sources: list[tuple[str, Sequence[ase.Atoms]]] = []
    for path in paths:
        hdf5 = path.suffix in (".h5", ".hdf5")
        sources.append((str(path), _read_hdf5(path) if hdf5 else read_atoms(path, format="extxyz")))
    return labelled(sources, elements, group, kind)


def labelled(sources: Sequence[tuple[str, Sequence[ase.Atoms]]], elements: Sequence[str], group: str = "group",
             kind: str = "kind") -> list[LabelledFrame]:
    """ASE atoms with energy and forces, each list under the name of its source, as frames; faults as of ``read``."""
    frames: list[LabelledFrame] = []
    faults: list[str] = []
    seen: dict[str, str] = {}
    for source, structures in sources:
        for number, atoms in enumerate(structures, 1):
            where = f"{source}: frame {number}"
            wrong = _faults(atoms, elements)
            image = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in
                                            (atoms.numbers, atoms.positions, np.asarray(atoms.cell)))).hexdigest()
            if image in seen:
                wrong.append(f"the same configuration as {seen[image]}; remove one")
            seen[image] = where
            faults += [f"{where}: {w}" for w in wrong]
            if not wrong:
                frames.append(LabelledFrame(
                    np.array([elements.index(s) for s in atoms.symbols], np.int64), atoms.positions.copy(),
                    np.array(atoms.cell), atoms.pbc.copy(), float(atoms.calc.results["energy"]),
                    np.array(atoms.calc.results["forces"], float), str(atoms.info.get(group, where)),
                    str(atoms.info.get(kind, "all")), float(atoms.info.get("temperature", np.nan)),
                    " ".join(str(atoms.info[w]) for w in ("engine", "version", "settings") if w in atoms.info), where,
                    _stress(atoms)))
    faults += _mixed_units(frames)
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise InputError(*faults[:SHOWN], *more)
    if not frames:
        raise InputError(f"{', '.join(source for source, _ in sources)}: no frames")
    engines = {f.engine: f.where for f in reversed(frames)}
    if len(engines) > 1:
        raise InputError("data: labels of several engines or settings cannot be mixed: " +
                         "; ".join(f"{where}: '{engine}'" for engine, where in engines.items()))
    return frames


def _faults(atoms: ase.Atoms, elements: Sequence[str]) -> list[str]:
    results = atoms.calc.results if atoms.calc is not None else {}
    wrong = [f"no {what}; label it first" for what in ("energy", "forces") if what not in results]
    for name, values in (("position", atoms.positions), ("energy", results.get("energy", 0.0)),
                         ("force", results.get("forces", 0.0)), ("stress", results.get("stress", 0.0))):
        if not np.isfinite(values).all():
            wrong.append(f"a {name} is NaN or infinite; remove the frame")
    unknown = sorted(set(atoms.symbols) - set(elements))
    if unknown:
        wrong.append(f"contains {', '.join(unknown)}, not one of the elements {' '.join(elements)}")
    for key, unit in atoms.info.items():
        name = str(key).lower().removesuffix("s").removesuffix("_unit")
        if name in UNITS and str(key).lower() != name and str(unit).lower() not in UNITS[name]:
            wrong.append(f"{key} is {unit}; give labels in eV and Å")
    return wrong


def _stress(atoms: ase.Atoms) -> np.ndarray:
    """The stress label (3, 3), eV/Å³, or NaN."""
    stress = atoms.calc.results.get("stress")
    if stress is None or not atoms.pbc.all():
        return np.full((3, 3), np.nan)
    return voigt_6_to_full_3x3_stress(stress) if np.shape(stress) == (6,) else np.array(stress, float).reshape(3, 3)


def _mixed_units(frames: Sequence[LabelledFrame]) -> list[str]:
    """Faults of frames whose energy looks like another unit, compared with frames of the same composition."""
    faults = []
    by_composition: dict[tuple[int, ...], list[LabelledFrame]] = {}
    for f in frames:
        by_composition.setdefault(tuple(np.bincount(f.species) / np.gcd.reduce(np.bincount(f.species))), []).append(f)
    for same in by_composition.values():
        energy = np.array([f.energy / len(f.x) for f in same])
        usual = float(np.median(energy))
        for f, e in zip(same, energy):
            for unit, size in ENERGY_UNITS.items():
                if len(same) > 2 and abs(usual) > 0.5 and abs(e / (usual * size) - 1) < 0.02:
                    faults.append(f"{f.where}: energy per atom {e:.4g}, but {usual:.4g} eV for frames of the same "
                                  f"composition: probably in {unit}; give all labels in eV and Å")
    return faults


def write_hdf5(path: Path, structures: Sequence[ase.Atoms]) -> None:
    """Write labelled ASE structures as HDF5: atoms of all frames in one array, frame k is ``first[k]:first[k + 1]``.

    Datasets: ``first`` (n + 1,), ``numbers`` (atoms,), ``positions`` and ``forces`` (atoms, 3), ``cell`` (n, 3, 3),
    ``pbc`` (n, 3), ``energy`` (n,), and ``info/<key>`` (n,) of text for the info keys that every frame has;
    ``stress`` (n, 3, 3), NaN if not labelled. Units: eV, Å.
    """
    keys = sorted(set.intersection(*(set(a.info) for a in structures)))
    with h5py.File(path, "w") as f:
        f["first"] = np.cumsum([0, *map(len, structures)])
        for name, rows in (("numbers", [a.numbers for a in structures]),
                           ("positions", [a.positions for a in structures]),
                           ("forces", [a.get_forces() for a in structures])):
            f.create_dataset(name, data=np.concatenate(rows), compression="gzip")
        f["cell"] = np.array([np.array(a.cell) for a in structures])
        f["pbc"] = np.array([a.pbc for a in structures])
        f["energy"] = np.array([a.get_potential_energy() for a in structures])
        f["stress"] = np.array([_stress(a) for a in structures])
        for key in keys:
            f[f"info/{key}"] = [str(a.info[key]) for a in structures]


def _read_hdf5(path: Path) -> list[ase.Atoms]:
    structures = []
    try:
        with h5py.File(path) as f:
            first = f["first"][:]
            info = {key: f["info"][key].asstr()[:] for key in f.get("info", {})}
            rows = {name: f[name][:] for name in ("numbers", "positions", "forces", "cell", "pbc", "energy")}
            stress = f["stress"][:] if "stress" in f else np.full((len(first) - 1, 3, 3), np.nan)
        for k, (a, b) in enumerate(pairwise(first)):
            atoms = ase.Atoms([chemical_symbols[z] for z in rows["numbers"][a:b]], positions=rows["positions"][a:b],
                              cell=rows["cell"][k], pbc=rows["pbc"][k], info={key: v[k] for key, v in info.items()})
            labels = {} if np.isnan(stress[k]).any() else {"stress": stress[k]}
            atoms.calc = SinglePointCalculator(atoms, energy=rows["energy"][k], forces=rows["forces"][a:b], **labels)
            structures.append(atoms)
    except (OSError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as labelled frames: {error}") from None
    return structures


class Split(NamedTuple):
    """Indices of the frames of each part."""

    training: list[int]
    validation: list[int]
    test: list[int]


def split(frames: Sequence[LabelledFrame], validation: float, test: float, seed: int) -> Split:
    """A random split of the frames, by kind; groups are never split.

    Of each kind, whole groups are drawn for the test until it has its share of frames, then for validation; a kind of
    three or more groups gives at least one to each part whose share is not zero.
    """
    rng = np.random.default_rng([seed, 1])
    parts = Split([], [], [])
    for kind in sorted({f.kind for f in frames}):
        groups: dict[str, list[int]] = {}
        for k, f in enumerate(frames):
            if f.kind == kind:
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
    shared = {frames[k].group for k in parts.training} & {frames[k].group for k in parts.validation + parts.test}
    if shared:
        raise InputError(f"split: the group {min(shared)} has frames of several kinds; give each kind its own group")
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


class Dataset:
    """Frames with their neighbors within ``cutoff`` (Å).

    Attributes
    ----------
    frames : list of LabelledFrame
    edges : list of (center (m,) int64, neighbor (m,) int64, r_ij (m, 3) float64, Å), sorted by center
    """

    def __init__(self, frames: list[LabelledFrame], cutoff: float, progress: bool = False) -> None:
        self.frames, self.edges = frames, []
        backend = backends.make("cpu")
        for f in tqdm(frames, desc="neighbors", unit="frame", disable=not progress, leave=False):
            i, j, s = pairs(backend, f.x, Cell(f.cell, f.pbc) if f.pbc.any() else None, cutoff)
            order = np.lexsort((*s.T, j, i))
            i, j, s = i[order].astype(np.int64), j[order].astype(np.int64), s[order]
            self.edges.append((i, j, f.x[j] + s @ f.cell - f.x[i]))

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
            volume=torch.tensor([abs(np.linalg.det(f.cell)) for f in frames], dtype=torch.float64))

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
