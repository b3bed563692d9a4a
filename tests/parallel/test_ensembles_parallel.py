"""Ensembles over ranks: the same run on any grid, restarts to the same bits, cells that change under a list."""


import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.dynamics.ensembles.nose_hoover import MartynaTobiasKlein
from rxmdnn.errors import InputError
from rxmdnn.io.log import COLUMNS, read_energies
from rxmdnn.io.trajectory import read_frames
from rxmdnn.parallel import AgreedError
from tests.runs import run_text, same_atoms, state, whole_and_killed, write_start
from tests.systems import TRICLINIC, argon, collect, engine, share, spread_atoms

COMM = MPI.COMM_WORLD
LINES = {
    "nve": "ensemble nve",
    "nose-hoover": "ensemble nose-hoover 0.1",
    "langevin": "ensemble langevin 0.1",
    "svr": "ensemble svr 0.1",
    "scr": "ensemble svr 0.1\nbarostat scr 0.1 0.5 isotropic 1.0\ntramp 60 80",
    "scr full": "ensemble langevin 0.1\nbarostat scr 0.1 0.5 full 1.0 <kind> <pressure>\npramp 0.1 0.4",
    "strain": "ensemble svr 0.1\nstrain_ramp 0.04 0 0.03\nshear_ramp 0 3 -2 <alpha> <beta> <gamma>",
    "mtk": "ensemble nose-hoover 0.1\nbarostat mtk 0.1 0.3 full",
}
DECK = """mdmode 1
time 2.0 {steps}
temperature 60.0 1.0 5
io_step 20 10
structure start.xyz
checkpoint 20
h5md 20
skin 0.3
"""


def go(folder, out, lines, steps=60, comm=COMM, *flags):
    return run_text(comm, folder, out, DECK.format(steps=steps) + lines + "\n", *flags)[1]


@pytest.mark.parametrize("name", LINES)
def test_a_killed_run_continues_to_the_same_bits(folder, name, monkeypatch):
    whole, killed = whole_and_killed(monkeypatch, lambda out: go(folder, out, LINES[name]))
    a, b = same_atoms(whole, killed)
    assert a.step == 60
    assert repr(a.state) == repr(b.state)
    e, f = read_energies(whole), read_energies(killed)
    for column in ("etotal_eV", "conserved_eV", "volume_A3"):
        np.testing.assert_array_equal(e[column][[0, 1, 2, 5, 6]], f[column][[0, 1, 2, 5, 6]])


@pytest.mark.parametrize("name", LINES)
def test_a_run_is_the_same_on_any_grid_and_conserves_its_energy(folder, name):
    e = read_energies(go(folder, "ranks", LINES[name]))
    if COMM.rank == 0:
        go(folder, "alone", LINES[name], 60, MPI.COMM_SELF)
    COMM.Barrier()
    alone = read_energies(folder / "alone")
    for column in ("etotal_eV", "temperature_K", "pressure_GPa", "stress_xy_GPa", "volume_A3", "conserved_eV"):
        np.testing.assert_allclose(e[column], alone[column], rtol=1e-8, atol=1e-10, err_msg=column)
    frames = [f for out in ("ranks", "alone") for f in read_frames(folder / out, 10)]
    np.testing.assert_allclose(frames[3].cell.h, frames[-1].cell.h, rtol=1e-10, atol=1e-10)
    assert (np.ptp(e["volume_A3"]) > 1) == ("barostat" in LINES[name] or "strain" in LINES[name])
    # The disordered start releases heat, which the conserved energy includes.
    assert np.ptp(e["conserved_eV"]) < 0.05 * np.ptp(e["kinetic_eV"])


def test_an_ensemble_can_follow_a_run_without_one_and_the_other_way_round(folder):
    go(folder, "out", "", 20)
    go(folder, "out", LINES["scr"], 20)
    go(folder, "out", LINES["mtk"], 20)
    e = read_energies(go(folder, "out", "", 20))
    assert list(e["step"]) == list(range(0, 81, 10))
    assert list(e)[: len(COLUMNS)] == list(COLUMNS)
    np.testing.assert_array_equal(np.isnan(e["conserved_eV"]), (e["step"] <= 20) | (e["step"] > 60))
    assert np.isfinite(e["etotal_eV"]).all()


def test_a_state_of_another_version_is_reported(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(MartynaTobiasKlein, "state", lambda self: {"heat": 0.0, "rate": 0.0})
        go(folder, "out", LINES["mtk"], 20)
    with pytest.raises(AgreedError, match=r"checkpoint\.h5: state\.ensemble\.chain: is missing"):
        go(folder, "out", LINES["mtk"], 20)


def test_a_list_under_strain_misses_no_pair():
    """Small strains and steps: the forces are those of a new list, and the list is not rebuilt every time."""
    rng = np.random.default_rng(5)
    x, species = spread_atoms(TRICLINIC, 60, 2.6), np.zeros(60, np.int32)
    forces, atoms = engine(COMM, TRICLINIC, argon(), skin=0.6), share(COMM, x, species)
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    for _ in range(40):
        strain = np.eye(3) + 0.004 * rng.normal(size=(3, 3))
        step = 0.02 * rng.normal(size=(60, 3))
        n = atoms.n_owned
        atoms.x[:n] = atoms.x[:n] @ strain + step[atoms.gid[:n]]
        forces.domain.deform(strain)
        forces.compute(atoms)
        f, now = collect(COMM, atoms, atoms.f, atoms.x)
        fresh, again = engine(COMM, forces.domain.cell, argon(), skin=0.0), share(COMM, now, species)
        fresh.domain.distribute(again)
        fresh.compute(again)
        np.testing.assert_allclose(f, collect(COMM, again, again.f)[0], atol=1e-10 * np.abs(f).max())
        assert forces.energy() == pytest.approx(fresh.energy(), rel=1e-10)
    assert 2 <= forces.builds <= 25


def test_fire_finds_the_minimum_that_conjugate_gradients_find(folder):
    for out, line in (("cg", ""), ("fire", "minimizer fire 1e-4")):
        go(folder, out, line, 3000, COMM, "--mdmode", "10", "--CG_tol", "1e-9", "--fstep", "0")
    fire, cg = (state(folder / out) for out in ("fire", "cg"))
    assert np.linalg.norm(fire.f, axis=1).max() < 1e-4
    assert not fire.v.any() and fire.step < 3000
    energies = [read_energies(folder / out)["potential_eV"] for out in ("fire", "cg")]
    assert energies[0][-1] < energies[0][0] - 0.9 * np.ptp(energies[1])
    assert np.linalg.norm(cg.f, axis=1).max() < 1e-3


def test_a_barostat_needs_a_periodic_cell(folder):
    if COMM.rank == 0:
        write_start(folder, "T F T")
    COMM.Barrier()
    with pytest.raises(InputError, match=r"out\.in:\d+: barostat: the cell of the start is not periodic along b"):
        go(folder, "out", LINES["scr"])
    assert not (folder / "out").exists()


def test_an_exploding_cell_is_reported(folder):
    with pytest.raises(InputError, match=r"barostat: the cell would change by .* in one step; use a longer tau_p"):
        go(folder, "out", "ensemble svr 0.1\nbarostat scr 1000 0.001")
