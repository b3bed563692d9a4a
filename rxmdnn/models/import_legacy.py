"""Import of Allegro models made with allegro 0.2 and nequip 0.5, from the arrays of their state dict."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from rxmdnn.errors import InputError
from rxmdnn.models.clebsch_gordan import path_tables
from rxmdnn.models.content import ARRAYS, kind_of
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.torchscript import TorchScript, scalar_settings
from rxmdnn.npz import read_npz
from rxmdnn.schema import read_json, read_text, refused

CORE = "model.func.allegro."
BASIS = "model.func.radial_basis.basis."
READOUT = "model.func.edge_eng._module._forward._weight_"
RESCALE = "model.func.per_species_rescale."
DERIVED = ("_big_w3j", "_zero", "_w_index", "edge_eng_sum.per_edge_scales")  # constants, or empty
SUFFIXES = (".npz", ".pth", ".pt")
NEEDED = {"chemical_symbols": "--elements: the species in the order of the types of the model",
          "PolynomialCutoff_p": "--cutoff-p: the power of the cutoff envelope",
          "edge_eng_mlp_nonlinearity": "--readout: linear (null in a file of settings) or silu, between the layers of "
                                       "the MLP of the edge energy"}


BUILT = {"PolynomialCutoff_p": "polynomial_cutoff_p", "avg_num_neighbors": "avg_num_neighbors",
         **{name: name for name in ("cutoff_type", "embed_initial_edge", "linear_after_env_embed", "latent_resnet")}}


def is_legacy(archive: TorchScript) -> bool:
    """Whether a TorchScript file holds a model of allegro 0.2."""
    return CORE + "per_layer_cutoffs" in archive.arrays


def settings_of(path: Path, archive: TorchScript, config: str | Path | None) -> dict[str, Any]:
    """The settings of a TorchScript file that nequip 0.5 deployed.

    The attributes of the modules go before the settings of the training in ``extra/config``; a file ``config`` goes
    before both.
    """
    settings = scalar_settings(archive.texts.get("config", ""))
    settings.update((name, archive.attributes[CORE + built]) for name, built in BUILT.items()
                    if archive.attributes.get(CORE + built) is not None)
    code = archive.attributes.get(READOUT.replace("_weight_", "_code"))  # the text of the readout's function
    if isinstance(code, str):
        settings["edge_eng_mlp_nonlinearity"] = next(iter(re.findall(r"functional\.(\w+)", code)), None)
    if "type_names" in archive.texts:
        settings["chemical_symbols"] = archive.texts["type_names"].split()
    return {**settings, **(read_settings(path, config) if config else {})}


def read_settings(path: Path, given: str | Path | None) -> dict[str, Any]:
    """The settings of nequip for the model, from a JSON or YAML file: ``given``, or one beside the weights."""
    nearby = [path.with_suffix(".json"), path.with_suffix(".yaml"), path.with_name("config.yaml")]
    source = next((f for f in ([Path(given)] if given else nearby) if f.is_file()), None)
    if source is None:
        if given:
            raise InputError(f"{given}: no such file")
        return {}
    what = "settings of nequip"
    if source.suffix == ".json":
        settings = read_json(source, what)
    else:
        settings = _yaml(source, read_text(source, what))
    if not isinstance(settings, dict):
        raise InputError(f"{source}: must hold named settings")
    return settings


def _yaml(source: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise InputError(f"{source}: reading YAML needs the package pyyaml; or write the settings as JSON") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{source}: {refused(error, 'YAML')}") from None


def saved_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a state dict saved by torch; None for other files. No code in the file is run."""
    try:
        return _state_dict(path)
    except Exception:  # whatever torch refuses, or that holds other than arrays
        return None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz file or of a saved state dict, by name. No code in the file is run."""
    what = "a file of named arrays"
    if path.suffix == ".npz" or kind_of(path) == ARRAYS:
        return read_npz(path, what)
    try:
        return _state_dict(path)
    except Exception as error:  # torch raises errors of many kinds
        raise InputError(f"{path}: {refused(error, what)}") from None


def _state_dict(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a state dict saved by torch; one that only repeats the numbers of its storage is refused."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, value in state.items():
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"{str(name)[:100]}: larger than its storage")
    return {str(name): value.detach().numpy() for name, value in state.items()}


ALLOWED: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("two_body_latent_mlp_nonlinearity", ("silu", None)), ("latent_mlp_nonlinearity", ("silu", None)),
    ("edge_eng_mlp_nonlinearity", ("silu", None)), ("cutoff_type", ("polynomial",)),
    ("parity", ("o3_full", "o3_restricted")), ("linear_after_env_embed", (False,)), ("embed_initial_edge", (True,)))


class _State:
    """A state dict that remembers which of its arrays were read."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = {name: np.asarray(value) for name, value in arrays.items()}
        if odd := [name for name, value in self.arrays.items() if value.dtype.kind not in "biuf"]:
            raise InputError(f"{odd[0]}: of type {self.arrays[odd[0]].dtype}, not numbers")
        self.used: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.arrays

    def take(self, name: str) -> np.ndarray:
        """The array of a name, float64."""
        if name not in self.arrays:
            raise InputError(f"not a state dict of allegro 0.2: {name} is missing")
        self.used.add(name)
        return self.arrays[name].astype(np.float64)

    def matrices(self, prefix: str) -> list[np.ndarray]:
        """The matrices of an MLP, named by the prefix and a number."""
        out = [self.take(f"{prefix}0")]
        while f"{prefix}{len(out)}" in self:
            out.append(self.take(f"{prefix}{len(out)}"))
        if any(a.ndim != 2 for a in out):
            raise InputError(f"{prefix}*: must be matrices")
        return out

    def refuse_unused(self) -> None:
        """Raise InputError if an array was not read that is neither a constant nor empty."""
        odd = [name for name, value in self.arrays.items()
               if name not in self.used and name != "scale_by" and not name.endswith("shift_by")
               and not (name.endswith(DERIVED) and (not name.endswith("scales") or not value.size))]
        if odd:
            raise InputError("the model has parts that rxmdnn cannot compute: " + ", ".join(sorted(odd)[:5]))


@dataclass
class _Parts:
    """The arrays of a state dict that fix the shape of the network, float64.

    Attributes
    ----------
    r_max : cutoff, Å; norm : (average number of neighbors)^(-1/2)
    mlps : the matrices of each MLP, by its name in LegacyNetwork
    env : the matrix of the environment weights of each layer
    l_max, n_tensor : as of LegacyConfig
    roots : (b,) π times the radial roots
    """

    r_max: float
    norm: float
    mlps: dict[str, list[np.ndarray]]
    env: list[np.ndarray]
    l_max: int
    n_tensor: int
    roots: np.ndarray


def convert(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> LegacyNetwork:
    """The network of a state dict of allegro 0.2.

    Parameters
    ----------
    arrays : of the state dict, by name
    settings : under the names of nequip; NEEDED lists those that the arrays do not contain

    Raises
    ------
    InputError : settings or arrays are missing, contradict each other, or belong to a part that rxmdnn cannot compute.
    """
    settings = _checked(settings)
    state = _State(arrays)
    parts = _parts(state)
    config = _config(settings, parts)
    single = state.arrays[CORE + "latents.0._forward._weight_0"].dtype != np.float64
    network = LegacyNetwork(config, torch.float32 if single else torch.float64)
    energy_scale = _energy_scale(state)
    with torch.no_grad():
        _fill_radial(network, state, parts.roots)
        _put(network.residual, state.take(CORE + "_latent_resnet_update_params"), "_latent_resnet_update_params")
        _fill_scales(network, state, energy_scale)
        _fill_environment(network, parts)
        _fill_products(network, state, parts)
        _fill_mlps(network, parts.mlps)
    state.refuse_unused()
    if any(not torch.isfinite(value).all() for value in network.state_dict().values()):
        raise InputError("some weights are NaN or infinite")
    return network


def _checked(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with chemical_symbols. Raises InputError with all their faults."""
    settings = dict(settings)
    if "chemical_symbols" not in settings and "type_names" in settings:
        settings["chemical_symbols"] = settings["type_names"]
    faults = [f"the setting {name} is missing: {what}" for name, what in NEEDED.items() if name not in settings]
    for name, allowed in ALLOWED:
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
    return settings


def _parts(state: _State) -> _Parts:
    """The arrays that fix the shape of the network."""
    radii, norms = state.take(CORE + "per_layer_cutoffs"), state.take(CORE + "env_sum_normalizations").reshape(-1)
    if np.ptp(radii) > 0:
        raise InputError(f"the layers have different cutoffs {radii.tolist()}; rxmdnn computes only one")
    if np.ptp(norms) > 0:
        raise InputError("the layers or species have different numbers of neighbors; rxmdnn computes only one")
    n_layers = len(radii) - 1
    mlps = {"embed": state.matrices(CORE + "latents.0._forward._weight_"), "readout": state.matrices(READOUT)}
    env = [state.take(f"{CORE}env_embed_mlps.{k}._forward._weight_0") for k in range(n_layers)]
    for k in range(1, n_layers + 1):
        name = f"latents.{k}" if k < n_layers else "final_latent"
        mlps[f"latents.{k - 1}"] = state.matrices(f"{CORE}{name}._forward._weight_")
    if any(a.ndim != 2 for a in env):
        raise InputError(f"{CORE}env_embed_mlps: must be matrices")
    l_max = math.isqrt(len(state.take(CORE + "_env_weighter._w_index"))) - 1
    nested = BASIS + "basis.bessel_weights"
    roots = state.take(nested if nested in state else BASIS + "bessel_weights")
    return _Parts(float(radii[0]), norms[0], mlps, env, l_max, env[0].shape[1] // (2 * (l_max + 1)), roots)


def _config(settings: dict[str, Any], parts: _Parts) -> LegacyConfig:
    """The shape of the network, from nequip's settings and the arrays."""
    average = float(settings.get("avg_num_neighbors") or parts.norm**-2)
    config = LegacyConfig(
        elements=tuple(settings["chemical_symbols"]), r_max=parts.r_max, l_max=parts.l_max, n_layers=len(parts.env),
        n_tensor=parts.n_tensor, n_bessel=len(parts.roots), envelope_p=float(settings["PolynomialCutoff_p"]),
        parity=settings.get("parity", "o3_full") == "o3_full",
        bessel_trainable=bool(settings.get("BesselBasis_trainable", True)), average_neighbors=average,
        embed_widths=tuple(a.shape[1] for a in parts.mlps["embed"]),
        latent_widths=tuple(a.shape[1] for a in parts.mlps["latents.0"]),
        readout_widths=tuple(a.shape[1] for a in parts.mlps["readout"][:-1]),
        embed_silu=settings.get("two_body_latent_mlp_nonlinearity", "silu") is not None,
        latent_silu=settings.get("latent_mlp_nonlinearity", "silu") is not None,
        readout_silu=settings["edge_eng_mlp_nonlinearity"] is not None,
        residual=bool(settings.get("latent_resnet", True)),
        residual_trainable=bool(settings.get("latent_resnet_update_ratios_learnable", False)),
        scale_trainable=bool(settings.get("per_species_rescale_scales_trainable", False)),
        shift_trainable=bool(settings.get("per_species_rescale_shifts_trainable", False)))
    if abs(average**-0.5 / parts.norm - 1) > 1e-6:
        raise InputError(f"avg_num_neighbors {average}: the arrays say {parts.norm**-2:.4f}")
    return config


def _put(target: torch.Tensor, value: np.ndarray, name: str) -> None:
    """Copy an array to a tensor of the network."""
    if target.shape != value.shape:
        raise InputError(f"{name} has the shape {value.shape}; settings and other arrays require {tuple(target.shape)}")
    target.copy_(torch.tensor(value))


def _energy_scale(state: _State) -> np.ndarray:
    """The factor of all energies, (). Raises InputError for a shift of the total energy."""
    if state.arrays.get("shift_by", np.zeros(0)).size:
        raise InputError("shift_by: a shift of the total energy; rxmdnn computes only shifts of each atom")
    return state.take("scale_by") if state.arrays.get("scale_by", np.zeros(0)).size else np.ones(())


def _fill_radial(network: LegacyNetwork, state: _State, roots: np.ndarray) -> None:
    """Set the radial roots and the normalization of the basis (1, if the state dict has none)."""
    _put(network.bessel, roots / math.pi, "bessel_weights")
    if BASIS + "_mean" not in state:
        network.basis_mean.zero_()
        network.basis_inv_std.fill_(1.0)
        return
    mean, inv_std = state.take(BASIS + "_mean"), state.take(BASIS + "_inv_std")
    _put(network.basis_mean, np.broadcast_to(mean, roots.shape), "_mean")
    _put(network.basis_inv_std, np.broadcast_to(inv_std, roots.shape), "_inv_std")


def _fill_scales(network: LegacyNetwork, state: _State, energy_scale: np.ndarray) -> None:
    """Set the energy scale and shift of each species, eV."""
    for name, neutral in (("scales", 1.0), ("shifts", 0.0)):
        default = np.full(len(network.config.elements), neutral)
        value = state.take(RESCALE + name) if RESCALE + name in state else default
        _put(getattr(network, name[:-1]), value.reshape(-1) * energy_scale, RESCALE + name)


def _fill_environment(network: LegacyNetwork, parts: _Parts) -> None:
    """Set the environment weights; the columns of allegro 0.2 are u (l_max + 1) + l, here they are l U + u."""
    n_l, u = parts.l_max + 1, parts.n_tensor
    l_major = np.arange(u * n_l).reshape(u, n_l).T.reshape(-1)
    for k, value in enumerate(parts.env):
        name = f"{CORE}env_embed_mlps.{k}"
        if value.shape[1] % len(l_major):
            raise InputError(f"{name}: {value.shape[1]} columns; {len(l_major)} are expected")
        blocks = value.reshape(len(value), -1, len(l_major))[:, :, l_major]
        _put(network.get_submodule(f"env.{k}").get_parameter("weight"), blocks.reshape(len(value), -1), name)


def _fill_products(network: LegacyNetwork, state: _State, parts: _Parts) -> None:
    """Set the linear maps that join the products, and order the scalars of the products in ``parts.mlps`` by path."""
    c, u = network.config, parts.n_tensor
    for k, (_, mixes) in enumerate(path_tables(c.l_max, c.parity, c.n_layers)):
        flat, n_paths = state.take(f"{CORE}linears.{k}.w"), sum(mix.paths for mix in mixes)
        if flat.size != u * u * n_paths:
            raise InputError(f"{CORE}linears.{k}.w: {flat.size} weights; parity and l_max require {u * u * n_paths}")
        if k < c.n_layers - 1:  # nothing depends on the last one
            for mix, linear in zip(mixes, cast(Any, network.mixes[k])):
                part, flat = flat[: mix.paths * u * u].reshape(u, u, mix.paths), flat[mix.paths * u * u :]
                _put(linear.weight, part.transpose(2, 1, 0).reshape(-1, u), f"{CORE}linears.{k}.w")
        first, s, paths = parts.mlps[f"latents.{k}"][0], c.embed_widths[-1], mixes[0].paths
        if len(first) != s + paths * u:
            raise InputError(f"{CORE}latents.{k + 1}: {len(first)} inputs; {s + paths * u} are expected")
        path_major = np.arange(paths * u).reshape(u, paths).T.reshape(-1)  # allegro 0.2 has the order (channel, path)
        parts.mlps[f"latents.{k}"][0] = np.concatenate([first[:s], first[s:][path_major]])


def _fill_mlps(network: LegacyNetwork, mlps: dict[str, list[np.ndarray]]) -> None:
    """Set the matrices of all MLPs."""
    for name, matrices in mlps.items():
        linears: Any = network.get_submodule(name).linears
        if len(linears) != len(matrices):
            raise InputError(f"{CORE}{name}: {len(matrices)} layers; {len(linears)} are expected")
        for linear, matrix in zip(linears, matrices):
            _put(linear.weight, matrix, name)
