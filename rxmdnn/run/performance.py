"""The PERFORMANCE line of a run: rates, and where the time went."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np

from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.excitation.electrons import Electrons
from rxmdnn.ring_polymer.ensemble import RingPolymer

PARTS = ("network", "neighbors", "halo", "assembly", "integrate", "output")
WAITING = "waiting"  # for other ranks, in any of the parts
COUNTS = ("messages", "kB", "collectives")


class Performance:
    """Rates of a simulation since ``start``.

    Parameters
    ----------
    simulation : Simulation
    n_ranks : int, of all groups
    """

    def __init__(self, simulation: Simulation, n_ranks: int) -> None:
        self.simulation, self.n_ranks = simulation, n_ranks
        ring = ("ring",) if isinstance(simulation.ensemble, RingPolymer) else ()
        electrons = ("electrons",) if any(isinstance(drive, Electrons) for drive in simulation.drives) else ()
        self.parts = (*PARTS[:-1], *ring, *electrons, PARTS[-1])
        self.start()

    def start(self) -> None:
        """Measure from now on."""
        self.simulation.forces.timers.seconds.clear()
        self.simulation.domain.traffic.clear()
        self._first_step, self._began = self.simulation.step, perf_counter()

    def figures(self) -> dict[str, Any]:
        """Rates, the share of each part (mean, least and most over the ranks), what the busiest rank sends per step.

        All ranks call it.
        """
        s = self.simulation
        n_steps, seconds = s.step - self._first_step, perf_counter() - self._began
        sent = s.domain.traffic
        mine = np.array([*(s.forces.timers.seconds[part] for part in self.parts), sent.waited])
        counts = np.array([sent.messages, 1e-3 * sent.bytes, sent.collectives]) / max(n_steps, 1)
        shares = np.array(s.comm.allgather(100.0 * mine / max(seconds, 1e-9)))
        rate = n_steps / max(seconds, 1e-9)
        return {
            "steps": n_steps, "seconds": seconds, "steps_per_s": rate, "atom_steps_per_s": rate * s.n_global,
            "ns_per_day": rate * s.schedule.dt * 86400e-6, "ranks": self.n_ranks, "list_builds": s.forces.builds,
            "per_step": dict(zip(COUNTS, np.max(s.comm.allgather(counts), axis=0).tolist(), strict=True)),
            "share_percent": {part: {"mean": float(m), "min": float(lo), "max": float(hi)} for part, m, lo, hi in zip(
                (*self.parts, WAITING), shares.mean(axis=0), shares.min(axis=0), shares.max(axis=0), strict=True)},
        }


def performance_line(figures: dict[str, Any]) -> str:
    """The line of the log."""
    alone = figures["ranks"] == 1
    shares = "  ".join(f"{part} {p['mean']:.1f}% ({p['min']:.1f}-{p['max']:.1f})"
                       for part, p in figures["share_percent"].items() if not (alone and part == WAITING))
    sent = "" if alone else "  per step {messages:.1f} messages, {kB:.1f} kB, {collectives:.2f} collectives".format(
        **figures["per_step"])
    return (f"PERFORMANCE {figures['steps_per_s']:.3f} steps/s  {figures['atom_steps_per_s']:.0f} atom-steps/s  "
            f"{figures['ns_per_day']:.4f} ns/day  {shares}{sent}")
