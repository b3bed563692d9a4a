"""A measured spectrum beside the computed one, which is scaled to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.analysis.spectra_tables import SpectraTables
from rxmdnn.analysis.tables import write_csv
from rxmdnn.errors import InputError
from rxmdnn.parallel import on_root

UNITS = {"meV": 1.0, "1/cm": MEV_PER_CM}  # meV per unit of energy
FEWEST = 5  # points in common


class Measured(NamedTuple):
    """A measured spectrum: its file; energy (n,) meV, ascending; intensity (n,)."""

    path: Path
    energy: np.ndarray
    intensity: np.ndarray


@dataclass
class Comparison:
    """A measured and a computed spectrum at the measured energies.

    Attributes
    ----------
    what : the computed spectrum, in words
    energy (n,) meV; measured (n,); computed (n,), times ``scale``
    scale : minimizes the sum of squares of the differences
    residual : R = |measured - computed| / |measured|; correlation : of the two, 1 for equal shapes
    """

    what: str
    energy: np.ndarray
    measured: np.ndarray
    computed: np.ndarray
    scale: float
    residual: float
    correlation: float

    @property
    def numbers(self) -> dict[str, Any]:
        """What is printed and written as JSON."""
        return {"compare_with": self.what, "compare_points": len(self.energy), "compare_scale": self.scale,
                "compare_residual": self.residual, "compare_correlation": self.correlation}

    def write(self, folder: Path) -> Path:
        """Write compare.csv; its path."""
        return write_csv(folder / "compare.csv", {"energy_meV": self.energy, "measured": self.measured,
                                                  "computed": self.computed})


def read_measured(comm: MPI.Comm, path: Path, unit: str) -> Measured:
    """The first two columns of a table, of commas or blanks; comments and titles above the numbers are skipped.

    Raises InputError, with the line, for a line that holds no two numbers. Collective.
    """
    def read() -> Measured:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        rows: list[tuple[float, float]] = []
        for number, line in enumerate(lines, 1):
            words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
            if not words:
                continue
            try:
                energy, intensity = map(float, words[:2])
                if not np.isfinite([energy, intensity]).all():
                    raise ValueError
                rows.append((energy, intensity))
            except ValueError:
                if rows:
                    raise InputError(f"{path}:{number}: expected energy and intensity, found "
                                     f"'{line.strip()}'") from None
        if not rows:
            raise InputError(f"{path}: no line with two numbers, energy and intensity")
        table = np.array(sorted(rows))
        return Measured(path, table[:, 0] * UNITS[unit], table[:, 1])

    return on_root(comm, read)


def compare(seen: Measured, results: SpectraTables) -> Comparison:
    """The computed spectrum at the measured energies, with the scale of the least squares Σ (measured - s computed)².

    Computed is the neutron spectrum of hydrogen, all orders and the mean over angles; without hydrogen the density of
    states, weighted for neutrons.

    Raises InputError where the two have fewer than five points in common, or nothing there.
    """
    if results.hydrogen is not None:
        what, x, y = "neutron spectrum", results.hydrogen.columns["energy_meV"], results.hydrogen.columns["all"]
    else:
        what, x, y = "density of states", results.vdos["energy_meV"], results.vdos["neutron_modes_per_cm"]
    common = (seen.energy > max(0.0, float(x[0]))) & (seen.energy <= x[-1])
    if common.sum() < FEWEST:
        raise InputError(f"{seen.path}: {int(common.sum())} of its points lie in the computed spectrum, 0 to "
                         f"{x[-1]:.4g} meV; see --compare-unit and --max")
    energy, intensity = seen.energy[common], seen.intensity[common]
    at = np.interp(energy, x, y)
    if not (at @ at > 0 and intensity @ intensity > 0):
        raise InputError(f"{seen.path}: the measured or the computed intensities are all zero from {energy[0]:.4g} to "
                         f"{energy[-1]:.4g} meV")
    scale = float(at @ intensity / (at @ at))
    residual = float(np.linalg.norm(intensity - scale * at) / np.linalg.norm(intensity))
    flat = min(np.std(at), np.std(intensity)) == 0.0
    return Comparison(what, energy, intensity, scale * at, scale, residual,
                      0.0 if flat else float(np.corrcoef(at, intensity)[0, 1]))
