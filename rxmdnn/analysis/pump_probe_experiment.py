"""A pump-probe experiment on replicas: what is measured of their frames, set up from options and filled in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis import diffraction
from rxmdnn.analysis.pump_probe import DelayAxis
from rxmdnn.analysis.pump_probe_displacements import Displaced, MeanPositions, on_lattice, sites
from rxmdnn.analysis.pump_probe_frames import Amplitudes, Map, Measurement, Replica, measure
from rxmdnn.analysis.pump_probe_points import Crystal, label, read_hkl
from rxmdnn.analysis.pump_probe_powder import Debye, Shells, grid, weighted
from rxmdnn.analysis.pump_probe_temperature import Excitations, Slabs, Temperatures, Where
from rxmdnn.analysis.scatterers import replaced
from rxmdnn.analysis.spectra import kinds_of
from rxmdnn.analysis.structure import half_width
from rxmdnn.atoms import EXCITATION
from rxmdnn.errors import InputError
from rxmdnn.parallel import together

WEAK = 1e-3  # of the strongest: a reflection below it is extinct


@dataclass(frozen=True)
class Options:
    """What to measure, as the command line says it.

    Attributes
    ----------
    probe : of scatterers.PROBES; isotopes : words as H=D; species : kinds that scatter, empty for all
    cells : unit cells along a, b, c, or None; hkl, line, plane : words of reflections; family : average equivalents
    powder : "debye", "direct" or "none"; q_min, q_max : 1/Å; r_max : Å; damping : Å², or None for Lorch's window
    slabs : their number, and the axis they are along, of "a", "b", "c"
    where : a condition on atoms, as "excitation > 0.5", whose temperature is measured too; "" for none
    """

    probe: str = "electron"
    isotopes: Sequence[str] = ()
    species: Sequence[str] = ()
    cells: Sequence[float] | None = None
    hkl: Sequence[str] | None = None
    lines: Sequence[Sequence[str]] = ()
    planes: Sequence[Sequence[str]] = ()
    family: bool = False
    powder: str = "debye"
    q_min: float = 0.5
    q_max: float = 10.0
    r_max: float = 10.0
    damping: float | None = None
    slabs: int = 0
    axis: str = "c"
    where: str = ""


@dataclass
class Points:
    """Named points of reciprocal space and their amplitudes.

    Attributes
    ----------
    hkl (m, 3) : all points; q (m, 3) 1/Å; measured : Amplitudes
    groups : {label: (k,) rows of equivalent reflections}
    ends (2, 3), shown (m, 3) : of a line, as they were given, and its points, one per group
    """

    hkl: np.ndarray
    q: np.ndarray
    measured: Amplitudes
    groups: dict[str, np.ndarray] = field(default_factory=dict)
    ends: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    shown: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass
class Plane:
    """hkl (n_up, n_right, 3) points of a plane; rows (k,) of those that are measured, all but 0 0 0; of (k,) groups."""

    hkl: np.ndarray
    measured: Map
    rows: np.ndarray
    of: np.ndarray


@dataclass
class Experiment:
    """What was measured of all replicas; ``measured`` fills it.

    Attributes
    ----------
    kinds : names; index (n,) kind and mass (n,) of each atom, amu; isotopes, selected (kinds,) : what scatters
    peaks, lines, planes, powder, displaced, temperatures, excitations : None or empty where not asked or not possible
    known_sites : whether the atoms were assigned to sites of a unit cell
    """

    kinds: tuple[str, ...]
    index: np.ndarray
    mass: np.ndarray
    options: Options
    isotopes: list[str]
    selected: np.ndarray
    crystal: Crystal
    axis: DelayAxis
    replicas: int
    peaks: Points | None = None
    lines: dict[str, Points] = field(default_factory=dict)
    planes: dict[str, Plane] = field(default_factory=dict)
    powder: Debye | Shells | None = None
    displaced: Displaced | None = None
    temperatures: Temperatures | None = None
    excitations: Excitations | None = None
    known_sites: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def count(self) -> np.ndarray:
        """(kinds,) atoms."""
        return np.bincount(self.index, minlength=len(self.kinds))

    def amplitudes(self, q: np.ndarray) -> np.ndarray:
        """(kinds, m) amplitudes at wave vectors q : (m, 3) 1/Å."""
        return weighted(self.options.probe, self.isotopes, self.selected, np.linalg.norm(q, axis=-1))

    @classmethod
    def of(cls, replicas: Sequence[Replica], options: Options, axis: DelayAxis) -> Experiment:
        """An experiment with empty measurements. Raises InputError for options that the replicas do not allow."""
        first = replicas[0].series
        kinds, index, _ = kinds_of(first.names, first.mass)
        isotopes = replaced(kinds, list(options.isotopes))
        unknown = [s for s in options.species if s not in kinds]
        if unknown:
            raise InputError(f"structure: --species: {', '.join(unknown)}: not in {first.path}, which holds "
                             f"{', '.join(kinds)}")
        selected = np.array([k in options.species or not options.species for k in kinds])
        crystal = Crystal(first.cell(0), np.array(options.cells or (1, 1, 1), float))
        out = cls(kinds, index, first.mass, options, isotopes, selected, crystal, axis, len(replicas))
        out._points((len(replicas), len(axis.delay)))
        out._powder((len(replicas), len(axis.delay)))
        if options.where:
            Where.read(options.where)
            lacking = [str(r.series.path) for r in replicas if EXCITATION not in r.series.has]
            if lacking:
                raise InputError(*(f"{path}: --where: its frames have no column {EXCITATION}" for path in lacking))
        if len(replicas) == 1:
            out.notes.append("one replica: no errors and no diffuse part; give several runs of the same deck with "
                             "other seeds")
        return out

    def _points(self, shape: tuple[int, int]) -> None:
        options, crystal = self.options, self.crystal
        hkl = read_hkl(options.hkl, "--hkl") if options.hkl else (
            diffraction.reflections().astype(float) if options.cells else np.zeros((0, 3)))
        if (np.abs(hkl) < 1e-9).all(axis=1).any():
            raise InputError("structure: --hkl: 0 0 0 is not a reflection")
        crystal.waves(hkl, "--hkl")
        groups: dict[str, np.ndarray] = {}
        members: list[np.ndarray] = []
        for one in hkl:
            family = crystal.expanded(one[None], options.family)[0]
            groups[label(one)] = np.arange(len(family)) + sum(len(m) for m in members)
            members.append(family)
        if members:
            self.peaks = self._amplitudes(shape, np.concatenate(members), "--hkl", groups)
        for words in options.lines:
            ends = corners(words, "--line", 2, "two, as 000 800")
            points = crystal.line(ends[0], ends[1], "--line")
            on_lattice, group, of = crystal.expanded(points, options.family)
            measured = self._amplitudes(shape, on_lattice, "--line", {
                str(k): np.flatnonzero(group == row) for k, row in enumerate(of)})
            measured.ends, measured.shown = ends, points
            self.lines[f"{label(ends[0])}_{label(ends[1])}"] = measured
        for words in options.planes:
            ends = corners(words, "--plane", 3, "three: the origin and the ends of two sides, as 000 400 040")
            points = crystal.plane(ends[0], ends[1], ends[2], "--plane")
            flat = points.reshape(-1, 3)
            rows = np.flatnonzero(np.abs(flat).max(axis=1) > 1e-9)
            on_lattice, group, of = crystal.expanded(flat[rows], options.family)
            waves = crystal.waves(on_lattice, "--plane")
            self.planes["_".join(map(label, ends))] = Plane(
                points, Map(shape, self.index, self.amplitudes(crystal.q(on_lattice)), waves, group), rows, of)

    def _amplitudes(self, shape: tuple[int, int], hkl: np.ndarray, option: str,
                    groups: dict[str, np.ndarray] | None = None) -> Points:
        q = self.crystal.q(hkl)
        waves = self.crystal.waves(hkl, option)
        return Points(hkl, q, Amplitudes(shape, self.index, self.amplitudes(q), waves), groups or {})

    def _powder(self, shape: tuple[int, int]) -> None:
        options, cell = self.options, self.crystal.cell
        if options.powder == "none" or not options.q_max:
            return
        if options.powder == "direct":
            if not cell.pbc.all():
                raise InputError("structure: --powder direct: the cell does not repeat in all directions; use debye")
            self.powder = Shells(shape, self.index, self.isotopes, self.selected, options.probe, options.q_max, cell)
            return
        r_max = min(options.r_max, half_width(cell))
        if r_max < options.r_max:
            self.notes.append(f"S(Q) sums pairs up to {r_max:.2f} Å, half of the narrowest width of the cell")
        if not cell.pbc.all():
            self.notes.append("S(Q) holds the forward scattering of the body at small Q: the cell does not repeat in "
                              "all directions")
        q = grid(options.q_min, options.q_max)
        f = weighted(options.probe, self.isotopes, self.selected, q)
        self.powder = Debye(shape, self.kinds, self.index, f, q, r_max, cell)

    def measure(self, comm: MPI.Comm, replicas: Sequence[Replica], quiet: bool = True) -> None:
        """Read all frames of all replicas once, and those before time zero twice (collective)."""
        shape = len(replicas), len(self.axis.delay)
        with together(comm):
            cell = self.crystal.cell
            first = next(iter(replicas[0].moments(0))).s
        mean = MeanPositions(first, cell.pbc)
        measure(comm, replicas, np.flatnonzero(self.axis.before), [mean], quiet, "before time zero")
        reference = mean.s
        site, self.known_sites = sites(reference, self.index, self.crystal)
        if self.known_sites:
            reference = on_lattice(reference, site, self.crystal)
        if self.options.cells and not self.known_sites:
            self.notes.append("the atoms are not on the sites of a unit cell: displacements about the mean lattice are "
                              "about the mean position of each atom over the replicas")
        self.displaced = Displaced(shape, self.index, len(self.kinds), self.mass, reference, site)
        self._regions(replicas, shape, first)
        everything: list[Measurement | None] = [
            self.peaks.measured if self.peaks else None, *(p.measured for p in self.lines.values()),
            *(p.measured for p in self.planes.values()), self.powder, self.displaced, self.temperatures,
            self.excitations]
        measure(comm, replicas, np.arange(shape[1]), [m for m in everything if m is not None], quiet)
        self._say_weak()

    def _regions(self, replicas: Sequence[Replica], shape: tuple[int, int], first: np.ndarray) -> None:
        """Temperatures and excitations, where the frames have velocities and weights. first : (n, 3) fractional"""
        slabs = Slabs.of(self.options.slabs, "abc".index(self.options.axis), self.crystal.cell, first)
        where = Where.read(self.options.where) if self.options.where else None
        if all("v" in r.series.has for r in replicas):
            self.temperatures = Temperatures(shape, self.index, len(self.kinds), self.mass, slabs, where)
        else:
            self.notes.append("no temperatures: the frames have no velocities")
        if all(EXCITATION in r.series.has for r in replicas):
            self.excitations = Excitations(shape, self.index, len(self.kinds), slabs)

    def _say_weak(self) -> None:
        """Drop extinct reflections that nobody named, and say which of the named ones are extinct."""
        if self.peaks is None:
            return
        start = self.axis.reference(self.peaks.measured.total.mean(axis=0))
        strength = {name: float(start[rows].mean()) for name, rows in self.peaks.groups.items()}
        weak = [name for name, i in strength.items() if i < WEAK * max(strength.values())]
        if self.options.hkl and weak:
            self.notes.append(f"extinct, only diffuse scattering: {', '.join(weak)}")
        if not self.options.hkl:
            self.peaks.groups = {k: v for k, v in self.peaks.groups.items() if k not in weak}


def corners(words: Sequence[str], option: str, number: int, wanted: str) -> np.ndarray:
    """(number, 3) points that span a line or a plane. Raises InputError for another number of points."""
    found = read_hkl(words, option)
    if len(found) != number:
        raise InputError(f"structure: {option}: '{' '.join(words)}' are {len(found)} points; write {wanted}")
    return found
