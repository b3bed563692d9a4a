"""Distances of network features, with statistics in the model file; calibration of a clean run; the commands."""

import json

import ase.io
import h5py
import numpy as np
import pytest
import torch
from ase import Atoms as AseAtoms
from ase.calculators.singlepoint import SinglePointCalculator
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.commands import check
from rxmdnn.commands import fidelity as command
from rxmdnn.commands import run as run_command
from rxmdnn.commands import train as train_command
from rxmdnn.errors import InputError
from rxmdnn.fidelity import calibration, reference
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.fidelity.tail import Tail
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import load_model, read_metadata, save_model
from tests.systems import engine

ELEMENTS = ("H", "N")
BOX = 9.0
MOLECULE = np.array([[0.0, 0.0, 0.0], [0.94, 0.0, 0.38], [-0.47, 0.81, 0.38], [-0.47, -0.81, 0.38]])
SMALL = {"elements": ELEMENTS, "r_max": 3.0, "n_tensor": 2, "average_neighbors": 5.0}


def ammonia(rng, spread=0.03):
    """8 molecules on a grid: symbols, positions."""
    corner = np.stack(np.meshgrid(*[np.arange(2) * BOX / 2] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    x = (corner + MOLECULE + 1.0).reshape(-1, 3)
    return "NHHH" * 8, x + rng.normal(0, spread, x.shape)


def make_model(path, legacy=False):
    if legacy:
        network = LegacyNetwork(LegacyConfig(**SMALL, embed_widths=(6, 8), latent_widths=(8,), readout_widths=(4,)))
    else:
        network = AllegroNetwork(AllegroConfig(**SMALL, n_scalar=4, embed_width=4, latent_width=6, readout_width=4,
                                               scale=0.01))
    save_model(path, network, {"deck": "train.in"})
    return path


@pytest.fixture
def folder(tmp_path):
    """A model, and 12 labelled frames (the labels' values do not matter)."""
    rng = np.random.default_rng(2)
    make_model(tmp_path / "m.safetensors")
    frames = []
    for k in range(12):
        symbols, x = ammonia(rng)
        atoms = AseAtoms(symbols, x, cell=[BOX] * 3, pbc=True)
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=rng.normal(0, 1, x.shape))
        atoms.info |= {"kind": "cold" if k % 2 else "warm", "group": str(k)}
        frames.append(atoms)
    ase.io.write(tmp_path / "frames.xyz", frames, format="extxyz")
    (tmp_path / "rxmdnn.in").write_text("allegro m.safetensors 2 H 1.008 N 14.007\n")
    ase.io.write(tmp_path / "start.xyz", AseAtoms(*ammonia(rng, 0.0), cell=[BOX] * 3, pbc=True), format="extxyz")
    return tmp_path


def fit(folder, *more):
    command.main(["fit", str(folder / "m.safetensors"), str(folder / "frames.xyz"), *more])
    return reference.read(folder / "m.safetensors")


def features(potential, x, species):
    forces, atoms = engine(MPI.COMM_SELF, Cell(np.eye(3) * BOX), potential), Atoms.of(np.arange(len(x)), species, x)
    forces.compute(atoms)
    return potential.latent[np.argsort(atoms.gid[: len(x)])]


@pytest.mark.parametrize("legacy", [False, True])
def test_features_are_invariant_smooth_and_independent_of_blocks(tmp_path, legacy):
    net = load_model(make_model(tmp_path / "m", legacy)).double()
    potential = Allegro(net, ELEMENTS, "float64")
    symbols, x = ammonia(np.random.default_rng(0))
    species = np.array([ELEMENTS.index(s) for s in symbols], np.int32)
    potential.watched = True
    whole = features(potential, x, species)
    assert whole.shape[0] == len(x) and np.abs(whole).max() > 0
    potential.block_edges = 40
    np.testing.assert_allclose(features(potential, x, species), whole, rtol=1e-12, atol=1e-14)
    turn = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(features(potential, x @ turn + 0.7, species), whole, rtol=1e-9, atol=1e-12)
    # an atom that crosses another's cutoff changes that one's features by nothing sudden
    lone = np.array([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 3.9999, 1.0]])
    moved = lone + np.array([[0, 0, 0], [0, 0, 0], [0, 2e-4, 0]])
    kinds = np.array([1, 0, 0], np.int32)
    np.testing.assert_allclose(features(potential, moved, kinds)[0], features(potential, lone, kinds)[0], atol=1e-6)
    potential.watched = False
    assert not len(features(potential, x[:0], species[:0]))


def test_fit_keeps_the_statistics_in_the_file_and_the_model_as_it_is(folder, capsys):
    before = load_model(folder / "m.safetensors")
    assert reference.read(folder / "m.safetensors") is None
    found = fit(folder)
    assert "N-H" in capsys.readouterr().out
    after = load_model(folder / "m.safetensors")
    assert after.config == before.config
    for name, value in before.state_dict().items():
        assert torch.equal(value, after.state_dict()[name])
    frames = ase.io.read(folder / "frames.xyz", ":")
    d = np.concatenate([a.get_all_distances(mic=True)[np.ix_(a.numbers == 7, a.numbers == 1)].ravel() for a in frames])
    h, n = 0, 1
    assert found.closest[n, h] == found.closest[h, n] == pytest.approx(d.min())
    assert found.longest[n, h] == pytest.approx(d[d < 1.5].max()) and np.isnan(found.longest[h, h])
    assert found.fewest[n, h] == found.most[n, h] == 3 and found.fewest[h, n] == found.most[h, n] == 1
    forces = np.concatenate([np.linalg.norm(a.get_forces()[a.numbers == 1], axis=1) for a in frames])
    assert found.force[h] == pytest.approx(forces.max())
    assert json.loads(read_metadata(folder / "m.safetensors")["fidelity"])["frames"] == "12"
    fit(folder, "--kinds", "cold")  # again, in its place
    assert json.loads(read_metadata(folder / "m.safetensors")["fidelity"])["frames"] == "6"
    with pytest.raises(InputError, match="--kinds: no frame is of kind hot; there are cold, warm"):
        fit(folder, "--kinds", "hot")


def test_training_adds_the_statistics_by_default(folder, capsys):

    (folder / "train.in").write_text(
        "data frames.xyz\nelements N H\nr_max 3.0\nnetwork 1 1 4 2\nmlp 4 1 4\nbatch 4 frames\nepochs 1\n"
        "split 0.2 0.0\noutput training\nmodel trained.safetensors\n")
    train_command.main([str(folder / "train.in")])
    assert "note: no statistics" not in capsys.readouterr().out
    found = reference.read(folder / "trained.safetensors")
    assert found.elements == ("N", "H") and found.most[0, 1] == 3 and np.isfinite(found.latent).all()
    assert load_model(folder / "trained.safetensors").config.zbl_fraction == 0.8


def test_the_distance_is_about_one_in_training_and_far_for_a_broken_molecule(folder):
    found = fit(folder)
    potential = Allegro(load_model(folder / "m.safetensors"), ELEMENTS)
    potential.watched = True
    symbols, x = ammonia(np.random.default_rng(99))
    species = np.array([ELEMENTS.index(s) for s in symbols], np.int32)
    d = found.distance(features(potential, x, species), species)
    assert 0.5 < np.sqrt((d**2).mean()) < 2.0
    x[1] = x[0] + [0.5, 0.0, 0.2]
    broken = found.distance(features(potential, x, species), species)
    limit = found.of(ELEMENTS[::-1]).tighten(Limits.of(ELEMENTS[::-1])).latent[::-1]
    assert broken[0] > limit[1] and (broken[4:] < limit[species[4:]]).all()


def run(folder, out, lines, steps=20):
    (folder / "rxmd.in").write_text(f"time 0.1 {steps}\ntemperature 50.0 1.0 1\nio_step 0 10\nstructure start.xyz\n"
                                    f"h5md 1\n{lines}\n")
    return run_command.main(["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / out)], MPI.COMM_SELF)


def test_latent_distance_in_a_run(folder, capsys):
    with pytest.raises(InputError, match=r"latent: .*m.safetensors has no training statistics; add them with "
                                         "'rxmdnn fidelity fit .*m.safetensors FRAMES'"):
        run(folder, "none", "fidelity flag 5\nfidelity_watch latent")
    with pytest.raises(InputError, match="has no training statistics"):
        check.main([str(folder / "rxmd.in")])  # says so before a run does
    fit(folder)
    check.main([str(folder / "rxmd.in"), "--ranks", "8"])
    assert "fidelity     : every 5 steps: finite, latent" in capsys.readouterr().out
    assert run(folder, "normal", "fidelity stop 5\nfidelity_watch latent coordination bond") == 0
    assert run(folder, "far", "fidelity stop 5\nfidelity_watch latent\nfidelity_limit latent 0.01") == 3
    # a step that is written is also checked
    row = json.loads((folder / "far" / "incidents.jsonl").read_text())
    assert row["step"] == 1 and row["kinds"] == {"latent": 32}
    path = folder / "m.safetensors"
    path.write_bytes(path.read_bytes().replace(b"fidelity.latent", b"fidelity.latenx"))
    with pytest.raises(InputError, match="of its checksum"):
        run(folder, "damaged", "fidelity flag 5\nfidelity_watch latent")


def test_calibrated_limits_give_no_incidents_in_a_clean_run(folder):
    fit(folder)
    assert run(folder, "clean", "", 60) == 0
    command.main(["calibrate", "--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "clean")])
    file = folder / "clean" / "calibration.json"
    tails = calibration.read(file)
    assert {"H", "N"} == set(tails["force"]) == set(tails["latent"]) and {"N-H", "H-N"} <= set(tails["bond"])
    with h5py.File(folder / "clean" / "trajectory.h5md", locking=False) as data:
        f = np.linalg.norm(data["particles/all/force/value"][:], axis=2) / 96.4853321233
        hydrogen = data["particles/all/species"][:] == 0
    above = (f[:, hydrogen] > tails["force"]["H"].start).mean()
    assert above == pytest.approx(tails["force"]["H"].rate, abs=2e-3)
    assert run(folder, "again", f"fidelity stop 5 0.01\nfidelity_calibration {file}\nseed 7", 60) == 0
    assert not (folder / "again" / "incidents.jsonl").exists()


def test_limits_follow_size_and_duration():
    tails = {"force": {"H": Tail(5.0, 0.5, 0.0, 0.02, 2000)}, "pair": {"N-H": Tail(0.1, 0.02, 0.0, 0.02, 2000)},
             "bond": {"N-H": Tail(1.1, 0.02, 0.0, 0.02, 2000)}}
    small, large = (calibration.calibrated(Limits.of(ELEMENTS), tails, n * np.array([3, 1]), checks, 0.01)
                    for n, checks in ((10, 1e3), (1e6, 1e6)))
    assert large.force[0] > small.force[0] > 5.0 and np.isinf(large.force[1])
    bare = Limits.of(ELEMENTS)
    assert bare.closest[1, 0] <= large.closest[1, 0] < small.closest[1, 0] < np.exp(-0.1)
    assert bare.longest[1, 0] >= large.longest[1, 0] >= small.longest[1, 0]
