"""``rxmdnn spectra RUN...``: vibrational and neutron spectra of trajectories with velocities."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis import inelastic, observe, report, scatterers
from rxmdnn.analysis import spectra as sp
from rxmdnn.commands.arguments import out_folder, parse, positive, run_arguments
from rxmdnn.errors import InputError
from rxmdnn.io.series import Series, open_all
from rxmdnn.parallel import AgreedError, on_root, together

FINEST = 0.2  # meV: grid of the neutron spectrum, or half of the trajectory's where that is finer
ALIASED = 0.02  # share of the modes beyond 90 % of the highest frequency that frames can show


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("rxmdnn spectra", description="Velocity autocorrelation, vibrational density of "
                                "states, neutron-weighted density, and incoherent inelastic neutron spectrum of "
                                "hydrogen. A run writes what it needs with 'h5md 2'.")
    run_arguments(p)
    p.add_argument("--resolution", type=float, metavar="CM", help="width of a sharp line, 1/cm; finer means fewer, "
                   "longer segments and larger errors (default: five half-overlapping segments)")
    p.add_argument("--max", type=float, default=4000.0, metavar="CM", help="figures and tables up to, 1/cm")
    p.add_argument("--temperature", type=float, metavar="K", help="of the quantum factors and the neutron spectrum "
                   "(default: that of the velocities)")
    p.add_argument("--quantum", action="store_true", help="also the quantum spectrum, from a classical or RPMD (Kubo) "
                   "one: times βħω/(1 - exp(-βħω)), scaled to the number of modes again; and harmonic kinetic energies")
    p.add_argument("--verlet", action="store_true", help="undo the time step's shift of harmonic frequencies")
    p.add_argument("--isotope", action="append", default=[], metavar="H=D", help="scatter neutrons as this isotope "
                   "(frequencies stay the trajectory's); heavy hydrogen is known by its mass")
    p.add_argument("--final", type=float, default=3.5, metavar="MEV", help="neutron's final energy")
    p.add_argument("--angles", type=float, nargs="+", default=[45.0, 135.0], metavar="DEG", help="of scattering")
    p.add_argument("--broadening", type=float, default=1.5, metavar="PERCENT", help="instrument's FWHM, ΔE/E")
    p.add_argument("--low", type=float, metavar="MEV", help="below it the density is taken as a solid's, ~ E² "
                   "(default: the resolution)")
    p.add_argument("--measured", action="store_true", help="mark measured positions of solid ammonia's bands")
    return p


def main(argv: Sequence[str], comm: MPI.Comm = MPI.COMM_SELF) -> None:
    """Write spectra.h5, vdos.csv, vacf.csv, neutron.csv, bands.csv and their pictures; print the bands."""
    a = parse(parser(), argv, comm)
    faults: list[str] = []
    positive(faults, "spectra", a, "resolution", "max", "temperature", "final", "broadening", "low")
    if faults:
        raise AgreedError(*faults)
    with together(comm):
        stored = observe.find_spectrum(a.run[0])
        if stored is not None:
            if len(a.run) > 1 or any(x is not None for x in (a.start, a.stop, a.resolution)):
                raise InputError(f"spectra: {stored}: a spectrum that a run summed up: take it alone, without --start, "
                                 "--stop and --resolution")
            spectrum, md_step = observe.read_spectrum(stored)
        else:
            series = open_all(a.run, a.start, a.stop)
            dt = spacing(series)
            length = sp.segment_length([len(s.time) for s in series], dt, a.resolution)
            scatterers.replaced(sp.kinds_of(series[0].names, series[0].mass)[0], a.isotope)  # say mistakes now
            md_step = (series[0].time[1] - series[0].time[0]) / max(series[0].step[1] - series[0].step[0], 1)
    if stored is None:
        spectrum = sp.measure(comm, series, length, dt, comm.rank > 0 or not sys.stderr.isatty())
    on_root(comm, lambda: finish(spectrum, float(md_step), a))


def spacing(series: Sequence[Series]) -> float:
    """fs between frames, the same in all; all have velocities. Raises InputError."""
    faults = [f"{s.path}: no velocities; a spectrum needs them: write trajectory.h5 by 'h5md 2', or extended XYZ "
              "(its column 'velo')" for s in series if "v" not in s.has]
    if faults:
        raise InputError(*faults)
    dts = [s.interval() for s in series]
    wrong = next((k for k, dt in enumerate(dts) if abs(dt - dts[0]) > 1e-4 * dts[0]), None)
    if wrong is not None:
        raise InputError(f"{series[wrong].path}: {dts[wrong]:g} fs between frames, but {dts[0]:g} in {series[0].path}; "
                         "analyze them one by one")
    return dts[0]


def finish(s: sp.Spectrum, md_step: float, a: argparse.Namespace) -> None:
    """Tables, files and pictures, on one rank. md_step : fs, of the dynamics."""
    from rxmdnn.analysis import figures

    isotopes = scatterers.replaced(s.kinds, a.isotope)
    nu, notes = s.wavenumber, []
    if a.verlet:
        s = s.unshifted(md_step)
        notes.append(f"frequencies freed of the shift by a velocity-Verlet step of {md_step:g} fs")
    temperature = a.temperature or s.temperature
    names, count = list(s.kinds), s.count
    sigma = scatterers.cross_sections(isotopes)
    total, total_error = s.weighted(np.ones(len(names)))
    seen, seen_error = s.weighted(sigma / s.mass)
    beyond = total[nu > 0.9 * nu[-1]].sum() / total.sum()
    if beyond > ALIASED:
        notes.append(f"{100 * beyond:.1f} % of the modes lie at the highest frequency that frames {s.dt:g} fs apart "
                     "can show: faster ones are folded down; write frames more often")
    spread = s.temperatures.max() - s.temperatures.min()
    if spread > 0.1 * s.temperature:
        notes.append(f"the kinds' temperatures differ by {spread:.0f} K: not in equilibrium, or too short to show it; "
                     "heights are not comparable between bands; equilibrate under a thermostat first")
    if len(s.power) < 4:
        notes.append(f"only {len(s.power)} segments: errors are rough or missing; take a coarser --resolution or a "
                     "longer run")
    dos, dos_error = s.dos, s.dos_error
    named = sp.windows(s.kinds, count, nu, total)
    density = s.power.sum(axis=1)
    density *= s.modes / (density.mean(axis=0).sum() * s.nu[1]) * sp.C_CM
    rows = sp.bands(nu, density, named)

    shown = nu <= a.max
    columns: dict[str, Any] = {"wavenumber_cm": nu[shown], "energy_meV": nu[shown] * sp.MEV_PER_CM}
    for k, name in enumerate(names):
        columns |= {f"{name}_modes_per_cm": dos[k][shown], f"{name}_error": dos_error[k][shown]}
    columns |= {"total_modes_per_cm": total[shown], "total_error": total_error[shown],
                "neutron_modes_per_cm": seen[shown], "neutron_error": seen_error[shown]}
    if a.quantum:
        factor = sp.kubo_factor(nu, temperature)
        factor /= (total * factor).sum() / total.sum()
        columns |= {f"{name}_quantum": (dos[k] * factor)[shown] for k, name in enumerate(names)}
        columns["total_quantum"] = (total * factor)[shown]
    kinetic = sp.harmonic_kinetic(nu, dos, count, temperature)

    t, c, c_error = s.vacf
    correlation = {"time_fs": t}
    for k, name in enumerate(names):
        correlation |= {name: c[k], f"{name}_error": c_error[k]}

    figures_of: dict[str, Any] = {
        "atoms": int(count.sum()), "frame_interval_fs": s.dt,
        "modes": s.modes, "segments": len(s.power), "resolution_cm": s.resolution, "temperature_K": temperature,
        **{f"temperature_{n}_K": float(x) for n, x in zip(names, s.temperatures)},
        **{f"modes_{n}": float(dos[k].sum() * nu[1]) for k, n in enumerate(names)},
        **({f"harmonic_quantum_kinetic_{n}_meV": float(x) for n, x in zip(names, kinetic)} if a.quantum else {}),
        "bands": rows, "notes": notes}
    neutron, mapped = None, None
    hydrogen = next((k for k, n in enumerate(names) if n in ("H", "D", "T")), None)
    if hydrogen is None:
        notes.append("no hydrogen: no incoherent neutron spectrum")
    else:
        neutron, mapped = spectrum_of_hydrogen(s, nu, hydrogen, temperature, a, figures_of)
        figures_of["incoherent_cross_section_barn"] = float(scatterers.incoherent([isotopes[hydrogen]])[0])

    folder = out_folder(a)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        made = [report.write_csv(folder / "vdos.csv", columns), report.write_csv(folder / "vacf.csv", correlation)]
        if rows:
            table = {key: [r[key] if key != "peaks_cm" else " ".join(f"{f:.1f}" for f in r[key]) for r in rows]
                     for key in rows[0]}
            made.append(report.write_csv(folder / "bands.csv", table))
        groups: dict[str, Any] = {
            "vdos": {k: (v, _unit(k)) for k, v in columns.items()},
            "vacf": {k: (v, "fs" if k == "time_fs" else "") for k, v in correlation.items()}}
        if neutron is not None and mapped is not None:
            made.append(report.write_csv(folder / "neutron.csv", neutron))
            groups["neutron"] = {k: (v, "meV" if k == "energy_meV" else "Å-1" if k.startswith("q_") else "1/meV")
                                 for k, v in neutron.items()}
            groups["map"] = mapped
        made.append(report.write_h5(folder / "spectra.h5", groups, {
            "temperature_K": temperature, "resolution_cm": s.resolution, "kinds": names, "bands": json.dumps(rows),
            "notes": "\n".join(notes)}))
        made += figures.spectra(folder, columns, names, correlation, neutron, mapped, named, a, temperature)
        if a.json:
            made.append(report.write_json(a.json, figures_of))
    except OSError as error:
        raise report.written(folder, error) from None
    tell(figures_of, made)


def _unit(name: str) -> str:
    return "cm-1" if name == "wavenumber_cm" else "meV" if name == "energy_meV" else "modes cm"


def spectrum_of_hydrogen(s: sp.Spectrum, nu: np.ndarray, k: int, temperature: float, a: argparse.Namespace,
                         figures_of: dict[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[np.ndarray, str]]]:
    """S(Q, E) a hydrogen atom along the instrument's angles, and on a map of Q and E."""
    instrument = inelastic.Instrument(a.final, tuple(a.angles), a.broadening / 100)
    seen = nu * sp.MEV_PER_CM
    step = min(FINEST, seen[1] / 2)
    top = min(a.max * sp.MEV_PER_CM, seen[-1])
    energy = np.arange(int(max(seen[-1], 1.1 * top) / step) + 2) * step
    g = np.interp(energy, seen, s.dos[k], right=0.0)
    low = a.low or s.resolution * sp.MEV_PER_CM
    if low >= top:
        raise InputError(f"spectra: --low {low:g} meV leaves nothing of a spectrum up to {top:g} meV")
    q_most = max(float(instrument.q_squared(np.array([top]), angle)[0]) for angle in a.angles)
    margin = 1 + 3 * instrument.broadening  # what the resolution brings in from above
    phonons = inelastic.Phonons.of(energy, g, float(s.mass[k]), temperature, q_most * margin, top * margin, low)
    half = phonons.energy >= 0
    e = phonons.energy[half]
    out: dict[str, Any] = {"energy_meV": e}
    for angle in a.angles:
        q_sq = np.zeros_like(phonons.energy)
        q_sq[half] = instrument.q_squared(e, angle)
        every, one = (x[half] for x in phonons.scattering(q_sq))
        name = f"{angle:g}deg"
        out |= {f"q_{name}": np.sqrt(q_sq[half]), f"all_{name}": instrument.broadened(e, every),
                f"one_phonon_{name}": instrument.broadened(e, one)}
    for kind in ("all", "one_phonon"):
        out[kind] = np.mean([out[f"{kind}_{angle:g}deg"] for angle in a.angles], axis=0)
    out = {name: x[e <= top] for name, x in out.items()}
    half &= phonons.energy <= top
    e = e[e <= top]
    q = np.linspace(0.1, 1.05 * np.sqrt(q_most), 160)
    stride = max(1, len(e) // 800)
    surface = np.array([phonons.scattering(x * x)[0][half][::stride] for x in q])
    figures_of |= {"hydrogen_u_squared_A2": 3 * phonons.u_squared, "orders": len(phonons.orders),
                   "debye_below_meV": float(low)}
    moved = float(s.dos[k][seen < low].sum() / s.dos[k].sum())
    if moved > 0.02:
        figures_of["notes"].append(f"{100 * moved:.1f} % of {s.kinds[k]}'s modes lie below {low:.3g} meV (--low): "
                                   "diffusion, if it is a liquid; the neutron spectrum treats it as a solid")
    return out, {"q": (q, "Å-1"), "energy": (e[::stride], "meV"), "s": (surface, "1/meV")}


def tell(figures_of: dict[str, Any], made: list[Path]) -> None:
    for key, value in figures_of.items():
        if key not in ("bands", "notes"):
            print(f"{key}: {value:.6g}" if isinstance(value, float) else f"{key}: {value}")
    if figures_of["bands"]:
        print("band            from    to    modes    mean (1/cm)        peak   half width   peaks")
    for r in figures_of["bands"]:
        print(f"{r['band']:<14s}{r['from_cm']:6.0f}{r['to_cm']:6.0f}{r['modes']:9.2f}{r['mean_cm']:9.1f} ± "
              f"{r['mean_error_cm']:<6.1f}{r['peak_cm']:9.1f}{r['half_width_cm']:9.1f}     "
              + " ".join(f"{f:.0f}" for f in r["peaks_cm"]))
    for note in figures_of["notes"]:
        print(f"note: {note}")
    print("wrote " + " ".join(map(str, made)))
