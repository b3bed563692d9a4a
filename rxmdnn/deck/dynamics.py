"""Lines of the run deck for the steps of a run: time, temperature, velocities, minimization."""

from __future__ import annotations

from rxmdnn.deck.language import Entry, Keyword, Value, flag_each, not_negative, positive
from rxmdnn.deck.words import MDMODES, SHAPES

WIDEST_SKIN = 20.0  # Å


def _skin(x: float) -> str | None:
    return None if 0 <= x <= WIDEST_SKIN else f"must be from 0 to {WIDEST_SKIN:g}; typical values are 0.3 to 2"


def _minimized(entry: Entry) -> str | None:
    return "cg does not change the cell; use fire" if entry.method == "cg" and entry.cell != "fixed" else None


def _mdmode(x: int) -> str | None:
    return None if x in MDMODES else f"must be one of {', '.join(map(str, MDMODES))}"


STEPS = (
    Keyword("mdmode", (Value("mode", "int", 1, check=_mdmode, words=MDMODES),),
            "control of velocities every sstep steps, or a minimization", group="dynamics"),
    Keyword("time", (Value("dt", "float", unit="fs", check=positive), Value("ntime_step", "int", check=not_negative)),
            "time step and number of steps", flag_each("dt", "ntime_step"), group="dynamics"),
    Keyword("until", (Value("step", "int", None, "steps", not_negative),),
            "run until this step in total, whatever ntime_step says; a run that has reached it takes no further steps. "
            "For jobs that a batch system starts again and again", group="dynamics"),
    Keyword("temperature",
            (Value("treq", "float", 300.0, "K", not_negative), Value("vsfact", "float", 1.0, check=positive),
             Value("sstep", "int", 1, "steps", positive),
             Value("vmag", "float", None, optional=True, help="ignored (accepted for compatibility)")),
            "target temperature, velocity factor, and interval of mdmode", flag_each("treq", "vsfact", "sstep"),
            group="dynamics"),
    Keyword("tramp", (Value("t0", "float", None, "K", not_negative), Value("t1", "float", None, "K", not_negative)),
            "the target temperature changes from t0 to t1, linearly over the run", group="dynamics"),
)
VELOCITIES = (
    Keyword("seed", (Value("number", "int", 1, check=not_negative),), "seed of all random numbers of the run",
            group="dynamics"),
    Keyword("random_velocity", (Value("draw", "bool", False),),
            "draw new velocities at the start even if the start has velocities; of a checkpoint, once: where its run "
            "did not have this line", group="dynamics"),
    Keyword("skin", (Value("skin", "float", 0.5, "Å", _skin),),
            "distance by which the neighbor list exceeds the cutoff", group="dynamics"),
)
MINIMIZER = (
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
)
