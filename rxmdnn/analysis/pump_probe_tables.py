"""Tables and maps of a pump-probe experiment against delay, with errors over replicas, and the files that hold them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.analysis.pump_probe import bragg_and_diffuse, with_errors
from rxmdnn.analysis.pump_probe_displacements import (
    B_PER_U,
    PART_NAMES,
    PARTS,
    fit_isotropic,
    fit_tensor,
    isotropic,
    seen,
)
from rxmdnn.analysis.pump_probe_experiment import Experiment, Points
from rxmdnn.analysis.pump_probe_powder import delta_g
from rxmdnn.analysis.pump_probe_temperature import ratio, temperature
from rxmdnn.analysis.tables import write_csv, write_h5

DR = 0.02  # Å, between the distances of ΔG(r)
NOTHING = 0.04  # of the largest S(Q): where less scatters before time zero, ΔI/I0 says nothing

Table = dict[str, np.ndarray]
UNITS = {"delay": "fs", "q": "Å-1", "r": "Å", "delta_G": "Å-2", "z": "Å"}


@dataclass
class PumpProbeTables:
    """Results of ``conclude``.

    Attributes
    ----------
    numbers : printed and written as JSON; tables : {name: {column_unit: array}}, a CSV file each
    maps : {group: {name: array}}, in delays.h5; notes : for the user
    """

    kinds: tuple[str, ...]
    probe: str
    numbers: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    maps: dict[str, Table] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> list[Path]:
        """Write delays_<name>.csv and delays.h5; their paths."""
        made = [write_csv(folder / f"delays_{name}.csv", t) for name, t in self.tables.items()]
        groups = {name: {k: (v, "") for k, v in t.items()} for name, t in self.tables.items()}
        groups |= {name: {k: (v, UNITS.get(k, "")) for k, v in t.items()} for name, t in self.maps.items()}
        made.append(write_h5(folder / "delays.h5", groups, {"kinds": list(self.kinds), "probe": self.probe,
                                                            "notes": "\n".join(self.notes)}))
        return made


def conclude(e: Experiment) -> PumpProbeTables:
    """Tables, maps and numbers of what was measured."""
    out = PumpProbeTables(e.kinds, e.options.probe, notes=e.notes)
    out.numbers = {"atoms": len(e.index), "replicas": e.replicas, "frames": len(e.axis.delay),
                   "frames_before_zero": int(e.axis.before.sum()), "first_delay_fs": float(e.axis.shown[0]),
                   "last_delay_fs": float(e.axis.shown[-1])}
    if e.peaks is not None:
        out.tables["reflections"] = reflections(e, e.peaks)
        out.tables |= intensities(e, e.peaks)
        last = {k: float(v[-1]) for k, v in out.tables["intensity"].items() if k.startswith("I_")}
        out.numbers |= {f"{k}_last": v for k, v in last.items() if not k.endswith("_error")}
    debye_waller(e, out)
    for name, points in e.lines.items():
        out.maps[f"line_{name}"] = line(e, points)
    for name in e.planes:
        out.maps[f"plane_{name}"] = plane_maps(e, name)
    if e.powder is not None:
        out.maps["powder"] = powder(e)
    if e.temperatures is not None:
        temperatures(e, out)
    if e.excitations is not None:
        excitations(e, out)
    return out


def reflections(e: Experiment, peaks: Points) -> Table:
    """Of each reflection: indices, number of equivalents averaged, |Q|, and I before time zero per unit cell."""
    rows = list(peaks.groups.values())
    start = e.axis.reference(peaks.measured.total.mean(axis=0)) / e.crystal.count**2
    first = np.array([r[0] for r in rows])
    hkl = peaks.hkl[first]
    return {"h": hkl[:, 0], "k": hkl[:, 1], "l": hkl[:, 2], "averaged": np.array([len(r) for r in rows]),
            "q_1_A": np.linalg.norm(peaks.q[first], axis=1), "I0": np.array([start[r].mean() for r in rows])}


def intensities(e: Experiment, peaks: Points) -> dict[str, Table]:
    """I/I0 of <|F|²>, the Bragg part |<F>|² likewise, and the diffuse part per atom, of every reflection."""
    axis, total, amplitude = e.axis, peaks.measured.total, peaks.measured.amplitude
    norm = e.count @ e.amplitudes(peaks.q) ** 2
    tables: dict[str, Table] = {name: {"delay_fs": axis.shown} for name in ("intensity", "bragg", "diffuse")}

    def relative(y: np.ndarray) -> np.ndarray:
        return axis.show(y) / axis.reference(y)

    for name, rows in peaks.groups.items():
        value, error = with_errors(lambda i: relative(i.mean(axis=-1)), total[..., rows])
        tables["intensity"] |= {f"I_{name}": value, f"I_{name}_error": error}
        _, error = with_errors(lambda f: relative((np.abs(f) ** 2).mean(axis=-1)), amplitude[..., rows])
        bragg, diffuse = bragg_and_diffuse(amplitude[..., rows], total[..., rows])
        tables["bragg"] |= {f"I_{name}": relative(bragg.mean(axis=-1)), f"I_{name}_error": error}
        tables["diffuse"][f"S_{name}"] = axis.show((diffuse / norm[rows]).mean(axis=-1))
    return tables


def debye_waller(e: Experiment, out: PumpProbeTables) -> None:
    """Add B = 8π²<u²> of each kind, its change by three ways, and the tensors U."""
    axis, moved = e.axis, e.displaced
    assert moved is not None
    table: Table = {"delay_fs": axis.shown}
    tensors: Table = {"delay_fs": axis.shown}

    def change(u: np.ndarray) -> np.ndarray:
        return axis.show(u) - axis.reference(u)

    for k, kind in enumerate(e.kinds):
        for where, u in (("", moved.lattice[:, :, k]), ("start_", moved.start[:, :, k])):
            value, error = with_errors(axis.show, B_PER_U * isotropic(u))
            table |= {f"B_{where}{kind}_A2": value, f"B_{where}{kind}_error_A2": error}
        direct, error = with_errors(change, B_PER_U * isotropic(moved.lattice[:, :, k]))
        table |= {f"dB_{kind}_A2": direct, f"dB_{kind}_error_A2": error}
        u, error = with_errors(axis.show, moved.lattice[:, :, k])
        for name, (i, j) in zip(PART_NAMES, PARTS):
            tensors |= {f"U{name}_{kind}_A2": u[:, i, j], f"U{name}_{kind}_error_A2": error[:, i, j]}
        _fits(e, k, kind, direct, table, tensors, out)
    out.tables["debye_waller"], out.tables["displacements"] = table, tensors


def _fits(e: Experiment, k: int, kind: str, direct: np.ndarray, table: Table, tensors: Table,
          out: PumpProbeTables) -> None:
    """Add ΔB and ΔU of a kind from -ln(I/I0) = Q·ΔU·Q of its own Bragg intensities |<ρ_a>|²."""
    if e.peaks is None or not e.selected[k]:
        return
    axis = e.axis
    rho = e.peaks.measured.rho[:, :, k]
    use = np.flatnonzero(seen(axis.reference(rho.mean(axis=0)), int(e.count[k])))
    if not len(use):
        return
    q = e.peaks.q[use]

    def relative(f: np.ndarray) -> np.ndarray:
        i = np.abs(f) ** 2
        return axis.show(i) / axis.reference(i)

    value, error = with_errors(lambda f: B_PER_U * fit_isotropic(q, relative(f)), rho[..., use])
    table |= {f"dB_fit_{kind}_A2": value, f"dB_fit_{kind}_error_A2": error}
    late = axis.shown > 0
    if late.any() and np.isfinite(direct[late]).all() and direct[late].any():
        out.numbers[f"fitted_to_direct_dB_{kind}"] = float(value[late] @ direct[late] / (direct[late] @ direct[late]))
    tensor = fit_tensor(q, relative(rho.mean(axis=0)[:, use]))
    if tensor is not None:
        tensors |= {f"dU{name}_fit_{kind}_A2": tensor[:, i, j] for name, (i, j) in zip(PART_NAMES, PARTS)}


def line(e: Experiment, points: Points) -> Table:
    """Maps along a line, per atom: S = <|F|²>/ΣNf², its Bragg and diffuse parts, and the change of S with errors."""
    axis, measured = e.axis, points.measured
    norm = e.count @ e.amplitudes(points.q) ** 2

    def averaged(y: np.ndarray) -> np.ndarray:
        return np.stack([y[..., rows].mean(axis=-1) for rows in points.groups.values()], axis=-1)

    total = averaged(measured.total / norm)
    bragg, diffuse = map(averaged, bragg_and_diffuse(measured.amplitude / np.sqrt(norm), measured.total / norm))
    change, error = with_errors(lambda s: axis.show(s) - axis.reference(s), total)
    return {"delay": axis.shown, "hkl": points.shown, "ends": points.ends,
            "q": np.linalg.norm(e.crystal.q(points.shown), axis=1),
            "S": axis.show(total.mean(axis=0)), "S_before": axis.reference(total.mean(axis=0)),
            "bragg": axis.show(bragg), "diffuse": axis.show(diffuse), "diffuse_before": axis.reference(diffuse),
            "delta_S": change, "delta_S_error": error}


def plane_maps(e: Experiment, name: str) -> Table:
    """Maps on a plane, per atom, (shown, n_up, n_right): S, its Bragg part, and before time zero; NaN at 0 0 0."""
    axis, plane = e.axis, e.planes[name]
    flat = plane.hkl.reshape(-1, 3)
    norm = e.count @ e.amplitudes(e.crystal.q(flat[plane.rows])) ** 2

    def spread(y: np.ndarray) -> np.ndarray:
        out = np.full((*y.shape[:-1], len(flat)), np.nan)
        out[..., plane.rows] = y[..., plane.of] / norm
        return out.reshape(*y.shape[:-1], *plane.hkl.shape[:2])

    total, bragg = plane.measured.total, plane.measured.bragg
    return {"delay": axis.shown, "hkl": plane.hkl, "S": spread(axis.show(total)),
            "S_before": spread(axis.reference(total)), "bragg": spread(axis.show(bragg)),
            "bragg_before": spread(axis.reference(bragg))}


def powder(e: Experiment) -> Table:
    """S(Q, t) of a powder and its change; ΔI/I0, NaN where nothing scatters before; ΔG(r, t)."""
    assert e.powder is not None
    axis, q, s = e.axis, e.powder.q, e.powder.s
    before = axis.reference(s.mean(axis=0))
    change, error = with_errors(lambda y: axis.show(y) - axis.reference(y), s)
    inside = (q >= e.options.q_min) & (q <= e.options.q_max)
    r = np.arange(DR, e.options.r_max + DR / 2, DR)
    scattering = np.where(before > NOTHING * before.max(), before, np.nan)
    return {"delay": axis.shown, "q": q, "S": axis.show(s.mean(axis=0)), "S_before": before, "delta_S": change,
            "delta_S_error": error, "relative": change / scattering, "r": r,
            "delta_G": delta_g(q[inside], change[:, inside], r, e.options.damping),
            "G_before": delta_g(q[inside], before[inside] - 1, r, e.options.damping)}


def temperatures(e: Experiment, out: PumpProbeTables) -> None:
    """Add the temperature of all atoms, of each kind, of slabs, and of atoms that meet a condition, with errors."""
    t = e.temperatures
    assert t is not None

    def of(energy: np.ndarray, freedom: np.ndarray) -> np.ndarray:
        return temperature(e.axis.show(energy), e.axis.show(freedom))

    regions(e, out, "temperature", "T", "_K", of, (t.energy, t.freedom))
    table = out.tables["temperature"]
    if t.where is not None:
        last = 1 + len(t.slabs)
        for name, region in (("others", last), ("where", last + 1)):
            value, error = with_errors(of, t.energy[:, :, region].sum(axis=-1), t.freedom[:, :, region].sum(axis=-1))
            table |= {f"T_{name}_K": value, f"T_{name}_error_K": error}
    whole = [e.axis.reference(y[:, :, 0].sum(axis=-1).mean(axis=0)) for y in (t.energy, t.freedom)]
    out.numbers |= {"T_before_K": float(temperature(*whole)), "T_last_K": float(table["T_all_K"][-1])}


def excitations(e: Experiment, out: PumpProbeTables) -> None:
    """Add the mean excitation of all atoms, of each kind and of slabs, with errors."""
    w = e.excitations
    assert w is not None
    regions(e, out, "excitation", "w", "", lambda a, b: ratio(e.axis.show(a), e.axis.show(b)), (w.weight, w.number))
    out.numbers["excitation_largest"] = float(np.nanmax(out.tables["excitation"]["w_all"]))


def regions(e: Experiment, out: PumpProbeTables, name: str, symbol: str, unit: str, of: Callable[..., np.ndarray],
            samples: tuple[np.ndarray, np.ndarray]) -> None:
    """Add a table of something by kind and, where there are slabs, one and a map of the slabs.

    of : of two samples summed over kinds, (replicas, frames, regions, kinds) each
    """
    table: Table = {"delay_fs": e.axis.shown}
    kinds = [("all", slice(None)), *((k, slice(i, i + 1)) for i, k in enumerate(e.kinds))]
    slabs = e.temperatures.slabs if e.temperatures else e.excitations.slabs if e.excitations else None
    assert slabs is not None
    middle = slabs.middle(e.crystal.cell)
    columns, maps = dict(table), {"delay": e.axis.shown, "z": middle}
    for kind, own in kinds if len(e.kinds) > 1 else kinds[:1]:
        a, b = (s[..., own].sum(axis=-1) for s in samples)
        value, error = with_errors(of, a[:, :, 0], b[:, :, 0])
        table |= {f"{symbol}_{kind}{unit}": value, f"{symbol}_{kind}_error{unit}": error}
        if len(slabs):
            value, error = with_errors(of, a[:, :, 1 : 1 + len(slabs)], b[:, :, 1 : 1 + len(slabs)])
            maps |= {f"{symbol}_{kind}": value, f"{symbol}_{kind}_error": error}
            for k, z in enumerate(middle):
                columns |= {f"{symbol}_{kind}_{z:.1f}A{unit}": value[:, k],
                            f"{symbol}_{kind}_{z:.1f}A_error{unit}": error[:, k]}
    out.tables[name] = table
    if len(slabs):
        out.tables[f"{name}_slabs"], out.maps[f"{name}_slabs"] = columns, maps
