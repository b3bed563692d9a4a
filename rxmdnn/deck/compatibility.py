"""Lines of RXMD's decks: some act, some are read and ignored, some are refused with a reason."""

from __future__ import annotations

from collections.abc import Callable

from rxmdnn.deck.language import Entry, Keyword, Value
from rxmdnn.deck.pair_terms import PAIR_TERMS
from rxmdnn.deck.words import COMPATIBILITY

CHARGES = "neural-network runs have no ReaxFF charges"


def _refused(text: str) -> Callable[[Entry], str]:
    return lambda entry: text


def _direction(x: int) -> str | None:
    return None if x in (1, 2, 3) else "must be 1, 2 or 3, which are x, y and z"


RXMD = (
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
