"""Folding of an Allegro network: every product of linear maps without a nonlinearity between them is multiplied out.

What stays are chains of hidden layers and the matrices that join them. The two-body matrix of each pair of species and
the latent scalars z_k, which enter only linear maps, do not appear in the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rxmdnn.models.activations import ACTIVATIONS
from rxmdnn.models.allegro_network import MLP, AllegroNetwork

Cast = Callable[[Tensor], Tensor]  # float64 on the host -> the precision and the place of the evaluation


class LayerChain:
    """The part of an MLP from its first pre-activation to its last hidden layer: activation, [Linear, activation] · k.

    Parameters
    ----------
    matrices : the k linear maps between the hidden layers
    width : number of columns of the first pre-activation
    active : False for an MLP of one matrix, which has no hidden layer; the chain is then a copy
    activation : name of the nonlinearity
    """

    def __init__(self, matrices: list[Tensor], width: int, active: bool, activation: str) -> None:
        self.matrices, self.active, self.activation = matrices, active, ACTIVATIONS[activation]
        self.widths = [width] + [m.shape[1] for m in matrices]

    def allocate(self, rows: int, new: Callable[..., Tensor]) -> None:
        """Make the buffers for ``rows`` edges."""
        self.pre = [new(rows, w) for w in self.widths]
        self.hidden = [new(rows, w) for w in self.widths[:-1]]
        self.d_hidden = [new(rows, w) for w in self.widths[:-1]]
        self.d_pre = [new(rows, w) for w in self.widths]

    def forward(self, out: Tensor) -> None:
        """Evaluate the chain from ``pre[0]`` to ``out``."""
        if not self.active:
            out.copy_(self.pre[0])
            return
        for k, matrix in enumerate(self.matrices):
            self.activation.forward(self.pre[k], self.hidden[k])
            torch.mm(self.hidden[k], matrix, out=self.pre[k + 1])
        self.activation.forward(self.pre[-1], out)

    def backward(self, d_out: Tensor) -> Tensor:
        """The gradient with respect to ``pre[0]``, in a buffer of the chain, from that with respect to ``out``."""
        if not self.active:
            return self.d_pre[0].copy_(d_out)
        for k in reversed(range(len(self.widths))):
            self.activation.backward(d_out, self.pre[k], self.d_pre[k])
            if k:
                d_out = torch.mm(self.d_pre[k], self.matrices[k - 1].t(), out=self.d_hidden[k - 1])
        return self.d_pre[0]


@dataclass
class Weights:
    """A folded network, in the precision and at the place of the evaluation; h_k is the k-th hidden layer.

    Attributes
    ----------
    pair_matrices : (T, T, b or b + 2, w) from the radial basis to the first pre-activation, [center][neighbor]
    chains : the MLPs that give h_0, h_1, ...
    latent_widths : number of columns of h_0, h_1, ...
    env : from hidden layers to the environment weights of each layer (the first one: also to the tensor features)
    from_hidden, from_tensor : from hidden layers, and from scalars of the products, to the next pre-activation
    to_readout, readout, energy : from all hidden layers to the readout MLP, that MLP, and its last matrix
    directions : the energy of a center is divided by the root of ``directions`` times the number of neighbors
    term_weights : (t, U) float64 of each layer's terms
    n_scalars : columns of the scalars that ``layer_forward`` copies out
    n_slopes : columns of the radial slopes
    joined : columns of the features after each layer, where a linear map makes them of the products; 0 for none
    """

    pair_matrices: Tensor
    chains: list[LayerChain]
    latent_widths: list[int]
    env: list[Tensor]
    from_hidden: list[Tensor]
    from_tensor: list[Tensor]
    to_readout: Tensor
    readout: LayerChain
    energy: Tensor
    directions: float
    term_weights: list[Tensor]
    n_scalars: int
    n_slopes: int
    joined: list[int]


def matrices_of(mlp: MLP) -> list[Tensor]:
    """The matrices of an MLP between its nonlinearities, float64."""
    return [matrix.double() for matrix in mlp.matrices()]


def chain_of(matrices: list[Tensor], cast: Cast, activation: str = "silu") -> tuple[LayerChain, Tensor]:
    """The chain after the first matrix of an MLP, and its last matrix (the identity if there is one matrix)."""
    width = matrices[0].shape[1]
    if len(matrices) == 1:
        return LayerChain([], width, False, activation), torch.eye(width, dtype=torch.float64)
    return LayerChain([cast(m) for m in matrices[1:-1]], width, True, activation), matrices[-1]


def stacked(latents: Sequence[Tensor], matrix: Tensor, width: int) -> Tensor:
    """The maps of several hidden layers through their latent scalars and the rows of ``matrix`` for these scalars.

    latents : from each hidden layer to its ``width`` latent scalars
    """
    return torch.cat([z @ matrix[width * j : width * (j + 1)] for j, z in enumerate(latents)])


def fold(network: AllegroNetwork, cast: Cast) -> Weights:
    """The folded weights of a network of the present form, multiplied out in float64."""
    c, s = network.config, network.config.n_scalar
    embed = matrices_of(network.embed)
    pair_matrices = cast(network.pair_matrices() @ embed[0])
    first, tail = chain_of(embed, cast, c.embed_activation)
    chains, project = [first], network.project.matrix().double()
    latents = [tail @ project[:, :s]]
    env = [cast(tail @ torch.cat([network.tensor_embed.matrix().double(), project[:, s:]], dim=1))]
    from_hidden, from_tensor = [], []
    for mlp in network.latents:
        matrices = matrices_of(mlp)  # type: ignore[arg-type]
        from_hidden.append(cast(stacked(latents, matrices[0], s)))
        from_tensor.append(cast(matrices[0][s * len(latents) :]))
        chain, tail = chain_of(matrices, cast, c.latent_activation)
        chains.append(chain)
        latents.append(tail[:, :s])
        env.append(cast(tail[:, s:]))
    matrices = matrices_of(network.readout)
    readout, tail = chain_of(matrices, cast, c.readout_activation)
    return Weights(
        pair_matrices, chains, [chain.widths[-1] for chain in chains], env, from_hidden, from_tensor,
        cast(stacked(latents, matrices[0], s)), readout, cast(tail), directions=2.0,
        term_weights=[w.double()[t.path] for t, w in zip(network.tables, network.path_weights)],
        n_scalars=c.n_tensor, n_slopes=c.n_radial, joined=[0] * c.n_layers)
