"""rxmdnn spectra: lines of known sines, sum rules, detailed balance, noise; its messages."""

import csv
import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.analysis import inelastic, scatterers
from rxmdnn.analysis import spectra as sp
from rxmdnn.commands.spectra import main
from rxmdnn.errors import InputError
from rxmdnn.io.series import open_series
from rxmdnn.units import ACCELERATION, HBAR, KB
from tests.trajectories import write

SELF = MPI.COMM_SELF
LINES = {"H": ((300.0, 3000.0), (3.0, 1.0)), "N": ((100.0,), (2.0,))}  # 1/cm; energy, any unit
NAMES = np.array(["H"] * 12 + ["N"] * 4)
MASS = np.where(NAMES == "H", 1.008, 14.007)


def sines(frames=1500, dt=2.0, seed=0):
    """(frames, 16, 3) velocities whose kinetic energy lies in LINES, with phases at random; also positions."""
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] * dt
    v, x = np.zeros((frames, 16, 3)), rng.random((1, 16, 3)) * 8
    for name, (lines, energies) in LINES.items():
        rows = np.flatnonzero(name == NAMES)
        for nu, energy in zip(lines, energies):
            omega, phase = 2 * np.pi * sp.C_CM * nu, rng.random((1, len(rows), 3)) * 2 * np.pi
            size = np.sqrt(4 * energy * 1e-3 * ACCELERATION / MASS[rows])[:, None]
            v[:, rows] += size * np.cos(omega * t + phase)
            x = x + np.zeros_like(v)
            x[:, rows] += size / omega * np.sin(omega * t + phase)
    return x, v


def table(path):
    with open(path, newline="") as file:
        rows = list(csv.reader(file))
    return {name: np.array(column, float) for name, column in zip(rows[0], zip(*rows[1:]))}


@pytest.mark.parametrize("xyz", [False, True])
def test_known_sines_give_their_lines_and_weights(tmp_path, xyz):
    x, v = sines(400 if xyz else 1500)
    write(tmp_path / "run", NAMES, MASS, x, v, dt=2.0, xyz=xyz)
    main([str(tmp_path / "run"), "--json", str(tmp_path / "f.json"), "--quantum"])
    d = table(tmp_path / "run/vdos.csv")
    nu, step = d["wavenumber_cm"], d["wavenumber_cm"][1]
    width = 3 * json.loads((tmp_path / "f.json").read_text())["resolution_cm"]
    total = sum(sum(e) * (name == NAMES).sum() for name, (_, e) in LINES.items())
    for name, (lines, energies) in LINES.items():
        for line, energy in zip(lines, energies):
            g = np.where(abs(nu - line) < width, d[f"{name}_modes_per_cm"], 0)
            assert g.sum() * step == pytest.approx(48 * energy * (name == NAMES).sum() / total, rel=2e-3)
            assert (g @ nu) / g.sum() == pytest.approx(line, abs=0.3 if not xyz else 2.0)
    assert d["total_modes_per_cm"].sum() * step == pytest.approx(48, rel=1e-3)
    sigma = scatterers.cross_sections(["H", "N"])
    seen = sigma[0] / 1.008 * d["H_modes_per_cm"] + sigma[1] / 14.007 * d["N_modes_per_cm"]
    assert np.allclose(d["neutron_modes_per_cm"], seen * 48 / (seen.sum() * step), rtol=3e-3, atol=1e-6)
    c = table(tmp_path / "run/vacf.csv")
    want = sum(e * np.cos(2 * np.pi * sp.C_CM * nu * c["time_fs"]) for nu, e in zip(*LINES["H"])) / 4
    assert np.abs(c["H"] - want).max() < (0.02 if not xyz else 0.05)
    for name in ("vdos.png", "vacf.png", "neutron.png"):
        assert (tmp_path / "run" / name).read_bytes()[:4] == b"\x89PNG"
    with h5py.File(tmp_path / "run/spectra.h5") as file:
        assert file["vdos/energy_meV"].attrs["unit"] == "meV" and file["map/s"].ndim == 2


def test_all_memory_blocks_and_both_readers_give_one_result(tmp_path, monkeypatch):
    x, v = sines(120)
    a = open_series(write(tmp_path / "a", NAMES, MASS, x, v, dt=2.0))
    b = open_series(write(tmp_path / "b", NAMES, MASS, x, v, dt=2.0, xyz=True))
    assert (a.time == b.time).all() and (a.names == b.names).all()
    assert np.allclose(a.read("v", [0, 5, 7]), b.read("v", [0, 5, 7]), atol=1e-7)
    assert np.allclose(a.unwrapped([3]), x[[3]], atol=1e-9) and np.allclose(a.cell(3).h, b.cell(3).h)
    whole = sp.measure(SELF, [a], 40, 2.0)
    monkeypatch.setattr(sp, "MEMORY", 40 * 3 * 4 * 6 * 5)
    blocks = sp.measure(SELF, [b], 40, 2.0)
    assert np.allclose(whole.power, blocks.power, rtol=1e-3, atol=1e-6 * whole.power.max())
    assert len(whole.power) == 5 and len(whole.correlation) == 3


def test_errors_are_those_of_white_noise():
    """Independent runs scatter about their mean as the standard errors say."""
    rng = np.random.default_rng(3)
    means, errors = [], []
    for _ in range(60):
        v = rng.normal(size=(2, 32 * 12, 3))
        p = np.array([sp.power(v[:, k:k + 32], 1.0).sum(axis=0) for k in range(0, 32 * 11 + 1, 16)])
        means.append(p.mean(axis=0))
        errors.append(sp._error(p))
    inner = slice(2, -2)
    assert np.std(means, axis=0)[inner].mean() == pytest.approx(np.mean(errors, axis=0)[inner].mean(), rel=0.08)
    assert np.mean(means, axis=0)[inner].mean() == pytest.approx(2 * 3 * 2, rel=0.02)  # white: 2 dt <v²>


def test_the_time_step_shift_is_undone():
    """A harmonic mode in velocity Verlet at a long step comes back to its own frequency."""
    nu, dt = 3000.0, 1.0
    omega = 2 * np.pi * sp.C_CM * nu
    x, v, out = 1.0, 0.0, []
    for _ in range(4000):
        v -= 0.5 * dt * omega**2 * x
        x += dt * v
        v -= 0.5 * dt * omega**2 * x
        out.append(v)
    p = sp.power(np.array(out)[None, :, None] * np.ones(3), dt)[None]
    s = sp.Spectrum(("H",), np.array([1]), np.array([1.0]), dt, 4000, p)
    g = s.unshifted(dt).power[0, 0]
    assert s.wavenumber[np.argmax(p)] > 3030
    assert (g @ s.wavenumber) / g.sum() == pytest.approx(nu, abs=1.0) and g.sum() == pytest.approx(p.sum(), rel=1e-3)


def test_with_no_total_momentum_three_modes_are_missing(tmp_path):
    """Equal energy in every mode but the three translations: one temperature for all kinds, 3N - 3 modes."""
    rng = np.random.default_rng(6)
    q, _ = np.linalg.qr(np.concatenate([np.sqrt(MASS)[:, None], rng.normal(size=(16, 15))], axis=1))
    omega = 2 * np.pi * sp.C_CM * np.linspace(300, 3000, 45).reshape(15, 3)
    t = np.arange(2000)[:, None, None] * 2.0
    size = np.sqrt(2 * KB * 100.0 * ACCELERATION)
    modes = size * np.cos(omega * t + 2 * np.pi * rng.random((15, 3)))
    v = np.einsum("ak,fkc->fac", q[:, 1:], modes) / np.sqrt(MASS)[:, None]
    run = write(tmp_path / "run", NAMES, MASS, np.zeros((2000, 16, 3)) + np.arange(16)[:, None], v, dt=2.0)
    s = sp.measure(SELF, [open_series(run)], 666, 2.0)
    assert s.fixed and s.modes == pytest.approx(45)
    assert np.allclose(s.temperatures, 100.0, rtol=0.01) and s.temperature == pytest.approx(100.0, rel=0.01)
    assert s.dos.sum() * s.wavenumber[1] == pytest.approx(45)


# ------------------------------------------------------------------ neutrons
def phonons(temperature, q_sq=40.0, peak=50.0, width=2.0, mass=1.008):
    e = np.arange(0, 400.0, 0.25)
    return inelastic.Phonons.of(e, np.exp(-0.5 * ((e - peak) / width) ** 2), mass, temperature, q_sq, 3000.0)


def elastic(p, q_sq):
    return np.exp(-q_sq * p.u_squared)


@pytest.mark.parametrize("temperature", [20.0, 300.0])
def test_sum_rules_and_detailed_balance(temperature):
    p = phonons(temperature)
    for q_sq in (5.0, 40.0):
        s, one = p.scattering(q_sq)
        assert s.sum() * p.step + elastic(p, q_sq) == pytest.approx(1.0, abs=1e-8)
        recoil = 1e3 * HBAR**2 * ACCELERATION * q_sq / (2 * 1.008)
        assert (s @ p.energy) * p.step == pytest.approx(recoil, rel=1e-6)
        assert (one * p.step).sum() == pytest.approx(q_sq * p.u_squared * elastic(p, q_sq), rel=1e-9)
        up = (p.energy > 0) & (p.energy < 12e3 * KB * temperature)
        balance = np.exp(-p.energy[up] / (1000 * KB * temperature))
        assert np.allclose(s[::-1][up], s[up] * balance, rtol=1e-6, atol=1e-13)


def test_all_orders_are_the_gaussian_form():
    """Against the Fourier transform of exp(-Q² γ(t)) itself, with γ from its integral."""
    p, q_sq, temperature = phonons(150.0, peak=40.0), 20.0, 150.0
    e = np.arange(0.25, 80.0, 0.25)
    g = np.exp(-0.5 * ((e - 40.0) / 2.0) ** 2)
    g /= g.sum() * 0.25
    n = 1 << 14
    t = 2 * np.pi * np.fft.fftfreq(n, 0.25)  # conjugate to meV
    coth = 1 / np.tanh(e / (2000 * KB * temperature))
    scale = 1e3 * HBAR**2 * ACCELERATION / (2 * 1.008)
    gamma = np.zeros(n, complex)
    for ek, gk, ck in zip(e, g, coth):
        gamma += scale * 0.25 * gk / ek * (ck * (1 - np.cos(ek * t)) - 1j * np.sin(ek * t))
    f = np.exp(-q_sq * gamma) - np.exp(-q_sq * p.u_squared)
    s = np.fft.fft(f).real / n / 0.25
    got = p.scattering(q_sq)[0][len(p.energy) // 2:][:1600]
    assert np.allclose(got, s[:1600], atol=1e-7)


def test_an_oscillator_has_its_ladder():
    """A sharp mode at low temperature: Poisson weights of 2W = ħQ²/2mω at its multiples (exact)."""
    p, q_sq = phonons(5.0, peak=80.0, width=0.6), 30.0
    w = 1e3 * HBAR**2 * ACCELERATION / (2 * 1.008) / 80.0 * q_sq
    s = p.scattering(q_sq)[0]
    for n, want in ((1, w), (2, w**2 / 2), (3, w**3 / 6)):
        here = abs(p.energy - 80.0 * n) < 15
        assert s[here].sum() * p.step == pytest.approx(want * np.exp(-w), rel=2e-3)


def test_the_instrument():
    i = inelastic.Instrument()
    assert pytest.approx(2.0721, abs=1e-4) == inelastic.E_OF_Q2
    assert i.q_squared(np.array([0.0]), 90.0)[0] == pytest.approx(2 * 3.5 / 2.0721, rel=1e-4)
    e = np.arange(0, 300, 0.1)
    line = np.zeros_like(e)
    line[2000] = 1.0
    seen = i.broadened(e, line)
    above = np.flatnonzero(seen > seen.max() / 2)
    assert seen.sum() == pytest.approx(1.0) and (above[-1] - above[0]) * 0.1 == pytest.approx(3.0, abs=0.11)


def test_quantum_factors():
    nu, x = np.array([0.0, 500.0]), 500.0 * sp.MEV_PER_CM / 1000 / (KB * 100)
    assert sp.kubo_factor(nu, 100.0) == pytest.approx([1.0, x / (1 - np.exp(-x))])
    g = np.zeros((1, 3000))
    g[0, 800] = 3.0  # one atom
    assert sp.harmonic_kinetic(np.arange(3000.0), g, np.array([1]), 1.0)[0] == pytest.approx(
        0.75 * 800 * sp.MEV_PER_CM, rel=1e-6)
    assert sp.harmonic_kinetic(np.arange(3000.0), g, np.array([1]), 1e6)[0] == pytest.approx(1.5e9 * KB, rel=1e-4)


def test_isotopes():
    assert sp.kinds_of(np.array(["H", "H", "N"]), np.array([1.008, 2.014, 14.0]))[0] == ("D", "H", "N")
    assert scatterers.replaced(["H", "N"], ["H=D", "N=15-N"]) == ["D", "15-N"]
    assert scatterers.incoherent(["H", "D"]) == pytest.approx([80.26, 2.05], rel=0.01)
    with pytest.raises(InputError, match="no such element"):
        scatterers.replaced(["H"], ["H=Qq"])
    q = np.array([0.5, 2.0, 30.0])
    assert scatterers.amplitudes("xray", ["D"], q) == pytest.approx(scatterers.amplitudes("xray", ["H"], q))
    assert scatterers.amplitudes("electron", ["N"], q)[0, 2] == pytest.approx(2 * 7 / 0.529177 / 900, rel=0.06)


# ------------------------------------------------------------------ messages
@pytest.fixture(scope="module")
def short(tmp_path_factory):
    x, v = sines(60)
    return write(tmp_path_factory.mktemp("short") / "run", NAMES, MASS, x, v, dt=2.0)


def test_messages_name_the_fault_and_the_remedy(short, tmp_path):
    def refused(words, argv):
        with pytest.raises(InputError, match=words):
            main(argv)

    refused("a resolution of 1 1/cm needs 48 ps", [str(short), "--resolution", "1"])
    refused("no frames between these times; it holds 0 to 0.118 ps", [str(short), "--start", "5"])
    refused("--resolution: must be above zero", [str(short), "--resolution", "0"])
    refused("no such file or folder", [str(tmp_path / "none")])
    refused("no trajectory: neither", [str(tmp_path)])
    bare = tmp_path / "bare.xyz"
    bare.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 time=0\nAr 0 0 0\n' * 2)
    refused("no velocities; .*'h5md 2'", [str(bare)])
    strange = tmp_path / "strange.xyz"
    strange.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:velo:R:3\nXx 0 0 0 1 1 1\n')
    refused("Xx: not an element", [str(strange)])
    untimed = tmp_path / "untimed.xyz"
    untimed.write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:velo:R:3\nAr 0 0 0 1 1 1\n' * 2)
    refused("frames without time", [str(untimed)])
    refused("other atoms than", [str(short), str(strange.with_name("untimed.xyz"))])
    refused("OLD=NEW", [str(short), "--isotope", "O=18-O"])


def test_uneven_frames_are_refused_but_the_last_of_a_run_is_dropped(short, tmp_path):
    def with_time(k, shift):
        path = tmp_path / f"{k}.h5"
        shutil.copy(short / "trajectory.h5md", path)
        with h5py.File(path, "r+") as file:
            file["particles/all/position/time"][k:] += shift
        return path

    with pytest.raises(InputError, match=r"not equally spaced: 3 fs after frame 19 at 0.038 ps, 2 fs elsewhere"):
        main([str(with_time(20, 1.0))])
    series = open_series(with_time(59, -1.0))
    assert series.interval() == pytest.approx(2.0) and len(series.time) == 59


def test_a_mistake_is_one_message_and_exit_code_2(tmp_path):
    done = subprocess.run([sys.executable, "-m", "rxmdnn", "spectra", str(tmp_path / "none")], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2 and "no such file or folder" in done.stderr and "Traceback" not in done.stderr
