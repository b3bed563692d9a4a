"""What moves the atoms of a run, in words that its frames carry: whether two runs are alike, whether time is real.

Words
-----
motion : a method of path integrals (pimd, trpmd, ...), an ensemble (nve, langevin, ...), "mdmode 5", or minimization
target_K : the temperature that was asked for, where one was; ramp_K : its first and last value, where it changed
tau_ps : relaxation time of the thermostat
pulse_fs : center of the first pulse of light, in the time of the run, where there is one
beads, positions : of path integrals: their number, and what the positions are: "centroids", or "bead 3"
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from rxmdnn.deck.words import FIRST_PULSE, MINIMIZED, RING_METHODS, SAMPLING

WORDS = ("motion", "target_K", "ramp_K", "tau_ps", FIRST_PULSE, "beads", "positions")
Motion = dict[str, str]
REDRAWN = ("mdmode 0", "mdmode 6")
SAME = 0.2  # fraction by which the temperatures of like runs may differ


def no_real_time(motion: Motion) -> str:
    """Why the frames of a run are no dynamics in real time; "" where they are, or where nothing is known."""
    kind = motion.get("motion", "")
    if kind == MINIMIZED:
        return "a minimization has no dynamics"
    if kind in SAMPLING:
        return (f"'{kind}' samples averages: its thermostats move the centroids, and times are not real; use rpmd, "
                "trpmd or pacmd for spectra")
    if kind in REDRAWN:
        return f"{kind} draws new velocities: motion is correlated only between the draws"
    return ""


def disturbed(motion: Motion) -> str:
    """How a thermostat disturbs the motion in real time; "" where it does not."""
    if motion.get("motion") == "langevin":
        return (f"a Langevin thermostat of tau {motion.get('tau_ps', '?')} ps damps every atom: lines are broadened; "
                "svr or nve keeps them")
    if motion.get("motion", "").startswith("mdmode") and motion["motion"] not in REDRAWN:
        return f"{motion['motion']} changes velocities during the run"
    return ""


def analyzed(motion: Motion) -> str:
    """What the positions and velocities of the frames are: "atoms", "centroids of 8 beads", "bead 3 of 8"."""
    if not motion:
        return "positions as they are in the file, which does not say whether of atoms, beads or centroids"
    positions, beads = motion.get("positions", "atoms"), motion.get("beads", "")
    return positions + (f" of {beads}" + (" beads" if positions == "centroids" else "") if beads else "")


def described(motion: Motion) -> str:
    """Ensemble or method with its temperature, for a message."""
    target = motion.get("target_K") or motion.get("ramp_K", "")
    return motion.get("motion", "not stated") + (f" at {target} K" if target else "")


def unlike(first: Motion, other: Motion, temperatures: tuple[float, float]) -> str:
    """Why two runs must not be averaged; "" where they are alike, as far as their frames say.

    temperatures : means of both, K; NaN where not known
    """
    def family(m: Motion) -> str:
        kind = m.get("motion", "")
        return f"{kind} with {m.get('beads', '?')} beads" if kind in RING_METHODS else (
            MINIMIZED if kind == MINIMIZED else "classical dynamics" if kind else "")

    a, b = family(first), family(other)
    if a and b and a != b:
        return f"{a} and {b}"
    if first.get("positions", "").split(" ")[0] != other.get("positions", "").split(" ")[0] and a and b:
        return f"{analyzed(first)} and {analyzed(other)}"
    targets = [m["target_K"] for m in (first, other) if "target_K" in m]
    if len(targets) == 2 and targets[0] != targets[1]:
        return f"runs at {targets[0]} K and {targets[1]} K"
    t, u = temperatures
    if len(targets) < 2 and abs(t - u) > SAME * min(t, u):
        return f"runs at {t:.0f} K and {u:.0f} K"
    return ""


def changes(stages: Sequence[Motion]) -> str:
    """Why the frames of one trajectory are not of one kind; "" where they are."""
    nan = (float("nan"),) * 2
    return next((why for a, b in pairwise(stages) if (why := unlike(a, b, nan))), "")
