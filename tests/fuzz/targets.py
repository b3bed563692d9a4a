"""The readers that are given damaged files, and the files that they read when nothing is wrong."""

import contextlib
import io
import json
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ase
import numpy as np
import torch
from mpi4py import MPI

from rxmdnn.analysis.observe import find_spectrum, head, read_spectrum
from rxmdnn.atoms import FIELDS
from rxmdnn.commands.run import main as run_main
from rxmdnn.deck.run import read_run
from rxmdnn.fidelity import calibration, reference
from rxmdnn.fidelity.tail import Tail
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.labelled_hdf5 import write_labelled_hdf5
from rxmdnn.io.log import read_energies
from rxmdnn.io.profile import ProfileSeries, read_profile
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.io.rxff import read_rxff
from rxmdnn.io.series import open_series
from rxmdnn.io.stages import read_stages
from rxmdnn.labelling.labelling import finished
from rxmdnn.models import import_legacy
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.checksum import with_checksum
from rxmdnn.models.model_file import atoms_of_training, load_model, save_model
from rxmdnn.ring_polymer.series import settled
from rxmdnn.survival import certificate, forecast, results, stored
from rxmdnn.survival.report import gather
from tests.unit.models.test_allegro_legacy import network as legacy_network
from tests.unit.models.test_allegro_legacy import state_of

SELF = MPI.COMM_SELF
SMALL = {"n_scalar": 4, "n_tensor": 2, "embed_width": 4, "latent_width": 4, "readout_width": 4}
DECK = """time 2.0 8
temperature 60.0 1.0 1
random_velocity T
ensemble nose-hoover 0.1
barostat mtk 0.1 0.5 full
fidelity flag 2
fidelity_watch pair temperature
io_step 4 4
h5md 2
xyz 2
observe vdos 1 4000
observe gr 2 3.0
structure start.xyz
threads 1
"""
MODEL = "lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n"
CONTINUE = ["--ntime_step", "12"]


@dataclass(frozen=True)
class Target:
    """A reader. files : name of a file that is damaged: its kind; cost : seconds of a case, roughly

    read : of the folder that holds the files; repairs : {file: makes its checksums right again}
    """

    name: str
    files: dict[str, str]
    read: Callable[[Path], object]
    cost: float = 0.005
    repairs: dict[str, Callable] = field(default_factory=dict)


# ---------------------------------------------------------------------- readers
def quietly(act):
    """The result of ``act``, which may print."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return act()


def all_of_series(path):
    """Everything that a trajectory holds."""
    series = open_series(path)
    frames = range(min(len(series.time), 50))
    for name in series.has:
        series.read(name, frames)
    for k in frames:
        series.cell(k)
    if len(series.time):
        assert series.temperature() is not None and series.motions is not None
    read_atoms(path)


def go_on(folder):
    """A run that goes on from what is in its folder."""
    return quietly(lambda: run_main(["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "DAT"), *CONTINUE],
                                    SELF))


def models(path):
    """All that is read from a model file."""
    atoms_of_training(path)
    load_model(path)
    reference.read(path)
    forecast.lines(path, 100, 1e5, 300.0)
    certificate.lines(path, 100, 1e5, (300.0, 300.0), 0.5)
    stored.digest(path)


def study(folder):
    """A study that goes on, its report's properties and its forecast."""
    rows = results.read(folder)
    results.failure_times(rows)
    results.begin(folder, {"deck": {"a": "1"}, "models": {}}, ["a", "b"])
    results.write_h5(folder)


def forecasts(folder):
    fit = forecast.read_fit(folder / "report.json", None)
    forecast.text(fit, 500, 1e5, 300.0)


def legacy(path):
    import_legacy.saved_arrays(path)
    import_legacy.convert(import_legacy.read_arrays(path), state_of(legacy_network(n_tensor=2))[1])


def repair_checkpoint(file):
    """Make the checksums of a checkpoint those of what it holds."""
    header = file["header"][()]
    header = header if isinstance(header, bytes) else str(header).encode()
    del file["header_crc32"]
    file["header_crc32"] = zlib.crc32(header)
    keys = [a.name for a in FIELDS] + sorted(k for k in file if k.startswith("extra."))
    at, segments = 0, file["segments"][:]
    for k, (n, _) in enumerate(segments):
        crc = 0
        for key in keys:
            crc = zlib.crc32(np.ascontiguousarray(file[key][at : at + int(n)]).reshape(-1).view(np.uint8).data, crc)
        segments[k, 1], at = crc, at + int(n)
    file["segments"][...] = segments


RUN = {"DAT/checkpoint.h5": "hdf5", "DAT/observe.h5": "hdf5", "DAT/trajectory.h5md": "hdf5", "DAT/stages.jsonl": "json",
       "DAT/energies.csv": "text", "DAT/trajectory.xyz": "text"}
WHOLE = {"DAT/checkpoint.h5": repair_checkpoint}
TARGETS = [
    Target("checkpoint", {"checkpoint.h5": "hdf5"}, lambda f: (read_checkpoint(SELF, f / "checkpoint.h5", ("Ar", "Ne")),
                                                               read_atoms(f / "checkpoint.h5")), 0.01,
           {"checkpoint.h5": repair_checkpoint}),
    Target("restart", RUN, go_on, 0.5, WHOLE),
    Target("deck", {"rxmd.in": "text", "rxmdnn.in": "text"},
           lambda f: read_run(["--rxmdin", str(f / "rxmd.in"), "--outDir", str(f / "DAT")]), 0.01),
    Target("observe", {"observe.h5": "hdf5"}, lambda f: (head(f / "observe.h5"), find_spectrum(f / "observe.h5"),
                                                         read_spectrum(f / "observe.h5")), 0.01),
    Target("h5md", {"trajectory.h5md": "hdf5"}, lambda f: all_of_series(f / "trajectory.h5md"), 0.02),
    Target("xyz", {"trajectory.xyz": "text"}, lambda f: all_of_series(f / "trajectory.xyz"), 0.02),
    Target("profile", {"profile.h5": "hdf5"}, read_profile),
    Target("labelled", {"set.h5": "hdf5"}, lambda f: read_atoms(f / "set.h5"), 0.01),
    Target("rxff", {"rxff.bin": "bytes", "rxff.bin.json": "json"},
           lambda f: (read_rxff(SELF, f / "rxff.bin"), read_atoms(f / "rxff.bin"))),
    Target("energies", {"energies.csv": "text"}, read_energies),
    Target("stages", {"stages.jsonl": "json"}, read_stages),
    Target("ring", {"ring_polymer.csv": "text"}, lambda f: settled(f / "ring_polymer.csv")),
    Target("calibration", {"calibration.json": "json"}, lambda f: calibration.read(f / "calibration.json")),
    Target("model", {"model.safetensors": "safetensors"}, lambda f: models(f / "model.safetensors"), 0.02,
           {"model.safetensors": with_checksum}),
    Target("npz", {"w.npz": "zip"}, lambda f: legacy(f / "w.npz"), 0.02),
    Target("pth", {"w.pth": "zip"}, lambda f: legacy(f / "w.pth"), 0.02),
    Target("study", {"results.csv": "text", "study.json": "json", "failures.xyz": "text"}, study, 0.01),
    Target("forecast", {"report.json": "json"}, forecasts, 0.01),
    Target("sharpness", {"sharpness.json": "json"}, lambda f: gather([f / "sharpness.json"], [], None)),
    Target("evaluation", {"errors.json": "json"}, lambda f: gather([], [f / "errors.json"], None)),
    Target("label", {"out.xyz": "text"}, lambda f: finished(f / "out.xyz")),
]
BY_NAME = {target.name: target for target in TARGETS}


# ---------------------------------------------------------------------- what is read when nothing is wrong
def make_seeds(place):
    """{target: {file: bytes}} and the folder of each target; made below ``place``."""
    run, single = place / "restart", {}
    (run / "DAT").mkdir(parents=True)
    run_of_targets(run)
    for name in ("checkpoint.h5", "observe.h5", "trajectory.h5md", "trajectory.xyz", "energies.csv", "stages.jsonl",
                 "rxff.bin", "rxff.bin.json"):
        single[name] = (run / "DAT" / name).read_bytes()
    made = place / "made"
    made.mkdir()
    for make in (_tables, models_of_targets, _study, _frames):
        make(made)
    single |= {path.name: path.read_bytes() for path in made.iterdir()}
    seeds = {target.name: {name: single[name] for name in target.files if name in single} for target in TARGETS}
    seeds["restart"] = {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}
    seeds["deck"] = {name: seeds["restart"][name] for name in ("rxmd.in", "rxmdnn.in", "start.xyz")}
    for name in ("restart", "made"):
        shutil.rmtree(place / name)
    return seeds


def run_of_targets(place):
    """A run of 8 steps in a folder, with all its files."""
    x = 3.8 * np.stack(np.meshgrid(*[np.arange(2)] * 3), axis=-1).reshape(-1, 3)
    rows = "".join(f"{'Ar' if k % 2 else 'Ne'} {a:.6f} {b:.6f} {c:.6f}\n" for k, (a, b, c) in enumerate(x))
    (place / "start.xyz").write_text('8\nLattice="7.6 0 0 0 7.6 0 0 0 7.6" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
                                     + rows)
    (place / "rxmdnn.in").write_text(MODEL)
    (place / "rxmd.in").write_text(DECK)
    assert quietly(lambda: run_main(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / "DAT")], SELF)) == 0


def _tables(place):
    (place / "ring_polymer.csv").write_text("step,time_fs,kinetic_eV\n" + "".join(f"{k},{k}.5,{k / 7:.17g}\n"
                                                                                   for k in range(8)))
    tail = Tail(1.0, 0.5, 0.05, 0.05, 60)
    calibration.write(place / "calibration.json", {"force": {"Ar": tail}, "pair": {"Ar-Ne": tail}}, {"made": "here"})
    (place / "report.json").write_text(json.dumps({"fits": {"a": FIT}}))
    (place / "sharpness.json").write_text(json.dumps({
        "model": "m.safetensors", "parameters": 9, "norm": 2.0, "noise": {"mean": 1.0}, "climb": {"max": 2.0},
        "hessian": {"largest": [{"value": 3.0}], "trace": {"mean": 5.0}}}))
    (place / "errors.json").write_text(json.dumps({
        "model": "m.safetensors", "weights": 9, "errors": {"all": {"force_mae": 0.1, "force_rmse": 0.2}}}))
    profile = ProfileSeries(SELF, place, ["Ar"], None, print)
    for k in range(3):
        profile.write(k, 2.0 * k, 7.6 * np.eye(3), {"electron_temperature_K": np.full((2, 2, 2), 300.0)})


FIT = {"ln_life": 5.0, "b": -1.0, "c": 3000.0, "k": 1.0, "covariance": (0.01 * np.eye(4)).tolist(),
       "reference": {"n": 100.0, "inverse_temperature": 0.003},
       "range": {"n": [10.0, 1000.0], "temperature": [250.0, 600.0]},
       "by": "failed", "runs": 10, "failures": 9, "dt_fs": 0.5}


def models_of_targets(place):
    """Model files, with all that rxmdnn stores in them, and arrays of older ones."""
    path = place / "model.safetensors"
    save_model(path, AllegroNetwork(AllegroConfig(("Ar", "Ne"), 4.0, **SMALL)), {"atoms": json.dumps({"Ar": 9})})
    t, w = 2, 4
    shapes = {"mean": (t, w), "precision": (t, w, w), "force": (t,), "latent": (t,)}
    known = reference.Reference(("Ar", "Ne"), **{k: np.ones(shapes.get(k, (t, t))) for k in reference.ARRAYS})
    reference.write(known, path, path, {"frames": "set.xyz"})
    forecast.store(path, FIT)
    certificate.store(path, certificate.Certificate(
        100.0, 10.0, 300.0, 0.95, 0.9, 1.0, 10, 0, 5.0, "failed", "direct", 0.5, 250.0, 350.0, True, 1.0,
        certificate.Interval(1.0, 0.9, 1.1), None))
    arrays, _ = state_of(legacy_network(n_tensor=2))
    np.savez(place / "w.npz", **arrays)
    torch.save({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()}, place / "w.pth")


def _study(place):
    values = {"run": "m_8_300_", "model": "m", "arm": "a", "training_seed": 1, "n_atoms": 8, "temperature_K": 300.0,
              "dt_fs": 0.5, "check_steps": 10, "cap_steps": 1000, "criterion": "pair", "gid": 3, "value": 0.5,
              "threshold": 0.7}
    rows = []
    for k in range(5):
        row = {name: kind() for name, kind in results.COLUMNS.items()}
        row |= values | {"run": f"m_8_300_{k}", "replica": k, "steps": 100 * k, "time_fs": 50.0 * k, "failed": 1,
                         "failed_step": 100 * k}
        rows.append(results.line([row[name] for name in results.COLUMNS]))
    (place / "results.csv").write_text(results.line(list(results.COLUMNS)) + "".join(rows))
    (place / "study.json").write_text(json.dumps({"deck": {"a": "1", "b": "2"}, "models": {"m": "0" * 64}}))
    (place / "failures.xyz").write_text("".join(f'2\nrun="m_8_300_{k}" kind="frame"\nAr 0 0 0\nAr 0 0 {k}\n'
                                                for k in range(5)))


def _frames(place):
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = []
    for k in range(3):
        atoms = ase.Atoms("ArNe", [[0, 0, 0], [0, 0, 3.0 + 0.1 * k]], cell=8 * np.eye(3), pbc=True, info={"group": "g"})
        atoms.calc = SinglePointCalculator(atoms, energy=1.0, forces=np.zeros((2, 3)))
        frames.append(atoms)
    write_labelled_hdf5(place / "set.h5", frames)
    (place / "out.xyz").write_text("".join(
        f'2\nLattice="8 0 0 0 8 0 0 0 8" Properties=species:S:1:pos:R:3 energy=1.0 group="g{k}" number=0 of=1 '
        f'pbc="T T T"\nAr 0 0 0\nNe 0 0 3\n' for k in range(3)))


# ---------------------------------------------------------------------- one case
def attempt(target, files, folder):
    """Read a folder that holds these files: "read", "refused", or raise what is a fault of the reader."""
    from rxmdnn.errors import InputError

    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    try:
        with np.errstate(all="ignore"):
            target.read(folder)
    except InputError as error:
        assert str(error).isprintable() or all(c.isprintable() or c == "\n" for c in str(error))
        return "refused"
    return "read"
