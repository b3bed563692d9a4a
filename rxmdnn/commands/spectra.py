"""``rxmdnn spectra RUN...``: vibrational and neutron spectra of trajectories with velocities."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mpi4py import MPI

from rxmdnn.analysis import observe, scatterers
from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.comparison import UNITS, Measured, compare, read_measured
from rxmdnn.analysis.inelastic import Instrument
from rxmdnn.analysis.spectra_tables import SpectraOptions, SpectraTables, conclude
from rxmdnn.commands.arguments import out_folder, parse, positive, run_arguments, tell
from rxmdnn.commands.instrument_arguments import instrument_arguments, named_instrument
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.io.motion import Motion, analyzed, disturbed, no_real_time
from rxmdnn.io.series import Series, open_all
from rxmdnn.parallel import AgreedError, on_root, together


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("rxmdnn spectra", description="Velocity autocorrelation, vibrational density of "
                                "states, neutron-weighted density, and incoherent inelastic neutron spectrum of "
                                "hydrogen, or of all atoms as a real instrument sees it (--instrument). The run must "
                                "write velocities, with 'h5md 2'.")
    run_arguments(p)
    p.add_argument("--resolution", type=float, metavar="CM", help="width of a sharp line, 1/cm; a finer one means "
                   "fewer, longer segments and larger errors (default: five half-overlapping segments)")
    p.add_argument("--max", type=float, metavar="CM", help="largest wavenumber of figures and tables, 1/cm (default: "
                   "4000, or what the instrument measures)")
    p.add_argument("--temperature", type=float, metavar="K", help="temperature of quantum factors and neutron spectrum "
                   "(default: temperature of the velocities)")
    p.add_argument("--quantum", action="store_true", help="also the quantum spectrum of a classical or RPMD (Kubo) "
                   "one: times βħω/(1 - exp(-βħω)), scaled to the number of modes; and harmonic kinetic energies")
    p.add_argument("--verlet", action="store_true", help="correct the shift of harmonic frequencies by the time step")
    p.add_argument("--isotope", action="append", default=[], metavar="H=D", help="scatter neutrons as this isotope "
                   "(frequencies stay as in the trajectory); D and T are recognized by their mass")
    instrument_arguments(p)
    p.add_argument("--final", type=float, metavar="MEV", help="without --instrument: final energy of the neutron "
                   "(default: 3.5)")
    p.add_argument("--broadening", type=float, metavar="PERCENT", help="without --instrument: FWHM, ΔE/E (default: "
                   "1.5)")
    p.add_argument("--low", type=float, metavar="MEV", help="below it the density is that of a solid, ~ E² "
                   "(default: the resolution)")
    p.add_argument("--compare", type=Path, metavar="CSV", help="a measured spectrum: two columns, energy transfer and "
                   "intensity, under a header that names the unit, meV or 1/cm; drawn beside the computed one, with a "
                   "fitted scale")
    p.add_argument("--compare-unit", choices=UNITS, help="unit of its energies, where its header names none")
    p.add_argument("--measured", action="store_true", help="mark the measured bands of solid ammonia")
    return p


def main(argv: Sequence[str], comm: MPI.Comm = MPI.COMM_SELF) -> None:
    """Write spectra.h5, vdos.csv, vacf.csv, neutron.csv, bands.csv and their figures; print the bands."""
    a = parse(parser(), argv, comm)
    faults: list[str] = []
    positive(faults, "spectra", a, "resolution", "max", "temperature", "final", "broadening", "low", "incident",
             "chopper")
    faults += [f"spectra: --{name}: an --instrument has its own" for name in ("final", "broadening")
               if a.instrument and getattr(a, name) is not None]
    if faults:
        raise AgreedError(*faults)
    on_root(comm, lambda: check_outputs(a.json, folders=[out_folder(a)]))
    spectrometer = named_instrument(a, comm)
    seen = read_measured(comm, a.compare, a.compare_unit) if a.compare else None
    spectrum, md_step, motion = measured(a, comm)
    options = SpectraOptions(a.max or 4000.0, a.temperature, a.quantum, md_step if a.verlet else None, a.isotope,
                             simple_instrument(a), a.low, spectrometer, a.max is None)

    def conclude_and_report() -> None:
        results = conclude(spectrum, options)
        results.numbers["analyzed"] = analyzed(motion)
        results.notes += [note for note in (no_real_time(motion), disturbed(motion)) if note]
        report(results, options, a, seen)

    on_root(comm, conclude_and_report)


def simple_instrument(a: argparse.Namespace) -> Instrument:
    """The indirect geometry with a constant ΔE/E of a run without --instrument."""
    return Instrument(a.final or 3.5, tuple(a.angles or (45.0, 135.0)), (a.broadening or 1.5) / 100)


def measured(a: argparse.Namespace, comm: MPI.Comm) -> tuple[sp.Spectrum, float, Motion]:
    """The spectrum, of observe.h5 or of trajectories, the time step of the dynamics, fs, and what moved the atoms
    (collective)."""
    with together(comm):
        stored = observe.find_spectrum(a.run[0])
        if stored is not None:
            if len(a.run) > 1 or any(x is not None for x in (a.start, a.stop, a.resolution)):
                raise InputError(f"spectra: {stored}: a spectrum accumulated during a run: analyze it alone, without "
                                 "--start, --stop and --resolution")
            return *observe.read_spectrum(stored), observe.head(stored).get("motion", {})
        series = open_all(a.run, a.start, a.stop)
        dt = spacing(series)
        length = sp.segment_length([len(s.time) for s in series], dt, a.resolution)
        scatterers.replaced(sp.kinds_of(series[0].names, series[0].mass)[0], a.isotope)  # report mistakes now
        md_step = (series[0].time[1] - series[0].time[0]) / max(series[0].step[1] - series[0].step[0], 1)
    quiet = comm.rank > 0 or not sys.stderr.isatty()
    return sp.measure(comm, series, length, dt, quiet, a.instrument is not None), float(md_step), series[0].motion


def spacing(series: Sequence[Series]) -> float:
    """The time between frames, fs. Raises InputError if it differs between trajectories, and without velocities."""
    faults = [f"{s.path}: no velocities; write trajectory.h5md with 'h5md 2', or extended XYZ with the column "
              "'velo'" for s in series if "v" not in s.has]
    if faults:
        raise InputError(*faults)
    dts = [s.interval() for s in series]
    wrong = next((k for k, dt in enumerate(dts) if abs(dt - dts[0]) > 1e-4 * dts[0]), None)
    if wrong is not None:
        raise InputError(f"{series[wrong].path}: {dts[wrong]:g} fs between frames, but {dts[0]:g} in {series[0].path}; "
                         "analyze each on its own")
    return dts[0]


def report(results: SpectraTables, options: SpectraOptions, a: argparse.Namespace, seen: Measured | None) -> None:
    """Write files and figures and print the numbers, on one rank."""
    from rxmdnn.analysis import figures, neutron_figures

    folder = out_folder(a)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        made = [*results.write(folder), *figures.spectra(folder, results, options.instrument, a.measured)]
        if results.neutron is not None:
            made.append(neutron_figures.neutron(folder, results.neutron, results.windows, results.temperature,
                                                a.measured, seen and compare(seen, results)))
        if seen is not None:
            compared = compare(seen, results)
            made += [compared.write(folder), figures.comparison(folder, compared)]
            results.numbers |= compared.numbers
        if a.json:
            made.append(write_json(a.json, results.numbers))
    print_numbers(results, made)


def print_numbers(results: SpectraTables, made: list[Path]) -> None:
    """Print the numbers, one row per band, the notes and the names of files."""
    head = ["band            from    to    modes    mean (1/cm)        peak   half width   peaks"] * bool(results.bands)
    rows = [f"{r['band']:<14s}{r['from_cm']:6.0f}{r['to_cm']:6.0f}{r['modes']:9.2f}{r['mean_cm']:9.1f} ± "
            f"{r['mean_error_cm']:<6.1f}{r['peak_cm']:9.1f}{r['half_width_cm']:9.1f}     "
            + " ".join(f"{f:.0f}" for f in r["peaks_cm"]) for r in results.bands]
    tell({key: value for key, value in results.numbers.items() if key not in ("bands", "notes")}, results.notes, made,
         "\n".join([*head, *rows]))
