"""Models that observe a run: evaluated every n steps on its atoms, without moving them.

The first model of rxmdnn.in alone gives energies and forces, so a run has the bits of that model alone; m observers add
m/n of an evaluation per step. Their pairs are those of the neighbor list, so no cutoff may exceed that of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.engine.forces import Forces
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture


class ObserverModels:
    """Potentials that are evaluated on the edges of the last force evaluation.

    Parameters
    ----------
    forces : Forces of the run; members : potentials; every : steps between their evaluations
    """

    def __init__(self, forces: Forces, members: Sequence[Potential], every: int) -> None:
        self.forces, self.members, self.every = forces, list(members), every
        self._within = Mixture([forces.potential, *members])  # its cutoffs are those of the first

    def due(self, step: int) -> bool:
        """Whether the members are evaluated at a step."""
        return step % self.every == 0

    def model_forces(self, atoms: Atoms) -> np.ndarray:
        """(1 + members, n_owned, 3) forces of the first model and of each observer, eV/Å, on the host.

        All ranks call it, after ``compute`` of ``forces``.
        """
        edges, _, g_ij = self.forces.last
        potential = self.forces.potential
        gradients = [potential.answers[0][1] if isinstance(potential, Mixture) else g_ij]
        gradients += [self._within.of_member(member, edges, atoms.species)[1] for member in self.members]
        backend, out = self.forces.domain.backend, np.empty((len(gradients), *atoms.f.shape))
        for host, g in zip(out, gradients):
            f = backend.from_host(host)
            self.forces.neighbors.assemble(edges, g, f)
            self.forces.domain.give_back(f)
            host[:] = backend.to_host(f)
        return out[:, : atoms.n_owned]
