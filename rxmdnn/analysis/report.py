"""What the analysis commands share: arguments read once, tables as CSV, results as HDF5."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import rxmdnn
from rxmdnn.errors import InputError


def write_csv(path: Path, columns: Mapping[str, Any]) -> Path:
    """Columns of one length, numbers with eight digits."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(f"{x:.8g}" if isinstance(x, (float, np.floating)) else x for x in row)
    return path


def write_h5(path: Path, groups: Mapping[str, Mapping[str, tuple[Any, str]]], notes: Mapping[str, Any]) -> Path:
    """{group: {name: (array, unit)}} and attributes of the file."""
    with h5py.File(path, "w") as file:
        file.attrs["creator"] = f"rxmdnn {rxmdnn.__version__}"
        for key, value in notes.items():
            file.attrs[key] = value
        for group, arrays in groups.items():
            for name, (array, unit) in arrays.items():
                file[f"{group}/{name}"] = array
                if unit:
                    file[f"{group}/{name}"].attrs["unit"] = unit
    return path


def write_json(path: Path, values: Any) -> Path:
    """Numbers that are not known (nan) as null."""
    def plain(x: Any) -> Any:
        if isinstance(x, dict):
            return {k: plain(v) for k, v in x.items()}
        if isinstance(x, list):
            return [plain(v) for v in x]
        return None if isinstance(x, float) and not np.isfinite(x) else x

    path.write_text(json.dumps(plain(values), indent=1) + "\n", encoding="utf-8")
    return path


def written(path: Path, error: OSError) -> InputError:
    return InputError(f"{error.filename or path}: cannot be written: {error.strerror or error}")
