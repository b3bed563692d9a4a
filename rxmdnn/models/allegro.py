"""Allegro as a potential of the engine: energies and pair gradients in blocks of whole centers, derived by hand.

The network is a chain of linear maps with SiLU and one product of tensors between; what is linear after linear is
multiplied out once, on loading (two-body matrices of each pair of species, and the latent scalars z_k, which
enter only linear maps). The environment of a center acts on the features of its edges as one sparse operator, made
once a center. The gradient is the chain backwards, without a graph; buffers are kept from call to call.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.models import allegro_kernels as kernels
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, envelope
from rxmdnn.models.model_file import load_model
from rxmdnn.models.zbl import zbl_pair_energy

__all__ = ["Allegro", "AllegroConfig", "AllegroNetwork"]

BLOCK_EDGES = 1200  # measured: from 700 to 2000 all do; fewer cost calls, more cost memory
CENTER_LOAD = 8  # an operator costs about as much, and its memory is bounded where atoms have few neighbors
ROUND = 16  # rows of the buffers are rounded up to this


class _Chain:
    """The part of an MLP between its first pre-activation and its last hidden layer: SiLU, [Linear, SiLU]·."""

    def __init__(self, matrices: list[Tensor], width: int, active: bool) -> None:
        self.matrices, self.active = matrices, active
        self.widths = [width] + [m.shape[1] for m in matrices]

    def allocate(self, rows: int, new) -> None:
        self.pre = [new(rows, w) for w in self.widths]
        self.hidden = [new(rows, w) for w in self.widths[:-1]]
        self.d_hidden = [new(rows, w) for w in self.widths[:-1]]
        self.d_pre = [new(rows, w) for w in self.widths]

    def forward(self, out: Tensor) -> None:
        """``pre[0]`` to ``out``."""
        if not self.active:
            out.copy_(self.pre[0])
            return
        for k, matrix in enumerate(self.matrices):
            torch.ops.aten.silu.out(self.pre[k], out=self.hidden[k])
            torch.mm(self.hidden[k], matrix, out=self.pre[k + 1])
        torch.ops.aten.silu.out(self.pre[-1], out=out)

    def backward(self, d_out: Tensor) -> Tensor:
        """Gradient of ``out`` to gradient of ``pre[0]``."""
        if not self.active:
            return d_out
        for k in reversed(range(len(self.widths))):
            torch.ops.aten.silu_backward.grad_input(d_out, self.pre[k], grad_input=self.d_pre[k])
            if k:
                d_out = torch.mm(self.d_pre[k], self.matrices[k - 1].t(), out=self.d_hidden[k - 1])
        return self.d_pre[0]


class Allegro:
    """The potential of an AllegroNetwork (see rxmdnn.models.interface.Potential).

    Parameters
    ----------
    network : AllegroNetwork
    elements : the run's elements; each must be one of the network's
    precision : "float32" or "float64", of the network; geometry and sums of energies are float64 always
    name : of the model, for messages
    block_edges : about how many edges are evaluated together, in whole centers

    Raises
    ------
    InputError : an element the model does not know, or another precision.
    """

    def __init__(self, network: AllegroNetwork, elements: tuple[str, ...], precision: str = "float32",
                 name: str = "Allegro model", block_edges: int = BLOCK_EDGES) -> None:
        c = self.config = network.config
        unknown = [e for e in elements if e not in c.elements]
        if unknown:
            raise InputError(f"{name}: does not know {', '.join(unknown)}; it knows {', '.join(c.elements)}")
        if precision not in ("float32", "float64"):
            raise InputError(f"{name}: precision {precision!r}: must be float32 or float64")
        self.elements = tuple(elements)
        self.block_edges = block_edges
        self.dtype = torch.float32 if precision == "float32" else torch.float64
        self._type = np.array([c.elements.index(e) for e in elements], np.int64)
        self.cutoff = np.ascontiguousarray(c.cutoff[np.ix_(self._type, self._type)])
        self._inv_cutoff = 1.0 / c.cutoff
        self._rows = -1
        with torch.no_grad():
            self._fold(network)

    @classmethod
    def load(cls, path: str | Path, elements: tuple[str, ...], precision: str = "float32") -> Allegro:
        """The potential of a native model file."""
        return cls(load_model(path), elements, precision, str(path))

    def _fold(self, network: AllegroNetwork) -> None:
        """Multiply out what is linear after linear, in float64, and cast."""
        c, s = self.config, self.config.n_scalar

        def matrices(mlp) -> list[Tensor]:
            return [a.matrix().double() for a in mlp.linears]

        def cast(x: Tensor) -> Tensor:
            return x.to(self.dtype).contiguous()

        def chain(mats: list[Tensor]) -> tuple[_Chain, Tensor]:
            """What follows the first matrix: hidden layers, and the last matrix (identity if there is one matrix)."""
            if len(mats) == 1:
                return _Chain([], mats[0].shape[1], False), torch.eye(mats[0].shape[1], dtype=torch.float64)
            return _Chain([cast(m) for m in mats[1:-1]], mats[0].shape[1], True), mats[-1]

        embed = matrices(network.embed)
        types = torch.cat([network.center_embed.double()[:, None].expand(-1, len(c.elements), -1),
                           network.neighbor_embed.double()[None].expand(len(c.elements), -1, -1)], dim=-1)
        self._pair_matrices = cast((network.basis.matrix().double() * types[:, :, None, :]) @ embed[0]).numpy()
        first, tail = chain(embed)
        self._chains = [first]
        project = network.project.matrix().double()
        z_of_hidden = [tail @ project[:, :s]]
        # a hidden layer's weights of the environment (and, for the two-body one, of the first tensor features)
        self._env = [cast(tail @ torch.cat([network.tensor_embed.matrix().double(), project[:, s:]], dim=1))]
        self._from_hidden, self._from_tensor = [], []
        for mlp in network.latents:
            mats = matrices(mlp)
            enter = torch.cat([z @ mats[0][s * j : s * (j + 1)] for j, z in enumerate(z_of_hidden)])
            self._from_hidden.append(cast(enter))
            self._from_tensor.append(cast(mats[0][s * len(z_of_hidden) :]))
            layer, tail = chain(mats)
            self._chains.append(layer)
            z_of_hidden.append(tail[:, :s])
            self._env.append(cast(tail[:, s:]))
        mats = matrices(network.readout)
        self._to_readout = cast(torch.cat([z @ mats[0][s * j : s * (j + 1)] for j, z in enumerate(z_of_hidden)]))
        self._readout, tail = chain(mats)
        self._energy = cast(tail)
        dtype = np.float32 if self.dtype == torch.float32 else np.float64
        average = c.per_species("average_neighbors")
        self._norm = (average**-0.5).astype(dtype)
        self._shift = network.shift.double().numpy().copy()
        self._factor = network.scale.double().numpy() / np.sqrt(2 * average)
        self._roots = network.bessel.double().numpy().copy()
        self._integer_roots = bool((self._roots == np.arange(1, c.n_bessel + 1)).all())
        self._l_of_m = np.array([l for l in range(c.l_max + 1) for _ in range(2 * l + 1)], np.int64)  # noqa: E741
        self._tables = [
            (np.ascontiguousarray(t.m2), np.ascontiguousarray(t.pair),
             np.ascontiguousarray((t.coefficient[:, None] * w.double().numpy()[t.path]).astype(dtype)),
             np.ascontiguousarray(t.pairs[:, 0]), np.ascontiguousarray(t.pairs[:, 1]))
            for t, w in zip(network.tables, network.path_weights)]
        self._d_out = [t.d_out for t in network.tables]
        self._z = network.atomic_number.numpy()

    def _allocate(self, rows: int, centers: int) -> None:
        """Buffers for blocks of at most ``rows`` edges and ``centers`` centers."""
        c, u = self.config, self.config.n_tensor
        r = c.l_max + 1

        def new(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=self.dtype)

        self._rows, self._centers = rows, centers
        for chain in (*self._chains, self._readout):
            chain.allocate(rows, new)
        ends = np.cumsum([0] + [chain.widths[-1] for chain in self._chains])
        self._h, self._d_h = new(rows, int(ends[-1])), new(rows, int(ends[-1]))
        self._h_of = [self._h[:, a:b] for a, b in pairwise(ends)]
        self._d_h_of = [self._d_h[:, a:b] for a, b in pairwise(ends)]
        self._h_to, self._d_h_to = [self._h[:, :b] for b in ends], [self._d_h[:, :b] for b in ends]
        self._e_ij = new(rows, 1)
        self._hidden_readout = new(rows, self._readout.widths[-1])
        self._seed = self._energy.t().expand(rows, -1)
        # weights of the environments, after those of the first tensor features; features and scalars of each layer
        self._a = [new(rows, e.shape[1]) for e in self._env[:-1]]
        self._d_a = [new(rows, e.shape[1]) for e in self._env[:-1]]
        self._d_v = [new(rows, d * u) for d in self._d_out]
        self._s = [new(rows, u) for _ in self._d_out]
        self._b = [new(centers, len(t[3]), u).numpy() for t in self._tables]
        self._y, self._d_y = new(rows, r * r).numpy(), new(rows, r * r).numpy()
        self._radial_slope = new(rows, c.n_bessel).numpy()

        def features(x: Tensor) -> np.ndarray:
            return x.numpy().reshape(rows, -1, u)

        a, d_a, d_v = (list(map(features, x)) for x in (self._a, self._d_a, self._d_v))
        v = [new(rows, d, u).numpy() for d in self._d_out]
        n = c.n_layers
        self._forward_of = [(k == 0, r if k == 0 else 0) for k in range(n)]
        self._layer_in = [(*self._tables[k], self._y, a[k], a[0] if k == 0 else v[k - 1], self._b[k]) for k in range(n)]
        self._layer_out = [(v[k], self._s[k].numpy()) for k in range(n)]
        self._layer_gradients = [(d_v[k], d_a[0] if k == 0 else d_v[k - 1], d_a[k], self._d_y) for k in range(n)]

    def compute(self, edges: Edges, species: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies of the owned atoms, eV, shift included, and ∂E/∂r_ij, eV/Å (see Potential.compute)."""
        e_i, g_ij = np.empty(len(edges.first) - 1), np.empty((len(edges.r_ij), 3))
        blocks = self._blocks(edges.first)
        if not blocks:
            return e_i, g_ij
        rows = max(int(edges.first[i1] - edges.first[i0]) for i0, i1 in blocks)
        rows = max(ROUND, -(-rows // ROUND) * ROUND)
        centers = max(i1 - i0 for i0, i1 in blocks)
        if rows != self._rows or centers > self._centers:
            self._allocate(rows, centers)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # a block's matrices are small; and Numba's thread layer raises torch's number unasked
        try:
            with torch.no_grad():
                for i0, i1 in blocks:
                    self._evaluate(edges, species, i0, i1, e_i, g_ij)
        finally:
            torch.set_num_threads(threads)
        if self.config.zbl:
            self._add_zbl(edges, species, e_i, g_ij)
        return e_i, g_ij

    def _blocks(self, first: np.ndarray) -> list[tuple[int, int]]:
        """Ranges of whole centers of nearly equal load; a center counts as much as CENTER_LOAD edges."""
        n = len(first) - 1
        if n == 0:
            return []
        load = first + CENTER_LOAD * np.arange(n + 1)
        parts = -(-int(load[-1]) // self.block_edges)
        cuts = np.searchsorted(load, np.arange(1, parts) * (load[-1] / parts))
        return [(int(i0), int(i1)) for i0, i1 in pairwise(np.unique(np.concatenate([[0], cuts, [n]])))]

    def _evaluate(self, edges: Edges, species: np.ndarray, i0: int, i1: int, e_i: np.ndarray, g_ij: np.ndarray) -> None:
        """Fill the rows of e_i and g_ij of the centers [i0, i1)."""
        of_edge = (edges.r_ij, edges.first, i0, i1, edges.neighbor, species, self._type, self._type)
        of_center = (edges.first, i0, i1, species, self._type, self._norm, self._l_of_m)
        n = self.config.n_layers
        kernels.edge_geometry(*of_edge, self._inv_cutoff, self._roots, self._integer_roots, self.config.envelope_p,
                              self.config.l_max, self._pair_matrices, self._radial_slope, self._y,
                              self._chains[0].pre[0].numpy())
        self._chains[0].forward(self._h_of[0])
        for k in range(n):
            torch.mm(self._h_of[k], self._env[k], out=self._a[k])
            kernels.layer_forward(*self._forward_of[k], *of_center, *self._layer_in[k], *self._layer_out[k])
            pre = torch.mm(self._s[k], self._from_tensor[k], out=self._chains[k + 1].pre[0])
            pre.addmm_(self._h_to[k + 1], self._from_hidden[k])
            self._chains[k + 1].forward(self._h_of[k + 1])
        torch.mm(self._h, self._to_readout, out=self._readout.pre[0])
        self._readout.forward(self._hidden_readout)
        torch.mm(self._hidden_readout, self._energy, out=self._e_ij)
        kernels.sum_edges(self._e_ij.numpy(), *of_center[:5], self._factor, self._shift, e_i)

        torch.mm(self._readout.backward(self._seed), self._to_readout.t(), out=self._d_h)
        self._d_y[:] = 0
        for k in reversed(range(n)):
            d_pre = self._chains[k + 1].backward(self._d_h_of[k + 1])
            self._d_h_to[k + 1].addmm_(d_pre, self._from_hidden[k].t())
            d_s = self._d_v[k][:, : self.config.n_tensor]
            if k == n - 1:
                torch.mm(d_pre, self._from_tensor[k].t(), out=d_s)
            else:
                d_s.addmm_(d_pre, self._from_tensor[k].t())
            kernels.layer_backward(*self._forward_of[k], *of_center, *self._layer_in[k], *self._layer_gradients[k])
            self._d_h_of[k].addmm_(self._d_a[k], self._env[k].t())
        d_pre = self._chains[0].backward(self._d_h_of[0])
        kernels.edge_gradient(*of_edge, self.config.l_max, self._pair_matrices, self._radial_slope, d_pre.numpy(),
                              self._d_y, self._factor, g_ij)

    def _add_zbl(self, edges: Edges, species: np.ndarray, e_i: np.ndarray, g_ij: np.ndarray) -> None:
        """Add the screened repulsion, in float64."""
        for i0, i1 in self._blocks(edges.first):
            rows = slice(int(edges.first[i0]), int(edges.first[i1]))
            r_ij = edges.r_ij[rows]
            r = np.sqrt((r_ij * r_ij).sum(axis=1))
            t_i, t_j = self._type[species[edges.center[rows]]], self._type[species[edges.neighbor[rows]]]
            with torch.enable_grad():
                length = torch.from_numpy(r).requires_grad_()
                pair = zbl_pair_energy(torch.from_numpy(self._z[t_i]), torch.from_numpy(self._z[t_j]), length)
                pair = pair * envelope(length * torch.from_numpy(self._inv_cutoff[t_i, t_j]), self.config.zbl_p)
                (slope,) = torch.autograd.grad(pair.sum(), length)
            np.add.at(e_i, edges.center[rows], pair.detach().numpy())
            g_ij[rows] += r_ij * (slope.numpy() / r)[:, None]
