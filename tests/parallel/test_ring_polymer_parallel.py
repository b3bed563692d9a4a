"""Ring polymers over ranks: the same run on any grid, restarts to the same bits, one bead is a classical atom."""

import MDAnalysis
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.errors import InputError
from rxmdnn.io.log import read_energies
from rxmdnn.parallel import AgreedError, run_to_exit_code
from rxmdnn.ring_polymer import economised
from rxmdnn.ring_polymer.forces import F, U, V
from rxmdnn.ring_polymer.modes import Modes
from tests.parallel.test_ensembles_parallel import go
from tests.runs import killed_at, same_atoms, state, whole_and_killed

COMM = MPI.COMM_WORLD
LINES = {
    "sampled": "pimd 4\nensemble svr 0.1\nbarostat scr 0.1 0.5 full 1.0\npimd_dump 20",
    "dynamics": "pimd 3 trpmd 0.5",
    "fourth": "pimd 4 suzuki-chin\nensemble langevin 0.1\nbarostat scr 0.1 0.5",
    "economised": "pimd 4 eco\npimd_eco 0.3\nensemble svr 0.1\nbarostat scr 0.1 0.5 full 1.0",
    "outside": "pimd 2\nensemble langevin 0.1\npimd_integrator obabo",
}


ESTIMATES = ("pimd_estimate isotope 10 Ne 22.0 2\npimd_estimate momentum 20 Ar 0.5\npimd_estimate heat_capacity 10\n"
             "pimd_estimate kinetic_tensor 5")
SERIES = ("isotope_Ne", "momentum_Ar", "heat_capacity", "kinetic_tensor")


def table(out):
    names = (out / "ring_polymer.csv").read_text().splitlines()[0].split(",")
    return dict(zip(names, np.loadtxt(out / "ring_polymer.csv", delimiter=",", skiprows=1).T))


@pytest.mark.parametrize("name", LINES)
def test_a_killed_run_continues_to_the_same_bits(folder, name, monkeypatch):
    whole, killed = whole_and_killed(monkeypatch, lambda out: go(folder, out, LINES[name]))
    a, b = same_atoms(whole, killed, extra=(U, V, F))
    assert a.step == 60
    assert repr(a.state) == repr(b.state)
    rows, again = table(whole), table(killed)
    for column in rows:
        np.testing.assert_array_equal(rows[column], again[column], err_msg=column)


@pytest.mark.parametrize("name", LINES)
def test_a_run_is_the_same_on_any_grid_and_conserves_its_energy(folder, name):
    e, rows = read_energies(go(folder, "ranks", LINES[name])), table(folder / "ranks")
    if COMM.rank == 0:
        go(folder, "alone", LINES[name], 60, MPI.COMM_SELF)
    COMM.Barrier()
    alone, other = read_energies(folder / "alone"), table(folder / "alone")
    for column in ("etotal_eV", "temperature_K", "pressure_GPa", "stress_xy_GPa", "volume_A3", "conserved_eV"):
        np.testing.assert_allclose(e[column], alone[column], rtol=1e-8, atol=1e-10, err_msg=column)
    for column in rows:
        np.testing.assert_allclose(rows[column], other[column], rtol=1e-8, atol=1e-10, err_msg=column)
    assert list(rows["step"]) == list(range(0, 61, 10))
    # The disordered start releases heat, which the conserved energy includes.
    assert np.ptp(e["conserved_eV"]) < 0.05 * np.ptp(e["kinetic_eV"])
    assert "ring polymer: averages of" in (folder / "ranks/run.log").read_text()
    if name == "sampled":
        end = state(folder / "alone")
        standard = end.cell.standard()
        beads = Modes(4).to_beads[:, 1:] @ end.extra[U]
        for j in range(4):
            x = MDAnalysis.coordinates.H5MD.H5MDReader(str(folder / f"ranks/bead_{j}.h5md"), convert_units=False)
            assert x.n_frames == 4
            place = np.empty_like(end.x)
            place[end.gid] = end.x + beads[:, j]
            away = x[3].positions - place @ standard.turn
            turns = np.round(standard.cell.fractional(away))
            np.testing.assert_allclose(away - standard.cell.cartesian(turns), 0.0, atol=1e-5)


@pytest.mark.parametrize("name", ["sampled", "economised", "dynamics", "fourth"])
def test_beads_are_distributed_over_groups_of_ranks(folder, name, monkeypatch):
    """The same run up to rounding; after a kill, it continues to the same bits."""
    beads = int(LINES[name].split()[1])
    numbers = [g for g in range(2, COMM.size + 1) if COMM.size % g == 0 and beads % g == 0]
    if not numbers:
        pytest.skip("needs ranks whose number has a divisor in common with that of the beads")
    if COMM.rank == 0:
        go(folder, "alone", LINES[name], 60, MPI.COMM_SELF)
    COMM.Barrier()
    alone, other = read_energies(folder / "alone"), table(folder / "alone")
    for number in numbers:
        lines = f"{LINES[name]}\npimd_groups {number}"
        out = go(folder, f"groups{number}", lines)
        e, rows = read_energies(out), table(out)
        for column in ("etotal_eV", "temperature_K", "pressure_GPa", "stress_xy_GPa", "volume_A3", "conserved_eV"):
            np.testing.assert_allclose(e[column], alone[column], rtol=1e-8, atol=1e-10, err_msg=column)
        for column in rows:
            np.testing.assert_allclose(rows[column], other[column], rtol=1e-8, atol=1e-10, err_msg=column)
    with killed_at(monkeypatch, 47):
        go(folder, "killed", lines)
    a, b = same_atoms(out, go(folder, "killed", lines), extra=(U, V, F))
    assert repr(a.state) == repr(b.state)


def test_omega_max_is_kept_in_the_checkpoint(folder, monkeypatch):
    """The run goes on with it; a run at another temperature, a new stage, searches again."""
    searches = []
    search = economised.stiffest_mode
    monkeypatch.setattr(economised, "stiffest_mode", lambda *a: searches.append(1) or search(*a))
    go(folder, "out", "pimd 4 eco\npimd_eco 0.3\nensemble langevin 0.1", 20)
    first = state(folder / "out").state["ensemble"]["economy"]
    go(folder, "out", "pimd 4 eco\npimd_eco 0.3\nensemble langevin 0.1", 20)
    assert len(searches) == 1
    assert first["omega_max"] % 50 == 0 and first["omega_max"] - 50 < first["stiffest"] <= first["omega_max"]
    assert repr(state(folder / "out").state["ensemble"]["economy"]) == repr(first)
    go(folder, "out", "pimd 4 eco 90\npimd_eco 0.3\nensemble langevin 0.1", 20)
    assert len(searches) == 2
    log = (folder / "out/run.log").read_text() if COMM.rank == 0 else ""
    if COMM.rank == 0:
        assert "the stiffest mode at the start, of" in log and "known from the checkpoint" in log
        assert log.count("economised frequencies up to") == 3
        assert "omega_max = 90 1/cm is below the stiffest mode, of" in log
    go(folder, "out", "pimd 4 trpmd", 20)  # dynamics, from a sample of economised rings
    assert "economy" not in state(folder / "out").state["ensemble"]


def test_too_few_beads_for_omega_max_are_refused_before_anything_is_written(folder):
    with pytest.raises(AgreedError, match=r"eco: 4 beads are too few for 900 1/cm at 60 K .*use [0-9]+ beads, or"):
        go(folder, "out", "pimd 4 eco 900\nensemble langevin 0.1", 20)
    COMM.Barrier()
    assert not (folder / "out").exists()
    assert run_to_exit_code(COMM, lambda: go(folder, "out", "pimd 4 eco 900\nensemble langevin 0.1", 20) and 0) == 2
    go(folder, "out", "pimd 4 eco 900\npimd_eco 0.9 0.5\nensemble langevin 0.1", 20)


@pytest.mark.parametrize("name", ["sampled", "economised"])
def test_further_estimates_are_the_same_on_any_grid_and_after_a_restart(folder, name, monkeypatch):
    """To the bit after a kill; up to rounding with other ranks and groups. The run itself keeps its bits."""
    bare = go(folder, "bare", LINES[name])
    lines = f"{LINES[name]}\n{ESTIMATES}"
    whole = go(folder, "whole", lines)
    with killed_at(monkeypatch, 47):
        go(folder, "killed", lines)
    killed = go(folder, "killed", lines)
    assert state(bare).x.tobytes() == state(whole).x.tobytes() == state(killed).x.tobytes()
    log = (whole / "run.log").read_text()
    for series, every in zip(SERIES, (10, 20, 10, 5)):
        text = (whole / f"ring_{series}.csv").read_text()
        assert text == (killed / f"ring_{series}.csv").read_text(), series
        assert [int(row.split(",")[0]) for row in text.splitlines()[1:]] == list(range(0, 61, every))
        assert f"{series}: averages of" in log
    others = {"alone": (lines, MPI.COMM_SELF)} | (
        {"groups": (f"{lines}\npimd_groups 2", COMM)} if COMM.size % 2 == 0 else {})
    for out, (text, comm) in others.items():
        if comm is COMM or COMM.rank == 0:
            go(folder, out, text, 60, comm)
        COMM.Barrier()
        for series in SERIES:
            rows, again = (np.loadtxt(folder / f"{o}/ring_{series}.csv", delimiter=",", skiprows=1)
                           for o in ("whole", out))
            np.testing.assert_allclose(rows, again, rtol=1e-6, atol=1e-9, err_msg=series)


def test_what_the_first_group_cannot_write_stops_all(folder):
    if COMM.size % 2:
        pytest.skip("two groups need an even number of ranks")
    if COMM.rank == 0:
        (folder / "out").write_text("no folder")
    with pytest.raises(AgreedError, match="out"):
        go(folder, "out", "pimd 4 trpmd\npimd_groups 2")


@pytest.mark.parametrize(("ring", "centroid"), [("pimd 1", "ensemble langevin 0.1"), ("pimd 1 rpmd", "ensemble nve"),
                                                ("pimd 1", "ensemble svr 0.1\nbarostat scr 0.1 0.5"),
                                                ("pimd 1 eco", "ensemble langevin 0.1")])
def test_one_bead_is_a_classical_atom_to_the_bit(folder, ring, centroid):
    atom = state(go(folder, "atom", centroid))
    bead = state(go(folder, "bead", f"{centroid}\n{ring}"))
    for field in ("gid", "x", "v", "f", "image"):
        assert getattr(atom, field).tobytes() == getattr(bead, field).tobytes(), field
    assert atom.cell.h.tobytes() == bead.cell.h.tobytes()
    energies = [read_energies(folder / out) for out in ("atom", "bead")]
    for column in ("etotal_eV", "pressure_GPa", "conserved_eV"):
        np.testing.assert_array_equal(energies[0][column], energies[1][column])


def test_a_run_continues_with_other_numbers_of_beads_and_without(folder):
    go(folder, "out", "ensemble langevin 0.1", 20)
    go(folder, "out", "ensemble langevin 0.1\npimd 3", 20)
    three = state(folder / "out")
    go(folder, "out", "pimd 6 rpmd", 1)
    six = state(folder / "out")
    assert three.extra[U].shape[1:] == (2, 3) and six.extra[U].shape[1:] == (5, 3)
    moved = [s.extra[U][np.argsort(s.gid), :2] for s in (three, six)]
    assert 0 < np.abs(moved[1] - moved[0]).max() < 0.3 * np.abs(moved[0]).max()
    e = read_energies(go(folder, "out", "ensemble langevin 0.1", 20))
    assert state(folder / "out").extra == {}
    assert list(e["step"]) == [0, 10, 20, 30, 40, 41, 50, 60]
    assert np.isfinite(e["etotal_eV"]).all()


def test_members_of_a_mixture_on_rings_of_their_own(folder):
    """A member contracted to no fewer beads changes nothing; to one bead, the energy is still conserved."""
    if COMM.rank == 0:
        (folder / "rxmdnn.in").write_text("".join(f"lj {e} 3.4 {c} 2 Ar 39.95 Ne 20.18\n"
                                                  for e, c in ((0.0104, 6.0), (0.002, 4.5))))
    COMM.Barrier()
    ring = "pimd 4 trpmd\nmodel_weights 1 1"
    found = [read_energies(go(folder, out, ring + line, 20)) for out, line in (
        ("all", ""), ("same", "\npimd_contraction 4 4"), ("one", "\npimd_contraction 4 1"))]
    np.testing.assert_allclose(found[1]["etotal_eV"], found[0]["etotal_eV"], rtol=1e-9)
    assert 1e-6 < np.abs(found[2]["etotal_eV"] - found[0]["etotal_eV"])[1:].max() < 0.05
    assert np.ptp(found[2]["conserved_eV"]) < 0.05 * np.ptp(found[2]["kinetic_eV"])
    lines = "pimd 4 eco\npimd_eco 0.9\nmodel_weights 1 1\nensemble langevin 0.1\npimd_contraction 4 1\npimd_dump 0\n"
    out = go(folder, "eco", f"{lines}pimd_estimate heat_capacity 10", 20)
    energies = np.loadtxt(out / "ring_heat_capacity.csv", delimiter=",", skiprows=1)[:, 2]
    columns = table(out)
    np.testing.assert_allclose(energies, columns["kinetic_virial_eV"] + columns["potential_eV"], rtol=1e-9)


def test_an_unstable_ring_is_reported(folder):
    with pytest.raises(InputError, match=r"pimd: a bead is .* from its centroid|not finite|NaN or infinite"):
        go(folder, "out", "pimd 4 rpmd", 40, COMM, "--dt", "40")
    said = (folder / "out/run.log").read_text() if COMM.rank == 0 else ""
    if COMM.rank == 0:
        assert "pimd: the start has no rings of 4 beads: missing beads begin at their centroids" in said
