"""The parts of a run, each made from its lines of the deck."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numba
import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn import threads
from rxmdnn.atoms import Atoms
from rxmdnn.backend import Backend
from rxmdnn.deck.electrons import pushes_atoms
from rxmdnn.deck.language import Deck
from rxmdnn.deck.light import has_light
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.run import RunDeck
from rxmdnn.deck.run_faults import barostat_fault, cell_is_driven
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.drive import Drive
from rxmdnn.dynamics.ensembles import Barostat, CellChange, Ensemble, StrainSchedule
from rxmdnn.dynamics.ensembles import make as make_ensemble
from rxmdnn.dynamics.minimize import LEFT_BY_MINIMIZERS
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.engine.system import System
from rxmdnn.errors import InputError
from rxmdnn.excitation.mixed_forces import Frozen, MixedForces
from rxmdnn.excitation.surfaces import MixedSurface
from rxmdnn.excitation.weights import EXCITATION
from rxmdnn.io.start import Start
from rxmdnn.models.interface import Potential
from rxmdnn.models.mixture import Mixture, together_unweighted
from rxmdnn.models.pair import LennardJones, Null
from rxmdnn.models.pair_terms import PAIR_TERM_KINDS, PairTerm
from rxmdnn.models.repulsion import Repulsion
from rxmdnn.parallel import on_root, together
from rxmdnn.ring_polymer.economised import Economy, economy_notes, find_economy
from rxmdnn.ring_polymer.forces import V
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.ring_polymer.setup import choose_ring, make_forces
from rxmdnn.run.continuation import Continuation, compared
from rxmdnn.run.drives import make_drives
from rxmdnn.run.trial import Case, choose
from rxmdnn.run.untrained import untrained_notes
from rxmdnn.schema import Item, reading
from rxmdnn.timers import Timers
from rxmdnn.units import EV_PER_KCAL_MOL, FS_PER_PS, GPA_PER_EV_A3

T = TypeVar("T")


def on_each(comm: MPI.Comm, make: Callable[[], T]) -> T:
    """What every rank makes for itself; the InputError of one rank is raised on all."""
    with together(comm):
        made = make()
    return made


def make_backend(comm: MPI.Comm, run: RunDeck) -> Backend:
    """The backend of the deck."""
    deck = run.deck
    return backend_of(comm, deck["backend"].name, Case(np.array(run.masses), deck["precision"].network,
                                                       lambda there: make_potential(run, there)),
                      deck["mpi"].memory == "cuda-aware")


def backend_of(comm: MPI.Comm, name: str, case: Case, direct: bool = False) -> Backend:
    """The backend called ``name``; on a GPU, the ranks of a machine take its devices in turn.

    case : what "auto" tries on a GPU; direct : MPI takes the memory of a device itself
    """
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    local_rank, ranks = machine.rank, machine.size
    machine.Free()
    if name == "auto":
        return choose(comm, case, lambda: backends.make("cuda", local_rank, ranks))
    return on_each(comm, lambda: backends.make(name, local_rank, ranks, direct))


@contextmanager
def fits_on_device(simulation: Simulation) -> Iterator[None]:
    """A block in which a device that is too small for the run is an InputError."""
    try:
        yield
    except Exception as error:
        if simulation.backend.on_device:
            from rxmdnn.device import shortage

            if fault := shortage(simulation.backend, error, simulation.atoms.n_owned):
                raise fault from None
        raise


@contextmanager
def keeping_threads() -> Iterator[None]:
    """A block that may change the number of threads; afterwards it is what the caller had."""
    before = numba.get_num_threads()
    try:
        yield
    finally:
        numba.set_num_threads(before)


def set_threads(comm: MPI.Comm, wanted: int) -> None:
    """Use the threads of ``thread_count`` from now on."""
    numba.set_num_threads(thread_count(comm, wanted))


def thread_count(comm: MPI.Comm, wanted: int) -> int:
    """Threads of this rank: those wanted, or (0) OMP_NUM_THREADS or the cores of the machine among its ranks.

    Never more than NUMBA_NUM_THREADS.
    """
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # A launcher that pins ranks has shared the cores out already.
    shared = max(machine.allgather(cores)) < (os.cpu_count() or 1) or machine.size == 1
    n = wanted or threads.asked_for() or max(1, cores if shared else cores // machine.size)
    machine.Free()
    return min(n, numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]


def fewer_threads(comm: MPI.Comm, wanted: int, n_global: int) -> str:
    """With ``wanted`` 0, use fewer threads from now on where the atoms of a rank are few; a note for the log if so."""
    before, atoms = numba.get_num_threads(), n_global / comm.size
    n = before if wanted else threads.that_pay(before, atoms)
    numba.set_num_threads(n)
    return "" if n == before else (f"{n} of {before} threads per rank: more do not pay for {atoms:.0f} atoms per rank; "
                                   "a line 'threads N' sets another number")


def make_potential(run: RunDeck, backend: Backend) -> Potential:
    """The models of rxmdnn.in over the run's elements; every line that fails is reported."""
    members, faults = [], []
    for line in (*run.models, *([run.repulsion] if run.repulsion else [])):
        try:
            members.append(_member(line, run, backend))
        except InputError as error:
            faults += [line.fault(text) for text in error.faults]
    if faults:
        raise InputError(*faults)
    if has_light(run.deck):
        line = run.deck["excite"]
        added = together_unweighted([*members[2:], *_pair_terms(run, backend)])
        return MixedSurface(members[line.ground - 1], members[line.excited - 1], added)
    added = together_unweighted([*([members.pop()] if run.repulsion else []), *_pair_terms(run, backend)])
    alone = len(members) == 1 and run.weights == (1.0,) and added is None
    return members[0] if alone else Mixture(members, run.weights, added)


def make_observers(run: RunDeck, backend: Backend, first: Potential) -> list[Potential]:
    """The models that observe the run. first : the potential of the run. Raises InputError with all faults."""
    out, faults = [], []
    for line in run.observers:
        try:
            out.append(_member(line, run, backend))
            if (out[-1].cutoff > first.cutoff).any():
                faults.append(line.fault(f"an observer whose cutoff, {out[-1].cutoff.max():g} Å, exceeds that of the "
                                         f"first model, {first.cutoff.max():g} Å; omit it"))
        except InputError as error:
            faults += [line.fault(text) for text in error.faults]
    if faults:
        raise InputError(*faults)
    return out


def _pair_terms(run: RunDeck, backend: Backend) -> list[PairTerm]:
    """The potentials of the lines shparams and spparams."""
    if run.pair_terms and backend.on_device:
        raise InputError(f"{', '.join(t.kind for t in run.pair_terms)}: computed on the CPU only; write 'backend cpu'")
    return [PAIR_TERM_KINDS[t.kind](run.elements, t.listed, t.parameters) for t in run.pair_terms]


def _member(line: ModelLine, run: RunDeck, backend: Backend) -> Potential:
    """The potential of one line of the model deck."""
    if line.kind == "lj":
        return LennardJones(backend, run.elements, **line.parameters)
    if line.kind == "zbl":
        return Repulsion(run.elements, **line.parameters, backend=backend)
    if line.kind == "null":
        return Null(run.elements, **line.parameters)
    if line.kind in ("compiled", "ase") and backend.on_device:
        raise InputError("runs on the CPU only; write 'backend cpu'")
    if line.kind == "ase":
        from rxmdnn.models.ase_calculator import AseCalculator  # a user's module, only where it is asked for

        return AseCalculator(line.parameters["factory"], run.elements)
    if line.kind == "compiled":
        from rxmdnn.models.compiled import CompiledLocal, CompiledWhole  # torch, likewise

        return (CompiledWhole if line.is_whole else CompiledLocal)(line.parameters["file"], run.elements)
    from rxmdnn.models.allegro import Allegro  # torch, only where a network runs

    file = line.parameters["file"]
    return Allegro.load(file, run.elements, run.deck["precision"].network, backend, line.native)


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
        grid=tuple(deck["processors"]), timers=Timers(backend.synchronize) if deck["verbose"].on else Timers(),
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


def choose_drives(simulation: Simulation, drives: list[Drive], start: Start, how: Continuation) -> None:
    """Give the simulation what acts on it from outside; it continues from its state in the checkpoint, if there."""
    saved = start.state.get("drives", {})
    for drive in drives:
        if drive.name in saved:
            with together(simulation.comm), reading(start.source, f"a state of '{drive.name}'") as checked:
                rules = {"work": Item("float"), **drive.stored}
                checked.entries(saved[drive.name], rules, f"state.drives.{drive.name}")
                drive.continue_from(saved[drive.name], simulation.comm, how.same_stage)
    if saved and not how.same_stage:
        start.notes.append("the conserved quantity and the works of light, electrons and fields begin anew here")
    if drives and start.continued and start.source.endswith("rxff.bin"):
        start.notes.append(f"{start.source} holds positions and velocities only: weights of excited atoms, "
                           "temperatures of electrons, polarization and works begin anew")
    simulation.drives, simulation.forces.added = drives, list(drives)
    if not isinstance(simulation.forces, MixedForces):
        simulation.atoms.extra.pop(EXCITATION, None)  # of an earlier run


def begin_velocities(simulation: Simulation, start: Start, how: Continuation) -> list[str]:
    """Remove a net momentum, and draw velocities where the atoms are at rest and a temperature is asked for.

    The run of a checkpoint that goes on unchanged keeps its velocities to the bit. Returns notes for the log.
    """
    atoms, kinetics, plan, notes = simulation.atoms, simulation.kinetics, simulation.schedule, []
    settled = how.same_stage and "run" in start.state
    if not settled and (start.f is None or simulation.ensemble.keeps_momentum):
        notes += without_drift(simulation)
    target = plan.target(start.step)
    temperature, at_rest = kinetics.temperature(atoms), kinetics.at_rest(atoms, target)
    if how.draws or at_rest:
        kinetics.draw(atoms, target, plan.seed, start.step)
        atoms.extra.pop(V, None)  # those of ring polymers, which their ensemble draws
        notes.append(f"velocities were drawn at {target:g} K: "
                     + ("the atoms of the start were at rest" if at_rest else "random_velocity"))
    elif start.f is None and temperature > 0:
        notes.append(f"velocities are those of the start, {temperature:.4g} K")
    return notes


def without_drift(simulation: Simulation) -> list[str]:
    """Remove the velocity of the center of mass, which would count as heat; a note for the log where there was one."""
    atoms, kinetics = simulation.atoms, simulation.kinetics
    if simulation.n_global < 2:
        return []
    v, energy = kinetics.drift(atoms)
    if not energy > 1e-6 * kinetics.energy(atoms):
        return []
    kinetics.zero_momentum(atoms)
    return [f"the initial center-of-mass velocity ({np.linalg.norm(v):.3g} A/fs, {energy:.3g} eV) was removed"]


def target_pressures(deck: Deck) -> tuple[float, float]:
    """Target pressures at the first and last step, eV/Å^3."""
    steady = deck["minimizer"].pressure if deck["mdmode"].mode == MINIMIZATION else deck["barostat"].pressure or 0.0
    ends = tuple(deck["pramp"]) if deck["pramp"].p0 is not None else (steady, steady)
    return ends[0] / GPA_PER_EV_A3, ends[1] / GPA_PER_EV_A3


def choose_ensemble(deck: Deck, simulation: Simulation, start: Start, resumes: bool,
                    economy: Economy | None = None) -> None:
    """Give the simulation the ensemble of the deck; with ``resumes`` it continues from its state in the checkpoint.

    Raises AgreedError where that state is damaged or of another version.
    """
    line, cell_line = deck["ensemble"], deck["barostat"]
    barostat: Barostat | CellChange | None = None
    if cell_is_driven(deck):
        plan = simulation.schedule
        stretch, shear = (np.array([*deck[name]]) for name in ("strain_ramp", "shear_ramp"))
        barostat = StrainSchedule(simulation.motion(), stretch, shear, plan.start, plan.stop)
        simulation.ensemble = Ensemble(simulation.motion(), 0.0, barostat)
    if cell_line.kind is not None:
        barostat = Barostat(cell_line.kind, cell_line.tau_p * FS_PER_PS, cell_line.shape,
                            cell_line.compressibility * GPA_PER_EV_A3)
    if line.kind is not None:
        simulation.ensemble = make_ensemble(simulation.motion(), line.kind, (line.tau or 0.0) * FS_PER_PS, barostat)
    simulation.ensemble = choose_ring(deck, simulation.ensemble, simulation.atoms, economy)
    saved = start.state.get("ensemble")
    if saved and resumes:
        advice = "start a new ensemble with '--start rxff'"
        with together(simulation.comm), reading(start.source, f"a state of '{line.kind}'", advice) as checked:
            checked.alike(saved, simulation.ensemble.state(), "state.ensemble")
            simulation.ensemble.resume(saved)


