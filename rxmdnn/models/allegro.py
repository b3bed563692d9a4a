"""Allegro as a potential of the engine: energies and pair gradients in blocks of whole centers, derived by hand.

The network is a chain of linear maps with SiLU and one product of tensors between; what is linear after linear is
multiplied out once, on loading (two-body matrices of each pair of species, and the latent scalars z_k, which
enter only linear maps). The environment of a center acts on the features of its edges as one sparse operator, made
once a center. The gradient is the chain backwards, without a graph; buffers are kept from call to call.
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend
from rxmdnn.device import Device, shortage
from rxmdnn.errors import InputError
from rxmdnn.models import allegro_kernels, torch_device
from rxmdnn.models.allegro_device import Block, DeviceKernels, Product
from rxmdnn.models.allegro_network import MLP, AllegroConfig, AllegroNetwork, PairNetwork
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import load_model
from rxmdnn.models.repulsion import Repulsion

__all__ = ["Allegro", "AllegroConfig", "AllegroNetwork", "LegacyConfig", "LegacyNetwork"]

BLOCK_EDGES = 1200  # measured: from 700 to 2000 all do; fewer cost calls, more cost memory
CENTER_LOAD = 8  # an operator costs about as much, and its memory is bounded where atoms have few neighbors
ROUND = 16  # rows of the buffers are rounded up to this
DEVICE_BLOCK_EDGES = 1 << 18  # of a device, which wants many at once; halved until its memory does
LEAST_BLOCK_EDGES = 1 << 12
DEVICE_ROUND = 1 << 10
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "float64": torch.float64}


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
        """Gradient of ``out`` to gradient of ``pre[0]``, in an array of its own."""
        if not self.active:
            return self.d_pre[0].copy_(d_out)
        for k in reversed(range(len(self.widths))):
            torch.ops.aten.silu_backward.grad_input(d_out, self.pre[k], grad_input=self.d_pre[k])
            if k:
                d_out = torch.mm(self.d_pre[k], self.matrices[k - 1].t(), out=self.d_hidden[k - 1])
        return self.d_pre[0]


def _matrices(mlp: MLP) -> list[Tensor]:
    return [matrix.double() for matrix in mlp.matrices()]


class Allegro:
    """The potential of a network of either form (see rxmdnn.models.interface.Potential).

    Parameters
    ----------
    network : AllegroNetwork, or LegacyNetwork (the object is then a LegacyAllegro)
    elements : the run's elements; each must be one of the network's
    precision : "float32" or "float64", of the network; geometry and sums of energies are float64 always.
        "tf32", on a device: float32 whose matrix products have 10-bit factors
    name : of the model, for messages
    block_edges : about how many edges are evaluated together, in whole centers
    backend : a Device, for edges whose arrays live there

    Attributes
    ----------
    latent : (n_owned, width) float64, where ``watched``: the last layer's hidden scalars, summed over an atom's edges

    Raises
    ------
    InputError : an element the model does not know, or another precision.
    """

    config: Any
    latent: Any
    watched = False  # set it to have ``compute`` fill ``latent``

    def __new__(cls, network: PairNetwork, *args: Any, **kwargs: Any) -> Allegro:
        return super().__new__(LegacyAllegro if isinstance(network, LegacyNetwork) else Allegro)

    def __init__(self, network: PairNetwork, elements: tuple[str, ...], precision: str = "float32",
                 name: str = "Allegro model", block_edges: int | None = None, backend: Backend | None = None) -> None:
        c = self.config = network.config
        unknown = [e for e in elements if e not in c.elements]
        if unknown:
            raise InputError(f"{name}: does not know {', '.join(unknown)}; it knows {', '.join(c.elements)}")
        if precision not in PRECISIONS:
            raise InputError(f"{name}: precision {precision!r}: must be one of {', '.join(PRECISIONS)}")
        self._device = backend if isinstance(backend, Device) else None
        self._place = torch.device("cpu")
        if self._device is not None:
            self._place = torch.device(self._device.torch_device)
            torch_device.join(self._device)
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        elif precision == "tf32":
            raise InputError(f"{name}: precision tf32 is a GPU's; say float32, or backend cuda")
        self.elements = tuple(elements)
        self.block_edges = block_edges or (BLOCK_EDGES if self._device is None else DEVICE_BLOCK_EDGES)
        self._parts: list[tuple[int, int, int, int]] = []  # blocks on a device, of edges whose ``first`` is
        self._parts_of: Any = None
        self._shared: dict[tuple[int, torch.Size], Any] = {}
        self.dtype = PRECISIONS[precision]
        self._numpy_dtype = np.float32 if self.dtype == torch.float32 else np.float64
        self._kernels: Any = (allegro_kernels if self._device is None
                              else DeviceKernels(self._device, self._numpy_dtype))
        self._type = np.array([c.elements.index(e) for e in elements], np.int64)
        self.cutoff = np.ascontiguousarray(c.cutoff[np.ix_(self._type, self._type)])
        self._inv_cutoff = self._table(1.0 / c.cutoff)
        self._repulsion = Repulsion(self.elements, backend=backend, power=c.zbl_p, cutoff=np.ascontiguousarray(
            c.zbl_cutoff[np.ix_(self._type, self._type)])) if c.zbl else None
        self._rows = -1
        with torch.no_grad():
            self._fold(network)

    @classmethod
    def load(cls, path: str | Path, elements: tuple[str, ...], precision: str = "float32",
             backend: Backend | None = None) -> Allegro:
        """The potential of a native model file."""
        return cls(load_model(path), elements, precision, str(path), backend=backend)

    def _cast(self, x: Tensor) -> Tensor:
        return x.to(self._place, self.dtype).contiguous()

    def _array(self, x: Tensor) -> Any:
        """What the kernels take of a tensor: its memory as NumPy's, or the device's, which is made once."""
        if self._device is None:
            return x.numpy()
        key = x.data_ptr(), x.shape
        if key not in self._shared:
            assert x.is_contiguous()
            self._shared[key] = torch_device.array(self._device, x)
        return self._shared[key]

    def _table(self, x: np.ndarray) -> Any:
        """What the kernels take of an array of the host."""
        return x if self._device is None else self._device.from_host(x)

    def _chain(self, mats: list[Tensor]) -> tuple[_Chain, Tensor]:
        """What follows the first matrix: hidden layers, and the last matrix (identity if there is one matrix)."""
        if len(mats) == 1:
            return _Chain([], mats[0].shape[1], False), torch.eye(mats[0].shape[1], dtype=torch.float64)
        return _Chain([self._cast(m) for m in mats[1:-1]], mats[0].shape[1], True), mats[-1]

    def _fold(self, network: Any) -> None:
        """Multiply out what is linear after linear, in float64, and cast."""
        c, s = self.config, self.config.n_scalar
        cast, chain = self._cast, self._chain
        embed = _matrices(network.embed)
        types = torch.cat([network.center_embed.double()[:, None].expand(-1, len(c.elements), -1),
                           network.neighbor_embed.double()[None].expand(len(c.elements), -1, -1)], dim=-1)
        self._pair_matrices = self._array(cast((network.basis.matrix().double() * types[:, :, None, :]) @ embed[0]))
        first, tail = chain(embed)
        self._chains = [first]
        project = network.project.matrix().double()
        z_of_hidden = [tail @ project[:, :s]]
        # a hidden layer's weights of the environment (and, for the two-body one, of the first tensor features)
        self._env = [cast(tail @ torch.cat([network.tensor_embed.matrix().double(), project[:, s:]], dim=1))]
        self._from_hidden, self._from_tensor = [], []
        for mlp in network.latents:
            mats = _matrices(mlp)
            enter = torch.cat([z @ mats[0][s * j : s * (j + 1)] for j, z in enumerate(z_of_hidden)])
            self._from_hidden.append(cast(enter))
            self._from_tensor.append(cast(mats[0][s * len(z_of_hidden) :]))
            layer, tail = chain(mats)
            self._chains.append(layer)
            z_of_hidden.append(tail[:, :s])
            self._env.append(cast(tail[:, s:]))
        mats = _matrices(network.readout)
        self._to_readout = cast(torch.cat([z @ mats[0][s * j : s * (j + 1)] for j, z in enumerate(z_of_hidden)]))
        self._readout, tail = chain(mats)
        self._energy = cast(tail)
        self._latent_widths = [part.widths[-1] for part in self._chains]
        self._scalars, self._slopes, self._joined = c.n_tensor, c.n_bessel, [0] * c.n_layers
        self._fold_shared(network, 2.0, [w.double()[t.path] for t, w in zip(network.tables, network.path_weights)])

    def _fold_shared(self, network: PairNetwork, directions: float, term_weights: list[Tensor]) -> None:
        """What both forms have.

        Parameters
        ----------
        network : the network
        directions : the energy of a center is normalized by the root of this times the number of neighbors
        term_weights : of each layer's terms, (t, U) float64
        """
        c = self.config
        dtype = self._numpy_dtype
        average = c.per_species("average_neighbors")
        roots = network.bessel.double().numpy().copy()
        self._integer_roots = bool((roots == np.arange(1, c.n_bessel + 1)).all())
        l_of_m = np.array([l for l in range(c.l_max + 1) for _ in range(2 * l + 1)], np.int64)  # noqa: E741
        self._norm, self._shift, self._factor, self._roots, self._l_of_m = map(self._table, (
            (average**-0.5).astype(dtype), network.shift.double().numpy().copy(),
            network.scale.double().numpy() / np.sqrt(directions * average), roots, l_of_m))
        self._tables: list[tuple[Any, ...]] = [
            (np.ascontiguousarray(t.m2), np.ascontiguousarray(t.pair),
             np.ascontiguousarray((t.coefficient[:, None] * w.numpy()).astype(dtype)),
             np.ascontiguousarray(t.pairs[:, 0]), np.ascontiguousarray(t.pairs[:, 1]))
            for t, w in zip(network.tables, term_weights)]
        self._d_out = [t.d_out for t in network.tables]
        self._n_pairs = [len(t.pairs) for t in network.tables]
        if self._device is not None:
            self._type_there = self._table(self._type)
            d_in = [len(l_of_m), *self._features_in()]
            self._tables = [(Product(self._device, table, len(l_of_m), a, b),)
                            for table, a, b in zip(self._tables, d_in, self._d_out)]

    def _features_in(self) -> list[int]:
        """Components of the features that enter each layer but the first."""
        return [w // self.config.n_tensor if w else d for w, d in zip(self._joined, self._d_out[:-1])]

    def _allocate(self, rows: int, centers: int) -> None:
        """Buffers for blocks of at most ``rows`` edges and ``centers`` centers."""
        c, u = self.config, self.config.n_tensor
        r = c.l_max + 1

        def new(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=self.dtype, device=self._place)

        self._rows, self._centers = rows, centers
        self._shared.clear()
        if self._device is not None:
            self._kernels.allocate(rows, centers, self._pair_matrices.shape[2], r * r * u)
        for chain in (*self._chains, self._readout):
            chain.allocate(rows, new)
        ends = np.cumsum([0, *self._latent_widths])
        self._h, self._d_h = new(rows, int(ends[-1])), new(rows, int(ends[-1]))
        self._h_of = [self._h[:, a:b] for a, b in pairwise(ends)]
        self._d_h_of = [self._d_h[:, a:b] for a, b in pairwise(ends)]
        self._h_to, self._d_h_to = [self._h[:, :b] for b in ends], [self._d_h[:, :b] for b in ends]
        self._e_ij = new(rows, 1)
        self._hidden_readout = new(rows, self._readout.widths[-1])
        self._seed = self._energy.t().expand(rows, -1)
        # weights of the environments, after those of the first tensor features; features and scalars of each layer
        self._a = [new(rows, e.shape[1]) for e in self._env[: c.n_layers]]
        self._d_a = [new(rows, e.shape[1]) for e in self._env[: c.n_layers]]
        self._v = [new(rows, d * u) for d in self._d_out]
        self._d_v = [new(rows, d * u) for d in self._d_out]
        self._s = [new(rows, self._scalars) for _ in self._d_out]
        self._b = [self._array(new(centers, n, u)) for n in self._n_pairs]
        self._y, self._d_y = self._array(new(rows, r * r)), self._array(new(rows, r * r))
        self._radial_slope = self._array(new(rows, self._slopes))
        self._cut, self._d_cut = self._array(new(rows)), self._array(new(rows))
        # what enters a layer is what the layer before gave, or (in the older form) a linear map of it
        self._v_in = [new(rows, w) if w else v for v, w in zip(self._v, self._joined)]
        self._d_v_in = [new(rows, w) if w else v for v, w in zip(self._d_v, self._joined)]

        def features(x: Tensor) -> Any:
            return self._array(x.view(rows, -1, u))

        a, d_a, v, d_v, v_in, d_v_in = (list(map(features, x)) for x in (
            self._a, self._d_a, self._v, self._d_v, self._v_in, self._d_v_in))
        n = c.n_layers
        self._forward_of = [(k == 0, r if k == 0 else 0) for k in range(n)]
        self._layer_in = [(*self._tables[k], self._y, a[k], a[0] if k == 0 else v_in[k - 1], self._b[k])
                          for k in range(n)]
        self._layer_out = [(v[k], self._array(self._s[k])) for k in range(n)]
        self._layer_gradients = [(d_v[k], d_a[0] if k == 0 else d_v_in[k - 1], d_a[k], self._d_y) for k in range(n)]

    def compute(self, edges: Edges, species: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Energies of the owned atoms, eV, shift included, and ∂E/∂r_ij, eV/Å (see Potential.compute)."""
        if self._device is not None:
            return self._compute_there(self._device, edges, species)
        e_i, g_ij = np.empty(len(edges.first) - 1), edges.gradient()
        self.latent = np.zeros((len(e_i) if self.watched else 0, self._latent_widths[-1]))
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
                    of_rows = edges.first, i0, i1
                    of_sum = *of_rows, species, self._type
                    of_edge = edges.r_ij, *of_rows, edges.neighbor, species, self._type, self._type
                    self._evaluate(of_edge, (*of_sum, self._norm, self._l_of_m), of_sum, of_rows, e_i, g_ij)
        finally:
            torch.set_num_threads(threads)
        if self._repulsion is not None:
            self._repulsion.add(edges, species, e_i, g_ij)
        return e_i, g_ij

    def features(self) -> np.ndarray:
        """(n_owned, k) float64: the last hidden layer's sums over each atom's edges; of a call while ``watched``."""
        return self.latent if self._device is None else self._device.to_host(self.latent)

    def _blocks(self, first: np.ndarray) -> list[tuple[int, int]]:
        """Ranges of whole centers of nearly equal load; a center counts as much as CENTER_LOAD edges."""
        n = len(first) - 1
        if n == 0:
            return []
        load = first + CENTER_LOAD * np.arange(n + 1)
        parts = -(-int(load[-1]) // self.block_edges)
        cuts = np.searchsorted(load, np.arange(1, parts) * (load[-1] / parts))
        return [(int(i0), int(i1)) for i0, i1 in pairwise(np.unique(np.concatenate([[0], cuts, [n]])))]

    def _compute_there(self, device: Device, edges: Edges, species: Any) -> tuple[Any, Any]:
        """As ``compute``, on a device. Blocks are halved for good where its memory does not hold their arrays.

        Raises InputError where it holds not even small ones.
        """
        n, m = len(edges.first) - 1, len(edges.center)
        e_i, g_ij = device.xp.empty(n), edges.gradient()
        self.latent = device.xp.zeros((n if self.watched else 0, self._latent_widths[-1]))
        while n:
            try:
                with torch.no_grad():
                    if self._parts_of is not edges.first:  # which all calls of a whole list share, recorded ones too
                        self._parts, self._parts_of = self._blocks_there(device, edges.first, m), edges.first
                    blocks = self._parts
                    rows = max(stop - start for *_, start, stop in blocks)
                    centers = max(i1 - i0 for i0, i1, *_ in blocks)
                    if rows > self._rows or centers > self._centers:
                        self._allocate(-(-max(rows, 1) // DEVICE_ROUND) * DEVICE_ROUND, centers)
                    for i0, i1, start, stop in blocks:
                        block = Block(edges.r_ij[start:stop], edges.center[start:stop], edges.neighbor[start:stop],
                                      edges.first[i0 : i1 + 1], species, self._type_there, i0, start)
                        self._evaluate((block,), (block, self._norm, self._l_of_m), (block,), (block,), e_i, g_ij)
                if self._repulsion is not None:
                    self._repulsion.add(edges, species, e_i, g_ij)
                break
            except torch.cuda.OutOfMemoryError as error:
                if device.torch_device != "cpu" and torch.cuda.is_current_stream_capturing():
                    raise  # a graph is given up, and nothing else
                if self.block_edges <= LEAST_BLOCK_EDGES:
                    raise (shortage(device, error, n) or error) from None
                self.block_edges //= 2
                self._parts_of = None
            self._allocate(DEVICE_ROUND, 1)  # the large ones go before smaller ones come
            torch_device.free(device)
        return e_i, g_ij

    def _blocks_there(self, device: Device, edges_first: Any, m: int) -> list[tuple[int, int, int, int]]:
        """As ``_blocks``, with the first and the last edge of each; without a word to the host where one will do."""
        n = len(edges_first) - 1
        load = m + CENTER_LOAD * n
        parts = -(-load // self.block_edges)
        if parts <= 1:
            return [(0, n, 0, m)]
        first = torch_device.tensor(device, edges_first)
        loads = first + CENTER_LOAD * torch.arange(n + 1, device=first.device)
        steps = (torch.arange(1, parts, device=first.device) * (load / parts)).long()
        cuts = torch.unique(torch.searchsorted(loads, steps))
        cuts = torch.cat([cuts.new_zeros(1), cuts[(cuts > 0) & (cuts < n)], cuts.new_full((1,), n)])
        return [(i0, i1, start, stop) for (i0, start), (i1, stop) in pairwise(zip(cuts.tolist(), first[cuts].tolist()))]

    def _evaluate(self, of_edge: tuple, of_center: tuple, of_sum: tuple, of_rows: tuple, e_i: Any, g_ij: Any) -> None:
        """Fill a block's rows of e_i and g_ij.

        of_edge, of_center, of_sum, of_rows : what kernels of edges, layers, energies and columns take first
        """
        n, kernels, array = self.config.n_layers, self._kernels, self._array
        kernels.edge_geometry(*of_edge, self._inv_cutoff, self._roots, self._integer_roots, self.config.envelope_p,
                              self.config.l_max, self._pair_matrices, self._radial_slope, self._y,
                              array(self._chains[0].pre[0]), self._cut)
        self._chains[0].forward(self._h_of[0])
        for k in range(n):
            torch.mm(self._h_of[k], self._env[k], out=self._a[k])
            kernels.layer_forward(*self._forward_of[k], *of_center, *self._layer_in[k], *self._layer_out[k])
            pre = torch.mm(self._s[k], self._from_tensor[k], out=self._chains[k + 1].pre[0])
            pre.addmm_(self._h_to[k + 1], self._from_hidden[k])
            self._chains[k + 1].forward(self._h_of[k + 1])
        self._read_out(of_sum, of_rows, e_i)
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
        kernels.edge_gradient(*of_edge, self.config.l_max, self._pair_matrices, self._radial_slope, array(d_pre),
                              self._d_y, self._d_cut, self._factor, g_ij)

    def _read_out(self, of_sum: tuple, of_rows: tuple, e_i: Any) -> None:
        """Energies from all hidden layers, and the start of the way back: the gradient of those layers."""
        if self.watched:
            h = self._array(self._h)  # it vanishes at the cutoff, so the sums are smooth
            self._kernels.sum_columns(h, h.shape[1] - self.latent.shape[1], *of_rows, self.latent)
        torch.mm(self._h, self._to_readout, out=self._readout.pre[0])
        self._readout.forward(self._hidden_readout)
        torch.mm(self._hidden_readout, self._energy, out=self._e_ij)
        self._kernels.sum_edges(self._array(self._e_ij), *of_sum, self._factor, self._shift, e_i)
        torch.mm(self._readout.backward(self._seed), self._to_readout.t(), out=self._d_h)
        self._d_y[:] = 0


class LegacyAllegro(Allegro):
    """The potential of a LegacyNetwork.

    Every latent scalar is a sum of envelope-weighted hidden layers, so the layers' updates are never added up: what
    is linear in them is multiplied out over the hidden layers h_0 .. h_k kept side by side. Where the latent MLP is
    linear (as in the published models), h_{k+1} is envelope times [h_k, scalars of the products], with no matrix.
    """

    def _fold(self, network: Any) -> None:
        c, s, u = self.config, self.config.embed_widths[-1], self.config.n_tensor
        t, b = len(c.elements), c.n_bessel
        embed = _matrices(network.embed)
        mean, inv_std = network.basis_mean.double(), network.basis_inv_std.double()
        radial = inv_std[:, None] * embed[0][2 * t :]
        rows = [radial * (2 * math.pi / float(c.r_max) ** 2), -(mean @ radial)[None]]
        types = embed[0][:t, None] + embed[0][None, t : 2 * t]
        self._pair_matrices = self._array(self._cast(
            torch.cat([torch.cat(rows).expand(t, t, b + 1, -1), types[:, :, None]], dim=2)))
        first, tail = self._chain(embed)
        self._chains, self._env, self._from_hidden, self._from_tensor = [first], [], [], []
        self._latent_widths = [first.widths[-1]]
        z_of_hidden = [tail]  # latent scalars of each hidden layer
        self._mixes = [[self._cast(m.double()) for m in network.mix_matrices(k)] for k in range(c.n_layers - 1)] + [[]]
        self._mix_rows = [*network.all_mixes[:-1], ()]
        self._n_scalars = [mixes[0].paths * u for mixes in network.all_mixes]
        self._linear = len(_matrices(network.latents[0])) == 1
        for k, (old, new) in enumerate(network.coefficients()):
            self._env.append(self._cast(torch.cat(z_of_hidden) @ network.env[k].matrix().double()))
            mats = _matrices(network.latents[k])
            if self._linear:
                update = [z @ mats[0][:s] for z in z_of_hidden[:-1]]
                last = torch.cat([z_of_hidden[-1] @ mats[0][:s], mats[0][s:]])
                # envelope times hidden layer j is where hidden layer j + 1 begins
                for j, z in enumerate(update):
                    z_of_hidden[j + 1] = old * z_of_hidden[j + 1]
                    z_of_hidden[j + 1][: len(z)] += new * z
                z_of_hidden[0] = old * z_of_hidden[0]
                z_of_hidden.append(new * last)
                self._latent_widths.append(len(last))
            else:
                self._from_hidden.append(self._cast(torch.cat(z_of_hidden) @ mats[0][:s]))
                self._from_tensor.append(self._cast(mats[0][s:]))
                layer, tail = self._chain(mats)
                self._chains.append(layer)
                z_of_hidden = [old * z for z in z_of_hidden] + [new * tail]
                self._latent_widths.append(layer.widths[-1])
        mats = _matrices(network.readout)
        self._to_readout = self._cast(torch.cat(z_of_hidden) @ mats[0])
        self._readout, tail = self._chain(mats)
        self._energy = self._cast(tail)
        self._scalars, self._slopes = 0, b + 1
        self._joined = [sum(2 * mix.l + 1 for mix in mixes) * u for mixes in self._mix_rows]
        self._fold_shared(network, 1.0, [torch.ones(len(t.path), u, dtype=torch.float64) for t in network.tables])

    def _allocate(self, rows: int, centers: int) -> None:
        super()._allocate(rows, centers)
        u, ends = self.config.n_tensor, np.cumsum([0, *self._latent_widths])
        self._begin = [int(e) for e in ends]
        self._hidden = [torch.zeros(rows, part.widths[-1], dtype=self.dtype, device=self._place)
                        for part in self._chains]
        self._d_hidden = [torch.zeros_like(hidden) for hidden in self._hidden]
        self._scalar_of = [v[:, :w] for v, w in zip(self._v, self._n_scalars)]
        self._d_scalar_of = [v[:, :w] for v, w in zip(self._d_v, self._n_scalars)]
        # each joining: products' columns, features' columns and their gradients, one component at a time
        self._join = [[
            (*(x[:, u * (mix.start_in + m * mix.paths) : u * (mix.start_in + (m + 1) * mix.paths)] for x in (
                self._v[k], self._d_v[k])),
             *(x[:, u * (mix.start_out + m) : u * (mix.start_out + m + 1)] for x in (self._v_in[k], self._d_v_in[k])),
             matrix)
            for mix, matrix in zip(self._mix_rows[k], self._mixes[k]) for m in range(2 * mix.l + 1)]
            for k in range(self.config.n_layers)]

    def _evaluate(self, of_edge: tuple, of_center: tuple, of_sum: tuple, of_rows: tuple, e_i: Any, g_ij: Any) -> None:
        n, begin, widths, cut = self.config.n_layers, self._begin, self._latent_widths, self._cut
        kernels, array = self._kernels, self._array
        h, d_h, d_cut = array(self._h), array(self._d_h), self._d_cut
        kernels.edge_geometry(*of_edge, self._inv_cutoff, self._roots, self._integer_roots, self.config.envelope_p,
                              self.config.l_max, self._pair_matrices, self._radial_slope, self._y,
                              array(self._chains[0].pre[0]), cut)
        self._chains[0].forward(self._hidden[0])
        kernels.scale_rows(cut, array(self._hidden[0]), 0, widths[0], h, 0)
        for k in range(n):
            torch.mm(self._h_to[k + 1], self._env[k], out=self._a[k])
            kernels.layer_forward(*self._forward_of[k], *of_center, *self._layer_in[k], *self._layer_out[k])
            for products, _, features, _, matrix in self._join[k]:
                torch.mm(products, matrix, out=features)
            if self._linear:
                kernels.scale_rows(cut, h, begin[k], widths[k], h, begin[k + 1])
                kernels.scale_rows(cut, array(self._v[k]), 0, self._n_scalars[k], h, begin[k + 1] + widths[k])
            else:
                pre = torch.mm(self._scalar_of[k], self._from_tensor[k], out=self._chains[k + 1].pre[0])
                pre.addmm_(self._h_to[k + 1], self._from_hidden[k])
                self._chains[k + 1].forward(self._hidden[k + 1])
                kernels.scale_rows(cut, array(self._hidden[k + 1]), 0, widths[k + 1], h, begin[k + 1])
        self._read_out(of_sum, of_rows, e_i)
        d_cut[:] = 0
        for k in reversed(range(n)):
            for _, d_products, _, d_features, matrix in self._join[k]:
                torch.mm(d_features, matrix.t(), out=d_products)
            add = k < n - 1
            if self._linear:
                kernels.scale_rows_backward(True, cut, h, begin[k], widths[k], d_h, begin[k + 1], d_h, d_cut)
                kernels.scale_rows_backward(add, cut, array(self._v[k]), 0, self._n_scalars[k], d_h,
                                            begin[k + 1] + widths[k], array(self._d_v[k]), d_cut)
            else:
                kernels.scale_rows_backward(False, cut, array(self._hidden[k + 1]), 0, widths[k + 1], d_h,
                                            begin[k + 1], array(self._d_hidden[k + 1]), d_cut)
                d_pre = self._chains[k + 1].backward(self._d_hidden[k + 1])
                self._d_h_to[k + 1].addmm_(d_pre, self._from_hidden[k].t())
                if add:
                    self._d_scalar_of[k].addmm_(d_pre, self._from_tensor[k].t())
                else:
                    torch.mm(d_pre, self._from_tensor[k].t(), out=self._d_scalar_of[k])
            kernels.layer_backward(*self._forward_of[k], *of_center, *self._layer_in[k], *self._layer_gradients[k])
            self._d_h_to[k + 1].addmm_(self._d_a[k], self._env[k].t())
        kernels.scale_rows_backward(False, cut, array(self._hidden[0]), 0, widths[0], d_h, 0,
                                    array(self._d_hidden[0]), d_cut)
        d_pre = self._chains[0].backward(self._d_hidden[0])
        kernels.edge_gradient(*of_edge, self.config.l_max, self._pair_matrices, self._radial_slope, array(d_pre),
                              self._d_y, d_cut, self._factor, g_ij)
