"""Sharpness-aware minimization: each step uses the gradient at the top of a short climb, to find flat minima.

Plain: Foret et al., arXiv:2010.01412, as Allegro-Legato uses it (one norm over all parameters). Adaptive: Kwon et al.,
arXiv:2102.11600. Friendly: Li et al., arXiv:2403.12350. Periodic and late-phase variants climb in some of the steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rxmdnn.deck.language import Entry

if TYPE_CHECKING:
    from rxmdnn.training.dataset import Batch
    from rxmdnn.training.trainer import Trainer

ETA = 0.01  # ASAM: the size of a weight is |w| + η
MEMORY = 0.9  # friendly: decay of the running average of the gradient


class Sam:
    """One step: gradient g at w; climb to w + ρ d/‖d‖; gradient there; back to w, bit for bit; clip; optimizer.

    The direction is d = g; adaptive: T² g with T = |w| + η and the norm ‖T g‖; friendly: g minus its running average
    m, which then becomes 0.9 m + 0.1 g (none at the first climb).

    Parameters
    ----------
    line : the deck's entry 'sam'

    Attributes
    ----------
    mean : running average of the gradient, of the friendly variant
    """

    def __init__(self, line: Entry) -> None:
        self.line = line
        self.mean: list[Tensor] | None = None

    def __call__(self, trainer: Trainer, batch: Batch | None) -> tuple[float, ...]:
        line = self.line
        of_all_ranks = line.ascent == "global"
        climbs = trainer.progress >= line.start_fraction and (line.variant != "periodic" or
                                                              trainer.step % line.every == 0)
        parts = trainer.gradient(batch, together=of_all_ranks or not climbs)
        if climbs:
            kept = [w.detach().clone() for w in trainer.weights]
            self.climb(trainer.weights)
            above = trainer.gradient(batch)
            trainer.average.put(kept)
            if not of_all_ranks:
                parts = tuple(np.sum(trainer.comm.allgather(parts), axis=0).tolist())
            if not np.isfinite(above).all():
                return above
        trainer.clip()
        trainer.optimizer.step()
        return parts

    @torch.no_grad()
    def climb(self, weights: list[torch.nn.Parameter]) -> None:
        """Add ρ d/‖d‖ to the weights; d comes from their gradients."""
        d = [torch.zeros_like(w) if w.grad is None else w.grad.clone() for w in weights]
        if self.line.variant == "friendly":
            g = d
            if self.mean is None:
                self.mean = g
            else:
                d = [a - m for a, m in zip(g, self.mean)]
                self.mean = [MEMORY * m + (1 - MEMORY) * a for a, m in zip(g, self.mean)]
        sizes = [w.abs() + ETA for w in weights] if self.line.adaptive else [torch.ones_like(w) for w in weights]
        norm = sum(float((t * a).double().square().sum()) for t, a in zip(sizes, d)) ** 0.5
        for w, t, a in zip(weights, sizes, d):
            w.add_(t * t * a, alpha=self.line.rho / (norm + 1e-12))

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"mean": self.mean}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.mean = state["mean"]
