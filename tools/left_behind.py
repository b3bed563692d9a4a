"""What commands have left in a folder: whether its files open, and how they differ from those of another folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any


def content(folder: Path) -> dict[str, Any]:
    """What the files of a folder hold, without times; a fault (text) for a file that does not open."""
    return {str(path.relative_to(folder)): _held(path) for path in sorted(folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")}


def _held(path: Path) -> Any:
    import h5py
    import numpy as np

    name = path.name
    if ".part" in name or name.endswith((".log", ".png")) or name.startswith("tensorboard"):
        return None
    if name.endswith((".h5", ".h5md")):
        found: dict[str, Any] = {}
        _read_by_its_reader(path)
        with h5py.File(path, "r", locking=False) as file:
            def take(key: str, item: Any) -> None:
                if isinstance(item, h5py.Dataset):
                    value = item[()]
                    found[key] = value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else repr(
                        value.tolist() if isinstance(value, np.ndarray) else value)
            file.visititems(take)
            found["attributes"] = repr({key: np.array(value).tolist() for key, value in file.attrs.items()})
        return {key: value for key, value in found.items() if not key.startswith("header_crc32")}
    if name.endswith(".csv"):
        with path.open(newline="", encoding="utf-8") as text:
            rows = list(csv.DictReader(text))
        keep = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row of other length")
        return sorted(map(repr, keep)) if name == "results.csv" else keep
    if name.endswith(".json"):
        return _without_times(json.loads(path.read_text(encoding="utf-8")))
    if name == "failures.xyz":
        from rxmdnn.survival.results import complete_frames

        return sorted(complete_frames(path))
    if name.startswith("trajectory") and name.endswith(".xyz"):
        from rxmdnn.io.xyz_trajectory import frames_of

        data = path.read_bytes()
        return [data[f.start:f.end] for f in frames_of(path)]
    if name.endswith(".safetensors"):
        from rxmdnn.models import model_file

        return {key: array.tobytes() for key, array in model_file.read_arrays(path, "").items()}
    if name.endswith(".pt"):
        from rxmdnn.training.resume import load_checkpoint

        return repr(_without_times(load_checkpoint(path)))
    return path.read_bytes()


def _read_by_its_reader(path: Path) -> None:
    """Raises InputError for a trajectory or a profile that the engine itself does not read."""
    if path.suffix == ".h5md":
        from rxmdnn.io.own_formats import H5Frames

        frames = H5Frames(path)
        try:
            for k in range(len(frames)):
                frames[k]
        finally:
            frames.series.file.close()
    elif path.name == "profile.h5":
        from rxmdnn.io.profile import read_profile

        read_profile(path.parent)


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if "seconds" not in str(k)}
    return [_without_times(v) for v in value] if isinstance(value, (list, tuple)) else value


def unopened(folder: Path) -> str:
    """The first file of a folder that does not open, with the reason; or nothing."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            try:
                _held(path)
            except Exception as error:
                return f"{path.name} does not open: {type(error).__name__}: {error}"
    return ""


def difference(whole: dict[str, Any], other: dict[str, Any]) -> str:
    """How a folder differs from that of the undisturbed run; files kept from before are no difference."""
    extra = [name for name in other if name not in whole and other[name] is not None and "old." not in name]
    for name, value in whole.items():
        if name not in other:
            return f"{name} is missing"
        if value != other[name]:
            if isinstance(value, dict):
                keys = [k for k in value if value[k] != other[name].get(k)]
                return f"{name} differs: {', '.join(keys[:3])}"
            return f"{name} differs"
    return f"{extra[0]} is left" if extra else ""
