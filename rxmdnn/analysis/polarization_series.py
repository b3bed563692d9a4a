"""Local polarization along a trajectory: its mean, its layers with their topological charge, the loop P(E)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.analysis.polarization import Cages, Layers
from rxmdnn.analysis.tables import write_csv, write_h5
from rxmdnn.analysis.topology import topological_charge
from rxmdnn.cell import Cell
from rxmdnn.files import atomic
from rxmdnn.io.frame import small_frame
from rxmdnn.io.series import Series

FRAMES = 32  # read at once
CHARGED = 0.05  # e: charges of cages above it are told


@dataclass
class LocalPolarization:
    """Local polarization of the frames of a run.

    Attributes
    ----------
    time (frames,) ps; step (frames,)
    site (n, 3) float64 : fractional coordinates of the centers in the first frame; names (n,) their elements
    h (frames, 3, 3) Å
    p (frames, n, 3) C/m^2
    layers : grid of the centers; None where they are not on one
    charge (frames, layers) : topological charge of each layer, or None
    normal : axis of the layers, 0 to 2
    notes : for the user
    """

    time: np.ndarray
    step: np.ndarray
    site: np.ndarray
    names: np.ndarray
    h: np.ndarray
    p: np.ndarray
    layers: Layers | None
    charge: np.ndarray | None
    normal: int
    notes: list[str] = field(default_factory=list)

    @property
    def cell(self) -> np.ndarray:
        """(frames, 3) C/m^2, mean over the cages."""
        return self.p.mean(axis=1)

    def numbers(self) -> dict[str, Any]:
        """What is printed."""
        later = self.cell[len(self.cell) // 2:]
        size = np.linalg.norm(self.p[len(self.p) // 2:], axis=-1)
        out: dict[str, Any] = {
            "cages": len(self.site), "frames": len(self.time), "polarization_first_C_m2": self.cell[0].tolist(),
            "polarization_last_C_m2": self.cell[-1].tolist(), "polarization_later_half_C_m2": later.mean(0).tolist(),
            "local_size_later_half_C_m2": float(size.mean())}
        if self.charge is not None:
            out["topological_charge_last"] = self.charge[-1].tolist()
        return out

    def write(self, folder: Path) -> list[Path]:
        """Write polarization.csv, topological_charge.csv, polarization.h5 and polarization.xyz; their paths."""
        columns: dict[str, Any] = {"time_ps": self.time, "step": self.step}
        columns |= {f"polarization_{a}_C_m2": self.cell[:, k] for k, a in enumerate("xyz")}
        made = [write_csv(folder / "polarization.csv", columns)]
        arrays: dict[str, tuple[Any, str]] = {
            "time": (self.time, "ps"), "step": (self.step, ""), "site": (self.site, ""), "edges": (self.h, "Angstrom"),
            "polarization": (self.p, "C m-2")}
        if self.charge is not None:
            each = {f"layer_{k}": q for k, q in enumerate(self.charge.T)}
            made.append(write_csv(folder / "topological_charge.csv", {"time_ps": self.time, **each}))
            arrays["topological_charge"] = (self.charge, "")
        made.append(write_h5(folder / "polarization.h5", {"cages": arrays}, {"normal": "abc"[self.normal]}))
        made.append(self._write_xyz(folder / "polarization.xyz"))
        return made

    def _write_xyz(self, path: Path) -> Path:
        """Centers with the column polarization (C/m^2), a vector for OVITO, of every frame."""
        with atomic(path) as new, open(new, "w", encoding="utf-8") as file:
            for time, h, p in zip(self.time, self.h, self.p):
                file.write(small_frame(self.names, self.site @ h, Cell(h), {"polarization": (p, ".6f")},
                                       {"time": time, "time_unit": "ps"}))
        return path


def local_polarization(series: Series, cages: Cages, z: np.ndarray, rows: np.ndarray, normal: int = 2,
                       reference: np.ndarray | None = None) -> LocalPolarization:
    """The local polarization of frames of a trajectory.

    Parameters
    ----------
    z : (atoms, 3, 3) charges, e
    rows : frames
    normal : axis of the layers, 0 to 2
    reference : (atoms, 3) fractional coordinates from which displacements are counted, their mean over all atoms
        removed; None: cages symmetric about their centers
    """
    h = np.array([series.cell(int(k)).h for k in rows])
    parts = []
    for at in range(0, len(rows), FRAMES):
        part, edges = rows[at:at + FRAMES], h[at:at + FRAMES]
        s = np.einsum("fad,fdc->fac", series.read("x", part), np.linalg.inv(edges))
        if reference is None:
            parts.append(cages.polarization(s, edges, z))
        else:
            moved = s - reference - np.round(s - reference)
            u = np.einsum("fac,fcd->fad", moved - moved.mean(axis=1, keepdims=True), edges)
            parts.append(cages.from_reference(u, edges, z))
    p = np.concatenate(parts)
    site = (series.read("x", rows[:1]) @ np.linalg.inv(h[0]))[0, cages.center]
    layers = Layers.of(site if reference is None else reference[cages.center], h[0])
    charge = None
    if layers is not None:
        hand = np.sign(np.linalg.det(h))[:, None]  # of the cell vectors
        charge = np.round(hand * topological_charge(in_layers(layers.on_grid(p), normal)), 9) + 0.0
    return LocalPolarization(series.time[rows] / 1000.0, series.step[rows], site, series.names[cages.center], h, p,
                             layers, charge, normal, _notes(cages, z, layers, reference))


def in_layers(on_grid: np.ndarray, normal: int) -> np.ndarray:
    """(..., layers, n1, n2, 3) of (..., na, nb, nc, 3): the axes of a layer are right-handed with its normal."""
    first = on_grid.ndim - 4
    axes = [first + (normal + k) % 3 for k in range(3)]
    return on_grid.transpose(*range(first), *axes, on_grid.ndim - 1)


def _notes(cages: Cages, z: np.ndarray, layers: Layers | None, reference: np.ndarray | None) -> list[str]:
    notes = []
    largest = float(np.abs(cages.charge(z)).max())
    if reference is None and largest > CHARGED:
        notes.append(f"cages have charges of up to {largest:.3g} e, which their centers are given the opposite of; "
                     "--reference FILE counts displacements from a structure instead")
    if outside := int((cages.weight == 0).sum()):
        notes.append(f"{outside} atoms belong to no cage and are left out")
    if layers is None:
        notes.append("the centers are not on a grid along the cell vectors: no layers, no topological charge")
    return notes


# ---------------------------------------------------------------------- loop
@dataclass(frozen=True)
class Loop:
    """P(E) of a run. field, polarization (rows,), V/Å and C/m^2, along axis 0 to 2; absolute : not only P - P(0)."""

    axis: int
    time: np.ndarray
    field: np.ndarray
    polarization: np.ndarray
    absolute: bool

    def numbers(self) -> dict[str, Any]:
        """Fields where P changes its sign, V/Å, and P where E does, C/m^2."""
        e, p = self.field, self.polarization
        out: dict[str, Any] = {"loop_axis": "xyz"[self.axis], "largest_field_V_A": float(np.abs(e).max())}
        if self.absolute:
            out["fields_at_zero_polarization_V_A"] = _crossings(p, e)
        out["polarizations_at_zero_field_C_m2"] = _crossings(e, p)
        return out


def _crossings(a: np.ndarray, b: np.ndarray, width: int = 5) -> list[float]:
    """Values of b where the running mean of a changes its sign."""
    if len(a) < 2 * width:
        return []
    kernel = np.ones(width) / width
    a, b = np.convolve(a, kernel, "valid"), np.convolve(b, kernel, "valid")
    at = np.flatnonzero(a[:-1] * a[1:] < 0)
    return [float(b[k] + (b[k + 1] - b[k]) * a[k] / (a[k] - a[k + 1])) for k in at]


def loop_of(energies: Mapping[str, np.ndarray], local: LocalPolarization | None = None) -> Loop | None:
    """The loop along the axis of the largest field of energies.csv; None where no field acted.

    local : gives the absolute polarization, by the frames that have a row in energies.csv
    """
    fields = [energies.get(f"field_{a}_V_A") for a in "xyz"]
    if not energies or any(f is None for f in fields):
        return None
    e = np.nan_to_num(np.array(fields, float))
    axis = int(np.argmax(np.abs(e).max(axis=1)))
    p = np.array(energies[f"polarization_{'xyz'[axis]}_C_m2"])
    good = np.isfinite(p)
    if not e[axis].any() or not good.any():
        return None
    shift, absolute = 0.0, False
    if local is not None:
        _, ours, theirs = np.intersect1d(local.step, energies["step"][good].astype(np.int64), return_indices=True)
        if len(ours):
            shift, absolute = float((local.cell[ours, axis] - p[good][theirs]).mean()), True
    return Loop(axis, energies["time_fs"][good] / 1000.0, e[axis, good], p[good] + shift, absolute)


