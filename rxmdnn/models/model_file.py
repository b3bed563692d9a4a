"""Native model files: safetensors (arrays and text, no code), self-describing, written atomically."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rxmdnn.errors import InputError

if TYPE_CHECKING:
    from rxmdnn.models.allegro_network import PairNetwork

FORMAT = "rxmdnn-allegro"
VERSION = 1
MAX_BYTES = 2**31  # a file larger than this is not one of ours
MAX_HEADER = 2**24
BESIDE = ("fidelity.",)  # arrays that are none of the network's


def save_model(path: str | Path, network: PairNetwork, provenance: dict[str, str] | None = None) -> None:
    """Write a network with its configuration and where it comes from.

    Parameters
    ----------
    path : the file; replaced in one step, so a reader never sees half of it
    network : AllegroNetwork or LegacyNetwork; the head says which ("form")
    provenance : what made it (training deck, data, commit, program, ...), names to text; units and date are added
    """
    from safetensors.torch import save

    metadata = {
        "format": FORMAT, "version": str(VERSION), "form": network.form, "units": "Angstrom eV",
        "dtype": str(network.dtype).removeprefix("torch."), "config": json.dumps(network.config.to_dict()),
        "provenance": json.dumps({"date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                                  **(provenance or {})}),
    }
    data = save({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, metadata)
    write_bytes(Path(path), data)


def add_to_model(path: str | Path, out: str | Path, prefix: str, arrays: dict[str, np.ndarray], text: str) -> None:
    """Write a model file again, with arrays beside those of the network (named prefix + name) and a text about them.

    What the file held under this prefix goes. Raises InputError.
    """
    from safetensors.numpy import save

    metadata = read_metadata(path)
    kept = {k: v for k, v in read_arrays(path, "").items() if not k.startswith(prefix)}
    new = {prefix + k: np.ascontiguousarray(v) for k, v in arrays.items()}
    write_bytes(Path(out), save(kept | new, metadata | {prefix.rstrip("."): text}))


def read_arrays(path: str | Path, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a model file whose names begin so, without that beginning. Raises InputError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as f:
            return {k.removeprefix(prefix): f.get_tensor(k) for k in f.keys() if k.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: damaged model file: {str(error).splitlines()[0][:200]}") from None


def write_bytes(path: Path, data: bytes) -> None:
    """Put a model file in its place in one step."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise InputError(f"{path}: cannot write the model: {error.strerror or error}") from None


def read_metadata(path: str | Path) -> dict[str, str]:
    """The text in a model file's head: format, version, form (none: 0.8), units, dtype; config and provenance (JSON).

    Raises
    ------
    InputError : no such file, or not a model file of this program.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as f:
            head = f.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if size > MAX_BYTES or not 2 <= length <= min(MAX_HEADER, size - 8):
                raise InputError(f"{path}: not an rxmdnn model file (or a truncated one); "
                                 "a nequip checkpoint or package needs `rxmdnn import-model` first")
            metadata = json.loads(f.read(length).decode()).get("__metadata__")
    except OSError as error:
        raise InputError(f"{path}: cannot read the model: {error.strerror or error}") from None
    except (ValueError, AttributeError, RecursionError):
        raise InputError(f"{path}: not an rxmdnn model file: its head is damaged") from None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise InputError(f"{path}: a safetensors file, but not an rxmdnn model")
    if metadata.get("version") != str(VERSION):
        raise InputError(f"{path}: format version {str(metadata.get('version'))[:20]}; this program reads {VERSION}")
    return metadata


def load_model(path: str | Path) -> PairNetwork:
    """Read a network of either form, in the precision in which it was written.

    Raises
    ------
    InputError : no such file, or damaged, truncated, or not a model of this program.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, NetworkConfig
    from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork

    metadata = read_metadata(path)
    forms: dict[str, tuple[type[NetworkConfig], Any]] = {
        AllegroNetwork.form: (AllegroConfig, AllegroNetwork), LegacyNetwork.form: (LegacyConfig, LegacyNetwork)}
    form = metadata.get("form", AllegroNetwork.form)
    if form not in forms:
        raise InputError(f"{path}: form {form[:20]!r} of Allegro; this program computes {' and '.join(forms)}")
    config_type, network_type = forms[form]
    dtype = {"float32": torch.float32, "float64": torch.float64}.get(metadata.get("dtype", ""))
    try:
        settings = json.loads(metadata["config"])
        if dtype is None or not isinstance(settings, dict):
            raise ValueError("dtype or config")
        with safe_open(str(path), framework="pt") as f:
            shapes = {name: tuple(f.get_slice(name).get_shape()) for name in f.keys()  # noqa: SIM118
                      if not name.startswith(BESIDE)}
            config = config_type(**settings)
            expected = network_type.shapes(config)
            if shapes != expected:
                odd = sorted(set(shapes.items()) ^ set(expected.items()))[0][0]
                raise InputError(f"{path}: the arrays do not fit the configuration (first: {odd})")
            network = network_type(config, dtype)
            state = {name: f.get_tensor(name) for name in shapes}
        for name, value in network.state_dict().items():
            if state[name].dtype != value.dtype:
                raise InputError(f"{path}: {name} is {state[name].dtype}, not {value.dtype}")
            if not torch.isfinite(state[name]).all():
                raise InputError(f"{path}: {name} holds NaN or infinity")
        network.load_state_dict(state)
    except InputError as error:
        raise InputError(*(f if f.startswith(str(path)) else f"{path}: {f}" for f in error.faults)) from None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: damaged model file: {str(error).splitlines()[0][:200]}") from None
    return network
