"""Modules for models of nequip that nequip itself does not have; an exported model names them.

This file is read where nequip runs, and ``nequip-package`` copies it into packages: it imports torch, e3nn and nequip
only. Builders of whole models, which packages do not need: nequip_builders.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from e3nn.o3._irreps import Irreps
from e3nn.o3._spherical_harmonics import SphericalHarmonics
from e3nn.util.jit import compile_mode
from nequip.data import AtomicDataDict
from nequip.nn._graph_mixin import GraphModuleMixin
from nequip.nn.embedding.cutoffs import PolynomialCutoff
from nequip.nn.pair_potential import ZBL
from nequip.nn.utils import scatter, with_edge_vectors_


@compile_mode("script")
class ShortRangeZBL(ZBL):
    """The ZBL repulsion of nequip with a cutoff of its own for each pair of types, in float64.

    Parameters
    ----------
    cutoffs : rows of numbers [center][neighbor], Å
    fraction : the fraction of the sum of covalent radii that gave the cutoffs; kept for whoever reads the model
    kwargs : of nequip's ZBL
    """

    def __init__(self, cutoffs: list[list[float]], fraction: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.fraction = float(fraction)
        self.num_types = len(cutoffs)
        self.register_buffer("inv_cutoff", torch.tensor(cutoffs, dtype=torch.float64).reciprocal().view(-1))

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        """Add the repulsion to the energy of each center, eV."""
        data = with_edge_vectors_(data, with_lengths=True)
        r = data[AtomicDataDict.EDGE_LENGTH_KEY].view(-1)
        edge_index, types = data[AtomicDataDict.EDGE_INDEX_KEY], data[AtomicDataDict.ATOM_TYPE_KEY].view(-1)
        of_edge = torch.index_select(types, 0, edge_index.view(-1)).view(2, -1)
        energy = self._zbl(Z=self.atomic_numbers.to(torch.float64), r=r, atom_types=types, edge_index=edge_index,
                           qqr2exesquare=self._qqr2exesquare)
        pair = of_edge[0] * self.num_types + of_edge[1]
        energy = (energy * self.cutoff(r * torch.index_select(self.inv_cutoff, 0, pair))).unsqueeze(-1)
        e_i = data[self.per_atom_energy_field]
        data[self.per_atom_energy_field] = e_i + scatter(energy, edge_index[0], dim=0, dim_size=e_i.size(0))
        return data


class LegacyAllegro(GraphModuleMixin, torch.nn.Module):
    """The layers of allegro 0.2, from edges to N̄^(-1/2) Σ_j e_ij of each center; equations: legacy_network.

    Parameters
    ----------
    r_max : cutoff, Å; l_max, n_tensor, envelope_p : as of LegacyConfig
    layers : of each layer the irreps after its products: l, number of paths, first row of the products
    weights : shapes of the matrices by name: ``center`` and ``neighbor`` (types), ``embed_j``, ``env_k``,
        ``latent_k_j``, ``mix_k_o``, ``readout_j``; SiLU stands between the matrices of an MLP
    constants : shapes by name: ``roots``, ``mean``, ``inv_std`` of the radial basis (float64), ``norm`` (types,),
        ``ratios`` (layers, 2), ``product_k`` (components of V · components of A, rows of the products)
    """

    roots: torch.Tensor
    mean: torch.Tensor
    inv_std: torch.Tensor
    norm: torch.Tensor
    ratios: torch.Tensor
    l_of_m: torch.Tensor

    def __init__(self, r_max: float, l_max: int, n_tensor: int, envelope_p: float, layers: list[list[list[int]]],
                 weights: dict[str, list[int]], constants: dict[str, list[int]], irreps_in: Any = None) -> None:
        super().__init__()
        GraphModuleMixin._init_irreps(
            self, irreps_in=irreps_in, required_irreps_in=[AtomicDataDict.NORM_LENGTH_KEY],
            irreps_out={AtomicDataDict.PER_ATOM_ENERGY_KEY: Irreps("0e")})
        self.l_max, self.n_tensor, self.layers = l_max, n_tensor, layers
        self.bessel_factor = 2 * math.pi / r_max**2
        self.cutoff = PolynomialCutoff(envelope_p)
        self.harmonics = SphericalHarmonics(repr(Irreps.spherical_harmonics(l_max)), True, "component")
        self.model_dtype = torch.get_default_dtype()
        self.weights = torch.nn.ParameterDict({name: torch.zeros(shape) for name, shape in weights.items()})
        self.names = list(weights)
        for name, shape in constants.items():
            dtype = torch.float64 if name in ("roots", "mean", "inv_std") else self.model_dtype
            self.register_buffer(name, torch.zeros(shape, dtype=dtype))
        self.register_buffer("l_of_m", torch.tensor([n for n in range(l_max + 1) for _ in range(2 * n + 1)]),
                             persistent=False)

    def _rest(self, x: torch.Tensor, name: str) -> torch.Tensor:
        """x through the matrices of an MLP after its first one."""
        for k in range(1, sum(key.startswith(name) for key in self.names)):
            x = torch.nn.functional.silu(x) @ self.weights[f"{name}{k}"]
        return x

    def forward(self, data: AtomicDataDict.Type) -> AtomicDataDict.Type:
        """Set the energy of each center, without scale and shift."""
        data = with_edge_vectors_(data, with_lengths=True)
        types, edge_index = data[AtomicDataDict.ATOM_TYPE_KEY].view(-1), data[AtomicDataDict.EDGE_INDEX_KEY]
        center, x, u = edge_index[0], data[AtomicDataDict.NORM_LENGTH_KEY].view(-1, 1), self.n_tensor
        of_edge = torch.index_select(types, 0, edge_index.view(-1)).view(2, -1)
        cut = self.cutoff(x)
        bessel = torch.sinc(x * self.roots) * self.roots * self.bessel_factor
        radial = ((bessel - self.mean) * self.inv_std * cut).to(self.model_dtype)
        cut = cut.to(self.model_dtype)
        y = self.harmonics(data[AtomicDataDict.EDGE_VECTORS_KEY]).to(self.model_dtype).unsqueeze(-1)
        z = (torch.index_select(self.weights["center"], 0, of_edge[0]) + radial @ self.weights["embed_0"]
             + torch.index_select(self.weights["neighbor"], 0, of_edge[1]))
        z = cut * self._rest(z, "embed_")
        n = types.size(0)
        norm = torch.index_select(self.norm, 0, types).unsqueeze(-1)
        v = z.unsqueeze(-1)
        for k, irreps in enumerate(self.layers):
            w = torch.mm(z, self.weights[f"env_{k}"]).view(z.size(0), -1, u)
            if k == 0:
                v = torch.index_select(w[:, : self.l_max + 1], 1, self.l_of_m) * y
                w = w[:, self.l_max + 1 :]
            a = scatter((torch.index_select(w, 1, self.l_of_m) * y).flatten(1), center, dim=0, dim_size=n) * norm
            a = torch.index_select(a, 0, center).view(z.size(0), 1, -1, u)
            outer = (v.unsqueeze(2) * a).flatten(1, 2).transpose(1, 2).reshape(z.size(0) * u, -1)
            products = torch.mm(outer, getattr(self, f"product_{k}")).view(z.size(0), u, -1).transpose(1, 2)
            scalars = products[:, : irreps[0][1]].reshape(z.size(0), -1)
            update = self._rest(torch.cat([z, scalars], dim=1) @ self.weights[f"latent_{k}_0"], f"latent_{k}_")
            z = self.ratios[k, 0] * z + self.ratios[k, 1] * cut * update
            if k < len(self.layers) - 1:
                v = torch.cat([
                    products[:, start : start + (2 * n_l + 1) * paths].reshape(z.size(0), 2 * n_l + 1, paths * u)
                    @ self.weights[f"mix_{k}_{o}"] for o, (n_l, paths, start) in enumerate(irreps)], dim=1)
        e_ij = self._rest(z @ self.weights["readout_0"], "readout_")
        data[AtomicDataDict.PER_ATOM_ENERGY_KEY] = scatter(e_ij, center, dim=0, dim_size=n) * norm
        return data
