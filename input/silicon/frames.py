"""Frames of silicon to label: ``python frames.py OUT.xyz`` (README.md).

Diamond at several volumes and strains, thermal displacements, displacements along soft modes, liquid and disordered
frames, and films with free surfaces, 6 to 8 atoms each. Positions come from the potential of Stillinger and Weber;
the labels do not. Seeds are fixed; the order is shuffled, so that any first part is a sample of all kinds.
"""

import sys
from itertools import product

import ase
import ase.io
import numpy as np
from ase import units
from ase.build import bulk, diamond100, diamond111
from ase.calculators.calculator import Calculator, all_changes
from ase.md.langevin import Langevin
from ase.optimize import BFGS

A = 5.43  # Å
LEAST = 1.9  # Å: no two atoms are nearer
VACUUM = 8.0  # Å, above a film
EPSILON, SIGMA = 2.1683, 2.0951  # eV, Å
CUT = 1.8 * SIGMA
MASS = 28.085  # u


class StillingerWeber(Calculator):
    """Silicon of Stillinger and Weber, Phys. Rev. B 31, 5262 (1985), for cells of at least its cutoff."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's type)

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        x, n = self.atoms.positions, len(self.atoms)
        images = np.array(list(product(range(-1, 2), repeat=3))) @ np.asarray(self.atoms.cell)
        d = x[None, :, None] - x[:, None, None] + images
        r = np.sqrt((d**2).sum(-1))
        i, j, k = np.nonzero((r < CUT - 1e-6) & (r > 1e-3))
        d, r = d[i, j, k], r[i, j, k]
        u = d / r[:, None]
        tail = np.exp(SIGMA / (r - CUT))
        pair = 7.049556277 * EPSILON * (0.6022245584 * (SIGMA / r) ** 4 - 1) * tail
        slope = (-7.049556277 * EPSILON * 0.6022245584 * 4 * SIGMA**4 / r**5 * tail - pair * SIGMA / (r - CUT) ** 2)
        energy, gradient = 0.5 * pair.sum(), 0.5 * slope[:, None] * u  # of each directed pair
        near, near_slope = np.exp(1.2 * SIGMA / (r - CUT)), -1.2 * SIGMA / (r - CUT) ** 2
        p, q = np.nonzero(i[:, None] == i[None])
        p, q = p[p < q], q[p < q]
        c = (u[p] * u[q]).sum(1)
        angle = 21.0 * EPSILON * (c + 1 / 3) ** 2 * near[p] * near[q]
        bend = 42.0 * EPSILON * (c + 1 / 3) * near[p] * near[q]
        for one, other in ((p, q), (q, p)):
            turn = (bend / r[one])[:, None] * (u[other] - c[:, None] * u[one])
            np.add.at(gradient, one, turn + (angle * near_slope[one])[:, None] * u[one])
        forces = np.zeros((n, 3))
        np.add.at(forces, i, gradient)
        np.add.at(forces, j, -gradient)
        self.results = {"energy": float(energy + angle.sum()), "forces": forces}


def modelled(atoms: ase.Atoms) -> ase.Atoms:
    """The atoms with the potential that moves them."""
    atoms.calc = StillingerWeber()
    return atoms


def cell(a: float) -> ase.Atoms:
    """The perfect crystal in its cubic cell of 8 atoms, which folds the zone boundary X to Γ."""
    return bulk("Si", "diamond", a, cubic=True)


def modes(atoms: ase.Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Force constants (eV/Å^2, ascending, without translations) and displacement patterns (modes, atoms, 3)."""
    n, h = len(atoms), 0.01
    rows = []
    for k in range(3 * n):
        forces = []
        for sign in (1, -1):
            moved = modelled(atoms.copy())
            moved.positions.reshape(-1)[k] += sign * h
            forces.append(moved.get_forces().reshape(-1))
        rows.append((forces[1] - forces[0]) / (2 * h))
    values, vectors = np.linalg.eigh((np.array(rows) + np.array(rows).T) / 2)
    return values[3:], vectors.T[3:].reshape(-1, n, 3)


def thermal(atoms: ase.Atoms, temperature: float, rng: np.random.Generator) -> ase.Atoms:
    """Classical harmonic displacements at this temperature, K."""
    values, patterns = modes(atoms)
    size = np.sqrt(units.kB * temperature / np.maximum(values, 0.5)) * rng.normal(size=len(values))
    moved = atoms.copy()
    moved.positions += np.tensordot(size, patterns, 1)
    return moved


def soft(atoms: ase.Atoms, size: float, rng: np.random.Generator) -> ase.Atoms:
    """Displacements along the softest quarter of the modes, of this root mean square per atom in Å, and at 100 K."""
    _, patterns = modes(atoms)
    few = patterns[: len(patterns) // 4]
    along = np.tensordot(rng.normal(size=len(few)), few, 1)
    moved = thermal(atoms, 100.0, rng)
    moved.positions += along * size / np.sqrt((along**2).sum(1).mean())
    return moved


def motion(atoms: ase.Atoms, temperature: float, steps: int, rng: np.random.Generator) -> ase.Atoms:
    """The atoms after Langevin dynamics, 1 fs per step."""
    moved = modelled(atoms.copy())
    moved.set_velocities(rng.normal(size=moved.positions.shape) * np.sqrt(2 * units.kB * temperature / MASS))
    Langevin(moved, units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False).run(steps)
    return moved


def disordered(atoms: ase.Atoms, size: float, rng: np.random.Generator) -> ase.Atoms:
    """Gaussian displacements of this standard deviation, Å, drawn again until no two atoms are too near."""
    while True:
        moved = atoms.copy()
        moved.positions += rng.normal(0, size, moved.positions.shape)
        if nearest(moved) > LEAST:
            return moved
        size *= 0.97


def film(face: str, a: float) -> ase.Atoms:
    """A film with two free surfaces: (001) 2×1 of 4 layers or 1×1 of 8 layers, or (111) 1×1 of 6 layers."""
    if face == "111":
        made = diamond111("Si", (1, 1, 6), a, vacuum=VACUUM / 2)
    else:
        made = diamond100("Si", (1, 2, 4) if face == "001-2x1" else (1, 1, 8), a, vacuum=VACUUM / 2)
    made.pbc = True
    if face == "001-2x1":
        relaxed = modelled(made)
        relaxed.positions += np.random.default_rng(0).normal(0, 0.05, relaxed.positions.shape)
        BFGS(relaxed, logfile=None).run(fmax=0.05, steps=200)
    return made


def strained(atoms: ase.Atoms, size: float, rng: np.random.Generator) -> ase.Atoms:
    """The atoms in a cell with random symmetric strain of this standard deviation."""
    e = rng.normal(0, size, (3, 3))
    moved = atoms.copy()
    moved.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + (e + e.T) / 2), scale_atoms=True)
    return moved


def stretched(atoms: ase.Atoms, factor: float) -> ase.Atoms:
    """A film whose positions along its normal are multiplied by a factor; the cell grows as much."""
    moved = atoms.copy()
    box = np.asarray(atoms.cell).copy()
    box[2, 2] += (factor - 1) * np.ptp(moved.positions[:, 2])
    moved.positions[:, 2] *= factor
    moved.set_cell(box)
    return moved


def nearest(atoms: ase.Atoms) -> float:
    """The least distance between two atoms, Å, images included."""
    from ase.neighborlist import neighbor_list

    return float(min(neighbor_list("d", atoms, 3.0), default=3.0))


def plan(rng: np.random.Generator) -> list[tuple[str, ase.Atoms]]:
    """Kinds and frames."""
    found: list[tuple[str, ase.Atoms]] = []

    def add(kind: str, atoms: ase.Atoms) -> None:
        if nearest(atoms) > LEAST:
            found.append((kind, atoms))

    def size() -> float:
        return float(rng.uniform(5.30, 5.58))

    for a in np.linspace(5.22, 5.70, 7):
        add("volume", cell(a))
    for _ in range(8):
        add("strain", thermal(strained(cell(size()), 0.025, rng), 50.0, rng))
    for temperature in np.geomspace(50, 1500, 26):
        add("phonon", thermal(strained(cell(size()), 0.008, rng), temperature, rng))
    for large in np.linspace(0.08, 0.5, 14):
        add("soft", soft(cell(size()), large, rng))
    for large in np.linspace(0.15, 0.5, 10):
        add("disorder", disordered(cell(size()), large, rng))
    for k in range(12):
        melt = motion(cell(float(rng.uniform(5.15, 5.6))), 6000, 500, rng)
        add("liquid", motion(melt, 1500 + 200 * k, 300, rng))
    for face, temperatures in (("001-2x1", np.geomspace(50, 1800, 10)), ("001-1x1", (100, 600, 1200)),
                               ("111", (100, 400, 800, 1200, 1600))):
        for temperature in temperatures:
            add(f"film {face}", motion(film(face, float(rng.uniform(5.38, 5.48))), temperature, 200, rng))
    for factor in (0.97, 1.04, 1.08, 1.14):
        add("film stretched", stretched(motion(film("001-2x1", A), 500, 150, rng), factor))
    for temperature in (2000, 3000, 4000):
        add("film molten", motion(film("001-2x1", A), temperature, 400, rng))
    return found


def write(path: str, made: list[tuple[str, ase.Atoms]], rng: np.random.Generator, mark: str = "") -> None:
    """Write frames, each with its kind, in a random order. mark : tells the groups of this file from others"""
    frames = []
    for number in rng.permutation(len(made)):
        kind, atoms = made[number]
        frame = ase.Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=True)
        frame.info = {"kind": kind.replace(" ", "_"), "group": f"{kind.replace(' ', '_')}-{mark}{number}"}
        frames.append(frame)
    ase.io.write(path, frames, format="extxyz")
    print(f"{len(frames)} frames")


if __name__ == "__main__":
    generator = np.random.default_rng(16)
    write(sys.argv[1], plan(generator), generator)
