"""Path integrals against exact answers: oscillators at finite P and dt, free rings, forces of beads, conservation."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.dynamics.ensembles import Barostat, Motion, StepTargets, make
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.models.mixture import Mixture
from rxmdnn.models.pair import Null
from rxmdnn.ring_polymer import forces as ring_forces
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.estimators import estimate, heat_capacity, jackknife, mean_and_error
from rxmdnn.ring_polymer.forces import F, RingForces, U
from rxmdnn.ring_polymer.modes import Modes, resized
from rxmdnn.ring_polymer.splitting import OPERATOR_SEQUENCES, Splitting
from rxmdnn.ring_polymer.suzuki_chin import EVEN, ODD, TERM, suzuki_chin
from rxmdnn.timers import Timers
from rxmdnn.units import ACCELERATION, GPA_PER_EV_A3, HBAR, KB
from tests.systems import TRICLINIC, allegro, argon, collect, engine, share, spread_atoms

SELF, BACKEND = MPI.COMM_SELF, backends.make("cpu")
NATURAL = HBAR / KB  # K: β = 1 where m = ħ = 1


def closed_form(p, x):
    """<V>/(ħω/2) of a harmonic oscillator at P beads, x = βħω; the energy is ħω times this."""
    a = x / (2 * p)
    return 0.5 / np.tanh(p * np.arcsinh(a)) / np.sqrt(1 + a * a)


def walk(s, u, v, accelerate, thermal, rng, steps):
    """Yields modes after each step of a splitting."""
    def normals(_):
        return rng.normal(size=u.shape)

    a = accelerate(u)
    for _ in range(steps):
        s.apply(s.sequence.before, u, v, a, thermal, normals)
        a = accelerate(u)
        s.apply(s.sequence.after, u, v, a, thermal, normals)
        yield u


def rings_in_a_well(modes, force, steps, n=3000):
    """Yields modes (n, P, 1), beads and accelerations of n rings of mass 1 at β = 8, ħ = 1, every tenth step."""
    rng, beta, p = np.random.default_rng(3), 8.0, modes.beads
    frequency = modes.frequencies(NATURAL / beta)
    s = Splitting("bcocb", frequency, np.where(frequency > 0, 2 * frequency, 1.0), 0.15)
    thermal = np.full((1, 1), np.sqrt(1 / beta))

    def accelerate(u):
        return modes.to_modes @ force(modes.to_beads @ u)

    v = thermal * rng.normal(size=(n, p, 1))
    for k, u in enumerate(walk(s, np.zeros((n, p, 1)), v, accelerate, thermal, rng, steps)):
        if k > 100 and k % 10 == 0:
            yield u, modes.to_beads @ u, accelerate(u)


@pytest.mark.parametrize("p", [1, 2, 3, 6, 7, 32])
def test_modes_diagonalize_the_springs(p):
    modes, rng = Modes(p), np.random.default_rng(p)
    np.testing.assert_allclose(modes.to_modes @ modes.to_beads, np.eye(p), atol=1e-14)
    q, t = rng.normal(size=p), 123.0
    u = modes.to_modes @ q
    assert u[0] == pytest.approx(q.mean())
    springs = (p * KB * t / HBAR) ** 2 * ((q - np.roll(q, 1)) ** 2).sum()
    assert (modes.frequencies(t) ** 2 * u**2).sum() == pytest.approx(springs / p, rel=1e-12)


def test_a_smooth_ring_keeps_its_shape_with_more_beads():
    t = np.arange(9) / 9
    q = np.stack([np.cos(2 * np.pi * t) + 0.3 * np.sin(4 * np.pi * t)] * 3, axis=1)
    u = np.einsum("kj,jc->kc", Modes(9).to_modes, q)[None, 1:]
    t = np.arange(16) / 16
    finer = np.einsum("jk,kc->jc", Modes(16).to_beads[:, 1:], resized(u, 16)[0])[:, 0]
    np.testing.assert_allclose(finer, np.cos(2 * np.pi * t) + 0.3 * np.sin(4 * np.pi * t), atol=1e-14)
    np.testing.assert_allclose(resized(resized(u, 16), 9), u)


def fixed_point(name, p, omega, temperature, dt, reduced=None):
    """(P, 2, 2) covariance of (u, v) of each mode in the well a = -ω² u, m = 1, k_B T = 1, by the step's linear map
    measured on unit vectors, no sampling. reduced : of Modes"""
    frequency = Modes(p, reduced).frequencies(temperature)
    s = Splitting(name, frequency, np.where(frequency > 0, 2 * frequency, 0.01), dt)

    def step(u, v, z):
        """A step from each of a batch of states; z holds the normal deviates of its one or two O's."""
        draws = iter(z)
        for operators in (s.sequence.before, s.sequence.after):
            s.apply(operators, u, v, -(omega**2) * u, np.ones((1, 1)), lambda _: next(draws))
        return np.stack([u[..., 0], v[..., 0]], axis=-1)  # (batch, P, 2)


    units = np.zeros((4, 4, p, 1))
    units[np.arange(4), np.arange(4)] = 1.0
    out = step(units[0].copy(), units[1].copy(), [units[2], units[3]])  # row: which input is one
    m, n = out[:2].transpose(1, 2, 0), out[2:].transpose(1, 2, 0)
    full = np.einsum("kab,kcd->kacbd", m, m).reshape(p, 4, 4)
    return np.linalg.solve(np.eye(4) - full, (n @ n.transpose(0, 2, 1)).reshape(p, 4, 1)).reshape(p, 2, 2)


@pytest.mark.parametrize(("name", "dt", "known"), [
    ("bcocb", 1.0, 0.46705), ("baoab", 1.0, 0.47434), ("obabo", 1.0, 0.53328), ("bcocb", 2.0, 0.46705),
    ("baoab", 0.05, 0.46705), ("obabo", 0.05, 0.4672)])
def test_each_splitting_has_its_average_at_a_finite_time_step(name, dt, known):
    """3400 cm^-1, 200 K, 32 beads."""
    omega, t, p = 3400 * 2 * np.pi * 2.99792458e-5, 200.0, 32
    u_sq = fixed_point(name, p, omega, t, dt)[:, 0, 0].sum()  # in k_B T/(m ω²)
    assert KB * t * omega**2 * u_sq / (HBAR * omega) == pytest.approx(known, abs=1e-5 if dt > 0.1 else 1e-4)


@pytest.mark.parametrize(("p", "energy"), [(1, 0.1), (4, 0.312491), (8, 0.424066), (16, 0.477291), (32, 0.494053)])
def test_harmonic_oscillator_at_p_beads(p, energy):
    """βħω = 10: E_P/ħω, and <V> = E_P/2 at any stable step: here half of the longest."""
    omega, t = 0.3, HBAR * 0.3 / KB / 10
    u_sq = fixed_point("bcocb", p, omega, t, 1.0 / omega)[:, 0, 0].sum()
    assert KB * t * omega**2 * u_sq / (HBAR * omega) == pytest.approx(energy, abs=1e-6)
    assert energy == pytest.approx(closed_form(p, 10.0), abs=1e-6)


@pytest.mark.parametrize(("force", "potential", "p", "v_mean", "q_sq"), [
    (lambda q: -(q**3), lambda q: q**4 / 4, 8, 0.115010, 0.431294),
    (lambda q: -q - 0.3 * q**2 - 0.04 * q**3, lambda q: q**2 / 2 + 0.1 * q**3 + 0.01 * q**4, 32, 0.248040, 0.535234),
    pytest.param(lambda q: -(q**3), lambda q: q**4 / 4, 32, 0.137737, 0.454501, marks=pytest.mark.validation),
])
def test_anharmonic_wells_at_p_beads(force, potential, p, v_mean, q_sq):
    """m = ħ = 1, β = 8: thousands of rings at once."""
    rows = [(potential(q).mean(axis=(1, 2)), (q**2).mean(axis=(1, 2)))
            for _, q, _ in rings_in_a_well(Modes(p), force, 600)]
    of_ring = np.array(rows).mean(axis=0)  # rings are independent of each other
    mean, error = of_ring.mean(axis=1), of_ring.std(axis=1, ddof=1) / np.sqrt(of_ring.shape[1])
    assert (error < 0.006 * np.array([v_mean, q_sq])).all()
    np.testing.assert_allclose(mean, [v_mean, q_sq], atol=(4 * error).max() + 5e-4)


@pytest.mark.parametrize("name", OPERATOR_SEQUENCES)
def test_rpmd_of_a_harmonic_oscillator_keeps_its_frequency(name):
    """The centroid moves as a classical particle does, by velocity Verlet, independently of the internal modes."""
    p, omega, dt, rng = 16, 0.1, 1.0, np.random.default_rng(2)
    frequency = Modes(p).frequencies(300.0)
    s = Splitting(name, frequency, np.zeros(p), dt)
    u, v = rng.normal(size=(2, 5, p, 3))
    x, w = u[:, 0].copy(), v[:, 0].copy()
    for _, now in zip(range(500), walk(s, u, v, lambda u: -(omega**2) * u, np.ones((1, 1)), rng, 500)):
        w -= 0.5 * dt * omega**2 * x
        x += dt * w
        w -= 0.5 * dt * omega**2 * x
        np.testing.assert_allclose(now[:, 0], x, atol=1e-9)


# ---------------------------------------------------------------------- in the engine
MASS = np.array([1.008, 20.18])
T = 60.0


class Wells(RingForces):
    """Every bead of every atom on a spring to the atom's site: f = -k (q - site)."""

    def __init__(self, cell, k, beads):
        neighbors = NeighborList(BACKEND, np.array([[0.5] * 2] * 2), 5.0)
        domain = Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach)
        super().__init__(domain, neighbors, Null(("H", "Ne"), 0.5), Timers(), beads, 5.0)
        self.k = k

    def compute(self, atoms):
        super().compute(atoms)
        n = atoms.n_owned
        away = atoms.x[:n] + atoms.image @ self.domain.cell.h - atoms.extra["site"]
        atoms.f[:n] -= self.k * away
        atoms.extra[F] -= self.k * atoms.extra[U]
        self._energy += 0.5 * self.k * float((away**2).sum() + (atoms.extra[U] ** 2).sum())


def rings(forces, atoms, beads, dt, kind, method="pimd", tau=100.0, barostat=None, integrator="bcocb", mass=MASS, t=T):
    """A RingPolymer prepared for its first step."""
    kinetics = Kinetics(SELF, BACKEND, mass, atoms.n_owned)
    kinetics.draw(atoms, t, 3, 0)
    forces.compute(atoms)
    centroid = make(Motion(forces, kinetics, dt, 5), kind, tau, barostat)
    ring = RingPolymer(centroid, Modes(beads), t, method, integrator=integrator)
    ring.begin(atoms)
    return ring


@pytest.mark.parametrize("integrator", OPERATOR_SEQUENCES)
def test_estimators_in_harmonic_wells(integrator):
    """Kinetic energies, potential energy, radius of gyration, and heat capacity, at 8 beads, of two masses."""
    n, p, k = 200, 8, 0.5
    cell = Cell(np.diag([30.0] * 3))
    atoms = share(SELF, spread_atoms(cell, n, 0.1), (np.arange(n) % 2).astype(np.int32))
    atoms.extra["site"] = atoms.x.copy()
    ring = rings(Wells(cell, k, p), atoms, p, 1.0 if integrator == "bcocb" else 0.4, "langevin", tau=20.0,
                 integrator=integrator)
    x = HBAR * np.sqrt(k * ACCELERATION / MASS) / (KB * T)
    exact = 3 * (n / 2) * 0.5 * KB * T * x * closed_form(p, x)  # <V> = <K> of each element, eV
    rows = []
    for step in range(1500):
        ring.step(atoms, StepTargets(step, T))
        if step >= 100 and step % 3 == 0:
            e = estimate(ring)
            rows.append([*e.virial, *e.primitive, e.potential, *(e.gyration**2), e.temperature])
    rows = np.array(rows)
    for row, value in zip(rows.T, [*exact, *exact, exact.sum()]):
        mean, error = mean_and_error(row)
        assert mean == pytest.approx(value, abs=4 * error)
        assert error < 0.05 * value
    omega = Modes(p).frequencies(T)[1:]
    spread = [3 * KB * T * ACCELERATION / m * (1 / (omega**2 + k * ACCELERATION / m)).sum() for m in MASS]
    np.testing.assert_allclose(rows[:, 5:7].mean(axis=0), spread, rtol=0.03)
    assert rows[:, 7].mean() == pytest.approx(T, rel=0.03 if integrator == "bcocb" else 0.06)


def test_heat_capacity_of_an_oscillator_at_p_beads():
    """From exact samples of many one-dimensional rings, against the derivative of the closed form."""
    p, m, omega, rng = 6, 2.0, 0.05, np.random.default_rng(6)
    modes = Modes(p)
    var = KB * T * ACCELERATION / m / (modes.frequencies(T) ** 2 + omega**2)
    u_sq = var * rng.normal(size=(1_000_000, p)) ** 2
    potential = 0.5 * m * omega**2 / ACCELERATION * u_sq.sum(axis=1)
    primitive = 0.5 * p * KB * T - 0.5 * m / ACCELERATION * (u_sq * modes.frequencies(T) ** 2).sum(axis=1)
    virial = 0.5 * KB * T + 0.5 * m * omega**2 / ACCELERATION * u_sq[:, 1:].sum(axis=1)

    def energy(t):
        return HBAR * omega * closed_form(p, HBAR * omega / (KB * t))

    def c_v(a, b):
        return heat_capacity(a, b, 1 / 3, T)

    assert np.mean(virial) == pytest.approx(energy(T) / 2, rel=0.01)
    assert np.mean(primitive) == pytest.approx(energy(T) / 2, rel=0.01)
    exact = (energy(T + 0.1) - energy(T - 0.1)) / 0.2
    found, error = jackknife(c_v, primitive + potential, virial + potential)
    assert found == pytest.approx(exact, abs=4 * error)
    assert error < 0.01 * exact


def test_free_rings_have_their_radius_of_gyration():
    """<r_g^2> = βħ²/(12 m) (1 - 1/P²) per component; the primitive kinetic energy is the classical one."""
    n, p = 400, 6
    cell = Cell(np.diag([30.0] * 3))
    neighbors = NeighborList(BACKEND, np.array([[0.5] * 2] * 2), 1.0)
    forces = RingForces(Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach), neighbors, Null(("H", "Ne"), 0.5),
                        Timers(), p, 9.0)
    atoms = share(SELF, spread_atoms(cell, n, 0.1), (np.arange(n) % 2).astype(np.int32))
    ring = rings(forces, atoms, p, 20.0, "langevin", tau=50.0)
    gyration, primitive = [], []
    for step in range(60):
        ring.step(atoms, StepTargets(step, T))
        if step >= 20 and step % 2 == 0:
            e = estimate(ring)
            gyration.append(e.gyration**2)
            primitive.append(e.primitive.sum())
    exact = 3 * HBAR**2 * ACCELERATION / (12 * MASS * KB * T) * (1 - 1 / p**2)
    np.testing.assert_allclose(np.mean(gyration, axis=0), exact, rtol=0.05)
    degrees_of_freedom = 3 * n * (p - 1) * len(primitive)  # of the springs, nearly independent
    assert np.mean(primitive) == pytest.approx(1.5 * n * KB * T,
                                               abs=5 * 0.5 * KB * T * np.sqrt(2 / degrees_of_freedom) * 3 * n * (p - 1))


def beads_of(atoms, modes):
    n = atoms.n_owned
    return atoms.x[:n] + (modes.to_beads[:, 1:] @ atoms.extra[U]).transpose(1, 0, 2)


@pytest.mark.parametrize("kind", ["lennard_jones", "allegro", "mixture", "contraction"])
@pytest.mark.parametrize("together", [1, 100_000])
def test_forces_are_those_of_every_bead_alone(kind, together, monkeypatch):
    """One list made on the centroids, with moves and rebuilds, against each bead as a system of its own."""
    monkeypatch.setattr(ring_forces, "TOGETHER", together)
    p, cell, rng, n = 5, TRICLINIC, np.random.default_rng(4), 30
    potential = allegro(("Ar", "Ne"), "float64") if kind == "allegro" else argon(elements=("Ar", "Ne"))
    contraction = ()
    if kind in ("mixture", "contraction"):
        potential = Mixture([potential, argon(elements=("Ar", "Ne"), cutoff=4.5)], [0.7, 0.6])
    if kind == "contraction":
        contraction = (3, 5)
    x, species = spread_atoms(cell, n, 3.0), (np.arange(n) % 2).astype(np.int32)
    neighbors = NeighborList(BACKEND, potential.cutoff, 0.4)
    forces = RingForces(Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach), neighbors, potential, Timers(), p,
                        5.0, contraction)
    atoms = share(SELF, x, species)
    forces.domain.distribute(atoms)
    for step in range(6):
        atoms.x[:n] += 0.05 * rng.normal(size=(n, 3))
        if step:
            atoms.extra[U] += 0.08 * rng.normal(size=(n, p - 1, 3))
        forces.compute(atoms)
        energy, modes, spread = 0.0, np.zeros((n, p, 3)), forces.spread(atoms)
        members = zip(potential.members, potential.weights, contraction) if contraction else [(potential, 1.0, p)]
        for member, weight, beads in members:
            small = Modes(beads)
            q = atoms.x[:n] + (small.to_beads[:, 1:] @ atoms.extra[U][:, : beads - 1]).transpose(1, 0, 2)
            f = []
            for bead in q:
                alone, one = engine(SELF, cell, member), share(SELF, bead, species[atoms.gid[:n]])
                alone.domain.distribute(one)
                alone.compute(one)
                f.append(collect(SELF, one, one.f)[0])
                energy += weight * alone.energy() / beads
            modes[:, :beads] += weight * (small.to_modes @ np.array(f).transpose(1, 0, 2))
        assert forces.energy() == pytest.approx(energy, rel=1e-10)
        scale = np.abs(modes).max()
        np.testing.assert_allclose(atoms.f[:n], modes[:, 0], atol=1e-11 * scale)
        np.testing.assert_allclose(atoms.extra[F], modes[:, 1:], atol=1e-11 * scale)
    assert forces.builds < 6 and forces.neighbors.skin > 0.4
    if kind == "mixture":
        last = engine(SELF, cell, potential)
        one = share(SELF, bead, species[atoms.gid[:n]])
        last.domain.distribute(one)
        last.compute(one)
        assert spread == pytest.approx(last.spread(one), rel=1e-9)


def test_the_virial_is_the_strain_of_cell_and_centroids():
    p, n, rng, h = 4, 30, np.random.default_rng(7), 1e-5
    potential, species = argon(elements=("Ar", "Ne")), (np.arange(30) % 2).astype(np.int32)
    x, u = spread_atoms(TRICLINIC, n, 3.0), 0.08 * rng.normal(size=(n, p - 1, 3))

    def evaluate(strain):
        neighbors = NeighborList(BACKEND, potential.cutoff, 0.4)
        forces = RingForces(Domain(SELF, BACKEND, Cell(TRICLINIC.h @ strain), (0, 0, 0), neighbors.reach), neighbors,
                            potential, Timers(), p, 5.0)
        atoms = share(SELF, x @ strain, species)
        atoms.extra[U] = u.copy()
        forces.compute(atoms)
        return forces

    w = evaluate(np.eye(3)).virial()
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (2, 0)):
        e = np.zeros((3, 3))
        e[a, b] = e[b, a] = 1.0 if a == b else 0.5
        up, down = evaluate(np.eye(3) + h * e), evaluate(np.eye(3) - h * e)
        assert -(up.energy() - down.energy()) / (2 * h) == pytest.approx(w[a, b], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("kind", "method", "barostat"), [
    ("langevin", "pimd", None), ("svr", "pimd", None), ("nve", "rpmd", None), ("nve", "trpmd", None),
    ("nve", "pacmd", None), ("svr", "pimd", Barostat("scr", 1000.0, "full", 100.0)),
    ("svr", "suzuki-chin", Barostat("scr", 1000.0, "full", 100.0)),
    ("nose-hoover", "pimd", Barostat("mtk", 500.0))])
def test_the_error_of_the_conserved_quantity_is_of_second_order_in_dt(kind, method, barostat):
    cell, n, p, errors, kinetic = Cell(np.diag([14.5] * 3)), 30, 4, [], 0.0
    for dt in (8.0, 4.0, 2.0):
        # a long cutoff: the force of a cut pair jumps there, which is an error of its own
        neighbors = NeighborList(BACKEND, np.array([[11.0]]), 0.5)
        fourth = suzuki_chin(np.array([20.18]), 40.0, p) if method == "suzuki-chin" else None
        forces = RingForces(Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach), neighbors, argon(cutoff=11.0),
                            Timers(), p, 5.0, fourth=fourth)
        atoms = share(SELF, spread_atoms(cell, n, 3.2), np.zeros(n, np.int32))
        ring = rings(forces, atoms, p, dt, kind, method, 200.0, barostat, mass=np.array([20.18]), t=40.0)
        conserved = []
        for step in range(int(800 / dt)):
            now = StepTargets(step, 40.0, 0.02 / GPA_PER_EV_A3)
            ring.step(atoms, now)
            kinetic = ring.motion.kinetics.energy(atoms)
            conserved.append(ring.conserved(forces.energy() + kinetic, now))
        errors.append(np.std(conserved))
    assert errors[0] < 0.01 * kinetic
    # with noise every run is another one, and so is its error
    low, high = (3.8, 4.2) if method == "rpmd" else (3.0, 6.5)
    assert low < errors[0] / errors[1] < high and low < errors[1] / errors[2] < high


def test_errors_of_correlated_series():
    """An autoregressive series of time τ: the error of its mean is known."""
    rng, c, n = np.random.default_rng(1), 0.9, 1 << 15
    x = np.empty(n)
    x[0] = 0.0
    for k in range(1, n):
        x[k] = c * x[k - 1] + np.sqrt(1 - c * c) * rng.normal()
    mean, error = mean_and_error(x)
    assert error == pytest.approx(np.sqrt((1 + c) / (1 - c) / n), rel=0.5)
    assert abs(mean) < 4 * error
    assert np.isnan(mean_and_error(x[:5])[1])


# ---------------------------------------------------------------------- Suzuki-Chin
def fourth_order_oscillator(p, x):
    """Energies/ħω of a harmonic oscillator at P beads, x = βħω, from its covariances: potential over even beads,
    kinetic over even beads, and what m d ln Z/dm/β and the derivative by V say."""
    omega_p, even = p / x, np.arange(p) % 2 == 0
    springs = omega_p**2 * (2 * np.eye(p) - np.roll(np.eye(p), 1, 0) - np.roll(np.eye(p), -1, 0))
    pull = np.where(even, EVEN, ODD + 2 * TERM / omega_p**2)
    c = np.linalg.inv(x / p * (springs + np.diag(pull)))
    around = np.diag(c) - c.mean(axis=0)
    term = TERM / omega_p**2 * np.diag(c)[~even].sum() / p
    weighted = (np.where(even, EVEN, ODD) * np.diag(c)).sum() / p
    return (0.5 * np.diag(c)[even].mean(), 0.5 / x + 0.5 * around[even].mean(),
            0.5 / x + 0.5 * (pull * around).sum() / p + term, 0.5 * weighted + 2 * term)


def density_matrix(p, beta, potential, force, fourth):
    """<V> over even beads and ln Z of a particle of m = ħ = 1, by products of matrices on a grid."""
    x, step = np.linspace(-5.0, 5.0, 321, retstep=True)
    eps, v, f_sq = beta / p, potential(x), force(x) ** 2
    free = np.exp(-((x[:, None] - x) ** 2) / (2 * eps)) * step / np.sqrt(2 * np.pi * eps)
    even, odd = (EVEN * v, ODD * v + TERM * eps**2 * f_sq) if fourth else (v, v)
    half = np.exp(-0.5 * eps * even)
    rho = np.linalg.matrix_power(half[:, None] * (free * np.exp(-eps * odd)) @ free * half, p // 2)
    return (np.diag(rho) @ v) / np.trace(rho), np.log(np.trace(rho))


@pytest.mark.parametrize(("fourth", "order"), [(False, 2), (True, 4)])
def test_an_anharmonic_oscillator_converges_at_its_order(fourth, order):
    """x⁴/4, β = 8: <V> is a third of the exact energy, 0.420987; so is ln Z's error of the order."""
    found = [density_matrix(p, 8.0, lambda x: x**4 / 4, lambda x: -(x**3), fourth) for p in (32, 64, 128)]
    exact, ln_z = density_matrix(512, 8.0, lambda x: x**4 / 4, lambda x: -(x**3), True)
    assert exact == pytest.approx(0.420987 / 3, abs=1e-6)
    for errors in (np.array([v - exact for v, _ in found]), np.array([z - ln_z for _, z in found])):
        np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), order, atol=0.25)


@pytest.mark.parametrize("p", [8, 16, 32])
def test_fourth_order_estimators_of_an_oscillator_all_converge_faster(p):
    """βħω = 10: each is better at P than Trotter's closed form, and 12 times better at 2 P."""
    exact = 0.25 / np.tanh(5.0)
    now, twice = (np.abs(np.array(fourth_order_oscillator(q, 10.0)) - exact) for q in (p, 2 * p))
    assert (now < 0.35 * abs(closed_form(p, 10.0) / 2 - exact)).all()
    assert (now / twice > (9.0 if p == 8 else 12.0)).all()


class Springs:
    """Atoms closer than the cutoff are bound: k r²/2."""

    def __init__(self, k):
        self.k, self.elements, self.cutoff = k, ("H", "Ne"), np.full((2, 2), 4.0)

    def compute(self, edges, species):
        half = 0.25 * self.k * (edges.r_ij**2).sum(axis=1)
        return (np.bincount(edges.center, half, minlength=len(edges.first) - 1), 0.5 * self.k * edges.r_ij)


def fourth_forces(potential, cell, p, skin=0.5):
    neighbors = NeighborList(BACKEND, potential.cutoff, skin)
    domain = Domain(SELF, BACKEND, cell, (0, 0, 0), neighbors.reach)
    return RingForces(domain, neighbors, potential, Timers(), p, 5.0, fourth=suzuki_chin(MASS, T, p))


def test_suzuki_chin_estimators_of_bound_pairs():
    """H and Ne on springs, at 6 beads: each pair is free as a whole and an oscillator of its reduced mass inside."""
    edge, p, k = 4, 6, 0.5
    cell = Cell(np.eye(3) * 9.0 * edge)
    sites = 9.0 * np.array(list(np.ndindex(edge, edge, edge)))
    n = 2 * len(sites)
    atoms = share(SELF, np.repeat(sites, 2, axis=0) + 0.05 * np.random.default_rng(1).normal(size=(n, 3)),
                  np.tile(np.array([0, 1], np.int32), len(sites)))
    ring = rings(fourth_forces(Springs(k), cell, p), atoms, p, 2.0, "langevin", "suzuki-chin", tau=30.0)
    mu, total = MASS.prod() / MASS.sum(), MASS.sum()
    unit = HBAR * np.sqrt(k * ACCELERATION / mu)
    v, virial, primitive, conjugate = 3 * unit * np.array(fourth_order_oscillator(p, unit / (KB * T)))
    free = 1.5 * KB * T
    exact = len(sites) * np.array([v, conjugate, free + primitive, *(MASS / total * free + mu / MASS * virial)])
    rows = []
    for step in range(900):
        ring.step(atoms, StepTargets(step, T))
        if step >= 100 and step % 4 == 0:
            e = estimate(ring)
            rows.append([e.potential, e.conjugate, e.primitive.sum(), *e.virial])
    for row, value in zip(np.array(rows).T, exact, strict=True):
        mean, error = mean_and_error(row)
        assert mean == pytest.approx(value, abs=4 * error)
        assert error < 0.05 * value


def test_suzuki_chin_forces_and_virial_are_the_energys_derivatives(monkeypatch):
    """Up to the square of the displacement, here shorter than single precision would allow."""
    monkeypatch.setattr(ring_forces, "DISPLACEMENT", 1e-3)
    p, n, rng, h = 4, 16, np.random.default_rng(7), 1e-4
    potential, species = allegro(("H", "Ne"), "float64", 4.0), (np.arange(16) % 2).astype(np.int32)
    cell = Cell(np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 1.5, 8.5]]))
    x, u = spread_atoms(cell, n, 2.2), 0.05 * rng.normal(size=(n, p - 1, 3))

    def evaluate(along=0.0, strain=None):
        s = np.eye(3) if strain is None else strain
        forces, atoms = fourth_forces(potential, Cell(cell.h @ s), p), share(SELF, (x + along * d[:, 0]) @ s, species)
        atoms.extra[U] = u + along * d[:, 1:]
        forces.compute(atoms)
        return forces, atoms

    d = rng.normal(size=(n, p, 3))
    forces, atoms = evaluate()
    term = float(forces.fourth.term.sum())
    of = d[atoms.gid[:n]]
    slope = float((of[:, 0] * atoms.f[:n]).sum() + (of[:, 1:] * atoms.extra[F]).sum())
    up, down = evaluate(h)[0].energy(), evaluate(-h)[0].energy()
    assert term > 0.02 * np.abs(atoms.f[:n]).max()  # there is something to be wrong
    assert -(up - down) / (2 * h) == pytest.approx(slope, rel=1e-3)
    for a, b in ((0, 0), (1, 2)):
        e = np.zeros((3, 3))
        e[a, b] = e[b, a] = 1.0 if a == b else 0.5
        up, down = (evaluate(strain=np.eye(3) + way * h * e)[0].energy() for way in (1, -1))
        assert -(up - down) / (2 * h) == pytest.approx(forces.virial()[a, b], rel=1e-3, abs=1e-4)
