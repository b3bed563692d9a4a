"""The parts of a path-integral run, from the pimd lines of the deck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.deck.language import Deck
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.dynamics.ensembles import Ensemble
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.engine.whole_forces import forces_of
from rxmdnn.models.interface import Potential
from rxmdnn.ring_polymer.economised import Economy
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.forces import F, RingForces, U, V
from rxmdnn.ring_polymer.groups import Groups
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.suzuki_chin import stiffening, suzuki_chin
from rxmdnn.timers import Timers
from rxmdnn.units import ACCELERATION, HBAR, KB, PER_CM

BOND = 50.0  # eV/Å^2: typical stiffness of a bond of hydrogen
DYNAMICS = ("rpmd", "trpmd", "pacmd")
FAR = 8.0  # largest distance of a bead, in standard deviations of the beads of a free particle


def make_forces(deck: Deck, masses: Sequence[float], domain: Domain, neighbors: NeighborList, potential: Potential,
                timers: Timers, groups: Groups | None = None) -> Forces:
    """Forces on atoms, or on ring polymers where the deck has a pimd line."""
    line, t = deck["pimd"], deck["temperature"].treq
    if line.beads is None:
        return forces_of(domain, neighbors, potential, timers)
    # <|q - centroid|^2> of a free particle is ħ^2/(4 m k_B T)
    free = np.sqrt(HBAR**2 * ACCELERATION / (4.0 * min(masses) * KB * t))
    fourth = suzuki_chin(np.array(masses), t, line.beads) if line.method == "suzuki-chin" else None
    return RingForces(domain, neighbors, potential, timers, line.beads, 1.0 + FAR * float(free),
                      deck["pimd_contraction"].beads, fourth, groups)


def choose_ring(deck: Deck, centroid: Ensemble, atoms: Atoms, economy: Economy | None = None) -> Ensemble:
    """The ensemble of a run: ``centroid`` itself, or a RingPolymer around it where the deck has a pimd line."""
    line = deck["pimd"]
    if line.beads is None:
        for name in (U, V, F):
            atoms.extra.pop(name, None)
        return centroid
    modes = Modes(line.beads, None if economy is None else economy.fit.x)
    friction = deck["pimd_eco"].friction if line.method == "eco" else line.number
    return RingPolymer(centroid, modes, deck["temperature"].treq, line.method, friction, deck["pimd_integrator"].name,
                       None if economy is None else economy.state())


def notes(deck: Deck, elements: Sequence[str], masses: Sequence[float], start: Mapping[str, np.ndarray],
          bonded: bool = True) -> list[str]:
    """Notes for the user on the chosen beads and time step.

    start : further rows of the atoms of the start; bonded : the models may hold covalent bonds
    """
    line, dt, t, found = deck["pimd"], deck["time"].dt, deck["temperature"].treq, []
    k = int(np.argmin(masses))
    bond = float(np.sqrt(BOND * ACCELERATION / masses[k]))
    if line.beads is not None and line.method == "suzuki-chin":
        bond *= stiffening(bond, t, line.beads)
    if bonded and bond * dt > 1.0 and deck["mdmode"].mode != MINIMIZATION:
        found.append(deck["time"].fault(f"dt = {dt:g} fs is long for bonds of {elements[k]}, up to about "
                                        f"{bond * PER_CM:.0f} cm^-1: up to {0.6 / bond:.2g} fs is safe, above "
                                        f"{2.0 / bond:.2g} fs unstable"))
    if line.beads is None:
        return found
    found.append(line.fault("KE, T and Etotal of the log belong to the centroids; quantum averages are in "
                            "ring_polymer.csv"))
    if deck["pimd_groups"].number > 1:
        found.append(deck["pimd_groups"].fault(f"each of {deck['pimd_groups'].number} groups of ranks holds all "
                                               "atoms, on the grid above, and evaluates its share of the beads"))
    if line.method == "suzuki-chin":
        found.append(line.fault("potential and virial kinetic energy are averages over even beads; averages from the "
                                "trajectories of beads must also use bead_0, bead_2, ... alone; a step costs as much "
                                f"as one of {2 * line.beads} beads"))
    if line.method in DYNAMICS and not (V in start and start[V].shape[1] == line.beads - 1):
        found.append(line.fault(f"the start has no rings of {line.beads} beads: missing beads begin at their centroids"
                                f", far from equilibrium for {line.method}; sample with 'pimd {line.beads} pimd', then "
                                "continue from its checkpoint"))
    if line.method == "eco":
        return found
    fastest = float(Modes(line.beads).frequencies(t).max())
    if deck["pimd_integrator"].name != "bcocb" and fastest * dt > 0.9 * np.pi:
        found.append(deck["pimd_integrator"].fault(
            f"the fastest mode of {line.beads} beads at {t:g} K ({fastest * PER_CM:.0f} cm^-1) rotates by "
            f"{fastest * dt / np.pi:.2f} pi in a step, which is unstable near pi; use dt below "
            f"{0.9 * np.pi / fastest:.2g} fs, or bcocb"))
    return found
