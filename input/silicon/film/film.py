"""A (001) film of silicon of 16 layers: ``python film.py`` writes film.xyz beside it, of 64 atoms.

Dimers on both surfaces, tilted in turn along each row (2×2); relaxed on silicon_300K.safetensors.
"""

from pathlib import Path

import ase.io
import numpy as np
from ase.build import diamond100
from ase.optimize import BFGS

import rxmdnn

A, VACUUM = 5.40, 30.0  # Å
DIMER, TILT = 0.15, 0.35  # part of their distance, and Å of height, by which the two atoms of a dimer move


def start() -> ase.Atoms:
    """The cut crystal with tilted dimers on both sides."""
    made = diamond100("Si", (2, 2, 16), A, vacuum=VACUUM / 2)
    made.pbc = (True, True, False)
    order = np.argsort(made.positions[:, 2], kind="stable")
    for side in (order[:4], order[-4:]):
        pairs = np.array(sorted(side, key=lambda k: tuple(made.positions[k, :2]))).reshape(-1, 2)
        for pair, sign in zip(pairs, (1, -1)):
            along = made.get_distance(*pair, mic=True, vector=True)
            move = DIMER * along + np.array([0, 0, sign * TILT])
            made.positions[pair[0]] += move
            made.positions[pair[1]] -= move
    return made


if __name__ == "__main__":
    here = Path(__file__).parent
    film = start()
    film.calc = rxmdnn.Calculator(str(here / "silicon_300K.safetensors"), precision="float64")
    BFGS(film, logfile=None).run(fmax=0.01, steps=400)
    film.calc = None
    film.wrap()
    del film.arrays["tags"]
    film.info.clear()
    ase.io.write(here / "film.xyz", film, format="extxyz")
