"""Model files: the native form, safetensors (arrays and text, no code) with the configuration of the network.

Allegro models deployed as TorchScript are taken wherever a native file is: they are converted in memory.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rxmdnn.errors import InputError
from rxmdnn.files import atomic, writing
from rxmdnn.models.checksum import METADATA, is_damaged, with_checksum
from rxmdnn.models.content import DEPLOYED, OTHER, import_command, kind_of, refusal
from rxmdnn.schema import Checked, Item, parse_json, reading

if TYPE_CHECKING:
    from rxmdnn.models.allegro_network import PairNetwork

FORMAT = "rxmdnn-allegro"
VERSION = 1
MAX_BYTES = 2**31  # a larger file is not a model file
MAX_HEADER = 2**24
EXTRA = ("fidelity.",)  # prefixes of arrays that do not belong to the network


def save_model(path: str | Path, network: PairNetwork, provenance: dict[str, str] | None = None) -> None:
    """Write a network with its configuration and its origin.

    Parameters
    ----------
    path : the file; replaced at once, so that a reader never sees a part of it
    network : AllegroNetwork or LegacyNetwork; "form" in the header tells which
    provenance : origin (training deck, data, commit, program, ...), names to text; units and date are added
    """
    from safetensors.torch import save

    metadata = {
        "format": FORMAT, "version": str(VERSION), "form": network.form, "units": "Angstrom eV",
        "dtype": str(network.dtype).removeprefix("torch."), "config": json.dumps(network.config.to_dict()),
        "provenance": json.dumps({"date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                                  **(provenance or {})}),
    }
    data = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, metadata)
    write_bytes(Path(path), with_checksum(data))


def add_to_model(path: str | Path, out: str | Path, prefix: str, arrays: dict[str, np.ndarray], text: str) -> None:
    """Write a model file again, with further arrays (named prefix + name) and a text about them.

    Arrays that the file has under this prefix are dropped. Raises InputError.
    """
    from safetensors.numpy import save

    metadata = native_metadata(path)
    kept = {k: v for k, v in read_arrays(path, "").items() if not k.startswith(prefix)}
    new = {prefix + k: np.ascontiguousarray(v) for k, v in arrays.items()}
    write_bytes(Path(out), with_checksum(save(kept | new, metadata | {prefix.rstrip("."): text})))


def read_arrays(path: str | Path, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a model file whose names begin with a prefix, by the rest of the name. Raises InputError."""
    from safetensors.numpy import load

    with reading(path, "a whole model file"):
        return {k.removeprefix(prefix): v for k, v in _loaded(path, load).items() if k.startswith(prefix)}


def _loaded(path: str | Path, load: Callable[[bytes], dict[str, Any]]) -> dict[str, Any]:
    """The arrays of a native file whose checksum, if it has one, is right. load : of safetensors. Raises InputError."""
    from safetensors import SafetensorError

    native_metadata(path)
    data = Path(path).read_bytes()
    if is_damaged(data, str(path)):
        raise InputError(f"{path}: damaged model file: arrays or settings are not those of its checksum; copy the file "
                         "again")
    try:
        return load(data)
    except SafetensorError as error:
        raise InputError(f"{path}: damaged model file: {str(error).splitlines()[0][:200]}") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a model file at once."""
    with writing(path), atomic(path) as new:
        new.write_bytes(data)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text in the header of a model file: format, version, form (none: 0.8), units, dtype, config, provenance.

    The last two are JSON. A deployed model has only units and provenance.

    Raises
    ------
    InputError : no such file, or not a model file.
    """
    if kind_of(path) == DEPLOYED:
        return {"format": FORMAT, "version": str(VERSION), "units": "Angstrom eV",
                "provenance": json.dumps({"imported from": Path(path).name})}
    return native_metadata(path)


def native_metadata(path: str | Path) -> dict[str, str]:
    """As read_metadata, of a native model file only: one to which arrays and texts can be added."""
    if (kind := kind_of(path)) == DEPLOYED:
        raise InputError(f"{path}: a deployed model, to which nothing can be added; convert it once: "
                         + import_command(path))
    if kind != OTHER:
        raise refusal(path, kind)
    with reading(path, "a model") as checked, open(path, "rb") as file:
        size, start = os.path.getsize(path), file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if size > MAX_BYTES or not 2 <= length <= min(MAX_HEADER, size - 8):
            raise refusal(path, OTHER)
        head = parse_json(file.read(length), path, "an rxmdnn model file: its header is damaged")
        metadata = head.get(METADATA) if isinstance(head, dict) else None
        if metadata is not None:
            checked.entries(metadata, dict.fromkeys(metadata, Item("text")), "header")
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{path}: a safetensors file, but not an rxmdnn model")
    if metadata.get("version") != str(VERSION):
        raise InputError(f"{path}: format version {str(metadata.get('version'))[:20]}; this program reads {VERSION}")
    return metadata


def provenance(path: str | Path) -> dict[str, Any]:
    """The origin of a model, as ``save_model`` wrote it. Raises InputError."""
    text = read_metadata(path).get("provenance", "{}")
    return Checked(path).value("provenance", parse_json(text, path, "a model of known provenance"), Item("dict"))


def atoms_of_training(path: str | Path) -> dict[str, int] | None:
    """Atoms of each element in the training frames of a model; None where the file does not tell. Raises InputError."""
    text = provenance(path).get("atoms")
    if text is None:
        return None
    counts = Checked(path).value("provenance.atoms", parse_json(str(text), path, "a model of known provenance"),
                                 Item("dict"))
    return Checked(path).entries(counts, dict.fromkeys(counts, Item("int", low=0)), "provenance.atoms")


def load_model(path: str | Path) -> PairNetwork:
    """The network of a native file or of a deployed model, of either form, in the precision in which it was written.

    Raises
    ------
    InputError : no such file, or damaged, truncated, or not such a model.
    """
    if kind_of(path) == DEPLOYED:
        from rxmdnn.models.import_nequip import load_deployed

        return load_deployed(Path(path))
    import torch
    from safetensors.torch import load

    from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, NetworkConfig
    from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork

    metadata = native_metadata(path)
    forms: dict[str, tuple[type[NetworkConfig], Any]] = {
        AllegroNetwork.form: (AllegroConfig, AllegroNetwork), LegacyNetwork.form: (LegacyConfig, LegacyNetwork)}
    form = metadata.get("form", AllegroNetwork.form)
    if form not in forms:
        raise InputError(f"{path}: form {form[:20]!r} of Allegro; this program computes {' and '.join(forms)}")
    config_type, network_type = forms[form]
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(metadata.get("dtype", ""))
    try:
        with reading(path, "a whole model file") as checked:
            settings = checked.value("config", parse_json(metadata["config"], path, "a model"), Item("dict"))
            if dtype is None:
                raise checked.fault("dtype", "must be float32 or float64")
            state = {name: value for name, value in _loaded(path, load).items() if not name.startswith(EXTRA)}
            config = config_type(**settings)
            shapes, expected = {name: tuple(v.shape) for name, v in state.items()}, network_type.shapes(config)
            if shapes != expected:
                odd = sorted(set(shapes.items()) ^ set(expected.items()))[0][0]
                raise InputError(f"{path}: the arrays do not fit the configuration (first: {odd})")
            network = network_type(config, dtype)
            for name, value in network.state_dict().items():
                if state[name].dtype != value.dtype:
                    raise InputError(f"{path}: {name} is {state[name].dtype}, not {value.dtype}")
                if not torch.isfinite(state[name]).all():
                    raise InputError(f"{path}: {name} holds NaN or infinity")
            network.load_state_dict(state)
            return network
    except InputError as error:
        raise InputError(*(f if f.startswith(str(path)) else f"{path}: {f}" for f in error.faults)) from None
