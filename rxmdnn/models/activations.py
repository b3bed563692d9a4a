"""Nonlinearities of the MLPs of Allegro: as functions of torch for training, and into buffers for the evaluation.

All are zero at zero, so that an edge ends smoothly at the cutoff.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

LINEAR = "none"  # no nonlinearity: the matrices of the MLP act one after the other


class Activation(NamedTuple):
    """function: a(x), differentiable twice; forward(x, out): out = a(x); backward(d, x, out): out = d a'(x)."""

    function: Callable[[Tensor], Tensor]
    forward: Callable[[Tensor, Tensor], object]
    backward: Callable[[Tensor, Tensor, Tensor], object]


def _tanh_backward(d: Tensor, x: Tensor, out: Tensor) -> None:
    torch.tanh(x, out=out)
    out.square_().neg_().add_(1).mul_(d)


def _ssp_forward(x: Tensor, out: Tensor) -> None:
    out.copy_(functional.softplus(x)).sub_(math.log(2))


ACTIVATIONS = {
    "silu": Activation(functional.silu, lambda x, out: torch.ops.aten.silu.out(x, out=out),
                       lambda d, x, out: torch.ops.aten.silu_backward.grad_input(d, x, grad_input=out)),
    # gelu.out of torch 2.13 gives wrong float32 numbers where ``out`` is a part of a wider array
    "gelu": Activation(functional.gelu, lambda x, out: out.copy_(functional.gelu(x)),
                       lambda d, x, out: out.copy_(torch.ops.aten.gelu_backward(d, x))),
    "mish": Activation(functional.mish, lambda x, out: torch.ops.aten.mish.out(x, out=out),
                       lambda d, x, out: out.copy_(torch.ops.aten.mish_backward(d, x))),
    "tanh": Activation(torch.tanh, lambda x, out: torch.tanh(x, out=out), _tanh_backward),
    "ssp": Activation(lambda x: functional.softplus(x) - math.log(2), _ssp_forward,
                      lambda d, x, out: torch.sigmoid(x, out=out).mul_(d)),
}
