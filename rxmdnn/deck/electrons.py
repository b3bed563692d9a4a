"""Lines of the run deck for electrons: their grid, heat capacity, conduction, coupling to the atoms and temperature."""

from __future__ import annotations

from rxmdnn.deck.language import Deck, Keyword, Value, not_negative, positive
from rxmdnn.deck.words import MINIMIZATION

GROUP = "excitation"
CAPACITIES = {"constant": "C_e = value, J/(m^3 K)", "linear": "C_e = value T_e, J/(m^3 K^2)"}
CONDUCTIVITIES = {"constant": "kappa_e = value", "scaled": "kappa_e = value T_e/T_a, of metals near room temperature"}
EXCHANGES = {
    "langevin": "friction and noise at T_e; for grid cells with a heat capacity of electrons of at least 50 k_B",
    "scaling": "velocities relative to the mean of their cell are multiplied; nothing is random, momentum is kept",
}
LARGEST_GRID = 10**6  # cells: every rank holds them all


def _not_negative(x: float) -> str | None:
    return None if x >= 0 else "must not be negative; 0: no exchange with the atoms"


ELECTRONS = (
    Keyword("electrons", tuple(Value(n, "int", None, check=positive) for n in ("nx", "ny", "nz")),
            "two-temperature model: electrons on a grid of nx x ny x nz cells along a, b, c; they exchange energy with "
            "the atoms and insulate along axes that do not repeat, and where the start has no atoms", group=GROUP),
    Keyword("electrons_capacity", (Value("form", tuple(CAPACITIES), None, words=CAPACITIES),
                                   Value("value", "float", None, check=positive)),
            "heat capacity of the electrons", group=GROUP),
    Keyword("electrons_table", (Value("file", "file", None),),
            "heat capacity of the electrons from two columns, T_e (K) and C_e (J/(m^3 K)), instead of "
            "electrons_capacity", group=GROUP),
    Keyword("electrons_coupling", (Value("g", "float", None, "W/(m^3 K)", _not_negative),),
            "coupling of electrons and atoms: g (T_e - T_a) flows to the atoms of each volume", group=GROUP),
    Keyword("electrons_conductivity", (Value("form", tuple(CONDUCTIVITIES), None, words=CONDUCTIVITIES),
                                       Value("value", "float", None, "W/(m K)", positive)),
            "heat conduction by electrons (default: none)", group=GROUP),
    Keyword("electrons_exchange", (Value("kind", tuple(EXCHANGES), None, words=EXCHANGES),),
            "how the atoms of a grid cell get their energy (default: langevin)", group=GROUP),
    Keyword("electrons_temperature", (Value("start", "float", None, "K", positive),),
            "T_e at the start (default: treq, or that of tramp)", group=GROUP),
)
PROFILE = (
    Keyword("profile", (Value("nstep", "int", None, "steps", not_negative, help="0: never"),
                        *(Value(n, "int", None, check=positive, optional=True) for n in ("nx", "ny", "nz"))),
            "interval of temperatures by species on a grid of nx x ny x nz cells (default: that of the line electrons, "
            "whose T_e is written too), in <outDir>/profile.h5", group="output"),
)


def has_electrons(deck: Deck) -> bool:
    """Whether the deck has electrons."""
    return deck["electrons"].nx is not None


def pushes_atoms(deck: Deck) -> bool:
    """Whether the deck has electrons that change the total momentum."""
    return has_electrons(deck) and exchange(deck) == "langevin"


def exchange(deck: Deck) -> str:
    """How atoms and electrons exchange energy, a key of EXCHANGES."""
    return deck["electrons_exchange"].kind or "langevin"


def start_temperature(deck: Deck) -> float:
    """T_e at the start, K."""
    if deck["electrons_temperature"].start is not None:
        return deck["electrons_temperature"].start
    return deck["tramp"].t0 if deck["tramp"].t0 is not None else deck["temperature"].treq


def profile_shape(deck: Deck) -> tuple[int, int, int] | None:
    """The grid of the line profile; None where nothing is to be written, or no grid is known."""
    line = deck["profile"]
    nx, ny, nz = deck["electrons"] if line.nx is None else (line.nx, line.ny, line.nz)
    return (nx, ny, nz) if line.nstep and None not in (nx, ny, nz) else None


def profile_faults(deck: Deck) -> list[str]:
    """Faults of the line profile."""
    line = deck["profile"]
    if line.nstep and profile_shape(deck) is None:
        return [line.fault("needs the numbers of cells; write for example 'profile 100 1 1 20'")]
    if line.nstep and deck["mdmode"].mode == MINIMIZATION:
        return [line.fault("a minimization has no temperature; omit this line")]
    if line.nstep and deck["pimd"].beads is not None:
        return [line.fault("temperatures of centroids mean nothing; omit one of the lines profile and pimd")]
    return []


def electron_faults(deck: Deck) -> list[str]:
    """Faults of the lines for electrons."""
    line = deck["electrons"]
    if not has_electrons(deck):
        return [deck[k.name].fault("needs a line 'electrons <nx> <ny> <nz>'") for k in ELECTRONS[1:]
                if deck[k.name].given]
    capacity, table, faults = deck["electrons_capacity"], deck["electrons_table"], []
    if capacity.given == table.given:
        faults.append(line.fault("needs the heat capacity; write for example 'electrons_capacity linear 70', or "
                                 "'electrons_table <file>'") if not capacity.given else
                      table.fault("electrons_capacity gives the heat capacity too; keep one"))
    if not deck["electrons_coupling"].given:
        faults.append(line.fault("needs the coupling; write for example 'electrons_coupling 2.5e16'"))
    if line.nx * line.ny * line.nz > LARGEST_GRID:
        faults.append(line.fault(f"{line.nx * line.ny * line.nz} cells; every rank holds all: at most {LARGEST_GRID}"))
    if start_temperature(deck) <= 0:
        faults.append(line.fault("T_e at the start is 0 K; write 'electrons_temperature <T_e>'"))
    if deck["pimd"].beads is not None:
        faults.append(line.fault("acts on classical atoms, not on ring polymers; omit one of the lines electrons and "
                                 "pimd"))
    if deck["mdmode"].mode == MINIMIZATION:
        faults.append(line.fault("a minimization has no temperature; omit this line, or use another mdmode"))
    return faults


def electron_notes(deck: Deck) -> list[str]:
    """Notes on lines that act on the velocities as electrons do."""
    if not has_electrons(deck):
        return []
    kind, mode = deck["ensemble"].kind, deck["mdmode"].mode
    notes = []
    if kind not in (None, "nve"):
        notes.append(deck["ensemble"].fault(f"the thermostat {kind} also acts on the atoms that exchange energy with "
                                            "electrons; its heat is accounted for on its own"))
    if mode != 1:
        notes.append(deck["mdmode"].fault(f"mdmode {mode} also changes the velocities of the atoms that exchange "
                                          "energy with electrons, and its energy is not accounted for"))
    return notes
