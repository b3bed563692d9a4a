"""Deployed models by deck line: converted once, the same on any number of ranks; the published decks of RXMD-NN."""

import os
import pickle
import shlex
import shutil
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.lj import LennardJones
from mpi4py import MPI

import rxmdnn
from rxmdnn.ase import Calculator
from rxmdnn.commands import check, geninit
from rxmdnn.commands import run as run_command
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.io.log import read_energies
from rxmdnn.models.ase_calculator import AseCalculator
from rxmdnn.models.model_file import load_model, save_model
from rxmdnn.parallel import on_root
from rxmdnn.run.device import make_backend
from rxmdnn.run.potential import make_potential
from tests.runs import shared_folder
from tests.unit.models.test_allegro_legacy import network
from tests.unit.models.test_compiled import Local
from tests.unit.models.test_torchscript import Hostile, deployed, rewritten

COMM = MPI.COMM_WORLD
pytestmark = pytest.mark.skipif(COMM.size > 2, reason="two ranks will do")
PUBLISHED = Path(os.environ.get("RXMDNN_TEST_DATA", ".")) / "published"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="set RXMDNN_TEST_DATA to a folder with the published "
                               "models in published/, which are not part of the project")
CONFIG = "PolynomialCutoff_p: 6\nedge_eng_mlp_nonlinearity: null\n"
DECK = "time 1.0 4\ntemperature 300 1.0 1\nio_step 0 1\nstructure start.xyz\nprecision float64\n"
SPECIES = "Ar 39.95 Ne 20.18"  # not the order of the types of the model


@pytest.fixture
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory, f"allegro pot/m.deploy 2 {SPECIES}\n") as place:
        if COMM.rank == 0:
            (place / "rxmd.in").write_text(DECK)
            (place / "pot").mkdir()
            deployed(place / "pot/m.deploy", network(elements=("Ne", "Kr", "Ar"), r_max=5.0), CONFIG)
            save_model(place / "native.safetensors", load_model(place / "pot/m.deploy"))
        COMM.Barrier()
        yield place


def run(folder, *words, out="DAT"):
    argv = ["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / out), *words]
    assert run_command.main(argv, COMM) == 0
    COMM.Barrier()
    return read_energies(folder / out)


def write(path, text):
    on_root(COMM, lambda: path.write_text(text) and None)


def test_deployed_model_runs_as_its_native_file(folder):
    table = run(folder)
    (copy,) = (folder / "DAT").glob("m-*.safetensors")
    log = (folder / "DAT/run.log").read_text()
    assert f"pot/m.deploy: deployed TorchScript model, converted to {copy}\n" in log and "pot/m.deploy  cutoff" in log
    made = copy.stat().st_mtime_ns
    COMM.Barrier()
    run(folder, "--ntime_step", "6")  # a continuation
    assert "pot/m.deploy: deployed TorchScript model; its native copy" in (folder / "DAT/run.log").read_text()
    assert copy.stat().st_mtime_ns == made
    write(folder / "rxmdnn.in", f"allegro native.safetensors 2 {SPECIES}\n")
    native = run(folder, out="native")
    np.testing.assert_array_equal(native["etotal_eV"], table["etotal_eV"])
    assert not list((folder / "native").glob("*.safetensors"))
    write(folder / "rxmdnn.in", f"allegro pot/m.deploy 2 {SPECIES}\nallegro native.safetensors 2 {SPECIES}\n")
    mixed = run(folder, "--model_weights", "0.25", "0.75", out="mixed")
    np.testing.assert_allclose(mixed["potential_eV"], table["potential_eV"], rtol=1e-12)


def test_deployed_model_in_programs_and_check(folder, capfd):
    atoms = ase.io.read(folder / "start.xyz")
    energies = []
    for name in ("pot/m.deploy", "native.safetensors"):
        atoms.calc = Calculator(folder / name, precision="float64", comm=COMM)
        energies.append(atoms.get_potential_energy())
    assert energies[0] == energies[1] != 0
    potential = rxmdnn.load_model([folder / "pot/m.deploy", folder / "native.safetensors"], comm=COMM)
    assert potential.elements == ("Ne", "Kr", "Ar")
    end, _ = rxmdnn.simulate(atoms, folder / "pot/m.deploy", 1, comm=COMM, out=folder / "out")
    assert len(list((folder / "out").glob("m-*.safetensors"))) == 1 and np.isfinite(end.get_potential_energy())
    if COMM.rank == 0:
        before = sorted(folder.rglob("*"))
        for deck in ("rxmd.in", "rxmdnn.in"):
            check.main([str(folder / deck)])
            assert f"{deck}: valid" in capfd.readouterr().out
        assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kind", ["checkpoint", "old pickle", "TorchScript"])
@pytest.mark.parametrize("command", ["run", "check rxmd.in", "check rxmdnn.in"])
def test_planted_code_in_a_deck_is_not_run(folder, kind, command):
    model, trace = folder / "pot/planted", folder / "ran"

    def plant():
        hostile = Hostile(os.system, f"touch {shlex.quote(str(trace))}")
        if kind == "TorchScript":
            rewritten(folder / "pot/m.deploy", model, data_pkl=lambda data: pickle.dumps(hostile, 2))
        else:
            torch.save({"state_dict": hostile}, model, _use_new_zipfile_serialization=kind == "checkpoint")
        (folder / "rxmdnn.in").write_text(f"# models\nallegro pot/planted 2 {SPECIES}\n")

    on_root(COMM, plant)
    with pytest.raises(InputError, match=r"rxmdnn\.in:2: allegro: .*pot/planted: (refused|a checkpoint)") as caught:
        if command == "run":
            run(folder)
        else:
            check.main([str(folder / command.removeprefix("check "))])
    assert len(caught.value.faults) == 1 and "\n" not in caught.value.faults[0]
    if kind != "TorchScript":
        assert f"rxmdnn import-model {model} {model}.safetensors --trust" in str(caught.value)
    assert not trace.exists() and not (folder / "DAT").exists()


def test_elements_that_a_deployed_model_does_not_know(folder):
    write(folder / "rxmdnn.in", "allegro pot/m.deploy 2 Ar 39.95 Xe 131.29\n")
    with pytest.raises(InputError, match=r"rxmdnn\.in:1: allegro: .*m\.deploy: does not know Xe; it knows Ne, Kr, Ar"):
        run(folder)


def test_pair_terms_are_the_same_on_any_ranks(folder):
    def prepare():
        (folder / "sh.txt").write_text("2\n1 1 0.4 2.0 9 3.8\n1 2 1.5 1.5 6 4.5\n2 2 0.2 2.0 6 4.0\n")
        (folder / "sp.txt").write_text("2\n1 2 0.3 3.0 0 9.0\n")  # beyond the cutoff of the model

    on_root(COMM, prepare)
    words = ["--shparams", str(folder / "sh.txt"), "--spparams", str(folder / "sp.txt"), "--ntime_step", "8"]
    bare, table = run(folder, "--ntime_step", "8", out="bare"), run(folder, *words)
    assert abs(bare["potential_eV"] - table["potential_eV"]).min() > 0.1
    with pytest.raises(InputError, match=r"models: now .*before .*shparams sha256"):
        run(folder, "--ntime_step", "9")  # a continuation without the terms
    log = (folder / "DAT/run.log").read_text()
    assert "pot/m.deploy, shparams, spparams  cutoff 9.000" in log and "the force of a pair ends at" in log
    argv = ["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "alone"), *words]
    on_root(COMM, lambda: run_command.main(argv, MPI.COMM_SELF))
    alone = read_energies(folder / "alone")
    for column in ("potential_eV", "kinetic_eV", "stress_xx_GPa", "stress_yz_GPa"):
        np.testing.assert_allclose(table[column], alone[column], rtol=1e-9, atol=1e-9)


def test_compiled_models_on_several_ranks(folder):
    def prepare():
        torch.jit.script(Local()).save(str(folder / "model.pt"), _extra_files={"r_max": "4.0", "type_names": "Ne Ar"})
        (folder / "rxmdnn.in").write_text(f"compiled model.pt 1 {len(SPECIES.split()) // 2} {SPECIES}\n")

    on_root(COMM, prepare)
    table = run(folder)
    argv = ["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "alone")]
    on_root(COMM, lambda: run_command.main(argv, MPI.COMM_SELF))
    for column in ("potential_eV", "kinetic_eV", "stress_xx_GPa", "stress_yz_GPa"):
        np.testing.assert_allclose(table[column], read_energies(folder / "alone")[column], rtol=1e-9, atol=1e-9)
    assert np.ptp(table["potential_eV"]) > 1e-6
    assert f"note         : {folder}/rxmdnn.in:1: compiled: the code of {folder}/model.pt is run" in (
        folder / "DAT/run.log").read_text()


def test_whole_models_run_on_one_rank(folder):
    write(folder / "rxmdnn.in", f"ase ase.calculators.lj:LennardJones 2 {SPECIES}\n")
    if COMM.size > 1:
        with pytest.raises(InputError, match=r"rxmdnn\.in:1: ase: sees all atoms at once and runs on one rank, but 2"):
            run(folder)
        with pytest.raises(InputError, match="runs on one rank, but 2 are running"):
            Calculator(AseCalculator("ase.calculators.lj:LennardJones", ("Ar", "Ne")), comm=COMM).calculate(
                ase.io.read(folder / "start.xyz"))
        return
    table = run(folder, "--ntime_step", "8")
    atoms = ase.io.read(folder / "start.xyz")
    atoms.calc = LennardJones()
    assert abs(table["potential_eV"][0] - atoms.get_potential_energy()) < 1e-9
    assert np.ptp(table["etotal_eV"]) < 1e-4 * table["kinetic_eV"].max()  # its forces jump at its cutoff
    write(folder / "mine.py", "import ase.calculators.lj as lj\n\n\ndef make():\n    return lj.LennardJones()\n")
    write(folder / "rxmdnn.in", f"ase mine.py:make 2 {SPECIES}\n")
    again = run(folder, "--ntime_step", "8", out="file")
    np.testing.assert_array_equal(again["potential_eV"], table["potential_eV"])


@published
@pytest.mark.parametrize("replaced", [False, True], ids=["as published", "other names"])
def test_published_decks_of_rxmd_nn(folder, monkeypatch, replaced):
    """ymno3: rxff.bin by geninit, then the deck unchanged but for its number of steps and the ranks."""
    place = folder / "published"

    def prepare():
        (place / "pot").mkdir(parents=True)
        for name in ("rxmd.in", "rxmdnn.in", "ymno3.xyz"):
            shutil.copyfile(PUBLISHED / name, place / name)
        shutil.copyfile(PUBLISHED / "ymno3.deploy", place / "pot/ymno3.deploy")
        if replaced:
            (place / "pot/ymno3.deploy").rename(place / "pot/potential")
            (place / "rxmdnn.in").write_text("allegro pot/potential 3 O 15.9994 Y 88.90585 Mn 54.938044\n")
        monkeypatch.chdir(place)
        geninit.main(["-inputxyz", "ymno3.xyz", "-output", "DAT"])

    on_root(COMM, prepare)
    monkeypatch.chdir(place)
    words = ["--ntime_step", "2", "--pstep", "1", "--fstep", "1", "--vprocs", str(COMM.size), "1", "1"]
    assert run_command.main(words, COMM) == 0
    COMM.Barrier()
    table, start = read_energies(Path("DAT")), ase.io.read("DAT/000000000.xyz")
    golden = np.load(PUBLISHED / "ymno3_1920.npz")
    assert abs(table["potential_eV"][0] - golden["energies"].astype(float).sum()) < 1e-5 * len(start)
    forces = start.arrays["model_forces"] if "model_forces" in start.arrays else start.get_forces()
    assert np.abs(forces[np.argsort(start.arrays["id"])] - golden["forces"]).max() < 5e-4
    assert np.ptp(table["etotal_eV"]) < 1e-6 * len(start)
    energies = on_root(COMM, lambda: _alone(place))
    np.testing.assert_allclose(table["etotal_eV"], energies, rtol=0, atol=1e-6 * len(start))


def _alone(place):
    """Total energies of the same steps on one rank."""
    argv = ["--ntime_step", "2", "--pstep", "1", "--outDir", "alone", "--start", "structure", "--structure"]
    assert run_command.main([*argv, "DAT/geninit.xyz"], MPI.COMM_SELF) == 0
    return read_energies(Path("alone"))["etotal_eV"]


@published
@pytest.mark.parametrize("file, reference, species, total", [
    ("psto.pth", "published/psto_135.npz", "O 15.999 Ti 47.867 Pb 207.2 Sr 87.62", 1e-3),
    ("deployed.pth", "legacy_allegro/legato_nh3_432.npz", "N 14.007 H 1.008", 7e-3)])  # see test_allegro_legacy
def test_published_models_by_deck_line(folder, file, reference, species, total):
    with np.load(PUBLISHED.parent / reference) as golden:
        numbers, energies = (golden[next(name for name in names if name in golden.files)]
                             for names in (("numbers", "atomic_numbers"), ("energies", "atomic_energy")))
        atoms, forces = Atoms(numbers, golden["positions"], cell=golden["cell"], pbc=True), golden["forces"]

    def prepare():
        ase.io.write(folder / "start.xyz", atoms, format="extxyz", parallel=False)
        (folder / "rxmdnn.in").write_text(f"allegro {PUBLISHED / file} {len(species.split()) // 2} {species}\n")

    on_root(COMM, prepare)
    words = ["--ntime_step", "0", "--precision", "float32"]
    assert abs(run(folder, *words)["potential_eV"][0] - energies.astype(float).sum()) < total
    deck = read_run(["--rxmdin", str(folder / "rxmd.in"), *words])
    atoms.calc = Calculator(make_potential(deck, make_backend(COMM, deck)), comm=COMM)
    assert np.abs(atoms.get_forces() - forces).max() < 5e-4
