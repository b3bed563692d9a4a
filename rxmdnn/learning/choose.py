"""Which frames of alarms are labelled: those farthest from the training set and from each other in latent space.

Farthest points in the features of a model, as Sener and Savarese (ICLR 2018, arXiv:1708.00489) choose what to label:
of all points the one with the largest distance to the nearest chosen one is chosen next, greedily.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import ase
import numpy as np
from ase.data import covalent_radii

from rxmdnn import backend as backends
from rxmdnn.atoms import Edges
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.fidelity.bonds import BROKEN
from rxmdnn.fidelity.reference import Reference
from rxmdnn.fidelity.reference import read as read_reference
from rxmdnn.io.ase_atoms import cell_of
from rxmdnn.labelling.committee import KEPT_WORDS
from rxmdnn.learning.alarms import AT_ALARM, Alarm
from rxmdnn.learning.cut import RADIUS, cut
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.model_file import load_model
from rxmdnn.training.labelled_frames import bare_frame

FAILED = 0.6  # in sums of covalent radii: a frame with a nearer pair is unphysical and never labelled
KIND = "learned"
PER_ALARM = 3


class Chosen(NamedTuple):
    """Frames to label, and the numbers of those that were not chosen.

    Attributes
    ----------
    frames : as ``cut`` makes them, with the words ``origin``, ``alarm`` (the criterion), ``kind`` ("learned"),
        ``group`` and ``latent_distance`` (of the worst atom and its neighbors, the largest; about 1 is usual); in the
        order of choice
    candidates : int, all frames; failed : with atoms too near, or NaN or infinite coordinates; duplicates : the same as
        another one
    """

    frames: list[ase.Atoms]
    candidates: int
    failed: int
    duplicates: int


class Candidate(NamedTuple):
    """A frame of an alarm, what is labelled of it, its point in latent space, and its distance from the training."""

    alarm: Alarm
    part: ase.Atoms
    point: np.ndarray
    distance: float


def choose(alarms: Sequence[Alarm], model: Path, count: int, most: int = 64, axes: tuple[int, ...] = (0, 1, 2, 3),
           per_alarm: int = PER_ALARM, at_alarm: bool = True) -> Chosen:
    """At most ``count`` frames of the alarms to label, cut around the worst atom of their alarm.

    Frames with NaN or infinite coordinates, or of which two atoms are nearer than 0.6 sums of covalent radii, have
    failed; equal ones are taken once. Of the others those are chosen that are farthest from the training set (the mean
    of its features) and from those chosen before, at most ``per_alarm`` of the alarms of one group. The point of a
    frame in latent space is ``point_of``. The order of the alarms does not matter, and nothing is random: every rank
    chooses the same.

    Parameters
    ----------
    model : file of a network with statistics of its training set (``rxmdnn fidelity fit``)
    most, axes : of ``cut``
    at_alarm : whether frames of the alarm itself are among those that may be chosen, and not only earlier ones

    Raises InputError for a model without statistics, and for an element that it does not have.
    """
    space = LatentSpace(model)
    candidates = failed = duplicates = 0
    found, seen = [], set()
    for alarm in sorted(alarms, key=lambda a: a.source):
        for frame in (f for f in alarm.frames if at_alarm or not f.info[AT_ALARM]):
            candidates += 1
            if not _is_finite(frame) or has_failed(part := cut(frame, alarm.worst, most, axes)):
                failed += 1
            elif (digest := _digest(part)) in seen:
                duplicates += 1
            else:
                seen.add(digest)
                found.append(Candidate(alarm, part, *space.point_of(frame, alarm.worst)))
    rows = farthest(np.array([c.point for c in found]), [c.alarm.group for c in found], count, per_alarm)
    return Chosen([_named(found[k]) for k in rows], candidates, failed, duplicates)


def farthest(points: np.ndarray, groups: Sequence[str], count: int, per_group: int) -> list[int]:
    """Rows of at most ``count`` points, each the farthest from the origin and from those before it, the first of equal.

    points (n, W); per_group : the most that are taken of one group
    """
    least = np.linalg.norm(points, axis=-1)
    left, taken = np.ones(len(points), bool), dict.fromkeys(groups, 0)
    rows: list[int] = []
    while len(rows) < count and left.any():
        k = int(np.argmax(np.where(left, np.round(least, 9), -1.0)))
        rows.append(k)
        taken[groups[k]] += 1
        least = np.minimum(least, np.linalg.norm(points - points[k], axis=1))
        left[k] = False
        if taken[groups[k]] >= per_group:
            left &= np.array([g != groups[k] for g in groups])
    return rows


def has_failed(atoms: ase.Atoms) -> bool:
    """Whether a coordinate is NaN or infinite, or two atoms, or an atom and an image, are nearer than 0.6 of the sum of
    their covalent radii."""
    if not _is_finite(atoms):
        return True
    radius = covalent_radii[atoms.numbers]
    cell = cell_of(atoms)
    i, j, s = pairs(backends.make("cpu"), atoms.positions, cell if cell.pbc.any() else None,
                    FAILED * 2 * float(radius.max()))
    r = np.linalg.norm(atoms.positions[j] + s @ cell.h - atoms.positions[i], axis=1)
    return bool((r < FAILED * (radius[i] + radius[j])).any())


def _is_finite(atoms: ase.Atoms) -> bool:
    return bool(np.isfinite(atoms.positions).all() and np.isfinite(np.array(atoms.cell)).all())


class LatentSpace:
    """The features of a model on the scale of its training set. Raises InputError for a model without statistics."""

    def __init__(self, model: Path) -> None:
        self.model, self.reference = model, _reference(model)
        elements = load_model(model).config.elements
        self.potential = Allegro.load(model, elements)
        self.potential.watched = True
        self.reference = self.reference.of(elements)
        values, vectors = np.linalg.eigh(self.reference.precision)
        self._whiten = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]  # P = Σ λ v vᵀ

    def point_of(self, frame: ase.Atoms, worst: int) -> tuple[np.ndarray, float]:
        """The point (T · W,) of a frame for its worst atom, and its distance from the training set.

        The features of the worst atom and of all atoms within 1.6 sums of covalent radii, or of the nearest one, are
        those in the whole frame, d = features - mean of the species in the training set, whitened: |z|² = dᵀ P d / W.
        Their averages of each species a, times the square root of its share of the atoms, make the point; the training
        set is the origin. The distance is the largest |z|, that of ``rxmdnn label --select``.
        """
        features, species = self._features(frame, worst)
        d = features - self.reference.mean[species]
        z = np.einsum("kw,kwv->kv", d, self._whiten[species]) / np.sqrt(d.shape[1])
        point = np.zeros((len(self.reference.elements), d.shape[1]))
        np.add.at(point, species, z)
        number = np.bincount(species, minlength=len(point))
        return ((point / np.sqrt(np.maximum(number, 1) * len(species))[:, None]).ravel(),
                float(np.sqrt((z**2).sum(axis=1)).max()))

    def _features(self, frame: ase.Atoms, worst: int) -> tuple[np.ndarray, np.ndarray]:
        """(k, W) features of the worst atom and its neighbors, and (k,) their species."""
        known, source = self.potential.elements, str(frame.info.get("origin", "frame"))
        unknown = sorted(set(frame.symbols) - set(known))
        if unknown:
            raise InputError(f"{source}: has {', '.join(unknown)}, which {self.model} does not have; it has "
                             f"{', '.join(known)}")
        bare = bare_frame(frame, known, source)
        i, j, r = _edges(bare.x, frame, float(self.potential.cutoff.max()))
        length = np.linalg.norm(r, axis=1)
        radius = covalent_radii[frame.numbers]
        own = np.flatnonzero(i == worst)
        near = own[length[own] < BROKEN * (radius[worst] + radius[j[own]])]
        if not len(near) and len(own):
            near = own[[int(np.argmin(length[own]))]]
        centers = np.unique(np.append(j[near], worst))
        used = np.isin(i, centers) & (length < self.potential.cutoff[bare.species[i], bare.species[j]])
        rows = np.concatenate([centers, np.setdiff1d(np.arange(len(frame)), centers)])
        row = np.argsort(rows).astype(np.int32)  # centers come first, as atoms that a rank owns
        i, j, r = row[i[used]], row[j[used]], np.ascontiguousarray(r[used])
        order = np.argsort(i, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(i, minlength=len(centers)))]).astype(np.int64)
        species = bare.species[rows]
        self.potential.compute(Edges(i[order], j[order], r[order], first), species.astype(np.int32))
        return self.potential.features(), species[: len(centers)]


def _edges(x: np.ndarray, frame: ase.Atoms, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """center, neighbor (m,) and r_ij (m, 3) Å of all pairs within the cutoff, Å."""
    cell = cell_of(frame)
    i, j, s = pairs(backends.make("cpu"), x, cell if cell.pbc.any() else None, cutoff)
    return i, j, x[j] + s @ cell.h - x[i]


def _reference(model: Path) -> Reference:
    reference = read_reference(model)
    if reference is None:
        raise InputError(f"{model}: has no statistics of its training set, by which frames are chosen; add them with "
                         f"'rxmdnn fidelity fit {model} FRAMES'")
    if np.isnan(reference.latent).all():
        raise InputError(f"{model}: its training set had too few atoms of every element for statistics of features, by "
                         "which frames are chosen; train on more frames")
    return reference


def _digest(atoms: ase.Atoms) -> bytes:
    """Of what a label depends on."""
    arrays = atoms.numbers, atoms.positions, np.array(atoms.cell), np.array(atoms.pbc)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).digest()


def _named(chosen: Candidate) -> ase.Atoms:
    """The frame to label with the words of its choice; those of the run that tell neighbors in time stay."""
    atoms, alarm, info = chosen.part, chosen.alarm, chosen.part.info
    atoms.info = {"kind": KIND, "origin": info["origin"], "alarm": alarm.criterion,
                  "group": re.sub(r"[^\w.+-]", "_", alarm.group), "latent_distance": round(chosen.distance, 4),
                  **{w: info[w] for w in (*KEPT_WORDS, RADIUS) if w in info and w != "group"}}
    return atoms
