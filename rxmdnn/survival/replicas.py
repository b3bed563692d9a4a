"""Replicas of a small periodic system moved side by side: one neighbor list and one network call for all of them.

Every replica has the same cell, species and model, and its own positions, velocities, temperature and noise. They stand
in a row along x, too far apart to meet, so that one neighbor list, to which empty space costs nothing, serves them all.
Noise is counters of (seed, stream, step, key of the run and atom): a run's noise is its own whoever stands beside it.
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
from rxmdnn.engine.neighbors import NeighborList, _copies
from rxmdnn.models.interface import Potential
from rxmdnn.units import ACCELERATION, KB

KEY_BITS = 24  # of the number of an atom within its run
LEAP = 3.0  # Å: an atom that goes so far in one step is lost


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
    keys : (K,) int64, below 2^39: the runs' names to the random numbers
    seed : int
    skin : float, Å

    Attributes
    ----------
    v (K, n, 3) Å/fs; f (K, n, 3) eV/Å; energy (K,) eV, potential; image (K, n, 3) periods crossed
    edges : Edges of the last ``compute``; row (n_all,) int: the owned row that each row copies; kind (n_all,) species
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
        """Go on with these replicas only. alive : (K,) bool."""
        for name in ("x", "v", "f", "image", "temperature", "keys", "energy"):
            setattr(self, name, getattr(self, name)[alive])
        self.stale = True

    def draw(self) -> None:
        """Maxwell-Boltzmann velocities at exactly the temperatures, without total momentum."""
        self.v = self.normals(streams.REPLICA_VELOCITIES, 0, self.n) * np.sqrt(
            KB * self.temperature[:, None] * ACCELERATION / self.mass)[..., None]
        self.v -= (self.mass[:, None] * self.v).sum(axis=1, keepdims=True) / self.mass.sum()
        self.v *= np.sqrt(self.temperature / (2 * self.kinetic() / ((3 * self.n - 3) * KB)))[:, None, None]

    def normals(self, stream: int, step: int, count: int) -> np.ndarray:
        """(K, count, 3) normal deviates, each run its own."""
        gid = ((self.keys[:, None] << KEY_BITS) + np.arange(count)).ravel()
        z = np.empty((len(gid), 3))
        self.backend.gaussian(self.seed, stream, step, gid, z)
        return z.reshape(len(self), count, 3)

    def kinetic(self) -> np.ndarray:
        """(K,) eV."""
        return 0.5 * np.einsum("kia,kia,i->k", self.v, self.v, self.mass) / ACCELERATION

    def lost(self, dt: float) -> np.ndarray:
        """(K,) bool: replicas whose atoms are nowhere, or would leap in a step of dt fs."""
        leap = np.abs(self.v).max(axis=(1, 2)) * dt
        return ~((leap < LEAP) & np.isfinite(self.x).all(axis=(1, 2)))

    def kick(self, dt: float) -> None:
        self.v += self.f * (dt * ACCELERATION / self.mass)[:, None]

    def drift(self, dt: float) -> None:
        self.x += dt * self.v

    def compute(self) -> None:
        """Energies and forces at the present positions. No replica may be ``lost``."""
        m = len(self) * self.n
        flat = self.x.reshape(m, 3)
        if not self.stale:
            self._everything[:m] = flat
            self._everything[:m, 0] += self._offset
            self.stale = self.neighbors.is_stale(self._everything[:m])
        if self.stale:
            self._build(flat)
        else:
            np.take(self._everything, self.row[m:], axis=0, out=self._everything[m:])
            self._everything[m:] += self._shift
        self.edges = self.neighbors.edges(self._everything, self.kind)
        e_i, g_ij = self.potential.compute(self.edges, self.kind)
        f = self._f_all
        self.neighbors.assemble(self.edges, g_ij, f)
        for a in range(3):
            f[:m, a] += np.bincount(self.row[m:], f[m:, a], minlength=m)
        self.f = f[:m].reshape(self.x.shape).copy()
        self.energy = e_i.reshape(len(self), self.n).sum(axis=1)

    def _build(self, flat: np.ndarray) -> None:
        """Wrap all atoms into the cell, make the copies and the list."""
        m, cell = len(flat), self.cell
        s = cell.fractional(flat)
        turns = np.where(cell.pbc, np.floor(s), 0.0)
        self.x -= cell.cartesian(turns).reshape(self.x.shape)
        self.image += turns.reshape(self.x.shape).astype(np.int64)
        self.row, image = _copies(cell, cell.fractional(flat), self.neighbors.reach)
        self._shift = cell.cartesian(image[m:].astype(float))
        self._offset = np.repeat(self._pitch * np.arange(len(self)), self.n)
        self._everything = flat[self.row]
        self._everything[m:] += self._shift
        self._everything[:, 0] += self._offset[self.row]
        self.kind = np.tile(self.species, len(self))[self.row]
        self._f_all = np.empty_like(self._everything)
        self.neighbors.build(self._everything, self.kind, m)
        self.builds += 1
        self.stale = False


# ------------------------------------------------------------------------------------------------ thermostats
class Constant:
    """Constant energy. Others: a step of dt fs, each replica at its own temperature, and the heat they gave."""

    freed = 3  # degrees of freedom that the total momentum takes

    def __init__(self, replicas: Replicas, dt: float, tau: float) -> None:
        self.replicas, self.dt, self.tau = replicas, dt, tau
        self.heat = np.zeros(len(replicas))

    @property
    def freedoms(self) -> int:
        return 3 * self.replicas.n - self.freed

    def temperature(self) -> np.ndarray:
        """(K,) K."""
        return 2 * self.replicas.kinetic() / (self.freedoms * KB)

    def conserved(self) -> np.ndarray:
        """(K,) eV."""
        return self.replicas.energy + self.replicas.kinetic() - self.heat

    def keep(self, alive: np.ndarray) -> None:
        self.heat = self.heat[alive]

    def before(self, step: int) -> None:
        """Up to the force call. step : number of the step being made, from 1."""
        self.replicas.kick(0.5 * self.dt)
        self.replicas.drift(self.dt)

    def after(self, step: int) -> None:
        """From the force call on."""
        self.replicas.kick(0.5 * self.dt)


class NoseHoover(Constant):
    """A chain on each replica, as ``rxmdnn.dynamics.ensembles.nose_hoover``."""

    def __init__(self, replicas: Replicas, dt: float, tau: float) -> None:
        super().__init__(replicas, dt, tau)
        self.chain = Chain(self.freedoms, tau, (len(replicas),))

    def bath(self) -> None:
        r = self.replicas
        r.v *= self.chain.half_step(2 * r.kinetic(), r.temperature, self.dt)[:, None, None]

    def before(self, step: int) -> None:
        self.bath()
        super().before(step)

    def after(self, step: int) -> None:
        super().after(step)
        self.bath()

    def conserved(self) -> np.ndarray:
        return super().conserved() + self.chain.energy(self.replicas.temperature)

    def keep(self, alive: np.ndarray) -> None:
        super().keep(alive)
        self.chain.position, self.chain.velocity = self.chain.position[:, alive], self.chain.velocity[:, alive]


class Langevin(Constant):
    """BAOAB, as ``rxmdnn.dynamics.ensembles.langevin``."""

    freed = 0

    def before(self, step: int) -> None:
        r = self.replicas
        r.kick(0.5 * self.dt)
        r.drift(0.5 * self.dt)
        had = r.kinetic()
        c = np.exp(-self.dt / self.tau)
        width = np.sqrt((1 - c * c) * KB * r.temperature[:, None] * ACCELERATION / r.mass)
        r.v = c * r.v + width[..., None] * r.normals(streams.REPLICA_LANGEVIN, step, r.n)
        self.heat += r.kinetic() - had
        r.drift(0.5 * self.dt)


class VelocityRescaling(Constant):
    """Stochastic rescaling, as ``rxmdnn.dynamics.ensembles.velocity_rescaling``."""

    def after(self, step: int) -> None:
        super().after(step)
        r, n = self.replicas, self.freedoms
        energy = r.kinetic()
        z = r.normals(streams.REPLICA_VELOCITY_RESCALING, step, velocity_rescaling.ATTEMPTS + 1)
        first, others = np.transpose([velocity_rescaling.deviates(cast(Any, _Drawn(part)), step, n) for part in z])
        c = np.exp(-self.dt / self.tau)
        share = (1 - c) * 0.5 * KB * r.temperature / energy
        factor = np.sqrt(np.maximum(0.0, c + share * (first**2 + others) + 2 * first * np.sqrt(c * share)))
        r.v *= np.where(first + np.sqrt(c / share) > 0, factor, -factor)[:, None, None]
        self.heat += (factor**2 - 1) * energy


class _Drawn:
    """Normal deviates already drawn, where a motion is asked for some."""

    def __init__(self, z: np.ndarray) -> None:
        self.z = z

    def shared_normals(self, stream: int, step: int, n: int) -> np.ndarray:
        return self.z[:n]


THERMOSTATS: dict[str, Any] = {"nve": Constant, "nose-hoover": NoseHoover, "langevin": Langevin,
                               "svr": VelocityRescaling}
