"""The simulation of a run, with all its parts, made from its deck."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import EXCITATION, Atoms
from rxmdnn.backend import Backend
from rxmdnn.deck.electrons import pushes_atoms
from rxmdnn.deck.run import RunDeck
from rxmdnn.deck.run_faults import barostat_fault
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.minimize import LEFT_BY_MINIMIZERS
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.excitation.mixed_forces import Frozen, MixedForces
from rxmdnn.excitation.surfaces import MixedSurface
from rxmdnn.io.start import Start
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import on_root, together
from rxmdnn.ring_polymer.economised import economy_notes, find_economy
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.ring_polymer.setup import make_forces
from rxmdnn.run.continuation import Continuation, compared
from rxmdnn.run.drives import choose_drives, make_drives
from rxmdnn.run.ensemble import choose_ensemble, target_pressures
from rxmdnn.run.untrained import untrained_notes
from rxmdnn.run.velocities import begin_velocities
from rxmdnn.timers import Timers
from rxmdnn.units import EV_PER_KCAL_MOL


def make_simulation(comm: MPI.Comm, run: RunDeck, backend: Backend, potential: Potential, start: Start,
                    groups: Groups | None = None, how: Continuation | None = None) -> Simulation:
    """Decompose the start over the ranks and give it velocities where it has none.

    how : how the run begins from it; default: as ``compared`` finds
    """
    how = compared(comm, run, start) if how is None else how
    deck, mass = run.deck, np.array(run.masses)
    with together(comm):
        if fault := barostat_fault(deck, start.cell.pbc):
            raise InputError(fault)
    counts = comm.allreduce(np.bincount(start.species, minlength=len(run.elements)))
    start.notes += [note for note in on_root(comm, lambda: untrained_notes(run, counts)) if note not in start.notes]
    economy = find_economy(deck, start, run.masses, groups or Groups(comm), how.same_stage, lambda: System(
        potential, start.cell, Atoms.of(start.gid, start.species, start.x), comm=comm, backend=backend,
        grid=tuple(deck["processors"])))
    if economy is not None:
        start.notes += economy_notes(deck, economy)
    system = System(
        potential, start.cell, start.atoms(), comm=comm, backend=backend, skin=deck["skin"].skin,
        grid=tuple(deck["processors"]), balance=deck["balance"].on,
        timers=Timers(backend.synchronize) if deck["verbose"].on else Timers(),
        make_forces=lambda domain, neighbors, potential, timers: _make_forces(
            run, domain, neighbors, potential, timers, groups),
        at_owners=lambda domain: start.exact and start.state.get("grid") == domain.grid.tolist())
    atoms = system.atoms
    dt, treq = deck["time"].dt, deck["temperature"].treq
    ramp = tuple(deck["tramp"]) if deck["tramp"].t0 is not None else (treq, treq)
    schedule = Schedule(dt, how.stop, deck["mdmode"].mode, ramp, deck["temperature"].vsfact,
                        deck["temperature"].sstep, deck["io_step"].pstep, deck["seed"].number, start=how.begin,
                        minimizer=deck["minimizer"].method, fmax=deck["minimizer"].fmax,
                        tolerance=deck["CG_tol"].ftol * EV_PER_KCAL_MOL, pressures=target_pressures(deck),
                        cell_shape=None if deck["minimizer"].cell == "fixed" else deck["minimizer"].cell)
    if deck["graphs"].on:
        system.forces.use_graphs(lambda why: print(f"graphs: disabled: {why}", flush=True) if comm.rank == 0 else None)
    simulation = Simulation(comm, backend, system.domain, system.forces, atoms, mass, schedule, system.n_global,
                            step=start.step, time_0=start.time - start.step * dt,
                            forces_known=how.forces_known)
    if pushes_atoms(deck):
        simulation.kinetics.pushed = True
        simulation.kinetics.count_degrees_of_freedom()
    choose_ensemble(deck, simulation, start, how.resumes, economy)
    choose_drives(simulation, make_drives(run, simulation, start), start, how)
    if how.minimizes_on:
        simulation.minimizer_state = start.state["minimizer"]
    if schedule.mdmode != MINIMIZATION:
        for name in LEFT_BY_MINIMIZERS:
            atoms.extra.pop(name, None)
        start.notes += begin_velocities(simulation, start, how)
    start.notes += how.notes
    return simulation


def _make_forces(run: RunDeck, domain: Domain, neighbors: NeighborList, potential: Potential, timers: Timers,
                 groups: Groups | None) -> Forces:
    """Forces on atoms, on ring polymers, or on atoms of which some are excited."""
    if isinstance(potential, MixedSurface):
        return MixedForces(domain, neighbors, potential, timers, Frozen(EXCITATION))
    return make_forces(run.deck, run.masses, domain, neighbors, potential, timers, groups)
