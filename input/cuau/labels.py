"""Cu-Au alloys labelled by ASE's effective-medium theory (EMT): ``python labels.py`` writes frames.xyz.

Langevin dynamics of random alloys on the fcc lattice (32 atoms), nine compositions at three temperatures, from which
frames 200 fs apart are taken. Seeds are fixed.
"""

from pathlib import Path

import ase.io
import numpy as np
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

A = {"Cu": 3.61, "Au": 4.08}  # lattice constants of the elements, Å; alloys lie between (Vegard)
GOLD = range(0, 33, 4)  # atoms of 32
TEMPERATURES = (300, 600, 900)  # K
FRAMES, APART, SETTLE = 4, 40, 60  # per trajectory; steps of 5 fs


def trajectory(gold: int, temperature: float, seed: int) -> list:
    """Labelled frames of one alloy at one temperature."""
    rng = np.random.default_rng(seed)
    share = gold / 32
    atoms = bulk("Cu", "fcc", (1 - share) * A["Cu"] + share * A["Au"], cubic=True) * (2, 2, 2)
    atoms.symbols[rng.permutation(32)[:gold]] = "Au"
    atoms.set_cell(atoms.cell * (1 + rng.normal(0, 0.01, 3))[:, None], scale_atoms=True)
    atoms.calc = EMT()
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    motion = Langevin(atoms, 5 * units.fs, temperature_K=temperature, friction=0.02, rng=rng)
    motion.run(SETTLE)
    frames = []
    for number in range(FRAMES):
        motion.run(APART)
        frame = atoms.copy()
        frame.set_velocities(np.zeros((32, 3)))
        frame.calc = SinglePointCalculator(frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces(),
                                           stress=atoms.get_stress())
        frame.info = {"engine": "EMT", "version": f"ase {ase.__version__}", "kind": f"md_{temperature}K",
                      "group": f"Au{gold}-{temperature}K", "number": number, "temperature": temperature}
        del frame.arrays["momenta"]
        frames.append(frame)
    return frames


if __name__ == "__main__":
    found = [frame for k, (gold, t) in enumerate((g, t) for g in GOLD for t in TEMPERATURES)
             for frame in trajectory(gold, t, 100 + k)]
    ase.io.write(Path(__file__).parent / "frames.xyz", found, format="extxyz")
    print(f"{len(found)} frames")
