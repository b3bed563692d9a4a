"""The failure criteria of a study, evaluated on all replicas of a batch at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import Band, Found
from rxmdnn.survival.plan import StudyPlan
from rxmdnn.survival.record import RunRecord
from rxmdnn.survival.replicas import ReplicaNVE

WHOLE_SYSTEM = ("temperature", "energy", "published")  # criteria that name no atom


class BatchWatch:
    """Criteria on K replicas.

    Parameters
    ----------
    plan : StudyPlan
    thermostat : ReplicaNVE, of the replicas, with forces computed
    bonds : (n, B) int, atoms bonded to each atom of a replica at its start; -1 where there are fewer
    """

    def __init__(self, plan: StudyPlan, thermostat: ReplicaNVE, bonds: np.ndarray) -> None:
        self.plan, self.thermostat, self.replicas, self.bonds = plan, thermostat, thermostat.replicas, bonds
        interval = plan.check_steps * plan.dt
        self._temperature, self._energy = Band(interval), Band(interval)
        self._first_energy = thermostat.conserved()
        species = plan.species(self.replicas.n)
        self._bond_species = np.where(bonds >= 0, species[np.maximum(bonds, 0)], 0)

    def keep(self, alive: np.ndarray) -> None:
        """Drop all replicas but these. alive : (K,) bool."""
        self._first_energy = self._first_energy[alive]
        for band in (self._temperature, self._energy):
            band.values = deque((v[alive] for v in band.values), maxlen=band.values.maxlen)

    def check(self, step: int, records: Sequence[RunRecord]) -> None:
        """Note in the K records which criteria are met at this step."""
        n = self.replicas.n
        for item in self._local() + self._global():
            for row, value, threshold in zip(item.row, item.value, item.threshold):
                k, atom = divmod(int(row), n)
                records[k].note(item.kind, step, -1 if item.kind in WHOLE_SYSTEM else atom, float(value),
                                float(threshold))

    def _local(self) -> list[Found]:
        """What is found at atoms, pairs and bonds; row = replica * n + atom."""
        r, n, count = self.replicas, self.replicas.n, len(self.replicas)
        m = count * n
        bonds = np.tile(self.bonds, (count, 1))
        bonds = np.where(bonds >= 0, bonds + n * np.repeat(np.arange(count), n)[:, None], -1)
        return criteria.examine(self.plan.limits, r.edges.center, r.edges.neighbor, r.edges.r_ij, r.kind,
                                r.row.astype(np.int64), r.x.reshape(m, 3), r.v.reshape(m, 3), r.f.reshape(m, 3), bonds,
                                np.tile(self._bond_species, (count, 1)))

    def _global(self) -> list[Found]:
        """What is found of the temperature and the conserved energy of each replica; row = replica * n."""
        n, target = self.replicas.n, self.replicas.temperature
        temperature, width = self.thermostat.temperature(), criteria.allowed(target, n)
        off, mean = self._temperature.outside(temperature, target, width)
        found = [Found("temperature", np.flatnonzero(off) * n, mean[off], width[off])]
        gained = criteria.energy_as_temperature(self.thermostat.conserved() - self._first_energy, n)
        off, mean = self._energy.outside(gained, 0.0, width)
        found.append(Found("energy", np.flatnonzero(off) * n, mean[off], width[off]))
        band = self.plan.deck["published"].band
        off = criteria.published(temperature - target, 0.0, band)
        found.append(Found("published", np.flatnonzero(off) * n, temperature[off], np.full(off.sum(), band)))
        return found
