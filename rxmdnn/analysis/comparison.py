"""A measured spectrum beside the computed one, which is scaled to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
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
SPELLINGS = {"meV": r"\bmeV\b|_meV\b", "1/cm": r"1/cm\b|\bcm\s*\^?\s*\{?\(?[-−–]\s*1|cm⁻¹|\bwavenumber|_cm\b"}
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
        return write_csv(folder / "compare.csv", {
            "energy_meV": self.energy, "measured": self.measured, "computed": self.computed,
            "wavenumber_cm": self.energy / MEV_PER_CM})


def read_measured(comm: MPI.Comm, path: Path, unit: str | None) -> Measured:
    """The first two columns of a table, of commas or blanks; comments and titles above the numbers are skipped.

    unit : of the energies, a key of UNITS; None: the one that is named in the lines above the numbers

    Raises InputError, with the line, for a line that holds no two numbers, and for energies without a unit. Collective.
    """
    def read() -> Measured:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
        rows: list[tuple[float, float]] = []
        head: list[str] = []
        for number, line in enumerate(lines, 1):
            if not rows:
                head.append(line)
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
        return Measured(path, table[:, 0] * UNITS[unit or stated_unit(path, head)], table[:, 1])

    return on_root(comm, read)


def stated_unit(path: Path, head: Sequence[str]) -> str:
    """The unit of energy, a key of UNITS, that the lines down to the first numbers name, in the title of the first
    column or elsewhere. Raises InputError."""
    for text in ("\n".join(re.split(r"[,;\t]", line)[0] for line in head), "\n".join(head)):
        found = [unit for unit, pattern in SPELLINGS.items() if re.search(pattern, text, re.IGNORECASE)]
        if found:
            break
    if len(found) != 1:
        what = "names two units" if found else "does not name the unit"
        raise InputError(f"{path}: its header {what} of the energies; write a first line such as '# energy (meV), "
                         "intensity' or '# wavenumber (1/cm), intensity', or use --compare-unit")
    return found[0]


def compare(seen: Measured, results: SpectraTables) -> Comparison:
    """The computed spectrum at the measured energies, with the scale of the least squares Σ (measured - s computed)².

    Computed is the spectrum of the instrument, or the neutron spectrum of hydrogen, all orders and the mean over
    angles; without hydrogen the density of states, weighted for neutrons.

    Raises InputError where the two have fewer than five points in common, or nothing there.
    """
    if results.neutron is not None:
        what, x, y = results.neutron.instrument.name, results.neutron.columns["energy_meV"], \
            results.neutron.columns["all"]
    elif results.hydrogen is not None:
        what, x, y = "neutron spectrum", results.hydrogen.columns["energy_meV"], results.hydrogen.columns["all"]
    else:
        what, x, y = "density of states", results.vdos["energy_meV"], results.vdos["neutron_modes_per_cm"]
    common = (seen.energy > 0) & (seen.energy >= x[0]) & (seen.energy <= x[-1])
    if common.sum() < FEWEST:
        raise InputError(f"{seen.path}: {int(common.sum())} of its points lie in the computed spectrum, "
                         f"{x[0]:.4g} to {x[-1]:.4g} meV; see --compare-unit and --max")
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
