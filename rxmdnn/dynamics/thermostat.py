"""RXMD's mdmodes: what is done to the velocities every ``sstep`` steps, at the top of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.units import ACCELERATION, KB


@dataclass(frozen=True)
class Act:
    """What an mdmode may use. treq : K. vsfact : factor."""

    kinetics: Kinetics
    treq: float
    vsfact: float
    seed: int
    step: int


def draw(atoms: Atoms, act: Act) -> None:
    act.kinetics.draw(atoms, act.treq, act.seed, act.step)


def keep(atoms: Atoms, act: Act) -> None:
    """NVE."""


def scale(atoms: Atoms, act: Act) -> None:
    atoms.v *= act.vsfact


def rescale(atoms: Atoms, act: Act) -> None:
    act.kinetics.rescale(atoms, act.treq)


def rescale_each_element(atoms: Atoms, act: Act) -> None:
    energy, count = act.kinetics.by_element(atoms)
    now = 2.0 * energy / (3.0 * np.maximum(count, 1) * KB)
    factor = np.sqrt(act.treq / np.where(now > 0, now, act.treq)) if act.treq > 0 else np.zeros_like(now)
    atoms.v *= act.kinetics.of_atoms(factor, atoms)[:, None]
    act.kinetics.zero_momentum(atoms)


def rescale_when_off(atoms: Atoms, act: Act) -> None:
    now = act.kinetics.temperature(atoms)
    if now > 0 and abs(np.sqrt(act.treq / now) - 1.0) > 0.05:
        act.kinetics.rescale(atoms, act.treq)
        act.kinetics.zero_momentum(atoms)


def tame_hot_atoms(atoms: Atoms, act: Act) -> None:
    """MPMB, "maximally preserving Boltzmann": only atoms far above treq are slowed."""
    m, xp = act.kinetics.of_atoms(act.kinetics.mass, atoms), act.kinetics.backend.xp
    ratio = xp.sqrt(m * (atoms.v**2).sum(axis=1) / ACCELERATION / (3.0 * KB * act.treq))
    hot = ratio > act.vsfact
    atoms.v[hot] *= (np.sqrt(0.5 * (act.vsfact + 1.0)) / ratio[hot])[:, None]
    act.kinetics.zero_momentum(atoms)
    act.kinetics.rescale(atoms, act.treq)


MINIMIZE = 10

MDMODES: dict[int, Callable[[Atoms, Act], None]] = {
    0: draw,
    1: keep,
    4: scale,
    5: rescale,
    6: draw,
    7: rescale_each_element,
    8: rescale_when_off,
    9: tame_hot_atoms,
}
