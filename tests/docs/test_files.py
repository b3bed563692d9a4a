"""The files of runs have the columns and datasets that the reference lists, and no others."""

import csv
import json
import re
from pathlib import Path

import file_pages
import file_table
import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import run as run_command
from rxmdnn.excitation.electron_surface import ElectronSurface
from rxmdnn.excitation.electrons import Electrons
from rxmdnn.excitation.field import ElectricField
from rxmdnn.io import log
from rxmdnn.survival import results, true_force

ROOT = Path(__file__).parents[2]
AMMONIA = ROOT / "input/ammonia"
TABLE = {f.name: f for f in file_table.RUN}


def entry_of(name):
    """The entries of the table that a file, column or dataset of this name may be."""
    return lambda known: re.fullmatch(re.sub(r"\\?<[^<>]*\\?>", r"[^/]+", re.escape(known)), name) is not None




@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of two runs that write every kind of file: driven by a field, and of ring polymers."""
    folder = tmp_path_factory.mktemp("runs")
    decks = {"driven": "charges H 0.3\ncharges N -0.9\nfield constant z 0.01\nprofile 5 1 1 2\nobserve vdos 2\n"
                       "observe gr 5\nio_type T F T T\nh5md 5\nxyz 5\nensemble svr 0.1\nfidelity flag 5\n"
                       "fidelity_limit pair 1.9\nfidelity_watch pair\n",
             "rings": "pimd 4 pimd\nensemble langevin 0.1\npimd_dump 5\npimd_pairs 5\nh5md 5\n"
                      "pimd_estimate kinetic_tensor 5\n"}
    made = []
    for name, more in decks.items():
        deck = folder / f"{name}.in"
        own = {line.split()[0] for line in more.splitlines()}
        lines = [line for line in (AMMONIA / "rxmd.in").read_text().splitlines()
                 if line.split()[0] not in {*own, "structure", "time", "io_step", "checkpoint"}]
        deck.write_text("\n".join(lines) + f"""
time 0.5 10
io_step 5 5
checkpoint 5
structure {AMMONIA}/solid_I.cif
model {AMMONIA}/rxmdnn.in
{more}""")
        assert run_command.main(["--rxmdin", str(deck), "--outDir", str(folder / name)], MPI.COMM_SELF) == 0
        made.append(folder / name)
    return made


def test_every_file_is_listed(runs):
    written = {p.name for folder in runs for p in folder.iterdir() if p.is_file()}
    assert all(any(entry_of(name)(known) for known in TABLE) for name in written), written
    assert {known for known in TABLE if not any(entry_of(name)(known) for name in written)} == {
        ".rxmdnn.lock"}, "files of the table that these runs should write"


def headings(path):
    """Names within a file: columns, keys, datasets and groups with attributes."""
    if path.suffix == ".csv":
        with path.open() as file:
            return set(next(csv.reader(file)))
    if path.suffix == ".jsonl":
        return {key for line in path.read_text().splitlines() for key in json.loads(line)}
    if path.suffix == ".xyz":
        with path.open() as file:
            file.readline()
            return set(re.search(r"Properties=(\S+)", file.readline())[1].split(":")[::3])
    with h5py.File(path) as file:
        names: set[str] = set()
        file.visititems(lambda name, item: names.add(name) if isinstance(item, h5py.Dataset) else None)
        return names


@pytest.mark.parametrize("name", [f.name for f in file_table.RUN if f.columns])
def test_columns_are_listed(name, runs):
    found = set()
    for path in (p for folder in runs for p in folder.iterdir() if entry_of(p.name)(name)):
        found |= headings(path)
    listed = [column for column, _, _ in TABLE[name].columns]
    unknown = [c for c in found if not any(entry_of(c)(known) for known in listed)]
    assert found and not unknown, unknown


def test_the_columns_of_energies_are_those_of_the_writers():
    """Those of runs with electrons and surfaces too, which are not run here."""
    drives = [*Electrons.column_names, *ElectronSurface.column_names, *ElectricField.column_names]
    names = [*log.COLUMNS, *log.ENSEMBLE_COLUMNS, *drives, "work_ensemble_eV", "work_light_eV"]
    listed = [column for column, _, _ in file_table.ENERGIES]
    assert not [n for n in names if not any(entry_of(n)(known) for known in listed)]
    assert not [known for known in listed if not any(entry_of(n)(known) for n in names)]


def test_the_columns_of_studies_are_those_of_the_writers():
    files = {f.name: [c for c, _, _ in f.columns] for f in file_table.OTHERS["tfail"]}
    for name, columns in (("results.csv", results.COLUMNS), ("true_forces.csv", true_force.COLUMNS)):
        assert [known for known in files[name] if not any(entry_of(n)(known) for n in columns)] == []
        assert [n for n in columns if not any(entry_of(n)(known) for known in files[name])] == []


def test_units_of_trajectories_are_those_of_the_file(runs):
    with h5py.File(runs[0] / "trajectory.h5md") as file:
        assert file["particles/all/velocity/value"].attrs["unit"] == "Angstrom fs-1"
        assert file["observables/potential_energy/value"].attrs["unit"] == "kJ mol-1"
        assert np.ptp(file["observables/potential_energy/value"]) > 0


def test_the_page_has_every_file():
    text = file_pages.pages()["files.md"]
    for f in [*file_table.RUN, *(f for files in file_table.OTHERS.values() for f in files)]:
        assert f"### {file_pages.escaped(f.name)}\n" in text
