"""The run deck, rxmd.in: its table `RUN`, and `read_run`, which reads it together with the model deck.

`read_run` reads both decks, with the flags of the command line over them, and checks them against each other and
against the number of ranks. It needs neither MPI nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rxmdnn.deck import language as decks
from rxmdnn.deck.electrons import ELECTRONS, PROFILE, electron_faults, electron_notes, profile_faults
from rxmdnn.deck.fields import SHAPES_OF_FIELDS, field_faults, has_field
from rxmdnn.deck.language import Deck, Entry, Keyword, Value, near, not_negative, positive
from rxmdnn.deck.light import LIGHT, first_pulse, light_faults, pulses_of
from rxmdnn.deck.models import ModelLine, read_models
from rxmdnn.deck.pair_terms import PAIR_TERMS, PairTable, read_pair_table
from rxmdnn.deck.run_faults import (
    cell_is_driven,
    device_faults,
    ensemble_faults,
    estimate_faults,
    fidelity_faults,
    model_faults,
    observer_faults,
    ring_faults,
    start_faults,
)
from rxmdnn.deck.words import (
    ACTIONS,
    BAROSTATS,
    COMPATIBILITY,
    CRITERIA,
    DRIVING,
    ENSEMBLES,
    EXCITATION,
    FIRST_PULSE,
    LIMITS,
    MDMODES,
    MINIMIZATION,
    MINIMIZED,
    PRECISIONS,
    RING_ESTIMATES,
    RING_INTEGRATORS,
    RING_METHODS,
    SHAPES,
    STARTS,
)
from rxmdnn.errors import InputError
from rxmdnn.files import file_fault
from rxmdnn.isotopes import element_of, standard_mass

WIDEST_SKIN = 20.0  # Å


def _skin(x: float) -> str | None:
    return None if 0 <= x <= WIDEST_SKIN else f"must be from 0 to {WIDEST_SKIN:g}; typical values are 0.3 to 2"


def _beads(n: int) -> str | None:
    return None if n >= 1 else "must be at least 1, which is classical; use 16 to 32 for hydrogen at room temperature"


def _ensemble(kind: str) -> str | None:
    if kind in ENSEMBLES:
        return None
    hint = "" if kind.lower() in ("nvt", "npt") else near(kind, list(ENSEMBLES))
    return f"must be one of {', '.join(ENSEMBLES)}{hint}"


def _tau(entry: Entry) -> str | None:
    if entry.kind == "nve":
        return None if entry.tau is None else "nve has no tau; omit it"
    return None if entry.tau is not None else f"tau is missing; write for example 'ensemble {entry.kind} 0.1'"


def _minimized(entry: Entry) -> str | None:
    return "cg does not change the cell; use fire" if entry.method == "cg" and entry.cell != "fixed" else None


def _mdmode(x: int) -> str | None:
    return None if x in MDMODES else f"must be one of {', '.join(map(str, MDMODES))}"


def _strain(x: float) -> str | None:
    return None if x > -1 else "must be above -1"


def _level(x: float) -> str | None:
    return None if 0 < x <= 0.5 else "must be above 0 and at most 0.5"


def _refused(text: str) -> Callable[[Entry], str]:
    return lambda entry: text


def _direction(x: int) -> str | None:
    return None if x in (1, 2, 3) else "must be 1, 2 or 3, which are x, y and z"


def _grid(entry: Entry) -> str | None:
    some, every = any(v > 0 for v in entry), all(v > 0 for v in entry)
    return "all three must be above zero, or all three 0 to let rxmdnn choose" if some and not every else None


def _logicals(*names: str) -> dict[str, tuple[str, ...]]:
    return {f"--{name}": (name,) for name in names}


CHARGES = "neural-network runs have no ReaxFF charges"

_METHOD_TWICE = dict.fromkeys(
    RING_METHODS, "one method per run; economised rings (eco) are for averages alone: write 'pimd <beads> eco "
                  "<omega_max>', then continue with another method from its checkpoint")

RUN = (
    Keyword("mdmode", (Value("mode", "int", 1, check=_mdmode, words=MDMODES),),
            "control of velocities every sstep steps, or a minimization", group="dynamics"),
    Keyword("time", (Value("dt", "float", unit="fs", check=positive), Value("ntime_step", "int", check=not_negative)),
            "time step and number of steps", _logicals("dt", "ntime_step"), group="dynamics"),
    Keyword("until", (Value("step", "int", None, "steps", not_negative),),
            "run until this step in total, whatever ntime_step says; a run that has reached it takes no further steps. "
            "For jobs that a batch system starts again and again", group="dynamics"),
    Keyword("temperature",
            (Value("treq", "float", 300.0, "K", not_negative), Value("vsfact", "float", 1.0, check=positive),
             Value("sstep", "int", 1, "steps", positive),
             Value("vmag", "float", None, optional=True, help="ignored (accepted for compatibility)")),
            "target temperature, velocity factor, and interval of mdmode", _logicals("treq", "vsfact", "sstep"),
            group="dynamics"),
    Keyword("tramp", (Value("t0", "float", None, "K", not_negative), Value("t1", "float", None, "K", not_negative)),
            "the target temperature changes from t0 to t1, linearly over the run", group="dynamics"),
    Keyword("ensemble", (Value("kind", "str", None, check=_ensemble, words=ENSEMBLES),
                         Value("tau", "float", None, "ps", positive, optional=True,
                               help="relaxation time of the thermostat")),
            "thermostat acting in every step, at treq or along tramp, instead of an mdmode", check=_tau,
            group="ensembles"),
    Keyword("barostat", (Value("kind", tuple(BAROSTATS), None, words=BAROSTATS),
                         Value("pressure", "float", None, "GPa"),
                         Value("tau_p", "float", None, "ps", positive, help="relaxation time of the volume"),
                         Value("shape", tuple(SHAPES), "isotropic", optional=True, help="what may change",
                               words=SHAPES),
                         Value("compressibility", "float", 0.5, "1/GPa", positive, optional=True,
                               help="scr: an estimate; it sets the rate of relaxation, not the distribution")),
            "constant pressure, together with an ensemble line", group="ensembles"),
    Keyword("pramp", (Value("p0", "float", None, "GPa"), Value("p1", "float", None, "GPa")),
            "the pressure of the barostat changes from p0 to p1, linearly over the run", group="ensembles"),
    Keyword("pimd", (Value("beads", "int", None, check=_beads),
                     Value("method", tuple(RING_METHODS), "pimd", optional=True, words=RING_METHODS),
                     Value("number", "float", None, check=positive, optional=True, misplaced=_METHOD_TWICE,
                           help="eco: omega_max, 1/cm (default: that of the stiffest mode of the model at the start); "
                                "else lambda of the internal modes, friction 2 lambda omega_k; by default 1 for pimd "
                                "and pacmd, 0.5 for trpmd")),
            "path integrals: every atom is a ring polymer of so many beads at treq", group="path integrals"),
    Keyword("pimd_eco", (Value("rms", "float", None, check=positive,
                               help="largest rms error of the fit that is accepted (0.02)"),
                         Value("friction", "float", None, check=positive, optional=True,
                               help="lambda of the internal modes (1)")),
            "of 'pimd <beads> eco': accepts too few beads, and sets the friction", group="path integrals"),
    Keyword("pimd_integrator", (Value("name", tuple(RING_INTEGRATORS), "bcocb", words=RING_INTEGRATORS),),
            "ring-polymer integrator", group="path integrals"),
    Keyword("pimd_dump", (Value("nstep", "int", None, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/bead_%d.h5md, one trajectory per bead (default: that of h5md)",
            group="path integrals"),
    Keyword("pimd_pairs", (Value("nstep", "int", None, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/centroid_pairs.xyz: centroids, and the mean force of the beads less the "
            "force at the centroid, to train a correction for classical dynamics", group="path integrals"),
    Keyword("pimd_contraction", (Value("beads", "int", (), check=positive),),
            "number of beads for each model of a mixture, odd or all: fewer for slowly varying models", rest=1,
            group="path integrals"),
    Keyword("pimd_groups", (Value("number", "int", 1, check=positive),),
            "number of groups of ranks among which the beads are distributed; each group holds all atoms, on a grid of "
            "its own ranks", group="path integrals"),
    Keyword("pimd_estimate", (Value("quantity", tuple(RING_ESTIMATES), None, words=RING_ESTIMATES),
                              Value("nstep", "int", None, "steps", positive),
                              Value("element", "str", None, optional=True, help="of isotope and momentum"),
                              Value("value", "float", None, check=positive, optional=True,
                                    help="isotope: mass, amu; momentum: largest distance, Å"),
                              Value("atoms", "int", 1, check=positive, optional=True,
                                    help="number of atoms of the element per sample, in turn; each costs an evaluation "
                                         "of all beads (isotope), or 20 (momentum)")),
            "further averages of pimd and eco every nstep steps, in <outDir>/ring_<quantity>.csv and in the log",
            repeats=True, group="path integrals"),
    *LIGHT,
    *ELECTRONS,
    Keyword("field", (Value("shape", tuple(SHAPES_OF_FIELDS), None,
                            words={shape: " ".join([f"<{name}>" for name in names] + [text])
                                   for shape, (names, _, text) in SHAPES_OF_FIELDS.items()}),
                      Value("word", "str", (), help="direction (x, y, z or three numbers), strength in V/Å, and the "
                                                    "values of the shape")),
            "electric field on the charges of the atoms, E(t) with t the time of the run in fs; several lines add; "
            "for example 'field sine z 0.01 0.05' and 'field pulse 1 1 0 0.02 500 200 1.5'", repeats=True, rest=1,
            group=EXCITATION),
    Keyword("charges", (Value("word", "str", ()),),
            "charges for the field, e, whose sum must be zero: '<element> <q>', or '<element>' and the nine numbers xx "
            "xy xz yx yy yz zx zy zz of a Born tensor, rows for the displacement and columns for the field (force_a = "
            "sum_b Z_ab E_b); 'file <file>' with such lines; 'structure': of the columns born_charges (nine), "
            "initial_charges or charges of the structure file, or of a LAMMPS data file; 'neutral <q>': a mean charge "
            "of up to q per atom, as of rounded values, is subtracted from every atom. Without a field, polarization "
            "and current are recorded", repeats=True, rest=1, group=EXCITATION),
    Keyword("io_step", (Value("fstep", "int", 100, "steps", not_negative, help="0: never"),
                        Value("pstep", "int", 10, "steps", positive)),
            "interval of frames, and of log lines", _logicals("fstep", "pstep"), group="output"),
    Keyword("io_type", (Value("isBinary", "bool", False, help="<outDir>/%09d.bin"),
                        Value("isBondFile", "bool", False, help="not written: a neural network has no bond orders"),
                        Value("isPDB", "bool", False, help="<outDir>/%09d.pdb"),
                        Value("isXYZ", "bool", True, help="<outDir>/%09d.xyz")),
            "formats of the frames written every fstep steps",
            _logicals("isBinary", "isBondFile", "isPDB", "isXYZ"), group="output"),
    Keyword("h5md", (Value("nstep", "int", 0, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/trajectory.h5md", group="output"),
    Keyword("xyz", (Value("nstep", "int", 0, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/trajectory.xyz, one extended XYZ file for the whole run", group="output"),
    Keyword("observe", (Value("quantity", ("vdos", "gr"), None,
                              words={"vdos": "for rxmdnn spectra", "gr": "in <outDir>/gr_observed.csv"}),
                        Value("nstep", "int", None, "steps", positive),
                        Value("detail", "float", None, optional=True, check=positive,
                              help="vdos: resolution, 1/cm (10); gr: r_max, Å (10)")),
            "on-the-fly averages every nstep steps, which need no trajectory; kept in <outDir>/observe.h5 with every "
            "checkpoint", repeats=True, group="output"),
    *PROFILE,
    Keyword("checkpoint", (Value("nstep", "int", 1000, "steps", not_negative, help="0: at the end only"),),
            "interval of <outDir>/checkpoint.h5", group="output"),
    Keyword("processors", (Value("vx", "int", 0, check=not_negative), Value("vy", "int", 0, check=not_negative),
                           Value("vz", "int", 0, check=not_negative)),
            "grid of ranks; 0 0 0 lets rxmdnn choose", {"--vprocs": ("vx", "vy", "vz")}, check=_grid, group="device"),
    Keyword("structure", (Value("file", "file", None), Value("nx", "int", 1, check=positive, optional=True),
                          Value("ny", "int", 1, check=positive, optional=True),
                          Value("nz", "int", 1, check=positive, optional=True),
                          Value("frame", "int", -1, optional=True, help="of a file of several, from 0; -1: the last")),
            "start from an input.xyz or any other file of atoms (formats of ASE, LAMMPS data, trajectory), replicated "
            "nx x ny x nz times; a name with blanks stands in double quotes", group="system"),
    Keyword("pbc", tuple(Value(axis, "bool", None) for axis in "abc"),
            "the axes along which the structure repeats, T or F for each (default: as its file says)", group="system"),
    Keyword("run_from_xyz", (Value("file", "file", None),), "start from this input.xyz, whatever outDir holds",
            {"--run_from_xyz|-runxyz": ("file",)}, group="system"),
    Keyword("start", (Value("source", ("auto", "checkpoint", "changed", "rxff", "structure"), "auto", words=STARTS),),
            "source of the start", group="system"),
    Keyword("outDir", (Value("folder", "str", "DAT"),), "folder of all outputs, from the working directory",
            {"--outDir|-o": ("folder",)}, group="output"),
    Keyword("model", (Value("file", "file", None),), "the model deck (default: rxmdnn.in beside this deck)",
            group="system"),
    Keyword("model_weights", (Value("weight", "float", ()),), "one weight per model (default: equal, sum 1)", rest=1,
            group="system"),
    Keyword("seed", (Value("number", "int", 1, check=not_negative),), "seed of all random numbers of the run",
            group="dynamics"),
    Keyword("random_velocity", (Value("draw", "bool", False),),
            "draw new velocities at the start even if the start has velocities; of a checkpoint, once: where its run "
            "did not have this line", group="dynamics"),
    Keyword("skin", (Value("skin", "float", 0.5, "Å", _skin),),
            "distance by which the neighbor list exceeds the cutoff", group="dynamics"),
    Keyword("precision", (Value("network", PRECISIONS, "float32",
                                words={"float32": "single precision", "float64": "double precision",
                                       "tf32": "float32, factors of matrix products rounded to 10 bits, on a GPU"}),),
            "precision of the network", group="device"),
    Keyword("backend", (Value("name", ("auto", "cpu", "cuda", "reference"), "auto",
                              words={"auto": "cuda if CuPy finds a GPU on which a short trial agrees with the CPU, "
                                             "otherwise cpu",
                                     "cpu": "Numba kernels", "reference": "NumPy kernels, slow, for tests",
                                     "cuda": "on a GPU; the ranks of a machine use its GPUs in turn"}),),
            "kernels of the run", group="device"),
    Keyword("mpi", (Value("memory", ("host", "cuda-aware"), "host",
                          words={"host": "through the memory of the host",
                                 "cuda-aware": "from the memory of the device, by an MPI that supports CUDA"}),),
            "path of messages with backend cuda", group="device"),
    Keyword("graphs", (Value("on", "bool", False),),
            "backend cuda: record what repeats between two neighbor lists as a CUDA graph and replay it, for small "
            "systems", group="device"),
    Keyword("threads", (Value("n", "int", 0, check=not_negative,
                              help="0: OMP_NUM_THREADS, or the cores of a machine divided by its ranks; "
                                   "fewer for few atoms"),),
            "threads per rank", group="device"),
    Keyword("units", (Value("energy", ("ev", "kcal"), "ev"),), "unit of energies in the log: eV, or kcal/mol as RXMD",
            group="output"),
    Keyword("strain", tuple(Value(f"e{a}", "float", 0.0, check=_strain) for a in "xyz"),
            "a structure is stretched by 1 + e along its cell vectors a, b, c at the start", group="system"),
    Keyword("shear", tuple(Value(f"d_{a}", "float", 0.0, "degrees") for a in ("alpha", "beta", "gamma")),
            "added to the cell angles of a structure at the start", group="system"),
    Keyword("strain_ramp", tuple(Value(f"e{a}", "float", 0.0, check=_strain) for a in "xyz"),
            "cell vectors a, b, c are stretched by 1 + e, linearly over the run", group="ensembles"),
    Keyword("shear_ramp", tuple(Value(f"d_{a}", "float", 0.0, "degrees") for a in ("alpha", "beta", "gamma")),
            "change of the cell angles, linearly over the run", group="ensembles"),
    Keyword("json", (Value("file", "path", None),), "also write the PERFORMANCE figures to this file", group="output"),
    Keyword("fidelity", (Value("action", tuple(ACTIONS), "off", words=ACTIONS),
                         Value("every", "int", 10, "steps", positive, optional=True, help="between checks"),
                         Value("alarms", "float", 0.01, "", positive, optional=True,
                               help="expected number of false alarms in the whole run, with fidelity_calibration")),
            "action on unphysical geometries or extrapolation of the model", group="fidelity"),
    Keyword("fidelity_watch", (Value("kind", tuple(CRITERIA), (),
                                     words={k: text + (f", {unit}" if unit else "")
                                            for k, (text, unit) in CRITERIA.items()}),),
            "criteria to monitor; absent: all for which the run has limits, except 'published'", rest=1,
            group="fidelity"),
    Keyword("fidelity_limit", (Value("kind", tuple(LIMITS), None, words=LIMITS),
                               Value("value", "float", None, check=positive)),
            "user-defined limit", repeats=True, group="fidelity"),
    Keyword("fidelity_calibration", (Value("file", "file", None),),
            "limits with a fixed rate of false alarms, from 'rxmdnn fidelity calibrate' on a clean run",
            group="fidelity"),
    Keyword("fidelity_martingale",
            (Value("alpha", "float", None, check=_level, help="probability of a false alarm in a run of any length"),
             Value("block", "float", 100.0, "fs", positive, optional=True,
                   help="of checks that make one bet; longer than the memory of forces and distances")),
            "alarm by a test martingale of the scores of fidelity_calibration", group="fidelity"),
    Keyword("fidelity_observers", (Value("nstep", "int", None, "steps", positive, help="between their evaluations"),),
            "the first model alone moves the atoms; the others are evaluated now and then, for the criterion spread",
            group="fidelity"),
    Keyword("fidelity_heal", (Value("keep", "int", 4, check=positive, help="number of saved states, in memory"),
                              Value("interval", "int", 100, "steps", positive, help="between saved states"),
                              Value("retries", "int", 4, check=positive,
                                    help="per failure, each from an older state and with half the time step"),
                              Value("calm", "int", 500, "steps", positive,
                                    help="without an event, until the full time step is restored"),
                              Value("repulsion", "bool", False, optional=True,
                                    help="add a short-range repulsion (zbl 0.8) until then")),
            "parameters of 'fidelity heal'", group="fidelity"),
    Keyword("CG_tol", (Value("ftol", "float", 1e-6, "kcal/mol per atom", positive),),
            "convergence of conjugate gradients: energy change per iteration", group="dynamics"),
    Keyword("minimizer", (Value("method", ("cg", "fire"), "cg",
                                words={"cg": "conjugate gradients of Polak and Ribière",
                                       "fire": "fast inertial relaxation engine"}),
                          Value("fmax", "float", 1e-3, "eV/Å", positive, optional=True,
                                help="fire: converged when no force, nor a virial per atom in eV, is larger"),
                          Value("cell", ("fixed", *SHAPES), "fixed", optional=True,
                                help="fire: what of the cell is minimized too; words of the barostat"),
                          Value("pressure", "float", 0.0, "GPa", optional=True,
                                help="fire: external pressure on such a cell")),
            "method of minimization (mdmode 10)", check=_minimized, group="dynamics"),
    Keyword("verbose", (Value("on", "bool", False),),
            "GPU: synchronize after each part of a step, for timing", group="device"),
    Keyword("efield", (Value("direction", "int", 1, check=_direction), Value("strength", "float", 0.0, "V/Å")),
            "constant electric field along x (1), y (2) or z (3), on the charges of the lines 'charges'; adds to the "
            "lines 'field'", group=COMPATIBILITY),
    Keyword("QEq", (), "charge equilibration", unused=CHARGES, group=COMPATIBILITY),
    Keyword("exL", (), "extended-Lagrangian charges", unused=CHARGES, group=COMPATIBILITY),
    Keyword("PQEqParm", (), "polarizable charges", unused=CHARGES, group=COMPATIBILITY),
    Keyword("msd", (), "mean square displacement",
            unused="compute it from the positions and images of the trajectory", group=COMPATIBILITY),
    Keyword("remove_atoms", (Value("rc", "float", None, "Å"),), "remove close atoms: not available",
            check=_refused("not available; repair the structure before the run"), group=COMPATIBILITY),
    Keyword("ceparams", (Value("file", "path", None),), "clamped displacements: not available",
            check=_refused("not available; use a smaller dt, or mdmode 10 first"), group=COMPATIBILITY),
    *(Keyword(name, (Value("file", "file", None),), f"added to the model: per pair of atoms {term}; lines of the file, "
              f"after the number of types: i j {' '.join(parameters)}", group=COMPATIBILITY)
      for name, (parameters, term) in PAIR_TERMS.items()),
)


@dataclass(frozen=True)
class RunDeck:
    """The decks of a run, read and checked.

    Attributes
    ----------
    deck : Deck
    models : list of ModelLine; the first one's elements are the run's species
    weights : tuple of float, one per model
    notes : list of str, for the user
    repulsion : ModelLine, optional: the zbl line, whose repulsion is added to the models
    pair_terms : tuple of PairTable: the lines shparams and spparams, whose terms are added to the models
    observers : ModelLines: models that are evaluated by the monitor only (fidelity_observers)
    """

    deck: Deck
    models: list[ModelLine]
    weights: tuple[float, ...]
    notes: list[str]
    repulsion: ModelLine | None = None
    pair_terms: tuple[PairTable, ...] = ()
    observers: Sequence[ModelLine] = ()

    @property
    def may_bond(self) -> bool:
        """Whether a model may hold covalent bonds: not Lennard-Jones, nor no forces at all."""
        return any(line.kind not in ("lj", "null") for line in self.models)

    @property
    def elements(self) -> tuple[str, ...]:
        return self.models[0].elements

    @property
    def masses(self) -> tuple[float, ...]:
        return self.models[0].masses

    @property
    def folder(self) -> Path:
        """The folder outDir."""
        return Path(self.deck["outDir"].folder)


def read_run(argv: Sequence[str], n_ranks: int | None = None, default: str = "rxmd.in") -> RunDeck:
    """Read and check the decks that `argv` names (``--rxmdin|-in F``), with the other flags of `argv` over them.

    Parameters
    ----------
    argv : flags of ``rxmdnn run``
    n_ranks : int, optional
        Checked against ``processors`` where given.

    Raises InputError with all faults.
    """
    path, rest = split(argv, ("--rxmdin", "-in"), default)
    deck = decks.read(path, RUN, rest)
    faults: list[str] = []
    models: list[ModelLine] = []
    file = deck["model"].file or deck.path("rxmdnn.in")
    if not file.is_file():
        faults.append(f"{deck.file}: model: no model deck '{file}'; write one there, or name one with 'model <file>'")
    else:
        try:
            models = read_models(file)
        except InputError as error:
            faults += error.faults
    return checked(deck, models, n_ranks, [*faults, *start_faults(deck)], file)


def _other_masses(line: ModelLine) -> list[str]:
    """A note on masses that are no isotope of their element: swapped, for example. Hydrogen up to 4.1 amu is usual."""
    strange = []
    for name, mass in zip(line.elements, line.masses):
        usual = standard_mass(name)
        if usual > 1.0 and abs(mass / usual - 1) > 0.3 and not (element_of(name) == "H" and 0.9 < mass < 4.1):
            strange.append(f"{name} {mass:g} (usual: {usual:g})")
    return [line.fault(f"masses far from those of the elements, amu: {', '.join(strange)}")] if strange else []


def checked(deck: Deck, models: list[ModelLine], n_ranks: int | None = None, faults: Sequence[str] = (),
            file: str | Path = "the models") -> RunDeck:
    """The run of a deck and its models, once their lines agree with each other. Raises InputError with all faults.

    faults : found before; file : where the models are named
    """
    faults = list(faults)
    models, repulsion = _apart(models, faults)
    faults += observer_faults(deck, models)
    models, observers = (models[:1], models[1:]) if deck["fidelity_observers"].nstep else (models, [])
    weights = deck["model_weights"].weight
    if models and weights and len(weights) != len(models):
        faults.append(deck["model_weights"].fault(f"{len(weights)} weights for the {len(models)} models of {file}"))
    grid, groups = tuple(deck["processors"]), deck["pimd_groups"].number
    wanted = grid[0] * grid[1] * grid[2] * groups
    if n_ranks is not None and n_ranks % groups == 0 and any(grid) and wanted != n_ranks:
        faults.append(deck["processors"].fault(
            f"{' x '.join(map(str, grid))}{f' in each of {groups} groups' if groups > 1 else ''} = {wanted} ranks, but "
            f"{n_ranks} {'is' if n_ranks == 1 else 'are'} running; "
            f"start with mpirun -np {wanted}, or write 'processors 0 0 0' to let rxmdnn choose"))
    faults += model_faults(deck, models, n_ranks, repulsion is not None)
    faults += ensemble_faults(deck)
    faults += ring_faults(deck, len(models), n_ranks)
    faults += estimate_faults(deck, models[0].elements if models else None)
    if deck["pimd_pairs"].nstep and is_driven(deck):
        faults.append(deck["pimd_pairs"].fault("light, electrons and fields would enter the forces; omit their lines"))
    faults += fidelity_faults(deck)
    faults += device_faults(deck)
    faults += light_faults(deck, models, repulsion is not None)
    faults += electron_faults(deck)
    faults += profile_faults(deck)
    faults += field_faults(deck, models[0].elements if models else ())
    if deck["json"].file and (text := file_fault(deck["json"].file, [deck["outDir"].folder])):
        faults.append(deck["json"].fault(text))
    faults += [e.fault(f"{e.quantity} is given before; keep one") for k, e in enumerate(deck["observe"])
               if e.quantity in [other.quantity for other in deck["observe"][:k]]]
    pair_terms = _pair_terms(deck, len(models[0].elements), faults) if models else ()
    if faults:
        raise InputError(*faults)
    notes = list(deck.notes)
    if deck["temperature"].vmag is not None:
        notes.append(deck["temperature"].fault("vmag: ignored (accepted for compatibility): velocities are drawn at "
                                               "treq"))
    if deck["io_type"].isBondFile:
        notes.append(deck["io_type"].fault("isBondFile: not written: a neural network has no bond orders"))
    notes += [line.fault(f"the code of {line.parameters.get('file') or line.parameters['factory']} is run")
              for line in models if line.kind in ("compiled", "ase")]
    notes += _other_masses(models[0])
    notes += electron_notes(deck)
    notes += [note for table in pair_terms for note in table.jumps(models[0].elements)]
    return RunDeck(deck, models, weights or (1.0 / len(models),) * len(models), notes, repulsion,
                   pair_terms, observers)


def _pair_terms(deck: Deck, n_types: int, faults: list[str]) -> tuple[PairTable, ...]:
    """The tables of the lines shparams and spparams."""
    tables = []
    for kind in PAIR_TERMS:
        if deck[kind].file is None:
            continue
        if deck["backend"].name == "cuda":
            faults.append(deck[kind].fault("is computed on the CPU only; write 'backend cpu', or use a line "
                                           "'zbl 0.8 ...' in rxmdnn.in (rxmdnn help zbl)"))
        try:
            tables.append(read_pair_table(kind, deck[kind].file, n_types))
        except InputError as error:
            faults += [deck[kind].fault(text) for text in error.faults]
    return tuple(tables)


def _apart(models: list[ModelLine], faults: list[str]) -> tuple[list[ModelLine], ModelLine | None]:
    """The models with weights, and the repulsion added to them; a repulsion alone is the model."""
    others, added = [m for m in models if m.kind != "zbl"], [m for m in models if m.kind == "zbl"]
    faults += [line.fault("given before; keep one") for line in added[1:]]
    return (others, added[0]) if others and added else (models[:1] if added else models, None)


def split(argv: Sequence[str], flags: tuple[str, ...], default: str) -> tuple[str, list[str]]:
    """The value of one flag, and the other arguments."""
    rest, value = list(argv), default
    for k, argument in enumerate(rest):
        if argument in flags:
            if k + 1 == len(rest):
                raise InputError(f"command line: {argument}: a file name is missing")
            value = rest[k + 1]
            return value, rest[:k] + rest[k + 2:]
    return value, rest


def ensemble_settings(deck: Deck) -> list[str]:
    """Settings that must be the same for an ensemble to continue from its state in a checkpoint."""
    line, cell_line = deck["ensemble"], deck["barostat"]
    ring = [deck["pimd"].beads, deck["pimd"].method] if has_ring(deck) else []
    driven = [*deck["strain_ramp"], *deck["shear_ramp"]] if cell_is_driven(deck) else []
    return [line.kind] + ([cell_line.kind, cell_line.shape] if cell_line.kind else []) + ring + driven


def is_driven(deck: Deck) -> bool:
    """Whether light, electrons or a field act on the atoms."""
    return any(line if isinstance(line := deck[name], list) else line.given for name in DRIVING) or has_field(deck)


def has_extended_energy(deck: Deck) -> bool:
    """Whether the conserved quantity differs from the total energy."""
    return deck["ensemble"].kind is not None or has_ring(deck) or cell_is_driven(deck) or is_driven(deck)


def motion_of(deck: Deck) -> dict[str, str]:
    """What moves the atoms, in the words of rxmdnn.io.motion."""
    line, mode = deck["ensemble"], deck["mdmode"].mode
    out: dict[str, str] = {}
    if mode == MINIMIZATION:
        return {"motion": MINIMIZED}
    if has_ring(deck):
        out = {"motion": deck["pimd"].method, "beads": str(deck["pimd"].beads), "positions": "centroids"}
    else:
        out = {"motion": line.kind or ("nve" if mode == 1 else f"mdmode {mode}")}
    if pulses_of(deck):
        out[FIRST_PULSE] = f"{first_pulse(deck):g}"
    if out["motion"] in ("nve", "mdmode 4"):
        return out
    if line.tau is not None:
        out["tau_ps"] = f"{line.tau:g}"
    ramp = deck["tramp"]
    return out | ({"target_K": f"{deck['temperature'].treq:g}"} if ramp.t0 is None else
                  {"ramp_K": f"{ramp.t0:g} {ramp.t1:g}"})


def beads_every(deck: Deck) -> int:
    """Interval of the frames of the beads, in steps; that of the trajectory where the deck does not say. 0 is never."""
    every = deck["pimd_dump"].nstep
    return int(deck["h5md"].nstep if every is None else every) if has_ring(deck) else 0


def has_ring(deck: Deck) -> bool:
    return deck["pimd"].beads is not None
