"""Further quantum averages of a run, one time series each: deck lines ``pimd_estimate``.

All of them hold for economised rings too, with their frequencies ω_k in the place of those of springs between
neighbors: they follow from the distribution exp(-β [Σ_k m ω_k^2 u_k^2/2 + V]) and from the equivalence of the beads.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from rxmdnn.arrays import Array
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.estimators import jackknife, mean_and_error
from rxmdnn.ring_polymer.forces import F, U
from rxmdnn.ring_polymer.virtual import VirtualRings
from rxmdnn.units import ACCELERATION, KB

STRETCH = 0.02  # relative change of β by which its derivative is taken
AXES = ("xx", "yy", "zz", "yz", "xz", "xy")
PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


class Quantity(ABC):
    """One average of a run. name : of its file ring_<name>.csv; columns : with units."""

    name = ""
    columns: tuple[str, ...] = ()

    def __init__(self, ring: RingPolymer) -> None:
        self.ring = ring
        self.beta = 1.0 / (KB * ring.temperature)

    @abstractmethod
    def row(self, step: int) -> Sequence[float]:
        """Estimators at the last forces of the run, in the order of ``columns``. All ranks call it."""

    def summary(self, series: dict[str, np.ndarray]) -> list[str]:
        """Lines of the log on the averages of the columns."""
        return [line_of(name, *mean_and_error(series[name])) for name in self.columns]


def line_of(name: str, value: float, error: float) -> str:
    """A line of the log."""
    return f"    {name:<40s} {value:16.8g} +- {error:.2g}"


class KineticTensor(Quantity):
    """Tensor of the quantum kinetic energy per atom of each element, whose trace is the centroid-virial estimator.

    T_ab = k_B T δ_ab/2 - Σ_k (u_ka f_kb + u_kb f_ka)/4, after Herman, Bruskin and Berne, J. Chem. Phys. 76, 5150
    (1982), in the place of whose scalar product it has the outer one.
    """

    name = "kinetic_tensor"

    def __init__(self, ring: RingPolymer, elements: Sequence[str]) -> None:
        super().__init__(ring)
        self.columns = tuple(f"kinetic_{axis}_{e}_eV_per_atom" for e in elements for axis in AXES)

    def row(self, step: int) -> Sequence[float]:
        ring, atoms = self.ring, self.ring.atoms
        assert atoms is not None
        u, f, xp = atoms.extra[U], atoms.extra[F], ring.backend.xp
        count = np.maximum(ring.by_element(atoms, np.ones(atoms.n_owned)), 1)
        pull = [ring.by_element(atoms, xp.einsum("nk,nk->n", u[..., a], f[..., b])
                                + xp.einsum("nk,nk->n", u[..., b], f[..., a])) for a, b in PAIRS]
        classical = 0.5 * KB * ring.temperature
        table = [(classical if a == b else 0.0) - 0.25 * p / count for (a, b), p in zip(PAIRS, pull, strict=True)]
        return [float(x) for x in np.array(table).T.ravel()]


class ScaledHeatCapacity(Quantity):
    """Heat capacity by coordinates scaled with β about the centroids (Yamamoto, J. Chem. Phys. 123, 104101 (2005)).

    With q' = centroid + sqrt(β'/β) (q - centroid) the springs do not depend on β', and
    E = 3 N/(2 β) + <ε>, ε(β') = V(q') - Σ u'_k·f_k(q')/2;  C_V/k_B = 3 N/2 + β^2 [<ε^2> - <ε>^2 - <dε/dβ>]
    (the double virial), whose error does not grow with the number of beads. dε/dβ is a central difference.
    """

    name = "heat_capacity"
    columns = ("energy_virial_eV", "energy_slope_eV2")

    def __init__(self, ring: RingPolymer, virtual: VirtualRings) -> None:
        super().__init__(ring)
        self.virtual = virtual

    def row(self, step: int) -> Sequence[float]:
        atoms, found = self.ring.atoms, []
        assert atoms is not None
        for stretch in (0.0, STRETCH, -STRETCH):
            e = self.virtual.evaluate(np.sqrt(1.0 + stretch) * atoms.extra[U])
            found.append(e.potential - 0.5 * e.pull)
        n = self.ring.motion.kinetics.n_global
        return [1.5 * n / self.beta + found[0], (found[1] - found[2]) / (2.0 * STRETCH * self.beta)]

    def summary(self, series: dict[str, np.ndarray]) -> list[str]:
        if self.ring.centroid.barostat is not None:  # the energy then also changes with the volume
            return super().summary(series)
        n, columns = self.ring.motion.kinetics.n_global, [series[name] for name in self.columns]
        value = jackknife(lambda e, slope: (1.5 * n + self.beta**2 * (np.var(e) - np.mean(slope))) / n, *columns)
        return [*super().summary(series), line_of("heat_capacity_scaled_k_B_per_atom", *value)]


class OneAtom(Quantity):
    """Base of what is done to one atom at a time, of one element: to ``per_sample`` of its atoms in turn."""

    def __init__(self, ring: RingPolymer, virtual: VirtualRings, kind: int, per_sample: int, every: int) -> None:
        super().__init__(ring)
        self.virtual, self.kind, self.per_sample, self.every = virtual, kind, per_sample, every
        self.mass = float(ring.motion.kinetics.mass[kind])
        self._gid: np.ndarray | None = None

    def rows(self) -> np.ndarray:
        """Rows of this rank's atoms of the element."""
        atoms = self.ring.atoms
        assert atoms is not None
        return np.flatnonzero(self.ring.backend.to_host(atoms.species[: atoms.n_owned]) == self.kind)

    def chosen(self, step: int) -> list[int]:
        """Numbers of the atoms of this sample, the same on every rank."""
        atoms, kinetics = self.ring.atoms, self.ring.motion.kinetics
        assert atoms is not None
        if self._gid is None:
            mine = self.ring.backend.to_host(atoms.gid[: atoms.n_owned])[self.rows()]
            self._gid = np.sort(np.concatenate(kinetics.comm.allgather(mine)))
        n = len(self._gid)
        first = step // self.every * self.per_sample
        return [int(self._gid[k % n]) for k in range(first, first + min(self.per_sample, n))]

    def is_atom(self, gid: int) -> Array:
        """(n_owned, 1, 1) 1.0 for the atom, else 0.0."""
        atoms = self.ring.atoms
        assert atoms is not None
        return (atoms.gid[: atoms.n_owned] == gid).astype(np.float64)[:, None, None]


class IsotopeRatio(OneAtom):
    """Ratio of the reduced partition functions, quantum over classical, of one atom with mass m' and with mass m.

    Its quotient for two phases is the isotope fractionation between them. By the thermodynamic estimator,
    (m'/m)^(3 (P - 1)/2) <exp[-β (m' - m) Σ_k ω_k^2 u_k^2/2]>, over all atoms of the element, and by the
    scaled-coordinate estimator, <exp(-β [V(q') - V(q)])> with q' = centroid + sqrt(m/m') (q - centroid) (Cheng and
    Ceriotti, J. Chem. Phys. 141, 244112 (2014)), over the atoms of the sample.
    """

    def __init__(self, ring: RingPolymer, virtual: VirtualRings, kind: int, per_sample: int, every: int,
                 element: str, other: float) -> None:
        super().__init__(ring, virtual, kind, per_sample, every)
        self.other, self.name = other, f"isotope_{element}"
        self.columns = ("ratio_thermodynamic", "ratio_scaled")

    def row(self, step: int) -> Sequence[float]:
        ring, atoms = self.ring, self.ring.atoms
        assert atoms is not None
        xp, u, p = ring.backend.xp, atoms.extra[U], ring.modes.beads
        spring = 0.5 / ACCELERATION * xp.einsum("nkc,nkc,k->n", u, u, ring.backend.table(ring.spring))
        power = 1.5 * (p - 1) * np.log(self.other / self.mass)
        exponent = power - self.beta * (self.other - self.mass) * ring.backend.to_host(spring)
        ratio = ring.by_element(atoms, np.exp(exponent))
        count = ring.by_element(atoms, np.ones(atoms.n_owned))
        before, scaled = self.virtual.evaluate(u).potential, []
        for gid in self.chosen(step):
            shrunk = u * (1.0 + (np.sqrt(self.mass / self.other) - 1.0) * self.is_atom(gid))
            scaled.append(np.exp(-self.beta * (self.virtual.evaluate(shrunk).potential - before)))
        return [float(ratio[self.kind] / max(count[self.kind], 1)), float(np.mean(scaled))]

    def summary(self, series: dict[str, np.ndarray]) -> list[str]:
        return [line_of(f"ln_{name}_{self.mass:g}_to_{self.other:g}_amu",
                      *jackknife(lambda x: float(np.log(np.mean(x))), series[name])) for name in self.columns]
