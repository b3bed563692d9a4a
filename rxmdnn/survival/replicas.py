"""Replicas of a small periodic system, propagated together with one neighbor list and one network call.

All replicas have the same cell, species and model; each has its own positions, velocities, temperature and noise. They
are placed in a row along x at distances beyond the cutoff, so that one neighbor list serves them all; empty space costs
it nothing. Noise is a function of (seed, stream, step, key of the run, atom): the noise of a run does not depend on the
other replicas.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from rxmdnn import streams
from rxmdnn.atoms import Edges
from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.dynamics.ensembles import velocity_rescaling
from rxmdnn.dynamics.ensembles.nose_hoover import Chain
from rxmdnn.engine.neighbors import NeighborList, periodic_copies
from rxmdnn.models.interface import Potential
from rxmdnn.units import ACCELERATION, KB

KEY_BITS = 24  # of the number of an atom within its run
MAX_STEP = 3.0  # Å: a replica in which an atom moves further in one step has diverged


class Replicas:
    """K replicas of n atoms.

    Parameters
    ----------
    backend : Backend, with arrays in NumPy
    potential : Potential
    cell : Cell, of each replica
    species : (n,) int32; mass : (n_elements,) float64, amu
    x : (K, n, 3) float64, Å
    temperature : (K,) float64, K
    keys : (K,) int64, below 2^39: key of the random numbers of each replica
    seed : int
    skin : float, Å

    Attributes
    ----------
    v (K, n, 3) Å/fs; f (K, n, 3) eV/Å; energy (K,) eV, potential; image (K, n, 3) cell crossings
    edges : Edges of the last ``compute``; row (n_all,) int: the atom that each row copies; kind (n_all,) species
    """

    def __init__(self, backend: Backend, potential: Potential, cell: Cell, species: np.ndarray, mass: np.ndarray,
                 x: np.ndarray, temperature: np.ndarray, keys: np.ndarray, seed: int, skin: float = 0.6) -> None:
        self.backend, self.potential, self.cell, self.species, self.seed = backend, potential, cell, species, seed
        self.neighbors = NeighborList(backend, potential.cutoff, skin)
        self.mass = mass[species]
        self.x, self.temperature, self.keys = np.array(x, float), np.array(temperature, float), keys
        self.v, self.f, self.image = np.zeros_like(self.x), np.zeros_like(self.x), np.zeros(x.shape, np.int64)
        self.stale = True
        self.builds = 0
        halo = self.neighbors.reach / cell.widths
        self._pitch = float(np.abs(cell.h[:, 0]) @ (1 + 2 * halo)) + self.neighbors.reach + 1.0
        self.edges: Edges
        self.row: np.ndarray
        self.kind: np.ndarray

    def __len__(self) -> int:
        return len(self.x)

    @property
    def n(self) -> int:
        return self.x.shape[1]

    def keep(self, alive: np.ndarray) -> None:
        """Drop all replicas but these. alive : (K,) bool."""
        for name in ("x", "v", "f", "image", "temperature", "keys", "energy"):
            setattr(self, name, getattr(self, name)[alive])
        self.stale = True

    def draw_velocities(self) -> None:
        """Set Maxwell-Boltzmann velocities, scaled to exactly the temperatures, without total momentum."""
        self.v = self.normals(streams.REPLICA_VELOCITIES, 0, self.n) * np.sqrt(
            KB * self.temperature[:, None] * ACCELERATION / self.mass)[..., None]
        self.v -= (self.mass[:, None] * self.v).sum(axis=1, keepdims=True) / self.mass.sum()
        self.v *= np.sqrt(self.temperature / (2 * self.kinetic() / ((3 * self.n - 3) * KB)))[:, None, None]

    def normals(self, stream: int, step: int, count: int) -> np.ndarray:
        """(K, count, 3) normal deviates, independent between replicas."""
        gid = ((self.keys[:, None] << KEY_BITS) + np.arange(count)).ravel()
        z = np.empty((len(gid), 3))
        self.backend.gaussian(self.seed, stream, step, gid, z)
        return z.reshape(len(self), count, 3)

    def kinetic(self) -> np.ndarray:
        """(K,) kinetic energies, eV."""
        return 0.5 * np.einsum("kia,kia,i->k", self.v, self.v, self.mass) / ACCELERATION

    def diverged(self, dt: float) -> np.ndarray:
        """(K,) bool: replicas with NaN or infinite positions, or with an atom that moves too far in dt fs."""
        moved = np.abs(self.v).max(axis=(1, 2)) * dt
        return ~((moved < MAX_STEP) & np.isfinite(self.x).all(axis=(1, 2)))

    def kick(self, dt: float) -> None:
        """Change velocities by the forces over dt fs."""
        self.v += self.f * (dt * ACCELERATION / self.mass)[:, None]

    def drift(self, dt: float) -> None:
        """Change positions by the velocities over dt fs."""
        self.x += dt * self.v

    def compute(self) -> None:
        """Compute energies and forces at the present positions. No replica may have ``diverged``."""
        m = len(self) * self.n
        flat = self.x.reshape(m, 3)
        if not self.stale:
            self._x_all[:m] = flat
            self._x_all[:m, 0] += self._offset
            self.stale = self.neighbors.is_stale(self._x_all[:m])
        if self.stale:
            self._build(flat)
        else:
            np.take(self._x_all, self.row[m:], axis=0, out=self._x_all[m:])
            self._x_all[m:] += self._shift
        self.edges = self.neighbors.edges(self._x_all, self.kind)
        e_i, g_ij = self.potential.compute(self.edges, self.kind)
        f = self._f_all
        self.neighbors.assemble(self.edges, g_ij, f)
        for a in range(3):
            f[:m, a] += np.bincount(self.row[m:], f[m:, a], minlength=m)
        self.f = f[:m].reshape(self.x.shape).copy()
        self.energy = e_i.reshape(len(self), self.n).sum(axis=1)

    def _build(self, flat: np.ndarray) -> None:
        """Wrap all atoms into the cell; make their periodic copies and the neighbor list."""
        m, cell = len(flat), self.cell
        s = cell.fractional(flat)
        crossed = np.where(cell.pbc, np.floor(s), 0.0)
        self.x -= cell.cartesian(crossed).reshape(self.x.shape)
        self.image += crossed.reshape(self.x.shape).astype(np.int64)
        self.row, image = periodic_copies(cell, cell.fractional(flat), self.neighbors.reach)
        self._shift = cell.cartesian(image[m:].astype(float))
        self._offset = np.repeat(self._pitch * np.arange(len(self)), self.n)
        self._x_all = flat[self.row]
        self._x_all[m:] += self._shift
        self._x_all[:, 0] += self._offset[self.row]
        self.kind = np.tile(self.species, len(self))[self.row]
        self._f_all = np.empty_like(self._x_all)
        self.neighbors.build(self._x_all, m)
        self.builds += 1
        self.stale = False


# ------------------------------------------------------------------------------------------------ thermostats
class ReplicaNVE:
    """Velocity Verlet at constant energy; the base of the thermostats, each replica at its own temperature.

    Attributes
    ----------
    dt : float, fs; tau : float, fs, coupling time; heat : (K,) float64, eV, supplied by the thermostat
    """

    conserved_momenta = 3  # components of the total momentum, which hold no kinetic energy

    def __init__(self, replicas: Replicas, dt: float, tau: float) -> None:
        self.replicas, self.dt, self.tau = replicas, dt, tau
        self.heat = np.zeros(len(replicas))

    @property
    def degrees_of_freedom(self) -> int:
        return 3 * self.replicas.n - self.conserved_momenta

    def temperature(self) -> np.ndarray:
        """(K,) kinetic temperatures, K."""
        return 2 * self.replicas.kinetic() / (self.degrees_of_freedom * KB)

    def conserved(self) -> np.ndarray:
        """(K,) total energies less the heat supplied, eV."""
        return self.replicas.energy + self.replicas.kinetic() - self.heat

    def keep(self, alive: np.ndarray) -> None:
        """Drop all replicas but these. alive : (K,) bool."""
        self.heat = self.heat[alive]

    def before_forces(self, step: int) -> None:
        """The part of a step before forces are computed. step : int, from 1."""
        self.replicas.kick(0.5 * self.dt)
        self.replicas.drift(self.dt)

    def after_forces(self, step: int) -> None:
        """The part of a step after forces are computed."""
        self.replicas.kick(0.5 * self.dt)


class ReplicaNoseHoover(ReplicaNVE):
    """A Nosé-Hoover chain for each replica, as ``rxmdnn.dynamics.ensembles.nose_hoover``."""

    def __init__(self, replicas: Replicas, dt: float, tau: float) -> None:
        super().__init__(replicas, dt, tau)
        self.chain = Chain(self.degrees_of_freedom, tau, (len(replicas),))

    def _apply_chain(self) -> None:
        r = self.replicas
        r.v *= self.chain.half_step(2 * r.kinetic(), r.temperature, self.dt)[:, None, None]

    def before_forces(self, step: int) -> None:
        self._apply_chain()
        super().before_forces(step)

    def after_forces(self, step: int) -> None:
        super().after_forces(step)
        self._apply_chain()

    def conserved(self) -> np.ndarray:
        return super().conserved() + self.chain.energy(self.replicas.temperature)

    def keep(self, alive: np.ndarray) -> None:
        super().keep(alive)
        self.chain.position, self.chain.velocity = self.chain.position[:, alive], self.chain.velocity[:, alive]


class ReplicaLangevin(ReplicaNVE):
    """Langevin dynamics by BAOAB, as ``rxmdnn.dynamics.ensembles.langevin``."""

    conserved_momenta = 0

    def before_forces(self, step: int) -> None:
        r = self.replicas
        r.kick(0.5 * self.dt)
        r.drift(0.5 * self.dt)
        before = r.kinetic()
        c = np.exp(-self.dt / self.tau)
        width = np.sqrt((1 - c * c) * KB * r.temperature[:, None] * ACCELERATION / r.mass)
        r.v = c * r.v + width[..., None] * r.normals(streams.REPLICA_LANGEVIN, step, r.n)
        self.heat += r.kinetic() - before
        r.drift(0.5 * self.dt)


class ReplicaRescaling(ReplicaNVE):
    """Stochastic velocity rescaling, as ``rxmdnn.dynamics.ensembles.velocity_rescaling``."""

    def after_forces(self, step: int) -> None:
        super().after_forces(step)
        r, n = self.replicas, self.degrees_of_freedom
        energy = r.kinetic()
        z = r.normals(streams.REPLICA_VELOCITY_RESCALING, step, velocity_rescaling.ATTEMPTS + 1)
        first, others = np.transpose([velocity_rescaling.deviates(cast(Any, _DrawnNormals(part)), step, n)
                                      for part in z])
        c = np.exp(-self.dt / self.tau)
        share = (1 - c) * 0.5 * KB * r.temperature / energy
        factor = np.sqrt(np.maximum(0.0, c + share * (first**2 + others) + 2 * first * np.sqrt(c * share)))
        r.v *= np.where(first + np.sqrt(c / share) > 0, factor, -factor)[:, None, None]
        self.heat += (factor**2 - 1) * energy


class _DrawnNormals:
    """Normal deviates drawn before, in place of a Motion, from which ``velocity_rescaling.deviates`` asks for them."""

    def __init__(self, z: np.ndarray) -> None:
        self.z = z

    def shared_normals(self, stream: int, step: int, n: int) -> np.ndarray:
        return self.z[:n]


THERMOSTATS: dict[str, Any] = {"nve": ReplicaNVE, "nose-hoover": ReplicaNoseHoover, "langevin": ReplicaLangevin,
                               "svr": ReplicaRescaling}
