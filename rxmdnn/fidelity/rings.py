"""The criteria of a ring polymer: every bead is looked at, and an atom's worst bead speaks for it."""

from __future__ import annotations

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import Found
from rxmdnn.fidelity.monitor import BOND_SPECIES, BONDS, EdgeArrays, Monitor
from rxmdnn.ring_polymer.forces import F, RingForces

UNWATCHED = {  # kind: why a ring has none
    "latent": "the network keeps no features of all the beads",
    "spread": "a committee's spread is known of one bead alone",
    "energy": "the springs of the beads exchange far more energy than atoms do",
}


class RingMonitor(Monitor):
    """Positions and forces are those of the beads; bonds are the centroids' at the start; temperature is theirs too."""

    @property
    def forces(self) -> RingForces:
        forces = self.simulation.forces
        assert isinstance(forces, RingForces)
        return forces

    def topology_edges(self, atoms: Atoms) -> EdgeArrays:
        """Of the centroids, whose bonds are never as stretched as a bead's."""
        return self.near(self.forces.neighbors.edges(atoms.x, atoms.species))

    def look(self, atoms: Atoms, latent: np.ndarray | None, spread: np.ndarray | None) -> list[Found]:
        """What the beads show: of each kind and atom the worst. atoms : on the host"""
        n, backend, species = atoms.n_owned, self.simulation.backend, self.simulation.atoms.species
        ring = max(self.forces.parts, key=lambda part: part.modes.beads)
        p = ring.modes.beads
        on_modes = np.concatenate([atoms.f[:n, None], atoms.extra[F][:, : p - 1]], axis=1)
        f = np.matmul(ring.modes.to_beads, on_modes).transpose(1, 0, 2)
        self.strength = np.sqrt((f**2).sum(axis=2)).max(axis=0)
        found: dict[str, list[Found]] = {}
        for j in range(p):
            edges = self.near(self.forces.neighbors.edges(ring.q[j], species))
            for a in criteria.examine(self.limits, *edges, atoms.species, atoms.gid, backend.to_host(ring.q[j][:n]),
                                      atoms.v, f[j], atoms.extra.get(BONDS), atoms.extra.get(BOND_SPECIES)):
                found.setdefault(a.kind, []).append(a)
        return [criteria.worst(kind, *(np.concatenate(column) for column in list(zip(*several))[1:]))
                for kind, several in found.items()]
