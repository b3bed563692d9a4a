"""`RUN`, the table of all lines of the run deck, rxmd.in. Its order is that of the echo in log and checkpoint."""

from __future__ import annotations

from rxmdnn.deck.compatibility import RXMD
from rxmdnn.deck.device import DEVICE, RANKS, TIMING
from rxmdnn.deck.dynamics import MINIMIZER, STEPS, VELOCITIES
from rxmdnn.deck.electrons import ELECTRONS
from rxmdnn.deck.ensembles import CELL_RAMPS, ENSEMBLE
from rxmdnn.deck.fidelity import FIDELITY
from rxmdnn.deck.fields import FIELD
from rxmdnn.deck.light import LIGHT
from rxmdnn.deck.output import FIGURES, FILES, FOLDER, UNITS
from rxmdnn.deck.path_integrals import PATH_INTEGRALS
from rxmdnn.deck.system import MODELS, START, STRAIN

RUN = (
    *STEPS, *ENSEMBLE, *PATH_INTEGRALS, *LIGHT, *ELECTRONS, *FIELD, *FILES, *RANKS, *START, *FOLDER, *MODELS,
    *VELOCITIES, *DEVICE, *UNITS, *STRAIN, *CELL_RAMPS, *FIGURES, *FIDELITY, *MINIMIZER, *TIMING, *RXMD)
