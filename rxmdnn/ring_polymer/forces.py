"""Forces on ring polymers: all beads are evaluated with one halo plan and one neighbor list, those of the centroids.

``atoms.x``, ``v`` and ``f`` belong to the centroids. The internal modes are rows of ``atoms.extra`` and migrate with
their atom: all beads of an atom are on one rank, and transforms need no messages. The list is valid for all beads while
none is farther than skin/2 from the position of its centroid when the list was built. The skin of each new list is
widened by the spread of the beads at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from mpi4py import MPI

from rxmdnn.arrays import Array, namespace
from rxmdnn.atoms import Atoms, Edges
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture
from rxmdnn.parallel import AgreedError
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.ring_polymer.modes import Modes, resized
from rxmdnn.ring_polymer.suzuki_chin import DISPLACEMENT, EVEN, ODD, TERM, SuzukiChin
from rxmdnn.timers import Timers

U, V, F = "ring_u", "ring_v", "ring_f"  # rows of Atoms.extra: (n_owned, P - 1, 3) of the internal modes
ROOM = 1.2  # the skin is widened for this multiple of the present spread of the beads
STEP = 0.05  # Å: skins exceed that of the deck by multiples of it
TOGETHER = 12_000  # pairs per call of a potential, in whole beads
DEVICE_TOGETHER = 1 << 20  # the same on a device, where large calls are efficient


@dataclass
class _Part:
    """One potential on a ring of its own, of as many or fewer beads.

    weight : its factor in the energy; q, f (P, n_all, 3) float64: positions, Å, and forces, eV/Å, of the beads
    """

    compute: Callable[[Edges, np.ndarray], tuple[np.ndarray, np.ndarray]]
    weight: float
    modes: Modes
    mine: range  # the beads that this rank's group evaluates
    q: Array = field(default_factory=lambda: np.zeros((0, 0, 3)))  # (P, n_all, 3)
    f: Array = field(default_factory=lambda: np.zeros((0, 0, 3)))  # (P, n_all, 3)


class RingForces(Forces):
    """Forces of the centroids (``atoms.f``) and of the internal modes (``atoms.extra[F]``).

    Parameters
    ----------
    domain, neighbors, potential, timers : as of Forces; timers also have the part "ring"
    beads : int
    widest : float, Å
        Largest physical distance of a bead from its centroid; beyond it the run stops as unstable.
    contraction : one number of beads for each member of the Mixture ``potential``, optional
        Ring-polymer contraction (Markland and Manolopoulos, J. Chem. Phys. 129, 024105 (2008)): each member is
        evaluated on a ring of its own number of beads, odd or all, made of the slowest modes.
    fourth : SuzukiChin, optional, for an even number of beads without contraction
    groups : Groups among which the beads are distributed; ``domain`` is then on the ranks of one group
    """

    def __init__(self, domain: Domain, neighbors: NeighborList, potential: Potential, timers: Timers, beads: int,
                 widest: float, contraction: Sequence[int] = (), fourth: SuzukiChin | None = None,
                 groups: Groups | None = None) -> None:
        super().__init__(domain, neighbors, potential, timers)
        self.beads, self.widest, self.least_skin, self.xp = beads, widest, neighbors.skin, domain.backend.xp
        self.fourth, self.groups, self.contraction = fourth, groups or Groups(domain.comm), tuple(contraction)
        rings = [(potential.compute, 1.0, beads)]
        if contraction:
            assert isinstance(potential, Mixture)
            rings = [(partial(potential.of_member, member), weight, p)
                     for member, weight, p in zip(potential.members, potential.weights, contraction, strict=True)]
            if potential.added is not None:
                rings.append((partial(potential.of_member, potential.added), 1.0, beads))
        self.parts = [_Part(compute, weight, Modes(p), self.groups.share(p)) for compute, weight, p in rings]
        self._computed = False
        self._energy = 0.0
        self._virial = np.zeros((3, 3))

    @property
    def known(self) -> bool:
        return self._computed

    def forget(self) -> None:
        super().forget()
        self._computed = False

    def compute(self, atoms: Atoms) -> None:
        """Compute ``atoms.f`` and ``atoms.extra[F]``, owned rows. A rebuild of the list reorders the rows."""
        u = atoms.extra.get(U)
        if u is None or u.shape[1] != self.beads - 1:
            atoms.extra[U] = resized(self.xp.zeros((atoms.n_owned, 0, 3)) if u is None else u, self.beads)
        self._fill_beads(atoms)
        if self.refresh(atoms, [part.q[j] for part in self.parts for j in part.mine]):
            self._fill_beads(atoms)
        self._energy, self._virial, self.edges = 0.0, np.zeros((3, 3)), 0
        with self.timers("halo"):
            for x in (atoms.x, *(part.q[j] for part in self.parts for j in part.mine)):
                self.domain.copy(x)
        for part in self.parts:
            if self.fourth is None:
                self._energy += self._evaluate(part, part.mine, part.q, part.f, part.weight / part.modes.beads, atoms)
            else:
                self._fourth_order(part, self.fourth, atoms)
        self._exchange(atoms)
        n, k, xp, backend = atoms.n_owned, self.beads, self.xp, self.domain.backend
        with self.timers("ring"):
            atoms.f, atoms.extra[F] = xp.zeros((atoms.n_all, 3)), xp.zeros((n, k - 1, 3))
            for part in self.parts:
                to_modes = backend.table(part.weight * part.modes.to_modes)
                on_modes = xp.matmul(to_modes, part.f[:, :n].transpose(1, 0, 2))
                atoms.f[:n] += on_modes[:, 0]
                atoms.extra[F][:, : part.modes.beads - 1] += on_modes[:, 1:]
            off_center = backend.to_host(xp.einsum("nka,nkb->ab", atoms.extra[U], atoms.extra[F]))
            self._virial -= 0.5 * (off_center + off_center.T)
        self._computed = True
        self._add(atoms)

    def _fill_beads(self, atoms: Atoms) -> None:
        """Fill ``q`` of each part with the beads of owned atoms, and make space for the copies."""
        n = atoms.n_owned
        with self.timers("ring"):
            for part in self.parts:
                p = part.modes.beads
                if part.q.shape[:2] != (p, atoms.n_all):
                    part.q, part.f = self.xp.empty((p, atoms.n_all, 3)), self.xp.empty((p, atoms.n_all, 3))
                to_beads = self.domain.backend.table(part.modes.to_beads[:, 1:])
                around = self.xp.matmul(to_beads, atoms.extra[U][:, : p - 1])
                self.xp.add(atoms.x[:n], around.transpose(1, 0, 2), out=part.q[:, :n])

    def _state(self, positions: Sequence[np.ndarray], margin: float = 0.0) -> int:
        """As of Forces, agreed among all groups; the margin includes the displacements along the forces."""
        margin += 0.0 if self.fourth is None else DISPLACEMENT
        return self.groups.across.allreduce(super()._state(positions, margin), MPI.MAX)

    def prepare(self, atoms: Atoms) -> None:
        """Set the skin of the next list for the spread of the beads, a function of the present positions alone."""
        n = atoms.n_owned
        widest = max(_largest(part.q[:, :n] - atoms.x[:n]) for part in self.parts)
        widest = float(np.sqrt(self.groups.everyone.allreduce(widest, MPI.MAX)))
        if not widest < self.widest:
            raise AgreedError(f"pimd: a bead is {widest:.1f} Å from its centroid; beads of free particles stay within "
                              f"{self.widest:.1f} Å at this temperature. The simulation has become unstable; restart "
                              "from the last checkpoint with a smaller 'time' dt")
        self.neighbors.set_skin(self.least_skin + STEP * np.ceil(2.0 * ROOM * widest / STEP))
        if self.neighbors.reach != self.domain.reach:
            self.domain.set_reach(self.neighbors.reach)
        self.groups.unite(atoms, self.domain)

    def _evaluate(self, part: _Part, beads: Sequence[int], q: Array, f: Array, share: float, atoms: Atoms,
                  of_virial: float | None = None) -> float:
        """Compute rows ``beads`` of f from those of q, complete for owned atoms; ``share`` times their energy, eV.

        of_virial : factor of their virial, by default ``share``
        """
        timers, energy = self.timers, 0.0
        most = DEVICE_TOGETHER if self.domain.backend.on_device else TOGETHER
        group = max(1, min(len(beads), most // max(self.neighbors.n_pairs, 1)))
        for start in range(0, len(beads), group):
            mine = beads[start : start + group]
            with timers("neighbors"):
                several = self.neighbors.edges_at([q[j] for j in mine], atoms.species)
                edges, species = _joined(several, atoms)
            with timers("network"):
                e_i, g_ij = part.compute(edges, species)
            with timers("assembly"):
                at = 0
                for j, one in zip(mine, several, strict=True):
                    self.neighbors.assemble(one, g_ij[at : at + len(one.center)], f[j])
                    at += len(one.center)
                energy += share * float(e_i.sum())
                self._virial += (share if of_virial is None else of_virial) * self.neighbors.virial(edges, g_ij)
            self.edges += len(edges.center)
            # the spread of a committee is taken at the last bead; all beads are equivalent samples
            self._last = several[-1], e_i[len(e_i) - atoms.n_owned :], g_ij[len(g_ij) - len(several[-1].center) :]
        with timers("halo"):
            for j in beads:
                self.domain.give_back(f[j])
        return energy

    def _fourth_order(self, part: _Part, fourth: SuzukiChin, atoms: Atoms) -> None:
        """Compute Suzuki-Chin forces on the beads of this group; add their part of energy, virial and estimators."""
        n, p, xp, strength = atoms.n_owned, self.beads, self.xp, TERM / fourth.stiffness
        a, b = part.mine.start, part.mine.stop
        even, odd = slice(a + a % 2, b, 2), slice(a + (a + 1) % 2, b, 2)
        of_even = self._evaluate(part, range(even.start, b, 2), part.q, part.f, EVEN / p, atoms)
        of_odd = self._evaluate(part, range(odd.start, b, 2), part.q, part.f, ODD / p, atoms)
        f = part.f[odd, :n].copy()
        g = f * self.domain.backend.table(fourth.inv_mass)[atoms.species[:n]][:, None]
        with self.timers("halo"):
            largest = self.groups.everyone.allreduce(_largest(g), MPI.MAX)
        part.f[even, :n] *= EVEN
        part.f[odd, :n] *= ODD
        if largest > 0:
            h = DISPLACEMENT / np.sqrt(largest)
            for way in (1.0, -1.0):
                share = way * strength / h
                part.f[odd, :n] -= share * self._displaced(part, odd, way * h * g, -share / p, atoms)
        fourth.term = strength / p * xp.einsum("jnc,jnc->n", f, g)
        fourth.potential = 2.0 / EVEN * of_even
        self._energy += of_even + of_odd + float(fourth.term.sum())
        self._virial += 2.0 * strength / p * self.domain.backend.to_host(xp.einsum("jna,jnb->ab", f, g))

    def _displaced(self, part: _Part, beads: slice, by: Array, of_virial: float, atoms: Atoms) -> Array:
        """(len(by), n_owned, 3) forces on beads displaced by ``by`` (the same shape, Å)."""
        n = atoms.n_owned
        q, f = (self.xp.empty((len(by), atoms.n_all, 3)) for _ in range(2))
        q[:, :n] = part.q[beads, :n] + by
        with self.timers("halo"):
            for j in range(len(by)):
                self.domain.copy(q[j])
        self._evaluate(part, range(len(by)), q, f, 0.0, atoms, of_virial)
        return f[:, :n]

    def _exchange(self, atoms: Atoms) -> None:
        """Exchange forces, energies and virials among all groups, in one message per step."""
        n, groups, fourth, backend = atoms.n_owned, self.groups, self.fourth, self.domain.backend
        if groups.number > 1:
            with self.timers("halo"):
                extra = [] if fourth is None else [[fourth.potential], backend.to_host(fourth.term)]
                sums = np.concatenate([[self._energy], self._virial.ravel(), *extra])
                rows = [backend.to_host(part.f[part.mine.start : part.mine.stop, :n]).ravel() for part in self.parts]
                beads = [[(part, j) for part in self.parts for j in groups.share(part.modes.beads, group)]
                         for group in range(groups.number)]
                sizes = [len(sums) + 3 * n * len(of_group) for of_group in beads]
                everything = groups.gather(np.concatenate([sums, *rows]), sizes)
                for of_group, theirs in zip(beads, everything, strict=True):
                    for (part, j), f in zip(of_group, theirs[len(sums) :].reshape(-1, n, 3), strict=True):
                        part.f[j, :n] = backend.from_host(f)
                sums = np.sum([theirs[: len(sums)] for theirs in everything], axis=0)
                self._energy, self._virial = float(sums[0]), sums[1:10].reshape(3, 3)
                if fourth is not None:
                    fourth.potential, fourth.term = float(sums[10]), backend.from_host(sums[11:])
        if fourth is not None:
            (part,) = self.parts
            around = part.q[::2, :n] - atoms.x[:n]
            fourth.pull = 2.0 / self.beads / EVEN * self.xp.einsum("jnc,jnc->n", around, part.f[::2, :n])

    def energy(self) -> float:
        """Mean potential energy of the beads, eV, at the last ``compute``. All ranks call it."""
        return self.domain.comm.allreduce(self._energy)

    def virial(self) -> np.ndarray:
        """(3, 3) eV, of a strain of cell and centroids at constant shape of the rings. All ranks call it.

        W = (1/P) Σ_j W_j - Σ u_k ⊗ f_k. With the kinetic energy of the centroids it gives the centroid-virial pressure.
        """
        return self.domain.comm.allreduce(self._with_added(self._virial))

    def spread(self, atoms: Atoms) -> tuple[float, float] | None:
        """As of Forces, at the last bead; None with contraction, where members have different rings."""
        if len(self.parts) > 1 or not isinstance(self.potential, Mixture) or self._last is None:
            return None
        n, m = len(self._last[1]), len(self._last[2])
        self.potential.answers = [(e[len(e) - n :], g[len(g) - m :]) for e, g in self.potential.answers]
        return self.groups.across.bcast(super().spread(atoms), self.groups.number - 1)


def _largest(a: Array) -> float:
    """Largest squared length of (..., 3) vectors; 0 if there are none."""
    return float((a**2).sum(axis=-1).max()) if a.size else 0.0


def _joined(several: list[Edges], atoms: Atoms) -> tuple[Edges, np.ndarray]:
    """Edges and species of several beads as one system: rows of the centers of all beads, then of the neighbors."""
    if len(several) == 1:
        return several[0], atoms.species
    n, beads, xp = atoms.n_owned, len(several), namespace(atoms.species)
    ends = np.cumsum([0, *(len(e.center) for e in several)])
    starts = [e.first[1:] + at for e, at in zip(several, ends[:-1], strict=True)]
    first = xp.concatenate([several[0].first[:1], *starts])
    center = xp.concatenate([e.center + np.int32(b * n) for b, e in enumerate(several)])
    neighbor = xp.concatenate([e.neighbor for e in several]) + np.int32(beads * n)
    species = xp.concatenate([*([atoms.species[:n]] * beads), atoms.species])
    return Edges(center, neighbor, xp.concatenate([e.r_ij for e in several]), first), species
