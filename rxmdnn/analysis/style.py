"""Style and colors of all figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from rxmdnn.files import write_figure

STYLE: Any = {"figure.dpi": 130, "font.size": 9.5, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.6,
         "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 1.2, "legend.frameon": False,
         "axes.formatter.useoffset": False}
BLUE, ORANGE, GREEN, GRAY = "#2166ac", "#d6604d", "#1b7837", "#555555"


def save_figure(figure: Any, path: Path) -> Path:
    """Write and close a figure; its path."""
    write_figure(figure, path)
    plt.close(figure)
    return path
