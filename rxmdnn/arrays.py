"""The array module that an array belongs to: NumPy, or that of a device (CuPy) where the engine runs on one."""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np

# An array of NumPy, or of the device (CuPy) on which the engine runs. It is Any, since CuPy need not be installed and
# its arrays share no base class with those of NumPy; docstrings give shape, dtype and unit.
Array: TypeAlias = Any


def namespace(x: Array) -> Any:
    """The module (NumPy, or CuPy) whose functions take ``x``."""
    return np if isinstance(x, np.ndarray) else sys.modules[type(x).__module__.partition(".")[0]]


def to_device_of(x: Array, values: np.ndarray) -> Array:
    """A small array of the host, moved to where ``x`` lives, so that both can be used in one expression."""
    return values if isinstance(x, np.ndarray) else namespace(x).asarray(values)
