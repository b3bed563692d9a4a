"""Evaluation of a folded Allegro network over one block of edges, forward and backward, on the host or on a device.

The environment of a center acts on the features of its edges as one sparse operator, made once per center. The
gradient is the chain of operations backwards, without a graph; buffers are kept from call to call.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.device import Device
from rxmdnn.models import allegro_kernels, torch_device
from rxmdnn.models.allegro_device import DeviceKernels, Product
from rxmdnn.models.allegro_fold import Cast, Weights, fold
from rxmdnn.models.allegro_network import PairNetwork


class BlockArguments(NamedTuple):
    """A block of whole centers, as the first arguments of the kernels, by what a kernel works on."""

    edges: tuple[Any, ...]
    layers: tuple[Any, ...]
    energies: tuple[Any, ...]
    columns: tuple[Any, ...]


def add_product(out: Tensor, x: Tensor, matrix: Tensor) -> Tensor:
    """``out`` += x matrix; torch spends time on products without columns, so they are left out."""
    return out.addmm_(x, matrix) if x.shape[1] and out.shape[1] else out


class BlockEvaluation:
    """The network's weights, buffers and operations.

    Parameters
    ----------
    network : PairNetwork of the form that the class evaluates
    dtype : torch.float32 or torch.float64, of the network; geometry and sums of energies are float64 always
    device : where the edges live; None for the host
    """

    weights: Weights

    def __init__(self, network: Any, dtype: torch.dtype, device: Device | None) -> None:
        self.config, self.device, self.dtype = network.config, device, dtype
        self.place = torch.device("cpu" if device is None else device.torch_device)
        self.numpy_dtype = np.float32 if dtype == torch.float32 else np.float64
        self.kernels: Any = allegro_kernels if device is None else DeviceKernels(device, self.numpy_dtype)
        self.rows = self.centers = -1
        self._shared: dict[tuple[int, torch.Size], Array] = {}
        self._inv_cutoff = self.table(1.0 / self.config.cutoff)
        with torch.no_grad():
            self.weights = self.fold(network, self._cast)
            self._make_tables(network)

    @staticmethod
    def fold(network: Any, cast: Cast) -> Weights:
        """The folded weights of the network."""
        return fold(network, cast)

    @property
    def latent_width(self) -> int:
        """Number of columns of the last hidden layer."""
        return self.weights.latent_widths[-1]

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self.place, self.dtype).contiguous()

    def array(self, x: Tensor) -> Array:
        """The memory of a tensor as the kernels take it: an array of NumPy, or one of the device, made once."""
        if self.device is None:
            return x.numpy()
        key = x.data_ptr(), x.shape
        if key not in self._shared:
            assert x.is_contiguous()
            self._shared[key] = torch_device.array(self.device, x)
        return self._shared[key]

    def table(self, x: np.ndarray) -> Array:
        """An array of the host as the kernels take it."""
        return x if self.device is None else self.device.from_host(x)

    def _make_tables(self, network: PairNetwork) -> None:
        """Make the arrays that the kernels read besides the matrices."""
        c, dtype, w = self.config, self.numpy_dtype, self.weights
        self._pair_matrices = self.array(w.pair_matrices)
        average = c.per_species("average_neighbors")
        n_splines = getattr(c, "n_splines", 0)
        self._spline_span = c.spline_span if n_splines else -1
        roots = np.arange(1.0, n_splines + 1) if n_splines else network.bessel.double().numpy().copy()
        self._integer_roots = bool((roots == np.arange(1, len(roots) + 1)).all())
        l_of_m = np.array([l for l in range(c.l_max + 1) for _ in range(2 * l + 1)], np.int64)  # noqa: E741
        self.norm, self._shift, self._factor, self._roots, self.l_of_m = map(self.table, (
            (average**-0.5).astype(dtype), network.shift.double().numpy().copy(),
            network.scale.double().numpy() / np.sqrt(w.directions * average), roots, l_of_m))
        self._tables: list[tuple[Any, ...]] = [
            (np.ascontiguousarray(t.m2), np.ascontiguousarray(t.pair),
             np.ascontiguousarray((t.coefficient[:, None] * weight.numpy()).astype(dtype)),
             np.ascontiguousarray(t.pairs[:, 0]), np.ascontiguousarray(t.pairs[:, 1]))
            for t, weight in zip(network.tables, w.term_weights)]
        self._d_out = [t.d_out for t in network.tables]
        self._n_pairs = [len(t.pairs) for t in network.tables]
        if self.device is not None:
            # features that enter a layer after the first: joined by a linear map, or the products themselves
            d_in = [len(l_of_m), *(n // c.n_tensor if n else d for n, d in zip(w.joined, self._d_out[:-1]))]
            self._tables = [(Product(self.device, table, len(l_of_m), a, b),)
                            for table, a, b in zip(self._tables, d_in, self._d_out)]

    def new(self, *shape: int) -> Tensor:
        """A buffer of zeros."""
        return torch.zeros(shape, dtype=self.dtype, device=self.place)

    def allocate(self, rows: int, centers: int) -> None:
        """Make the buffers for blocks of at most ``rows`` edges and ``centers`` centers."""
        c, u, w, new = self.config, self.config.n_tensor, self.weights, self.new
        r = c.l_max + 1
        self.rows, self.centers = rows, centers
        self._shared.clear()
        if self.device is not None:
            self.kernels.allocate(rows, centers, self._pair_matrices.shape[2], r * r * u)
        for chain in (*w.chains, w.readout):
            chain.allocate(rows, new)
        ends = np.cumsum([0, *w.latent_widths])
        self._h, self._d_h = new(rows, int(ends[-1])), new(rows, int(ends[-1]))
        self._h_of = [self._h[:, a:b] for a, b in pairwise(ends)]
        self._d_h_of = [self._d_h[:, a:b] for a, b in pairwise(ends)]
        self._h_to, self._d_h_to = [self._h[:, :b] for b in ends], [self._d_h[:, :b] for b in ends]
        self._e_ij = new(rows, 1)
        self._hidden_readout = new(rows, w.readout.widths[-1])
        self._seed = w.energy.t().expand(rows, -1)
        # environment weights (in the first layer after those of the tensor features); each layer's features, scalars
        self._a = [new(rows, e.shape[1]) for e in w.env[: c.n_layers]]
        self._d_a = [new(rows, e.shape[1]) for e in w.env[: c.n_layers]]
        self._v = [new(rows, d * u) for d in self._d_out]
        self._d_v = [new(rows, d * u) for d in self._d_out]
        self._s = [new(rows, w.n_scalars) for _ in self._d_out]
        self._b = [self.array(new(centers, n, u)) for n in self._n_pairs]
        self._y, self._d_y = self.array(new(rows, r * r)), self.array(new(rows, r * r))
        self._radial_slope = self.array(new(rows, w.n_slopes))
        self._cut, self._d_cut = self.array(new(rows)), self.array(new(rows))
        # features that enter the next layer: the products, or (in the older form) a linear map of them
        self._v_in = [new(rows, n) if n else v for v, n in zip(self._v, w.joined)]
        self._d_v_in = [new(rows, n) if n else v for v, n in zip(self._d_v, w.joined)]
        self._list_layer_arguments()

    def _list_layer_arguments(self) -> None:
        """List the arguments of each layer's kernels that stay the same while the buffers do."""
        n, r, u = self.config.n_layers, self.config.l_max + 1, self.config.n_tensor

        def features(buffers: list[Tensor]) -> list[Array]:
            return [self.array(x.view(self.rows, -1, u)) for x in buffers]

        a, d_a, v, d_v, v_in, d_v_in = map(features, (
            self._a, self._d_a, self._v, self._d_v, self._v_in, self._d_v_in))
        self._forward_of = [(k == 0, r if k == 0 else 0) for k in range(n)]
        self._layer_in = [(*self._tables[k], self._y, a[k], a[0] if k == 0 else v_in[k - 1], self._b[k])
                          for k in range(n)]
        self._layer_out = [(v[k], self.array(self._s[k])) for k in range(n)]
        self._layer_gradients = [(d_v[k], d_a[0] if k == 0 else d_v_in[k - 1], d_a[k], self._d_y) for k in range(n)]

    def host_arguments(self, edges: Edges, species: np.ndarray, types: np.ndarray, i0: int, i1: int) -> BlockArguments:
        """The edges of centers i0 to i1 on the host. types : (n_elements,) int64, type of an element in the model"""
        columns = edges.first, i0, i1
        energies = *columns, species, types
        return BlockArguments(edges=(edges.r_ij, *columns, edges.neighbor, species, types, types),
                              layers=(*energies, self.norm, self.l_of_m), energies=energies, columns=columns)

    def evaluate(self, block: BlockArguments, e_i: Array, g_ij: Array, latent: Array | None) -> None:
        """Fill the block's rows of e_i (eV), g_ij (eV/Å) and, if given, of the last hidden layer's sums per center."""
        self.forward(block)
        self.read_out(block, e_i, latent)
        self.backward(block, g_ij)

    def start_forward(self, block: BlockArguments) -> None:
        """The geometry of the edges and the first hidden layer."""
        self.geometry(block)
        self.weights.chains[0].forward(self._h_of[0])

    def geometry(self, block: BlockArguments) -> None:
        """The geometry of the edges and the first pre-activation."""
        self.kernels.edge_geometry(
            *block.edges, self._inv_cutoff, self._roots, self._integer_roots, self._spline_span,
            self.config.envelope_p, self.config.l_max, self._pair_matrices, self._radial_slope, self._y,
            self.array(self.weights.chains[0].pre[0]), self._cut)

    def forward(self, block: BlockArguments) -> None:
        """All hidden layers."""
        w = self.weights
        self.start_forward(block)
        for k in range(self.config.n_layers):
            self.product(f"env {k}", self._h_of[k], w.env[k], self._a[k])
            self.kernels.layer_forward(*self._forward_of[k], *block.layers, *self._layer_in[k], *self._layer_out[k])
            pre = self.product(f"pre {k}", self._s[k], w.from_tensor[k], w.chains[k + 1].pre[0])
            add_product(pre, self._h_to[k + 1], w.from_hidden[k])
            w.chains[k + 1].forward(self._h_of[k + 1])

    def product(self, part: str, x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
        """``out`` = x matrix. part : its name, "env k", "pre k" or "readout", for TabulatedEvaluation"""
        return torch.mm(x, matrix, out=out)

    def collect(self, part: str, d_out: Tensor) -> None:
        """Take note of the gradient with respect to a product and what was added to it; here there is no need."""

    def read_out(self, block: BlockArguments, e_i: Array, latent: Array | None) -> None:
        """Energies from all hidden layers, and the start of the backward pass: the gradient of these layers."""
        w = self.weights
        if latent is not None:
            h = self.array(self._h)  # it vanishes at the cutoff, so the sums are smooth
            self.kernels.sum_columns(h, h.shape[1] - latent.shape[1], *block.columns, latent)
        self.product("readout", self._h, w.to_readout, w.readout.pre[0])
        w.readout.forward(self._hidden_readout)
        torch.mm(self._hidden_readout, w.energy, out=self._e_ij)
        self.kernels.sum_edges(self.array(self._e_ij), *block.energies, self._factor, self._shift, e_i)
        d_pre = w.readout.backward(self._seed)
        self.collect("readout", d_pre)
        torch.mm(d_pre, w.to_readout.t(), out=self._d_h)
        self._d_y[:] = 0

    def backward(self, block: BlockArguments, g_ij: Array) -> None:
        """The gradient of the energy with respect to the block's r_ij."""
        n, w = self.config.n_layers, self.weights
        for k in reversed(range(n)):
            d_pre = w.chains[k + 1].backward(self._d_h_of[k + 1])
            self.collect(f"pre {k}", d_pre)
            add_product(self._d_h_to[k + 1], d_pre, w.from_hidden[k].t())
            d_s = self._d_v[k][:, : self.config.n_tensor]
            if k == n - 1:
                torch.mm(d_pre, w.from_tensor[k].t(), out=d_s)
            else:
                d_s.addmm_(d_pre, w.from_tensor[k].t())
            self.layer_backward(block, k)
            self.collect(f"env {k}", self._d_a[k])
            add_product(self._d_h_of[k], self._d_a[k], w.env[k].t())
        self.end_backward(block, self._d_h_of[0], g_ij)

    def layer_backward(self, block: BlockArguments, k: int) -> None:
        """The gradients of layer k's features, environment weights and harmonics."""
        self.kernels.layer_backward(*self._forward_of[k], *block.layers, *self._layer_in[k], *self._layer_gradients[k])

    def end_backward(self, block: BlockArguments, d_hidden: Tensor, g_ij: Array) -> None:
        """The gradient with respect to r_ij from that of the two-body MLP's hidden layer and of the geometry."""
        d_pre = self.weights.chains[0].backward(d_hidden)
        self.kernels.edge_gradient(*block.edges, self.config.l_max, self._pair_matrices, self._radial_slope,
                                   self.array(d_pre), self._d_y, self._d_cut, self._factor, g_ij)
