"""Economised rings of a run: ω_max from the deck or from the model, the fit, its refusal, and notes on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rxmdnn.deck.language import Deck
from rxmdnn.engine.system import System
from rxmdnn.io.start import Start
from rxmdnn.parallel import AgreedError, on_root, rows_of_all, together
from rxmdnn.ring_polymer.economy import LARGEST_RMS, FittedModes, fit, kinetic_share, reduced_frequency
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.ring_polymer.stiffest import StiffestMode, stiffest_mode
from rxmdnn.schema import Item, reading
from rxmdnn.units import HBAR, KB

ROUNDED = 50.0  # 1/cm: a frequency that is found is raised to a multiple of it, the same on any grid of ranks
STABLE = 0.9 * np.pi  # rotation in a step, of exact free rings, that is warned of
SHOWN = (400.0, 1000.0, 1800.0, 3000.0, 3600.0)  # 1/cm, for which notes say the share of the exact kinetic energy


STORED = {"x": Item("float", ("half",), low=0), "x_max": Item("float", low=0), "rms": Item("float", low=0),
          "trotter": Item("float", low=0), "omega_max": Item("float", low=0), "stiffest": Item("float", low=0),
          "atoms": Item("text")}


@dataclass(frozen=True)
class Economy:
    """The frequencies of a run, and where ω_max is from.

    Attributes
    ----------
    omega_max : float, 1/cm, of the fit; stiffest : float, 1/cm, of the mode that was found; atoms : that move in it
    evaluations : of forces that the search took, 0 for those of a checkpoint
    """

    fit: FittedModes
    omega_max: float
    stiffest: float
    atoms: str
    evaluations: int = 0

    def state(self) -> dict[str, Any]:
        """For checkpoints: a run that goes on searches and fits no more."""
        return {"omega_max": self.omega_max, "stiffest": self.stiffest, "atoms": self.atoms, "x": self.fit.x,
                "x_max": self.fit.x_max, "rms": self.fit.rms, "trotter": self.fit.trotter}

    @classmethod
    def of_state(cls, s: dict[str, Any]) -> Economy:
        """From ``state``."""
        return cls(FittedModes(s["x"], s["x_max"], s["rms"], s["trotter"]), s["omega_max"], s["stiffest"], s["atoms"])


def find_economy(deck: Deck, start: Start, masses: Sequence[float], groups: Groups, same_run: bool,
                 make_system: Callable[[], System]) -> Economy | None:
    """The economy of a run's rings; None without such a line, and for one bead, which is classical.

    All ranks of all groups call it.

    Parameters
    ----------
    same_run : whether the run of the start's checkpoint goes on, whose economy is then taken
    make_system : makes the system of the start's atoms, on the ranks of this group

    Raises AgreedError where the fit is worse than the deck accepts, or no ω_max is found.
    """
    line = deck["pimd"]
    if line.beads in (None, 1) or line.method != "eco":
        return None
    saved = start.state.get("ensemble", {}).get("economy")
    if same_run and saved is not None:
        with together(groups.everyone), reading(start.source, "a state of 'pimd eco'") as checked:
            checked.sizes["half"] = line.beads // 2
            return Economy.of_state(checked.entries(saved, STORED, "state.ensemble.economy"))
    mode, names = _search(start, masses, groups, make_system)
    atoms, t = groups.everyone.bcast(mode.named(names)), deck["temperature"].treq
    stiffest = groups.everyone.bcast(mode.per_cm)
    omega_max = line.number or ROUNDED * float(np.ceil(stiffest / ROUNDED))
    if not omega_max > 0:
        raise AgreedError(line.fault("eco: no vibration is found at the start, whose highest frequency would be "
                                     f"omega_max; write it: 'pimd {line.beads} eco <omega_max, 1/cm>'"))
    found = on_root(groups.everyone, lambda: fit(line.beads, reduced_frequency(omega_max, t)))
    if fault := _refused(deck, found, omega_max):
        raise AgreedError(fault)
    return Economy(found, omega_max, stiffest, atoms, mode.evaluations)


def _search(start: Start, masses: Sequence[float], groups: Groups,
            make_system: Callable[[], System]) -> tuple[StiffestMode, list[str]]:
    """The stiffest mode at the positions of the start, and the element of each atom."""
    species, x = rows_of_all(groups.inside, start.n_global, start.gid, (start.species.astype(float), start.x))
    kinds = species.astype(int)
    return stiffest_mode(make_system(), x, np.array(masses)[kinds]), [start.elements[k] for k in kinds]


def refusal(deck: Deck) -> str | None:
    """The fault of a deck whose beads are too few for its ω_max; None also where it does not say ω_max."""
    line = deck["pimd"]
    if line.beads in (None, 1) or line.method != "eco" or line.number is None:
        return None
    return _refused(deck, fit(line.beads, reduced_frequency(line.number, deck["temperature"].treq)), line.number)


def _refused(deck: Deck, found: FittedModes, omega_max: float) -> str | None:
    line, limit = deck["pimd"], deck["pimd_eco"].rms or LARGEST_RMS
    if found.rms <= limit:
        return None
    worst = float(kinetic_share(found.x, line.beads, np.linspace(0.02, 1.0, 99) * found.x_max).max())
    return line.fault(
        f"eco: {line.beads} beads are too few for {omega_max:g} 1/cm at {deck['temperature'].treq:g} K (beta hbar "
        f"omega = {found.x_max:.3g}): the rms error of the fitted frequencies is {found.rms:.2g}, above {limit:g}, and "
        f"some modes have {100 * (worst - 1):.1f} % too much kinetic energy; use {enough_beads(found.x_max, limit)} "
        f"beads, or accept it with 'pimd_eco {np.ceil(100 * found.rms) / 100:g}'")


def enough_beads(x_max: float, rms: float = LARGEST_RMS) -> int:
    """The smallest even number of beads whose fit up to ``x_max`` has at most this rms error."""
    beads = 2
    while fit(beads, x_max).rms > rms:
        beads += 2
    return beads


def economy_notes(deck: Deck, economy: Economy) -> list[str]:
    """Notes for the log on the fit, on ω_max, and on a time step that is too long for the fitted frequencies."""
    line, dt, t, found = deck["pimd"], deck["time"].dt, deck["temperature"].treq, economy.fit
    shown = [c for c in SHOWN if c < economy.omega_max] + [economy.omega_max]
    shares = kinetic_share(found.x, line.beads, np.array([reduced_frequency(c, t) for c in shown]))
    notes = [line.fault(
        f"economised frequencies up to {economy.omega_max:g} 1/cm, beta hbar omega = {found.x_max:.4g}: rms error "
        f"{found.rms:.2g} (springs between neighbors: {found.trotter:.2g}); harmonic kinetic energies are "
        + ", ".join(f"{s:.4f}" for s in shares) + " of the exact ones at " + ", ".join(f"{c:g}" for c in shown)
        + " 1/cm")]
    how = (f"found with {economy.evaluations} evaluations of the forces" if economy.evaluations else
           "known from the checkpoint")
    notes.append(line.fault(f"the stiffest mode at the start, of {economy.atoms}, has {economy.stiffest:.0f} 1/cm, "
                            + how + ("" if line.number else f"; omega_max = {economy.omega_max:g}")))
    if line.number is not None and line.number < economy.stiffest:
        notes.append(line.fault(
            f"WARNING: omega_max = {line.number:g} 1/cm is below the stiffest mode, of {economy.atoms}, "
            f"{economy.stiffest:.0f} 1/cm: modes above omega_max are not converged; write 'pimd {line.beads} eco "
            f"{ROUNDED * np.ceil(economy.stiffest / ROUNDED):g}'"))
    fastest = float(found.x.max(initial=0.0)) * KB * t / HBAR
    if deck["pimd_integrator"].name != "bcocb" and fastest * dt > STABLE:
        notes.append(deck["pimd_integrator"].fault(
            f"the fastest fitted mode rotates by {fastest * dt / np.pi:.2f} pi in a step, which is unstable near pi; "
            f"use dt below {STABLE / fastest:.2g} fs, or bcocb"))
    return notes
