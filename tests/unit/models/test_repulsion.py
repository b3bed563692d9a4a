"""The repulsion added to any model: values, gradient, cutoff; and its settings in decks and model files."""

import numpy as np
import pytest
import torch
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.deck import language as decks
from rxmdnn.deck.run import read_run
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork, envelope
from rxmdnn.models.mixture import Mixture
from rxmdnn.models.model_file import load_model, save_model
from rxmdnn.models.repulsion import PREFACTOR, Repulsion
from rxmdnn.models.zbl import zbl_pair_energy
from rxmdnn.run.potential import make_potential
from tests.systems import argon, engine

ELEMENTS = ("H", "N")
BOX = Cell(np.eye(3) * 12.0)


def test_it_is_zbl_with_an_envelope_and_ends_at_its_fraction():
    wall = Repulsion(ELEMENTS, 0.8)
    np.testing.assert_allclose(wall.cutoff, 0.8 * np.array([[0.62, 1.02], [1.02, 1.42]]))
    r = np.linspace(0.05, 1.2, 200)
    for a in range(2):
        for b in range(2):
            t_i, t_j = np.full(len(r), a), np.full(len(r), b)
            e, slope = wall.pair(r, t_i, t_j)
            z = torch.from_numpy(wall.z)
            judge = zbl_pair_energy(z[t_i], z[t_j], torch.from_numpy(r)) * envelope(
                torch.from_numpy(r / wall.cutoff[a, b]), 6.0)
            np.testing.assert_allclose(e, judge, rtol=1e-12, atol=1e-13)
            assert not e[r >= wall.cutoff[a, b]].any() and not slope[r >= wall.cutoff[a, b]].any()
            assert (slope <= 0).all()
            d = 1e-6
            up, down = wall.pair(r + d, t_i, t_j)[0], wall.pair(r - d, t_i, t_j)[0]
            np.testing.assert_allclose(slope, (up - down) / (2 * d), rtol=1e-6, atol=1e-6)
    # bare nuclei at the origin of ZBL, twice the directed share
    assert 2 * wall.pair(np.array([1e-6]), [1], [1])[0][0] == pytest.approx(2 * PREFACTOR * 49 / 1e-6, rel=1e-4)


def test_forces_are_the_gradient_of_model_and_repulsion_together():
    rng = np.random.default_rng(3)
    lj, wall = argon(cutoff=4.0, elements=ELEMENTS), Repulsion(ELEMENTS, 2.0)
    x = np.stack(np.meshgrid(*[np.arange(3) * 2.0] * 3, indexing="ij"), -1).reshape(-1, 3) + rng.normal(0, 0.1, (27, 3))
    species = rng.integers(0, 2, 27).astype(np.int32)

    def energy(x, potential):
        forces, atoms = engine(MPI.COMM_SELF, BOX, potential), Atoms.of(np.arange(27), species, x)
        forces.compute(atoms)
        return forces.energy(), atoms.f[np.argsort(atoms.gid[:27])]

    both = Mixture([lj], added=wall)
    e, f = energy(x, both)
    assert e == pytest.approx(energy(x, lj)[0] + energy(x, wall)[0], rel=1e-12)
    assert abs(energy(x, wall)[0]) > 1.0  # the repulsion is not zero here
    for atom, axis in ((0, 0), (13, 1), (26, 2)):
        step = np.zeros_like(x)
        step[atom, axis] = 1e-5
        slope = (energy(x + step, both)[0] - energy(x - step, both)[0]) / 2e-5
        assert f[atom, axis] == pytest.approx(-slope, rel=1e-6)


def test_atoms_that_are_far_apart_feel_nothing():
    x = np.array([[1.0, 1.0, 1.0], [4.0, 1.0, 1.0]])
    forces = engine(MPI.COMM_SELF, BOX, Mixture([argon(cutoff=4.0, elements=ELEMENTS)], added=Repulsion(ELEMENTS)))
    alone = engine(MPI.COMM_SELF, BOX, argon(cutoff=4.0, elements=ELEMENTS))
    for one in (forces, alone):
        one.compute(Atoms.of(np.arange(2), np.zeros(2, np.int32), x))
    assert forces.energy() == alone.energy() != 0.0


def models(folder, text):
    (folder / "rxmdnn.in").write_text(text)
    (folder / "start.xyz").write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3\nAr 0 0 0\n')
    (folder / "rxmd.in").write_text("time 1 1\nstructure start.xyz\n")
    return read_run(["--rxmdin", str(folder / "rxmd.in")])


def test_model_decks(tmp_path):
    lj, zbl = "lj 0.0104 3.4 6.0 1 Ar 39.95\n", "zbl 0.8 1 Ar 39.95\n"
    run = models(tmp_path, zbl + lj)
    assert [m.kind for m in run.models] == ["lj"] and run.weights == (1.0,) and run.repulsion.kind == "zbl"
    potential = make_potential(run, backends.make("cpu"))
    assert isinstance(potential.added, Repulsion) and potential.cutoff == 6.0
    assert isinstance(make_potential(models(tmp_path, zbl), backends.make("cpu")), Repulsion)
    for text, said in ((zbl + lj + zbl, r"rxmdnn.in:3: zbl: given before; keep one"),
                       ("zbl 3 1 Ar 39.95\n", "fraction = 3: must be above 0 and at most 2"),
                       ("zbl 0.8 1 Xx 39.95\nlj 1 1 1 1 Xx 39.95\n", "zbl: zbl: Xx: not a chemical symbol")):
        with pytest.raises(InputError, match=said):
            make_potential(models(tmp_path, text), backends.make("cpu"))


def test_training_decks_have_it_short_and_old_model_files_keep_theirs(tmp_path):
    deck = decks.parse("data d\nelements N H\nmodel m\n".replace("d\n", f"{__file__}\n", 1), "t", TABLE)
    assert list(deck["zbl"]) == [True, 0.8]
    old = AllegroConfig(("N", "H"), 3.5, zbl=True, n_scalar=4, n_tensor=2)
    assert old.zbl_fraction == 0.0 and (old.zbl_cutoff == 3.5).all()
    new = AllegroConfig(("N", "H"), 3.5, zbl=True, zbl_fraction=0.8, n_scalar=4, n_tensor=2)
    np.testing.assert_allclose(new.zbl_cutoff, 0.8 * np.array([[1.42, 1.02], [1.02, 0.62]]))
    save_model(tmp_path / "m", AllegroNetwork(new))
    assert load_model(tmp_path / "m").config == new
