"""Runs in an electric field by their decks: any grid, a restart in the middle of a pulse, charges that migrate."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.atoms import CHARGES
from rxmdnn.commands import run as run_command
from rxmdnn.errors import FINISHED, InputError
from rxmdnn.io.log import read_energies
from tests.runs import killed_at, run_deck, same_atoms, shared_folder, state, write, write_start

COMM = MPI.COMM_WORLD
DECK = """mdmode 1
time 2.0 60
temperature 90.0 1.0 1
io_step 0 5
structure start.xyz
checkpoint 20
skin 0.3
field pulse 0 1 2 0.04 60 50 8
field sine z 0.02 5
"""
BY_ELEMENT = "charges Ne 0.5\ncharges Ar -0.5\n"
NOT_TIMES = ("seconds",)


@pytest.fixture
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory) as place:
        write(COMM, place / "rxmd.in", DECK + BY_ELEMENT)
        yield place


def go(folder, out, *flags, deck="rxmd.in", comm=COMM):
    return run_deck(comm, folder / deck, folder / out, *flags)


def rows_of(out):
    return {k: v for k, v in read_energies(out).items() if k not in NOT_TIMES and not k.startswith("spread")}


def born_start(place):
    """start.xyz with a column of Born tensors."""
    if COMM.rank == 0:
        write_start(place)
        lines = (place / "start.xyz").read_text().splitlines()
        lines[1] = lines[1].replace("pos:R:3", "pos:R:3:born_charges:R:9")
        tensor = np.array([[0.5, 0.1, 0.0], [-0.2, 0.4, 0.1], [0.0, 0.0, 0.7]])
        for k in range(40):
            lines[2 + k] += " " + " ".join(f"{x:.6f}" for x in (tensor if k % 2 else -tensor).ravel())
        (place / "start.xyz").write_text("\n".join(lines) + "\n")
    COMM.Barrier()


@pytest.mark.parametrize(("charges", "ensemble"), [
    (BY_ELEMENT, ""), ("charges structure\n", "ensemble langevin 0.1\nbarostat scr 0.0 0.5 full\n"),
    (BY_ELEMENT, "pimd 4 trpmd\n")], ids=["nve", "npt", "path integrals"])
def test_a_restart_in_the_middle_of_a_pulse_repeats_the_bits(folder, monkeypatch, charges, ensemble):
    born_start(folder)
    write(COMM, folder / "rxmd.in", DECK + charges + ensemble)
    _, whole = go(folder, "whole")
    with killed_at(monkeypatch, 20):
        go(folder, "cut")
    assert go(folder, "cut", "--until", "60")[0] == FINISHED
    one, other = rows_of(whole), rows_of(folder / "cut")
    assert set(one) == set(other) and "work_field_eV" in one
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)
    assert np.ptp(one["work_field_eV"]) > 1e-3 and np.ptp(one["field_z_V_A"]) > 0.02
    same_atoms(whole, folder / "cut")


@pytest.mark.parametrize("charges", [BY_ELEMENT, "charges structure\n"], ids=["elements", "structure"])
def test_any_grid_gives_the_same_run(folder, charges):
    born_start(folder)
    write(COMM, folder / "rxmd.in", DECK + charges)
    _, together = go(folder, "together")
    if COMM.rank == 0:
        run_command.main(["--rxmdin", str(folder / "rxmd.in"), "--outDir", str(folder / "alone")], MPI.COMM_SELF)
    COMM.Barrier()
    one, other = rows_of(together), rows_of(folder / "alone")
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=1e-9 * max(1.0, np.abs(other[name]).max()),
                                   err_msg=name)
    first, second = (state(folder / out) for out in ("together", "alone"))
    order = np.argsort(first.gid), np.argsort(second.gid)
    np.testing.assert_allclose(first.f[order[0]], second.f[order[1]], atol=1e-9)
    if CHARGES in first.extra:
        np.testing.assert_array_equal(first.extra[CHARGES][order[0]], second.extra[CHARGES][order[1]])
    assert (CHARGES in first.extra) == ("structure" in charges)


def test_efield_acts_as_a_constant_field(folder):
    write(COMM, folder / "rxmd.in", DECK.split("field")[0] + BY_ELEMENT)
    write(COMM, folder / "constant.in", DECK.split("field")[0] + BY_ELEMENT + "field constant y 0.03\n")
    _, flag = go(folder, "flag", "--efield", "2", "0.03")
    _, line = go(folder, "line", deck="constant.in")
    one, other = rows_of(flag), rows_of(line)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    assert (one["field_y_V_A"] == 0.03).all() and one["work_field_eV"][-1] != 0.0


def test_charges_that_do_not_sum_to_zero_are_refused_with_their_sum(folder):
    write(COMM, folder / "rxmd.in", DECK + "charges Ne 0.5\ncharges Ar -0.45\n")
    with pytest.raises(InputError, match=r"rxmd.in:10: charges: their sum over the 40 atoms is 1 e, not zero"):
        go(folder, "out")
    COMM.Barrier()
    write(COMM, folder / "rxmd.in", DECK + "charges Ne 0.5\ncharges Ar -0.45\ncharges neutral 0.02\n")
    with pytest.raises(InputError, match=r"their mean is 0.025 e per atom, above the 0.02"):
        go(folder, "out")
    COMM.Barrier()
    write(COMM, folder / "rxmd.in", DECK + "charges Ne 0.5\ncharges Ar -0.45\ncharges neutral 0.03\n")
    code, out = go(folder, "out")
    assert code == FINISHED and "0.025 e was subtracted" in (out / "run.log").read_text()


def test_other_charges_on_a_restart_begin_a_new_stage(folder):
    go(folder, "out", "--until", "20")
    write(COMM, folder / "rxmd.in", DECK + "charges Ne 0.4\ncharges Ar -0.4\n")
    code, out = go(folder, "out", "--until", "40")
    rows = rows_of(out)
    assert code == FINISHED and "charges: now Ne 0.4" in (out / "run.log").read_text()
    assert abs(rows["conserved_eV"][rows["step"] == 40] - rows["conserved_eV"][rows["step"] == 25]) < 1e-3
    work = rows["etotal_eV"] - rows["conserved_eV"]
    np.testing.assert_allclose(work, rows["work_field_eV"], atol=1e-12)


def test_a_field_that_is_switched_off_on_a_restart(folder):
    """The work so far is kept, and the forces are those without the field."""
    go(folder, "out", "--until", "20")
    write(COMM, folder / "rxmd.in", DECK.split("field")[0] + BY_ELEMENT)
    code, out = go(folder, "out", "--until", "40")
    rows = rows_of(out)
    assert code == FINISHED and "field: now none, before pulse" in (out / "run.log").read_text()
    work, after = rows["work_field_eV"], rows["step"] > 20
    assert work[~after][-1] != 0.0 and (work[after] == work[~after][-1]).all()
    assert not rows["field_z_V_A"][after].any() and rows["field_z_V_A"][~after][-1] != 0.0
    assert np.ptp(rows["conserved_eV"][rows["step"] >= 5]) < 2e-3 < np.ptp(rows["potential_eV"])
    write(COMM, folder / "rxmd.in", DECK.split("field")[0])
    code, out = go(folder, "out", "--until", "60")
    rows = rows_of(out)
    assert code == FINISHED and np.ptp(rows["etotal_eV"][rows["step"] >= 20]) < 2e-3


def test_a_minimization_in_a_constant_field(folder):
    write(COMM, folder / "rxmd.in", DECK.split("field")[0].replace("mdmode 1", "mdmode 10") + BY_ELEMENT
          + "field constant z 0.02\nminimizer fire 1e-2\n")
    code, out = go(folder, "out", "--ntime_step", "400")
    rows = rows_of(out)
    assert code == FINISHED and abs(rows["polarization_z_eA"][0]) < 1e-12 and rows["polarization_z_eA"][-1] > 1e-3


def test_fields_that_reach_beyond_the_run_are_told(folder):
    write(COMM, folder / "rxmd.in", DECK + BY_ELEMENT + "field ramp x 0.01 -10 500\n")
    _, out = go(folder, "out", "--until", "10")
    log = (out / "run.log").read_text()
    assert "rxmd.in:8: field: the run begins at 0 fs, within this pulse, which begins at -15 fs" in log
    assert "rxmd.in:8: field: the run ends at 20 fs, before this pulse does, at 135 fs" in log
    assert "rxmd.in:12: field: the run ends at 20 fs, before this ramp does, at 500 fs" in log
    go(folder, "out", "--until", "20")
    assert (out / "run.log").read_text().count("the run begins at 0 fs, within this pulse") == 1
