"""Functions of the vector of an edge, in torch and twice differentiable: harmonics, cutoff envelope, splines."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def spherical_harmonics(l_max: int, u: Tensor) -> Tensor:
    """Real spherical harmonics of unit vectors, with Σ_m Y_lm² = 2l + 1 and the order and signs of e3nn.

    Parameters
    ----------
    l_max : 0 to 3
    u : (m, 3) unit vectors

    Returns
    -------
    Y : (m, (l_max + 1)²)
    """
    x, y, z = u.unbind(-1)
    out = [torch.ones_like(x)]
    if l_max >= 1:
        out += [math.sqrt(3) * x, math.sqrt(3) * y, math.sqrt(3) * z]
    if l_max >= 2:
        s15 = math.sqrt(15)
        xx, yy, zz = x * x, y * y, z * z
        out += [s15 * x * z, s15 * x * y, math.sqrt(5) * (yy - 0.5 * (xx + zz)), s15 * y * z, 0.5 * s15 * (zz - xx)]
    if l_max >= 3:
        a, b, c = math.sqrt(35 / 8), math.sqrt(105), math.sqrt(21 / 8)
        out += [a * x * (3 * zz - xx), b * x * y * z, c * x * (4 * yy - xx - zz),
                0.5 * math.sqrt(7) * y * (2 * yy - 3 * xx - 3 * zz), c * z * (4 * yy - xx - zz),
                0.5 * b * y * (zz - xx), a * z * (zz - 3 * xx)]
    return torch.stack(out, dim=-1)


def envelope(x: Tensor, p: float) -> Tensor:
    """1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2) below x = 1, zero from there on (DimeNet)."""
    f = 1 - 0.5 * (p + 1) * (p + 2) * x**p + p * (p + 2) * x ** (p + 1) - 0.5 * p * (p + 1) * x ** (p + 2)
    return f * (x < 1)


def splines(x: Tensor, n: int, span: int) -> Tensor:
    """n bumps [1 - cos(2π (x - l_k)/w)]²/4 of width w = (span + 1)/n from l_k = (k - span)/n on, (m, n).

    They vanish, with three derivatives, at their ends, the last of which is x = 1. x : (m,), distance over cutoff.
    """
    width = (span + 1) / n
    lower = torch.arange(-span, n - span, dtype=x.dtype, device=x.device) / n
    phase = (2 * math.pi / width) * (torch.clamp(x[:, None], min=lower, max=lower + width) - lower)
    return 0.25 * (1 - torch.cos(phase)).square()
