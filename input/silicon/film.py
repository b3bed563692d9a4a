"""A (001) film of silicon, 2×1 reconstructed on both sides, 16 layers: ``python film.py`` writes film.xyz."""

from pathlib import Path

import ase.io
import numpy as np
from ase.build import diamond100
from ase.optimize import BFGS

import rxmdnn

A, VACUUM = 5.40, 30.0  # Å

if __name__ == "__main__":
    here = Path(__file__).parent
    made = diamond100("Si", (1, 2, 16), A, vacuum=VACUUM / 2)
    made.pbc = True
    top, bottom = (np.argsort(made.positions[:, 2])[k] for k in (slice(-2, None), slice(0, 2)))
    for pair in (top, bottom):  # dimers
        apart = made.get_distance(*pair, mic=True, vector=True)
        made.positions[pair[0]] += 0.15 * apart
        made.positions[pair[1]] -= 0.15 * apart
    made.calc = rxmdnn.Calculator(str(here / "silicon_300K.safetensors"), precision="float64")
    BFGS(made, logfile=None).run(fmax=0.01, steps=300)
    made.calc = None
    made.wrap()
    del made.arrays["tags"]
    made.info.clear()
    ase.io.write(here / "film.xyz", made, format="extxyz")
