"""Arguments that choose a neutron spectrometer."""

from __future__ import annotations

import argparse

from mpi4py import MPI

from rxmdnn.analysis.instruments import DIRECT, NAMES, Spectrometer, instrument_of
from rxmdnn.errors import InputError
from rxmdnn.parallel import together


def instrument_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the neutron spectrometer and its settings."""
    parser.add_argument("--instrument", metavar="NAME|FILE", help=f"neutron spectrometer: {', '.join(NAMES)}, or a "
                        "file that describes one (docs/neutron_instruments.md)")
    parser.add_argument("--incident", type=float, metavar="MEV", help="incident energy of a direct-geometry instrument "
                        "(default: " + ", ".join(f"{d.incident:g} of {n}" for n, d in DIRECT.items()) + ")")
    parser.add_argument("--chopper", type=float, metavar="HZ", help="frequency of its Fermi chopper (default: "
                        + ", ".join(f"{d.frequency:g} of {n}" for n, d in DIRECT.items()) + ")")
    parser.add_argument("--angles", type=float, nargs="+", metavar="DEG", help="scattering angles; of sequoia and maps "
                        "the two ends of a range (default: those of the instrument, or 45 135)")


def named_instrument(a: argparse.Namespace, comm: MPI.Comm) -> Spectrometer | None:
    """The spectrometer of --instrument, or None without one (collective). Raises InputError."""
    with together(comm):
        if a.instrument is not None:
            return instrument_of(a.instrument, a.incident, a.chopper, a.angles)
        for name in ("incident", "chopper"):
            if getattr(a, name) is not None:
                raise InputError(f"--{name}: goes with --instrument {' or '.join(DIRECT)}")
    return None
