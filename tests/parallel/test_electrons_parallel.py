"""Electrons over ranks, through the command line: the same on any grid, restarts to the same bits, faults."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import plot
from rxmdnn.errors import BAD_INPUT, FAILED, InputError
from rxmdnn.io.log import read_energies
from rxmdnn.io.profile import read_profile
from rxmdnn.parallel import run_to_exit_code
from tests.runs import MODELS, killed_at, run_text, same_atoms, whole_and_killed, write

COMM = MPI.COMM_WORLD
DECK = """time 2.0 {steps}
temperature 60.0 1.0 5
io_step 20 10
structure start.xyz
checkpoint 20
skin 0.3
electrons 2 1 3
electrons_capacity constant 1.0e6
electrons_coupling 1.1e18
electrons_temperature 3000
"""
LINES = {
    "nve": "electrons_conductivity scaled 0.5",
    "npt": "ensemble langevin 0.5\nbarostat scr 0.1 0.5 full 1.0\nelectrons_conductivity constant 20",
    "strain": "strain_ramp 0.04 0 0.03\nshear_ramp 0 3 -2\nelectrons_exchange scaling",
}
SURFACE = ("excite 1 2 electrons\nexcite_electrons 2800 3600\nmodel two.in\n"
           "pulse gauss 30 20 0.3 fluence\npulse_direction 0 0 -1\npulse_absorption 20\n")
LINES["surface"] = SURFACE
COLUMNS = ("etotal_eV", "conserved_eV", "work_electrons_eV", "electron_energy_eV", "Te_K", "Te_min_K", "Te_max_K",
           "Ta_K")


def go(folder, out, lines="", steps=60, comm=COMM, *flags, deck=DECK):
    write(comm, folder / "two.in", MODELS + MODELS.replace("0.0104", "0.0208"))
    return run_text(comm, folder, out, deck.format(steps=steps) + lines + "\n", *flags)[1]


@pytest.mark.parametrize("name", LINES)
def test_a_killed_run_continues_to_the_same_bits(folder, name, monkeypatch):
    whole, killed = whole_and_killed(monkeypatch, lambda out: go(folder, out, LINES[name]))
    a, b = same_atoms(whole, killed)
    assert repr(a.state) == repr(b.state) and "electrons" in a.state["drives"]
    e, f = read_energies(whole), read_energies(killed)
    for column in COLUMNS:
        np.testing.assert_array_equal(e[column], f[column], err_msg=column)


@pytest.mark.parametrize("name", LINES)
def test_a_run_is_the_same_on_any_grid_and_conserves_its_energy(folder, name):
    e = read_energies(go(folder, "ranks", LINES[name]))
    if COMM.rank == 0:
        go(folder, "alone", LINES[name], 60, MPI.COMM_SELF)
    COMM.Barrier()
    alone = read_energies(folder / "alone")
    for column in COLUMNS:
        np.testing.assert_allclose(e[column], alone[column], rtol=1e-8, atol=1e-10, err_msg=column)
    if name == "surface":
        assert np.ptp(e["excited_atoms"]) > 10 and np.abs(e["work_surface_eV"]).max() > 0.05
    kept = e["electron_energy_eV"] + e["work_electrons_eV"] - e["absorbed_electrons_eV"]
    np.testing.assert_allclose(kept, kept[0], rtol=1e-12)
    assert e["work_electrons_eV"][-1] > 3 and np.ptp(e["conserved_eV"]) < 0.02 * e["work_electrons_eV"][-1]
    assert e["Ta_K"][-1] > 5 * e["Ta_K"][0] and (e["Te_K"][-1] < e["Te_K"][0] or name == "surface")


def test_a_new_stage_keeps_the_electrons_and_begins_their_work_anew(folder):
    go(folder, "out", LINES["nve"], 20)
    e = read_energies(go(folder, "out", "ensemble svr 0.1\n" + LINES["nve"], 20))
    assert e["step"][-1] == 40 and e["work_electrons_eV"][-1] < e["work_electrons_eV"][2] + 5
    assert np.all(np.diff(e["electron_energy_eV"]) < 0)
    text = (folder / "out" / "run.log").read_text()
    assert "the thermostat svr also acts on the atoms" in text and "degrees of freedom: 120" in text
    assert "conduction takes" in text


def test_another_grid_is_refused(folder):
    go(folder, "out", LINES["nve"], 20)
    with pytest.raises(InputError, match="the grid is 2 x 2 x 3, but that of the checkpoint is 2 x 1 x 3"):
        go(folder, "out", LINES["nve"], 20, COMM, "--electrons", "2", "2", "3")


def test_electrons_that_lose_more_than_they_have_end_the_run(folder, capfd):
    deck = DECK.replace("1.0e6", "1.0e2").replace("re 60.0", "re 1000.0").replace("_temperature 3000", "_temperature 1")
    assert run_to_exit_code(COMM, lambda: go(folder, "out", deck=deck) and 0) == FAILED
    assert COMM.rank or "they lost more energy to the atoms than they had" in capfd.readouterr().err


@pytest.mark.parametrize(("table", "message"), [
    ("300 1e4\n200 2e4\n", r"electrons_table: .*c\.txt:2: T_e \(K\) must ascend"),
    ("300 1e4\n", r"electrons_table: .*c\.txt: 1 row"),
])
def test_a_bad_table_is_one_message_on_every_rank(folder, table, message):
    if COMM.rank == 0:
        (folder / "c.txt").write_text(table)
    COMM.Barrier()
    deck = DECK.replace("electrons_capacity constant 1.0e6", "electrons_table c.txt")
    with pytest.raises(InputError, match=message):
        go(folder, "out", deck=deck)
    assert not (folder / "out" / "energies.csv").exists()
    assert run_to_exit_code(COMM, lambda: go(folder, "out", deck=deck) and 0) == BAD_INPUT


def test_a_table_gives_the_run_of_its_constant(folder):
    if COMM.rank == 0:
        (folder / "c.txt").write_text("100 1e6\n9000 1e6\n")
    COMM.Barrier()
    a = read_energies(go(folder, "table", steps=20, deck=DECK.replace("electrons_capacity constant 1.0e6",
                                                                       "electrons_table c.txt")))
    b = read_energies(go(folder, "constant", steps=20))
    np.testing.assert_allclose(a["Te_K"], b["Te_K"], rtol=1e-9)


def test_profiles_are_those_of_the_run_and_go_on_after_a_kill(folder, monkeypatch):
    lines = "profile 10 1 1 2"
    whole = read_profile(go(folder, "whole", lines))
    with killed_at(monkeypatch, 47):
        go(folder, "killed", lines)
    killed = read_profile(go(folder, "killed", lines))
    assert whole.keys() == killed.keys() == {"step", "time", "cell", "T", "count", "T_e", "elements"}
    for name, values in whole.items():
        np.testing.assert_array_equal(values, killed[name], err_msg=name)
    assert whole["step"].tolist() == list(range(0, 61, 10))
    assert whole["T"].shape == (7, 1, 1, 2, 2) and whole["T_e"].shape == (7, 2, 1, 3)
    e = read_energies(folder / "whole")
    np.testing.assert_allclose(whole["T_e"].mean(axis=(1, 2, 3)), e["Te_K"], rtol=1e-10)
    mean = (whole["T"] * whole["count"]).sum(axis=(1, 2, 3, 4)) / 40
    np.testing.assert_allclose(mean, e["Ta_K"], rtol=1e-10)
    np.testing.assert_allclose(mean, e["temperature_K"], rtol=1e-10)


def test_figures_of_a_run_with_electrons(folder, capsys):
    out = go(folder, "out", "profile 10\n" + LINES["nve"])
    if COMM.rank == 0:
        plot.main([str(out)])
        assert all((out / name).stat().st_size > 5000 for name in ("electrons.png", "profile.png"))


def test_profiles_of_a_run_without_electrons(folder):
    deck = "".join(line + "\n" for line in DECK.splitlines() if not line.startswith("electrons"))
    p = read_profile(go(folder, "out", "profile 20 2 1 1", 40, deck=deck))
    assert p["T"].shape == (3, 2, 1, 1, 2) and "T_e" not in p and (p["count"].sum(axis=(1, 2, 3)) == 20).all()
