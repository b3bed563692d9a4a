"""Lines of the run deck for path integrals: `pimd` and those that go with it."""

from __future__ import annotations

from rxmdnn.deck.language import Keyword, Value, not_negative, positive
from rxmdnn.deck.words import RING_ESTIMATES, RING_INTEGRATORS, RING_METHODS

_METHOD_TWICE = dict.fromkeys(
    RING_METHODS, "one method per run; economised rings (eco) are for averages alone: write 'pimd <beads> eco "
                  "<omega_max>', then continue with another method from its checkpoint")


def _beads(n: int) -> str | None:
    return None if n >= 1 else "must be at least 1, which is classical; use 16 to 32 for hydrogen at room temperature"


PATH_INTEGRALS = (
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
)
