"""Mixed surfaces: bits of one model and of a mixture, gradient, sum of forces, drift, jumps of the weights."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.dynamics.integrate import velocity_verlet
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.system import System
from rxmdnn.excitation.mixed_forces import Frozen, MixedForces
from rxmdnn.excitation.surfaces import MixedSurface
from rxmdnn.models.mixture import Mixture
from rxmdnn.models.pair import LennardJones
from rxmdnn.models.repulsion import Repulsion
from tests.device import DEVICES, find
from tests.systems import TRICLINIC, allegro, spread_atoms

SELF, W = MPI.COMM_SELF, "excitation"
ELEMENTS = ("Ar", "Ne")
MASS = np.array([39.95, 20.18])
X = spread_atoms(TRICLINIC, 40, 2.9)
SPECIES = (np.arange(40) % 2).astype(np.int32)


def argon(backend, epsilon=0.0104, sigma=3.4, cutoff=6.0):
    return LennardJones(backend, ELEMENTS, epsilon, sigma, cutoff)


def models(kind, backend):
    """Ground and excited model, and what is added to both."""
    if kind == "allegro":
        return (allegro(ELEMENTS, "float64", 5.0, backend, seed=1), allegro(ELEMENTS, "float64", 5.0, backend, seed=2),
                None)
    if kind == "cutoffs":
        return argon(backend), argon(backend, 0.02, 3.0, 4.5), Repulsion(ELEMENTS, 0.8, backend)
    return argon(backend), argon(backend, 0.02, 3.1), None


def mixed(surface, backend, weights, source=None, x=X):
    """Forces, and atoms with a row of weights."""
    system = System(surface, TRICLINIC, backend=backend,
                    make_forces=lambda *parts: MixedForces(*parts, source or Frozen(W)))
    return with_atoms(system, backend, weights, x)


def with_atoms(system, backend, weights, x=X):
    from rxmdnn.atoms import Atoms

    atoms = Atoms.of(np.arange(len(x)), SPECIES[: len(x)], x)
    atoms.extra[W] = np.array(weights, float)
    atoms = atoms.on(backend.from_host)
    system.domain.distribute(atoms)
    return system.forces, atoms


def answer(forces, atoms):
    forces.compute(atoms)
    host = forces.domain.backend.to_host
    return forces.energy(), host(atoms.f[: atoms.n_owned]), forces.virial()


class Asked:
    """A potential that counts the centers it is asked for."""

    def __init__(self, potential):
        self.potential, self.elements, self.cutoff = potential, potential.elements, potential.cutoff
        self.centers = 0

    def compute(self, edges, species):
        self.centers += len(edges.first) - 1
        return self.potential.compute(edges, species)


# ---------------------------------------------------------------------- bits
@DEVICES
@pytest.mark.parametrize("kind", ["pairs", "cutoffs", "allegro"])
@pytest.mark.parametrize("w", [0.0, 1.0, 0.3])
def test_one_weight_has_the_bits_of_one_model_or_of_a_mixture(kind, w, name):
    backend = find(name)
    ground, excited, added = models(kind, backend)
    if w in (0.0, 1.0):
        alone = excited if w else ground
        same_reach = np.array_equal(ground.cutoff, excited.cutoff)
        single = alone if added is None and same_reach else Mixture([ground, excited], [1.0 - w, w], added)
    else:
        single = Mixture([ground, excited], [1.0 - w, w], added)
    counted = Asked(ground), Asked(excited)
    one = answer(*with_atoms(System(single, TRICLINIC, backend=backend), backend, np.full(40, w)))
    two = answer(*mixed(MixedSurface(*counted, added), backend, np.full(40, w)))
    assert one[0] == two[0]
    for a, b in zip(one[1:], two[1:]):
        assert a.tobytes() == b.tobytes()
    assert [model.centers for model in counted] == [0 if w == 1.0 else 40, 0 if w == 0.0 else 40]


@DEVICES
@pytest.mark.parametrize("kind", ["pairs", "cutoffs", "allegro"])
def test_each_model_sees_only_the_atoms_that_have_a_part_of_it(kind, name):
    """And the answer is that of both models for all atoms."""
    backend = find(name)
    ground, excited, added = models(kind, backend)
    w = np.where(np.arange(40) < 4, 1.0, 0.0)
    w[4:7] = 0.25
    counted = Asked(ground), Asked(excited)
    forces, atoms = mixed(MixedSurface(*counted, added), backend, w)
    energy, f, virial = answer(forces, atoms)
    assert [model.centers for model in counted] == [36, 7]

    class Everyone(Frozen):
        def coming(self, atoms):
            return atoms.extra[self.name] * 0.0 + 0.5

    whole = answer(*mixed(MixedSurface(ground, excited, added), backend, w, Everyone(W)))
    assert energy == pytest.approx(whole[0], rel=1e-12)
    np.testing.assert_allclose(f, whole[1], atol=1e-12 * np.abs(f).max())
    np.testing.assert_allclose(virial, whole[2], atol=1e-12 * np.abs(virial).max())


# ---------------------------------------------------------------------- gradient, conservation
@pytest.mark.parametrize("kind", ["pairs", "cutoffs", "allegro"])
def test_forces_are_minus_the_gradient_and_sum_to_zero(kind):
    backend = backends.make("cpu")
    surface = MixedSurface(*models(kind, backend))
    w = np.random.default_rng(3).random(40)

    def at(x):
        forces, atoms = mixed(surface, backend, w, x=x)
        energy, f, _ = answer(forces, atoms)
        out = np.empty_like(f)
        out[atoms.gid[: atoms.n_owned]] = f
        return energy, out

    _, f = at(X)
    assert np.abs(f.sum(axis=0)).max() < 1e-12
    h = 1e-4
    for i, k in [(0, 0), (7, 1), (29, 2)]:
        e = []
        for step in (-2, -1, 1, 2):
            moved = X.copy()
            moved[i, k] += step * h
            e.append(at(moved)[0])
        numeric = -(e[0] - 8 * e[1] + 8 * e[2] - e[3]) / (12 * h)
        assert abs(numeric - f[i, k]) < 1e-6 * np.abs(f).max()


def drift_of(forces, atoms, backend, dt=2.0, time=800.0):
    """Largest change of the total energy, eV, at 60 K."""
    kinetics = Kinetics(SELF, backend, MASS, 40)
    atoms.v = np.zeros((atoms.n_owned, 3))
    kinetics.draw(atoms, 60.0, 1, 0)
    forces.compute(atoms)
    totals = [forces.energy() + kinetics.energy(atoms)]
    for _ in range(int(time / dt)):
        velocity_verlet(atoms, forces, backend, MASS, dt)
        totals.append(forces.energy() + kinetics.energy(atoms))
        assert np.abs(atoms.f[: atoms.n_owned].sum(axis=0)).max() < 1e-12
    return np.ptp(totals)


def test_frozen_random_weights_conserve_energy_as_one_surface_does():
    """The error of the time step falls with its square, and is that of the stiffer model."""
    backend = backends.make("cpu")
    ground, excited = argon(backend), argon(backend, 0.02, 3.1)
    w = np.random.default_rng(4).random(40)
    two, finer = (drift_of(*mixed(MixedSurface(ground, excited), backend, w), backend, dt) for dt in (2.0, 1.0))
    one = drift_of(*with_atoms(System(excited, TRICLINIC, backend=backend), backend, w), backend)
    assert two < 4 * one and finer < 0.4 * two


# ---------------------------------------------------------------------- jumps
@DEVICES
@pytest.mark.parametrize("kind", ["pairs", "cutoffs", "allegro"])
def test_a_jump_of_the_weights_is_known_and_leaves_what_a_new_evaluation_gives(kind, name):
    backend = find(name)
    surface = MixedSurface(*models(kind, backend))
    random = np.random.default_rng(5)
    old, new = random.random(40), random.random(40)
    forces, atoms = mixed(surface, backend, old)
    before, _, _ = answer(forces, atoms)
    gid = backend.to_host(atoms.gid[: atoms.n_owned])
    assert forces.cover(backend.from_host(new[gid]))
    gained = forces.reweigh(atoms, backend.from_host(new[gid]))
    after, f = forces.energy(), backend.to_host(atoms.f[: atoms.n_owned])
    assert after - before == pytest.approx(gained, abs=1e-12)
    other = mixed(surface, backend, new)
    energy, expected, virial = answer(*other)
    assert after == energy and f.tobytes() == expected.tobytes()
    assert forces.virial().tobytes() == virial.tobytes()


def test_what_the_answers_do_not_cover_is_told():
    backend = backends.make("cpu")
    forces, atoms = mixed(MixedSurface(*models("pairs", backend)), backend, np.zeros(40))
    forces.compute(atoms)
    assert forces.cover(np.zeros(40)) and not forces.cover(np.where(np.arange(40) == 7, 0.1, 0.0))
    forces.stale = True
    builds = forces.builds
    forces.settle(atoms)
    assert forces.builds == builds + 1
    forces.settle(atoms)
    assert forces.builds == builds + 1
