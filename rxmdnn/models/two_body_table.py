"""The two-body part of a folded Allegro network as functions of distance, and their tables.

The first hidden layer h_0 of a pair of types depends on its distance alone, and it enters linear maps only: it adds
f^p(r) h_0(r) M to each environment weight, pre-activation and readout (f is the cutoff envelope, p = 0 in the present
form of the network). These sums, the parts, are tabulated; neither h_0 nor its maps remain in the evaluation.

A table holds the quintic polynomial on each interval that has the value and the first two derivatives of the function
at both ends (Hermite). Its second derivative is continuous, the force that of the tabulated energy. The intervals are
equal in the logarithm of the distance, because the functions change fast where atoms are near.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor
from torch.func import jvp

from rxmdnn.isotopes import element_of
from rxmdnn.models.allegro_fold import LayerChain, Weights
from rxmdnn.models.edge_functions import envelope, splines

BEGIN = 0.5  # of the table, in sums of covalent radii
BEGIN_RANGE = 0.02, 0.5  # of its beginning, in cutoffs
AnyWeights = TypeVar("AnyWeights", bound=Weights)


class Image(NamedTuple):
    """f^power h_0 matrix, a share of a part; matrix (columns of h_0, W)."""

    power: int
    matrix: Tensor


Parts = dict[str, list[Image]]  # by name, see BlockEvaluation.product


def without_two_body(weights: AnyWeights, powers: list[int | None], env_blocks: Callable[[int], list[int]]
                     ) -> tuple[AnyWeights, Parts]:
    """The weights without all that depends on the distance of a pair alone, and that as parts.

    Parameters
    ----------
    powers : of each hidden layer: the power of the envelope with which h_0 is in its first columns; None: it is not
    env_blocks : the hidden layers that enter the environment weights of a layer
    """
    width, parts = weights.latent_widths[0], defaultdict(list)

    def rest(part: str, matrix: Tensor, blocks: list[int]) -> Tensor:
        kept = []
        for block, rows in zip(blocks, matrix.split([weights.latent_widths[b] for b in blocks])):
            power = powers[block]
            if power is None:
                kept.append(rows)
            else:
                parts[part].append(Image(power, rows[:width]))
                kept.append(rows[width:])
        return torch.cat(kept).contiguous()

    n = len(weights.latent_widths)
    env = [rest(f"env {k}", matrix, env_blocks(k)) if matrix.shape[1] else matrix
           for k, matrix in enumerate(weights.env)]
    hidden = [rest(f"pre {k}", matrix, list(range(k + 1))) for k, matrix in enumerate(weights.from_hidden)]
    readout = rest("readout", weights.to_readout, list(range(n)))
    widths = [w if p is None else w - width for w, p in zip(weights.latent_widths, powers)]
    no_chain = LayerChain([], 0, False, "silu")
    with_cut = weights.pair_matrices.shape[2] > weights.n_slopes
    return replace(weights, env=env, from_hidden=hidden, to_readout=readout, latent_widths=widths,
                   chains=[no_chain, *weights.chains[1:]], n_slopes=2 if with_cut else 1), dict(parts)


def derivatives(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """function(x) (m, W) and its first two derivatives, row by row."""
    one = torch.ones_like(x)

    def first(at: Tensor) -> tuple[Tensor, Tensor]:
        value, slope = jvp(function, (at,), (one,))[:2]
        return value, slope

    with torch.enable_grad():  # under no_grad some activations have no second derivative
        (value, slope), (_, curvature) = jvp(first, (x,), (one,))[:2]
    return value.detach(), slope.detach(), curvature.detach()


def spans(config: Any) -> np.ndarray:
    """(T, T) float64: log(cutoff/begin) of each pair of types; begin is BEGIN times the sum of covalent radii."""
    radius = np.array([covalent_radii[atomic_numbers.get(element_of(e), 0)] for e in config.elements])
    x = BEGIN * (radius[:, None] + radius) / config.cutoff
    return -np.log(np.clip(x, *BEGIN_RANGE))


class TwoBody:
    """The first hidden layer and the parts that it gives, as functions of distance.

    Parameters
    ----------
    config : of the network; roots : of the Bessel functions
    weights : folded, with the two-body part, float64, on the host

    Attributes
    ----------
    width : columns of h_0
    """

    def __init__(self, config: Any, roots: Tensor, weights: Weights) -> None:
        self.config, self.roots, self.weights = config, roots, weights
        self.width = weights.latent_widths[0]

    def hidden(self, of_pair: tuple[int, int], x: Tensor) -> tuple[Tensor, Tensor]:
        """h_0 (m, w) and the envelope (m, 1) of a pair of types at x = r/cutoff, (m,) float64."""
        c, matrix, chain = self.config, self.weights.pair_matrices[of_pair], self.weights.chains[0]
        f = envelope(x, c.envelope_p)[:, None]
        n_splines = getattr(c, "n_splines", 0)
        basis = splines(x, n_splines, c.spline_span) if n_splines else torch.sinc(
            x[:, None] * self.roots) * self.roots * f
        h = basis @ matrix[: basis.shape[1]]
        if len(matrix) > basis.shape[1]:
            h = h + f * matrix[-2] + matrix[-1]
        if chain.active:
            h = chain.activation.function(h)
            for between in chain.matrices:
                h = chain.activation.function(h @ between)
        return h, f

    def tables(self, parts: Parts, n: int) -> dict[str, Tensor]:
        """The tables of the parts, (T² (n + 1) 3, W) float64, n intervals per ordered pair of types.

        Three rows per point: value, first and second derivative with respect to t = n + n log(r/cutoff)/span.
        """
        u, span = torch.arange(n + 1, dtype=torch.float64) / n - 1, spans(self.config)
        found = []
        for of_pair in np.ndindex(span.shape):

            def sums(at: Tensor, of_pair: Any = of_pair) -> Tensor:
                h, f = self.hidden(of_pair, torch.exp(float(span[of_pair]) * at))
                return torch.cat([torch.stack([f**image.power * h @ image.matrix for image in images]).sum(0)
                                  for images in parts.values()], dim=1)

            value, slope, curvature = derivatives(sums, u)
            rows = torch.stack([value, slope / n, curvature / n**2], dim=1)
            rows[-1] = 0  # at the cutoff, exactly
            found.append(rows)
        widths = [images[0].matrix.shape[1] for images in parts.values()]
        return dict(zip(parts, torch.cat(found).flatten(0, 1).split(widths, dim=1)))
