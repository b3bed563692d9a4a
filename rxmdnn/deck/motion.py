"""What moves the atoms of a run, as its deck says."""

from __future__ import annotations

from rxmdnn.deck.fields import has_field
from rxmdnn.deck.language import Deck
from rxmdnn.deck.light import first_pulse, pulses_of
from rxmdnn.deck.words import DRIVING, FIRST_PULSE, MINIMIZATION, MINIMIZED


def has_ring(deck: Deck) -> bool:
    """Whether every atom is a ring polymer."""
    return deck["pimd"].beads is not None


def cell_is_driven(deck: Deck) -> bool:
    """Whether the deck prescribes how the cell changes."""
    return any(deck["strain_ramp"]) or any(deck["shear_ramp"])


def is_driven(deck: Deck) -> bool:
    """Whether light, electrons or a field act on the atoms."""
    return any(line if isinstance(line := deck[name], list) else line.given for name in DRIVING) or has_field(deck)


def has_extended_energy(deck: Deck) -> bool:
    """Whether the conserved quantity differs from the total energy."""
    return deck["ensemble"].kind is not None or has_ring(deck) or cell_is_driven(deck) or is_driven(deck)


def ensemble_settings(deck: Deck) -> list[str]:
    """Settings that must be the same for an ensemble to continue from its state in a checkpoint."""
    line, cell_line = deck["ensemble"], deck["barostat"]
    ring = [deck["pimd"].beads, deck["pimd"].method] if has_ring(deck) else []
    driven = [*deck["strain_ramp"], *deck["shear_ramp"]] if cell_is_driven(deck) else []
    return [line.kind] + ([cell_line.kind, cell_line.shape] if cell_line.kind else []) + ring + driven


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
