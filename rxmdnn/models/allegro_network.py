"""The Allegro network in torch, twice differentiable: for training, and as the reference of the fast evaluation.

Equations: Musaelian et al., Nat. Commun. 14, 579 (2023), in the form nequip-allegro 0.8.3 computes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, ClassVar, cast

import numpy as np
import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from rxmdnn.errors import InputError
from rxmdnn.models.activations import ACTIVATIONS, LINEAR
from rxmdnn.models.clebsch_gordan import ProductTable, product_tables
from rxmdnn.models.edge_functions import envelope, spherical_harmonics, splines
from rxmdnn.models.repulsion import reaches
from rxmdnn.models.tensor_ops import ApplyOperator, WeighHarmonics
from rxmdnn.models.zbl import zbl_pair_energy

MAX_ELEMENTS = 128  # the periodic table and some isotopes


@dataclass(frozen=True)
class NetworkConfig:
    """The shape of an Allegro network of either form.

    Attributes
    ----------
    elements : names of the species, in the order of the network's types
    r_max : cutoff, Å; one number, or rows of numbers [center][neighbor]
    l_max : 0 to 3; n_layers : at least 1
    n_tensor : tensor features (U)
    n_bessel, bessel_trainable, envelope_p : radial basis
    parity : tensor features of both mirror parities (o3_full) or only of that of the harmonics
    average_neighbors : mean number of neighbors, one number, or one per center species
    scale, shift : initial energy scale and shift of each species, eV (one number, or one per species)
    scale_trainable, shift_trainable : whether training changes them
    zbl : add the Ziegler-Biersack-Littmark repulsion; zbl_p : the power of its envelope
    zbl_fraction : its cutoff as a fraction of the sum of covalent radii; 0, as in nequip: the cutoff of the network
    seed : of the initial weights
    """

    elements: tuple[str, ...]
    r_max: float | tuple[tuple[float, ...], ...]
    l_max: int = 1
    n_layers: int = 2
    n_tensor: int = 32
    n_bessel: int = 8
    bessel_trainable: bool = False
    envelope_p: float = 6.0
    parity: bool = True
    average_neighbors: float | tuple[float, ...] = 1.0
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    scale_trainable: bool = False
    shift_trainable: bool = False
    zbl: bool = False
    zbl_p: float = 6.0
    zbl_fraction: float = 0.0
    seed: int = 0

    integers: ClassVar[tuple[tuple[str, int, int], ...]] = (
        ("l_max", 0, 3), ("n_layers", 1, 16), ("n_tensor", 1, 4096), ("n_bessel", 1, 256), ("seed", 0, 2**63 - 1))
    logicals: ClassVar[tuple[str, ...]] = ("bessel_trainable", "parity", "scale_trainable", "shift_trainable", "zbl")

    def __post_init__(self) -> None:
        def frozen(value):
            return tuple(frozen(v) for v in value) if isinstance(value, (list, tuple, np.ndarray)) else value

        for item in fields(self):
            object.__setattr__(self, item.name, frozen(getattr(self, item.name)))
        faults = []
        if not isinstance(self.elements, tuple) or not all(isinstance(e, str) for e in self.elements) or not (
                0 < len(set(self.elements)) == len(self.elements) <= MAX_ELEMENTS):
            raise InputError(f"elements: {str(self.elements)[:80]}: name 1 to {MAX_ELEMENTS}, each once")
        t = len(self.elements)
        for name, low, high in self.integers:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                faults.append(f"{name}: {value!r}: must be an integer from {low} to {high}")
        for name in self.logicals:
            if not isinstance(getattr(self, name), bool):
                faults.append(f"{name}: {getattr(self, name)!r}: must be true or false")
        for name, shape in (("r_max", (t, t)), ("average_neighbors", (t,)), ("scale", (t,)), ("shift", (t,)),
                            ("envelope_p", ()), ("zbl_p", ()), ("zbl_fraction", ())):
            try:
                value = np.asarray(getattr(self, name), float)
            except (TypeError, ValueError):
                value = np.array(np.nan)
            if not np.isfinite(value).all() or value.shape not in ((), shape):
                faults.append(f"{name}: {getattr(self, name)!r}: must be one number" + (
                    f", or numbers of shape {shape}" if shape else ""))
            elif name in ("r_max", "average_neighbors") and (value <= 0).any():
                faults.append(f"{name}: {getattr(self, name)!r}: must be positive")
            elif name in ("envelope_p", "zbl_p") and value < 2:
                faults.append(f"{name}: {getattr(self, name)!r}: must be at least 2")
            elif name == "zbl_fraction" and value < 0:
                faults.append(f"{name}: {getattr(self, name)!r}: must not be negative")
        faults += self._own_faults()
        if self.zbl and not all(atomic_numbers.get(e, 0) > 0 for e in self.elements):
            faults.append(f"zbl: elements {self.elements} must be chemical symbols")
        if faults:
            raise InputError(*faults)

    def _own_faults(self) -> list[str]:
        """Faults of settings that only one form has."""
        return []

    @property
    def cutoff(self) -> np.ndarray:
        """Cutoff of (center, neighbor), (T, T) float64, Å."""
        t = len(self.elements)
        return np.ascontiguousarray(np.broadcast_to(np.asarray(self.r_max, float), (t, t)))

    @property
    def zbl_cutoff(self) -> np.ndarray:
        """Cutoff of the repulsion of (center, neighbor), (T, T) float64, Å."""
        if not (self.zbl and self.zbl_fraction):
            return self.cutoff
        return np.minimum(self.cutoff, reaches(self.elements, self.zbl_fraction))

    def per_species(self, name: str) -> np.ndarray:
        """A setting as (T,) float64."""
        return np.array(np.broadcast_to(np.asarray(getattr(self, name), float), (len(self.elements),)))

    def to_dict(self) -> dict:
        """The settings as numbers, strings and tuples."""
        return asdict(self)


@dataclass(frozen=True)
class AllegroConfig(NetworkConfig):
    """The shape of an AllegroNetwork.

    Attributes
    ----------
    as NetworkConfig
    n_scalar : scalar features (S)
    embed_depth, embed_width; latent_depth, latent_width; readout_depth, readout_width : hidden layers of the
        two-body MLP, of the MLPs of the layers and of the readout MLP
    embed_activation, latent_activation, readout_activation : their nonlinearity, one of activations.ACTIVATIONS
    n_splines, spline_span : number of splines of each pair of species, and how many of them overlap at a point; they
        take the place of the Bessel functions, their envelope and the embedding of the species. 0: Bessel functions
    """

    n_scalar: int = 64
    embed_depth: int = 1
    embed_width: int = 64
    latent_depth: int = 1
    latent_width: int = 64
    readout_depth: int = 1
    readout_width: int = 32
    embed_activation: str = "silu"
    latent_activation: str = "silu"
    readout_activation: str = "silu"
    n_splines: int = 0
    spline_span: int = 12

    integers: ClassVar = (
        *NetworkConfig.integers, ("n_scalar", 2, 4096), ("embed_depth", 0, 16), ("latent_depth", 0, 16),
        ("readout_depth", 0, 16), ("embed_width", 1, 8192), ("latent_width", 1, 8192), ("readout_width", 1, 8192),
        ("n_splines", 0, 1024), ("spline_span", 0, 1024))

    def _own_faults(self) -> list[str]:
        faults = []
        if isinstance(self.n_scalar, int) and self.n_scalar % 2 and not self.n_splines:
            faults.append(f"n_scalar: {self.n_scalar}: must be even (half for the center, half for the neighbor)")
        for name in ("embed_activation", "latent_activation", "readout_activation"):
            if getattr(self, name) not in ACTIVATIONS:
                faults.append(f"{name}: {str(getattr(self, name))[:20]!r}: must be one of {', '.join(ACTIVATIONS)}")
        if isinstance(self.n_splines, int) and isinstance(self.spline_span, int) and \
                0 < self.n_splines < self.spline_span:
            faults.append(f"spline_span: {self.spline_span}: must be at most n_splines, {self.n_splines}")
        return faults

    @property
    def n_radial(self) -> int:
        """Number of radial functions."""
        return self.n_splines or self.n_bessel


class Linear(nn.Module):
    """y = x (α W), no bias; W (fan_in, fan_out) ~ U(-√3, √3), α = gain/√fan_in."""

    def __init__(self, fan_in: int, fan_out: int, gain: float, generator: torch.Generator, dtype: torch.dtype) -> None:
        super().__init__()
        self.alpha = gain / math.sqrt(fan_in)
        self.weight = nn.Parameter(_uniform((fan_in, fan_out), generator, dtype))

    def matrix(self) -> Tensor:
        return self.weight * self.alpha


class MLP(nn.Module):
    """Linear, [activation, Linear] · of the given sizes; gain 1 for the first, ``gain`` for the later ones.

    Without a nonlinearity (LINEAR) the matrices act one after the other, each of gain 1.
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, dtype: torch.dtype,
                 gain: float = math.sqrt(2), activation: str = "silu") -> None:
        super().__init__()
        self.activation = activation
        self.linears = nn.ModuleList(Linear(a, b, gain if k and activation != LINEAR else 1.0, generator, dtype)
                                     for k, (a, b) in enumerate(pairwise(sizes)))

    def matrices(self) -> list[Tensor]:
        """The matrices between the nonlinearities."""
        matrices = [cast(Linear, linear).matrix() for linear in self.linears]
        linear = self.activation == LINEAR and len(matrices) > 1
        return [torch.linalg.multi_dot(matrices)] if linear else matrices

    def forward(self, parts: list[Tensor], widths: list[int]) -> list[Tensor]:
        """The output, split into columns of ``widths``, for an input given as ``parts`` of its columns."""
        first, *between = self.matrices()
        if not between:
            return [_joined_product(parts, matrix) for matrix in first.split(widths, dim=1)]
        *between, last = between
        x, function = _joined_product(parts, first), ACTIVATIONS[self.activation].function
        for matrix in between:
            x = function(x) @ matrix
        x = function(x)
        return [x @ matrix for matrix in last.split(widths, dim=1)]


def layer_sizes(fan_in: int, width: int, depth: int, fan_out: int) -> list[int]:
    """Sizes of an MLP of ``depth`` hidden layers of one width."""
    return [fan_in, *[width] * depth, fan_out]


def mlp_shapes(name: str, sizes: Sequence[int]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights of an MLP in a state dict."""
    return {f"{name}.linears.{k}.weight": pair for k, pair in enumerate(pairwise(sizes))}


def _joined_product(parts: list[Tensor], matrix: Tensor) -> Tensor:
    """torch.cat(parts, 1) @ matrix."""
    rows = matrix.split([p.shape[1] for p in parts])
    out = parts[0] @ rows[0]
    for part, some in zip(parts[1:], rows[1:]):
        out = torch.addmm(out, part, some)
    return out


def _uniform(shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    return (torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).mul_(math.sqrt(3)).to(dtype)


class PairNetwork(nn.Module):
    """The parts that both forms of the network share: radial roots, scales and shifts, tensor products, repulsion.

    For training: join the frames of a batch (edges concatenated, centers offset by the atoms before their frame),
    call forward with ``r_ij.requires_grad_()``, then ``g_ij, = torch.autograd.grad(e_i.sum(), r_ij,
    create_graph=True)``; forces are ``zeros.index_add(0, center, g_ij).index_add(0, neighbor, -g_ij)`` and the energy
    of a frame is the sum of e_i of its atoms.

    Parameters
    ----------
    config : NetworkConfig
    dtype : torch.float32 or torch.float64, of the weights; geometry, scale and shift are float64 always.
    tables : tensor products of the layers

    Attributes
    ----------
    plain : True uses only operations of torch, as on a GPU; otherwise the products run in compiled loops.
    form : release series of the package ``allegro`` with these equations
    """

    form: ClassVar[str]
    config: Any
    bessel: Tensor
    scale: Tensor
    shift: Tensor
    inv_cutoff: Tensor
    inv_zbl_cutoff: Tensor
    norm: Tensor
    atomic_number: Tensor
    _l_of_m: Tensor

    def __init__(self, config: NetworkConfig, dtype: torch.dtype, tables: Sequence[ProductTable]) -> None:
        super().__init__()
        c = config
        self.config = config
        self.plain = False
        self.tables = tables
        self._register("bessel", torch.arange(1, c.n_bessel + 1, dtype=torch.float64), c.bessel_trainable)
        self._register("scale", torch.from_numpy(c.per_species("scale")), c.scale_trainable)
        self._register("shift", torch.from_numpy(c.per_species("shift")), c.shift_trainable)
        self.register_buffer("inv_cutoff", torch.from_numpy(1.0 / c.cutoff), persistent=False)
        self.register_buffer("inv_zbl_cutoff", torch.from_numpy(1.0 / c.zbl_cutoff), persistent=False)
        self.register_buffer("norm", torch.from_numpy(c.per_species("average_neighbors") ** -0.5).to(dtype),
                             persistent=False)
        self.register_buffer("atomic_number", torch.tensor([atomic_numbers.get(e, 0) for e in c.elements],
                                                           dtype=torch.float64), persistent=False)
        for k, table in enumerate(tables):
            for name in ("m1", "m2", "m3", "path", "pair", "pairs"):
                self.register_buffer(f"_{name}{k}", torch.from_numpy(getattr(table, name)), persistent=False)
            self.register_buffer(f"_coefficient{k}", torch.from_numpy(table.coefficient).to(dtype), persistent=False)
        self.register_buffer("_l_of_m", torch.tensor([l for l in range(c.l_max + 1) for _ in range(2 * l + 1)]),  # noqa: E741
                             persistent=False)

    def _register(self, name: str, value: Tensor, trainable: bool) -> None:
        if trainable:
            self.register_parameter(name, nn.Parameter(value))
        else:
            self.register_buffer(name, value)

    @property
    def dtype(self) -> torch.dtype:
        return self.norm.dtype

    def _weigh(self, w: Tensor, y: Tensor, row: Tensor, rows: int) -> Tensor:
        """G[row[e], m] = Σ_e w[e, l(m)] Y[e, m], (rows, D, U)."""
        if self.plain or y.is_cuda:
            return y.new_zeros(rows, y.shape[1], w.shape[2]).index_add(0, row, w[:, self._l_of_m] * y[:, :, None])
        return WeighHarmonics.apply(w, y, row, self._l_of_m, rows)

    def _product(self, k: int, v: Tensor, a: Tensor, center: Tensor) -> Tensor:
        """V'[e, m3, u] = Σ_t c W[path, u] V[e, m1, u] A[center, m2, u] of layer k; m2 and path are summed first."""
        table = self.tables[k]

        def of(name: str) -> Tensor:
            return getattr(self, f"_{name}{k}")

        terms = a[:, of("m2")] * self._term_weight(k, of("path"), of("coefficient")[:, None])
        b = a.new_zeros(len(a), len(table.pairs), a.shape[2]).index_add(1, of("pair"), terms)
        m1, m3 = of("pairs").unbind(1)
        if self.plain or v.is_cuda:
            return v.new_zeros(len(v), table.d_out, v.shape[2]).index_add(1, m3, v[:, m1] * b[center])
        return ApplyOperator.apply(b, v, center, m1, m3, table.d_out)

    def _term_weight(self, k: int, path: Tensor, coefficient: Tensor) -> Tensor:
        """Weights of the terms of layer k, (t, U) or (t, 1), from their paths and coefficients (t, 1)."""
        return coefficient

    def _energies(self, e_ij: Tensor, norm: Tensor, r: Tensor, center: Tensor, species_center: Tensor,
                  species_neighbor: Tensor) -> Tensor:
        """shift + scale · norm Σ_j e_ij, and the repulsion; (n,) float64, eV."""
        c = self.config
        e_i = (e_ij.new_zeros(len(species_center), 1).index_add(0, center, e_ij) * norm)[:, 0].double()
        e_i = self.shift[species_center] + self.scale[species_center] * e_i
        if c.zbl:
            z, of_edge = self.atomic_number, species_center[center]
            x = r * self.inv_zbl_cutoff[of_edge, species_neighbor]
            pair = zbl_pair_energy(z[of_edge], z[species_neighbor], r) * envelope(x, c.zbl_p)
            e_i = e_i.index_add(0, center, pair)
        return e_i


class AllegroNetwork(PairNetwork):
    """E_i = shift + scale (2 N̄)^(-1/2) Σ_j e_ij, e_ij from the strictly local features of the edge i → j.

    Tensor features are (edge, component, channel), channels last; a weight of irrep l and channel u has column l U + u.
    Use, parameters and attributes as PairNetwork.
    """

    form = "0.8"

    def __init__(self, config: AllegroConfig, dtype: torch.dtype = torch.float32) -> None:
        c = config
        super().__init__(c, dtype, product_tables(c.l_max, c.parity, c.n_layers))
        t, s, n_env = len(c.elements), c.n_scalar, (c.l_max + 1) * c.n_tensor
        generator = torch.Generator().manual_seed(c.seed)
        if c.n_splines:
            bound = math.sqrt(1 / max(c.spline_span, 1))
            self.spline = nn.Parameter(bound * _uniform((t, t, c.n_splines, s), generator, torch.float64))
        else:
            self.center_embed, self.neighbor_embed = (
                nn.Parameter(torch.randn((t, s // 2), generator=generator, dtype=torch.float64).to(dtype))
                for _ in range(2))
            self.basis = Linear(c.n_bessel, s, 1.0, generator, dtype)
        self.embed = MLP(layer_sizes(s, c.embed_width, c.embed_depth, s), generator, dtype,
                         activation=c.embed_activation)
        self.tensor_embed = Linear(s, n_env, 1.0, generator, dtype)
        self.project = Linear(s, s + n_env, 1.0, generator, dtype)
        self.latents = nn.ModuleList(MLP(sizes, generator, dtype, activation=c.latent_activation)
                                     for sizes in self._latent_sizes(c))
        self.path_weights = nn.ParameterList(
            nn.Parameter(_uniform((table.n_paths, c.n_tensor), generator, dtype)) for table in self.tables)
        self.readout = MLP(layer_sizes(s * (c.n_layers + 1), c.readout_width, c.readout_depth, 1), generator, dtype,
                           activation=c.readout_activation)

    @staticmethod
    def _latent_sizes(config: AllegroConfig) -> list[list[int]]:
        """Sizes of the MLPs of the layers; the last one gives no environment weights."""
        c, n_env = config, (config.l_max + 1) * config.n_tensor
        return [layer_sizes(c.n_scalar * (k + 1) + c.n_tensor, c.latent_width, c.latent_depth,
                            c.n_scalar + (n_env if k < c.n_layers - 1 else 0)) for k in range(c.n_layers)]

    @staticmethod
    def shapes(config: AllegroConfig) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the state dict, without allocation; a file is checked against them."""
        c, t, s, n_env = config, len(config.elements), config.n_scalar, (config.l_max + 1) * config.n_tensor
        out: dict[str, tuple[int, ...]] = {
            "bessel": (c.n_bessel,), "scale": (t,), "shift": (t,), "tensor_embed.weight": (s, n_env),
            "project.weight": (s, s + n_env)}
        out |= {"spline": (t, t, c.n_splines, s)} if c.n_splines else {
            "center_embed": (t, s // 2), "neighbor_embed": (t, s // 2), "basis.weight": (c.n_bessel, s)}
        out |= mlp_shapes("embed", layer_sizes(s, c.embed_width, c.embed_depth, s))
        for k, table in enumerate(product_tables(c.l_max, c.parity, c.n_layers)):
            out |= mlp_shapes(f"latents.{k}", AllegroNetwork._latent_sizes(c)[k])
            out[f"path_weights.{k}"] = (table.n_paths, c.n_tensor)
        return out | mlp_shapes("readout", layer_sizes(s * (c.n_layers + 1), c.readout_width, c.readout_depth, 1))

    def _term_weight(self, k: int, path: Tensor, coefficient: Tensor) -> Tensor:
        return self.path_weights[k][path] * coefficient

    def _two_body(self, x: Tensor, species: Tensor, species_neighbor: Tensor) -> Tensor:
        """(m, S) scalars of edges of length x (m,), over the cutoff, between two species (m,)."""
        c = self.config
        if c.n_splines:
            basis = splines(x, c.n_splines, c.spline_span)
            return torch.bmm(basis[:, None], self.spline[species, species_neighbor])[:, 0].to(self.dtype)
        radial = (torch.sinc(x[:, None] * self.bessel) * self.bessel).to(self.dtype) * envelope(
            x, c.envelope_p).to(self.dtype)[:, None]
        types = torch.cat([self.center_embed[species], self.neighbor_embed[species_neighbor]], dim=-1)
        return types * (radial @ self.basis.matrix())

    def pair_matrices(self) -> Tensor:
        """(T, T, b, S) float64: from the radial functions to the scalars of an edge, [center][neighbor]."""
        if self.config.n_splines:
            return self.spline.double()
        t = len(self.config.elements)
        types = torch.cat([self.center_embed.double()[:, None].expand(-1, t, -1),
                           self.neighbor_embed.double()[None].expand(t, -1, -1)], dim=-1)
        return self.basis.matrix().double() * types[:, :, None, :]

    def forward(self, r_ij: Tensor, center: Tensor, species_center: Tensor, species_neighbor: Tensor) -> Tensor:
        """Energies of the centers.

        Parameters
        ----------
        r_ij             (m, 3) float64  x[neighbor] - x[center], Å; rows at or beyond the cutoff give exactly zero
        center           (m,)   int64    center of each edge, in any order
        species_center   (n,)   int64    type of each center (of the centers, not of the edges)
        species_neighbor (m,)   int64    type of the neighbor of each edge

        Returns
        -------
        e_i (n,) float64, eV, shift included
        """
        c, n, m = self.config, len(species_center), len(r_ij)
        of_edge = species_center[center]
        r = r_ij.square().sum(-1).sqrt()
        x = r * self.inv_cutoff[of_edge, species_neighbor]
        y = spherical_harmonics(c.l_max, r_ij / r[:, None]).to(self.dtype)
        n_env = (c.l_max + 1) * c.n_tensor
        (h,) = self.embed([self._two_body(x, of_edge, species_neighbor)], [c.n_scalar])
        w = (h @ self.tensor_embed.matrix()).view(m, c.l_max + 1, c.n_tensor)
        v = self._weigh(w, y, torch.arange(m, device=y.device), m)
        z, env = ([h @ matrix] for matrix in self.project.matrix().split([c.n_scalar, n_env], dim=1))
        norm = self.norm[species_center][:, None]
        for k, mlp in enumerate(self.latents):
            a = self._weigh(env[0].view(m, c.l_max + 1, c.n_tensor), y, center, n) * norm[:, :, None]
            v = self._product(k, v, a, center)
            scalar = v[:, 0] if k < c.n_layers - 1 else v.squeeze(1)
            latent, *env = mlp([*z, scalar], [c.n_scalar, n_env] if k < c.n_layers - 1 else [c.n_scalar])
            z.append(latent)
        (e_ij,) = self.readout(z, [1])
        return self._energies(e_ij, norm / math.sqrt(2), r, center, species_center, species_neighbor)
