"""Allegro as a potential of the engine: energies and pair gradients in blocks of whole centers, derived by hand.

What is linear after linear is multiplied out once, on loading (allegro_fold); a block of edges is evaluated forward
and backward (allegro_evaluation, allegro_legacy); this module chooses the blocks, on the host and on a device.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend
from rxmdnn.device import Device, shortage
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of
from rxmdnn.models import torch_device
from rxmdnn.models.allegro_device import Block
from rxmdnn.models.allegro_evaluation import BlockArguments, BlockEvaluation
from rxmdnn.models.allegro_legacy import LegacyEvaluation
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, NetworkConfig, PairNetwork
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import load_model
from rxmdnn.models.repulsion import Repulsion

__all__ = ["Allegro", "AllegroConfig", "AllegroNetwork", "LegacyConfig", "LegacyNetwork"]

BLOCK_EDGES = 1200  # measured: 700 to 2000 are equally fast; fewer cost calls, more cost memory
TABLE_BLOCK_EDGES = 2000  # with a table an edge needs less memory and time
CENTER_LOAD = 8  # edges that cost as much as a center's operator; it bounds memory where atoms have few neighbors
ROUND = 16  # the number of rows of the buffers is a multiple of this
DEVICE_BLOCK_EDGES = 1 << 18  # a device needs many edges at once; halved until its memory holds the buffers
LEAST_BLOCK_EDGES = 1 << 12
DEVICE_ROUND = 1 << 10
TORCH_TYPES = {"float32": torch.float32, "tf32": torch.float32, "float64": torch.float64}
EVALUATIONS: dict[str, type[BlockEvaluation]] = {
    AllegroNetwork.form: BlockEvaluation, LegacyNetwork.form: LegacyEvaluation}


class Allegro:
    """The potential of a network of either form (see rxmdnn.models.interface.Potential).

    Parameters
    ----------
    network : PairNetwork; its ``form`` chooses the evaluation
    elements : the elements of the run; each must be one of the network's
    precision : "float32" or "float64", of the network; geometry and sums of energies are float64 always.
        "tf32", on a device: float32 whose matrix products have 10-bit factors
    name : of the model, for messages
    block_edges : about how many edges are evaluated together, in whole centers
    table : largest error of forces, eV/Å, of a tabulated two-body part (see rxmdnn.models.table_error); None: no table
    backend : a Device, for edges whose arrays live there

    Attributes
    ----------
    watched : bool
        Set it to have ``compute`` fill ``latent``.
    latent : (n_owned, width) float64, where ``watched``
        The last layer's hidden scalars, summed over the edges of each atom.
    notes : for the log

    Raises
    ------
    InputError : an element the model does not know, an unknown precision, a table that would be too large.
    """

    config: NetworkConfig
    watched: bool = False
    latent: Array

    def __init__(self, network: PairNetwork, elements: tuple[str, ...], precision: str = "float32",
                 name: str = "Allegro model", block_edges: int | None = None, backend: Backend | None = None,
                 table: float | None = None) -> None:
        c = self.config = network.config
        unknown = [e for e in elements if element_of(e) not in c.elements]
        if unknown:
            raise InputError(f"{name}: does not know {', '.join(unknown)}; it knows {', '.join(c.elements)}")
        if precision not in TORCH_TYPES:
            raise InputError(f"{name}: precision {precision!r}: must be one of {', '.join(TORCH_TYPES)}")
        self._device = backend if isinstance(backend, Device) else None
        if self._device is not None:
            torch_device.join(self._device)
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        elif precision == "tf32":
            raise InputError(f"{name}: precision tf32 needs a GPU; use float32, or backend cuda")
        self.elements = tuple(elements)
        self.block_edges = block_edges or (DEVICE_BLOCK_EDGES if self._device is not None else BLOCK_EDGES
                                           if table is None else TABLE_BLOCK_EDGES)
        self._blocks: list[tuple[int, int, int, int]] = []  # on a device, of the edges with the following ``first``
        self._blocks_of: Array = None
        self._type = np.array([c.elements.index(element_of(e)) for e in elements], np.int64)
        self.cutoff = np.ascontiguousarray(c.cutoff[np.ix_(self._type, self._type)])
        self._repulsion = Repulsion(self.elements, backend=backend, power=c.zbl_p, cutoff=np.ascontiguousarray(
            c.zbl_cutoff[np.ix_(self._type, self._type)])) if c.zbl else None
        self.notes: tuple[str, ...] = ()
        dtype = TORCH_TYPES[precision]
        self._evaluation = self._tabulated(network, dtype, table, name) if table is not None else \
            EVALUATIONS[network.form](network, dtype, self._device)
        self._type_array = self._evaluation.table(self._type)

    def _tabulated(self, network: PairNetwork, dtype: torch.dtype, tolerance: float, name: str) -> BlockEvaluation:
        """The evaluation with a table, and a note on it."""
        from rxmdnn.models.allegro_tabulated import TABULATED  # where it is asked for
        from rxmdnn.models.table_error import intervals_for

        n, error = intervals_for(network, EVALUATIONS[network.form], tolerance, name)
        tabulated = TABULATED[network.form](network, dtype, self._device, n)
        self.notes = (f"{name}: two-body part from a table of {n} intervals per ordered pair of species, "
                      f"{tabulated.table_bytes / 2**20:.1f} MiB; largest error of forces {error:.1e} eV/A, "
                      "measured on random environments (in proportion for pair forces above 1 eV/A)",)
        return tabulated

    @classmethod
    def load(cls, path: str | Path, elements: tuple[str, ...], precision: str = "float32",
             backend: Backend | None = None, native: Path | None = None, table: float | None = None) -> Allegro:
        """The potential of a model file (see load_model). native : a native copy of it, which is read instead."""
        return cls(load_model(native or path), elements, precision, str(path), backend=backend, table=table)

    @property
    def in_parts(self) -> bool:
        """See Potential."""
        return not self.watched

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """Energies of the owned atoms, eV, shift included, and ∂E/∂r_ij, eV/Å (see Potential.compute)."""
        if self._device is not None:
            return self._compute_on_device(self._device, edges, species)
        e_i, g_ij = np.empty(len(edges.first) - 1), edges.gradient()
        self.latent = np.zeros((len(e_i) if self.watched else 0, self._evaluation.latent_width))
        blocks = blocks_of(edges.first, self.block_edges)
        if not blocks:
            return e_i, g_ij
        rows = max(int(edges.first[i1] - edges.first[i0]) for i0, i1 in blocks)
        rows = max(ROUND, -(-rows // ROUND) * ROUND)
        centers = max(i1 - i0 for i0, i1 in blocks)
        if not 0.75 * self._evaluation.rows <= rows <= self._evaluation.rows or centers > self._evaluation.centers:
            self._evaluation.allocate(rows, centers)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # matrices of a block are small; and the threads of Numba raise torch's number unasked
        try:
            with torch.no_grad():
                for i0, i1 in blocks:
                    if edges.progress is not None:
                        edges.progress()
                    block = self._evaluation.host_arguments(edges, species, self._type, i0, i1)
                    self._evaluation.evaluate(block, e_i, g_ij, self.latent if self.watched else None)
        finally:
            torch.set_num_threads(threads)
        if self._repulsion is not None:
            self._repulsion.add(edges, species, e_i, g_ij)
        return e_i, g_ij

    def features(self) -> np.ndarray:
        """(n_owned, k) float64 on the host: ``latent`` of the last call of ``compute`` while ``watched``."""
        return self.latent if self._device is None else self._device.to_host(self.latent)

    def _compute_on_device(self, device: Device, edges: Edges, species: Array) -> tuple[Array, Array]:
        """As ``compute``, on a device. Blocks are halved for good where its memory does not hold their arrays.

        Raises InputError if its memory does not hold the arrays of small blocks either.
        """
        n = len(edges.first) - 1
        e_i, g_ij = device.xp.empty(n), edges.gradient()
        self.latent = device.xp.zeros((n if self.watched else 0, self._evaluation.latent_width))
        while n:
            try:
                with torch.no_grad():
                    self._evaluate_on_device(device, edges, species, e_i, g_ij)
                if self._repulsion is not None:
                    self._repulsion.add(edges, species, e_i, g_ij)
                break
            except torch.cuda.OutOfMemoryError as error:
                if device.torch_device != "cpu" and torch.cuda.is_current_stream_capturing():
                    raise  # the graph is given up, nothing else
                if self.block_edges <= LEAST_BLOCK_EDGES:
                    raise (shortage(device, error, n) or error) from None
                self.block_edges //= 2
                self._blocks_of = None
            self._evaluation.allocate(DEVICE_ROUND, 1)  # frees the large buffers before smaller ones are made
            torch_device.free(device)
        return e_i, g_ij

    def _evaluate_on_device(self, device: Device, edges: Edges, species: Array, e_i: Array, g_ij: Array) -> None:
        """Fill e_i and g_ij block by block."""
        if self._blocks_of is not edges.first:  # one object for all calls with a list's skin, recorded ones too
            self._blocks = blocks_on_device(device, edges.first, len(edges.center), self.block_edges)
            self._blocks_of = edges.first
        evaluation, blocks = self._evaluation, self._blocks
        rows = max(stop - start for *_, start, stop in blocks)
        centers = max(i1 - i0 for i0, i1, *_ in blocks)
        if rows > evaluation.rows or centers > evaluation.centers:
            evaluation.allocate(-(-max(rows, 1) // DEVICE_ROUND) * DEVICE_ROUND, centers)
        for i0, i1, start, stop in blocks:
            block = Block(edges.r_ij[start:stop], edges.center[start:stop], edges.neighbor[start:stop],
                          edges.first[i0 : i1 + 1], species, self._type_array, i0, start)
            arguments = BlockArguments(edges=(block,), layers=(block, evaluation.norm, evaluation.l_of_m),
                                       energies=(block,), columns=(block,))
            evaluation.evaluate(arguments, e_i, g_ij, self.latent if self.watched else None)


def blocks_of(first: np.ndarray, block_edges: int) -> list[tuple[int, int]]:
    """Ranges of whole centers of nearly equal load; a center counts as much as CENTER_LOAD edges.

    Parameters
    ----------
    first : (n + 1,) int64, edges of center i are first[i]:first[i + 1]
    block_edges : about the largest load of a block
    """
    n = len(first) - 1
    if n == 0:
        return []
    load = first + CENTER_LOAD * np.arange(n + 1)
    parts = -(-int(load[-1]) // block_edges)
    cuts = np.searchsorted(load, np.arange(1, parts) * (load[-1] / parts))
    return [(int(i0), int(i1)) for i0, i1 in pairwise(np.unique(np.concatenate([[0], cuts, [n]])))]


def blocks_on_device(device: Device, edges_first: Array, m: int, block_edges: int) -> list[tuple[int, int, int, int]]:
    """As ``blocks_of``, with the first and the last edge of each block; one block needs no transfer to the host."""
    n = len(edges_first) - 1
    load = m + CENTER_LOAD * n
    parts = -(-load // block_edges)
    if parts <= 1:
        return [(0, n, 0, m)]
    first = torch_device.tensor(device, edges_first)
    loads = first + CENTER_LOAD * torch.arange(n + 1, device=first.device)
    steps = (torch.arange(1, parts, device=first.device) * (load / parts)).long()
    cuts = torch.unique(torch.searchsorted(loads, steps))
    cuts = torch.cat([cuts.new_zeros(1), cuts[(cuts > 0) & (cuts < n)], cuts.new_full((1,), n)])
    return [(i0, i1, start, stop) for (i0, start), (i1, stop) in pairwise(zip(cuts.tolist(), first[cuts].tolist()))]
