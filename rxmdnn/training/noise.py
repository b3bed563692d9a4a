"""Noise on positions: training frames with Gaussian displacements, new ones in each epoch.

Sources of the idea: J. Godwin et al., "Simple GNN regularisation for 3D molecular property prediction", ICLR 2022
(arXiv:2106.07971); S. Zaidi et al., ICLR 2023 (arXiv:2206.00133); Y.-L. Liao et al., arXiv:2403.09549. They let the
network predict the displacement. Here the labels are corrected instead: energies to first order by the labelled forces,
E(x + δ) ≈ E(x) - F(x)·δ; forces and stresses keep their labels, which is a smoothing of the forces over σ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rxmdnn.training.dataset import Batch, Dataset

MARGIN = 10.0  # in σ: pairs that come nearer by more than this, P = 1e-10, would be missed just below the cutoff
STREAM = 3  # of the seed, beside those of the split (1) and of the order of batches (2)


class DisplacedFrames(Dataset):
    """The frames of ``data`` with displacements of their atoms.

    A displacement depends on the seed, the epoch and the index of the frame alone: the same on any number of ranks and
    in any batch.

    Parameters
    ----------
    data : Dataset
    cutoff : of the network, Å
    sigma : standard deviation of each component of a displacement, Å
    seed : of the displacements
    """

    def __init__(self, data: Dataset, cutoff: float, sigma: float, seed: int) -> None:
        super().__init__(data.frames, cutoff + MARGIN * sigma)
        self.weights, self.cutoff, self.sigma, self.seed = data.weights, cutoff, sigma, seed

    def displacement(self, k: int) -> np.ndarray:
        """δ (n, 3), Å, of frame ``k`` in the current epoch."""
        rng = np.random.default_rng([self.seed, STREAM, self.epoch, k])
        return self.sigma * rng.standard_normal(self.frames[k].x.shape)

    def batch(self, which: Sequence[int]) -> Batch:
        """The displaced frames as one batch, with corrected energies."""
        batch, moved = super().batch(which), [self.displacement(k) for k in which]
        work = torch.tensor([(self.frames[k].forces * d).sum() for k, d in zip(which, moved)], dtype=torch.float64)
        delta = torch.from_numpy(np.concatenate(moved))
        r_ij = batch.r_ij + delta[batch.neighbor] - delta[batch.center]
        near = r_ij.square().sum(1) < self.cutoff**2
        return replace(batch, center=batch.center[near], neighbor=batch.neighbor[near], r_ij=r_ij[near],
                       energy=batch.energy - work)
