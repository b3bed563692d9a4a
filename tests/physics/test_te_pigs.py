"""Te-PIGS of a one-dimensional Morse bond: pairs of a hot path-integral run against the exact mean force of the
centroid, and the peak of classical dynamics with the correction against the exact fundamental."""

import functools

import ase
import ase.io
import numpy as np
import pytest
from mpi4py import MPI

import rxmdnn
from rxmdnn.models.mixture import Mixture
from rxmdnn.units import ACCELERATION, HBAR, KB

DEPTH, WIDTH, LENGTH = 5.0, 2.2, 0.97  # eV, 1/Å, Å: about those of O-H
MASSES = {"O": 15.999, "H": 1.008}  # amu
MASS = MASSES["O"] * MASSES["H"] / sum(MASSES.values()) / ACCELERATION  # reduced, eV fs²/Å²
SIDEWAYS = 8.0  # eV/Å², a harmonic spring across the bond
PER_CM = 2 * np.pi * 2.99792458e-5  # rad/fs
CURVATURE = 2 * DEPTH * WIDTH**2
HOT, BEADS, SPACING = 500.0, 16, 14.0  # K; Å, between diatomics, which drift in a run


def morse(u):
    return DEPTH * (1 - np.exp(-WIDTH * u)) ** 2


def slope(u):
    return 2 * DEPTH * WIDTH * (1 - np.exp(-WIDTH * u)) * np.exp(-WIDTH * u)


class BondAlongZ:
    """A Morse bond in z from each O to its H, so that the vibration has one dimension and nothing rotates."""

    elements, cutoff = ("O", "H"), np.full((2, 2), 2.6)

    def compute(self, edges, species):
        up = np.where(species[edges.center] == 0, 1.0, -1.0)
        u = up * edges.r_ij[:, 2] - LENGTH
        side = edges.r_ij[:, :2]
        e_i, g_ij = np.zeros(len(edges.first) - 1), np.empty_like(edges.r_ij)
        np.add.at(e_i, edges.center, 0.5 * (morse(u) + 0.5 * SIDEWAYS * (side**2).sum(axis=1)))
        g_ij[:, :2], g_ij[:, 2] = 0.5 * SIDEWAYS * side, 0.5 * up * slope(u)
        return e_i, g_ij


def mean_force(temperature, beads, potential, curvature):
    """(bond lengths less that of the minimum, mean forces, density) of the centroid of a ring of beads, by quadrature.

    The density of the centroid is the Fourier transform of the trace with exp(ikx/P) on each bead: ∫ dk/2π exp(-ikq)
    Tr Π exp(-τT) exp(-τV + ikx/P), with τ = β/P; the mean force is kT times its logarithmic slope.
    """
    beta = 1 / (KB * temperature)
    x, step = np.linspace(-0.45, 0.9, 260, retstep=True)
    free = np.exp(-MASS * beads / (2 * HBAR**2 * beta) * (x[:, None] - x) ** 2) * step
    half, sigma = np.exp(-0.5 * beta / beads * potential(x)), np.sqrt(1 / (beta * curvature))
    k = np.linspace(-7.5, 7.5, 121) / sigma
    traces = [np.trace(np.linalg.matrix_power(half[:, None] * free * (half * np.exp(1j * kk * x / beads)), beads))
              for kk in k]
    q = np.linspace(-3.5, 3.5, 71) * sigma
    waves = np.exp(-1j * q[:, None] * k)
    density, gradient = (waves @ traces).real, (waves @ (-1j * k * traces)).real
    return q, gradient / density / beta, density / density.sum()


@functools.cache
def exact_correction(temperature=HOT, beads=BEADS):
    """The mean force of the centroid less the force at the centroid, eV/Å, as a polynomial of the bond length."""
    q, force, density = mean_force(temperature, beads, morse, CURVATURE)
    return np.polynomial.Polynomial.fit(q, force + slope(q), 5, w=np.sqrt(density))


def fundamental():
    """Of the exact spectrum, 1/cm: the lines of every quantum correlation function are differences of levels."""
    x, step = np.linspace(-0.5, 1.2, 300, retstep=True)
    d = np.arange(300)[:, None] - np.arange(300)
    kinetic = np.where(d == 0, np.pi**2 / 3, 2.0 * (-1.0) ** d / np.where(d == 0, 1, d) ** 2)
    levels = np.linalg.eigvalsh(HBAR**2 / (2 * MASS * step**2) * kinetic + np.diag(morse(x)))
    return (levels[1] - levels[0]) / HBAR / PER_CM


def peak(correction, temperature, n=300, settling=2000, steps=6000, dt=0.25):
    """Mean wavenumber of the spectrum of velocities of ``n`` classical bonds with a correction of the force, 1/cm."""
    rng = np.random.default_rng(5)
    x, v, rows = np.full(n, 0.012), np.zeros(n), []
    for step in range(settling + steps):
        if step < settling and step % 100 == 0:
            v = rng.normal(size=n) * np.sqrt(KB * temperature / MASS)
        v += 0.5 * dt / MASS * (correction(x) - slope(x))
        x += dt * v
        v += 0.5 * dt / MASS * (correction(x) - slope(x))
        rows.append(v.copy())
    return mean_line(np.array(rows[settling:]), dt)


def mean_line(v, dt):
    """(steps, n) velocities: the mean wavenumber of their power, 1/cm, between 3,000 and 4,200."""
    power = (np.abs(np.fft.rfft(v * np.hanning(len(v))[:, None], 2 * len(v), axis=0)) ** 2).sum(axis=1)
    nu = 2 * np.pi * np.fft.rfftfreq(2 * len(v), dt) / PER_CM
    power[(nu < 3000) | (nu > 4200)] = 0
    return nu @ power / power.sum()


def gas(cells):
    """cells³ diatomics, far apart."""
    sites = SPACING * np.stack(np.meshgrid(*[np.arange(cells) + 0.3] * 3), axis=-1).reshape(-1, 3)
    bond = np.array([0, 0, LENGTH + 0.012])
    return ase.Atoms("O" * len(sites) + "H" * len(sites), np.concatenate([sites, sites + bond]),
                     cell=[SPACING * cells] * 3, pbc=True, masses=np.repeat([MASSES["O"], MASSES["H"]], len(sites)))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of 64 diatomics at HOT: their file, (frames, 64) bond lengths less that of the minimum, (frames, 128, 3)
    differences of forces."""
    out = tmp_path_factory.mktemp("te_pigs") / "HOT"
    rxmdnn.simulate(gas(4), BondAlongZ(), 1200, dt=0.25, temperature=HOT, ensemble=("langevin", 0.02), every=400,
                    pimd=(BEADS, "pimd"), pimd_pairs=30, skin=1.2, seed=3, out=out, comm=MPI.COMM_SELF)
    frames = ase.io.read(out / "centroid_pairs.xyz", "5:")  # before, the rings spread out from points
    ase.io.write(out / "equilibrium.xyz", frames)
    bonds = np.array([f.positions[64:, 2] - f.positions[:64, 2] for f in frames])
    return out / "equilibrium.xyz", bonds % (4 * SPACING) - LENGTH, np.array([f.arrays["model_forces"] for f in frames])


def test_the_quadrature_of_a_harmonic_bond_gives_its_spring():
    q, force, _ = mean_force(HOT, BEADS, lambda u: 0.5 * CURVATURE * u**2, CURVATURE)
    np.testing.assert_allclose(force, -CURVATURE * q, atol=1e-6 * CURVATURE)


def test_the_exact_fundamental_is_that_of_morse():
    omega = np.sqrt(CURVATURE / MASS)
    assert fundamental() == pytest.approx((omega - HBAR * omega**2 / (2 * DEPTH)) / PER_CM, abs=0.01)


def test_pairs_have_the_exact_mean_force_of_the_centroid(pairs):
    """Moments of what is left, in standard errors of the 64 bonds; a harmonic spring needs no correction."""
    _, q, difference = pairs
    along = difference[:, 64:, 2]
    np.testing.assert_allclose(along, -difference[:, :64, 2], atol=1e-9)
    np.testing.assert_allclose(difference[:, :, :2], 0.0, atol=1e-9)
    left, u = along - exact_correction()(q), (q - q.mean()) / q.std()
    for moment in (1.0, u, u**2 - 1.0):
        by_bond = (left * moment).mean(axis=0)
        assert abs(by_bond.mean()) < 3.5 * by_bond.std() / np.sqrt(64)
    assert 3.5 * left.mean(axis=0).std() / np.sqrt(64) < 0.05 * along.mean()  # an error of 5 % would be seen


def test_the_correction_moves_the_classical_peak_towards_the_fundamental(pairs):
    """At 300 K, 1/cm: exact 3553, classical 3709, with the exact mean force of 500 K 3614, from pairs the same ± 15."""
    _, q, difference = pairs
    fitted = np.polynomial.Polynomial.fit(q.ravel(), difference[:, 64:, 2].ravel(), 1)
    line, classical, exact = fundamental(), peak(lambda x: 0.0, 300.0), peak(exact_correction(), 300.0)
    assert classical - line == pytest.approx(156.0, abs=4.0)
    assert exact - line == pytest.approx(61.0, abs=4.0)  # what is left is the error of centroid dynamics itself
    assert peak(fitted, 300.0) == pytest.approx(exact, abs=15.0)


DECK = """data HOT/equilibrium.xyz
energy_key model_energy
forces_key model_forces
elements O H
energies O 0 H 0
r_max 2.4
network 1 1 8 4
mlp 8 1 8
zbl .false.
loss 1.0 0.0
batch 2
adam 0.01
cosine 0.01
epochs 12
keep last
model difference.safetensors
"""


@pytest.mark.validation
def test_a_trained_network_added_to_the_bond_moves_the_peak(pairs):
    """The recipe's three steps; the last with the engine's sum of both models."""
    folder = pairs[0].parents[1]
    (folder / "train.in").write_text(DECK)
    rxmdnn.train(folder / "train.in")
    both = Mixture([BondAlongZ(), rxmdnn.load_model(folder / "difference.safetensors", backend="cpu")], [1.0, 1.0])
    rxmdnn.simulate(gas(4), both, 4000, dt=0.25, temperature=300.0, ensemble=("langevin", 0.2), every=400, h5md=8,
                    skin=1.2, seed=4, out=folder / "DYN", comm=MPI.COMM_SELF)
    v = rxmdnn.read_trajectory(folder / "DYN").velocities[100:]
    exact, found = peak(exact_correction(), 300.0), mean_line(v[:, 64:, 2] - v[:, :64, 2], 2.0)
    assert found == pytest.approx(exact, abs=20.0)  # the classical peak is 95 above
