"""Lines of the run deck for thermostats, barostats and prescribed changes of the cell."""

from __future__ import annotations

from rxmdnn.deck.language import Entry, Keyword, Value, near, positive
from rxmdnn.deck.words import BAROSTATS, ENSEMBLES, SHAPES


def _ensemble(kind: str) -> str | None:
    if kind in ENSEMBLES:
        return None
    hint = "" if kind.lower() in ("nvt", "npt") else near(kind, list(ENSEMBLES))
    return f"must be one of {', '.join(ENSEMBLES)}{hint}"


def _tau(entry: Entry) -> str | None:
    if entry.kind == "nve":
        return None if entry.tau is None else "nve has no tau; omit it"
    return None if entry.tau is not None else f"tau is missing; write for example 'ensemble {entry.kind} 0.1'"


def strain_fault(x: float) -> str | None:
    """Check: a cell vector keeps a length."""
    return None if x > -1 else "must be above -1"


ENSEMBLE = (
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
)
CELL_RAMPS = (
    Keyword("strain_ramp", tuple(Value(f"e{a}", "float", 0.0, check=strain_fault) for a in "xyz"),
            "cell vectors a, b, c are stretched by 1 + e, linearly over the run", group="ensembles"),
    Keyword("shear_ramp", tuple(Value(f"d_{a}", "float", 0.0, "degrees") for a in ("alpha", "beta", "gamma")),
            "change of the cell angles, linearly over the run", group="ensembles"),
)
