"""Models compiled by other tools, named by a deck line ``compiled``: TorchScript, or an AOTInductor package (.pt2).

They are code, which loading runs. A model takes pos (n, 3), edge_index (2, E), atom_types (n,), and where it asks for
them cell (3, 3), edge_cell_shift (E, 3) and edge_vectors (E, 3), in Å, and returns atomic_energy (n, 1) or (n,), eV,
and forces (n, 3), eV/Å, or, of local models, edge_forces (E, 3), ∂E/∂r_ij: the names of nequip. TorchScript takes and
returns a dictionary, without edge_vectors; its extra files, or the metadata of a package, hold r_max (Å) and
type_names (separated by blanks).
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
import torch

from rxmdnn.arrays import Array
from rxmdnn.atoms import Edges
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of
from rxmdnn.models.content import COMPILED, DEPLOYED, kind_of

Fields = dict[str, torch.Tensor]
INPUTS = ("pos", "edge_index", "atom_types", "cell", "edge_cell_shift", "edge_vectors")
MODEL_DTYPE = "model_dtype"  # of the metadata of nequip since 0.7, whose models take pos in float64


class _Loaded:
    """A loaded model. r_max : Å; names : of the types; call : Fields to Fields; dtype : of the coordinates"""

    def __init__(self, path: Path) -> None:
        self.path, kind = path, kind_of(path)
        if kind not in (DEPLOYED, COMPILED):
            raise InputError(f"{path}: neither a TorchScript file nor a package of AOTInductor (.pt2)")
        try:
            load = self._torchscript if kind == DEPLOYED else self._package
            self.call, metadata = load()
        except InputError:
            raise
        except Exception as error:  # a user gets one line about any fault of a foreign file
            raise InputError(f"{path}: torch cannot load it: {_first_line(error)}") from None
        if "r_max" not in metadata or "type_names" not in metadata:
            raise InputError(f"{path}: its metadata must hold r_max and type_names; it has "
                             f"{', '.join(sorted(metadata)) or 'none'}")
        self.names = tuple(metadata["type_names"].split())
        try:
            self.r_max = float(metadata["r_max"])
        except ValueError:
            raise InputError(f"{path}: r_max of its metadata is not a number: {metadata['r_max'][:40]!r}") from None

    def _torchscript(self) -> tuple[Callable[[Fields], Fields], dict[str, str]]:
        with zipfile.ZipFile(self.path) as archive:
            extra = {name.partition("/extra/")[2]: "" for name in archive.namelist() if "/extra/" in name}
        model = torch.jit.load(str(self.path), _extra_files=extra, map_location="cpu").eval()
        self.inputs: tuple[str, ...] = INPUTS[:-1]
        texts = {name: text if isinstance(text, str) else text.decode(errors="replace")
                 for name, text in extra.items()}
        kinds = {p.dtype for p in model.parameters() if p.is_floating_point()} if MODEL_DTYPE not in texts else set()
        self.dtype = torch.float32 if kinds == {torch.float32} else torch.float64
        return model, texts

    def _package(self) -> tuple[Callable[[Fields], Fields], dict[str, str]]:
        model = torch._inductor.aoti_load_package(str(self.path))
        metadata, self.dtype = dict(model.get_metadata()), torch.float64
        if metadata.get("AOTI_DEVICE_KEY", "cpu") != "cpu":
            raise InputError(f"{self.path}: compiled for {metadata['AOTI_DEVICE_KEY']}; compile it for cpu")
        inputs, outputs = (metadata.get(f"nequip_aoti_{what}", "").split() for what in ("inputs", "outputs"))
        if not inputs or not outputs:
            raise InputError(f"{self.path}: its metadata do not name its inputs and outputs; compile it with nequip "
                             "0.17 or later")
        if unknown := [name for name in inputs if name not in INPUTS]:
            raise InputError(f"{self.path}: needs the inputs {', '.join(unknown)}; rxmdnn gives {', '.join(INPUTS)}: "
                             "compile it with --target pair_allegro, pair_nequip or ase")
        self.inputs = tuple(inputs)

        def call(fields: Fields) -> Fields:
            answer = model(*fields.values())
            return dict(zip(outputs, answer if isinstance(answer, (tuple, list)) else [answer]))

        return call, metadata

    def evaluate(self, pos: np.ndarray, edge_index: np.ndarray, types: np.ndarray, cell: np.ndarray,
                 shift: np.ndarray, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
        """The wanted outputs, float64; what the model does not return is missing. Raises InputError."""
        def real(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(x)).to(self.dtype)

        vectors = pos[edge_index[1]] - pos[edge_index[0]] + shift @ cell
        m = len(vectors)
        fields = {"pos": real(pos), "edge_index": torch.from_numpy(np.ascontiguousarray(edge_index, np.int64)),
                  "atom_types": torch.from_numpy(np.ascontiguousarray(types, np.int64)), "cell": real(cell),
                  "edge_cell_shift": real(shift), "edge_vectors": real(vectors)}
        before = torch.get_num_threads()
        torch.set_num_threads(numba.get_num_threads())  # those of this rank
        try:
            answer = self.call({name: fields[name] for name in self.inputs})
            out = {name: answer[name].detach().double().numpy() for name in wanted if name in answer}
        except Exception as error:  # whatever the code of a foreign file does
            raise InputError(f"{self.path}: the model failed: {_first_line(error)}") from None
        finally:
            torch.set_num_threads(before)
        gradient = ("edge_forces", (m, 3)) if "edge_forces" in out else ("forces", (len(pos), 3))
        for name, shape in (("atomic_energy", (len(pos),)), gradient):
            if name not in out or out[name].size != np.prod(shape):
                given = ", ".join(f"{k} {tuple(v.shape)}" for k, v in answer.items())
                raise InputError(f"{self.path}: must return {name} of {' x '.join(map(str, shape))} numbers; it "
                                 f"returns {given}")
            out[name] = out[name].reshape(shape)
        return out

    def types_of(self, elements: tuple[str, ...]) -> np.ndarray:
        """(n_elements,) int64, type of each element; D and T are hydrogen, unless the model names them.

        Raises InputError for an element that the model does not know.
        """
        types = [e if e in self.names else element_of(e) for e in elements]
        if unknown := [e for e in types if e not in self.names]:
            raise InputError(f"{self.path}: does not know {', '.join(unknown)}; it knows {', '.join(self.names)}")
        return np.array([self.names.index(e) for e in types], np.int64)


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {(lines or [''])[-1][:200]}"


class CompiledLocal:
    """A compiled model whose energy e_i depends on the edges of atom i alone, on any number of ranks.

    Every edge i → j gets an atom j of its own at r_ij from a center at the origin, so that the force on that atom is
    -∂E/∂r_ij. These atoms have no edges, as the copies of other ranks.
    """

    def __init__(self, path: Path, elements: tuple[str, ...]) -> None:
        self._model, self.elements = _Loaded(path), elements
        self._type = self._model.types_of(elements)
        self.cutoff = np.full((len(elements), len(elements)), self._model.r_max)

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """See Potential.compute. Raises InputError if the model fails."""
        n, m = len(edges.first) - 1, len(edges.center)
        if n == 0:
            return np.zeros(0), np.zeros((m, 3))
        # Two more atoms far away, each the other's neighbor: compiled models fail where there is no edge.
        pair = np.array([[0.0, 0.0, 0.0], [0.9 * self._model.r_max, 0.0, 0.0]])
        pos = np.concatenate([np.zeros((n, 3)), edges.r_ij, pair])
        types = self._type[np.concatenate([species[:n], species[edges.neighbor], np.zeros(2, np.int64)])]
        index = np.stack([np.concatenate([edges.center, [n + m, n + m + 1]]),
                          np.concatenate([np.arange(n, n + m), [n + m + 1, n + m]])])
        answer = self._model.evaluate(pos, index, types, 1e4 * np.eye(3), np.zeros((m + 2, 3)),
                                      ("atomic_energy", "forces", "edge_forces"))
        g_ij = answer["edge_forces"][:m].copy() if "edge_forces" in answer else -answer["forces"][n : n + m]
        return answer["atomic_energy"][:n].copy(), g_ij


class CompiledWhole:
    """A compiled model of several layers of message passing, whose energies depend on the neighbors of neighbors: it
    gets all atoms at once, so that it runs on one rank (see engine.whole_forces)."""

    def __init__(self, path: Path, elements: tuple[str, ...]) -> None:
        self._model, self.elements = _Loaded(path), elements
        self._type = self._model.types_of(elements)
        self.cutoff = np.full((len(elements), len(elements)), self._model.r_max)
        self.name = str(path)

    def compute(self, edges: Edges, species: Array) -> tuple[Array, Array]:
        """Not available: the edges of an atom do not determine its energy."""
        raise InputError(f"{self.name}: a model of several layers cannot be a part of a mixture or of a ring polymer")

    def compute_whole(self, cell: Cell, x: np.ndarray, species: np.ndarray, edges: Edges
                      ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See engine.whole_forces.WholePotential."""
        if not len(edges.center):
            raise InputError(f"{self.name}: no two atoms are closer than {self._model.r_max:g} Å; a compiled model "
                             "needs neighbors")
        offset = edges.r_ij - x[edges.neighbor] + x[edges.center]
        answer = self._model.evaluate(x, np.stack([edges.center, edges.neighbor]), self._type[species], cell.h,
                                      np.rint(cell.fractional(offset)), ("atomic_energy", "forces", "virial", "stress"))
        volume = abs(np.linalg.det(cell.h))
        if "virial" in answer:
            virial = answer["virial"].reshape(3, 3)
        else:
            virial = -answer["stress"].reshape(3, 3) * volume if "stress" in answer else np.full((3, 3), np.nan)
        return answer["atomic_energy"], answer["forces"], virial
