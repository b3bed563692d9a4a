"""Read the weights of Allegro models made with allegro 0.2 and nequip 0.5: arrays by the names of their state dict."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from rxmdnn.errors import InputError
from rxmdnn.models.clebsch_gordan import path_tables
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork

CORE = "model.func.allegro."
BASIS = "model.func.radial_basis.basis."
READOUT = "model.func.edge_eng._module._forward._weight_"
RESCALE = "model.func.per_species_rescale."
DERIVED = ("_big_w3j", "_zero", "_w_index", "edge_eng_sum.per_edge_scales")  # constants, or empty
SUFFIXES = (".npz", ".pth", ".pt")
NEEDED = {"chemical_symbols": "--elements: the species in the order of the model's types",
          "PolynomialCutoff_p": "--cutoff-p: the power of the cutoff's envelope",
          "edge_eng_mlp_nonlinearity": "--readout: linear (null in a file of settings) or silu, between the layers of "
                                       "the edge energy's MLP"}


def read_settings(path: Path, given: str | Path | None) -> dict[str, Any]:
    """nequip's own settings of the model, from a JSON or YAML file: ``given``, or the one beside the weights."""
    beside = [path.with_suffix(".json"), path.with_suffix(".yaml"), path.with_name("config.yaml")]
    source = next((f for f in ([Path(given)] if given else beside) if f.is_file()), None)
    if source is None:
        if given:
            raise InputError(f"{given}: no such file")
        return {}
    try:
        text = source.read_text()
        if source.suffix == ".json":
            settings = json.loads(text)
        else:
            import yaml

            settings = yaml.safe_load(text)
    except ImportError:
        raise InputError(f"{source}: reading YAML needs the package pyyaml; or write the settings as JSON") from None
    except Exception as error:  # any fault of a foreign file is the user's to know, in one line
        raise InputError(f"{source}: cannot be read: {(str(error).splitlines() or ['?'])[0][:200]}") from None
    if not isinstance(settings, dict):
        raise InputError(f"{source}: must hold settings by name")
    return settings


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file or of a saved state dict, by name; no code in the file is run."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as data:
                return {name: data[name] for name in data.files}
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value.numpy() for name, value in state.items()}
    except Exception as error:  # likewise
        raise InputError(f"{path}: not arrays under names: {type(error).__name__}: "
                         f"{(str(error).splitlines() or [''])[0][:200]}") from None


def convert(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> LegacyNetwork:
    """The network of a state dict of allegro 0.2.

    Parameters
    ----------
    arrays : of the state dict, by name
    settings : under nequip's names; NEEDED tells which the arrays do not say themselves

    Raises
    ------
    InputError : settings or arrays are missing, contradict each other, or belong to a part rxmdnn does not compute.
    """
    settings = dict(settings)
    if "chemical_symbols" not in settings and "type_names" in settings:
        settings["chemical_symbols"] = settings["type_names"]
    faults = [f"the setting {name} is missing: {what}" for name, what in NEEDED.items() if name not in settings]
    for name, allowed in (("two_body_latent_mlp_nonlinearity", ("silu", None)),
                          ("latent_mlp_nonlinearity", ("silu", None)),
                          ("edge_eng_mlp_nonlinearity", ("silu", None)), ("cutoff_type", ("polynomial",)),
                          ("parity", ("o3_full", "o3_restricted")), ("linear_after_env_embed", (False,)),
                          ("embed_initial_edge", (True,))):
        if name in settings and settings[name] not in allowed:
            faults.append(f"the setting {name} is {settings[name]!r}: rxmdnn computes only {allowed}")
    names = settings.get("chemical_symbols", [])
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        faults.append(f"the setting chemical_symbols is {names!r}: must be a list of names")
    for name in ("PolynomialCutoff_p", "avg_num_neighbors"):
        value = settings.get(name)
        if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0):
            faults.append(f"the setting {name} is {value!r}: must be a positive number")
    if faults:
        raise InputError(*faults)
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    used: set[str] = set()

    def take(name: str, like: str = "") -> np.ndarray:
        if name not in arrays:
            raise InputError(f"not a state dict of allegro 0.2: {name} is missing{like}")
        used.add(name)
        return arrays[name].astype(np.float64)

    def stack(prefix: str) -> list[np.ndarray]:
        out = [take(f"{prefix}0")]
        while f"{prefix}{len(out)}" in arrays:
            out.append(take(f"{prefix}{len(out)}"))
        if any(a.ndim != 2 for a in out):
            raise InputError(f"{prefix}*: must be matrices")
        return out

    elements = tuple(settings["chemical_symbols"])
    t = len(elements)
    radii, norms = take(CORE + "per_layer_cutoffs"), take(CORE + "env_sum_normalizations").reshape(-1)
    if np.ptp(radii) > 0:
        raise InputError(f"the layers have different cutoffs {radii.tolist()}; rxmdnn computes only one")
    if np.ptp(norms) > 0:
        raise InputError("the layers or species have different numbers of neighbors; rxmdnn computes only one")
    n_layers = len(radii) - 1
    weights = {"embed": stack(CORE + "latents.0._forward._weight_"), "readout": stack(READOUT)}
    env = [take(f"{CORE}env_embed_mlps.{k}._forward._weight_0") for k in range(n_layers)]
    for k in range(1, n_layers + 1):
        name = f"latents.{k}" if k < n_layers else "final_latent"
        weights[f"latents.{k - 1}"] = stack(f"{CORE}{name}._forward._weight_")
    if any(a.ndim != 2 for a in env):
        raise InputError(f"{CORE}env_embed_mlps: must be matrices")
    w_index = take(CORE + "_env_weighter._w_index")
    l_max = math.isqrt(len(w_index)) - 1
    u = env[0].shape[1] // (2 * (l_max + 1))
    roots = take(BASIS + ("basis.bessel_weights" if BASIS + "basis.bessel_weights" in arrays else "bessel_weights"))
    config = LegacyConfig(
        elements=elements, r_max=float(radii[0]), l_max=l_max, n_layers=n_layers, n_tensor=u, n_bessel=len(roots),
        envelope_p=float(settings["PolynomialCutoff_p"]), parity=settings.get("parity", "o3_full") == "o3_full",
        bessel_trainable=bool(settings.get("BesselBasis_trainable", True)),
        average_neighbors=float(settings.get("avg_num_neighbors") or norms[0] ** -2),
        embed_widths=tuple(a.shape[1] for a in weights["embed"]),
        latent_widths=tuple(a.shape[1] for a in weights["latents.0"]),
        readout_widths=tuple(a.shape[1] for a in weights["readout"][:-1]),
        embed_silu=settings.get("two_body_latent_mlp_nonlinearity", "silu") is not None,
        latent_silu=settings.get("latent_mlp_nonlinearity", "silu") is not None,
        readout_silu=settings["edge_eng_mlp_nonlinearity"] is not None,
        residual=bool(settings.get("latent_resnet", True)),
        residual_trainable=bool(settings.get("latent_resnet_update_ratios_learnable", False)),
        scale_trainable=bool(settings.get("per_species_rescale_scales_trainable", False)),
        shift_trainable=bool(settings.get("per_species_rescale_shifts_trainable", False)))
    if abs(config.average_neighbors**-0.5 / norms[0] - 1) > 1e-6:  # type: ignore[operator]
        raise InputError(f"avg_num_neighbors {config.average_neighbors}: the arrays say {norms[0] ** -2:.4f}")
    dtype = torch.float64 if arrays[CORE + "latents.0._forward._weight_0"].dtype == np.float64 else torch.float32
    network = LegacyNetwork(config, dtype)

    def put(target: torch.Tensor, value: np.ndarray, name: str) -> None:
        if target.shape != value.shape:
            raise InputError(f"{name} has the shape {value.shape}; settings and other arrays ask for "
                             f"{tuple(target.shape)}")
        target.copy_(torch.tensor(value))

    scale_by = take("scale_by") if arrays.get("scale_by", np.zeros(0)).size else np.ones(())
    if arrays.get("shift_by", np.zeros(0)).size:
        raise InputError("shift_by: a shift of the total energy; rxmdnn computes only shifts of each atom")
    with torch.no_grad():
        put(network.bessel, roots / math.pi, "bessel_weights")
        if BASIS + "_mean" in arrays:
            mean, inv_std = take(BASIS + "_mean"), take(BASIS + "_inv_std")
            put(network.basis_mean, np.broadcast_to(mean, roots.shape), "_mean")
            put(network.basis_inv_std, np.broadcast_to(inv_std, roots.shape), "_inv_std")
        else:
            network.basis_mean.zero_()
            network.basis_inv_std.fill_(1.0)
        put(network.residual, take(CORE + "_latent_resnet_update_params"), "_latent_resnet_update_params")
        for name, neutral in (("scales", 1.0), ("shifts", 0.0)):
            value = take(RESCALE + name) if RESCALE + name in arrays else np.full(t, neutral)
            put(getattr(network, name[:-1]), value.reshape(-1) * scale_by, RESCALE + name)
        l_major = np.arange(u * (l_max + 1)).reshape(u, l_max + 1).T.reshape(-1)  # theirs: column u (l_max + 1) + l
        for k, value in enumerate(env):
            if value.shape[1] % len(l_major):
                raise InputError(f"{CORE}env_embed_mlps.{k}: {value.shape[1]} columns; {len(l_major)} are expected")
            blocks = value.reshape(len(value), -1, len(l_major))[:, :, l_major]
            target = network.get_submodule(f"env.{k}").get_parameter("weight")
            put(target, blocks.reshape(len(value), -1), f"{CORE}env_embed_mlps.{k}")
        for k, (_, mixes) in enumerate(path_tables(config.l_max, config.parity, n_layers)):
            flat = take(f"{CORE}linears.{k}.w")
            if flat.size != u * u * sum(mix.paths for mix in mixes):
                raise InputError(f"{CORE}linears.{k}.w: {flat.size} weights; parity and l_max ask for "
                                 f"{u * u * sum(mix.paths for mix in mixes)}")
            if k < n_layers - 1:  # nothing depends on the last one
                for mix, linear in zip(mixes, cast(Any, network.mixes[k])):
                    part, flat = flat[: mix.paths * u * u].reshape(u, u, mix.paths), flat[mix.paths * u * u :]
                    put(linear.weight, part.transpose(2, 1, 0).reshape(-1, u), f"{CORE}linears.{k}.w")
            # scalars of the products: theirs in the order (channel, path)
            first = weights[f"latents.{k}"][0]
            s = config.embed_widths[-1]
            if len(first) != s + mixes[0].paths * u:
                raise InputError(f"{CORE}latents.{k + 1}: {len(first)} inputs; {s + mixes[0].paths * u} are expected")
            path_major = np.arange(mixes[0].paths * u).reshape(u, mixes[0].paths).T.reshape(-1)
            weights[f"latents.{k}"][0] = np.concatenate([first[:s], first[s:][path_major]])
        for name, matrices in weights.items():
            linears: Any = network.get_submodule(name).linears
            if len(linears) != len(matrices):
                raise InputError(f"{CORE}{name}: {len(matrices)} layers; {len(linears)} are expected")
            for linear, matrix in zip(linears, matrices):
                put(linear.weight, matrix, name)
    odd = [name for name in arrays if name not in used and not name.endswith("shift_by") and not (
        name.endswith(DERIVED) and (not name.endswith("scales") or not arrays[name].size)) and name != "scale_by"]
    if odd:
        raise InputError("the model has parts that rxmdnn has no equation for: " + ", ".join(sorted(odd)[:5]))
    if any(not torch.isfinite(value).all() for value in network.state_dict().values()):
        raise InputError("some weights are NaN or infinite")
    return network
