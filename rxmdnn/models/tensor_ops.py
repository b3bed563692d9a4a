"""The two products of Allegro as torch functions on the CPU, differentiable to any order.

Both are trilinear, so a derivative is again one of a few contractions of the same three arrays: the backward of each
function calls the others, so that higher derivatives need no further code.

Operator on features:     V'[e, m3] = Σ_q B[c(e), q] V[e, m1_q]; partners: gradients of B and V (m1, m3 exchanged).
Weights times harmonics:  G[row(e), m] = Σ_e w[e, l(m)] Y[e, m]; partners: gradients of w and Y.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rxmdnn.models import allegro_kernels as kernels


def _numpy(*tensors: Tensor) -> list:
    return [t.detach().contiguous().numpy() for t in tensors]


class ApplyOperator(torch.autograd.Function):
    """(B (n, q, U), V (m, D, U), center (m,), m_from (q,), m_to (q,), d_out) -> V' (m, d_out, U)."""

    @staticmethod
    def forward(ctx: Any, b: Tensor, v: Tensor, center: Tensor, m_from: Tensor, m_to: Tensor, d_out: int) -> Tensor:
        ctx.save_for_backward(b, v, center, m_from, m_to)
        out = v.new_zeros(len(v), d_out, v.shape[2])
        kernels.apply_operator(*_numpy(b, center, v, m_from, m_to, out))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        b, v, center, m_from, m_to = ctx.saved_tensors
        (g,) = grads
        return (CollectOperator.apply(v, g, center, m_from, m_to, len(b)) if ctx.needs_input_grad[0] else None,
                ApplyOperator.apply(b, g, center, m_to, m_from, v.shape[1]) if ctx.needs_input_grad[1] else None,
                None, None, None, None)


class CollectOperator(torch.autograd.Function):
    """(V (m, D, U), G (m, D', U), center, m_from, m_to, n) -> (n, q, U)."""

    @staticmethod
    def forward(ctx: Any, v: Tensor, g: Tensor, center: Tensor, m_from: Tensor, m_to: Tensor, n: int) -> Tensor:
        ctx.save_for_backward(v, g, center, m_from, m_to)
        out = v.new_zeros(n, len(m_from), v.shape[2])
        kernels.collect_operator(*_numpy(v, g, center, m_from, m_to, out))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        v, g, center, m_from, m_to = ctx.saved_tensors
        (h,) = grads
        return (ApplyOperator.apply(h, g, center, m_to, m_from, v.shape[1]) if ctx.needs_input_grad[0] else None,
                ApplyOperator.apply(h, v, center, m_from, m_to, g.shape[1]) if ctx.needs_input_grad[1] else None,
                None, None, None, None)


class WeighHarmonics(torch.autograd.Function):
    """(w (m, R, U), Y (m, D), row (m,), l_of_m (D,), rows) -> G (rows, D, U)."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, y: Tensor, row: Tensor, l_of_m: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(w, y, row, l_of_m)
        out = w.new_zeros(rows, y.shape[1], w.shape[2])
        kernels.weigh_harmonics(*_numpy(w, y, row, l_of_m, out))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        w, y, row, l_of_m = ctx.saved_tensors
        (g,) = grads
        return (HarmonicMoments.apply(y, g, row, l_of_m, w.shape[1]) if ctx.needs_input_grad[0] else None,
                ChannelProducts.apply(w, g, row, l_of_m) if ctx.needs_input_grad[1] else None, None, None, None)


class HarmonicMoments(torch.autograd.Function):
    """(Y (m, D), G (rows, D, U), row, l_of_m, R) -> w (m, R, U)."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, g: Tensor, row: Tensor, l_of_m: Tensor, n_l: int) -> Tensor:
        ctx.save_for_backward(y, g, row, l_of_m)
        out = y.new_zeros(len(y), n_l, g.shape[2])
        kernels.harmonic_moments(*_numpy(y, g, row, l_of_m, out))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        y, g, row, l_of_m = ctx.saved_tensors
        (w,) = grads
        return (ChannelProducts.apply(w, g, row, l_of_m) if ctx.needs_input_grad[0] else None,
                WeighHarmonics.apply(w, y, row, l_of_m, len(g)) if ctx.needs_input_grad[1] else None,
                None, None, None)


class ChannelProducts(torch.autograd.Function):
    """(w (m, R, U), G (rows, D, U), row, l_of_m) -> Y (m, D)."""

    @staticmethod
    def forward(ctx: Any, w: Tensor, g: Tensor, row: Tensor, l_of_m: Tensor) -> Tensor:
        ctx.save_for_backward(w, g, row, l_of_m)
        out = w.new_empty(len(w), len(l_of_m))
        kernels.channel_products(*_numpy(w, g, row, l_of_m, out))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple:
        w, g, row, l_of_m = ctx.saved_tensors
        (y,) = grads
        return (HarmonicMoments.apply(y, g, row, l_of_m, w.shape[1]) if ctx.needs_input_grad[0] else None,
                WeighHarmonics.apply(w, y, row, l_of_m, len(g)) if ctx.needs_input_grad[1] else None, None, None)
