"""The error of forces with a tabulated two-body part, and the number of intervals that keeps it below a tolerance.

The error is measured in double precision on environments drawn at random from the cutoffs and the mean numbers of
neighbors of the model, with neighbors as near as 0.7 of the sum of covalent radii: they depend on nothing but the
model, so that a run that goes on has the same table. Such environments can have forces far beyond those of a run, so
an error counts in proportion where a pair's force is above LARGE. Rounding in single precision comes on top of it.
"""

from __future__ import annotations

import numpy as np
import torch
from ase.data import atomic_numbers, covalent_radii

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of
from rxmdnn.models.allegro_evaluation import BlockEvaluation
from rxmdnn.models.allegro_network import NetworkConfig, PairNetwork
from rxmdnn.models.allegro_tabulated import TABULATED

FEWEST, MOST, GROWTH = 32, 1024, 1.5  # intervals, from trial to trial
CENTERS = 16  # of each species
MOST_NEIGHBORS = 80
NEAREST = 0.7  # sums of covalent radii
LARGE = 1.0  # eV/Å
EVERY = 8  # one of so many neighbors has a random distance, the others fill the sphere evenly


def environments(config: NetworkConfig) -> tuple[Edges, np.ndarray]:
    """Edges of random environments, and the type of each atom: first the centers, then their neighbors."""
    rng, t = np.random.default_rng(0), len(config.elements)
    n_i = np.clip(np.rint(config.per_species("average_neighbors")), 2, MOST_NEIGHBORS).astype(int)
    centers = np.repeat(np.arange(t), CENTERS)
    first = np.concatenate([[0], np.cumsum(n_i[centers])]).astype(np.int64)
    m = int(first[-1])
    center = np.repeat(np.arange(len(centers)), n_i[centers])
    types = np.concatenate([centers, rng.integers(0, t, m)]).astype(np.int32)
    numbers = [atomic_numbers.get(element_of(e), 0) for e in config.elements]
    radius = np.array([covalent_radii[z] for z in numbers])
    of_edge = types[center], types[len(centers):]
    cutoff = config.cutoff[of_edge]
    low = np.minimum(NEAREST * (radius[of_edge[0]] + radius[of_edge[1]]), 0.5 * cutoff)
    u = rng.random(m)
    r = np.where(np.arange(m) % EVERY == 0, low + (cutoff - low) * u, np.cbrt(low**3 + (cutoff**3 - low**3) * u))
    direction = rng.normal(size=(m, 3))
    r_ij = direction * (r / np.linalg.norm(direction, axis=1))[:, None]
    neighbor = np.arange(len(centers), len(centers) + m)
    return Edges(center.astype(np.int32), neighbor.astype(np.int32), r_ij, first), types


def gradients(evaluation: BlockEvaluation, edges: Edges, types: np.ndarray) -> np.ndarray:
    """∂E/∂r_ij (m, 3), eV/Å, of edges on the host whose atoms have these types of the model."""
    n, g_ij = len(edges.first) - 1, np.empty((len(edges.center), 3))
    evaluation.allocate(len(edges.center), n)
    same = np.arange(types.max() + 1)
    with torch.no_grad():
        evaluation.evaluate(evaluation.host_arguments(edges, types, same, 0, n), np.empty(n), g_ij, None)
    return g_ij


def error_of(g_ij: np.ndarray, exact: np.ndarray, first: np.ndarray) -> float:
    """A bound on the error of the force of an atom, eV/Å: twice the largest sum over a center of the errors of its
    edges, since the edges of an atom to its neighbors and those of its neighbors to it act on it.

    The sum of a center is divided by its largest gradient over LARGE, if that is above one.
    """
    total = np.add.reduceat(np.linalg.norm(g_ij - exact, axis=1), first[:-1])
    largest = np.maximum.reduceat(np.linalg.norm(exact, axis=1), first[:-1])
    return 2 * float((total / np.maximum(largest / LARGE, 1.0)).max())


def intervals_for(network: PairNetwork, direct: type[BlockEvaluation], tolerance: float, name: str
                  ) -> tuple[int, float]:
    """The number of intervals and the error of forces with it, eV/Å.

    Parameters
    ----------
    network, direct : and the class of its evaluation without a table
    tolerance : largest error, eV/Å; name : of the model, for messages

    Raises
    ------
    InputError
        MOST intervals are too few.
    """
    edges, types = environments(network.config)
    exact = gradients(direct(network, torch.float64, None), edges, types)
    n, tabulated = FEWEST, TABULATED[network.form]
    while True:
        error = error_of(gradients(tabulated(network, torch.float64, None, n), edges, types), exact, edges.first)
        if error <= tolerance:
            return n, error
        if n * GROWTH > MOST:
            raise InputError(f"{name}: a table for an error of {tolerance:g} eV/Å would need more than {n} intervals, "
                             f"which have {error:.1e} eV/Å; allow a larger error, or omit the table")
        n = int(n * GROWTH)
