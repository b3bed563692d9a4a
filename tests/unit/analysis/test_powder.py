"""Almost isotropic powder averages against averages over directions, and sums over sites from velocities."""

import numpy as np
import pytest

from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.inelastic import Phonons
from rxmdnn.analysis.instruments import TOSCA
from rxmdnn.analysis.neutron import Vibrations, neutron_spectrum
from rxmdnn.analysis.powder import PARTS, Anisotropy, Sites
from rxmdnn.analysis.site_sums import SiteSums

STEP = 0.25
LINES = {0: 40.0, 1: 60.0, 2: 95.0}  # axis: meV


def directed(turns=((0, 1, 2),), step=STEP):
    """(energy, g, sites) of atoms that vibrate along each axis at an energy of its own; turns : axes of each atom."""
    energy = np.arange(0, 300, step)
    sums = np.zeros((1, len(turns), len(energy), 6))
    g = np.zeros_like(energy)
    for atom, axes in enumerate(turns):
        for axis, line in LINES.items():
            k = round(line / step)
            sums[0, atom, k, axes[axis]] = 1.0
            g[k] = 1.0 / 3 / step
    return energy, g, Sites.of(step, sums)


def averaged(q_sq, mass, temperature=20.0, n=400):
    """Exact powder averages (direction by direction) of one phonon of 60 meV and of 40 + 60 meV."""
    energy, g, _ = directed()
    u = {axis: 3 * Phonons.of(energy, np.where(abs(energy - line) < 0.1, g, 0.0), mass, temperature, q_sq).u_squared / 3
         for axis, line in LINES.items()}
    x, w = np.polynomial.legendre.leggauss(n)
    phi = (np.arange(n) + 0.5) * np.pi / n
    sin = np.sqrt(1 - x**2)[:, None]
    along = np.array([(sin * np.cos(phi)) ** 2, (sin * np.sin(phi)) ** 2, (x**2)[:, None] + 0 * phi])
    weight = (w / 2)[:, None] / n
    still = np.exp(-q_sq * sum(u[a] * along[a] for a in range(3)))
    up = {a: u[a] / (1 + 2 / np.expm1(line / (0.08617333 * temperature))) for a, line in LINES.items()}
    up = {a: up[a] * (1 + 1 / np.expm1(line / (0.08617333 * temperature))) for a, line in LINES.items()}
    one = (weight * q_sq * up[1] * along[1] * still).sum()
    two = (weight * q_sq**2 * up[0] * up[1] * along[0] * along[1] * still).sum()
    return one, two


@pytest.mark.parametrize(("mass", "tolerance"), [(2000.0, 2e-4), (4.0, 0.03)])
def test_one_and_two_phonons_are_the_average_over_directions(mass, tolerance):
    """Exact where Q²<u²> is small; with Q²<u²> of some 0.3 better than the isotropic form."""
    q_sq, temperature = 20.0, 20.0
    energy, g, sites = directed()
    seen = Anisotropy(sites, energy, g, mass, temperature, 0.0)
    p = Phonons.of(energy, g, mass, temperature, q_sq)
    each = p.by_order(q_sq)[:, p.energy >= 0]
    q = np.full_like(p.energy[p.energy >= 0], q_sq)
    e = p.energy[p.energy >= 0]
    one, two = each[0] * seen.first(e, q), each[1] * seen.second(e, q)
    got = one[abs(e - 60) < 1].sum() * p.step, two[abs(e - 100) < 1].sum() * p.step
    want = averaged(q_sq, mass)
    assert got == pytest.approx(want, rel=tolerance)
    isotropic = each[0][abs(e - 60) < 1].sum() * p.step, each[1][abs(e - 100) < 1].sum() * p.step
    assert abs(isotropic[1] / want[1] - 1) > 10 * abs(got[1] / want[1] - 1)  # crossed axes: 3/5 of the isotropic form


def test_sites_turned_against_each_other_scatter_alike():
    energy, g, one = directed()
    _, _, three = directed(((0, 1, 2), (1, 2, 0), (2, 0, 1)))
    e, q = energy, np.full_like(energy, 30.0)
    a, b = (Anisotropy(s, energy, g, 4.0, 20.0, 0.0) for s in (one, three))
    assert a.first(e, q) == pytest.approx(b.first(e, q)) and a.second(e, q) == pytest.approx(b.second(e, q))


def test_noise_is_not_taken_for_anisotropy():
    """Isotropic motion, seen with little data: two halves whose deviations have nothing in common."""
    rng, energy = np.random.default_rng(0), np.arange(0, 100, 2.0)
    v = rng.normal(size=(2, 300, len(energy), 4, 3))
    sums = np.stack([(v[..., i] * v[..., j]).sum(axis=-1) for i, j, _ in PARTS], axis=-1)
    g = np.where(energy > 0, 1.0, 0.0)
    g /= g.sum() * 2.0
    both = Anisotropy(Sites.of(2.0, sums), energy, g, 4.0, 100.0, 0.0)
    pooled = Anisotropy(Sites.of(2.0, sums.mean(axis=0, keepdims=True)), energy, g, 4.0, 100.0, 0.0)
    spread, believed = (np.linalg.norm(a.tensors - a.tensors.mean(axis=0)) for a in (both, pooled))
    assert spread < 0.4 * believed


def test_isotropic_sites_change_nothing():
    energy = np.arange(0, 200, STEP)
    g = np.exp(-0.5 * ((energy - 60) / 15) ** 2)
    g[0] = 0
    g /= g.sum() * STEP
    sums = np.zeros((1, 2, len(energy), 6))
    sums[..., :3] = 1.0
    found = Anisotropy(Sites.of(STEP, sums), energy, g, 4.0, 150.0, 0.0)
    q = np.full_like(energy, 30.0)
    assert found.first(energy, q) == pytest.approx(1.0, rel=1e-9)
    assert found.second(energy, q) == pytest.approx(1.0, rel=1e-6)
    assert found.tensors[:, :3] == pytest.approx(found.u_squared)
    assert found.u_squared == pytest.approx(Phonons.of(energy, g, 4.0, 150.0, 30.0).u_squared)


def test_directions_come_from_velocities():
    """Atoms that swing along different axes at different frequencies, and noise whose halves do not correlate."""
    rng, dt, length = np.random.default_rng(0), 1.0, 1000
    t = np.arange(length * 3) * dt
    v = np.zeros((len(t), 4, 3))
    for axis, line in LINES.items():
        omega = line / (1000 * 0.6582119569)
        v[:, :, axis] = np.cos(omega * t[:, None] + rng.random(4) * 6)
    sums = SiteSums(np.zeros(4, int), 1, length, dt)
    for k in range(5):
        sums.add(v[k * length // 2:k * length // 2 + length].astype(np.float32), 0, k, sp.hann(length))
    sites = sums.sites()[0]
    for axis, line in LINES.items():
        seen = sites.shape[:, :, round(line / sites.width)]
        want = np.zeros(6)
        want[axis] = 3.0
        assert np.allclose(seen, want, atol=0.05)
    assert SiteSums(np.zeros(2000, int), 1, 100, dt).sums.shape[1] == 512  # bounded, whatever the number of atoms
    few = SiteSums(np.zeros(4, int), 1, length, dt)
    few.add(v[:length].astype(np.float32), 0, 0, sp.hann(length))
    assert few.sites() == {}


def test_kinds_add_up_with_their_cross_sections():
    energy, g, sites = directed()
    alone = [neutron_spectrum([Vibrations(n, n, c, m, energy, g, sites)], 20.0, TOSCA, 200.0, 1.0)
             for n, c, m in (("D", 3, 2.014), ("N", 1, 14.007))]
    both = neutron_spectrum([Vibrations("D", "D", 3, 2.014, energy, g, sites),
                             Vibrations("N", "N", 1, 14.007, energy, g, sites)], 20.0, TOSCA, 200.0, 1.0)
    want = (3 * alone[0].columns["all"] + alone[1].columns["all"]) / 4
    assert both.columns["all"] == pytest.approx(want, rel=1e-6)
    share = alone[0].columns["coherent"] / alone[0].columns["all"]
    assert share == pytest.approx(5.592 / 7.64, rel=0.01)  # of deuterium
