"""The ASE calculator beside the engine's own force call: seconds per call with an unchanged neighbor list, in turns.

python tools/bench_ase.py [--cells 4] [--model input/ammonia/ammonia_legato.safetensors]
"""

import argparse
import os
from pathlib import Path
from time import perf_counter

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import ase.io
import numpy as np

from rxmdnn import Calculator

AMMONIA = Path(__file__).resolve().parent.parent / "input/ammonia"
SHAKE = 0.01  # Å: far less than half the skin


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--cells", type=int, default=4, help="crystal cells along each axis; 4 are 1,024 atoms")
    p.add_argument("--model", type=Path, default=AMMONIA / "ammonia_legato.safetensors")
    p.add_argument("--calls", type=int, default=20)
    a = p.parse_args()
    atoms = ase.io.read(AMMONIA / "solid_I.cif").repeat(a.cells)  # type: ignore[union-attr]
    atoms.calc = calculator = Calculator(a.model)
    atoms.get_forces()  # compiles, and makes the list
    system, start, rng = calculator.system, atoms.positions.copy(), np.random.default_rng(0)
    assert system is not None
    asked, alone = [], []
    for _ in range(a.calls):
        atoms.positions = start + rng.normal(scale=SHAKE, size=start.shape)
        begin = perf_counter()
        atoms.get_forces()
        asked.append(perf_counter() - begin)
        begin = perf_counter()
        system.forces.compute(system.atoms)
        alone.append(perf_counter() - begin)
    ratio = np.array(asked) / np.array(alone)
    print(f"{len(atoms)} atoms: calculator {np.median(asked):.4f} s, engine {np.median(alone):.4f} s per call; ratio "
          f"{np.median(ratio):.3f} (from {ratio.min():.3f} to {ratio.max():.3f}); {system.forces.builds} list(s)")


if __name__ == "__main__":
    main()
