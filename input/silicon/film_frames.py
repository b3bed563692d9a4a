"""Frames of films and of the crystal near rest: ``python film_frames.py MODEL OUT.xyz [hot]`` (README.md).

Films (001) with 2×1 dimers on both sides, each tilted at random (symmetric dimers are unstable), after Langevin
dynamics on a model at 150 to 1,500 K: where the model leaves the physical, the last frame before; and diamond with
thermal displacements of 30 to 400 K and along the modes of the zone boundary X. 8 to 24 atoms each, order shuffled.
With ``hot`` the films are of 4 layers, for a model of hot electrons.
"""

import sys

import ase
import numpy as np
from ase import units
from ase.build import diamond100
from ase.md.langevin import Langevin
from frames import LEAST, MASS, VACUUM, cell, nearest, strained, thermal, write

import rxmdnn

DIMER = 0.15  # of the distance of its atoms, by which each moves towards the other
COLD = ("wafer {}x2", ((1, 8), (2, 6)), (150, 300, 300, 450, 600, 600, 900, 1500))  # kind, rows and layers, K
HOT = ("wafer hot", ((1, 4),), (150, 300, 300, 450, 600, 600, 900, 900, 1200, 1500))
PHASE = {0: 1, 1: 1, 2: -1, 3: -1}  # of reference.py


def film(rows: int, layers: int, a: float, rng: np.random.Generator) -> ase.Atoms:
    """A film with ``rows`` dimers along each surface, their tilts (difference of heights) 0 to 0.8 Å."""
    made = diamond100("Si", (rows, 2, layers), a, vacuum=VACUUM / 2)
    made.pbc = True
    order = np.argsort(made.positions[:, 2], kind="stable")
    for side in (order[:2 * rows], order[-2 * rows:]):
        for pair in np.array(sorted(side, key=lambda k: tuple(made.positions[k, :2]))).reshape(-1, 2):
            apart = made.get_distance(*pair, mic=True, vector=True)
            tilt = rng.choice([-0.5, 0.5]) * rng.uniform(0, 0.8)
            move = DIMER * apart + np.array([0, 0, tilt])
            made.positions[pair[0]] += move
            made.positions[pair[1]] -= move
    return made


def motion(atoms: ase.Atoms, model: rxmdnn.Calculator, temperature: float, steps: int, rng) -> ase.Atoms:
    """The atoms after dynamics on the model, 1 fs per step; the last frame whose atoms are LEAST apart."""
    moved = atoms.copy()
    moved.calc = model
    moved.set_velocities(rng.normal(size=moved.positions.shape) * np.sqrt(units.kB * temperature / MASS))
    dynamics = Langevin(moved, units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False)
    last = moved.copy()
    for _ in range(steps // 10):
        dynamics.run(10)
        if nearest(moved) < LEAST:
            break
        last = moved.copy()
    return last


def boundary(a: float, size: float, direction: tuple[int, int], rng: np.random.Generator) -> ase.Atoms:
    """The mode at X whose planes move along [110] (acoustic) or [1-10] (optical), of ``size`` Å, at 30 K."""
    atoms = cell(a)
    height = np.round(atoms.positions[:, 2] / (a / 4)).astype(int) % 4
    moved = thermal(atoms, 30.0, rng)
    moved.positions[:, :2] += np.array([PHASE[h] * np.array(direction) for h in height]) * size / np.sqrt(2)
    return moved


def plan(model: rxmdnn.Calculator, hot: bool, rng: np.random.Generator) -> list[tuple[str, ase.Atoms]]:
    """Kinds and frames."""
    found = []
    kind, sizes, temperatures = HOT if hot else COLD
    for rows, layers in sizes:
        for temperature in temperatures:
            made = film(rows, layers, float(rng.uniform(5.38, 5.43)), rng)
            found.append((kind.format(rows), motion(made, model, temperature, int(rng.uniform(60, 400)), rng)))
    for temperature in np.geomspace(30, 400, 10):
        made = strained(cell(float(rng.uniform(5.36, 5.45))), 0.003, rng)
        found.append(("warm", thermal(made, temperature, rng)))
    for size in (0.03, 0.06, 0.1, 0.15):
        for direction in ((1, 1), (1, -1)):
            found.append(("zone boundary", boundary(float(rng.uniform(5.37, 5.44)), size, direction, rng)))
    return found


if __name__ == "__main__":
    generator = np.random.default_rng(17)
    write(sys.argv[2], plan(rxmdnn.Calculator(sys.argv[1]), "hot" in sys.argv[3:], generator), generator, "b")
