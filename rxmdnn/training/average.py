"""Averages of the weights over the steps of a training; they are validated and saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

WIDEST = 12**-0.5  # relative width of the plain mean of all steps


class Average:
    """Running average of weights, a += (1 - d) (w - a).

    The decay d at update t = 1, 2, ... is min(``decay``, (1 + t)/(10 + t)), whose smaller values at first remove the
    random start; or with ``horizon`` (1 - 1/t)^(γ + 1): a weighs step s as s^γ, and the width of this window is the
    fraction ``horizon`` of the training so far, however long it is. T. Karras et al., arXiv:2312.02696, eq. 121-127.

    Parameters
    ----------
    decay : of the exponential average
    horizon : standard deviation of the averaged steps over their number, above 0 and at most WIDEST (γ = 0); None:
        the exponential average
    """

    def __init__(self, weights: list[torch.nn.Parameter], decay: float, horizon: float | None = None) -> None:
        self.weights, self.decay, self.updates = weights, decay, 0
        self.power = None if horizon is None else power_of(horizon)
        self.values = [w.detach().clone() for w in weights]

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        d = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.power is None else \
            (1 - 1 / self.updates) ** (self.power + 1)
        for a, w in zip(self.values, self.weights):
            a.add_(w - a, alpha=1 - d)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A block in which the network has the average; the weights are restored exactly afterwards."""
        kept = [w.detach().clone() for w in self.weights]
        self.put(self.values)
        try:
            yield
        finally:
            self.put(kept)

    @torch.no_grad()
    def put(self, values: list[Tensor]) -> None:
        """Copy these values into the network."""
        for w, v in zip(self.weights, values):
            w.copy_(v)


def power_of(width: float) -> float:
    """γ ≥ 0 of the window t^γ on [0, 1] with this standard deviation: width² = (γ + 1)/((γ + 2)² (γ + 3)).

    >>> round(power_of(12**-0.5), 9), round(power_of(0.1), 3)
    (0.0, 6.937)
    """
    # (γ + 2)² (γ + 3) - (γ + 1)/width² = 0; its largest root
    roots = np.roots([1.0, 7.0, 16.0 - width**-2, 12.0 - width**-2])
    return max(0.0, float(max(r.real for r in roots if abs(r.imag) < 1e-6)))
