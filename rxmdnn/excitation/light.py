"""Light: a drive that changes the weights of a mixed surface between two steps, and the heat of what decays."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from mpi4py import MPI

from rxmdnn.arrays import Array
from rxmdnn.atoms import EXCITATION, Atoms
from rxmdnn.dynamics.drive import Drive, StepTime
from rxmdnn.excitation.grid import Grid
from rxmdnn.excitation.illumination import Beam, Illumination, with_surface
from rxmdnn.excitation.lattice_heat import LatticeHeat, shape_for
from rxmdnn.excitation.light_plan import ELECTRONS, LightPlan
from rxmdnn.excitation.mixed_forces import MixedForces
from rxmdnn.excitation.weights import BoundWeights, PlaceWeights, snapped

if TYPE_CHECKING:
    from rxmdnn.dynamics.simulation import Simulation


class Light(Drive):
    """The drive of a mixed surface.

    Its work is what it changes of the potential energy, and the heat of decays that it gives to the atoms. The energy
    taken from the light, ``absorbed_light_eV``, is that work, plus heat that was given to electrons or is still owed.

    Parameters
    ----------
    plan : LightPlan
    elements : of the run
    """

    name = "light"

    def __init__(self, plan: LightPlan, elements: tuple[str, ...]) -> None:
        super().__init__()
        self.plan, self.elements = plan, elements
        self.column_names = ("absorbed_light_eV", "decayed_light_eV", "excited_atoms",
                             *(f"excitation_{e}" for e in elements))
        self.totals = np.zeros(2)  # eV: absorbed and decayed, this rank's share
        self._saved: dict[str, Any] = {}
        self.place: PlaceWeights | None = None
        self.bound: BoundWeights | None = None
        self.heat: LatticeHeat | None = None
        self.electrons: Any = None
        self._virial = np.zeros((3, 3))

    # ------------------------------------------------------------------ beginning
    def begin(self, simulation: Simulation) -> None:
        assert isinstance(simulation.forces, MixedForces)
        self.comm, self.backend, self.domain = simulation.comm, simulation.backend, simulation.domain
        self.forces, self.kinetics, self.ensemble = simulation.forces, simulation.kinetics, simulation.ensemble
        atoms, plan, first = simulation.atoms, self.plan, StepTime(0, simulation.time, simulation.schedule.dt)
        self.atoms = atoms
        if plan.by_place:
            self.place = PlaceWeights(plan.regions, plan.start, plan.pulses, self.domain)
            self.place.amplitude = self._saved.get("amplitude", self.place.amplitude_at(first.time))
            self.place.next_amplitude = self.place.amplitude_at(first.time + 0.5 * first.dt)
            self.place.present(atoms)
            self.forces.source = self.place
        else:
            light = Illumination(plan.pulses, self._beam(atoms), plan.regions)
            self.bound = BoundWeights(light, plan.lifetime, plan.least, self.domain)
            self.bound.begin(atoms, plan.start, plan.regions)
            self.bound.next = first
            self.forces.source = self.bound
        self._begin_heat(simulation)

    def _beam(self, atoms: Atoms) -> Beam:
        """The beam with its surface: of a run that goes on with the same direction, where it was at the start."""
        beam = self.plan.beam
        if beam.direction is not None and beam.direction.tolist() == self._saved.get("direction"):
            beam = replace(beam, surface=self._saved["surface"] if beam.surface is None else beam.surface)
        return with_surface(beam, self.backend.to_host(atoms.x[: atoms.n_owned]), self.comm)

    def _begin_heat(self, simulation: Simulation) -> None:
        if self.plan.lifetime is None:
            return
        if self.plan.heat_to == ELECTRONS:
            self.electrons = next(d for d in simulation.drives if d.name == ELECTRONS)
            return
        shape = self._saved.get("grid") or shape_for(self.domain.cell, simulation.n_global)
        self.heat = LatticeHeat(Grid(self.comm, self.backend, tuple(shape)), self.kinetics)
        if "owed" in self._saved:
            self.heat.owed = np.array(self._saved["owed"])

    # ------------------------------------------------------------------ a step
    def before(self, atoms: Atoms, now: StepTime) -> None:
        if self.place is not None:
            self._shine_on_places(self.place, atoms, now)
        elif self.bound is not None:
            self._shine_on_atoms(self.bound, atoms, now)

    def _shine_on_places(self, place: PlaceWeights, atoms: Atoms, now: StepTime) -> None:
        """Change to the amplitude in the middle of the step."""
        new = place.amplitude_at(now.time + 0.5 * now.dt)
        if new != place.amplitude:
            place.next_amplitude = new
            self.forces.settle(atoms)
            if not self.forces.cover(place.at(new)):
                self.forces.compute(atoms)
            place.amplitude = new
            gained = self.forces.reweigh_within(self.ensemble, atoms, place.at(new))
            atoms.extra[EXCITATION] = place.at(new)
            self.work += gained
            self.totals[0] += gained
        place.next_amplitude = place.amplitude_at(now.time + 1.5 * now.dt)

    def _shine_on_atoms(self, bound: BoundWeights, atoms: Atoms, now: StepTime) -> None:
        """Change to the weights after the step, and give the heat of what decays in it."""
        if bound.acts(now):
            bound.next = now
            self.forces.settle(atoms)
            host, decayed = bound.changed(atoms, now)
            new = snapped(self.backend.from_host(host), bound.least)
            if not self.forces.cover(new):
                self.forces.compute(atoms)  # nothing has moved: the rows keep their order
            excited = self.forces.weights > 0
            gained = self.forces.reweigh_within(self.ensemble, atoms, new)
            atoms.extra[EXCITATION] = self.backend.from_host(host)
            self.work += gained
            self.totals[0] += gained
            if bound.lifetime is not None:
                self._decay(atoms, self.backend.xp.where(
                    excited, self.backend.from_host(decayed) * self.forces.answers.gap(), 0.0))
        bound.next = StepTime(now.step + 1, now.time + now.dt, now.dt)

    def _decay(self, atoms: Atoms, heat: Array) -> None:
        """Give the energy, eV, (n_owned,), that decays have set free, to the lattice or to the electrons."""
        self.totals += float(heat.sum())
        if self.electrons is not None:
            self.electrons.deposit(atoms, heat)
        elif self.heat is not None:
            self.work += self.heat.give(atoms, self.domain.cell, heat)

    # ------------------------------------------------------------------ forces of weights by place
    def add_forces(self, atoms: Atoms) -> None:
        if self.plan.by_place and self.plan.regions and self.place is not None:
            f, self._virial = self.place.force(self.forces.answers.gap(), self.backend)
            atoms.f[: atoms.n_owned] += f

    def virial(self) -> np.ndarray:
        return self._virial

    # ------------------------------------------------------------------ output and restart
    def columns(self) -> dict[str, float]:
        n, to_host = self.atoms.n_owned, self.backend.to_host
        species, w = to_host(self.atoms.species[:n]), to_host(self.atoms.extra[EXCITATION])
        kinds = len(self.elements)
        rows = np.stack([np.bincount(species, minlength=kinds), np.bincount(species, w, kinds)])
        count, excited = self.comm.allreduce(rows)
        absorbed, decayed = self.comm.allreduce(self.totals)
        means = excited / np.maximum(count, 1.0)
        return dict(zip(self.column_names, map(float, (absorbed, decayed, excited.sum(), *means)), strict=True))

    def state(self) -> dict[str, Any]:
        """See Drive. The sums move to rank 0, as the work does."""
        totals = self.comm.allreduce(self.totals)
        self.totals = totals.copy() if self.comm.rank == 0 else np.zeros(2)
        out: dict[str, Any] = {"totals": totals.tolist()}
        if self.place is not None:
            out["amplitude"] = self.place.amplitude
        if self.bound is not None and (beam := self.bound.illumination.beam).direction is not None:
            out |= {"surface": beam.surface, "direction": beam.direction.tolist()}
        if self.heat is not None:
            out |= {"grid": list(self.heat.grid.shape), "owed": self.heat.owed}
        return out

    def continue_from(self, saved: dict[str, Any], comm: MPI.Comm, with_work: bool = True) -> None:
        super().continue_from(saved, comm, with_work)
        self.totals = np.array(saved["totals"]) if comm.rank == 0 else np.zeros(2)

    def resume(self, state: dict[str, Any]) -> None:
        self._saved = state
        if self.place is not None:  # within a run, which goes back to an earlier step
            self.place.amplitude = state["amplitude"]
        if self.heat is not None:
            self.heat.owed = np.array(state["owed"])
