"""rxmdnn plot: its figures against exact answers; that pictures appear."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.analysis.run_figures import stages_of, thermodynamics
from rxmdnn.analysis.structure import radial
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.commands.plot import main
from rxmdnn.errors import InputError
from rxmdnn.io.frame import Frame, write_xyz
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.log import Log
from rxmdnn.io.trajectory import Snapshot, read_frames

SELF = MPI.COMM_SELF


def frame(x, cell, step):
    n = len(x)
    return Frame(SELF, Atoms.of(np.arange(n), np.arange(n) % 2, x), cell, n, ("H", "N"), (1.0, 14.0), step, 0.5 * step,
                 -1.0, 1.0, 10.0)


def test_g_of_r_counts_shells_of_a_crystal_and_is_one_in_a_gas():
    side = 6
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3), -1).reshape(-1, 3).astype(float)
    cell = Cell(2.0 * side * np.eye(3))
    kind = np.where(grid.sum(axis=1) % 2 == 0, "H", "N")
    r, g = radial([Snapshot(0, kind, 2.0 * grid, cell)], 3.1)
    edges = np.linspace(0, 3.1, len(r) + 1)
    shell = 4 / 3 * np.pi * np.diff(edges**3)
    near = g["H-N"] * shell * 108 / cell.volume
    assert near[r < 2.5].sum() == pytest.approx(6) and g["H-H"][r < 2.5].sum() == 0
    assert (g["N-N"] * shell * 107 / cell.volume).sum() == pytest.approx(12)
    x = np.random.default_rng(0).random((3000, 3)) * 20
    r, g = radial([Snapshot(0, np.repeat(["H", "N"], 1500), x, Cell(20 * np.eye(3)))], 6.0)
    assert all(abs(v[r > 3].mean() - 1) < 0.01 for v in g.values())


def test_pictures_and_figures(tmp_path):
    cell, x = Cell(8.0 * np.eye(3)), np.random.default_rng(1).random((40, 3)) * 8
    log, trajectory = Log(SELF, tmp_path), H5MD(SELF, tmp_path / "trajectory.h5md")
    for step in range(0, 50, 10):
        total = -40.0 + 4e-3 * step * 0.5e-3  # 1e-4 eV/atom/ps
        log.thermo(SimpleNamespace(step=step, time=0.5 * step, total=total, kinetic=1.0, potential=total - 1.0,
                                   temperature=100.0 + step, pressure=0.5, stress=np.eye(3), spread=None, seconds=0.0,
                                   volume=512.0, conserved=total, driven={}))
        trajectory.write(frame(x, cell, step))
        write_xyz(frame(x, cell, step), tmp_path)
    log.close()
    r = 0.05 * np.arange(1, 17)
    ends = np.exp(-10.0 * r**2) * (1.0 + 0.01 * np.random.default_rng(2).normal(size=(40, 1)))
    lines = [",".join(["step", "time_fs", *(f"r_{x:.6g}_A" for x in r)]),
             *(",".join(map(str, [10 * k, 5.0 * k, *row])) for k, row in enumerate(ends))]
    (tmp_path / "ring_momentum_H.csv").write_text("\n".join(lines) + "\n")
    main([str(tmp_path), "--json", str(tmp_path / "plot.json")])
    momenta = np.genfromtxt(tmp_path / "momentum_H.csv", delimiter=",", names=True)
    exact = np.exp(-0.5 * momenta["p_per_A"] ** 2 / 20.0) / np.sqrt(2 * np.pi * 20.0)
    np.testing.assert_allclose(momenta["compton_profile_A"], exact, atol=0.02 * exact[0])
    assert (momenta["compton_profile_error_A"] < 0.02 * exact[0]).all()
    assert np.genfromtxt(tmp_path / "end_to_end_H.csv", delimiter=",", names=True)["end_to_end"].shape == (16,)
    figures = json.loads((tmp_path / "plot.json").read_text())
    assert figures["drift_eV/atom/ps"] == pytest.approx(1e-4, rel=1e-6) and figures["atoms"] == 40
    assert figures["temperature_mean_K"] == pytest.approx(130.0) and figures["pressure_mean_GPa"] == pytest.approx(0.5)
    for name in ("energies.png", "temperature.png", "gr.png", "momentum_H.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"
    from_h5 = list(read_frames(tmp_path, 3))
    (tmp_path / "trajectory.h5md").unlink()
    from_xyz = list(read_frames(tmp_path, 3))
    assert [f.step for f in from_h5] == [f.step for f in from_xyz] == [0, 20, 40]
    assert np.allclose(from_h5[1].x, from_xyz[1].x, atol=1e-8) and (from_h5[1].names == from_xyz[1].names).all()


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"energies.csv: cannot be read"):
        main([str(tmp_path)])


def test_the_drift_is_that_of_what_is_conserved():
    time = np.linspace(0, 2000, 50)
    e = {"step": time, "time_fs": time, "etotal_eV": 3.0 * time, "kinetic_eV": np.sin(time), "potential_eV": time,
         "temperature_K": time, "pressure_GPa": time}
    assert thermodynamics(e, None)["drift_eV/ps"] == pytest.approx(3000.0)
    kept = thermodynamics(e | {"conserved_eV": 1e-3 * time}, None)
    assert kept["drift_eV/ps"] == pytest.approx(1.0) and "conserved_energy_rms_eV" in kept


def rows(first, last, every, dt, time_0=0.0, **columns):
    """Columns of energies.csv of a stage, with a total energy that is constant unless it is given."""
    step = np.arange(first, last + 1, every)
    e = {"step": step, "time_fs": time_0 + dt * (step - first), "etotal_eV": np.full(len(step), -40.0),
         "kinetic_eV": 1.0 + 0.1 * np.sin(step), "potential_eV": -41.0 - 0.1 * np.sin(step),
         "temperature_K": np.full(len(step), 60.0), "pressure_GPa": np.zeros(len(step))}
    return e | {name: np.broadcast_to(value, len(step)) for name, value in columns.items()}


def joined(*stages):
    return {name: np.concatenate([stage[name] for stage in stages]).astype(float) for name in stages[0]}


def test_the_drift_of_a_stage_knows_no_jump_to_the_next():
    nan = np.nan
    e = joined(rows(0, 90, 10, 1.0, kinetic_eV=0.0, potential_eV=np.linspace(-10, -41, 10), conserved_eV=nan),
               rows(100, 190, 10, 1.0, 100.0, etotal_eV=-30.0, conserved_eV=nan),
               rows(200, 290, 10, 1.0, 200.0, conserved_eV=-20.0), rows(300, 390, 10, 0.5, 300.0, conserved_eV=-20.0))
    written = [{"step": 0, "mdmode": [10, "cg"]},
               {"step": 91, "mdmode": [1], "ensemble": ["nve", None], "time_step": 1.0},
               {"step": 191, "mdmode": [1], "ensemble": ["svr", 0.1], "barostat": ["scr", 0.0], "time_step": 1.0},
               {"step": 291, "mdmode": [1], "ensemble": ["svr", 0.1], "time_step": 0.5}]
    for found in (stages_of(e, written), stages_of(e, [])):
        assert [stage.rows["step"][0] for stage in found] == [0, 100, 200, 310 if found[0].name == "" else 300]
        numbers = [stage.figures(10) for stage in found]
        assert numbers[0]["potential_change_eV/atom"] == pytest.approx(-3.1)
        assert not any("drift" in key or "fluctuation" in key for key in numbers[0])
        assert [abs(n["drift_eV/atom/ps"]) < 1e-12 for n in numbers[1:]] == [True] * 3
        assert "conserved_energy_rms_eV/atom" in numbers[2] and "total_energy_rms_eV/atom" in numbers[1]
    assert [stage.name for stage in stages_of(e, written)] == [
        "minimization", "nve, dt 1 fs", "svr scr, dt 1 fs", "svr, dt 0.5 fs"]


def test_a_minimization_has_a_change_of_energy_and_no_drift(tmp_path, capsys):
    log = Log(SELF, tmp_path)
    for step in range(5):
        log.thermo(SimpleNamespace(step=step, time=float(step), total=-10.0 - step, kinetic=0.0, potential=-10.0 - step,
                                   temperature=0.0, pressure=0.5, stress=np.eye(3), spread=None, seconds=0.0,
                                   volume=8.0, conserved=-10.0 - step, driven={}))
    log.close()
    main([str(tmp_path)])
    said = capsys.readouterr().out
    assert "potential_change_eV: -4" in said and "pressure_at_end_GPa: 0.5" in said
    assert "drift" not in said and "fluctuation" not in said and "e+2" not in said


def test_profiles_average_over_the_other_axes_and_leave_vacuum_empty(tmp_path):
    """Two elements on 1 x 2 x 3 cells; the last third is vacuum."""
    from rxmdnn.analysis.driven_figures import draw_electrons, draw_profile

    count = np.ones((4, 1, 2, 3, 2), int)
    count[..., 2, :] = 0
    t = np.where(count > 0, 300.0, np.nan)
    p = {"step": np.arange(4), "time": np.arange(4) * 10.0, "cell": np.tile(np.diag([8.0, 8.0, 30.0]), (4, 1, 1)),
         "count": count, "T": t, "T_e": np.full((4, 1, 1, 1), 2000.0), "elements": np.array(["Cu", "Au"])}
    assert draw_profile(p, tmp_path / "profile.png").stat().st_size > 5000
    one = {name: value[:1] if name != "elements" else value for name, value in p.items()}
    assert draw_profile(one, tmp_path / "one.png").stat().st_size > 5000
    e = {name: np.linspace(1.0, 2.0, 4) for name in ("time_fs", "Te_K", "Te_min_K", "Te_max_K", "Ta_K",
                                                       "work_electrons_eV", "absorbed_electrons_eV")}
    assert draw_electrons(e, tmp_path / "electrons.png").stat().st_size > 5000
