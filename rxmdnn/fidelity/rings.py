"""Monitoring of ring polymers: every bead is checked, and the worst bead of an atom counts."""

from __future__ import annotations

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import Found
from rxmdnn.fidelity.monitor import BOND_SPECIES, BONDS, EdgeArrays, Monitor
from rxmdnn.ring_polymer.forces import F, RingForces

UNWATCHED = {  # criterion: why it is not available for ring polymers
    "latent": "the network does not keep the features of all beads",
    "spread": "the spread of a committee is known for one bead only",
    "energy": "the springs of the beads exchange far more energy than atoms do",
}


class RingMonitor(Monitor):
    """Monitor of positions and forces of beads; reference bonds and temperature are those of the centroids."""

    @property
    def forces(self) -> RingForces:
        forces = self.simulation.forces
        assert isinstance(forces, RingForces)
        return forces

    def topology_edges(self, atoms: Atoms) -> EdgeArrays:
        """Edges of the centroids, whose bonds are stretched less than those of beads."""
        return self.near(self.forces.neighbors.edges(atoms.x, atoms.species))

    def examine(self, atoms: Atoms, latent: np.ndarray | None, spread: np.ndarray | None) -> list[Found]:
        """Results of the criteria on beads, for each kind and atom the worst bead. atoms : on the host"""
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
