"""A penalty on correlated latent features of the edges, proposed for Allegro in arXiv:2502.12548.

Features that vary together carry the same information; a network whose features are independent uses all of them, and
its answer depends less on any single one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def off_diagonal(features: Tensor, relative: bool = False) -> Tensor:
    """Mean of the squared off-diagonal elements of the covariance of features (m, S) over their m rows.

    ``relative`` takes the correlation coefficients instead, which do not change with the size of the features.
    """
    mean = features.mean(0)
    c = ((features.T @ features) / len(features) - mean[:, None] * mean).double()  # no centered copy: time
    if relative:
        size = c.diagonal().clamp_min(1e-12).sqrt()
        c = c / (size[:, None] * size)
    s = len(c)
    return (c.square().sum() - c.diagonal().square().sum()) / max(1, s * (s - 1))


class Decorrelation:
    """The penalty of the last evaluation of a network: weight × `off_diagonal` of the features of its last layer.

    Ranks that share a batch take each the edges of their own frames.

    Parameters
    ----------
    network : Allegro of either form; its last latent MLP is watched
    weight : times the penalty in the loss
    relative : as in `off_diagonal`
    """

    def __init__(self, network: Any, weight: float, relative: bool) -> None:
        self.weight, self.relative = weight, relative
        self._features: Tensor | None = None
        network.latents[-1].register_forward_hook(self._keep)

    def _keep(self, mlp: torch.nn.Module, inputs: Any, outputs: list[Tensor]) -> None:
        self._features = outputs[0] if outputs[0].requires_grad else None

    def loss(self) -> Tensor:
        """The penalty times its weight; the features are then forgotten."""
        assert self._features is not None
        features, self._features = self._features, None
        return self.weight * off_diagonal(features, self.relative)
