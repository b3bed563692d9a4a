"""The content of a checkpoint of nequip that holds a native Allegro model; made without nequip.

A checkpoint of nequip is a dictionary: the settings from which nequip-allegro 0.8 builds the model, and its state dict.
What nequip-allegro does not have (layers of allegro 0.2, a repulsion with its own cutoffs) is built by modules of ours.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from rxmdnn.errors import InputError
from rxmdnn.models import nequip_legacy
from rxmdnn.models.allegro_network import AllegroNetwork, NetworkConfig, PairNetwork
from rxmdnn.models.clebsch_gordan import ProductTable
from rxmdnn.models.legacy_network import LegacyNetwork
from rxmdnn.models.repulsion import PREFACTOR

PARTS = "rxmdnn.models.nequip_parts"  # modules that nequip does not have
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}
LIGHTNING = "2.0.0"  # the oldest release of Lightning whose checkpoints have this layout

# The settings that a model of nequip has too, by form. Any other one is refused unless it has its default.
SHARED = {"elements", "r_max", "l_max", "n_layers", "n_tensor", "n_bessel", "bessel_trainable", "envelope_p", "parity",
          "average_neighbors", "scale", "shift", "scale_trainable", "shift_trainable", "zbl", "zbl_p", "zbl_fraction",
          "seed"}
EXPRESSED = {
    AllegroNetwork.form: SHARED | {"n_scalar", "embed_depth", "embed_width", "latent_depth", "latent_width",
                                   "readout_depth", "readout_width", "embed_activation", "latent_activation",
                                   "readout_activation", "n_splines", "spline_span"},
    LegacyNetwork.form: SHARED | {"embed_widths", "latent_widths", "readout_widths", "embed_silu", "latent_silu",
                                  "readout_silu", "residual", "residual_trainable"}}


def checkpoint(network: PairNetwork, precision: str | None = None) -> dict[str, Any]:
    """The content of a checkpoint of nequip: dictionaries, lists, text, numbers and tensors.

    Raises InputError for a setting that the model of nequip does not have.
    """
    _refuse_inexpressible(network)
    dtype = PRECISIONS[precision] if precision else network.dtype
    model = model_settings(network, str(dtype).removeprefix("torch."))
    state = {f"model.sole_model.model.{name}": value for name, value in state_dict(network, dtype).items()}
    info = {"versions": {}, "data": example_data(network.config), "trainer": {}, "runs": ["train"],
            "global_options": {"allow_tf32": False},
            "training_module": {"_target_": "nequip.train.NequIPLightningModule", "model": model}}
    return {
        "pytorch-lightning_version": LIGHTNING, "epoch": 0, "global_step": 0,
        "state_dict": state | {"run_stage": torch.zeros(1, dtype=torch.long)},
        "hparams_name": "kwargs",
        "hyper_parameters": {"model": model, "num_datasets": {"train": 1, "val": 0, "test": 0, "predict": 0},
                             "info_dict": info}}


def _refuse_inexpressible(network: PairNetwork) -> None:
    """Raise InputError for a setting that is not in EXPRESSED and does not have its default."""
    c = network.config
    defaults = type(c)(elements=c.elements, r_max=c.r_max)
    odd = [f.name for f in fields(c) if f.name not in EXPRESSED[network.form]
           and getattr(c, f.name) != getattr(defaults, f.name)]
    if odd:
        raise InputError(f"the setting {odd[0]} is {getattr(c, odd[0])!r}, which export-model cannot express in nequip")


def model_settings(network: PairNetwork, dtype: str) -> dict[str, Any]:
    """The arguments of the builder of the model in nequip, and its name under ``_target_``."""
    c = network.config
    names = list(c.elements)

    def by_type(name: str) -> dict[str, float]:
        return dict(zip(names, c.per_species(name).tolist()))

    settings: dict[str, Any] = {
        "seed": c.seed % 2**32, "model_dtype": dtype, "type_names": names, "r_max": float(c.cutoff.max()),
        "per_type_energy_scales": by_type("scale"), "per_type_energy_shifts": by_type("shift"),
        "per_type_energy_scales_trainable": c.scale_trainable, "per_type_energy_shifts_trainable": c.shift_trainable}
    if c.zbl:
        settings["pair_potential"] = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal",
                                      "chemical_species": names, "polynomial_cutoff_p": c.zbl_p}
        if c.zbl_fraction:  # the repulsion of nequip ends at the cutoff of the network
            settings["pair_potential"] |= {"_target_": f"{PARTS}.ShortRangeZBL", "fraction": float(c.zbl_fraction),
                                           "cutoffs": c.zbl_cutoff.tolist()}
    if isinstance(network, LegacyNetwork):
        return {**settings, "_target_": nequip_legacy.BUILDER, "layers": nequip_legacy.layer_settings(network)}
    if np.ptp(c.cutoff) > 0:
        settings["per_edge_type_cutoff"] = {a: dict(zip(names, row)) for a, row in zip(names, c.cutoff.tolist())}
    return {
        **settings, "_target_": "allegro.model.AllegroModel", "l_max": c.l_max, "parity": c.parity,
        "num_layers": c.n_layers, "num_scalar_features": c.n_scalar, "num_tensor_features": c.n_tensor,
        "radial_chemical_embed": {
            "_target_": "allegro.nn.TwoBodySplineScalarEmbed", "num_splines": c.n_splines,
            "spline_span": c.spline_span} if c.n_splines else {
            "_target_": "allegro.nn.TwoBodyBesselScalarEmbed", "num_bessels": c.n_bessel,
            "bessel_trainable": c.bessel_trainable, "polynomial_cutoff_p": c.envelope_p},
        "scalar_embed_mlp_nonlinearity": c.embed_activation, "allegro_mlp_nonlinearity": c.latent_activation,
        "readout_mlp_nonlinearity": c.readout_activation,
        "scalar_embed_mlp_hidden_layers_depth": c.embed_depth, "scalar_embed_mlp_hidden_layers_width": c.embed_width,
        "allegro_mlp_hidden_layers_depth": c.latent_depth, "allegro_mlp_hidden_layers_width": c.latent_width,
        "readout_mlp_hidden_layers_depth": c.readout_depth, "readout_mlp_hidden_layers_width": c.readout_width,
        "avg_num_neighbors": by_type("average_neighbors") if np.ndim(c.average_neighbors) else float(
            np.asarray(c.average_neighbors))}


def example_data(c: NetworkConfig) -> dict[str, Any]:
    """Settings of a data set that nequip makes itself: ``nequip-package`` and ``nequip-compile`` trace one frame of it.

    16 atoms of a disordered lattice (fcc copper), all of the first type; the compiled model takes any atoms.
    """
    sigma = 0.1 if c.cutoff.max() > 3.5 else 0.6  # Å: of the displacements; some atoms are within a short cutoff too
    data = {"_target_": "nequip.data.dataset.EMTTestDataset", "supercell": [2, 2, 2], "element": "Cu", "sigma": sigma,
            "num_frames": 1,
            "transforms": [
                {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                 "model_type_names": list(c.elements), "chemical_species_to_atom_type_map": {"Cu": c.elements[0]}},
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": float(c.cutoff.max())}]}
    return {"_target_": "nequip.data.datamodule.NequIPDataModule", "seed": 1, "train_dataset": data,
            "val_dataset": data}


def state_dict(network: PairNetwork, dtype: torch.dtype) -> dict[str, Tensor]:
    """The state of nequip's energy model under its names."""
    c = network.config
    out = {"_empty": torch.zeros(0, dtype=dtype), "func.edge_norm._rmax_recip": torch.tensor(_inverse_cutoff(c)),
           **(nequip_legacy.state_dict(network, dtype) if isinstance(network, LegacyNetwork)
              else _layers(cast(AllegroNetwork, network), dtype))}
    for name in ("scale", "shift"):
        out[f"func.per_type_energy_scale_shift.{name}s"] = getattr(network, name).reshape(-1, 1)
    if c.zbl:
        out["func.pair_potential.atomic_numbers"] = network.atomic_number.to(dtype)
        out["func.pair_potential._qqr2exesquare"] = torch.tensor(PREFACTOR, dtype=torch.float64)
        if c.zbl_fraction:
            out["func.pair_potential.inv_cutoff"] = network.inv_zbl_cutoff.reshape(-1)
    return {name: value.detach().cpu().clone().contiguous() for name, value in out.items()}


def _layers(network: AllegroNetwork, dtype: torch.dtype) -> dict[str, Tensor]:
    """From edges to edge energies; matrices are stored without the factor of their layer, as in nequip."""
    c = network.config
    s, u, n_l = c.n_scalar, c.n_tensor, c.l_max + 1
    # columns of tensor weights are u (l_max + 1) + l in nequip, here they are l U + u
    u_major = torch.arange(n_l * u).reshape(n_l, u).T.reshape(-1)
    embed = "func.radial_chemical_embed"
    out: dict[str, Tensor] = {}

    def put(name: str, value: Tensor) -> None:
        out[name] = value.to(dtype)

    def put_mlp(name: str, matrices: list[Tensor]) -> None:
        for k, matrix in enumerate(matrices):
            put(f"{name}.mlp.{2 * k}.weight", matrix)  # a nonlinearity stands between two layers

    def reordered(matrix: Tensor, scalars: int) -> Tensor:
        return torch.cat([matrix[:, :scalars], matrix[:, scalars:][:, u_major]], dim=1)

    if c.n_splines:  # float64 in every precision
        lower = torch.arange(-c.spline_span, c.n_splines - c.spline_span, dtype=torch.float64) / c.n_splines
        out |= {f"{embed}.spline.lower": lower, f"{embed}.spline.upper": lower + (c.spline_span + 1) / c.n_splines,
                f"{embed}.spline.class_embed.weight": network.spline.transpose(2, 3).reshape(len(c.elements) ** 2, -1)}
    else:
        out[f"{embed}.bessel_encode.bessel_weights"] = network.bessel.reshape(1, -1)
        put(f"{embed}.type_embed.center_embed.weight", network.center_embed)
        put(f"{embed}.type_embed.neighbor_embed.weight", network.neighbor_embed)
        put_mlp(f"{embed}.type_embed.basis_linear", [network.basis.weight])
    put_mlp("func.scalar_embed_mlp.mlp_module", _weights(network.embed))
    put_mlp("func.tensor_embed.env_embed_linear", [reordered(network.tensor_embed.weight, 0)])
    put_mlp("func.allegro.first_layer_env_embed_projection", [reordered(network.project.weight, s)])
    for k, table in enumerate(network.tables):
        *hidden, last = _weights(network.latents[k])
        put_mlp(f"func.allegro.latents.{k}", [*hidden, last if last.shape[1] == s else reordered(last, s)])
        weights = network.path_weights[k].T
        put(f"func.allegro.tps.{k}.weights", weights if table.n_paths > 1 else weights[:, 0])
        put(f"func.allegro.tps.{k}.w3j", _dense_product(table))
    put_mlp("func.edge_readout.mlp_module", _weights(network.readout))
    return out


def _inverse_cutoff(c: NetworkConfig) -> np.ndarray:
    """1/cutoff, 1/Å float64: () if all are the same, otherwise (T²,) of (center, neighbor)."""
    inverse = 1.0 / c.cutoff.reshape(-1)
    return inverse if np.ptp(c.cutoff) > 0 else inverse[0]


def _weights(mlp: Any) -> list[Tensor]:
    return [linear.weight for linear in mlp.linears]


def _dense_product(table: ProductTable) -> Tensor:
    """The coefficients of a tensor product as nequip-allegro stores them, float64.

    (path, m1, m2, m3); without m2 where all terms have m1 = m2, without path where there is one.
    """
    dense = np.zeros((table.n_paths, table.d_in, table.d_env, table.d_out))
    dense[table.path, table.m1, table.m2, table.m3] = table.coefficient
    if table.d_in == table.d_env and np.array_equal(table.m1, table.m2):
        dense = np.einsum("pijk,ij->pik", dense, np.eye(table.d_in))
    return torch.from_numpy(dense[0] if table.n_paths == 1 else dense)
