"""The tables of a run: rxmd.in (`RUN`) and rxmdnn.in (`MODEL_KINDS`), and what must hold between their lines.

`read_run` is the whole of it: it reads both decks with the command line over them, checks them against each other and
against the rank count, and gives the deck, the model lines, and notes for the user. It needs neither MPI nor torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rxmdnn.deck import language as decks
from rxmdnn.deck.language import Deck, Entry, Keyword, Value, near, not_negative, positive
from rxmdnn.deck.models import ModelLine, read_models
from rxmdnn.deck.run_faults import (
    _device_faults,
    _ensemble_faults,
    _fidelity_faults,
    _no_start,
    _ring_faults,
    cell_is_driven,
)
from rxmdnn.deck.words import (
    ACTIONS,
    BAROSTATS,
    CRITERIA,
    ENSEMBLES,
    LIMITS,
    MDMODES,
    RING_INTEGRATORS,
    RING_METHODS,
    SHAPES,
)
from rxmdnn.errors import InputError

WIDEST_SKIN = 20.0  # Å


def _skin(x: float) -> str | None:
    return None if 0 <= x <= WIDEST_SKIN else f"must be from 0 to {WIDEST_SKIN:g}; 0.3 to 2 serve"


def _beads(n: int) -> str | None:
    return None if n >= 1 else "must be at least 1, which is classical; 16 to 32 for hydrogen at room temperature"


def _ensemble(kind: str) -> str | None:
    if kind in ENSEMBLES:
        return None
    hint = "" if kind.lower() in ("nvt", "npt") else near(kind, list(ENSEMBLES))
    return f"must be one of {', '.join(ENSEMBLES)}{hint}"


def _tau(entry: Entry) -> str | None:
    if entry.kind == "nve":
        return None if entry.tau is None else "nve has no tau; leave it out"
    return None if entry.tau is not None else f"tau is missing; write for example 'ensemble {entry.kind} 0.1'"


def _minimized(entry: Entry) -> str | None:
    return "cg keeps the cell; use fire" if entry.method == "cg" and entry.cell != "fixed" else None


def _mdmode(x: int) -> str | None:
    return None if x in MDMODES else f"must be one of {', '.join(map(str, MDMODES))}"


def _refused(text: str) -> Callable[[Entry], str]:
    return lambda entry: text


def _strength(entry: Entry) -> str | None:
    return None if entry.strength == 0 else "this run's atoms carry no charges: only strength 0 is possible"


def _grid(entry: Entry) -> str | None:
    some, every = any(v > 0 for v in entry), all(v > 0 for v in entry)
    return "all three must be above zero, or all three 0 to let rxmdnn choose" if some and not every else None


def _logicals(*names: str) -> dict[str, tuple[str, ...]]:
    return {f"--{name}": (name,) for name in names}


CHARGES = "neural-network runs have no ReaxFF charges"

RUN = (
    Keyword("mdmode", (Value("mode", "int", 1, check=_mdmode),),
            "what happens every sstep steps: " + "; ".join(f"{k}: {v}" for k, v in MDMODES.items())),
    Keyword("time", (Value("dt", "float", unit="fs", check=positive), Value("ntime_step", "int", check=not_negative)),
            "time step and number of steps", _logicals("dt", "ntime_step")),
    Keyword("temperature",
            (Value("treq", "float", 300.0, "K", not_negative), Value("vsfact", "float", 1.0, check=positive),
             Value("sstep", "int", 1, "steps", positive),
             Value("vmag", "float", None, optional=True, help="factor of old decks, not used")),
            "target temperature, velocity factor and how often mdmode acts", _logicals("treq", "vsfact", "sstep")),
    Keyword("tramp", (Value("t0", "float", None, "K", not_negative), Value("t1", "float", None, "K", not_negative)),
            "the target temperature goes from t0 to t1 linearly over the run"),
    Keyword("ensemble", (Value("kind", "str", None, check=_ensemble),
                         Value("tau", "float", None, "ps", positive, optional=True, help="time of the thermostat")),
            "how velocities are thermostatted in every step, at treq or along tramp, instead of an mdmode: "
            + "; ".join(f"{k}: {v}" for k, v in ENSEMBLES.items()), check=_tau),
    Keyword("barostat", (Value("kind", tuple(BAROSTATS), None), Value("pressure", "float", None, "GPa"),
                         Value("tau_p", "float", None, "ps", positive, help="time in which the volume relaxes"),
                         Value("shape", tuple(SHAPES), "isotropic", optional=True,
                               help="what may change; " + "; ".join(f"{k}: {v}" for k, v in SHAPES.items())),
                         Value("compressibility", "float", 0.5, "1/GPa", positive, optional=True,
                               help="scr: an estimate; it sets the rate, not the result")),
            "keeps the pressure, together with an ensemble line: "
            + "; ".join(f"{k}: {v}" for k, v in BAROSTATS.items())),
    Keyword("pramp", (Value("p0", "float", None, "GPa"), Value("p1", "float", None, "GPa")),
            "the barostat's pressure goes from p0 to p1 linearly over the run"),
    Keyword("pimd", (Value("beads", "int", None, check=_beads),
                     Value("method", tuple(RING_METHODS), "pimd", optional=True,
                           help="; ".join(f"{k}: {v}" for k, v in RING_METHODS.items())),
                     Value("friction", "float", None, check=positive, optional=True,
                           help="lambda of the internal modes, 2 lambda omega_k; pimd and pacmd 1, trpmd 0.5")),
            "path integrals: every atom a ring of so many beads at treq"),
    Keyword("pimd_integrator", (Value("name", tuple(RING_INTEGRATORS), "bcocb"),),
            "how a ring takes a step; " + "; ".join(f"{k}: {v}" for k, v in RING_INTEGRATORS.items())),
    Keyword("pimd_dump", (Value("nstep", "int", 0, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/bead_%d.h5, a trajectory for each bead"),
    Keyword("pimd_contraction", (Value("beads", "int", (), check=positive),),
            "beads that each model of a mixture is evaluated on, odd or all: fewer for what varies slowly", rest=1),
    Keyword("pimd_groups", (Value("number", "int", 1, check=positive),),
            "groups of ranks that share out the beads: each has all atoms, on a grid of its own ranks"),
    Keyword("io_step", (Value("fstep", "int", 100, "steps", not_negative, help="0: never"),
                        Value("pstep", "int", 10, "steps", positive)),
            "interval of frames and of log lines", _logicals("fstep", "pstep")),
    Keyword("io_type", (Value("isBinary", "bool", False, help="<outDir>/%09d.bin"),
                        Value("isBondFile", "bool", False, help="not written: a neural network has no bond orders"),
                        Value("isPDB", "bool", False, help="<outDir>/%09d.pdb"),
                        Value("isXYZ", "bool", True, help="<outDir>/%09d.xyz")),
            "which frames are written every fstep steps", _logicals("isBinary", "isBondFile", "isPDB", "isXYZ")),
    Keyword("h5md", (Value("nstep", "int", 0, "steps", not_negative, help="0: never"),),
            "interval of frames in <outDir>/trajectory.h5"),
    Keyword("observe", (Value("quantity", ("vdos", "gr"), None), Value("nstep", "int", None, "steps", positive),
                        Value("detail", "float", None, optional=True, check=positive,
                              help="vdos: resolution, 1/cm (10); gr: r_max, Å (10)")),
            "sums up, every nstep steps, what then needs no trajectory: vdos, for rxmdnn spectra; gr, in "
            "<outDir>/gr_observed.csv; kept in <outDir>/observe.h5 with every checkpoint", repeats=True),
    Keyword("checkpoint", (Value("nstep", "int", 1000, "steps", not_negative, help="0: at the end only"),),
            "interval of <outDir>/checkpoint.h5"),
    Keyword("processors", (Value("vx", "int", 0, check=not_negative), Value("vy", "int", 0, check=not_negative),
                           Value("vz", "int", 0, check=not_negative)),
            "rank grid; 0 0 0 lets rxmdnn choose", {"--vprocs": ("vx", "vy", "vz")}, check=_grid),
    Keyword("structure", (Value("file", "file", None), Value("nx", "int", 1, check=positive, optional=True),
                          Value("ny", "int", 1, check=positive, optional=True),
                          Value("nz", "int", 1, check=positive, optional=True)),
            "start from any file ASE reads, or an input.xyz, replicated"),
    Keyword("run_from_xyz", (Value("file", "file", None),), "start from this input.xyz, whatever outDir holds",
            {"--run_from_xyz|-runxyz": ("file",)}),
    Keyword("start", (Value("source", ("auto", "checkpoint", "rxff", "structure"), "auto"),),
            "what to start from; auto: the first of run_from_xyz, checkpoint.h5 or rxff.bin of outDir, structure"),
    Keyword("outDir", (Value("folder", "str", "DAT"),), "where outputs go, from the working directory",
            {"--outDir|-o": ("folder",)}),
    Keyword("model", (Value("file", "file", None),), "the model deck (default rxmdnn.in beside this deck)"),
    Keyword("model_weights", (Value("weight", "float", ()),), "one weight a model (default: equal, sum 1)", rest=1),
    Keyword("seed", (Value("number", "int", 1, check=not_negative),), "seed of every random number of the run"),
    Keyword("random_velocity", (Value("draw", "bool", False),),
            "draw new velocities at the start even where the start has some"),
    Keyword("skin", (Value("skin", "float", 0.5, "Å", _skin),), "the neighbor list's reach beyond the cutoff"),
    Keyword("precision", (Value("network", ("float32", "float64", "tf32"), "float32"),),
            "numbers inside the network; tf32: float32 whose matrix products round their factors to 10 bits, on a GPU"),
    Keyword("backend", (Value("name", ("auto", "cpu", "cuda", "reference"), "auto"),),
            "which kernels run; cuda: on a GPU, one rank each, ranks of a machine take turns at its GPUs; auto: cuda "
            "where CuPy has a GPU that moves a small system as the CPU does, otherwise cpu"),
    Keyword("mpi", (Value("memory", ("host", "cuda-aware"), "host"),),
            "backend cuda: messages go through the host's memory, or an MPI that knows CUDA takes the device's own"),
    Keyword("graphs", (Value("on", "bool", False),),
            "backend cuda: what repeats between two neighbor lists is recorded and replayed as a CUDA graph, for small "
            "systems"),
    Keyword("threads", (Value("n", "int", 0, check=not_negative, help="0: shared out among the ranks of a machine"),),
            "threads of a rank"),
    Keyword("units", (Value("energy", ("ev", "kcal"), "ev"),), "energies of the log: eV, or RXMD's kcal/mol"),
    Keyword("strain", tuple(Value(f"e{a}", "float", 0.0, check=lambda x: None if x > -1 else "must be above -1")
                            for a in "xyz"), "the start is stretched by 1 + e along its cell vectors a, b, c"),
    Keyword("shear", tuple(Value(f"d_{a}", "float", 0.0, "degrees") for a in ("alpha", "beta", "gamma")),
            "added to the angles of the start's cell"),
    Keyword("strain_ramp", tuple(Value(f"e{a}", "float", 0.0, check=lambda x: None if x > -1 else "must be above -1")
                                 for a in "xyz"),
            "cell vectors a, b, c are stretched by 1 + e, linearly from the start of the run to its end"),
    Keyword("shear_ramp", tuple(Value(f"d_{a}", "float", 0.0, "degrees") for a in ("alpha", "beta", "gamma")),
            "the cell's angles change by so much, linearly from the start of the run to its end"),
    Keyword("json", (Value("file", "path", None),), "also write the PERFORMANCE figures to this file"),
    Keyword("fidelity", (Value("action", tuple(ACTIONS), "off"),
                         Value("every", "int", 10, "steps", positive, optional=True, help="between checks"),
                         Value("alarms", "float", 0.01, "", positive, optional=True,
                               help="false alarms in the whole run, in expectation, with fidelity_calibration")),
            "what is done when atoms leave what is physical or what the model knows: "
            + "; ".join(f"{k}: {v}" for k, v in ACTIONS.items())),
    Keyword("fidelity_watch", (Value("kind", tuple(CRITERIA), ()),),
            "what is looked at; absent: all that the run has limits for, but 'published'; "
            + "; ".join(f"{k}: {text}" + (f", {unit}" if unit else "") for k, (text, unit) in CRITERIA.items()),
            rest=1),
    Keyword("fidelity_limit", (Value("kind", tuple(LIMITS), None), Value("value", "float", None, check=positive)),
            "a limit of one's own: " + "; ".join(f"{k}: {v}" for k, v in LIMITS.items()), repeats=True),
    Keyword("fidelity_calibration", (Value("file", "file", None),),
            "limits that keep false alarms at their rate, of 'rxmdnn fidelity calibrate' on a clean run"),
    Keyword("fidelity_heal", (Value("keep", "int", 4, check=positive, help="whole states in memory to go back to"),
                              Value("interval", "int", 100, "steps", positive, help="between them"),
                              Value("retries", "int", 4, check=positive,
                                    help="of one failure, each from an older state and with steps half as long"),
                              Value("calm", "int", 500, "steps", positive,
                                    help="without an event until steps are whole again"),
                              Value("repulsion", "bool", False, optional=True,
                                    help="with a short-range repulsion (zbl 0.8) until then")),
            "how 'fidelity heal' goes about it"),
    Keyword("CG_tol", (Value("ftol", "float", 1e-6, "kcal/mol per atom", positive),), "when mdmode 10 has converged"),
    Keyword("minimizer", (Value("method", ("cg", "fire"), "cg"),
                          Value("fmax", "float", 1e-3, "eV/Å", positive, optional=True,
                                help="fire: ends when no force is larger, nor a virial per atom in eV"),
                          Value("cell", ("fixed", *SHAPES), "fixed", optional=True,
                                help="fire: what of the cell is minimized too; as of a barostat"),
                          Value("pressure", "float", 0.0, "GPa", optional=True, help="fire: outside such a cell")),
            "method of mdmode 10", check=_minimized),
    Keyword("verbose", (Value("on", "bool", False),),
            "say more in the log; on a GPU, wait for it after each part of a step, to time them"),
    Keyword("efield", (Value("direction", "int", 1), Value("strength", "float", 0.0, "V/Å")), "electric field",
            check=_strength),
    Keyword("QEq", (), "charge equilibration", unused=CHARGES),
    Keyword("exL", (), "extended-Lagrangian charges", unused=CHARGES),
    Keyword("PQEqParm", (), "polarizable charges", unused=CHARGES),
    Keyword("msd", (), "mean square displacement", unused="compute it from the trajectory's positions and images"),
    Keyword("remove_atoms", (Value("rc", "float", None, "Å"),), "remove close atoms",
            check=_refused("not available; repair the structure before the run")),
    Keyword("ceparams", (Value("file", "path", None),), "clamped displacements",
            check=_refused("not available; use a smaller dt, or mdmode 10 first")),
    Keyword("shparams", (Value("file", "path", None),), "short-range repulsion",
            check=_refused("not available; write a line 'zbl 0.8 ...' in rxmdnn.in (rxmdnn help zbl)")),
)


@dataclass(frozen=True)
class RunDeck:
    """What a run was asked to do.

    Attributes
    ----------
    deck : Deck
    models : list of ModelLine; the first one's elements are the run's species
    weights : tuple of float, one a model
    notes : list of str
    repulsion : ModelLine, optional: the zbl line that is added to the models
    """

    deck: Deck
    models: list[ModelLine]
    weights: tuple[float, ...]
    notes: list[str]
    repulsion: ModelLine | None = None

    @property
    def elements(self) -> tuple[str, ...]:
        return self.models[0].elements

    @property
    def masses(self) -> tuple[float, ...]:
        return self.models[0].masses

    @property
    def folder(self) -> Path:
        """outDir."""
        return Path(self.deck["outDir"].folder)


def read_run(argv: Sequence[str], n_ranks: int | None = None, default: str = "rxmd.in") -> RunDeck:
    """Read the decks that `argv` names (``--rxmdin|-in F``) with the rest of `argv` over them; check everything.

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
    models, repulsion = _apart(models, faults)
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
    faults += _ensemble_faults(deck)
    faults += _ring_faults(deck, len(models), n_ranks)
    faults += _fidelity_faults(deck)
    faults += _device_faults(deck)
    faults += [e.fault(f"{e.quantity} is given before; keep one") for k, e in enumerate(deck["observe"])
               if e.quantity in [other.quantity for other in deck["observe"][:k]]]
    faults += _no_start(deck)
    if faults:
        raise InputError(*faults)
    notes = list(deck.notes)
    if deck["temperature"].vmag is not None:
        notes.append(deck["temperature"].fault("vmag: accepted, not used: velocities are drawn at treq"))
    if deck["io_type"].isBondFile:
        notes.append(deck["io_type"].fault("isBondFile: not written: a neural network has no bond orders"))
    return RunDeck(deck, models, weights or (1.0 / len(models),) * len(models), notes, repulsion)


def _apart(models: list[ModelLine], faults: list[str]) -> tuple[list[ModelLine], ModelLine | None]:
    """The models that have weights, and the repulsion that is added to them; alone it is the model."""
    others, added = [m for m in models if m.kind != "zbl"], [m for m in models if m.kind == "zbl"]
    faults += [line.fault("given before; keep one") for line in added[1:]]
    return (others, added[0]) if others and added else (models[:1] if added else models, None)


def split(argv: Sequence[str], flags: tuple[str, ...], default: str) -> tuple[str, list[str]]:
    """The value of one flag, and the other arguments."""
    rest, value = list(argv), default
    for k, word in enumerate(rest):
        if word in flags:
            if k + 1 == len(rest):
                raise InputError(f"command line: {word}: a file name is missing")
            value = rest[k + 1]
            return value, rest[:k] + rest[k + 2:]
    return value, rest


def ensemble_words(deck: Deck) -> list[str]:
    """What must be the same for an ensemble to go on from a checkpoint's state."""
    line, cell_line = deck["ensemble"], deck["barostat"]
    ring = [deck["pimd"].beads, deck["pimd"].method] if has_ring(deck) else []
    driven = [*deck["strain_ramp"], *deck["shear_ramp"]] if cell_is_driven(deck) else []
    return [line.kind] + ([cell_line.kind, cell_line.shape] if cell_line.kind else []) + ring + driven


def has_extended_energy(deck: Deck) -> bool:
    """Is the conserved quantity not simply the total energy?"""
    return deck["ensemble"].kind is not None or has_ring(deck) or cell_is_driven(deck)


def has_ring(deck: Deck) -> bool:
    return deck["pimd"].beads is not None
