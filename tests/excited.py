"""A simulation on a mixed surface, for tests."""

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import EXCITATION
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.system import System
from rxmdnn.excitation.light import Light
from rxmdnn.excitation.mixed_forces import Frozen, MixedForces
from rxmdnn.excitation.surfaces import MixedSurface
from rxmdnn.models.pair import LennardJones
from tests.systems import TRICLINIC, share, spread_atoms

ELEMENTS = ("Ar", "Ne")
MASS = np.array([39.95, 20.18])
CALM = spread_atoms(TRICLINIC, 40, 3.2)
SPECIES = (np.arange(40) % 2).astype(np.int32)


def two_argons(backend=None):
    """Two Lennard-Jones surfaces of other strength, width and reach."""
    backend = backend or backends.make("cpu")
    return MixedSurface(LennardJones(backend, ELEMENTS, 0.0104, 3.0, 6.0),
                        LennardJones(backend, ELEMENTS, 0.02, 2.8, 5.0))


def lit(plan, *, surface=None, cell=TRICLINIC, x=CALM, species=SPECIES, mass=MASS, elements=ELEMENTS, dt=2.0, stop=0,
        every=1, comm=MPI.COMM_SELF, backend=None, temperature=60.0):
    """A simulation whose only drive is the light of a plan."""
    backend = backend or backends.make("cpu")
    system = System(surface or two_argons(backend), cell, share(comm, x, species), comm=comm, backend=backend,
                    make_forces=lambda *parts: MixedForces(*parts, Frozen(EXCITATION)))
    s = Simulation(comm, backend, system.domain, system.forces, system.atoms, mass,
                   Schedule(dt, stop, 1, (0.0, 0.0), 1.0, 0, every, 1), len(x))
    s.drives = [Light(plan, elements)]
    s.forces.added = list(s.drives)
    if temperature:
        s.kinetics.draw(s.atoms, temperature, 1, 0)
    return s
