"""``rxmdnn structure RUN...``: where atoms are, in space and in diffraction, and how far they go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn import backend as backends
from rxmdnn.analysis import diffraction, report, scatterers
from rxmdnn.analysis.spectra import kinds_of
from rxmdnn.analysis.structure import Bonds, Displacements, Radial, half_width, moments, spread
from rxmdnn.commands.arguments import out_folder, parse, positive, run_arguments
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series, open_all, with_beads
from rxmdnn.parallel import AgreedError, on_root, together

TRAVELLED = 4.0  # Å²: less is no more than a motion in place
NOT_DIFFUSIVE = 0.25  # from t^1 in the growth of the mean-square displacement


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("rxmdnn structure", description="g(r) and coordination, structure factors and Bragg "
                                "peaks for neutrons, x-rays and electrons, bonds, angles, hydrogen bonds, mean-square "
                                "displacements and diffusion.")
    run_arguments(p)
    p.add_argument("--frames", type=int, default=200, help="g(r), bonds and diffraction from at most so many frames")
    p.add_argument("--rmax", type=float, default=10.0, metavar="A", help="g(r) up to, Å, and half the cell")
    p.add_argument("--qmax", type=float, default=10.0, metavar="1/A", help="structure factors up to; 0: none")
    p.add_argument("--cells", type=int, nargs=3, metavar=("NX", "NY", "NZ"), help="unit cells along a, b, c of the "
                   "run: adds Bragg intensities of the unit cell")
    p.add_argument("--hkl", type=int, nargs="+", metavar="H K L", help="reflections, three numbers each (default: all "
                   "h >= k >= l >= 0 with h² + k² + l² up to 16)")
    p.add_argument("--probe", choices=scatterers.PROBES, default="electron", help="of the decay in time")
    p.add_argument("--isotope", action="append", default=[], metavar="H=D", help="scatter neutrons as this isotope")
    p.add_argument("--dynamic", action="store_true", help="also the dynamic structure factor S(q, ω), by dynasor")
    p.add_argument("--dynamic-qmax", type=float, default=3.0, metavar="1/A", help="its largest wave vector")
    p.add_argument("--window", type=float, default=1.0, metavar="PS", help="its longest time difference")
    return p


@dataclass
class Found:
    """What frames add up to."""

    radial: Radial
    bonds: Bonds
    static: diffraction.StaticFactors | None
    hkl: np.ndarray
    q: np.ndarray
    bragg: list[np.ndarray] = field(default_factory=list)  # of each run: (frames, kinds, reflections) ρ
    time: list[np.ndarray] = field(default_factory=list)
    moved: list[Displacements] = field(default_factory=list)
    centroids: list[Displacements] = field(default_factory=list)  # whose motion in time is shown


def main(argv: Sequence[str], comm: MPI.Comm = MPI.COMM_SELF) -> None:
    """Write structure.h5, tables as CSV and pictures; print what they show."""
    a = parse(parser(), argv, comm)
    faults: list[str] = []
    positive(faults, "structure", a, "frames", "rmax", "window", "dynamic_qmax")
    if a.qmax < 0:
        faults.append("structure: --qmax: must not be negative")
    if a.hkl and (len(a.hkl) % 3 or not a.cells):
        faults.append("structure: --hkl: write three numbers a reflection, and the run's unit cells as --cells NX NY "
                      "NZ")
    if a.cells and min(a.cells) < 1:
        faults.append("structure: --cells: must be above zero")
    if faults:
        raise AgreedError(*faults)
    with together(comm):
        beads = with_beads(a.run)
        series = open_all(beads, a.start, a.stop)
        # structure is an average over beads, motion in time is the centroids'
        centroids = series if len(beads) == len(a.run) else open_all(a.run, a.start, a.stop)
        kinds, index, _ = kinds_of(series[0].names, series[0].mass)
        isotopes = scatterers.replaced(kinds, a.isotope)
        intervals, notes = _intervals(centroids)
        if centroids is not series:
            notes.append(f"averages over {len(beads)} beads; displacements in time and --dynamic are the centroids'")
        if a.dynamic and intervals[0] is None:
            raise InputError(f"--dynamic: {notes[0]}")
        found = prepare(series[0], kinds, index, a)
    moving = []
    quiet = comm.rank > 0 or not sys.stderr.isatty()
    for s, dt in zip(series, intervals if centroids is series else [None] * len(series)):
        moving.append(Displacements(comm, s, index, len(kinds), dt))
    found.centroids = moving
    if centroids is not series:
        found.centroids = [Displacements(comm, s, index, len(kinds), dt) for s, dt in zip(centroids, intervals)]
    accumulate(comm, series, index, found, a.frames, a.cells, quiet)
    found.moved = moving
    dynamic = None
    if a.dynamic:
        from rxmdnn.analysis.dynamic import dynamic_structure

        dt = float(intervals[0] or 1.0)
        window = min(round(1000 * a.window / dt), len(centroids[0].time) - 1)
        with together(comm):
            if window < 4:
                raise InputError(f"structure: --window {a.window:g} ps is {window} frames; write frames more often, or "
                                 "ask for a longer one")
        dynamic = dynamic_structure(comm, centroids[0], kinds, index, dt, a.dynamic_qmax, window)
    on_root(comm, lambda: finish(found, kinds, isotopes, series, dynamic, notes, a))


def _intervals(series: Sequence[Series]) -> tuple[list[float | None], list[str]]:
    """fs between the frames of each trajectory; None, and a note, where there is no such thing."""
    out: list[float | None] = []
    notes = []
    for s in series:
        try:
            out.append(s.interval())
        except InputError as error:
            out.append(None)
            notes.append(f"no displacement in time: {error}")
    return out, notes


def prepare(first: Series, kinds: tuple[str, ...], index: np.ndarray, a: argparse.Namespace) -> Found:
    cell = first.cell(0)
    count = np.bincount(index)
    static = None
    if a.qmax and cell.pbc.all():
        hkl, q = diffraction.wave_vectors(cell, a.qmax, 40)
        if len(q):
            static = diffraction.StaticFactors(kinds, count, hkl, q)
    hkl, q = np.zeros((0, 3), np.int64), np.zeros(0)
    if a.cells:
        hkl = np.array(a.hkl).reshape(-1, 3) if a.hkl else diffraction.reflections()
        q = np.linalg.norm(hkl * np.array(a.cells) @ (2 * np.pi * cell.inverse.T), axis=1)
        if not (q > 0).all():
            raise InputError("structure: --hkl: 0 0 0 is no reflection")
    names = np.array(kinds)[index]
    return Found(Radial(kinds, index, min(a.rmax, half_width(cell))), Bonds(names), static, hkl, q)


def accumulate(comm: MPI.Comm, series: Sequence[Series], index: np.ndarray, found: Found, most: int,
               unit_cells: Sequence[int] | None, quiet: bool) -> None:
    """g(r), bonds, structure factors and Bragg amplitudes, frames shared out among the ranks."""
    backend, cells = backends.make("cpu"), np.array(unit_cells or (1, 1, 1))
    n_kinds, radial, bonds = len(found.radial.elements), found.radial, found.bonds
    reach = max(radial.r_max, bonds.reach)
    for s in series:
        rows = spread(len(s.time), most)
        bragg = np.zeros((len(rows), n_kinds, len(found.q)), complex)
        lo, hi = block(len(rows), comm.size, comm.rank)
        with together(comm):
            for k in tqdm(range(lo, hi), unit="frame", disable=quiet):
                x, cell = s.read("x", [int(rows[k])])[0].astype(float), s.cell(int(rows[k]))
                i, j, S = pairs(backend, x, cell, reach)
                r_ij = x[j] + S @ cell.h - x[i]
                d = np.linalg.norm(r_ij, axis=1)
                near = d < bonds.reach
                bonds.add(i[near], j[near], r_ij[near], d[near])
                near = d < radial.r_max
                radial.add(i[near], j[near], d[near], cell.volume)
                fractional = cell.fractional(x)
                if found.static is not None:
                    found.static.add(diffraction.densities(fractional, index, n_kinds, found.static.hkl))
                if len(found.q):
                    bragg[k] = diffraction.densities(fractional, index, n_kinds, found.hkl * cells)
        comm.Allreduce(MPI.IN_PLACE, bragg)
        found.bragg.append(bragg)
        found.time.append(s.time[rows])
    for array in (radial.sums, radial.density, *([found.static.sums] if found.static else [])):
        comm.Allreduce(MPI.IN_PLACE, array)
    radial.frames = comm.allreduce(radial.frames)
    if found.static:
        found.static.frames = comm.allreduce(found.static.frames)
    bonds.gather(comm)


def finish(found: Found, kinds: tuple[str, ...], isotopes: list[str], series: Sequence[Series],
           dynamic: dict[str, np.ndarray] | None, notes: list[str], a: argparse.Namespace) -> None:
    """Tables, files and pictures, on one rank."""
    from rxmdnn.analysis import figures

    folder = out_folder(a)
    moved, radial, bonds = found.moved, found.radial, found.bonds
    out: dict[str, Any] = {"atoms": len(series[0].names), "frames": sum(len(s.time) for s in series),
                           "frames_of_g": radial.frames}
    tables: dict[str, dict[str, Any]] = {}
    g, coordination = radial.g, radial.coordination
    tables["gr"] = {"r_A": radial.r, **{f"g_{k}": v for k, v in g.items()},
                    **{f"n_{k}": v for k, v in coordination.items()}}
    for k, v in g.items():
        if v.any():
            top = int(np.argmax(v))
            out[f"peak_{k}_A"] = float(radial.r[top])
            dip = top + int(np.argmin(v[top:]))
            out[f"neighbors_{k}"] = float(coordination[k][dip])
            out[f"neighbors_{k}_within_A"] = float(radial.edges[dip + 1])
    for label, table, edges, unit in (("length", bonds.length, Bonds.LENGTH, "A"),
                                      ("angle", bonds.angle, Bonds.ANGLE, "deg")):
        if table:
            step = edges[1] - edges[0]
            tables[f"bond_{label}"] = {f"{label}_{unit}": 0.5 * (edges[1:] + edges[:-1]),
                                       **{k: v / (v.sum() * step) for k, v in table.items()}}
            for k, v in table.items():
                out[f"{label}_{k}_{unit}"], out[f"{label}_{k}_std_{unit}"] = moments(v, edges)
    n_hydrogen = sum(int(radial.count[i]) for i, k in enumerate(kinds) if k in ("H", "D", "T"))
    if bonds.joint.any():
        straight = bonds.joint[:50, 40:].sum()  # up to 2.7 Å, from 120 degrees
        out["hydrogen_bonds_a_hydrogen"] = float(straight / (bonds.frames * n_hydrogen))
        far, bend = (0.5 * (e[1:] + e[:-1]) for e in (Bonds.FAR, Bonds.BEND))
        tables["hydrogen_bonds"] = {"distance_A": np.repeat(far, 60), "angle_deg": np.tile(bend, 60),
                                    "per_frame": bonds.joint.ravel() / bonds.frames}
    for i, k in enumerate(kinds):
        out[f"u_squared_{k}_A2"] = float(np.mean([m.u_sq[i] for m in moved]))
        out[f"u_squared_{k}_error_A2"] = float(np.mean([m.u_sq_error[i] for m in moved]) / np.sqrt(len(moved)))
    timed = [m for m in found.centroids if m.lag is not None]
    if timed:
        lag = min((m.lag for m in timed if m.lag is not None), key=len)
        tables["msd"] = {"time_fs": lag}
        for i, k in enumerate(kinds):
            tables["msd"][f"msd_{k}_A2"] = np.mean([m.msd[i, :len(lag)] for m in timed], axis=0)
            power = float(np.mean([m.exponent[i] for m in timed]))
            out[f"msd_exponent_{k}"] = power
            travelled = float(tables["msd"][f"msd_{k}_A2"].max())
            if not (abs(power - 1) < NOT_DIFFUSIVE and travelled > TRAVELLED):
                grows = ("is not known at enough times" if np.isnan(power) else f"grows as t^{power:.2f}, not as t"
                         if not abs(power - 1) < NOT_DIFFUSIVE else f"is {travelled:.2g} Å², a motion in place")
                notes.append(f"{k}: no diffusion coefficient: its mean-square displacement {grows}; "
                             "a solid, or too short a run")
                continue
            out[f"diffusion_{k}_cm2_s"] = 0.1 * float(np.mean([m.diffusion[i] for m in timed]))
            out[f"diffusion_{k}_error_cm2_s"] = 0.1 * float(
                np.sqrt(np.sum([m.diffusion_error[i] ** 2 for m in timed])) / len(timed))
    if found.static is not None:
        columns: dict[str, Any] = {}
        for probe in scatterers.PROBES:
            columns["q_1_A"], columns[probe] = found.static.shells(probe, isotopes)
        partial = found.static.partial()
        columns |= {k: v for k, v in partial.items() if k != "q"}
        tables["static"] = columns
    if len(found.q):
        tables["bragg"], tables["bragg_time"] = bragg_tables(found, kinds, isotopes, a)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = [report.write_csv(folder / f"{name}.csv", t) for name, t in tables.items()]
        groups = {name: {k: (v, "") for k, v in t.items()} for name, t in tables.items()}
        if dynamic is not None:
            units = {"q": "Å-1", "energy": "meV", "time": "fs"}
            groups["dynamic"] = {k: (v, units.get(k, "fs" if k.startswith("S") else "")) for k, v in dynamic.items()}
        made.append(report.write_h5(folder / "structure.h5", groups, {"kinds": list(kinds), "notes": "\n".join(notes)}))
        made += figures.structure(folder, found, tables, kinds, dynamic, out, a)
        if a.json:
            made.append(report.write_json(a.json, out | {"notes": notes}))
    except OSError as error:
        raise report.written(folder, error) from None
    for key, value in out.items():
        print(f"{key}: {value:.6g}" if isinstance(value, float) else f"{key}: {value}")
    for note in notes:
        print(f"note: {note}")
    print("wrote " + " ".join(map(str, made)))


def bragg_tables(found: Found, kinds: tuple[str, ...], isotopes: list[str],
                 a: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Each reflection's mean intensity, that of atoms at rest at their mean places, and Debye and Waller's between;
    and the decay I/I_0 in time beside the displacements."""
    cells, hkl, q = int(np.prod(a.cells)), found.hkl, found.q
    index = found.radial.kind
    table: dict[str, Any] = {"h": hkl[:, 0], "k": hkl[:, 1], "l": hkl[:, 2], "q_1_A": q}
    still = [diffraction.densities(m.cell.fractional(m.mean), index, len(kinds), hkl * np.array(a.cells))
             for m in found.moved]
    for probe in scatterers.PROBES:
        f = scatterers.amplitudes(probe, isotopes, q)
        table[f"{probe}_I"] = np.mean([diffraction.intensities(b, f, cells).mean(axis=0) for b in found.bragg], axis=0)
        table[f"{probe}_I0"] = np.mean([diffraction.intensities(r, f, cells) for r in still], axis=0)
        table[f"{probe}_debye_waller"] = np.mean(
            [diffraction.debye_waller(r, f, q, m.u_sq, cells) for r, m in zip(still, found.moved)], axis=0)
    f = scatterers.amplitudes(a.probe, isotopes, q)
    start = diffraction.intensities(still[0], f, cells)
    strong = start > 1e-3 * start.max()
    decay = diffraction.intensities(found.bragg[0], f, cells)[:, strong] / start[strong]
    times = found.time[0]
    rows = spread(found.moved[0].u_sq_time.shape[1], len(times))
    columns: dict[str, Any] = {"time_fs": times}
    columns |= {f"u_squared_{k}_A2": found.moved[0].u_sq_time[i, rows] for i, k in enumerate(kinds)}
    columns |= {"I_{}_{}_{}".format(*h): decay[:, k] for k, h in enumerate(hkl[strong])}
    return table, columns
