"""The range of environments in the training set of a model: distances, coordination, forces, network features.

``Reference.measure`` computes it from labelled frames, ``write`` adds it to a model file as arrays named
``fidelity.*``, ``read`` reads it from there. The weights of the model are not changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.fidelity.bonds import BONDED, MOST_BONDS, bond_range, covalent_sums
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.isotopes import element_of
from rxmdnn.models.model_file import add_to_model, read_arrays, read_metadata
from rxmdnn.schema import Checked, Item, parse_json

PREFIX = "fidelity."
# A run visits more environments than the training set: limits are these factors beyond its range.
CLOSER, LONGER, STRONGER, FARTHER = 0.9, 1.1, 1.5, 2.0
FEWEST = 50  # atoms of a species in the frames, for ranges of its pairs, neighbors and forces
SOFT = 1e-4  # times the mean variance of features, added to each variance: constant features then have a finite scale


class Sample(NamedTuple):
    """One frame, with edges within 2 Å or more.

    species (n,); center, neighbor (m,); r (m,) Å; f (n, 3) eV/Å; latent (n, W): features
    """

    species: np.ndarray
    center: np.ndarray
    neighbor: np.ndarray
    r: np.ndarray
    f: np.ndarray
    latent: np.ndarray


@dataclass(frozen=True)
class Reference:
    """Ranges in the training set of a model of T species; NaN where the training set has no sample.

    Attributes
    ----------
    elements : tuple of str
    closest  (T, T) float64, Å: shortest distance
    bonded   (T, T) float64, Å: the end of the bonds (``bonds.bond_range``); 1.3 covalent sums where no pair is that
             close; 0 where bonds cannot be told from other pairs
    longest  (T, T) float64, Å: longest bond
    fewest, most (T, T) float64: numbers of neighbors within ``bonded``
    force    (T,) float64, eV/Å: largest labelled force
    mean (T, W), precision (T, W, W) float64: of the features; Mahalanobis distances √(dᵀ P d/W) are typically 1
    latent   (T,) float64: largest such distance
    """

    elements: tuple[str, ...]
    closest: np.ndarray
    bonded: np.ndarray
    longest: np.ndarray
    fewest: np.ndarray
    most: np.ndarray
    force: np.ndarray
    mean: np.ndarray
    precision: np.ndarray
    latent: np.ndarray

    @classmethod
    def measure(cls, elements: tuple[str, ...], samples: Iterable[Sample], cutoff: np.ndarray) -> Reference:
        """The reference of labelled frames; a species with too few atoms has no ranges, or none of its features.

        cutoff : (T, T) float64, Å, of the edges. Raises InputError if every species has too few atoms.
        """
        kept, t = list(samples), len(elements)
        n_atoms = np.array([len(s.species) for s in kept])
        shift = np.concatenate([[0], np.cumsum(n_atoms)])
        species, f, latent = (np.concatenate([getattr(s, k) for s in kept]) for k in ("species", "f", "latent"))
        center = np.concatenate([s.center + k for s, k in zip(kept, shift)])
        neighbor = np.concatenate([s.neighbor + k for s, k in zip(kept, shift)])
        rows = [np.flatnonzero(species == a) for a in range(t)]
        enough = np.array([len(k) >= FEWEST for k in rows])
        if not enough.any():
            raise InputError(f"no element has {FEWEST} atoms in the frames: "
                             + ", ".join(f"{len(k)} {e}" for e, k in zip(elements, rows)))
        pairs = cls._pairs(elements, species, center, neighbor, np.concatenate([s.r for s in kept]), cutoff, enough)
        width = latent.shape[1]
        force, farthest, mean, precision = (np.full(t, np.nan), np.full(t, np.nan), np.zeros((t, width)),
                                            np.zeros((t, width, width)))
        for a, k in enumerate(rows):
            if enough[a]:
                force[a] = np.sqrt((f[k] ** 2).sum(axis=1)).max()
            if len(k) >= max(FEWEST, 2 * width):
                mean[a] = latent[k].mean(axis=0)
                covariance = np.cov(latent[k].T).reshape(width, width)
                precision[a] = np.linalg.inv(covariance + SOFT * np.trace(covariance) / width * np.eye(width))
                farthest[a] = mahalanobis(latent[k], mean[a], precision[a]).max()
        closest, bonded, longest, fewest, most = pairs
        return cls(elements, closest, bonded, longest, fewest, most, force, mean, precision, farthest)

    @staticmethod
    def _pairs(elements: tuple[str, ...], species: np.ndarray, center: np.ndarray, neighbor: np.ndarray, r: np.ndarray,
               cutoff: np.ndarray, enough: np.ndarray) -> np.ndarray:
        """(5, T, T): closest, bonded, longest, fewest, most.

        species (n,); center, neighbor, r (m,) of all frames; enough (T,) bool: species with FEWEST atoms or more
        """
        t, pair = len(elements), species[center] * len(elements) + species[neighbor]
        closest, longest, fewest, most = np.full((4, t, t), np.nan)
        bonded, about = BONDED * covalent_sums(elements), BONDED * covalent_sums(elements)
        for a in range(t):
            for b in range(t):
                found = np.sort(r[pair == a * t + b])
                if len(found) and enough[a] and enough[b]:
                    closest[a, b] = found[0]
                longest[a, b], bonded[a, b] = bond_range(found, about[a, b], float(cutoff[a, b]))
        near = np.where(bonded == 0, about, bonded)
        bonds = r < near[species[center], species[neighbor]]
        count = np.bincount(center[bonds] * t + species[neighbor][bonds], minlength=len(species) * t).reshape(-1, t)
        packed = [bool((count[species == a].sum(axis=1) > MOST_BONDS).any()) for a in range(t)]
        for a in range(t):
            for b in range(t):
                if not enough[a] or not enough[b] or not bonded[a, b] or packed[a] or packed[b]:
                    longest[a, b], bonded[a, b] = np.nan, 0.0
                else:
                    fewest[a, b], most[a, b] = (side(count[species == a, b]) for side in (np.min, np.max))
        return np.stack([closest, bonded, longest, fewest, most])

    def missing(self) -> list[str]:
        """Which elements had too few atoms in the frames, and for what."""
        none, blind = np.isnan(self.force), np.isnan(self.latent) & ~np.isnan(self.force)
        notes = []
        if none.any():
            notes.append(f"{self._names(none)}: fewer than {FEWEST} atoms in the training frames; not monitored")
        if blind.any():
            notes.append(f"{self._names(blind)}: fewer than {2 * self.mean.shape[1]} atoms in the training frames; "
                         "network features not monitored")
        return notes

    def _names(self, which: np.ndarray) -> str:
        return ", ".join(e for e, chosen in zip(self.elements, which) if chosen)

    def of(self, elements: tuple[str, ...]) -> Reference:
        """This reference in the order of a run's elements, which must all be among its own."""
        k = np.array([self.elements.index(element_of(e)) for e in elements])
        square = ("closest", "bonded", "longest", "fewest", "most")
        return replace(self, elements=elements, **{name: getattr(self, name)[np.ix_(k, k)] for name in square},
                       **{name: getattr(self, name)[k] for name in ("force", "mean", "precision", "latent")})

    def tighten(self, limits: Limits) -> Limits:
        """``limits`` with those of this reference, extended by factors beyond its range, where it has samples."""
        def known(new: np.ndarray, old: np.ndarray) -> np.ndarray:
            return np.where(np.isnan(new), old, new)

        # earlier model files have bonds in close-packed shells
        packed = np.any(self.most > MOST_BONDS, axis=1)
        untold = (self.bonded == 0) | np.logical_or.outer(packed, packed)
        if limits.trained:  # by another model of the deck
            untold = untold | (limits.bonded == 0)
        bonded, longest = np.where(untold, 0.0, self.bonded), known(LONGER * self.longest, limits.longest)
        return replace(limits, closest=known(CLOSER * self.closest, limits.closest), bonded=bonded,
                       shortest=known(CLOSER * self.closest, limits.shortest),
                       longest=np.where(untold, np.inf, np.maximum(longest, self.bonded)),
                       fewest=np.where(untold, -np.inf, known(self.fewest, limits.fewest)),
                       most=np.where(untold, np.inf, known(self.most, limits.most)),
                       force=known(STRONGER * self.force, limits.force),
                       latent=known(FARTHER * self.latent, limits.latent), trained=True)

    def distance(self, latent: np.ndarray, species: np.ndarray) -> np.ndarray:
        """(n,) Mahalanobis distances. latent : (n, W); species : (n,)"""
        out = np.zeros(len(latent))
        for a in range(len(self.elements)):
            rows = np.flatnonzero(species == a)
            out[rows] = mahalanobis(latent[rows], self.mean[a], self.precision[a])
        return out


def mahalanobis(latent: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """(n,) Mahalanobis distances √(dᵀ P d/W), d = latent - mean. latent : (n, W)"""
    d = latent - mean
    return np.sqrt(np.maximum(np.einsum("nw,nw->n", d @ precision, d), 0.0) / latent.shape[1])


ARRAYS = tuple(f.name for f in fields(Reference) if f.name != "elements")
RULES = {name: Item("float", ("T", "T"), finite=False, dtype=np.float64) for name in ARRAYS} | {
    "mean": Item("float", ("T", "W"), dtype=np.float64), "precision": Item("float", ("T", "W", "W"), dtype=np.float64),
    **{name: Item("float", ("T",), finite=False, dtype=np.float64) for name in ("force", "latent")}}


def write(reference: Reference, model: str | Path, out: str | Path, about: dict[str, str]) -> None:
    """Write the model file with this reference in it, replacing another. about : metadata. Raises InputError."""
    add_to_model(model, out, PREFIX, {k: getattr(reference, k) for k in ARRAYS},
                 json.dumps({**about, "elements": reference.elements}))


def read(model: str | Path) -> Reference | None:
    """The reference in a model file, or None. Raises InputError if it is damaged."""
    text = read_metadata(model).get(PREFIX.rstrip("."))
    if text is None:
        return None
    advice = "compute them again with 'rxmdnn fidelity fit'"
    checked = Checked(model, advice)
    about = checked.entries(parse_json(text, model, "training statistics", advice),
                            {"elements": Item("text", ("T",))}, "fidelity")
    return Reference(about["elements"], **checked.entries(read_arrays(model, PREFIX), RULES, "fidelity"))
