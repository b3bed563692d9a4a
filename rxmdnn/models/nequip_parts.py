"""Modules for models of nequip that nequip itself does not have; an exported model names them.

This file is read where nequip runs, and ``nequip-package`` copies it into packages: it imports torch and nequip only.
"""

from __future__ import annotations

import torch
from e3nn.util.jit import compile_mode
from nequip.data import AtomicDataDict
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
