"""Evaluation of Allegro with a tabulated two-body part, of either form of the network (see two_body_table).

The rest of the evaluation is that without a table: the parts are added where the products of the other hidden layers
are made, and the gradients of these products give dE/dr of the tables.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from rxmdnn.arrays import Array
from rxmdnn.device import Device
from rxmdnn.models import table_kernels
from rxmdnn.models.allegro_device import DeviceTableKernels
from rxmdnn.models.allegro_evaluation import BlockArguments, BlockEvaluation, add_product
from rxmdnn.models.allegro_legacy import LegacyEvaluation
from rxmdnn.models.two_body_table import Image, Parts, TwoBody, spans, without_two_body


class Tabulated(BlockEvaluation):
    """A BlockEvaluation whose two-body part is a table.

    Parameters
    ----------
    as BlockEvaluation; n_intervals : of the distance of an ordered pair of types
    """

    def __init__(self, network: Any, dtype: torch.dtype, device: Device | None, n_intervals: int) -> None:
        super().__init__(network, dtype, device)
        self.n_intervals = n_intervals
        self._scale = self.table(n_intervals / spans(self.config))
        self.table_kernels: Any = table_kernels if device is None else DeviceTableKernels(device, self.numpy_dtype)
        with torch.no_grad():
            whole = self.fold(network, lambda x: x.double().cpu())
            _, parts = without_two_body(whole, self.powers(whole), self.env_blocks)
            self.weights, _ = without_two_body(self.weights, self.powers(self.weights), self.env_blocks)
            self._two_body = TwoBody(self.config, network.bessel.detach().double().cpu(), whole)
            self._tables_of = self._tabulate(parts)
            # for edge_gradient, the distance is the one radial function; nothing else is linear in the envelope
            distance = torch.zeros((*whole.pair_matrices.shape[:2], 2 * self.weights.n_slopes - 1, 1))
            distance[:, :, 0] = 1
            self._pair_matrices = self.array(self._cast(distance))

    def _tabulate(self, parts: Parts) -> dict[str, Array]:
        return {part: self.array(self._cast(table))
                for part, table in self._two_body.tables(parts, self.n_intervals).items()}

    def powers(self, weights: Any) -> list[int | None]:
        """The power of the envelope of h_0 in the first columns of each hidden layer; None: it is not there."""
        return [0, *[None] * (len(weights.latent_widths) - 1)]

    def env_blocks(self, k: int) -> list[int]:
        """The hidden layers that enter the environment weights of layer k."""
        return [k]

    @property
    def table_bytes(self) -> int:
        """Memory of the tables."""
        return sum(table.nbytes for table in self._tables_of.values())

    def allocate(self, rows: int, centers: int) -> None:
        super().allocate(rows, centers)
        new = self.new
        self._row = self.array(torch.full((rows,), -1, dtype=torch.int32, device=self.place))
        self._place, self._slope = self.array(new(rows, 2)), self.array(new(rows, 1))
        self._radial_slope[:, 0] = 1

    def start_forward(self, block: BlockArguments) -> None:
        self.table_kernels.edge_place(
            *block.edges, self._inv_cutoff, self._scale, self.n_intervals, self.config.envelope_p, self.config.l_max,
            self._row, self._place, self._slope, self._radial_slope, self._y, self._cut)

    def product(self, part: str, x: Tensor, matrix: Tensor, out: Tensor) -> Tensor:
        if part not in self._tables_of:
            return super().product(part, x, matrix, out)
        self.table_kernels.table_rows(self._row, self._place, self._tables_of[part], self.array(out))
        return add_product(out, x, matrix)

    def collect(self, part: str, d_out: Tensor) -> None:
        if part in self._tables_of:
            self.table_kernels.table_slope(self._row, self._place, self._tables_of[part], self.array(d_out),
                                           self._slope)

    def end_backward(self, block: BlockArguments, d_hidden: Tensor, g_ij: Array) -> None:
        self.kernels.edge_gradient(*block.edges, self.config.l_max, self._pair_matrices, self._radial_slope,
                                   self._slope, self._d_y, self._d_cut, self._factor, g_ij)


class TabulatedLegacy(Tabulated, LegacyEvaluation):
    """As Tabulated, of a LegacyNetwork. With linear latent MLPs, h_0 is in the first columns of each hidden layer."""

    def powers(self, weights: Any) -> list[int | None]:
        n = len(weights.latent_widths)
        return list(range(1, n + 1)) if weights.linear else [1, *[None] * (n - 1)]

    def env_blocks(self, k: int) -> list[int]:
        return list(range(k + 1))

    @property
    def latent_width(self) -> int:
        return super().latent_width + (self._two_body.width if self.weights.linear else 0)

    def read_out(self, block: BlockArguments, e_i: Array, latent: Array | None) -> None:
        if latent is None or not self.weights.linear:
            super().read_out(block, e_i, latent)
            return
        super().read_out(block, e_i, None)
        width = self._two_body.width
        if "latent" not in self._tables_of:  # where the run is watched
            power = self.powers(self.weights)[-1] or 0
            self._tables_of |= self._tabulate({"latent": [Image(power, torch.eye(width, dtype=torch.float64))]})
        of_table = self.new(self.rows, width)
        self.table_kernels.table_rows(self._row, self._place, self._tables_of["latent"], self.array(of_table))
        last = torch.cat([of_table, self._h_of[-1]], dim=1)
        self.kernels.sum_columns(self.array(last), 0, *block.columns, latent)


TABULATED: dict[str, type[Tabulated]] = {"0.8": Tabulated, "0.2": TabulatedLegacy}
