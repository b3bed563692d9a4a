"""``rxmdnn phonons MODEL STRUCTURE``: the harmonic crystal of a model, and its neutron spectrum."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.analysis import scatterers
from rxmdnn.analysis.phonon_tables import PhononTables, conclude_phonons
from rxmdnn.analysis.phonons import HarmonicCrystal, phonopy
from rxmdnn.ase import Calculator
from rxmdnn.commands.arguments import parse, positive, tell
from rxmdnn.commands.instrument_arguments import instrument_arguments, named_instrument
from rxmdnn.deck import language as decks
from rxmdnn.deck.models import MODEL_KINDS, read_models
from rxmdnn.deck.run import checked
from rxmdnn.deck.run_table import RUN
from rxmdnn.errors import InputError
from rxmdnn.files import check_outputs, write_json, writing
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.run.device import make_backend
from rxmdnn.run.potential import make_potential

if TYPE_CHECKING:
    from ase import Atoms

CALM = 1e-4  # eV/Å, largest force of a relaxed structure
STEPS = 500
REACH = 40.0  # Å: the default mesh resolves wave vectors that repeat after this length


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser("rxmdnn phonons", description="Force constants of a crystal by finite displacements, "
                                "its bands, density of states and imaginary modes, and the neutron spectrum of the "
                                "harmonic crystal as an instrument sees it. Needs phonopy.")
    p.add_argument("model", metavar="MODEL", type=Path, help="a model file, or a model deck such as rxmdnn.in")
    p.add_argument("structure", metavar="STRUCTURE", help="unit cell: any format that ASE reads; of a trajectory its "
                   "last frame")
    p.add_argument("-o", "--out", type=Path, default=Path("phonons"), metavar="DIR", help="folder of the results")
    p.add_argument("--supercell", type=int, nargs=3, default=[1, 1, 1], metavar=("A", "B", "C"),
                   help="multiples of the cell for the force constants; half its length should exceed the range of the "
                   "forces (default: 1 1 1)")
    p.add_argument("--mesh", type=int, nargs=3, metavar=("A", "B", "C"), help="wave vectors along each axis (default: "
                   f"{REACH:g} Å over the lengths of the primitive cell)")
    p.add_argument("--distance", type=float, default=0.01, metavar="A", help="displacement, Å (default: 0.01)")
    p.add_argument("--fixed", action="store_true", help="take the positions as they are (default: relaxed to "
                   f"{CALM:g} eV/Å in the given cell)")
    p.add_argument("--precision", choices=("float64", "float32"), default="float64", help="of a network")
    p.add_argument("--isotope", action="append", default=[], metavar="H=D", help="replace an element by this isotope: "
                   "its mass and its scattering")
    p.add_argument("--width", type=float, default=8.0, metavar="CM", help="FWHM of the density of states, 1/cm")
    p.add_argument("--temperature", type=float, default=20.0, metavar="K", help="of the neutron spectrum (default: 20)")
    instrument_arguments(p)
    p.add_argument("--max", type=float, metavar="CM", help="largest energy transfer, 1/cm")
    p.add_argument("--coherent", action="store_true", help="one-phonon coherent scattering with interference between "
                   "atoms (minutes for large cells)")
    p.add_argument("--json", metavar="F", type=Path, help="also write the numbers to this file")
    return p


def main(argv: Sequence[str]) -> None:
    """Write bands.csv, dos.csv, phonons.h5, force constants, and neutron.csv with an instrument, and their figures."""
    a = parse(parser(), argv, MPI.COMM_SELF)
    faults: list[str] = []
    positive(faults, "phonons", a, "distance", "width", "temperature", "max", "incident", "chopper")
    faults += [f"phonons: --{name}: must be three numbers above zero" for name in ("supercell", "mesh")
               if getattr(a, name) is not None and min(getattr(a, name)) < 1]
    faults += [f"phonons: --{name}: goes with --instrument" for name in ("coherent", "max", "angles")
               if getattr(a, name) and not a.instrument]
    if faults:
        raise InputError(*faults)
    check_outputs(a.json, folders=[a.out])
    phonopy()
    instrument = named_instrument(a, MPI.COMM_SELF)
    atoms, isotopes = unit_cell(a.structure, a.isotope)
    atoms.calc = calculator_of(a.model, a.precision)
    left = relaxed(atoms, a.fixed)
    crystal = HarmonicCrystal.of(atoms, forces_by(atoms.calc), a.supercell, a.distance, progress())
    lengths = np.linalg.norm(crystal.cell, axis=1)
    modes = crystal.mesh(a.mesh or np.ceil(REACH / lengths).astype(int).tolist())
    results = conclude_phonons(crystal, modes, isotopes, a.temperature, instrument, a.max, a.width, a.coherent)
    results.numbers |= {"largest_force_eV_A": left, "supercell_atoms": len(atoms) * int(np.prod(a.supercell))}
    if left > 10 * CALM:
        results.notes.append(f"the largest force is {left:.2g} eV/Å: the structure is not at a minimum of its energy; "
                             + ("leave out --fixed" if a.fixed else f"{STEPS} steps did not relax it"))
    report(results, crystal, a)


def unit_cell(path: str, options: Sequence[str]) -> tuple[Atoms, dict[str, str]]:
    """The atoms of a file with the masses of isotopes, and {kind: what scatters in its place}. Raises InputError."""
    atoms = read_atoms(path, "-1")[0]
    if not all(atoms.pbc):
        raise InputError(f"{path}: phonons: needs a crystal that is periodic along three axes")
    symbols = atoms.get_chemical_symbols()
    kinds = sorted(set(symbols))
    table = {old: new for old, new in zip(kinds, scatterers.replaced(kinds, options)) if old != new}
    masses = atoms.get_masses()
    for row, symbol in enumerate(symbols):
        if symbol in table:
            masses[row] = scatterers.nucleus(table[symbol]).mass
    atoms.set_masses(masses)
    return atoms, table


def calculator_of(path: Path, precision: str) -> Calculator:
    """A calculator of a model file, or of a model deck, which is told by its text. Raises InputError."""
    if not path.is_file():
        raise InputError(f"{path}: no such model file or model deck")
    try:
        words = [line.split("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines()]
    except UnicodeDecodeError:
        words = []
    if not {row[0] for row in words if row} & {k.name for k in MODEL_KINDS}:
        return Calculator(path, precision=precision, comm=MPI.COMM_SELF)
    deck = decks.parse(f"time 1 0\nprecision {precision}\nbackend cpu\n", "phonons", RUN)
    run = checked(deck, read_models(path), file=path)
    backend = make_backend(MPI.COMM_SELF, run)
    return Calculator(make_potential(run, backend), backend=backend, comm=MPI.COMM_SELF)


def relaxed(atoms: Atoms, fixed: bool) -> float:
    """Move the atoms to a minimum of the energy in their cell, unless ``fixed``; the largest force, eV/Å."""
    from ase.optimize import BFGS

    if not fixed:
        BFGS(atoms, logfile=None).run(fmax=CALM, steps=STEPS)
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def forces_by(calculator: Calculator) -> Callable[[Atoms], np.ndarray]:
    """Forces of ASE atoms by a calculator."""
    def forces(atoms: Atoms) -> np.ndarray:
        atoms.calc = calculator
        return np.array(atoms.get_forces())
    return forces


def progress() -> Callable[[int, int], None]:
    """A bar of the displacements, on a terminal."""
    if not sys.stderr.isatty():
        return lambda done, total: None
    bar = tqdm(unit="displacement")

    def show(done: int, total: int) -> None:
        bar.total = total
        bar.update(1)
        if done == total:
            bar.close()
    return show


def report(results: PhononTables, crystal: HarmonicCrystal, a: argparse.Namespace) -> None:
    """Write files and figures, and print the numbers."""
    from rxmdnn.analysis import neutron_figures, phonon_figures
    from rxmdnn.analysis.spectra import windows

    with writing(a.out):
        a.out.mkdir(parents=True, exist_ok=True)
        made = [*results.write(a.out), phonon_figures.phonons(a.out, results, crystal)]
        crystal.phonopy.save(filename=str(a.out / "phonopy_params.yaml"), settings={"force_constants": True})
        made.append(a.out / "phonopy_params.yaml")
        if results.neutron is not None:
            kinds, count = np.unique(crystal.names, return_counts=True)
            named = windows(kinds.tolist(), count, results.dos["wavenumber_cm"], results.dos["total_modes_per_cm"])
            made.append(neutron_figures.neutron(a.out, results.neutron, named, a.temperature))
        if a.json:
            made.append(write_json(a.json, results.numbers))
    shown = {key: value for key, value in results.numbers.items() if key != "notes"}
    tell(shown | {"gamma_cm": " ".join(f"{x:.1f}" for x in shown["gamma_cm"])}, results.notes, made)
