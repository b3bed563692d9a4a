"""Displaced, scaled and thermodynamic estimators against exact answers of harmonic systems at P beads.

Bound pairs of H and Ne are drawn from their exact distribution, without dynamics: free as a whole, oscillators inside.
"""

import numpy as np
import pytest

from rxmdnn.analysis.momentum import distribution, transform
from rxmdnn.cell import Cell
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.ring_polymer import momentum
from rxmdnn.ring_polymer.economy import fit, kinetic_share
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.forces import RingForces, U
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.momentum import Momentum, initial_width, opening
from rxmdnn.ring_polymer.quantities import IsotopeRatio, KineticTensor, ScaledHeatCapacity
from rxmdnn.ring_polymer.virtual import VirtualRings
from rxmdnn.timers import Timers
from rxmdnn.units import ACCELERATION, HBAR, KB
from tests.physics.test_ring_polymer import BACKEND, MASS, SELF, Springs, T, Wells, rings
from tests.systems import share

BETA, K, SIDE = 1.0 / (KB * T), 0.5, 4
MU, TOTAL = MASS.prod() / MASS.sum(), MASS.sum()


def modes_of(p, x_max):
    return Modes(p, None if x_max is None else fit(p, x_max).x)


@pytest.mark.parametrize("p", [2, 3, 8, 9])
def test_an_open_path_of_neighbor_springs_is_a_straight_line(p):
    y = Modes(p).to_beads[:, 1:] @ opening(Modes(p))
    np.testing.assert_allclose(y, 0.5 - (np.arange(p) + 0.5) / p, atol=1e-14)


@pytest.mark.parametrize(("p", "x_max"), [(1, None), (5, None), (8, None), (7, 5.0), (8, 12.0), (32, 32.4)])
@pytest.mark.parametrize("x", [0.2, 4.0, 12.0])
def test_the_momentum_distribution_of_an_oscillator_is_the_gaussian_of_its_kinetic_energy(p, x_max, x):
    """<exp(-β [V(q + r y) - V(q)])> is a Gaussian integral; m = ħ = β = 1."""
    modes = modes_of(p, x_max)
    x_k = modes.frequencies(1.0)[1:] * HBAR / KB
    y = opening(modes)
    width = 1.0 + x**2 * (y**2 * (1.0 - x**2 / (x_k**2 + x**2))).sum()  # ñ(r) = exp(-width r²/2)
    reduced = 2 * p * np.sin(np.pi * np.arange(1, p // 2 + 1) / p) if x_max is None else fit(p, x_max).x
    exact = float(kinetic_share(reduced, p, np.array([x]))[0]) * 0.5 * x / np.tanh(0.5 * x)
    assert width == pytest.approx(exact, rel=1e-12)  # 2 <K> β


class Pairs:
    """Pairs of H and Ne on springs, in a grid, and their exact samples."""

    def __init__(self, p, x_max=None, side=SIDE, potential=None):
        self.rng, self.n, self.modes = np.random.default_rng(5), side**3, modes_of(p, x_max)
        cell = Cell(np.eye(3) * 9.0 * side)
        self.sites = 9.0 * np.array(list(np.ndindex(side, side, side))) + 4.0
        species = np.tile(np.array([0, 1], np.int32), self.n)
        atoms = share(SELF, np.repeat(self.sites, 2, axis=0) + 0.05 * self.rng.normal(size=(2 * self.n, 3)), species)
        potential = potential or Springs(K)
        neighbors = NeighborList(BACKEND, potential.cutoff, 0.5)
        forces = RingForces(Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach), neighbors, potential, Timers(), p,
                            9.0)
        self.ring = rings(forces, atoms, p, 1.0, "langevin")
        if x_max is not None:
            self.ring = RingPolymer(self.ring.centroid, self.modes, T, "eco")
            self.ring.begin(atoms)
        self.atoms = atoms
        self.omega_sq = self.modes.frequencies(T)[1:] ** 2

    def draw(self):
        """New positions of all pairs; the relative coordinate of each mode, (pairs, P, 3)."""
        unit, n = KB * T * ACCELERATION, self.n
        whole = self.rng.normal(size=(n, len(self.omega_sq), 3)) * np.sqrt(unit / TOTAL / self.omega_sq)[:, None]
        stiff = np.concatenate([[0.0], self.omega_sq]) + K * ACCELERATION / MU
        inside = self.rng.normal(size=(n, len(stiff), 3)) * np.sqrt(unit / MU / stiff)[:, None]
        gid, atoms = self.atoms.gid[: self.atoms.n_owned], self.atoms
        pair, lever = gid // 2, np.where(gid % 2 == 0, MASS[1], -MASS[0]) / TOTAL
        x = self.sites[pair] + lever[:, None] * inside[pair, 0]
        atoms.x[: len(gid)] = x
        atoms.extra[U] = whole[pair] + lever[:, None, None] * inside[pair, 1:]
        self.ring.motion.forces.forget()
        self.ring.motion.forces.compute(atoms)
        return inside

    def rows(self, quantity, draws):
        """(draws, columns) rows of a quantity."""
        found = []
        for step in range(draws):
            self.draw()
            found.append(quantity.row(step))
        return np.array(found)


def agrees(rows, exact, largest):
    """Means of independent rows are the exact values within 4 errors, which are below ``largest`` of them."""
    mean, error = rows.mean(axis=0), rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
    assert (error < largest * np.abs(exact)).all(), error / exact
    assert (np.abs(mean - exact) < 4 * error).all(), (mean, exact, error)


@pytest.mark.parametrize(("p", "x_max"), [(6, None), (5, 9.0)])
def test_momentum_distribution_of_bound_atoms(p, x_max, monkeypatch):
    """ñ(r) of H is the Gaussian of its kinetic energy, that of the whole pair included."""
    monkeypatch.setattr(momentum, "POINTS", 3)
    pairs = Pairs(p, x_max, 2)
    quantity = Momentum(pairs.ring, VirtualRings(SELF, pairs.ring), 0, 8, 1, "H", 0.48)
    x_sq = (BETA * HBAR) ** 2 * K * ACCELERATION / MU
    x_k = pairs.modes.frequencies(T)[1:] * BETA * HBAR
    inside = MU / BETA * (1 + (x_sq / (x_k**2 + x_sq)).sum())  # <p²> of a component, amu eV
    width = (MASS[0] ** 2 / TOTAL / BETA + inside) / (HBAR**2 * ACCELERATION)
    agrees(pairs.rows(quantity, 40), np.exp(-0.5 * width * quantity.r**2), 0.1)


@pytest.mark.parametrize(("p", "x_max"), [(6, None), (6, 9.0)])
def test_isotope_ratios_of_bound_atoms(p, x_max):
    """H to D, by both estimators, against the ratio of the partition functions at P beads."""
    pairs, heavy = Pairs(p, x_max), 2.014
    quantity = IsotopeRatio(pairs.ring, VirtualRings(SELF, pairs.ring), 0, 8, 1, "H", heavy)
    other = heavy * MASS[1] / (heavy + MASS[1])
    omega_sq = [K * ACCELERATION / mu for mu in (MU, other)]
    light, after = (1.5 * np.log(pairs.omega_sq / (pairs.omega_sq + w)).sum() for w in omega_sq)
    rows = pairs.rows(quantity, 150)
    agrees(rows, np.full(2, np.exp(after - light)), 0.08)
    line = quantity.summary(dict(zip(quantity.columns, rows.T)))[1]
    assert "ln_ratio_scaled_1.008_to_2.014_amu" in line
    assert float(line.split()[1]) == pytest.approx(after - light, abs=0.1)


@pytest.mark.parametrize("x_max", [None, 9.0])
def test_heat_capacity_by_scaled_coordinates(x_max):
    """Rows are exact functions of each sample; their variance and mean give -k_B β² dE/dβ at fixed β ħ ω_k."""
    p, side = 6, 2
    pairs = Pairs(p, x_max, side)
    quantity = ScaledHeatCapacity(pairs.ring, VirtualRings(SELF, pairs.ring))
    for step in range(3):
        s_sq = (pairs.draw() ** 2).sum(axis=(0, 2)) * K
        energy, slope = quantity.row(step)
        assert energy == pytest.approx(3 * pairs.n / BETA + 0.5 * s_sq[0] + s_sq[1:].sum(), rel=1e-9)
        assert slope == pytest.approx(s_sq[1:].sum() / BETA, rel=1e-6)
    x_k = pairs.modes.frequencies(T)[1:] * BETA * HBAR

    def energy_of(beta):
        x_sq = (beta * HBAR) ** 2 * K * ACCELERATION / MU
        return 3 / beta * (0.5 + 1 + (x_sq / (x_k**2 + x_sq)).sum())

    exact = -(BETA**2) * (energy_of(BETA * 1.001) - energy_of(BETA * 0.999)) / (0.002 * BETA)  # per pair
    n, rng, unit = 200_000, np.random.default_rng(8), 1.0 / (BETA * (1 + MU * pairs.omega_sq / ACCELERATION / K))
    s_sq = np.concatenate([[1 / BETA], unit])[:, None] * rng.chisquare(3 * pairs.n, (p, n))
    line = quantity.summary({"energy_virial_eV": 3 * pairs.n / BETA + 0.5 * s_sq[0] + s_sq[1:].sum(axis=0),
                             "energy_slope_eV2": s_sq[1:].sum(axis=0) / BETA})[-1]
    name, value, _, error = line.split()
    assert name == "heat_capacity_scaled_k_B_per_atom"
    assert float(value) == pytest.approx(0.5 * exact, abs=4 * float(error) + 1e-6)
    assert float(error) < 0.02 * exact


class TiltedWells(Wells):
    """Wells of a matrix of springs."""

    def compute(self, atoms):
        self.k, tensor = 0.0, self.tensor
        super().compute(atoms)
        atoms.f[: atoms.n_owned] -= (atoms.x[: atoms.n_owned] - atoms.extra["site"]) @ tensor
        atoms.extra["ring_f"] -= atoms.extra[U] @ tensor


@pytest.mark.parametrize("x_max", [None, 12.0])
def test_kinetic_tensor_of_an_anisotropic_well(x_max):
    """Principal values and axes are those of the springs."""
    p, n, rng = 8, 3000, np.random.default_rng(2)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    k = np.array([0.2, 0.6, 2.0])
    cell, modes = Cell(np.diag([60.0] * 3)), modes_of(p, x_max)
    forces = TiltedWells(cell, 0.0, p)
    forces.tensor = (turn * k) @ turn.T
    atoms = share(SELF, rng.uniform(0, 60, (n, 3)), (np.arange(n) % 2).astype(np.int32))
    atoms.extra["site"] = atoms.x.copy()
    ring = RingPolymer(rings(forces, atoms, p, 1.0, "langevin").centroid, modes, T, "pimd")
    ring.begin(atoms)
    mass = MASS[atoms.species[: atoms.n_owned]]
    omega_sq = modes.frequencies(T)[1:] ** 2
    var = KB * T * ACCELERATION / mass[:, None, None] / (omega_sq[:, None] + k * ACCELERATION / mass[:, None, None])
    atoms.extra[U] = (np.sqrt(var) * rng.normal(size=var.shape)) @ turn.T
    forces.compute(atoms)
    quantity = KineticTensor(ring, ("H", "Ne"))
    found = dict(zip(quantity.columns, quantity.row(0)))
    for m, e in zip(MASS, ("H", "Ne")):
        w = k * ACCELERATION / m
        inside = (w / (omega_sq[:, None] + w)).sum(axis=0)
        exact = (turn * (0.5 * KB * T * (1 + inside))) @ turn.T
        t = [found[f"kinetic_{axis}_{e}_eV_per_atom"] for axis in ("xx", "yy", "zz", "yz", "xz", "xy")]
        full = np.array([[t[0], t[5], t[4]], [t[5], t[1], t[3]], [t[4], t[3], t[2]]])
        scatter = 0.5 * KB * T * np.sqrt(2 * ((w / (omega_sq[:, None] + w)) ** 2).sum(axis=0) / (n / 2)).max()
        np.testing.assert_allclose(full, exact, atol=4 * scatter)
        assert 4 * scatter < 0.1 * np.ptp(np.diag(turn.T @ exact @ turn))


def test_virtual_rings_leave_the_run_as_it_is():
    """Evaluated at the shapes of the run they have its energy; the bits of the run do not change."""
    pairs = Pairs(5)
    pairs.draw()
    virtual, forces, atoms = VirtualRings(SELF, pairs.ring), pairs.ring.motion.forces, pairs.atoms
    before = [a.copy() for a in (atoms.x, atoms.f, atoms.gid, atoms.extra[U], atoms.extra["ring_f"])]
    energy, builds, q = forces.energy(), forces.builds, forces.parts[0].q.copy()
    e = virtual.evaluate(atoms.extra[U])
    far = virtual.evaluate(3.0 * atoms.extra[U])
    assert e.potential == pytest.approx(energy, rel=1e-12)
    assert e.pull == pytest.approx(float((atoms.extra[U] * atoms.extra["ring_f"]).sum()), rel=1e-9)
    assert far.potential > 2.0 * e.potential
    for a, b in zip(before, (atoms.x, atoms.f, atoms.gid, atoms.extra[U], atoms.extra["ring_f"])):
        assert a.tobytes() == b.tobytes()
    assert (forces.energy(), forces.builds) == (energy, builds)
    assert forces.parts[0].q.tobytes() == q.tobytes()


def test_atoms_are_chosen_in_turn():
    pairs = Pairs(2, side=2)
    quantity = Momentum(pairs.ring, VirtualRings(SELF, pairs.ring), 1, 3, 10, "Ne", 0.8)
    assert [quantity.chosen(step) for step in (0, 10, 20)] == [[1, 3, 5], [7, 9, 11], [13, 15, 1]]


@pytest.mark.parametrize("widths", [(20.0,), (8.0, 40.0)])
def test_the_transform_of_an_end_to_end_distribution(widths):
    """Of one Gaussian, and of the mean of two: a distribution with long tails."""
    r, p = 0.1 * np.arange(1, 17), np.linspace(0.0, 20.0, 60)
    radial, profile = transform(r, np.mean([np.exp(-0.5 * w * r**2) for w in widths], axis=0), p)
    exact = np.mean([4 * np.pi * p**2 * (2 * np.pi * w) ** -1.5 * np.exp(-0.5 * p**2 / w) for w in widths], axis=0)
    np.testing.assert_allclose(radial, exact, atol=2e-6)
    np.testing.assert_allclose(profile, np.mean([np.exp(-0.5 * p**2 / w) / np.sqrt(2 * np.pi * w) for w in widths],
                                                axis=0), atol=2e-6)


def test_the_distribution_of_a_series_has_errors():
    rng, r = np.random.default_rng(4), 0.1 * np.arange(1, 17)
    noise = 1 + 0.1 * rng.normal(size=(64, 1))
    columns = {"step": np.arange(64.0), **{f"r_{x:.6g}_A": col for x, col in
                                           zip(r, (np.exp(-10 * r**2) * noise).T)}}
    ends, momenta = distribution(columns)
    assert initial_width(r, np.exp(-10 * r**2)) == pytest.approx(20.0)
    np.testing.assert_allclose(ends["end_to_end_error"] / ends["end_to_end"], 0.1 / 8, rtol=0.6)
    assert np.trapezoid(momenta["radial_A"], momenta["p_per_A"]) == pytest.approx(1.0, abs=0.02)
    few, _ = distribution({name: x[:5] for name, x in columns.items()})
    assert np.isnan(few["end_to_end_error"]).all()


