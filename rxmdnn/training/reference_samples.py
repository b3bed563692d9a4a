"""Samples of environments in labelled frames for the Reference of a network."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from rxmdnn.atoms import Edges
from rxmdnn.fidelity.reference import Reference, Sample
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.allegro_network import PairNetwork
from rxmdnn.training.dataset import Dataset


def of_network(network: PairNetwork, data: Dataset, which: Sequence[int]) -> Reference:
    """The Reference of a network over the frames ``which``. Raises InputError if they are too few."""
    elements = network.config.elements
    potential = Allegro(network, elements)
    potential.watched = True

    def samples() -> Iterator[Sample]:
        for k in tqdm(which, desc="features", leave=False, disable=not sys.stderr.isatty()):
            frame, (i, j, r_ij) = data.frames[k], data.edges[k]
            species, n = frame.species.astype(np.int32), len(frame.x)
            r = np.sqrt((r_ij * r_ij).sum(axis=1))
            near = r < potential.cutoff[species[i], species[j]]
            first = np.concatenate([[0], np.cumsum(np.bincount(i[near], minlength=n))]).astype(np.int64)
            potential.compute(Edges(i[near].astype(np.int32), j[near].astype(np.int32),
                                    np.ascontiguousarray(r_ij[near]), first), species)
            yield Sample(species.astype(np.int64), i[near], j[near], r[near], frame.forces, potential.features())

    return Reference.measure(elements, samples(), potential.cutoff)
