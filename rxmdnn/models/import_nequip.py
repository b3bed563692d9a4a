"""Import of Allegro models made with nequip and nequip-allegro; only this module needs the two packages.

Models of the older form (allegro 0.2), deployed or as named arrays, are read without them: import_legacy.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rxmdnn.errors import InputError
from rxmdnn.models import import_legacy
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, PairNetwork
from rxmdnn.models.clebsch_gordan import harmonic_irreps, layer_irreps
from rxmdnn.models.legacy_network import LegacyConfig
from rxmdnn.models.model_file import save_model
from rxmdnn.models.torchscript import is_torchscript

EXPECTED = ["edge_norm", "radial_chemical_embed", "scalar_embed_mlp", "tensor_embed", "allegro", "edge_readout",
            "edge_eng_sum", "per_type_energy_scale_shift", "total_energy_sum"]


class _UnsupportedError(Exception):
    """The model has a part that rxmdnn cannot compute; the text names it."""


def _exact(alpha: torch.Tensor) -> torch.Tensor:
    """The factor √(2/n) of a linear layer, n whole, without its rounding to the precision of the model."""
    value = float(alpha)
    exact = math.sqrt(2 / max(1, round(2 / value**2)))
    return torch.tensor(exact if abs(exact / value - 1) < 1e-6 else value, dtype=torch.float64)


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise _UnsupportedError(what)


def _matrices(mlp: Any) -> list[torch.Tensor]:
    """The matrices α W of a nequip ScalarMLPFunction; layers without a nonlinearity between them are multiplied."""
    if type(mlp.mlp).__name__ == "DeepLinearMLP":
        product = mlp.mlp.alpha.double()
        for k, weight in enumerate(mlp.mlp.weights):
            product = product * weight.double() if k == 0 else product @ weight.double()
        return [product]
    layers = list(mlp.mlp)
    _require(all(type(a).__name__ == "ScalarLinearLayer" and a.bias is None for a in layers[::2]),
             "a scalar MLP with a bias")
    _require(all(type(a).__name__ == "SiLU" for a in layers[1::2]),
             f"the nonlinearity {', '.join(sorted({type(a).__name__ for a in layers[1::2]} - {'SiLU'}))} (only silu)")
    return [a.weight.detach().double() * _exact(a.alpha) for a in layers[::2]]


def _depth_width(name: str, matrices: list[torch.Tensor]) -> tuple[int, int]:
    widths = {m.shape[1] for m in matrices[:-1]}
    _require(len(widths) <= 1, f"a {name} MLP with hidden layers of different widths")
    return len(matrices) - 1, widths.pop() if widths else 1


def convert(model: Any) -> AllegroNetwork:
    """The network of a nequip GraphModel of nequip-allegro, in its precision.

    Raises
    ------
    InputError : the model has a part that rxmdnn cannot compute; the message names it.
    """
    try:
        return _convert(model)
    except _UnsupportedError as what:
        raise InputError(f"the model has {what}; rxmdnn cannot compute it") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError("the model is not an Allegro model as nequip-allegro 0.8 builds it: "
                         f"{str(error).splitlines()[0][:200]}") from None


@dataclass
class _NequipParts:
    """The modules of a nequip-allegro model that rxmdnn computes.

    Attributes
    ----------
    modules : the chain of the energy model, by name, without ``pair_potential`` and ``cutoff``
    zbl : the repulsion, or None
    mlps : the matrices of each MLP, float64, by its name in AllegroNetwork
    """

    modules: dict[str, Any]
    zbl: Any
    mlps: dict[str, list[torch.Tensor]]

    @property
    def allegro(self) -> Any:
        return self.modules["allegro"]

    @property
    def embed(self) -> Any:
        return self.modules["radial_chemical_embed"]

    @property
    def shifts(self) -> Any:
        return self.modules["per_type_energy_scale_shift"]


def _convert(model: Any) -> AllegroNetwork:
    parts = _parts(model)
    config = _config(tuple(model.type_names), parts)
    network = AllegroNetwork(config, parts.embed.type_embed.center_embed.weight.dtype)
    if parts.zbl is not None:
        _require(torch.equal(parts.zbl.atomic_numbers.double().cpu(), network.atomic_number),
                 "ZBL for chemical species other than the type names")
        own = getattr(parts.zbl, "inv_cutoff", None)
        _require(own is None or torch.allclose(own.cpu(), network.inv_zbl_cutoff.reshape(-1), rtol=1e-9, atol=0),
                 "ZBL with cutoffs that are not a fraction of covalent radii")
    with torch.no_grad():
        _fill_species(network, parts)
        _fill_matrices(network, parts)
        for tp, weights in zip(parts.allegro.tps, network.path_weights):
            # coupled: (u, path), or (u,) for one path; uncoupled: (path,), or () for one path
            given = tp.weights.reshape(config.n_tensor if tp.path_channel_coupling else 1, tp.num_paths).T
            weights.copy_(given.expand(tp.num_paths, config.n_tensor))
    return network


def _parts(model: Any) -> _NequipParts:
    """The modules of the model; each one that rxmdnn cannot compute raises _UnsupportedError."""
    chain = model.model.func if hasattr(model.model, "func") else model.model
    children = dict(chain.named_children())
    modules = {name: module for name, module in children.items() if name not in ("pair_potential", "cutoff")}
    if type(modules.get("legacy")).__name__ == "LegacyAllegro":
        raise InputError("a model of allegro 0.2 that export-model wrote, which import-model does not read; use the "
                         "native model file that it was made from")
    _require(list(modules) == EXPECTED, "other parts than an Allegro energy model: " + (
        ", ".join(sorted(set(modules) ^ set(EXPECTED))) or "their order"))
    embed, allegro, zbl = modules["radial_chemical_embed"], modules["allegro"], children.get("pair_potential")
    _require(hasattr(embed, "bessel_encode"), f"the two-body embedding {type(embed).__name__} (only Bessel functions)")
    _require(modules["edge_eng_sum"].reduce == "sum", "a mean over edges")
    if zbl is not None:
        _require(type(zbl).__name__ in ("ZBL", "ShortRangeZBL"), f"the pair potential {type(zbl).__name__} (only ZBL)")
        _require(abs(float(zbl._qqr2exesquare) / (0.5 * 14.399645) - 1) < 1e-6, "ZBL in units other than eV and Å")
    mlps = {"embed": _matrices(modules["scalar_embed_mlp"].mlp_module),
            "readout": _matrices(modules["edge_readout"].mlp_module),
            **{f"latents.{k}": _matrices(a) for k, a in enumerate(allegro.latents)}}
    return _NequipParts(modules, zbl, mlps)


def _tensor_shape(allegro: Any) -> tuple[int, bool]:
    """l_max and parity of the tensor features."""
    l_max = len(allegro._env_weighter._rtoi) - 1 if allegro._env_weighter.weight_individual_irreps else -1
    _require(0 <= l_max <= 3, "tensor weights shared by all l, or l_max above 3")
    irreps = [[(ir.l, ir.p) for _, ir in tp.irreps_in1] for tp in allegro.tps] + [[(0, 1)]]
    _require([(ir.l, ir.p) for _, ir in allegro.tps[0].irreps_in2] == harmonic_irreps(l_max), "unusual harmonics")
    parities = [p for p in (True, False) if layer_irreps(l_max, p, len(allegro.tps)) == irreps]
    _require(bool(parities), f"unusual tensor irreps {irreps}")
    return l_max, parities[0]


def _config(names: tuple[str, ...], parts: _NequipParts) -> AllegroConfig:
    """The shape of the network."""
    t, allegro, zbl, bessel = len(names), parts.allegro, parts.zbl, parts.embed.bessel_encode
    l_max, parity = _tensor_shape(allegro)
    depth_width = {name: _depth_width(name, m) for name, m in parts.mlps.items()}
    _require(len({depth_width[f"latents.{k}"] for k in range(len(allegro.latents))}) == 1, "layers of different MLPs")
    norms = [a.norm_const.detach().double().cpu().numpy().reshape(-1) for a in (
        allegro.avg_num_neighbors_norm, parts.modules["edge_eng_sum"].norm_module)]
    _require(np.array_equal(norms[0], norms[1]), "two different average numbers of neighbors")
    cutoff = 1.0 / parts.modules["edge_norm"]._rmax_recip.detach().double().cpu().numpy().reshape(-1)
    return AllegroConfig(
        elements=names, r_max=float(cutoff[0]) if len(cutoff) == 1 else cutoff.reshape(t, t).tolist(), l_max=l_max,
        n_layers=len(allegro.tps), n_scalar=allegro.num_scalar_features, n_tensor=allegro.num_tensor_features,
        n_bessel=bessel.num_bessels, bessel_trainable=bool(bessel.trainable), envelope_p=float(bessel.cutoff.p),
        parity=parity, embed_depth=depth_width["embed"][0], embed_width=depth_width["embed"][1],
        latent_depth=depth_width["latents.0"][0], latent_width=depth_width["latents.0"][1],
        readout_depth=depth_width["readout"][0], readout_width=depth_width["readout"][1],
        average_neighbors=float(norms[0][0] ** -2) if len(norms[0]) == 1 else (norms[0] ** -2).tolist(),
        scale_trainable=bool(parts.shifts.scales_trainable), shift_trainable=bool(parts.shifts.shifts_trainable),
        zbl=zbl is not None, zbl_p=6.0 if zbl is None else float(zbl.cutoff.p),
        zbl_fraction=float(getattr(zbl, "fraction", 0.0)))


def _fill_species(network: AllegroNetwork, parts: _NequipParts) -> None:
    """Set the radial roots and what belongs to each species: energy scale and shift, and its embedding."""
    shifts, types = parts.shifts, parts.embed.type_embed
    network.bessel.copy_(parts.embed.bessel_encode.bessel_weights.reshape(-1))
    for name, given in (("scales", shifts.has_scales), ("shifts", shifts.has_shifts)):
        if given:
            target = getattr(network, name[:-1])
            target.copy_(getattr(shifts, name).reshape(-1).expand(len(target)))
    network.center_embed.copy_(types.center_embed.weight)
    network.neighbor_embed.copy_(types.neighbor_embed.weight)


def _fill_matrices(network: AllegroNetwork, parts: _NequipParts) -> None:
    """Set all linear maps; columns of tensor weights are u (l_max + 1) + l in nequip, here they are l U + u."""
    c = network.config
    s, u, n_l = c.n_scalar, c.n_tensor, c.l_max + 1
    l_major = np.arange(u * n_l).reshape(u, n_l).T.reshape(-1)

    def put(linear: Any, matrix: torch.Tensor) -> None:
        _require(tuple(matrix.shape) == tuple(linear.weight.shape), "an MLP of unexpected shape")
        linear.weight.copy_((matrix / linear.alpha).to(network.dtype))

    put(network.basis, _matrices(parts.embed.type_embed.basis_linear)[0])
    put(network.tensor_embed, _matrices(parts.modules["tensor_embed"].env_embed_linear)[0][:, l_major])
    put(network.project, _l_major_tail(_matrices(parts.allegro.first_layer_env_embed_projection)[0], s, l_major))
    for name, matrices in parts.mlps.items():
        target: Any = network.get_submodule(name).linears
        if name.startswith("latents"):
            matrices = [*matrices[:-1], _l_major_tail(matrices[-1], s, l_major)]
        for linear, matrix in zip(target, matrices, strict=True):
            put(linear, matrix)


def _l_major_tail(matrix: torch.Tensor, s: int, l_major: np.ndarray) -> torch.Tensor:
    """Columns beyond the scalars (if any), from (u, l) to (l, u)."""
    return matrix if matrix.shape[1] == s else torch.cat([matrix[:, :s], matrix[:, s:][:, l_major]], dim=1)


def import_nequip(path_in: str | Path, path_out: str | Path, *, trust: bool = False, config: str | Path | None = None,
                  settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Convert a model of nequip + allegro to a native model file.

    Parameters
    ----------
    path_in, path_out : files; a checkpoint (.ckpt) or package (.nequip.zip) of nequip-allegro 0.8, or the state dict of
        allegro 0.2 (arrays: .npz; or saved by torch: .pth, .pt), or a TorchScript file of allegro 0.2 as
        ``nequip-deploy`` writes it (any suffix or none; told by its content)
    trust : path_in comes from a source that the user trusts. Checkpoints and packages are Python pickles and Python
        code, which reading runs; it also initializes nequip, which seeds the random generators and makes float64
        torch's default. The files of allegro 0.2 need no trust: no code in them is run.
    config, settings : only of allegro 0.2: a file with settings of nequip (JSON or YAML; by default a file beside a
        state dict, and what a TorchScript file contains), and settings that override it; see import_legacy.NEEDED

    Returns
    -------
    summary : properties of the model, by name: form, elements, cutoff (Å), sizes, number of weights, precision

    Raises
    ------
    InputError : no trust given, nequip not installed, no such file, path_out exists, or a part rxmdnn cannot compute.
    """
    path = Path(path_in)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if Path(path_out).exists():
        raise InputError(f"{path_out}: exists already; remove it or choose another name")
    if is_torchscript(path):
        arrays, deployed = import_legacy.read_deployed(path, config)
        return _save(path, path_out, lambda: import_legacy.convert(arrays, {**deployed, **(settings or {})}), {})
    if path.suffix in import_legacy.SUFFIXES:
        given = {**import_legacy.read_settings(path, config), **(settings or {})}
        arrays = import_legacy.read_arrays(path)
        return _save(path, path_out, lambda: import_legacy.convert(arrays, given), {})
    if path.suffix == ".pt2":
        raise InputError(f"{path}: a compiled model holds machine code, no weights; import the checkpoint (.ckpt) or "
                         "package (.nequip.zip) that it was compiled from")
    if path.suffix in ("", ".deploy"):
        raise InputError(f"{path}: not a TorchScript file, or a damaged one")
    if not trust:
        raise InputError(f"{path}: reading a checkpoint or package runs the Python code inside it; "
                         "if you trust its source, add --trust")
    model = _read(path)
    versions = {}
    for package in ("nequip", "nequip-allegro"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return _save(path, path_out, lambda: convert(model), versions)


def _read(path: Path) -> Any:
    """The model of a checkpoint or package. Sets nequip's global state (default dtype float64). Raises InputError."""
    try:
        import allegro  # noqa: F401
        from nequip.model.saved_models.load_utils import load_saved_model
    except ImportError as error:
        raise InputError(f"{path}: reading it needs the packages nequip and nequip-allegro ({error}); "
                         "pip install nequip-allegro") from None
    logging.getLogger("nequip").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _set_global_state()
            return load_saved_model(path)
    except Exception as error:  # a user gets one line about any fault of a foreign file
        raise InputError(f"{path}: nequip cannot read it: {type(error).__name__}: "
                         f"{(str(error).splitlines() or [''])[0][:300]}") from None


def _set_global_state() -> None:
    """Initialize nequip, which builds no model before; versions without this module need no initialization."""
    try:
        from nequip.utils.global_state import set_global_state
    except ModuleNotFoundError as error:
        if error.name != "nequip.utils.global_state":
            raise
        return
    set_global_state()


def _save(path: Path, path_out: str | Path, make: Callable[[], PairNetwork], origin: dict[str, str]) -> dict[str, Any]:
    """The properties of the network, which is made and written; faults get the name of the file ``path``."""
    try:
        network = make()
    except InputError as error:
        raise InputError(*(f"{path}: {fault}" for fault in error.faults)) from None
    save_model(path_out, network, {"imported from": path.name, **origin})
    c = network.config
    if isinstance(c, LegacyConfig):
        sizes = {"two-body MLP": list(c.embed_widths), "latent MLP": list(c.latent_widths),
                 "edge-energy MLP": list(c.readout_widths), "its layers": "silu" if c.readout_silu else "linear"}
    else:
        sizes = {"scalar features": c.n_scalar}
    return {"model": str(path_out), "form": network.form, "elements": list(c.elements), "r_max": float(c.cutoff.max()),
            "l_max": c.l_max, "layers": c.n_layers, **sizes, "tensor features": c.n_tensor, "ZBL": c.zbl,
            "trainable numbers": sum(p.numel() for p in network.parameters()),
            "precision": str(network.dtype).removeprefix("torch.")}


