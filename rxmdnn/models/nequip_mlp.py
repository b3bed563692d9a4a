"""The scalar MLPs of nequip as matrices and nonlinearities; needs none of its packages."""

from __future__ import annotations

import math
from typing import Any

import torch

from rxmdnn.models.activations import LINEAR
from rxmdnn.models.scripted import class_name

NONLINEARITIES = {"SiLU": "silu", "GELU": "gelu", "Mish": "mish", "Tanh": "tanh", "ShiftedSoftplus": "ssp",
                  "Identity": LINEAR}  # zero at zero; others would give atoms an energy at the cutoff


class UnsupportedError(Exception):
    """The model has a part that rxmdnn cannot compute; the text names it."""


def require(condition: bool, what: str) -> None:
    if not condition:
        raise UnsupportedError(what)


def _exact(alpha: torch.Tensor) -> torch.Tensor:
    """The factor √(2/n) of a linear layer, n whole, without its rounding to the precision of the model."""
    value = float(alpha)
    exact = math.sqrt(2 / max(1, round(2 / value**2)))
    return torch.tensor(exact if abs(exact / value - 1) < 1e-6 else value, dtype=torch.float64)


def matrices_of(mlp: Any) -> list[torch.Tensor]:
    """The matrices α W of a nequip ScalarMLPFunction; layers without a nonlinearity between them are multiplied."""
    if class_name(mlp.mlp) == "DeepLinearMLP":
        product = mlp.mlp.alpha.double()
        for k, weight in enumerate(mlp.mlp.weights):
            product = product * weight.double() if k == 0 else product @ weight.double()
        return [product]
    layers = list(mlp.mlp)
    require(all(class_name(a) == "ScalarLinearLayer" and a.bias is None for a in layers[::2]),
             "a scalar MLP with a bias or a parametrization")
    matrices = [a.weight.detach().double() * _exact(a.alpha) for a in layers[::2]]
    return [torch.linalg.multi_dot(matrices)] if nonlinearity_of(mlp) == LINEAR and len(matrices) > 1 else matrices


def nonlinearity_of(mlp: Any) -> str:
    """The nonlinearity of a nequip ScalarMLPFunction, by its name in rxmdnn."""
    if class_name(mlp.mlp) == "DeepLinearMLP" or len(mlp.mlp) < 2:
        return LINEAR
    kinds = {class_name(a) for a in list(mlp.mlp)[1::2]}
    require(len(kinds) == 1 and kinds <= NONLINEARITIES.keys(),
             f"the nonlinearity {', '.join(sorted(kinds))} (only {', '.join(sorted(NONLINEARITIES))})")
    require("GELU" not in kinds or getattr(mlp.mlp[1], "approximate", "none") == "none", "an approximate GELU")
    return NONLINEARITIES[kinds.pop()]


def depth_width_of(name: str, matrices: list[torch.Tensor]) -> tuple[int, int]:
    widths = {m.shape[1] for m in matrices[:-1]}
    require(len(widths) <= 1, f"a {name} MLP with hidden layers of different widths")
    return len(matrices) - 1, widths.pop() if widths else 1
