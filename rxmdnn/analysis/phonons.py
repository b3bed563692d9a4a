"""Phonons of a crystal from forces: force constants by finite displacements, through `phonopy`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from rxmdnn.analysis.powder import PARTS, Sites
from rxmdnn.analysis.spectra import C_CM, MEV_PER_CM
from rxmdnn.errors import InputError
from rxmdnn.isotopes import element_of, named_by_mass

if TYPE_CHECKING:
    from ase import Atoms

THZ_TO_CM = 1e-3 / C_CM
SYMPREC = 1e-4  # Å: tolerance of symmetry
IMAGINARY = 3.0  # 1/cm, below minus which a mode counts as imaginary; the acoustic ones at Γ are zero by noise


@dataclass
class LatticeModes:
    """Modes at wave vectors.

    Attributes
    ----------
    q (n, 3) : wave vectors in units of the reciprocal vectors of the primitive cell; weight (n,) : sum to 1
    wavenumber (n, modes) : 1/cm, negative where imaginary
    vectors (n, modes, atoms, 3) complex : polarization vectors, Σ |e|² = 1 over atoms and axes; the displacement of an
        atom at x is Re e exp(iq·x), so that those at q + G differ from those at q by phases
    """

    q: np.ndarray
    weight: np.ndarray
    wavenumber: np.ndarray
    vectors: np.ndarray

    @property
    def imaginary(self) -> list[tuple[np.ndarray, float]]:
        """[(q, wavenumber)] of the imaginary modes, the largest first."""
        k, mode = np.nonzero(self.wavenumber < -IMAGINARY)
        found = sorted(zip(self.wavenumber[k, mode].tolist(), k.tolist()))
        return [(self.q[row], value) for value, row in found]


@dataclass
class Bands:
    """Branches along a path.

    segments : [(distance (n,), 1/Å; wavenumber (n, modes), 1/cm)]; ticks : [(distance, label)]
    path : the points in words, as ASE names them
    """

    segments: list[tuple[np.ndarray, np.ndarray]]
    ticks: list[tuple[float, str]]
    path: str


def phonopy() -> Any:
    """The package, or an InputError that says how to install it."""
    try:
        import phonopy as package
    except ImportError:
        raise InputError("phonons: needs the package phonopy: pip install 'rxmdnn[phonons]', or pip install phonopy"
                         ) from None
    return package


class HarmonicCrystal:
    """A crystal with its force constants.

    Attributes
    ----------
    names, isotopes (atoms,) : of the primitive cell, D and T by mass; mass (atoms,) amu
    x (atoms, 3) : positions, Å; cell (3, 3) : primitive vectors, Å
    phonopy : the object of the package, for whatever else it can do
    """

    def __init__(self, found: Any) -> None:
        self.phonopy = found
        primitive = found.primitive
        self.mass = np.array(primitive.masses)
        self.names = named_by_mass([element_of(s) for s in primitive.symbols], self.mass)
        self.x, self.cell = np.array(primitive.positions), np.array(primitive.cell)

    @classmethod
    def of(cls, atoms: Atoms, forces: Callable[[Atoms], np.ndarray], supercell: Sequence[int] = (1, 1, 1),
           distance: float = 0.01, report: Callable[[int, int], None] = lambda done, all_: None) -> HarmonicCrystal:
        """The crystal of a unit cell, from forces on displaced atoms of a supercell.

        Each displacement is taken forwards and backwards where symmetry does not do it, and the forces that remain
        without displacement are subtracted.

        Parameters
        ----------
        atoms : unit cell, periodic along all axes, at a minimum of its energy
        forces : ASE atoms of the supercell -> (n, 3) eV/Å
        supercell : multiples of the three vectors; distance : of displacements, Å
        report : called with the number of displacements that are done, and of all
        """
        from ase import Atoms as AseAtoms

        package = phonopy()
        unit = package.structure.atoms.PhonopyAtoms(symbols=[element_of(s) for s in atoms.get_chemical_symbols()],
                                                    cell=np.array(atoms.cell), masses=atoms.get_masses(),
                                                    scaled_positions=atoms.get_scaled_positions(wrap=True))
        with warnings.catch_warnings():  # of phonopy 4 on its choice of the primitive cell
            warnings.simplefilter("ignore")
            found = package.Phonopy(unit, np.diag(supercell), primitive_matrix="auto", symprec=SYMPREC, log_level=0)
        found.generate_displacements(distance=distance, is_plusminus=True)

        def of_cell(cell: Any) -> np.ndarray:
            return forces(AseAtoms(cell.symbols, positions=cell.positions, cell=cell.cell, pbc=True))

        still = of_cell(found.supercell)
        moved = found.supercells_with_displacements
        sets = []
        for k, cell in enumerate(moved):
            sets.append(of_cell(cell) - still)
            report(k + 1, len(moved))
        found.forces = np.array(sets)
        found.produce_force_constants()
        found.symmetrize_force_constants()
        return cls(found)

    def at(self, q: np.ndarray, weight: np.ndarray | None = None) -> LatticeModes:
        """Modes at wave vectors q (n, 3), in units of the reciprocal vectors. weight : (n,), default equal."""
        q = np.asarray(q, float).reshape(-1, 3)
        self.phonopy.run_qpoints(q, with_eigenvectors=True)
        found = self.phonopy.qpoints
        vectors = np.array(found.eigenvectors).swapaxes(1, 2).reshape(len(q), -1, len(self.mass), 3)
        share = np.full(len(q), 1.0 / len(q)) if weight is None else np.asarray(weight, float) / np.sum(weight)
        return LatticeModes(q, share, np.array(found.frequencies) * THZ_TO_CM, vectors)

    def mesh(self, n: Sequence[int]) -> LatticeModes:
        """Modes on a mesh of n_1 × n_2 × n_3 wave vectors, q and -q once; off Γ unless all three numbers are odd."""
        axes = [(np.arange(m) + 0.5) / m - 0.5 if m % 2 == 0 else (np.arange(m) - m // 2) / m for m in n]
        q = np.array(np.meshgrid(*axes, indexing="ij")).reshape(3, -1).T
        key = np.round(q * 2 * np.lcm.reduce(list(n))).astype(int)
        rows = {tuple(k): i for i, k in enumerate(key.tolist())}
        weight, kept = np.zeros(len(q)), []
        for i, k in enumerate(key):
            partner = rows.get(tuple((-k).tolist()), i)
            if partner < i:
                weight[partner] += 1
            else:
                weight[i] += 1
                kept.append(i)
        return self.at(q[kept], weight[kept])

    def bands(self, points: int = 60) -> Bands:
        """Branches along the path of ASE for this lattice; ``points`` per segment."""
        from ase.cell import Cell

        path = Cell(self.cell).bandpath(npoints=0)
        named, segments, ticks, at = path.special_points, [], [], 0.0
        reciprocal = np.linalg.inv(self.cell).T * 2 * np.pi
        for part in path.path.split(","):
            labels = _labels(part)
            ticks.append((at, labels[0]))
            for a, b in pairwise(labels):
                way = np.linspace(named[a], named[b], points)
                length = float(np.linalg.norm((named[b] - named[a]) @ reciprocal))
                segments.append((at + np.linspace(0, length, points), self.at(way).wavenumber))
                at += length
                ticks.append((at, b))
        return Bands(segments, _joined(ticks), path.path)

    def sites(self, modes: LatticeModes, width: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Directions and densities of the vibrations of every atom.

        They are averaged over the symmetry of the crystal, which a mesh may not have. Imaginary modes and those below
        IMAGINARY are left out.

        Parameters
        ----------
        width : meV, of the bins, centered at 0, width, ...

        Returns
        -------
        energy (bins,) meV; sums (1, atoms, bins, 6) for ``Sites.of``: Σ weight |e|² per bin; g (atoms, bins): the
        density, 1/meV, with integral 1 for a complete set of modes
        """
        cm = modes.wavenumber
        energy = cm * MEV_PER_CM
        n = int(max(energy.max(), 0.0) / width + 0.5) + 2
        at = np.clip((energy / width + 0.5).astype(int), 0, n - 1)
        good = cm > IMAGINARY
        sums = np.zeros((len(self.mass), n, 6))
        for k, (i, j, _) in enumerate(PARTS):
            product = np.real(modes.vectors[..., i] * modes.vectors[..., j].conj()) * modes.weight[:, None, None]
            for atom in range(len(self.mass)):
                sums[atom, :, k] = np.bincount(at[good], product[good][:, atom], n)
        sums = self._symmetric(sums)
        return np.arange(n) * width, sums[None], sums[..., :3].sum(axis=-1) / (3 * width)

    def _symmetric(self, sums: np.ndarray) -> np.ndarray:
        """(atoms, bins, 6) tensors, averaged over the operations of the space group."""
        found = self.phonopy.primitive_symmetry.symmetry_operations
        inside = self.x @ np.linalg.inv(self.cell)
        full = sums[..., [[0, 3, 4], [3, 1, 5], [4, 5, 2]]]
        out = np.zeros_like(full)
        for rotation, translation in zip(found["rotations"], found["translations"]):
            turned = inside @ rotation.T + translation
            apart = turned[:, None] - inside
            image = np.abs(apart - np.round(apart)).sum(axis=2).argmin(axis=1)
            cartesian = self.cell.T @ rotation @ np.linalg.inv(self.cell.T)
            out[image] += cartesian @ full @ cartesian.T
        out /= len(found["rotations"])
        return out[..., [i for i, _, _ in PARTS], [j for _, j, _ in PARTS]]

    def vibrations(self, modes: LatticeModes, width: float
                   ) -> dict[str, tuple[int, float, np.ndarray, np.ndarray, Sites]]:
        """{kind: (count, mass in amu, energy (k,) meV, g (k,) 1/meV, sites)}; arguments as of ``sites``."""
        energy, sums, g = self.sites(modes, width)
        out = {}
        for name in dict.fromkeys(self.names.tolist()):
            own = self.names == name
            out[name] = (int(own.sum()), float(self.mass[own].mean()), energy, g[own].mean(axis=0),
                         Sites.of(width, sums[:, own]))
        return out


def _labels(path: str) -> list[str]:
    """The points of a path such as GXWKGLUWLK or GX1A, which ASE writes without blanks."""
    out: list[str] = []
    for letter in path:
        if letter.isdigit() or letter == "'":
            out[-1] += letter
        else:
            out.append(letter)
    return out


def _joined(ticks: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Ticks, in which two labels at one place are one."""
    out: list[tuple[float, str]] = []
    for at, label in ticks:
        if out and abs(out[-1][0] - at) < 1e-9:
            out[-1] = (at, out[-1][1] if out[-1][1] == label else f"{out[-1][1]}|{label}")
        else:
            out.append((at, label))
    return out
