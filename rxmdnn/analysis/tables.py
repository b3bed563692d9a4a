"""Result files of the analysis commands: tables as CSV, arrays with units as HDF5."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import rxmdnn
from rxmdnn.files import atomic
from rxmdnn.io.hdf5_file import changing


def write_csv(path: Path, columns: Mapping[str, Any]) -> Path:
    """Write columns of equal length, numbers with eight digits; the path."""
    with atomic(path) as new, open(new, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for row in zip(*columns.values(), strict=True):
            writer.writerow(f"{x:.8g}" if isinstance(x, (float, np.floating)) else x for x in row)
    return path


def write_h5(path: Path, groups: Mapping[str, Mapping[str, tuple[Any, str]]], attributes: Mapping[str, Any]) -> Path:
    """Write {group: {name: (array, unit)}} and attributes of the file; the path."""
    with atomic(path) as new, changing(new, new=True) as file:
        file.attrs["creator"] = f"rxmdnn {rxmdnn.__version__}"
        for key, value in attributes.items():
            file.attrs[key] = value
        for group, arrays in groups.items():
            for name, (array, unit) in arrays.items():
                file[f"{group}/{name}"] = array
                if unit:
                    file[f"{group}/{name}"].attrs["unit"] = unit
    return path
