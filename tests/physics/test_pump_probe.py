"""rxmdnn structure --delays: waves, Debye-Waller factors, ramps, shells, temperatures with exact answers, on files."""

import csv
import json

import h5py
import numpy as np
import pytest
from scipy.special import jv

from rxmdnn.cell import Cell
from rxmdnn.commands.structure import main
from rxmdnn.errors import InputError
from rxmdnn.units import ACCELERATION, KB
from tests.systems import TRICLINIC, spread_atoms
from tests.trajectories import write

A = 4.0  # Å, of the simple cubic crystal
HERMITE = np.sqrt(3.0) * np.array([-1, 0, 0, 0, 0, 1])  # equal weights; moments of a normal variable up to the fifth


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return {name: np.array(column, float) for name, column in zip(rows[0], zip(*rows[1:]))}


def lattice(nx, ny, nz):
    """Indices (n, 3), positions and cell of a simple cubic crystal."""
    n = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), np.arange(nz), indexing="ij"), -1).reshape(-1, 3)
    return n, A * n, Cell(A * np.diag([nx, ny, nz]).astype(float))


def argon(folder, x, cell, **options):
    return write(folder, ["Ar"] * x.shape[1], np.full(x.shape[1], 39.948), x, cell=cell, **options)


def normal(n, r=0):
    """(n atoms, 3) displacements: a product of quadratures, in every replica and in every layer of cells."""
    return np.stack([HERMITE[(n[:, a] + (1 + a) * r) % 6] for a in range(3)], axis=1)


def test_a_frozen_wave_has_bessel_satellites(tmp_path):
    """u = A cos(kR): F(G - nk)/N is i^n J_n(Q·A), summed over the n that fall on one wave vector of the cell."""
    _, x, cell = lattice(8, 2, 2)
    u, k = np.array([0.35, 0.0, 0.0]), 2 * np.pi / (8 * A)
    wave = np.cos(k * x[:, :1]) * u
    argon(tmp_path, np.array([x, x, x + wave]), cell, dt=10.0)
    main([str(tmp_path), "--delays", "--t0", "15", "--cells", "8", "2", "2", "--hkl", "100,200,300", "--probe",
          "neutron", "--line", "000", "300", "--powder", "none"])

    def amplitude(h):  # at Q = (h, 0, 0), where h + n/8 is whole
        q = 2 * np.pi / A * h
        return sum(1j**m * jv(m, q * u[0]) for m in range(-40, 41) if round(8 * h + m) % 8 == 0)

    t = table(tmp_path / "delays_intensity.csv")
    for h in (1, 2, 3):
        assert t[f"I_{h}00"][:2] == pytest.approx(1.0, abs=1e-12)
        assert t[f"I_{h}00"][2] == pytest.approx(abs(amplitude(h)) ** 2, abs=1e-6)
        assert t[f"I_{h}00"][2] < 0.97
    with h5py.File(tmp_path / "delays.h5") as file:
        s, h = file["line_000_300/S"][2], file["line_000_300/hkl"][:, 0]
    assert len(h) == 24
    assert np.allclose(s / 32, [abs(amplitude(x)) ** 2 for x in h], atol=1e-6)
    assert s[14] / 32 == pytest.approx(jv(1, 2 * np.pi / A * 15 / 8 * 0.35) ** 2, abs=1e-5) and s[14] > 1


def test_normal_displacements_have_debye_waller_factors_by_all_ways(tmp_path):
    """Displacements with the moments of a normal law and <u²> growing with time: ln I falls linearly, exactly."""
    n, x, cell = lattice(6, 6, 6)
    rate = np.array([1e-4, 2e-4, 3e-4])  # Å² per frame along x, y, z
    times = np.maximum(np.arange(8) - 2, 0)
    runs = []
    for r in range(3):
        frames = np.array([x + np.sqrt(rate * t) * normal(n, r) for t in times])
        runs.append(str(argon(tmp_path / f"r{r}", frames, cell, dt=10.0)))
    out = tmp_path / "out"
    hkl = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)]
    main([*runs, "--delays", "--t0", "20", "--cells", "6", "6", "6", "--hkl", *(f"{h}{k}{x}" for h, k, x in hkl),
          "--powder", "none", "-o", str(out), "--json", str(out / "n.json")])
    total, bragg = table(out / "delays_intensity.csv"), table(out / "delays_bragg.csv")
    for h in hkl:
        exact = np.exp(-((2 * np.pi / A * np.array(h)) ** 2 @ rate) * times)
        for t in (total, bragg):
            assert np.allclose(t["I_{}{}{}".format(*h)], exact, atol=1e-6)
            assert np.allclose(t["I_{}{}{}_error".format(*h)], 0, atol=1e-12)
        slopes = np.diff(np.log(total["I_{}{}{}".format(*h)][2:]))
        assert np.allclose(slopes, slopes[0], atol=1e-6)
    u, b = table(out / "delays_displacements.csv"), table(out / "delays_debye_waller.csv")
    unbiased = 648 / 647
    for part, value in (("11", rate[0]), ("22", rate[1]), ("33", rate[2]), ("23", 0.0), ("12", 0.0)):
        assert np.allclose(u[f"U{part}_Ar_A2"], value * times * unbiased, atol=1e-7)
        assert np.allclose(u[f"dU{part}_fit_Ar_A2"], value * times, atol=1e-6)
    assert np.allclose(b["B_start_Ar_A2"], 8 * np.pi**2 * rate.mean() * times, atol=1e-7)
    assert np.allclose(b["dB_Ar_A2"], 8 * np.pi**2 * rate.mean() * times * unbiased, atol=1e-6)
    assert np.allclose(b["dB_fit_Ar_A2"], b["dB_fit_Ar_A2"][-1] / 5 * times, atol=1e-5)
    for name in ("peaks", "debye_waller", "temperature"):
        assert (out / f"delays_{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_random_displacements_agree_within_their_errors(tmp_path):
    """What the peaks lose is in the diffuse part, 1 - exp(-Q²U) per atom; fitted and direct U agree."""
    _, x, cell = lattice(5, 5, 5)
    rng, runs, u, cold = np.random.default_rng(4), [], 0.15, 0.05
    for r in range(5):
        before = x + cold * rng.normal(size=x.shape)  # twice the same: the mean of each atom is where it is
        frames = np.array([before] * 2 + [x + u * rng.normal(size=x.shape) for _ in range(6)])
        runs.append(str(argon(tmp_path / f"r{r}", frames, cell)))
    main([*runs, "--delays", "--t0", "2", "--cells", "5", "5", "5", "--hkl", "200,220,111", "--families", "--plane",
          "000", "200", "020", "--line", "000", "020", "--bin", "1", "--qmax", "6", "--rmax", "8", "--probe", "xray",
          "-o", str(tmp_path / "out"), "--json", str(tmp_path / "n.json")])
    numbers = json.loads((tmp_path / "n.json").read_text())
    assert numbers["fitted_to_direct_dB_Ar"] == pytest.approx(1.0, abs=0.03) and numbers["replicas"] == 5
    b = table(tmp_path / "out/delays_debye_waller.csv")
    late = b["delay_fs"] >= 0
    # of the motion about the center of mass; the error bars are honest
    want = 8 * np.pi**2 * np.where(late, u, cold) ** 2 * (1 - 1 / 125)
    assert (np.abs(b["B_Ar_A2"] - want) < 4.5 * b["B_Ar_error_A2"]).all()
    assert np.allclose(b["B_start_Ar_A2"], want, rtol=0.12)
    i, d = table(tmp_path / "out/delays_bragg.csv"), table(tmp_path / "out/delays_diffuse.csv")
    for name, q_sq in (("200", 4), ("220", 8), ("111", 3)):
        loss = np.exp(-q_sq * (2 * np.pi / A) ** 2 * (u**2 - cold**2))
        assert i[f"I_{name}"][late].mean() == pytest.approx(loss, rel=0.03)
        assert (np.abs(i[f"I_{name}"] - loss)[late] < 5 * i[f"I_{name}_error"][late]).mean() > 0.8
    with h5py.File(tmp_path / "out/delays.h5") as file:
        plane, s = file["plane_000_200_020"], file["plane_000_200_020/S"][3:].mean(axis=0)
        assert s.shape == (11, 11) and np.isnan(s[0, 0])
        q_sq = (plane["hkl"][:] ** 2).sum(axis=-1) * (2 * np.pi / A) ** 2
        off = (np.abs(plane["hkl"][:] % 1) > 1e-6).any(axis=-1)
        assert (s[off] / (1 - np.exp(-q_sq[off] * u**2))).mean() == pytest.approx(1.0, abs=0.05)
        assert np.nanmax(plane["S_before"][:][off]) < 0.1 and s[10, 0] > 50
        diffuse = file["line_000_020/diffuse"][3:].mean(axis=0)
        assert np.allclose(diffuse[4:9], 1 - np.exp(-(file["line_000_020/q"][4:9] ** 2) * u**2), rtol=0.35)
        assert file["powder/relative"].shape == (8, len(file["powder/q"]))
    assert d["S_200"][late].mean() < 5
    made = {p.name for p in (tmp_path / "out").glob("*.png")}
    assert {"delays_powder.png", "delays_pair.png", "delays_line_000_020.png", "delays_plane_000_200_020.png"} <= made


def test_one_delay_is_what_structure_gives_without_delays(tmp_path):
    n, x, cell = lattice(3, 3, 3)
    rng = np.random.default_rng(8)
    names = np.where(n.sum(axis=1) % 2, "Ti", "O")
    frames = x + 0.2 * rng.normal(size=(4, *x.shape))
    run = write(tmp_path / "run", names, np.where(names == "O", 15.999, 47.867), frames, cell=cell)
    both = ["--cells", "3", "3", "3", "--qmax", "5", "--probe", "xray"]
    main([str(run), *both, "--start", "0.003", "--hkl", "1", "1", "0", "2", "0", "0", "--frames", "1", "-o",
          str(tmp_path / "old")])
    main([str(run), "--delays", "--t0", "1", *both, "--hkl", "110,200", "--powder", "direct", "-o",
          str(tmp_path / "new")])
    old, new = table(tmp_path / "old/bragg.csv"), table(tmp_path / "new/delays_intensity.csv")
    start = table(tmp_path / "new/delays_reflections.csv")["I0"]
    assert np.allclose([new["I_110"][3], new["I_200"][3]] * start, old["xray_I"], rtol=1e-7)
    static = table(tmp_path / "old/static.csv")
    with h5py.File(tmp_path / "new/delays.h5") as file:
        assert np.allclose(file["powder/q"][:], static["q_1_A"], rtol=1e-7)
        assert np.allclose(file["powder/S"][3], static["xray"], rtol=1e-6)


def test_stretched_molecules_move_a_peak_of_the_pair_distribution(tmp_path):
    """Pairs 1.1 Å apart, far from each other, stretched to 1.5 Å: ΔS is exact, ΔG moves its area."""
    n = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3)
    center, cell = 12.0 * n + 6.0, Cell(36.0 * np.eye(3))
    axis = np.random.default_rng(1).normal(size=center.shape)
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    frames = np.array([np.concatenate([center - d / 2 * axis, center + d / 2 * axis]) for d in (1.1, 1.1, 1.5)])
    write(tmp_path, ["N"] * 54, np.full(54, 14.007), frames, cell=cell)
    main([str(tmp_path), "--delays", "--t0", "2", "--rmax", "6", "--qmin", "0", "--qmax", "20", "--probe", "neutron"])
    with h5py.File(tmp_path / "delays.h5") as file:
        p = {k: v[:] for k, v in file["powder"].items()}
    w = {d: np.sinc(d / 6.0) for d in (1.1, 1.5)}
    exact = w[1.5] * np.sinc(p["q"] * 1.5 / np.pi) - w[1.1] * np.sinc(p["q"] * 1.1 / np.pi)
    assert np.allclose(p["delta_S"][2], exact, atol=3e-3) and np.abs(p["delta_S"][1]).max() < 1e-12
    r, g = p["r"], p["delta_G"][2]
    for low, high, area in ((0.85, 1.3, -w[1.1]), (1.3, 1.75, w[1.5])):
        own = (r >= low) & (r < high)
        assert (r * g)[own].sum() * 0.02 == pytest.approx(area, abs=0.06)


def test_both_ways_to_a_powder_agree(tmp_path):
    """A gas of hard spheres, then of larger ones, in a triclinic cell: Debye's equation and direct sums."""
    cell = Cell(2 * TRICLINIC.h)
    frames = np.array([spread_atoms(cell, 300, d, seed=k) for k, d in enumerate((2.0, 3.0, 3.0))])
    run = argon(tmp_path / "run", frames, cell, dt=10.0)
    found = []
    for way in ("debye", "direct"):
        main([str(run), "--delays", "--t0", "10", "--bin", "20", "--powder", way, "--qmax", "6", "--rmax", "12", "-o",
              str(tmp_path / way)])
        with h5py.File(tmp_path / way / "delays.h5") as file:
            q, s = file["powder/q"][:], file["powder/S"][1]
        found.append([s[(q > low) & (q < low + 0.6)].mean() for low in np.arange(1.2, 5.4, 0.6)])
    assert np.ptp(found[1]) > 0.3 and np.allclose(*found, atol=0.14)  # noise of 40 vectors per shell


def test_temperatures_of_kinds_and_slabs(tmp_path):
    """Hot light atoms and cold heavy ones; a hot slab; a slab that flows as a whole is not hot."""
    n, x, cell = lattice(8, 8, 8)
    rng = np.random.default_rng(2)
    names, mass = np.where(n[:, 0] % 2, "Ne", "Ar"), np.where(n[:, 0] % 2, 20.18, 39.948)
    target = np.where(names == "Ne", 300.0, 100.0)
    x = x + 1.0  # clear of the edges of the slabs

    def thermal(t):
        return rng.normal(size=x.shape) * np.sqrt(KB * t * ACCELERATION / mass)[:, None]

    runs = []
    for r in range(4):
        v = np.array([thermal(100.0 + 0 * mass), thermal(target), thermal(np.where(n[:, 2] < 4, 400.0, 50.0))])
        v[2] += np.where(n[:, 2] < 4, 0.05, 0.0)[:, None]
        runs.append(str(write(tmp_path / f"r{r}", names, mass, np.repeat(x[None], 3, axis=0), v, cell=cell)))
    main([*runs, "--delays", "--t0", "1", "--slabs", "2", "c", "--powder", "none", "-o", str(tmp_path)])
    t, slabs = table(tmp_path / "delays_temperature.csv"), table(tmp_path / "delays_temperature_slabs.csv")
    assert t["T_Ne_K"][:2] == pytest.approx([100, 300], rel=0.04)
    assert t["T_Ar_K"][:2] == pytest.approx([100, 100], rel=0.04)
    assert t["T_all_K"][1] == pytest.approx(200, rel=0.04) and t["T_all_error_K"][1] < 8
    assert slabs["T_all_8.0A_K"][2] == pytest.approx(400, rel=0.05)
    assert slabs["T_all_24.0A_K"][2] == pytest.approx(50, rel=0.05)
    assert slabs["T_Ne_8.0A_K"][2] == pytest.approx(400, rel=0.08)


def test_excited_atoms_are_counted_and_have_their_temperature(tmp_path):
    n, x, cell = lattice(6, 6, 6)
    rng = np.random.default_rng(0)
    w = np.array([0 * x[:, 0], np.where(n[:, 2] < 3, 0.8, 0.0), np.where(n[:, 2] < 3, 0.4, 0.1)])
    scale = np.sqrt(KB * ACCELERATION / 39.948)
    v = rng.normal(size=(3, *x.shape)) * scale * np.sqrt(np.where(w > 0.5, 500.0, 100.0))[..., None]
    run = argon(tmp_path / "xyz", np.repeat(x[None] + 1.0, 3, axis=0), cell, v=v, xyz=True)
    for k, file in enumerate(sorted(run.glob("*.xyz"))):  # as the run writes it: a column of numbers
        head, *rows = file.read_text().splitlines()[1:]
        rows = [f"{row} {a:.6f}" for row, a in zip(rows, w[k])]
        file.write_text("\n".join([str(len(x)), head.replace(":id:I:1", ":id:I:1:excitation:R:1"), *rows]) + "\n")
    h5 = argon(tmp_path / "h5", np.repeat(x[None] + 1.0, 3, axis=0), cell, v=v)
    with h5py.File(h5 / "trajectory.h5md", "r+") as file:
        file["particles/all/excitation/value"] = w.astype("<f4")
    for folder in (run, h5):
        main([str(folder), "--delays", "--t0", "1", "--where", "excitation > 0.5", "--slabs", "2", "c", "--powder",
              "none"])
        e, t = table(folder / "delays_excitation.csv"), table(folder / "delays_temperature.csv")
        slabs = table(folder / "delays_excitation_slabs.csv")
        assert np.allclose(e["w_all"], [0, 0.4, 0.25], atol=1e-6)
        assert np.allclose(slabs["w_all_6.0A"], [0, 0.8, 0.4], atol=1e-6)
        assert t["T_where_K"][1] == pytest.approx(500, rel=0.12) and t["T_others_K"][1] == pytest.approx(100, rel=0.12)
        assert np.isnan(t["T_where_K"][[0, 2]]).all() and (folder / "delays_excitation.png").is_file()


def test_beads_are_averaged_within_a_replica(tmp_path):
    """Two beads at ±d: the intensity of a replica is the mean of theirs, its Bragg amplitude cos(Qd)."""
    n, x, cell = lattice(2, 2, 2)
    runs, d = [], np.array([0.3, 0.0, 0.0])
    pattern = np.where(n.sum(axis=1, keepdims=True) % 2, 1.0, -1.0)
    for r in range(2):
        for name, sign in (("trajectory", 0), ("bead_0", 1), ("bead_1", -1)):
            frames = np.array([x, x + sign * d * pattern])
            argon(tmp_path / f"{r}{name}", frames, cell)
            (tmp_path / f"r{r}").mkdir(exist_ok=True)
            (tmp_path / f"{r}{name}/trajectory.h5md").rename(tmp_path / f"r{r}/{name}.h5md")
        runs.append(str(tmp_path / f"r{r}"))
    main([*runs, "--delays", "--t0", "1", "--cells", "2", "2", "2", "--hkl", "100", "200", "--powder", "none", "-o",
          str(tmp_path / "out")])
    t = table(tmp_path / "out/delays_bragg.csv")
    for h in (1, 2):
        assert t[f"I_{h}00"][1] == pytest.approx(np.cos(2 * np.pi / A * h * 0.3) ** 2, abs=1e-8)
    u = table(tmp_path / "out/delays_displacements.csv")
    assert u["U11_Ar_A2"][1] == pytest.approx(0.09 * 16 / 15, rel=1e-9)


def test_a_film_scatters_between_the_layers(tmp_path):
    """Along the open axis Q is free: six layers give sin²(6φ/2)/sin²(φ/2); stretched, their rods contract."""
    _, x, _ = lattice(3, 3, 6)
    cell = Cell(A * np.diag([3.0, 3.0, 11.3]), [True, True, False])
    frames = np.array([x, x, x * [1, 1, 1.02]])
    argon(tmp_path, frames, cell)
    main([str(tmp_path), "--delays", "--t0", "2", "--cells", "3", "3", "11.3", "--line", "000", "0,0,2", "--hkl", "001",
          "1,0,0.97", "--qmax", "4", "--slabs", "3", "c"])

    def rod(h):
        s = np.sin(np.pi * h)
        return np.where(np.abs(s) < 1e-9, 36.0, (np.sin(6 * np.pi * h) / np.where(s == 0, 1, s)) ** 2) / 6 * 9

    with h5py.File(tmp_path / "delays.h5") as file:
        h, s = file["line_000_002/hkl"][:, 2], file["line_000_002/S"][:]
        assert np.isfinite(file["powder/delta_S"][:]).all()
    assert len(h) > 40 and np.allclose(s[0], rod(h), atol=1e-6) and np.allclose(s[2], rod(1.02 * h), atol=1e-6)
    t = table(tmp_path / "delays_intensity.csv")
    assert t["I_1_0_0.97"][2] == pytest.approx(rod(1.02 * 0.97) / rod(0.97), rel=1e-6)
    assert any("T_all_10.0A_K" in name for name in table(tmp_path / "delays_temperature_slabs.csv"))


def test_extended_xyz_gives_the_same(tmp_path):
    """And both name the pulse, whose center is time zero."""
    _, x, cell = lattice(3, 3, 3)
    frames = x + 0.1 * np.random.default_rng(0).normal(size=(3, *x.shape))
    for kind in (True, False):
        run = argon(tmp_path / str(kind), frames, cell, xyz=kind, motion={"motion": "nve", "pulse_fs": "0.8"})
        main([str(run), "--delays", "--cells", "3", "3", "3", "--hkl", "110", "--qmax", "4"])
    a, b = (table(tmp_path / kind / "delays_intensity.csv") for kind in ("True", "False"))
    assert np.allclose(a["I_110"], b["I_110"], atol=1e-6)
    assert np.allclose([a["delay_fs"], b["delay_fs"]], [-0.8, 0.2, 1.2])


def test_messages(tmp_path):
    _, x, cell = lattice(3, 3, 3)
    frames = np.repeat(x[None], 4, axis=0)
    first = str(argon(tmp_path / "a", frames, cell, dt=10.0))
    other = str(argon(tmp_path / "b", frames, cell, dt=12.0))
    short = str(argon(tmp_path / "c", frames[:3], cell, dt=10.0))
    heavy = str(write(tmp_path / "d", ["Kr"] * 27, np.full(27, 83.8), frames, cell=cell, dt=10.0))
    ok = [first, "--delays", "--t0", "10"]
    pulsed = [str(argon(tmp_path / name, frames, cell, dt=10.0, motion={"motion": "nve", "pulse_fs": at}))
              for name, at in (("a2", "20"), ("b2", "30"))]
    cells = ["--cells", "3", "3", "3"]
    for words, argv in (
            (r"b/trajectory.h5md: frame 1 is at 12 fs, but at 10 fs in .*a/traj", [first, other, *ok[1:]]),
            (r"c/trajectory.h5md: 3 frames, but 4 in .*a/traj.*--stop 0.02", [first, short, *ok[1:]]),
            (r"d/trajectory.h5md: other atoms than", [first, heavy, *ok[1:]]),
            ("the pulses of the replicas are at other times: .*a2.* 20 fs, .*b2.* 30 fs", [*pulsed, "--delays"]),
            ("no frame before time zero", [first, "--delays", "--t0", "0"]),
            ("does not name the time of a pulse; give it as --t0", [first, "--delays"]),
            ("--species: Xx: not in .*, which holds Ar", [*ok, "--species", "Xx"]),
            ("0.5 0 0 is not a wave vector of the cell", [*ok, *cells, "--hkl", "0.5", "0", "0"]),
            ("0 0 0 is not a reflection", [*ok, *cells, "--hkl", "000"]),
            ("state how many the run holds as --cells", [*ok, "--hkl", "100"]),
            ("--line: '000,000 100' are 3 points; write two", [*ok, *cells, "--line", "000,000", "100"]),
            ("the three points are on one line", [*ok, *cells, "--plane", "000", "100", "200"]),
            ("--slabs: expected a number above zero and a, b or c, found '0 c'", [*ok, "--slabs", "0", "c"]),
            ("--slabs: expected", [*ok, "--slabs", "3", "z"]),
            ("--qmin: must be below --qmax", [*ok, "--qmin", "11"]),
            ("--frames: not with --delays, which reads all", [*ok, "--frames", "5"]),
            ("--response: must not be negative", [*ok, "--response", "-1"]),
            ("--where: 'excitation = 1' is not a condition", [*ok, "--where", "excitation = 1"]),
            ("--where: its frames have no column excitation", [*ok, "--where", "excitation >= 0.5"]),
            ("--response: needs --delays", [first, "--response", "5"]),
            ("must be whole numbers; others need --delays", [first, *cells, "--hkl", "0.5", "0", "0"])):
        with pytest.raises(InputError, match=words):
            main(argv)
    main([*ok, "--powder", "none", "--json", str(tmp_path / "n.json")])
    notes = json.loads((tmp_path / "n.json").read_text())["notes"]
    assert any("one replica: no errors" in note for note in notes)
    assert np.isnan(table(tmp_path / "a/delays_debye_waller.csv")["B_Ar_error_A2"]).all()
