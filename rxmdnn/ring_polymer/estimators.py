"""Quantum averages of ring polymers: estimators at one step, and means and errors of their time series.

Economised rings have the same estimators. Their distribution differs in the values of ω_k alone, and each estimator
needs no more than these: the potential is diagonal; the primitive kinetic energy is m/β times the derivative of ln Z
with respect to m, and by integration by parts (the virial theorem of each mode) its mean is that of the centroid-virial
one; so is the pressure of a strain of all coordinates that of a strain of the centroids. -d ln ρ/dβ, which the heat
capacity needs, is taken at fixed β ħ ω_k: it is the derivative of the energy of the same fit, whose relative error is
larger than that of the energy itself at β ħ ω near that of ω_max.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.forces import F, RingForces, U
from rxmdnn.units import GPA_PER_EV_A3, KB


@dataclass(frozen=True)
class Estimates:
    """Estimators at one step; energies in eV.

    Attributes
    ----------
    potential : float, mean over beads; of Suzuki-Chin rings, over even beads
    primitive (n_elements,)  3 N P/(2β) - Σ_k m ω_k^2 u_k^2/2, summed over the atoms of each element; of Suzuki-Chin
              rings with the sum over odd beads: m/β times the derivative of ln Z with respect to m
    virial    (n_elements,)  3 N/(2β) - Σ_k u_k·f_k/2, the centroid-virial estimator; of Suzuki-Chin rings, over even
              beads
    conjugate : float, potential whose sum with ``primitive`` is -d ln ρ/dβ; equal to ``potential`` but for Suzuki-Chin
    gyration  (n_elements,)  Å, radius of gyration: square root of the mean of Σ_k u_k^2
    count     (n_elements,)  number of atoms
    pressure  : float, GPa, N k_B T/V + tr W/(3 V), W the centroid virial
    temperature : float, K, of the internal modes (nan for one bead)
    """

    potential: float
    primitive: np.ndarray
    virial: np.ndarray
    conjugate: float
    gyration: np.ndarray
    count: np.ndarray
    pressure: float
    temperature: float


def estimate(ring: RingPolymer) -> Estimates:
    """Estimators at the last forces of the ring polymers. All ranks call it."""
    atoms, forces, kinetics = ring.atoms, ring.motion.forces, ring.motion.kinetics
    assert atoms is not None
    assert isinstance(forces, RingForces)
    u, f, p, xp = atoms.extra[U], atoms.extra[F], ring.modes.beads, ring.backend.xp
    count = ring.by_element(atoms, np.ones(atoms.n_owned))
    kinetic, spring = ring.mode_energies(atoms)
    potential = conjugate = forces.energy()
    if forces.fourth is None:
        pull, term = ring.by_element(atoms, xp.einsum("nkc,nkc->n", u, f)), np.zeros(len(count))
    else:
        pull, term = (ring.by_element(atoms, x) for x in (forces.fourth.pull, forces.fourth.term))
        potential, conjugate = kinetics.comm.allreduce(forces.fourth.potential), potential + float(term.sum())
    size = ring.by_element(atoms, xp.einsum("nkc,nkc->n", u, u))
    classical = 1.5 * count * KB * ring.temperature
    volume = ring.motion.volume
    pressure = (2.0 * classical.sum() + float(np.trace(forces.virial()))) / (3.0 * volume) * GPA_PER_EV_A3
    inside = 3.0 * kinetics.n_global * (p - 1)
    return Estimates(potential, p * classical - spring + term, classical - 0.5 * pull, conjugate,
                     np.sqrt(size / np.maximum(count, 1)), count, pressure,
                     2.0 * float(kinetic.sum()) / (inside * KB) if inside else float("nan"))


def heat_capacity(primitive: np.ndarray, virial: np.ndarray, n_atoms: int, temperature: float) -> float:
    """C_V, eV/K, from time series of both total energies (a kinetic estimator plus its potential), eV.

    With E = <ε_v> and -∂ ln ρ/∂β = ε_p:  C_V = 3 N k_B/2 + (<ε_p ε_v> - <ε_p><ε_v>)/(k_B T^2).
    """
    covariance = float(np.mean((primitive - primitive.mean()) * (virial - virial.mean())))
    return 1.5 * n_atoms * KB + covariance / (KB * temperature**2)


FEWEST = 8  # blocks of which an error is estimated


def mean_and_error(x: np.ndarray) -> tuple[float, float]:
    """Mean of a correlated series, and its standard error; nan for a series of fewer than FEWEST values.

    The error is the largest over block lengths with at least FEWEST blocks (Flyvbjerg and Petersen, J. Chem. Phys. 91,
    461 (1989)).
    """
    mean, errors = float(np.mean(x)), [float("nan")]
    while len(x) >= FEWEST:
        errors.append(float(x.std(ddof=1)) / np.sqrt(len(x)))
        x = x[: len(x) // 2 * 2].reshape(-1, 2).mean(axis=1)
    return mean, float(np.nanmax(errors)) if len(errors) > 1 else errors[0]


def jackknife(function: Callable[..., float], *series: np.ndarray) -> tuple[float, float]:
    """A function of whole series, and its standard error by the jackknife over FEWEST blocks."""
    value, n = function(*series), len(series[0])
    if n < 2 * FEWEST:
        return value, float("nan")
    ends = np.linspace(0, n, FEWEST + 1).astype(int)
    without = [function(*(np.delete(s, slice(a, b)) for s in series)) for a, b in pairwise(ends)]
    return value, float(np.sqrt((FEWEST - 1) * np.var(without)))
