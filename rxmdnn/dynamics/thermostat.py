"""The mdmodes of RXMD: changes of the velocities every ``sstep`` steps, at the beginning of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.units import ACCELERATION, KB


@dataclass(frozen=True)
class VelocityControl:
    """Parameters of an mdmode. treq : K, target temperature; vsfact : velocity factor."""

    kinetics: Kinetics
    treq: float
    vsfact: float
    seed: int
    step: int


def draw(atoms: Atoms, control: VelocityControl) -> None:
    control.kinetics.draw(atoms, control.treq, control.seed, control.step)


def keep(atoms: Atoms, control: VelocityControl) -> None:
    """Leave the velocities unchanged (NVE)."""


def scale(atoms: Atoms, control: VelocityControl) -> None:
    atoms.v *= control.vsfact


def rescale(atoms: Atoms, control: VelocityControl) -> None:
    """Rescale to treq; atoms at rest, which cannot be scaled, get velocities drawn."""
    if control.kinetics.at_rest(atoms, control.treq):
        draw(atoms, control)
    else:
        control.kinetics.rescale(atoms, control.treq)


def rescale_each_element(atoms: Atoms, control: VelocityControl) -> None:
    """Each element has its share of the degrees of freedom; factors that differ make a momentum, removed last."""
    kinetics = control.kinetics
    energy, count = kinetics.by_element(atoms)
    now = 2.0 * energy / (kinetics.degrees_of_freedom / kinetics.n_global * np.maximum(count, 1) * KB)
    factor = np.sqrt(control.treq / np.where(now > 0, now, control.treq)) if control.treq > 0 else np.zeros_like(now)
    atoms.v *= kinetics.of_atoms(factor, atoms)[:, None]
    kinetics.zero_momentum(atoms)
    rescale(atoms, control)


def rescale_when_off(atoms: Atoms, control: VelocityControl) -> None:
    now = control.kinetics.temperature(atoms)
    if now <= 0 or abs(np.sqrt(control.treq / now) - 1.0) > 0.05:
        control.kinetics.zero_momentum(atoms)
        rescale(atoms, control)


def tame_hot_atoms(atoms: Atoms, control: VelocityControl) -> None:
    """MPMB, "maximally preserving Boltzmann": slow only atoms far above treq, then rescale to treq."""
    m, xp = control.kinetics.of_atoms(control.kinetics.mass, atoms), control.kinetics.backend.xp
    if control.treq > 0:
        ratio = xp.sqrt(m * (atoms.v**2).sum(axis=1) / ACCELERATION / (3.0 * KB * control.treq))
        hot = ratio > control.vsfact
        atoms.v[hot] *= (np.sqrt(0.5 * (control.vsfact + 1.0)) / ratio[hot])[:, None]
    control.kinetics.zero_momentum(atoms)
    rescale(atoms, control)


MDMODE_FUNCTIONS: dict[int, Callable[[Atoms, VelocityControl], None]] = {
    0: draw,
    1: keep,
    4: scale,
    5: rescale,
    6: draw,
    7: rescale_each_element,
    8: rescale_when_off,
    9: tame_hot_atoms,
}
