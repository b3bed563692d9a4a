"""Weights of frames in the loss: by kind, for close pairs and stretched bonds, and of energies far above the lowest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from rxmdnn.deck.language import Deck
from rxmdnn.isotopes import element_of
from rxmdnn.parallel import AgreedError
from rxmdnn.training.dataset import Dataset


def frame_weights(deck: Deck, data: Dataset, training: Sequence[int]) -> np.ndarray | None:
    """(F, 2) weights of forces and of energies of every frame; None without such a line.

    Factors of a frame are multiplied. The means over the training frames are 1, so that learning rate and clipping
    keep their meaning. Raises InputError for a kind that no frame has.
    """
    close, stretched, scale = deck["weight_close"], deck["weight_stretched"], deck["weight_energies"].scale
    by_distance = close.factor is not None or stretched.factor is not None
    if not (deck["weight_kinds"].kind or by_distance or scale is not None):
        return None
    weights = np.ones((len(data.frames), 2)) * _of_kinds(deck, data)[:, None]
    if by_distance:
        nearest, loosest = extreme_distances(data, deck["elements"].element)
        if close.factor is not None:
            weights[nearest < close.fraction] *= close.factor
        if stretched.factor is not None:
            weights[loosest > stretched.fraction] *= stretched.factor
    if scale is not None:
        weights[:, 1] /= 1 + above_lowest(data, training) / scale
    mean = weights[list(training)].mean(0)
    if (mean <= 0).any():
        raise AgreedError(deck["weight_kinds"].fault("the factors leave no training frame; give one above zero"))
    return weights / mean


def _of_kinds(deck: Deck, data: Dataset) -> np.ndarray:
    """(F,) factor of each frame by its kind."""
    line, kinds = deck["weight_kinds"], {f.kind for f in data.frames}
    if unknown := [k for k in line.kind if k not in kinds]:
        raise AgreedError(line.fault(f"{', '.join(unknown)}: not a kind of the data, which are "
                                     f"{', '.join(sorted(kinds))}"))
    factor = dict(zip(line.kind, line.factor))
    return np.array([factor.get(f.kind, 1.0) for f in data.frames])


def extreme_distances(data: Dataset, elements: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Two (F,) arrays: the shortest pair of each frame, and the largest distance of an atom from its nearest neighbor.

    Both are distances over the sum of the covalent radii; atoms without a neighbor do not count.
    """
    radius = np.array([covalent_radii[atomic_numbers[element_of(e)]] for e in elements])
    shortest, loosest = np.full(len(data.frames), np.inf), np.zeros(len(data.frames))
    for k, (frame, (i, j, r)) in enumerate(zip(data.frames, data.edges)):
        if len(i):
            nearest = np.full(len(frame.x), np.inf)
            np.minimum.at(nearest, i, np.linalg.norm(r, axis=1) / (radius[frame.species[i]] + radius[frame.species[j]]))
            shortest[k], loosest[k] = nearest.min(), nearest[np.isfinite(nearest)].max()
    return shortest, loosest


def above_lowest(data: Dataset, training: Sequence[int]) -> np.ndarray:
    """(F,) energy per atom of each frame above the lowest of the training frames of its composition, eV, at least 0."""
    def composition(k: int) -> bytes:
        counts = np.bincount(data.frames[k].species)
        return (counts // np.gcd.reduce(counts)).tobytes()

    energy = np.array([f.energy / len(f.x) for f in data.frames])
    lowest: dict[bytes, float] = {}
    for k in training:
        lowest[composition(k)] = min(energy[k], lowest.get(composition(k), np.inf))
    own = np.array([lowest.get(composition(k), energy[k]) for k in range(len(energy))])
    return np.maximum(energy - own, 0.0)
