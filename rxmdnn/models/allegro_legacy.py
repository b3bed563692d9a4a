"""The older form of the network (LegacyNetwork): its folding and its evaluation over one block of edges.

Every latent scalar is a sum of envelope-weighted hidden layers, so the layers' updates are never added up: what
is linear in them is multiplied out over the hidden layers h_0 .. h_k kept side by side. Where the latent MLP is
linear (as in the published models), h_{k+1} is envelope times [h_k, scalars of the products], with no matrix.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rxmdnn.arrays import Array
from rxmdnn.models.allegro_evaluation import BlockArguments, BlockEvaluation, add_product
from rxmdnn.models.allegro_fold import Cast, LayerChain, Weights, chain_of, matrices_of
from rxmdnn.models.clebsch_gordan import Mix
from rxmdnn.models.legacy_network import LegacyNetwork


@dataclass
class LegacyWeights(Weights):
    """A folded LegacyNetwork.

    Attributes
    ----------
    as Weights
    linear : whether the latent MLPs are linear
    n_products : columns of the products' scalars after each layer
    mixes, mix_matrices : of the linear maps that join the products after each layer; none after the last one
    """

    linear: bool
    n_products: list[int]
    mixes: list[tuple[Mix, ...]]
    mix_matrices: list[list[Tensor]]


def pair_matrices_of(network: LegacyNetwork, first: Tensor) -> Tensor:
    """(T, T, b + 2, w) float64: the first matrix of the two-body MLP with the normalization of the radial basis.

    The row b multiplies the envelope, the row b + 1 one (the types of the two atoms).
    """
    c, t, b = network.config, len(network.config.elements), network.config.n_bessel
    mean, inv_std = network.basis_mean.double(), network.basis_inv_std.double()
    radial = inv_std[:, None] * first[2 * t :]
    rows = [radial * (2 * math.pi / float(c.r_max) ** 2), -(mean @ radial)[None]]
    types = first[:t, None] + first[None, t : 2 * t]
    return torch.cat([torch.cat(rows).expand(t, t, b + 1, -1), types[:, :, None]], dim=2)


class _LatentFold:
    """The layers' maps, multiplied out over the hidden layers.

    Attributes
    ----------
    latents : the share of each hidden layer in the latent scalars of the present layer, float64
    """

    def __init__(self, network: LegacyNetwork, embed: list[Tensor], linear: bool, cast: Cast) -> None:
        self.cast, self.linear, self.scalars = cast, linear, network.config.embed_widths[-1]
        first, tail = chain_of(embed, cast)
        self.chains: list[LayerChain] = [first]
        self.widths, self.latents = [first.widths[-1]], [tail]
        self.env: list[Tensor] = []
        self.from_hidden: list[Tensor] = []
        self.from_tensor: list[Tensor] = []
        for env, mlp, (old, new) in zip(network.env, network.latents, network.coefficients()):
            self.env.append(cast(torch.cat(self.latents) @ env.matrix().double()))  # type: ignore[operator]
            self.add(matrices_of(mlp), old, new)  # type: ignore[arg-type]

    def add(self, matrices: list[Tensor], old: Tensor, new: Tensor) -> None:
        """The update of one layer: z = old z + new envelope MLP[z, scalars of the products]."""
        s, latents = self.scalars, self.latents
        if self.linear:
            update = [z @ matrices[0][:s] for z in latents[:-1]]
            last = torch.cat([latents[-1] @ matrices[0][:s], matrices[0][s:]])
            # envelope times hidden layer j is where hidden layer j + 1 begins
            for j, z in enumerate(update):
                latents[j + 1] = old * latents[j + 1]
                latents[j + 1][: len(z)] += new * z
            latents[0] = old * latents[0]
            latents.append(new * last)
            self.widths.append(len(last))
            return
        self.from_hidden.append(self.cast(torch.cat(latents) @ matrices[0][:s]))
        self.from_tensor.append(self.cast(matrices[0][s:]))
        chain, tail = chain_of(matrices, self.cast)
        self.chains.append(chain)
        self.latents = [old * z for z in latents] + [new * tail]
        self.widths.append(chain.widths[-1])


def fold_legacy(network: LegacyNetwork, cast: Cast) -> LegacyWeights:
    """The folded weights of a network of the older form, multiplied out in float64."""
    c, u = network.config, network.config.n_tensor
    embed = matrices_of(network.embed)
    linear = len(matrices_of(network.latents[0])) == 1  # type: ignore[arg-type]
    layers = _LatentFold(network, embed, linear, cast)
    matrices = matrices_of(network.readout)
    readout, tail = chain_of(matrices, cast)
    mixes = [*network.all_mixes[:-1], ()]
    return LegacyWeights(
        cast(pair_matrices_of(network, embed[0])), layers.chains, layers.widths, layers.env, layers.from_hidden,
        layers.from_tensor, cast(torch.cat(layers.latents) @ matrices[0]), readout, cast(tail), directions=1.0,
        term_weights=[torch.ones(len(t.path), u, dtype=torch.float64) for t in network.tables],
        n_scalars=0, n_slopes=c.n_bessel + 1,
        joined=[sum(2 * mix.l + 1 for mix in of_layer) * u for of_layer in mixes], linear=linear,
        n_products=[of_layer[0].paths * u for of_layer in network.all_mixes], mixes=mixes,
        mix_matrices=[[cast(m.double()) for m in network.mix_matrices(k)] for k in range(c.n_layers - 1)] + [[]])


class LegacyEvaluation(BlockEvaluation):
    """As BlockEvaluation, of a LegacyNetwork."""

    weights: LegacyWeights

    @staticmethod
    def fold(network: Any, cast: Cast) -> LegacyWeights:
        return fold_legacy(network, cast)

    def allocate(self, rows: int, centers: int) -> None:
        super().allocate(rows, centers)
        u, w = self.config.n_tensor, self.weights
        self._begin = [int(e) for e in np.cumsum([0, *w.latent_widths])]
        self._hidden = [self.new(rows, chain.widths[-1]) for chain in w.chains]
        self._d_hidden = [torch.zeros_like(hidden) for hidden in self._hidden]
        self._scalar_of = [v[:, :n] for v, n in zip(self._v, w.n_products)]
        self._d_scalar_of = [v[:, :n] for v, n in zip(self._d_v, w.n_products)]
        # each joining: columns of products and of features, and of their gradients, one component at a time
        self._join = [[
            (*(x[:, u * (mix.start_in + m * mix.paths) : u * (mix.start_in + (m + 1) * mix.paths)] for x in (
                self._v[k], self._d_v[k])),
             *(x[:, u * (mix.start_out + m) : u * (mix.start_out + m + 1)] for x in (self._v_in[k], self._d_v_in[k])),
             matrix)
            for mix, matrix in zip(w.mixes[k], w.mix_matrices[k]) for m in range(2 * mix.l + 1)]
            for k in range(self.config.n_layers)]

    def start_forward(self, block: BlockArguments) -> None:
        self.geometry(block)
        self.weights.chains[0].forward(self._hidden[0])
        self.kernels.scale_rows(self._cut, self.array(self._hidden[0]), 0, self.weights.latent_widths[0],
                                self.array(self._h), 0)

    def forward(self, block: BlockArguments) -> None:
        begin, w, cut, kernels, array = self._begin, self.weights, self._cut, self.kernels, self.array
        widths, h = w.latent_widths, array(self._h)
        self.start_forward(block)
        for k in range(self.config.n_layers):
            self.product(f"env {k}", self._h_to[k + 1], w.env[k], self._a[k])
            kernels.layer_forward(*self._forward_of[k], *block.layers, *self._layer_in[k], *self._layer_out[k])
            for products, _, features, _, matrix in self._join[k]:
                torch.mm(products, matrix, out=features)
            if w.linear:
                kernels.scale_rows(cut, h, begin[k], widths[k], h, begin[k + 1])
                kernels.scale_rows(cut, array(self._v[k]), 0, w.n_products[k], h, begin[k + 1] + widths[k])
            else:
                pre = self.product(f"pre {k}", self._scalar_of[k], w.from_tensor[k], w.chains[k + 1].pre[0])
                add_product(pre, self._h_to[k + 1], w.from_hidden[k])
                w.chains[k + 1].forward(self._hidden[k + 1])
                kernels.scale_rows(cut, array(self._hidden[k + 1]), 0, widths[k + 1], h, begin[k + 1])

    def backward(self, block: BlockArguments, g_ij: Array) -> None:
        n, w = self.config.n_layers, self.weights
        self._d_cut[:] = 0
        for k in reversed(range(n)):
            for _, d_products, _, d_features, matrix in self._join[k]:
                torch.mm(d_features, matrix.t(), out=d_products)
            if w.linear:
                self._linear_update_backward(k, add=k < n - 1)
            else:
                self._update_backward(k, add=k < n - 1)
            self.layer_backward(block, k)
            self.collect(f"env {k}", self._d_a[k])
            add_product(self._d_h_to[k + 1], self._d_a[k], w.env[k].t())
        self.end_backward(block, self._d_h_of[0], g_ij)

    def end_backward(self, block: BlockArguments, d_hidden: Tensor, g_ij: Array) -> None:
        array = self.array
        self.kernels.scale_rows_backward(False, self._cut, array(self._hidden[0]), 0, self.weights.latent_widths[0],
                                         array(self._d_h), 0, array(self._d_hidden[0]), self._d_cut)
        super().end_backward(block, self._d_hidden[0], g_ij)

    def _linear_update_backward(self, k: int, add: bool) -> None:
        """The gradients of hidden layer k and of the products' scalars, the latter added to or set."""
        begin, w, cut, d_cut, array = self._begin, self.weights, self._cut, self._d_cut, self.array
        h, d_h, width = array(self._h), array(self._d_h), w.latent_widths[k]
        self.kernels.scale_rows_backward(True, cut, h, begin[k], width, d_h, begin[k + 1], d_h, d_cut)
        self.kernels.scale_rows_backward(add, cut, array(self._v[k]), 0, w.n_products[k], d_h, begin[k + 1] + width,
                                         array(self._d_v[k]), d_cut)

    def _update_backward(self, k: int, add: bool) -> None:
        """The gradients of the hidden layers before k + 1 and of the products' scalars, the latter added to or set."""
        w, array = self.weights, self.array
        self.kernels.scale_rows_backward(False, self._cut, array(self._hidden[k + 1]), 0, w.latent_widths[k + 1],
                                         array(self._d_h), self._begin[k + 1], array(self._d_hidden[k + 1]),
                                         self._d_cut)
        d_pre = w.chains[k + 1].backward(self._d_hidden[k + 1])
        self.collect(f"pre {k}", d_pre)
        add_product(self._d_h_to[k + 1], d_pre, w.from_hidden[k].t())
        if add:
            self._d_scalar_of[k].addmm_(d_pre, w.from_tensor[k].t())
        else:
            torch.mm(d_pre, w.from_tensor[k].t(), out=self._d_scalar_of[k])
