"""Notes of a run on its time step and its beads, before the first step."""

import pytest

from rxmdnn.deck import language as decks
from rxmdnn.deck.run_table import RUN
from rxmdnn.ring_polymer.setup import notes

DECK = "time {dt} 10\ntemperature {t} 1.0 1\nio_step 1 1\n{ring}\n"


@pytest.mark.parametrize(("dt", "t", "ring", "said"), [
    (0.5, 300.0, "", None),
    (3.5, 300.0, "", "dt = 3.5 fs is long for bonds of H, up to about 36"),
    (3.5, 300.0, "mdmode 10", None),
    (0.5, 300.0, "pimd 16", None),
    (0.5, 300.0, "pimd 16\npimd_integrator baoab", None),
    (1.6, 300.0, "pimd 16", "dt = 1.6 fs is long for bonds of H, up to about 36"),
    (2.0, 300.0, "pimd 32\npimd_integrator baoab", "rotates by 1.60 pi in a step, which is unstable near pi"),
    (2.0, 300.0, "pimd 32 trpmd", "the start has no rings"),
    (0.5, 300.0, "pimd 8 suzuki-chin", "averages over even beads"),
    (1.3, 300.0, "pimd 32", None),
    (1.3, 300.0, "pimd 6 suzuki-chin", "dt = 1.3 fs is long for bonds of H"),
    (0.5, 300.0, "pimd 8\npimd_groups 4", "each of 4 groups of ranks holds all atoms"),
])
def test_a_long_time_step_is_warned_of(dt, t, ring, said):
    deck = decks.parse(DECK.format(dt=dt, t=t, ring=ring), "rxmd.in", RUN)
    found = [n for n in notes(deck, ("N", "H"), (14.007, 1.008), {}) if "of the log belong to the centroids" not in n]
    assert (found == []) if said is None else any(said in n for n in found)
