"""The kernels of the fast Allegro evaluation in torch's own operations, for a GPU: what allegro_kernels is to the CPU.

A function has the arguments of its namesake there, but for a ``Block`` in place of the list's arrays, and tensors
instead of arrays. Rows beyond the block's edges hold rubbish and stay untouched. Sums over an atom's edges go along
their segment, and sums over components along an axis, in a fixed order: the same input gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from rxmdnn.models.allegro_network import envelope, spherical_harmonics
from rxmdnn.models.zbl import zbl_pair_energy


class Block:
    """Edges of whole centers [i0, i1), and what is needed of them more than once.

    Parameters
    ----------
    r_ij (M, 3) float64, Å; neighbor (M,) int32; first (N + 1,) int64; species (n_all,) int32 : of the whole list
    type_of (n_elements,) int64 : type in the model of an element
    i0, i1 : the centers; start, stop : their edges
    """

    def __init__(self, r_ij: Tensor, neighbor: Tensor, first: Tensor, species: Tensor, type_of: Tensor,
                 i0: int, i1: int, start: int, stop: int) -> None:
        self.i0, self.i1, self.start, self.stop, self.m, self.n = i0, i1, start, stop, stop - start, i1 - i0
        self.r_ij = r_ij[start:stop]
        self.offsets = first[i0 : i1 + 1] - start
        self.center = torch.repeat_interleave(torch.arange(self.n, device=r_ij.device), self.offsets.diff(),
                                              output_size=self.m)
        self.type_center = type_of[species[i0:i1].long()]  # (n,)
        self.t_i = self.type_center[self.center]  # (m,)
        self.t_j = type_of[species[neighbor[start:stop].long()].long()]
        self.r = self.r_ij.square().sum(-1).sqrt()

    def sum(self, of_edges: Tensor) -> Tensor:
        """(m, ...) -> (n, ...): sums over the edges of each center."""
        return torch.segment_reduce(of_edges, "sum", offsets=self.offsets, initial=0.0, unsafe=True)


class Product:
    """A layer's terms, as its namesakes of allegro_kernels.layer_forward, arranged for whole-array operations.

    Attributes
    ----------
    dense (U, q, D) : the operator of an environment is B[q] = Σ_m dense[q, m] A[m], channel by channel
    m1, m3 (q,) int64 : component of V and of V' that a pair joins
    by_m1, by_m3 : (order of the pairs, how many each component has)
    """

    def __init__(self, table: tuple[np.ndarray, ...], d_env: int, d_in: int, d_out: int, device: torch.device) -> None:
        m2, pair, term_weight, m1, m3 = table
        dense = np.zeros((term_weight.shape[1], len(m1), d_env), term_weight.dtype)
        np.add.at(dense.transpose(1, 2, 0), (pair, m2), term_weight)
        self.dense, self.m1, self.m3 = (torch.from_numpy(a).to(device) for a in (dense, m1, m3))
        self.by_m1, self.by_m3 = (
            (torch.from_numpy(np.argsort(of, kind="stable")).to(device), np.bincount(of, minlength=d).tolist())
            for of, d in ((m1, d_in), (m3, d_out)))


def _by_pair(block: Block, of_edges: Tensor, matrices: Tensor) -> Tensor:
    """(m, b) times each edge's matrix of (T, T, b, w) -> (m, w)."""
    types, _, b, width = matrices.shape
    if types * types > width:
        return torch.bmm(of_edges[:, None], matrices[block.t_i, block.t_j])[:, 0]
    wide = of_edges.new_zeros(block.m, types * types, b)  # the numbers at the place of their pair, zeros elsewhere
    wide[torch.arange(block.m, device=of_edges.device), block.t_i * types + block.t_j] = of_edges
    return wide.view(block.m, types * types * b) @ matrices.view(-1, width)


def _by_pair_transposed(block: Block, of_edges: Tensor, matrices: Tensor) -> Tensor:
    """(m, w) times the transpose of each edge's matrix of (T, T, b, w) -> (m, b)."""
    types, _, b, width = matrices.shape
    if types * types > width:
        return torch.bmm(matrices[block.t_i, block.t_j], of_edges[:, :, None])[:, :, 0]
    wide = (of_edges @ matrices.view(-1, width).t()).view(block.m, types * types, b)
    return wide[torch.arange(block.m, device=of_edges.device), block.t_i * types + block.t_j]


def edge_geometry(block: Block, inv_cutoff: Tensor, roots: Tensor, integer_roots: bool, p: float, l_max: int,
                  matrices: Tensor, radial_slope: Tensor, y: Tensor, pre: Tensor, cut: Tensor) -> None:
    m, n_basis = block.m, len(roots)
    inv = inv_cutoff[block.t_i, block.t_j][:, None]
    x = block.r[:, None] * inv
    inside = x < 1
    x = torch.where(inside, x, 0.5)
    xp = x ** (p - 1)
    c0, c1, c2 = 0.5 * (p + 1) * (p + 2), p * (p + 2), 0.5 * p * (p + 1)
    f = inside * (1 - x * xp * (c0 - x * (c1 - x * c2)))
    df = -(inside * xp) * (p * c0 - x * ((p + 1) * c1 - x * (p + 2) * c2))
    angle = math.pi * x * roots
    s = torch.sin(angle) / (math.pi * x)
    radial_slope[:m, :n_basis] = ((roots * torch.cos(angle) - s) / x * f + s * df) * inv
    basis = [(s * f).to(pre.dtype)]
    if matrices.shape[2] > n_basis:
        radial_slope[:m, n_basis:] = df * inv
        cut[:m] = f[:, 0]
        basis += [f.to(pre.dtype), inside.to(pre.dtype)]
    pre[:m] = _by_pair(block, torch.cat(basis, dim=1), matrices)
    y[:m] = spherical_harmonics(l_max, block.r_ij / block.r[:, None])


def edge_gradient(block: Block, l_max: int, matrices: Tensor, radial_slope: Tensor, d_pre: Tensor, d_y: Tensor,
                  d_cut: Tensor, factor: Tensor, g_ij: Tensor) -> None:
    m, n_rows = block.m, radial_slope.shape[1]
    dots = _by_pair_transposed(block, d_pre[:m], matrices)
    slope = (dots[:, :n_rows] * radial_slope[:m]).sum(1).double()
    if matrices.shape[2] > n_rows:
        slope = slope + d_cut[:m] * radial_slope[:m, n_rows - 1]
    unit = block.r_ij / block.r[:, None]
    q = torch.zeros_like(unit)
    if l_max:
        with torch.enable_grad():
            u = unit.clone().requires_grad_()
            (q,) = torch.autograd.grad(spherical_harmonics(l_max, u), u, d_y[:m].double())
    along = slope - (unit * q).sum(1) / block.r
    scale = factor[block.t_i][:, None]
    g_ij[block.start : block.stop] = scale * (along[:, None] * unit + q / block.r[:, None])


def _components(w: Tensor, y: Tensor, l_of_m: Tensor) -> Tensor:
    """w (m, R, U), y (m, D) -> (m, D, U): weights times harmonics."""
    return w[:, l_of_m] * y[:, :, None]


def _by_l(x: Tensor, n_l: int) -> Tensor:
    """(m, D, U) -> (m, n_l, U): sums over the components of each l."""
    return torch.stack([part.sum(1) for part in x.split([2 * k + 1 for k in range(n_l)], dim=1)], dim=1)


def _by_component(x: Tensor, group: tuple[Tensor, list[int]]) -> Tensor:
    """(m, q, U) -> (m, d, U): sums over the pairs of each component."""
    order, sizes = group
    return torch.stack([part.sum(1) for part in x[:, order].split(sizes, dim=1)], dim=1)


def _row(is_first: bool, l_of_m: Tensor, y: Tensor, v: Tensor, m: int) -> Tensor:
    """The features that enter a layer, (m, d_in, U)."""
    return _components(v[:m], y[:m], l_of_m) if is_first else v[:m]


def layer_forward(is_first: bool, l_0: int, block: Block, norm: Tensor, l_of_m: Tensor, product: Product, y: Tensor,
                  a: Tensor, v: Tensor, b: Tensor, v_next: Tensor, s_next: Tensor) -> None:
    m, n = block.m, block.n
    environment = block.sum(_components(a[:m, l_0:], y[:m], l_of_m)) * norm[block.type_center][:, None, None]
    b[:n] = torch.matmul(product.dense, environment.permute(2, 1, 0)).permute(2, 1, 0)
    row = _row(is_first, l_of_m, y, v, m)
    v_next[:m] = _by_component(b[block.center] * row[:, product.m1], product.by_m3)
    if s_next.shape[1]:
        s_next[:m] = v_next[:m, 0]


def layer_backward(is_first: bool, l_0: int, block: Block, norm: Tensor, l_of_m: Tensor, product: Product, y: Tensor,
                   a: Tensor, v: Tensor, b: Tensor, d_v_next: Tensor, d_v: Tensor, d_a: Tensor, d_y: Tensor) -> None:
    m, n_l = block.m, a.shape[1] - l_0
    row = _row(is_first, l_of_m, y, v, m)
    g = d_v_next[:m, product.m3]
    d_operator = block.sum(row[:, product.m1] * g)
    d_row = _by_component(b[block.center] * g, product.by_m1)
    if is_first:
        d_v[:m, :l_0] = _by_l(d_row * y[:m, :, None], l_0)
        d_y[:m] += (d_row * v[:m, l_of_m]).sum(2)
    else:
        d_v[:m] = d_row
    d_environment = torch.matmul(product.dense.transpose(1, 2), d_operator.permute(2, 1, 0)).permute(2, 1, 0)
    of_edge = (d_environment * norm[block.type_center][:, None, None])[block.center]
    d_a[:m, l_0:] = _by_l(of_edge * y[:m, :, None], n_l)
    d_y[:m] += (of_edge * a[:m, l_0:][:, l_of_m]).sum(2)


def sum_edges(e_ij: Tensor, block: Block, factor: Tensor, shift: Tensor, e_i: Tensor) -> None:
    total = block.sum(e_ij[: block.m, 0].double())
    e_i[block.i0 : block.i1] = shift[block.type_center] + factor[block.type_center] * total


def sum_columns(h: Tensor, begin: int, block: Block, out: Tensor) -> None:
    out[block.i0 : block.i1] = block.sum(h[: block.m, begin:].double())


def scale_rows(cut: Tensor, source: Tensor, begin: int, width: int, out: Tensor, out_begin: int) -> None:
    out[:, out_begin : out_begin + width] = cut[:, None] * source[:, begin : begin + width]


def scale_rows_backward(add: bool, cut: Tensor, source: Tensor, begin: int, width: int, d_out: Tensor, out_begin: int,
                        d_source: Tensor, d_cut: Tensor) -> None:
    d_row = d_out[:, out_begin : out_begin + width]
    d_cut += (d_row * source[:, begin : begin + width]).sum(1)
    into = d_source[:, begin : begin + width]
    if add:
        into += cut[:, None] * d_row
    else:
        into.copy_(cut[:, None] * d_row)


def add_zbl(block: Block, z: Tensor, inv_cutoff: Tensor, p: float, e_i: Tensor, g_ij: Tensor) -> None:
    """Add the screened repulsion to the block's energies and gradients. z (T,), inv_cutoff (T, T), float64."""
    with torch.enable_grad():
        r = block.r.clone().requires_grad_()
        pair = zbl_pair_energy(z[block.t_i], z[block.t_j], r) * envelope(r * inv_cutoff[block.t_i, block.t_j], p)
        (slope,) = torch.autograd.grad(pair.sum(), r)
    e_i[block.i0 : block.i1] += block.sum(pair.detach())
    g_ij[block.start : block.stop] += block.r_ij * (slope / block.r)[:, None]
