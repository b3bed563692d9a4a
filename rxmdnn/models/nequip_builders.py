"""Builders of models for nequip whose modules nequip does not have; read where nequip runs."""

from __future__ import annotations

from typing import Any

from hydra.utils import instantiate
from nequip.data import AtomicDataDict
from nequip.model import model_builder
from nequip.nn import AtomwiseReduce, ForceStressOutput, PerTypeScaleShift, SequentialGraphNetwork
from nequip.nn.embedding import EdgeLengthNormalizer

from rxmdnn.models.nequip_parts import LegacyAllegro

ENERGY = AtomicDataDict.PER_ATOM_ENERGY_KEY


@model_builder
def LegacyAllegroModel(  # noqa: N802 - the builders of nequip have names of classes
        r_max: float, type_names: list[str], layers: dict[str, Any], per_type_energy_scales: dict[str, float],
        per_type_energy_shifts: dict[str, float], per_type_energy_scales_trainable: bool = False,
        per_type_energy_shifts_trainable: bool = False,
        pair_potential: dict[str, Any] | None = None) -> ForceStressOutput:
    """The model of allegro 0.2: energy, forces and stress.

    Parameters
    ----------
    seed, model_dtype : of every builder of nequip
    r_max : cutoff, Å; type_names : in the order of the types
    layers : the arguments of LegacyAllegro
    per_type_energy_scales, per_type_energy_shifts : by type, eV
    pair_potential : a module to instantiate, such as ZBL
    """
    edge_norm = EdgeLengthNormalizer(r_max=r_max, type_names=type_names)
    modules = {"edge_norm": edge_norm, "legacy": LegacyAllegro(r_max=r_max, irreps_in=edge_norm.irreps_out, **layers)}
    modules["per_type_energy_scale_shift"] = last = PerTypeScaleShift(
        type_names=type_names, field=ENERGY, out_field=ENERGY, scales=per_type_energy_scales,
        shifts=per_type_energy_shifts, scales_trainable=per_type_energy_scales_trainable,
        shifts_trainable=per_type_energy_shifts_trainable, irreps_in=modules["legacy"].irreps_out)
    if pair_potential is not None:
        modules["pair_potential"] = last = instantiate(pair_potential, type_names=type_names, irreps_in=last.irreps_out)
    modules["total_energy_sum"] = AtomwiseReduce(irreps_in=last.irreps_out, reduce="sum", field=ENERGY,
                                                 out_field=AtomicDataDict.TOTAL_ENERGY_KEY)
    return ForceStressOutput(SequentialGraphNetwork(modules))
