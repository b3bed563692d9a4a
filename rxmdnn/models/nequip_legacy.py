"""The settings and the state dict of a model of allegro 0.2 for nequip, which has lost its layers.

The layers themselves: LegacyAllegro in nequip_parts, which an exported model names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rxmdnn.models.clebsch_gordan import harmonic_irreps
from rxmdnn.models.legacy_network import LegacyNetwork

BUILDER = "rxmdnn.models.nequip_builders.LegacyAllegroModel"
FLOAT64 = ("roots", "mean", "inv_std")  # in a float32 model too


def layer_settings(network: LegacyNetwork) -> dict[str, Any]:
    """The arguments of LegacyAllegro but for the cutoff."""
    c = network.config
    return {"l_max": c.l_max, "n_tensor": c.n_tensor, "envelope_p": float(c.envelope_p),
            "layers": [[[mix.l, mix.paths, mix.start_in] for mix in of_layer] for of_layer in network.all_mixes],
            **{name: {key: list(value.shape) for key, value in arrays.items()}
               for name, arrays in (("weights", weights(network)), ("constants", constants(network)))}}


def weights(network: LegacyNetwork) -> dict[str, Tensor]:
    """The matrices of LegacyAllegro by name; those without a nonlinearity between them are multiplied."""
    c, t = network.config, len(network.config.elements)
    first, *rest = network.embed.matrices()
    out = {"center": first[:t], "neighbor": first[t : 2 * t], "embed_0": first[2 * t :]}
    out |= {f"embed_{j + 1}": matrix for j, matrix in enumerate(rest)}
    for k in range(c.n_layers):
        env: Any = network.env[k]
        mlp: Any = network.latents[k]
        out[f"env_{k}"] = env.matrix()
        out |= {f"latent_{k}_{j}": matrix for j, matrix in enumerate(mlp.matrices())}
        if k < c.n_layers - 1:
            out |= {f"mix_{k}_{o}": matrix for o, matrix in enumerate(network.mix_matrices(k))}
    return out | {f"readout_{j}": matrix for j, matrix in enumerate(network.readout.matrices())}


def constants(network: LegacyNetwork) -> dict[str, Tensor]:
    """The constants of LegacyAllegro by name."""
    c = network.config
    d_env = sum(2 * n_l + 1 for n_l, _ in harmonic_irreps(c.l_max))
    out = {"roots": network.bessel, "mean": network.basis_mean, "inv_std": network.basis_inv_std,
           "norm": network.norm, "ratios": torch.stack([torch.stack(pair) for pair in network.coefficients()])}
    for k, table in enumerate(network.tables):
        dense = np.zeros((table.d_in, d_env, table.d_out))
        dense[table.m1, table.m2, table.m3] = table.coefficient
        out[f"product_{k}"] = torch.from_numpy(dense.reshape(-1, table.d_out))
    return out


def state_dict(network: LegacyNetwork, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state of LegacyAllegro in the model, under its names."""
    return {**{f"func.legacy.weights.{name}": value.to(dtype) for name, value in weights(network).items()},
            **{f"func.legacy.{name}": value.to(torch.float64 if name in FLOAT64 else dtype)
               for name, value in constants(network).items()}}
