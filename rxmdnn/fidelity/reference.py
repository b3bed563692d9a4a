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
from rxmdnn.fidelity.criteria import BONDED, Limits, covalent_sums
from rxmdnn.isotopes import element_of
from rxmdnn.models.model_file import add_to_model, read_arrays, read_metadata

PREFIX = "fidelity."
# A run visits more environments than the training set: limits are these factors beyond its range.
CLOSER, LONGER, STRONGER, FARTHER = 0.9, 1.1, 1.5, 2.0
GAP = 1.15  # ratio of successive sorted distances that ends the bonds
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
    bonded   (T, T) float64, Å: between the longest bond and the next distance; without bonds 1.3 covalent sums
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
    def measure(cls, elements: tuple[str, ...], samples: Iterable[Sample]) -> Reference:
        """The reference of labelled frames. Raises InputError if a species has too few atoms for its features."""
        kept, t = list(samples), len(elements)
        n_atoms = np.array([len(s.species) for s in kept])
        shift = np.concatenate([[0], np.cumsum(n_atoms)])
        species, f, latent = (np.concatenate([getattr(s, k) for s in kept]) for k in ("species", "f", "latent"))
        center = np.concatenate([s.center + k for s, k in zip(kept, shift)])
        neighbor = np.concatenate([s.neighbor + k for s, k in zip(kept, shift)])
        r = np.concatenate([s.r for s in kept])
        pair = species[center] * t + species[neighbor]
        closest, longest = np.full((2, t, t), np.nan)
        bonded = BONDED * covalent_sums(elements)
        for a in range(t):
            for b in range(t):
                found = np.sort(r[pair == a * t + b])
                if len(found):
                    closest[a, b] = found[0]
                longest[a, b], bonded[a, b] = _bond(found, bonded[a, b])
        bonds = r < bonded[species[center], species[neighbor]]
        count = np.bincount(center[bonds] * t + species[neighbor][bonds], minlength=len(species) * t).reshape(-1, t)
        fewest, most = np.full((2, t, t), np.nan)
        force, farthest = np.full((2, t), np.nan)
        width = latent.shape[1]
        mean, precision = np.zeros((t, width)), np.zeros((t, width, width))
        strength = np.sqrt((f**2).sum(axis=1))
        faults = []
        for a in range(t):
            rows = np.flatnonzero(species == a)
            if len(rows) < 2 * width:
                faults.append(f"{elements[a]}: {len(rows)} atoms in the frames; {width} features need {2 * width}")
                continue
            fewest[a], most[a], force[a] = count[rows].min(axis=0), count[rows].max(axis=0), strength[rows].max()
            mean[a] = latent[rows].mean(axis=0)
            covariance = np.cov(latent[rows].T).reshape(width, width)
            precision[a] = np.linalg.inv(covariance + SOFT * np.trace(covariance) / width * np.eye(width))
            farthest[a] = mahalanobis(latent[rows], mean[a], precision[a]).max()
        if faults:
            raise InputError(*faults)
        return cls(elements, closest, bonded, longest, fewest, most, force, mean, precision, farthest)

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

        longest = known(LONGER * self.longest, limits.longest)
        return replace(limits, closest=known(CLOSER * self.closest, limits.closest), bonded=self.bonded,
                       shortest=known(CLOSER * self.closest, limits.shortest),
                       longest=np.maximum(longest, self.bonded), fewest=known(self.fewest, limits.fewest),
                       most=known(self.most, limits.most), force=known(STRONGER * self.force, limits.force),
                       latent=known(FARTHER * self.latent, limits.latent))

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


def _bond(r: np.ndarray, about: float) -> tuple[float, float]:
    """Longest bond among ascending distances, and the middle of the gap after it; without bonds NaN and ``about``."""
    if not len(r) or r[0] >= about:
        return np.nan, about
    steps = np.flatnonzero(r[1:] > GAP * r[:-1])
    steps = steps[r[steps + 1] > about / 1.2]  # a gap among short bonds does not end them
    if len(steps):
        return float(r[steps[0]]), float(0.5 * (r[steps[0]] + r[steps[0] + 1]))
    return float(r[r < about][-1]), about


ARRAYS = tuple(f.name for f in fields(Reference) if f.name != "elements")


def write(reference: Reference, model: str | Path, out: str | Path, about: dict[str, str]) -> None:
    """Write the model file with this reference in it, replacing another. about : metadata. Raises InputError."""
    add_to_model(model, out, PREFIX, {k: getattr(reference, k) for k in ARRAYS},
                 json.dumps({**about, "elements": reference.elements}))


def read(model: str | Path) -> Reference | None:
    """The reference in a model file, or None. Raises InputError if it is damaged."""
    text = read_metadata(model).get(PREFIX.rstrip("."))
    if text is None:
        return None
    try:
        elements = tuple(json.loads(text)["elements"])
        arrays = read_arrays(model, PREFIX)
        t, w = len(elements), arrays["mean"].shape[1]
        shapes = {"mean": (t, w), "precision": (t, w, w), "force": (t,), "latent": (t,)}
        if any(arrays[k].shape != shapes.get(k, (t, t)) or arrays[k].dtype != np.float64 for k in ARRAYS):
            raise ValueError("shapes")
        return Reference(elements, **{k: arrays[k] for k in ARRAYS})
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(f"{model}: its training statistics are damaged ({error}); "
                         "compute them again with 'rxmdnn fidelity fit'") from None
