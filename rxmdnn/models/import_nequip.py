"""Import of Allegro models made with nequip and nequip-allegro; only this module needs the two packages.

Models of the older form (allegro 0.2), deployed or as named arrays, are read without them: import_legacy.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import math
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rxmdnn.errors import InputError
from rxmdnn.models import import_legacy
from rxmdnn.models.activations import LINEAR
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, PairNetwork
from rxmdnn.models.clebsch_gordan import harmonic_irreps, layer_irreps, product_tables
from rxmdnn.models.content import (
    ARRAYS,
    CHECKPOINT,
    COMPILED,
    DEPLOYED,
    OTHER,
    PACKAGE,
    import_command,
    is_native,
    kind_of,
    refusal,
)
from rxmdnn.models.legacy_network import LegacyConfig
from rxmdnn.models.model_file import save_model
from rxmdnn.models.nequip_mlp import UnsupportedError, depth_width_of, matrices_of, nonlinearity_of, require
from rxmdnn.models.scripted import Part, class_name, parts_of
from rxmdnn.models.torchscript import read_torchscript

SPARE = 1 << 24  # weights beyond a multiple of those in the MLPs, before they are allocated
EXPECTED = ["edge_norm", "radial_chemical_embed", "scalar_embed_mlp", "tensor_embed", "allegro", "edge_readout",
            "edge_eng_sum", "per_type_energy_scale_shift", "total_energy_sum"]


def load_deployed(path: Path, config: str | Path | None = None, settings: dict[str, Any] | None = None) -> PairNetwork:
    """The network of a TorchScript file: deployed by nequip 0.5, or compiled by a later one. No code in it is run.

    Raises
    ------
    InputError : damaged, not such a model, or a part rxmdnn cannot compute. config, settings : as of import_nequip
    """
    archive = read_torchscript(path)
    try:
        if import_legacy.is_legacy(archive):
            given = {**import_legacy.settings_of(path, archive, config), **(settings or {})}
            return import_legacy.convert(archive.arrays, given)
        if not any(".allegro.tps." in name for name in archive.arrays):
            raise InputError("the TorchScript file is not an Allegro model; run its code with a line 'compiled FILE "
                             "LAYERS ...' in rxmdnn.in (rxmdnn help compiled)")
        model: Any = parts_of(archive)
        model.type_names = archive.texts.get("type_names", "").split()
        return convert(model)
    except InputError as error:
        todo = f"; convert it once with this option: {import_command(path)}"
        raise InputError(*(fault if fault.startswith(str(config)) else
                           f"{path}: {fault}{todo if 'is missing: --' in fault else ''}"
                           for fault in error.faults)) from None


def convert(model: Any) -> AllegroNetwork:
    """The network of a nequip GraphModel of nequip-allegro, in its precision.

    Raises
    ------
    InputError : the model has a part that rxmdnn cannot compute; the message names it.
    """
    try:
        return _convert(model)
    except UnsupportedError as what:
        raise InputError(f"the model has {what}; rxmdnn cannot compute it") from None
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise InputError("the model is not an Allegro model as nequip-allegro 0.8 builds it: "
                         f"{(str(error).splitlines() or [''])[0][:200]}") from None


@dataclass
class _NequipParts:
    """The modules of a nequip-allegro model that rxmdnn computes.

    Attributes
    ----------
    modules : the chain of the energy model, by name, without ``pair_potential`` and ``cutoff``
    zbl : the repulsion, or None
    mlps : the matrices of each MLP, float64, by its name in AllegroNetwork
    activations : the nonlinearity of each of these, likewise
    """

    modules: dict[str, Any]
    zbl: Any
    mlps: dict[str, list[torch.Tensor]]
    activations: dict[str, str]

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
    given = sum(matrix.numel() for matrices in parts.mlps.values() for matrix in matrices)
    wanted = sum(math.prod(shape) for shape in AllegroNetwork.shapes(config).values())
    require(wanted < SPARE + 16 * given, "sizes that its arrays do not have")
    network = AllegroNetwork(config, parts.allegro.first_layer_env_embed_projection.mlp[0].weight.dtype)
    if parts.zbl is not None:
        require(torch.equal(parts.zbl.atomic_numbers.double().cpu(), network.atomic_number),
                 "ZBL for chemical species other than the type names")
        own = getattr(parts.zbl, "inv_cutoff", None)
        require(own is None or torch.allclose(own.cpu(), network.inv_zbl_cutoff.reshape(-1), rtol=1e-9, atol=0),
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
    """The modules of the model; each one that rxmdnn cannot compute raises UnsupportedError."""
    chain = model.model.func if hasattr(model.model, "func") else model.model
    children = dict(chain.named_children())
    modules = {name: module for name, module in children.items() if name not in ("pair_potential", "cutoff")}
    if type(modules.get("legacy")).__name__ == "LegacyAllegro":
        raise InputError("a model of allegro 0.2 that export-model wrote, which import-model does not read; use the "
                         "native model file that it was made from")
    require(list(modules) == EXPECTED, "other parts than an Allegro energy model: " + (
        ", ".join(sorted(set(modules) ^ set(EXPECTED))) or "their order"))
    embed, allegro, zbl = modules["radial_chemical_embed"], modules["allegro"], children.get("pair_potential")
    require(hasattr(embed, "bessel_encode") or hasattr(embed, "spline"),
             f"the two-body embedding {class_name(embed)} (only Bessel functions and splines)")
    require(modules["edge_eng_sum"].reduce == "sum", "a mean over edges")
    if zbl is not None:
        require(class_name(zbl) in ("ZBL", "ShortRangeZBL"), f"the pair potential {class_name(zbl)} (only ZBL)")
        require(abs(float(zbl._qqr2exesquare) / (0.5 * 14.399645) - 1) < 1e-6, "ZBL in units other than eV and Å")
    mlps = {"embed": modules["scalar_embed_mlp"].mlp_module, "readout": modules["edge_readout"].mlp_module,
            **{f"latents.{k}": a for k, a in enumerate(allegro.latents)}}
    return _NequipParts(modules, zbl, {name: matrices_of(mlp) for name, mlp in mlps.items()},
                        {name: nonlinearity_of(mlp) for name, mlp in mlps.items()})


def _sizes_of_layers(l_max: int, parity: bool, n_layers: int) -> list[tuple[int, int]]:
    """The components that enter each layer, and its number of paths."""
    irreps, tables = layer_irreps(l_max, parity, n_layers), product_tables(l_max, parity, n_layers)
    return [(sum(2 * l + 1 for l, _ in of_layer), table.n_paths) for of_layer, table in zip(irreps, tables)]  # noqa: E741


def _tensor_shape(allegro: Any) -> tuple[int, bool]:
    """l_max and parity of the tensor features."""
    if isinstance(allegro, Part):  # without irreps, but with the sizes that they have
        layers: Any = vars(allegro)["tps"]
        l_max = math.isqrt(layers[0].base_dim2) - 1
        require(0 <= l_max <= 3, "l_max above 3")
        sizes = [(tp.base_dim1, tp.num_paths) for tp in layers]
        fits = [p for p in (True, False) if sizes == _sizes_of_layers(l_max, p, len(sizes))]
        require(bool(fits), f"unusual tensor features of sizes {sizes}")
        return l_max, fits[0]
    l_max = len(allegro.tps[0].irreps_in2) - 1
    require(0 <= l_max <= 3, "l_max above 3")
    irreps = [[(ir.l, ir.p) for _, ir in tp.irreps_in1] for tp in allegro.tps] + [[(0, 1)]]
    require([(ir.l, ir.p) for _, ir in allegro.tps[0].irreps_in2] == harmonic_irreps(l_max), "unusual harmonics")
    parities = [p for p in (True, False) if layer_irreps(l_max, p, len(allegro.tps)) == irreps]
    require(bool(parities), f"unusual tensor irreps {irreps}")
    return l_max, parities[0]


def _config(names: tuple[str, ...], parts: _NequipParts) -> AllegroConfig:
    """The shape of the network."""
    t, allegro, zbl, act = len(names), parts.allegro, parts.zbl, parts.activations
    radial: dict[str, Any]  # and the nonlinearities
    if hasattr(parts.embed, "spline"):
        spline = parts.embed.spline
        radial = {"n_splines": int(spline.num_splines), "spline_span": int(spline.spline_span)}
    else:
        bessel = parts.embed.bessel_encode
        radial = {"n_bessel": bessel.num_bessels, "bessel_trainable": bool(bessel.trainable),
                  "envelope_p": float(bessel.cutoff.p)}
    radial |= {f"{key.removesuffix('s.0')}_activation": act[key] for key in ("embed", "latents.0", "readout")
               if act[key] != LINEAR}
    l_max, parity = _tensor_shape(allegro)
    depth_width = {name: depth_width_of(name, m) for name, m in parts.mlps.items()}
    require(len({(depth_width[n], act[n]) for n in act if n.startswith("latents")}) == 1, "layers of different MLPs")
    norms = [a.norm_const.detach().double().cpu().numpy().reshape(-1) for a in (
        allegro.avg_num_neighbors_norm, parts.modules["edge_eng_sum"].norm_module)]
    require(np.array_equal(norms[0], norms[1]), "two different average numbers of neighbors")
    cutoff = 1.0 / parts.modules["edge_norm"]._rmax_recip.detach().double().cpu().numpy().reshape(-1)
    return AllegroConfig(
        elements=names, r_max=float(cutoff[0]) if len(cutoff) == 1 else cutoff.reshape(t, t).tolist(), l_max=l_max,
        n_layers=len(allegro.tps), n_scalar=allegro.num_scalar_features, n_tensor=allegro.num_tensor_features,
        **radial, parity=parity, embed_depth=depth_width["embed"][0], embed_width=depth_width["embed"][1],
        latent_depth=depth_width["latents.0"][0], latent_width=depth_width["latents.0"][1],
        readout_depth=depth_width["readout"][0], readout_width=depth_width["readout"][1],
        average_neighbors=float(norms[0][0] ** -2) if len(norms[0]) == 1 else (norms[0] ** -2).tolist(),
        scale_trainable=bool(parts.shifts.scales_trainable), shift_trainable=bool(parts.shifts.shifts_trainable),
        zbl=zbl is not None, zbl_p=6.0 if zbl is None else float(zbl.cutoff.p),
        zbl_fraction=float(getattr(zbl, "fraction", 0.0)))


def _fill_species(network: AllegroNetwork, parts: _NequipParts) -> None:
    """Set the radial roots and what belongs to each species: energy scale and shift, and its embedding."""
    shifts, embed = parts.shifts, parts.embed
    for name, given in (("scales", shifts.has_scales), ("shifts", shifts.has_shifts)):
        if given:
            target = getattr(network, name[:-1])
            target.copy_(getattr(shifts, name).reshape(-1).expand(len(target)))
    if hasattr(embed, "spline"):
        t, s, n = len(network.config.elements), network.config.n_scalar, network.config.n_splines
        network.spline.copy_(embed.spline.class_embed.weight.reshape(t, t, s, n).transpose(2, 3))
        return
    network.bessel.copy_(embed.bessel_encode.bessel_weights.reshape(-1))
    network.center_embed.copy_(embed.type_embed.center_embed.weight)
    network.neighbor_embed.copy_(embed.type_embed.neighbor_embed.weight)


def _fill_matrices(network: AllegroNetwork, parts: _NequipParts) -> None:
    """Set all linear maps; columns of tensor weights are u (l_max + 1) + l in nequip, here they are l U + u.

    Where nequip has weights that all l share, u, each l gets a copy.
    """
    c = network.config
    s, u, n_l = c.n_scalar, c.n_tensor, c.l_max + 1

    def columns(weighter: Any) -> np.ndarray:
        return (np.arange(u * n_l).reshape(u, n_l).T.reshape(-1) if weighter.weight_individual_irreps
                else np.tile(np.arange(u), n_l))

    l_major, of_embed = columns(parts.allegro._env_weighter), columns(parts.modules["tensor_embed"]._edge_weighter)

    def put(linear: Any, matrix: torch.Tensor) -> None:
        require(tuple(matrix.shape) == tuple(linear.weight.shape), "an MLP of unexpected shape")
        linear.weight.copy_((matrix / linear.alpha).to(network.dtype))

    if not c.n_splines:
        put(network.basis, matrices_of(parts.embed.type_embed.basis_linear)[0])
    put(network.tensor_embed, matrices_of(parts.modules["tensor_embed"].env_embed_linear)[0][:, of_embed])
    put(network.project, _l_major_tail(matrices_of(parts.allegro.first_layer_env_embed_projection)[0], s, l_major))
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
    path_in, path_out : files; a checkpoint or package of nequip-allegro 0.8, or the state dict of allegro 0.2 (arrays
        of NumPy, or saved by torch), or a TorchScript file of either, as ``nequip-deploy`` or ``nequip-compile``
        writes it; told by their content, whatever their suffix
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
    if not path.stat().st_size:
        raise InputError(f"{path}: the file is empty")
    if is_native(path):
        raise InputError(f"{path}: a native model file already; name it in rxmdnn.in as it is")
    kind = kind_of(path)
    if kind == DEPLOYED:
        deployed = load_deployed(path, config, settings)
        return _save(path, path_out, lambda: deployed, {})
    named = import_legacy.saved_arrays(path) if kind == CHECKPOINT else None
    if named is not None or kind == ARRAYS or (kind == OTHER and path.suffix in import_legacy.SUFFIXES):
        given = {**import_legacy.read_settings(path, config), **(settings or {})}
        named = import_legacy.read_arrays(path) if named is None else named
        return _save(path, path_out, lambda: import_legacy.convert(named, given), {})
    if kind == COMPILED or path.suffix == ".pt2":
        raise refusal(path, COMPILED)
    if kind == OTHER and path.suffix in ("", ".deploy"):
        raise refusal(path, kind)
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
            if kind_of(path) == PACKAGE and not path.name.endswith(".nequip.zip"):  # nequip tells them by the suffix
                with tempfile.TemporaryDirectory() as folder:
                    (Path(folder) / "model.nequip.zip").symlink_to(path.resolve())
                    return load_saved_model(Path(folder) / "model.nequip.zip")
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


