"""Which array module an array belongs to: NumPy, or a device's (CuPy) where the engine runs on one."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np


def namespace(x: Any) -> Any:
    """The module whose functions take ``x``."""
    return np if isinstance(x, np.ndarray) else sys.modules[type(x).__module__.partition(".")[0]]


def beside(x: Any, values: np.ndarray) -> Any:
    """A small array of the host where ``x`` lives, so that both may meet in one expression."""
    return values if isinstance(x, np.ndarray) else namespace(x).asarray(values)
