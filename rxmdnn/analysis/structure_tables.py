"""Tables and numbers of ``rxmdnn structure``, and the files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.analysis import diffraction, scatterers
from rxmdnn.analysis.displacements import Displacements
from rxmdnn.analysis.structure import HYDROGEN, Bonds, Radial, moments
from rxmdnn.analysis.structure_averages import StructureAverages, spread
from rxmdnn.analysis.tables import write_csv, write_h5

TRAVELLED = 4.0  # Å²: a smaller mean-square displacement is a motion about a fixed position
NOT_DIFFUSIVE = 0.25  # deviation from t^1 in the growth of the mean-square displacement

Numbers = dict[str, Any]
Table = dict[str, np.ndarray]


@dataclass
class StructureTables:
    """Results of ``conclude``.

    Attributes
    ----------
    kinds : names
    numbers : what is printed and written as JSON; tables : {name: {column: array}}, a CSV file each
    dynamic : of ``dynamic.dynamic_structure``, or None; notes : warnings for the user
    """

    kinds: tuple[str, ...]
    numbers: Numbers
    tables: dict[str, Table]
    dynamic: dict[str, np.ndarray] | None
    notes: list[str]

    def write(self, folder: Path) -> list[Path]:
        """Write one CSV file per table, and structure.h5; their paths."""
        made = [write_csv(folder / f"{name}.csv", t) for name, t in self.tables.items()]
        groups = {name: {k: (v, "") for k, v in t.items()} for name, t in self.tables.items()}
        if self.dynamic is not None:
            units = {"q": "Å-1", "energy": "meV", "time": "fs"}
            groups["dynamic"] = {k: (v, units.get(k, "fs" if k.startswith("S") else ""))
                                 for k, v in self.dynamic.items()}
        made.append(write_h5(folder / "structure.h5", groups,
                             {"kinds": list(self.kinds), "notes": "\n".join(self.notes)}))
        return made


def conclude(averages: StructureAverages, moved: Sequence[Displacements], centroids: Sequence[Displacements],
             kinds: tuple[str, ...], isotopes: Sequence[str], probe: str, frames: int,
             dynamic: dict[str, np.ndarray] | None = None, notes: Sequence[str] = ()) -> StructureTables:
    """Tables and numbers of what was accumulated.

    Parameters
    ----------
    moved : of each trajectory, for <u²> and Bragg intensities; centroids : for the motion in time
    isotopes : of each kind, that scatters; probe : of scatterers.PROBES, for the decay of intensities in time
    frames : of all trajectories; notes : those of the command, which come first
    """
    radial, bonds = averages.radial, averages.bonds
    numbers: Numbers = {"atoms": len(averages.index), "frames": frames, "frames_of_g": radial.frames}
    tables: dict[str, Table] = {"gr": gr_table(radial)}
    numbers |= first_shells(radial)
    for name, table, more in (*bond_tables(bonds), *hydrogen_bonds(bonds, radial, kinds)):
        tables[name] = table
        numbers |= more
    for i, k in enumerate(kinds):
        numbers[f"u_squared_{k}_A2"] = float(np.mean([m.u_sq[i] for m in moved]))
        numbers[f"u_squared_{k}_error_A2"] = float(np.mean([m.u_sq_error[i] for m in moved]) / np.sqrt(len(moved)))
    notes = list(notes)
    timed = [m for m in centroids if m.lag is not None]
    if timed:
        tables["msd"] = msd_table(timed, kinds)
        for i, k in enumerate(kinds):
            more, note = diffusion(timed, i, k, float(tables["msd"][f"msd_{k}_A2"].max()))
            numbers |= more
            notes += note
    if averages.static is not None:
        tables["static"] = static_table(averages.static, isotopes)
    if len(averages.q):
        still = still_densities(averages, moved)
        tables["bragg"] = bragg_table(averages, moved, still, isotopes)
        tables["bragg_time"] = bragg_decay(averages, moved[0], still[0], kinds, isotopes, probe)
    return StructureTables(kinds, numbers, tables, dynamic, notes)


def gr_table(radial: Radial) -> Table:
    """g(r) and coordination numbers of each pair."""
    return {"r_A": radial.r, **{f"g_{k}": v for k, v in radial.g.items()},
            **{f"n_{k}": v for k, v in radial.coordination.items()}}


def first_shells(radial: Radial) -> Numbers:
    """Of each pair: position of the highest peak of g(r), and the neighbors up to the lowest point after it."""
    out: Numbers = {}
    coordination = radial.coordination
    for k, v in radial.g.items():
        if v.any():
            top = int(np.argmax(v))
            out[f"peak_{k}_A"] = float(radial.r[top])
            dip = top + int(np.argmin(v[top:]))
            out[f"neighbors_{k}"] = float(coordination[k][dip])
            out[f"neighbors_{k}_within_A"] = float(radial.edges[dip + 1])
    return out


def bond_tables(bonds: Bonds) -> list[tuple[str, Table, Numbers]]:
    """Name, densities and numbers of the bond lengths and of the bond angles, where there are any."""
    out = []
    for label, table, edges, unit in (("length", bonds.length, Bonds.LENGTH, "A"),
                                      ("angle", bonds.angle, Bonds.ANGLE, "deg")):
        table = {k: v for k, v in table.items() if v.any()}  # bonds longer than the histogram are in none of its bins
        if table:
            step, numbers = edges[1] - edges[0], {}
            for k, v in table.items():
                numbers[f"{label}_{k}_{unit}"], numbers[f"{label}_{k}_std_{unit}"] = moments(v, edges)
            out.append((f"bond_{label}", {f"{label}_{unit}": 0.5 * (edges[1:] + edges[:-1]),
                                          **{k: v / (v.sum() * step) for k, v in table.items()}}, numbers))
    return out


def hydrogen_bonds(bonds: Bonds, radial: Radial, kinds: Sequence[str]) -> list[tuple[str, Table, Numbers]]:
    """Name, histogram and number of the hydrogen bonds, where there are any."""
    if not bonds.joint.any():
        return []
    n_hydrogen = sum(int(radial.count[i]) for i, k in enumerate(kinds) if k in HYDROGEN)
    straight = bonds.joint[:50, 40:].sum()  # up to 2.7 Å, from 120 degrees
    far, bend = (0.5 * (e[1:] + e[:-1]) for e in (Bonds.FAR, Bonds.BEND))
    return [("hydrogen_bonds", {"distance_A": np.repeat(far, 60), "angle_deg": np.tile(bend, 60),
                                "per_frame": bonds.joint.ravel() / bonds.frames},
             {"hydrogen_bonds_a_hydrogen": float(straight / (bonds.frames * n_hydrogen))})]


def msd_table(timed: Sequence[Displacements], kinds: Sequence[str]) -> Table:
    """Mean-square displacement of each kind, averaged over trajectories, up to the shortest of their lags."""
    lag = min((m.lag for m in timed if m.lag is not None), key=len)
    return {"time_fs": lag, **{f"msd_{k}_A2": np.mean([m.msd[i, :len(lag)] for m in timed], axis=0)
                               for i, k in enumerate(kinds)}}


def diffusion(timed: Sequence[Displacements], i: int, kind: str, travelled: float) -> tuple[Numbers, list[str]]:
    """Exponent and diffusion coefficient of kind number ``i``; or a note, where it does not diffuse.

    travelled : Å², the largest mean-square displacement
    """
    power = float(np.mean([m.exponent[i] for m in timed]))
    out: Numbers = {f"msd_exponent_{kind}": power}
    if not (abs(power - 1) < NOT_DIFFUSIVE and travelled > TRAVELLED):
        grows = ("is not known at enough times" if np.isnan(power) else f"grows as t^{power:.2f}, not as t"
                 if not abs(power - 1) < NOT_DIFFUSIVE else f"is {travelled:.2g} Å², a motion about a fixed position")
        return out, [f"{kind}: no diffusion coefficient: its mean-square displacement {grows}; "
                     "a solid, or too short a run"]
    out[f"diffusion_{kind}_cm2_s"] = 0.1 * float(np.mean([m.diffusion[i] for m in timed]))
    out[f"diffusion_{kind}_error_cm2_s"] = 0.1 * float(
        np.sqrt(np.sum([m.diffusion_error[i] ** 2 for m in timed])) / len(timed))
    return out, []


def static_table(static: diffraction.StaticFactors, isotopes: Sequence[str]) -> Table:
    """Total structure factors of each probe, and the partial ones."""
    columns: Table = {}
    for probe in scatterers.PROBES:
        columns["q_1_A"], columns[probe] = static.shells(probe, isotopes)
    return columns | {k: v for k, v in static.partial().items() if k != "q"}


def still_densities(averages: StructureAverages, moved: Sequence[Displacements]) -> list[np.ndarray]:
    """(kinds, m) ρ_a(q) of each trajectory with the atoms at rest at their mean positions."""
    return [diffraction.densities(m.cell.fractional(m.mean), averages.index, len(averages.radial.elements),
                                  averages.hkl * averages.cells) for m in moved]


def bragg_table(averages: StructureAverages, moved: Sequence[Displacements], still: Sequence[np.ndarray],
                isotopes: Sequence[str]) -> Table:
    """Of each reflection and probe: mean intensity I; I0, of atoms at rest; and I0 with Debye-Waller factors."""
    cells, hkl, q = int(np.prod(averages.cells)), averages.hkl, averages.q
    table: Table = {"h": hkl[:, 0], "k": hkl[:, 1], "l": hkl[:, 2], "q_1_A": q}
    for probe in scatterers.PROBES:
        f = scatterers.amplitudes(probe, isotopes, q)
        table[f"{probe}_I"] = np.mean([diffraction.intensities(b, f, cells).mean(axis=0) for b in averages.bragg],
                                      axis=0)
        table[f"{probe}_I0"] = np.mean([diffraction.intensities(r, f, cells) for r in still], axis=0)
        table[f"{probe}_debye_waller"] = np.mean(
            [diffraction.debye_waller(r, f, q, m.u_sq, cells) for r, m in zip(still, moved)], axis=0)
    return table


def bragg_decay(averages: StructureAverages, moved: Displacements, still: np.ndarray, kinds: Sequence[str],
                isotopes: Sequence[str], probe: str) -> Table:
    """I/I_0 of the strong reflections in time, and the displacements, of the first trajectory."""
    cells = int(np.prod(averages.cells))
    f = scatterers.amplitudes(probe, isotopes, averages.q)
    start = diffraction.intensities(still, f, cells)
    strong = start > 1e-3 * start.max()
    decay = diffraction.intensities(averages.bragg[0], f, cells)[:, strong] / start[strong]
    times = averages.time[0]
    rows = spread(moved.u_sq_time.shape[1], len(times))
    columns: Table = {"time_fs": times}
    columns |= {f"u_squared_{k}_A2": moved.u_sq_time[i, rows] for i, k in enumerate(kinds)}
    columns |= {"I_{}_{}_{}".format(*h): decay[:, k] for k, h in enumerate(averages.hkl[strong])}
    return columns
