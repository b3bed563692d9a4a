"""rxmdnn structure: an ideal gas, a crystal's reflections and extinctions, Debye-Waller, diffusion, bonds; dynasor."""

import csv
import json

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.analysis import diffraction
from rxmdnn.analysis.displacements import Displacements, msd
from rxmdnn.analysis.scatterers import amplitudes
from rxmdnn.analysis.structure import Bonds
from rxmdnn.cell import Cell
from rxmdnn.commands.structure import main
from rxmdnn.errors import InputError
from rxmdnn.io.series import open_series
from tests.systems import TRICLINIC
from tests.trajectories import write

SELF = MPI.COMM_SELF


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {name: np.array(column, float) for name, column in zip(rows[0], zip(*rows[1:]))}


def test_an_ideal_gas_has_no_structure(tmp_path):
    rng = np.random.default_rng(5)
    names = np.array(["Ar"] * 200 + ["Ne"] * 100)
    x = rng.random((8, 300, 3)) @ TRICLINIC.h
    write(tmp_path, names, np.where(names == "Ar", 39.95, 20.18), x, cell=TRICLINIC)
    main([str(tmp_path), "--rmax", "6", "--json", str(tmp_path / "s.json")])
    g, s = table(tmp_path / "gr.csv"), table(tmp_path / "static.csv")
    far = g["r_A"] > 1.5
    for pair in ("Ar-Ar", "Ar-Ne", "Ne-Ne"):
        assert g[f"g_{pair}"][far].mean() == pytest.approx(1.0, abs=0.02)
    volume = 4 / 3 * np.pi * 6.0**3 / TRICLINIC.volume
    assert g["n_Ar-Ne"][-1] == pytest.approx(100 * volume, rel=0.03)
    assert g["n_Ar-Ar"][-1] == pytest.approx(199 * volume, rel=0.03)
    for probe in ("neutron", "xray", "electron"):
        assert s[probe][s["q_1_A"] > 2].mean() == pytest.approx(1.0, abs=0.03)


def crystal(cells=2, a=5.1305, u=0.0, frames=1, seed=0):
    """Solid ammonia's nitrogens (P2_13, 4a) and hydrogens (12b): names, x (frames, n, 3), cell."""
    def position_a(v):
        return [(v, v, v), (0.5 - v, -v, 0.5 + v), (-v, 0.5 + v, 0.5 - v), (0.5 + v, 0.5 - v, -v)]

    def position_b(x, y, z):
        first = [(x, y, z), (0.5 - x, -y, 0.5 + z), (-x, 0.5 + y, 0.5 - z), (0.5 + x, 0.5 - y, -z)]
        return [p[k:] + p[:k] for p in first for k in range(3)]

    unit = np.array(position_a(0.2107) + position_b(0.3689, 0.2671, 0.1159))
    shift = np.stack(np.meshgrid(*[np.arange(cells)] * 3), -1).reshape(-1, 1, 3)
    s = ((unit % 1.0)[None] + shift).reshape(-1, 3) / cells
    names = np.tile(["N"] * 4 + ["H"] * 12, cells**3)
    cell = Cell(a * cells * np.eye(3))
    rng = np.random.default_rng(seed)
    return names, (s @ cell.h)[None] + u * rng.normal(size=(frames, len(s), 3)), cell


def test_a_crystal_has_its_reflections_and_extinctions(tmp_path):
    names, x, cell = crystal()
    write(tmp_path, names, np.where(names == "H", 1.008, 14.007), x, cell=cell)
    hkl = [str(n) for row in ((1, 0, 0), (3, 0, 0), (2, 0, 0), (1, 1, 1), (0, 0, 1)) for n in row]
    main([str(tmp_path), "--cells", "2", "2", "2", "--hkl", *hkl, "--frames", "1"])
    b = table(tmp_path / "bragg.csv")
    for probe in ("neutron", "xray", "electron"):
        i = b[f"{probe}_I"]
        assert (i[[0, 1, 4]] < 1e-18 * i.max()).all() and (i[[2, 3]] > 1e-3 * i.max()).all()
    s = table(tmp_path / "static.csv")  # between the reflections of the unit cell there is nothing
    q = 2 * np.pi / 5.1305 * np.sqrt(3)
    assert s["xray"][abs(s["q_1_A"] - q) < 0.05].max() > 5
    assert s["xray"][(s["q_1_A"] > 1.3) & (s["q_1_A"] < 1.6)].max() < 1e-9
    g = table(tmp_path / "gr.csv")
    assert g["n_H-N"][np.searchsorted(g["r_A"], 1.3)] == pytest.approx(1.0, rel=1e-6)
    assert g["n_H-H"][np.searchsorted(g["r_A"], 1.8)] == pytest.approx(2.0, rel=1e-6)


def test_gaussian_displacements_weaken_peaks_as_debye_and_waller_say(tmp_path):
    u, frames = 0.12, 80
    names, x, cell = crystal(2, u=u, frames=frames)
    keep = names == "N"
    write(tmp_path, names[keep], np.full(keep.sum(), 14.007), x[:, keep], cell=cell)
    main([str(tmp_path), "--cells", "2", "2", "2", "--qmax", "0", "--json", str(tmp_path / "s.json")])
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["u_squared_N_A2"] == pytest.approx(3 * u**2 * (1 - 1 / 32) * (1 - 1 / frames), rel=0.04)
    b = table(tmp_path / "bragg.csv")
    for probe in ("neutron", "electron"):
        strong = b[f"{probe}_I0"] > 0.2 * b[f"{probe}_I0"].max()
        q, still = b["q_1_A"][strong], b[f"{probe}_I0"][strong]
        loss = np.exp(-(q**2) * u**2)
        assert strong.sum() > 2 and loss.min() < 0.93
        # exact: what the peaks lose becomes diffuse, N f² (1 - exp(-2W)) in all
        diffuse = 32 / 8**2 * amplitudes(probe, ["N"], q)[0] ** 2 * (1 - loss)
        assert np.allclose(b[f"{probe}_I"][strong], still * loss + diffuse, rtol=0.04)
        assert np.allclose(b[f"{probe}_debye_waller"][strong], still * loss, rtol=0.04)


def test_a_walk_has_its_diffusion_and_its_error(tmp_path):
    """Brownian steps of variance 2 D dt, in a cell they leave many times; also without images."""
    d, dt, n, frames = 2e-3, 10.0, 60, 1500
    rng = np.random.default_rng(2)
    cell = Cell(6.0 * np.eye(3))
    x = np.cumsum(rng.normal(scale=np.sqrt(2 * d * dt), size=(frames, n, 3)), axis=0) + 3.0
    write(tmp_path, ["Ar"] * n, np.full(n, 39.95), x, cell=cell, dt=dt)
    series = open_series(tmp_path)
    for has in ({"x", "image"}, {"x"}):
        series.has = has
        found = Displacements(SELF, series, np.zeros(n, int), 1, dt)
        factor = n / (n - 1)  # of the walk relative to its own center of mass
        assert found.diffusion[0] * factor == pytest.approx(d, rel=0.1)
        assert abs(found.diffusion[0] * factor - d) < 4 * found.diffusion_error[0]
        assert found.exponent[0] == pytest.approx(1.0, abs=0.2)


def test_structure_is_over_beads_and_motion_over_centroids(tmp_path):
    """Two beads on either side of a centroid at rest: <u²> is theirs, the mean-square displacement is its own."""
    names, x, cell = crystal(1, frames=40)
    x = np.repeat(x[:1], 40, axis=0)
    mass, sign = np.where(names == "H", 1.008, 14.007), np.where(np.arange(40) % 2, 1.0, -1.0)[:, None, None]
    away = np.tile([1.0, -1.0], 8)[:, None] / mass[:, None] * np.array([0.1, 0.0, 0.0])
    away[names == "N"] -= (away * mass[:, None]).sum(axis=0) / (14.007 * 4)  # the center of mass stays
    for name, shift in (("trajectory", 0.0), ("bead_0", 1.0), ("bead_1", -1.0)):
        write(tmp_path / name, names, mass, x + shift * sign * away, cell=cell)
        (tmp_path / name / "trajectory.h5md").rename(tmp_path / f"{name}.h5md")
    main([str(tmp_path), "--qmax", "0", "--frames", "4", "--json", str(tmp_path / "s.json")])
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["u_squared_H_A2"] == pytest.approx((0.1 / 1.008) ** 2, rel=1e-6)
    assert found["frames_of_g"] == 8 and any("over 2 beads" in note for note in found["notes"])
    assert table(tmp_path / "msd.csv")["msd_H_A2"].max() < 1e-12


def test_msd_is_the_mean_over_origins():
    x = np.random.default_rng(0).normal(size=(3, 40, 3)).cumsum(axis=1) + 100.0
    want = [((x[:, t:] - x[:, :40 - t]) ** 2).sum(axis=2).mean(axis=1) for t in range(40)]
    assert np.allclose(msd(x), np.array(want).T, rtol=1e-9, atol=1e-9)


def test_a_solid_gets_no_diffusion_coefficient(tmp_path, capsys):
    names, x, cell = crystal(2, u=0.1, frames=60)
    write(tmp_path, names, np.where(names == "H", 1.008, 14.007), x, cell=cell)
    main([str(tmp_path), "--qmax", "0", "--frames", "2", "--json", str(tmp_path / "s.json")])
    found = json.loads((tmp_path / "s.json").read_text())
    assert "diffusion_H_cm2_s" not in found and "no diffusion coefficient" in capsys.readouterr().out


def test_bonds_angles_and_hydrogen_bonds():
    names, x, cell = crystal(2)
    from rxmdnn import backend as backends
    from rxmdnn.engine.neighbors import pairs

    b = Bonds(names)
    i, j, S = pairs(backends.make("cpu"), x[0], cell, b.reach)
    r = x[0][j] + S @ cell.h - x[0][i]
    b.add(i, j, r, np.linalg.norm(r, axis=1))
    assert b.length["N-H"].sum() == 96 and set(b.length) == {"N-H"}
    assert b.angle["H-N-H"].sum() == 96 and set(b.angle) == {"H-N-H"}
    at = 0.5 * (Bonds.LENGTH[1:] + Bonds.LENGTH[:-1])[np.argmax(b.length["N-H"])]
    assert at == pytest.approx(0.989, abs=0.005)
    far, bend = np.nonzero(b.joint[:50])
    assert b.joint[:50].sum() == 96  # one a hydrogen, near 2.4 Å and 160 degrees
    assert Bonds.FAR[far[0]] == pytest.approx(2.36, abs=0.06) and Bonds.BEND[bend[0]] > 150


def test_wave_vectors_are_one_of_each_pair_inside_the_sphere():
    hkl, q = diffraction.wave_vectors(TRICLINIC, 3.0, 10**6)
    assert np.allclose(q, np.linalg.norm(hkl @ (2 * np.pi * np.linalg.inv(TRICLINIC.h).T), axis=1)) and q.max() <= 3.0
    assert len(np.unique(np.concatenate([hkl, -hkl]), axis=0)) == 2 * len(hkl)
    assert 2 * len(q) == pytest.approx(TRICLINIC.volume * 27 * 4 / 3 * np.pi / (2 * np.pi) ** 3, rel=0.05)
    few, _ = diffraction.wave_vectors(TRICLINIC, 3.0, 5)
    assert len(few) < len(hkl) / 3


def test_structure_factors_and_dynamics_agree_with_dynasor(tmp_path):
    dynasor = pytest.importorskip("dynasor")
    rng = np.random.default_rng(1)
    names = np.array(["Ar"] * 12 + ["Ne"] * 8)
    t = np.arange(200)[:, None, None] * 4.0
    x = rng.random((1, 20, 3)) @ TRICLINIC.h + 0.3 * np.sin(2 * np.pi * t / 100.0 + 6 * rng.random((1, 20, 3)))
    write(tmp_path, names, np.where(names == "Ar", 39.95, 20.18), x, cell=TRICLINIC, dt=4.0)
    main([str(tmp_path), "--qmax", "2.5", "--frames", "200", "--dynamic", "--dynamic-qmax", "2.0", "--window", "0.2"])
    from rxmdnn.analysis.dynamic import Feed

    hkl, q = diffraction.wave_vectors(TRICLINIC, 2.5, 40)
    vectors = hkl @ (2 * np.pi * TRICLINIC.inverse.T)
    series = open_series(tmp_path)
    index = (names == "Ne").astype(int)
    sample = dynasor.compute_static_structure_factors(Feed(series, ("Ar", "Ne"), index), vectors)
    ours = diffraction.StaticFactors(("Ar", "Ne"), np.array([12, 8]), hkl, q)
    for k in range(200):
        ours.add(diffraction.densities(TRICLINIC.fractional(x[k]), index, 2, hkl))
    for row, (a, b) in zip(ours.sums, ours.pairs):
        theirs = sample[f"Sq_{('Ar', 'Ne')[a]}_{('Ar', 'Ne')[b]}"].ravel()
        assert np.allclose((1 if a == b else 2) * row / 200 / 20, theirs, atol=1e-8)
    with h5py.File(tmp_path / "structure.h5") as file:
        d = {k: v[:] for k, v in file["dynamic"].items()}
    energy = 2 * np.pi / 100.0 * 658.212
    line = (d["energy"] > 0.6 * energy) & (d["energy"] < 1.5 * energy)
    top = d["energy"][line][np.argmax(d["S"].sum(axis=0)[line])]
    assert top == pytest.approx(energy, rel=0.15)
    for name in ("radial", "static", "displacements", "dynamic"):
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_messages(tmp_path):
    names, x, cell = crystal(1)
    write(tmp_path, names, np.where(names == "H", 1.008, 14.007), x, cell=cell)
    for words, argv in (("write three numbers per reflection", ["--hkl", "1", "1", "1"]),
                        ("--frames: must be above", ["--frames", "0"]), ("single frame has no dynamics", ["--dynamic"]),
                        ("0 0 0 is not a reflection", ["--cells", "1", "1", "1", "--hkl", "0", "0", "0"])):
        with pytest.raises(InputError, match=words):
            main([str(tmp_path), *argv])
