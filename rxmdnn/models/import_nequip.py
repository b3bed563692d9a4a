"""Read Allegro models made with nequip and nequip-allegro; the two packages are needed only here.

Weights of the older form (allegro 0.2), as arrays under their names, are read without them: import_legacy.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import warnings
from collections.abc import Callable
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

EXPECTED = ["edge_norm", "radial_chemical_embed", "scalar_embed_mlp", "tensor_embed", "allegro", "edge_readout",
            "edge_eng_sum", "per_type_energy_scale_shift", "total_energy_sum"]


class _UnsupportedError(Exception):
    """What in the model rxmdnn has no equation for."""


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise _UnsupportedError(what)


def _matrices(mlp: Any) -> list[torch.Tensor]:
    """The matrices α W of a nequip ScalarMLPFunction; layers with nothing nonlinear between them are multiplied."""
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
    return [a.weight.detach().double() * a.alpha.double() for a in layers[::2]]


def _depth_width(name: str, matrices: list[torch.Tensor]) -> tuple[int, int]:
    widths = {m.shape[1] for m in matrices[:-1]}
    _require(len(widths) <= 1, f"a {name} MLP with hidden layers of different widths")
    return len(matrices) - 1, widths.pop() if widths else 1


def convert(model: Any) -> AllegroNetwork:
    """The same network as a nequip GraphModel of nequip-allegro, in its precision.

    Raises
    ------
    InputError : the model has a part that rxmdnn does not compute; the message names it.
    """
    try:
        return _convert(model)
    except _UnsupportedError as what:
        raise InputError(f"the model has {what}; rxmdnn cannot compute it") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError("the model is not an Allegro model as nequip-allegro 0.8 builds it: "
                         f"{str(error).splitlines()[0][:200]}") from None


def _convert(model: Any) -> AllegroNetwork:
    names = tuple(model.type_names)
    t = len(names)
    chain = model.model.func if hasattr(model.model, "func") else model.model
    parts = {name: module for name, module in chain.named_children() if name not in ("pair_potential", "cutoff")}
    _require(list(parts) == EXPECTED, "other parts than an Allegro energy model: " + (
        ", ".join(sorted(set(parts) ^ set(EXPECTED))) or "their order"))
    embed, allegro, tensor = parts["radial_chemical_embed"], parts["allegro"], parts["tensor_embed"]
    _require(hasattr(embed, "bessel_encode"), f"the two-body embedding {type(embed).__name__} (only Bessel functions)")

    inv = parts["edge_norm"]._rmax_recip.detach().double().cpu().numpy().reshape(-1)
    cutoff = 1.0 / inv
    u = allegro.num_tensor_features
    s = allegro.num_scalar_features
    l_max = len(allegro._env_weighter._rtoi) - 1 if allegro._env_weighter.weight_individual_irreps else -1
    _require(0 <= l_max <= 3, "tensor weights shared by all l, or l_max above 3")
    irreps = [[(ir.l, ir.p) for _, ir in tp.irreps_in1] for tp in allegro.tps] + [[(0, 1)]]
    _require([(ir.l, ir.p) for _, ir in allegro.tps[0].irreps_in2] == harmonic_irreps(l_max), "unusual harmonics")
    parities = [p for p in (True, False) if layer_irreps(l_max, p, len(allegro.tps)) == irreps]
    _require(bool(parities), f"unusual tensor irreps {irreps}")

    mlps = {"embed": _matrices(parts["scalar_embed_mlp"].mlp_module), "readout": _matrices(
        parts["edge_readout"].mlp_module), **{f"latents.{k}": _matrices(a) for k, a in enumerate(allegro.latents)}}
    depth_width = {name: _depth_width(name, m) for name, m in mlps.items()}
    _require(len({depth_width[f"latents.{k}"] for k in range(len(allegro.latents))}) == 1, "layers of different MLPs")
    norms = [a.norm_const.detach().double().cpu().numpy().reshape(-1) for a in (
        allegro.avg_num_neighbors_norm, parts["edge_eng_sum"].norm_module)]
    _require(np.array_equal(norms[0], norms[1]), "two different average numbers of neighbors")
    _require(parts["edge_eng_sum"].reduce == "sum", "a mean over edges")
    shifts = parts["per_type_energy_scale_shift"]
    zbl = dict(chain.named_children()).get("pair_potential")
    if zbl is not None:
        _require(type(zbl).__name__ == "ZBL", f"the pair potential {type(zbl).__name__} (only ZBL)")
        _require(abs(float(zbl._qqr2exesquare) / (0.5 * 14.399645) - 1) < 1e-6, "ZBL in units other than eV and Å")
    bessel = embed.bessel_encode
    cut = bessel.cutoff
    config = AllegroConfig(
        elements=names, r_max=float(cutoff[0]) if len(cutoff) == 1 else cutoff.reshape(t, t).tolist(), l_max=l_max,
        n_layers=len(allegro.tps), n_scalar=s, n_tensor=u, n_bessel=bessel.num_bessels,
        bessel_trainable=bool(bessel.trainable), envelope_p=float(cut.p), parity=parities[0],
        embed_depth=depth_width["embed"][0], embed_width=depth_width["embed"][1],
        latent_depth=depth_width["latents.0"][0], latent_width=depth_width["latents.0"][1],
        readout_depth=depth_width["readout"][0], readout_width=depth_width["readout"][1],
        average_neighbors=float(norms[0][0] ** -2) if len(norms[0]) == 1 else (norms[0] ** -2).tolist(),
        scale_trainable=bool(shifts.scales_trainable), shift_trainable=bool(shifts.shifts_trainable),
        zbl=zbl is not None, zbl_p=6.0 if zbl is None else float(zbl.cutoff.p))
    dtype = embed.type_embed.center_embed.weight.dtype
    network = AllegroNetwork(config, dtype)
    if zbl is not None:
        _require(torch.equal(zbl.atomic_numbers.double().cpu(), network.atomic_number),
                 "ZBL for chemical species other than the type names")

    l_major = np.arange(u * (l_max + 1)).reshape(u, l_max + 1).T.reshape(-1)  # theirs: column u (l_max + 1) + l

    def put(linear: Any, matrix: torch.Tensor) -> None:
        _require(tuple(matrix.shape) == tuple(linear.weight.shape), "an MLP of unexpected shape")
        linear.weight.copy_((matrix / linear.alpha).to(dtype))

    with torch.no_grad():
        network.bessel.copy_(bessel.bessel_weights.reshape(-1))
        for name, has in (("scales", shifts.has_scales), ("shifts", shifts.has_shifts)):
            if has:
                getattr(network, name[:-1]).copy_(getattr(shifts, name).reshape(-1).expand(t))
        network.center_embed.copy_(embed.type_embed.center_embed.weight)
        network.neighbor_embed.copy_(embed.type_embed.neighbor_embed.weight)
        put(network.basis, _matrices(embed.type_embed.basis_linear)[0])
        put(network.tensor_embed, _matrices(tensor.env_embed_linear)[0][:, l_major])
        put(network.project, _l_major_tail(_matrices(allegro.first_layer_env_embed_projection)[0], s, l_major))
        for name, matrices in mlps.items():
            target: Any = network.get_submodule(name).linears
            if name.startswith("latents"):
                matrices[-1] = _l_major_tail(matrices[-1], s, l_major)
            for linear, matrix in zip(target, matrices, strict=True):
                put(linear, matrix)
        for tp, weights in zip(allegro.tps, network.path_weights):
            # coupled: (u, path), or (u,) for one path; uncoupled: (path,), or () for one path
            given = tp.weights.reshape(u if tp.path_channel_coupling else 1, tp.num_paths).T
            weights.copy_(given.expand(tp.num_paths, u))
    return network


def _l_major_tail(matrix: torch.Tensor, s: int, l_major: np.ndarray) -> torch.Tensor:
    """Columns beyond the scalars (if any), from (u, l) to (l, u)."""
    return matrix if matrix.shape[1] == s else torch.cat([matrix[:, :s], matrix[:, s:][:, l_major]], dim=1)


def import_nequip(path_in: str | Path, path_out: str | Path, *, trust: bool = False, config: str | Path | None = None,
                  settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Convert a model of nequip + allegro to a native model file.

    Parameters
    ----------
    path_in, path_out : files; a checkpoint (.ckpt) or package (.nequip.zip) of nequip-allegro 0.8, or the state dict of
        allegro 0.2 (arrays: .npz; or saved by torch: .pth, .pt)
    trust : the user's word that path_in comes from a known source. Checkpoints and packages are Python pickles and
        Python code: to read them is to run what is in them. A state dict needs no trust: no code in it is run.
    config, settings : of a state dict alone: a file of nequip's settings (JSON or YAML; by default the file beside
        path_in), and settings that go before it; see import_legacy.NEEDED

    Returns
    -------
    summary : what the model is, by name: form, elements, cutoff (Å), sizes, number of trainable numbers, precision

    Raises
    ------
    InputError : no trust given, nequip not installed, no such file, path_out exists, or a part rxmdnn does not compute.
    """
    path = Path(path_in)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if Path(path_out).exists():
        raise InputError(f"{path_out}: exists already; remove it or choose another name")
    if path.suffix in import_legacy.SUFFIXES:
        given = {**import_legacy.read_settings(path, config), **(settings or {})}
        arrays = import_legacy.read_arrays(path)
        return _save(path, path_out, lambda: import_legacy.convert(arrays, given), {})
    if not trust:
        raise InputError(f"{path}: reading a checkpoint or package runs the Python code inside it; "
                         "if you know where it comes from, say --trust")
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
            model = load_saved_model(path)
    except Exception as error:  # any fault of a foreign file is the user's to know, in one line
        raise InputError(f"{path}: nequip cannot read it: {type(error).__name__}: "
                         f"{(str(error).splitlines() or [''])[0][:300]}") from None
    versions = {}
    for package in ("nequip", "nequip-allegro"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return _save(path, path_out, lambda: convert(model), versions)


def _save(path: Path, path_out: str | Path, make: Callable[[], PairNetwork], origin: dict[str, str]) -> dict[str, Any]:
    """Make the network, write it, and say what it is; faults get the name of the file they lie in."""
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


