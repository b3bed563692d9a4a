"""A methanol molecule in vacuum labelled by GFN1-xTB (tblite): ``python labels.py`` writes frames.xyz.

Langevin dynamics at three temperatures, from which frames 30 fs apart are taken, each as it is, without periodic
boundaries and without a cell. Seeds are fixed.
"""

from pathlib import Path

import ase.io
import numpy as np
import tblite.ase
from ase import units
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS

TEMPERATURES = (150, 300, 600, 900)  # K
TRAJECTORIES, FRAMES, APART, SETTLE = 4, 25, 60, 400  # per temperature; per trajectory; steps of 0.5 fs


def trajectory(temperature: float, seed: int) -> list:
    """Labelled frames of the molecule at one temperature."""
    rng = np.random.default_rng(seed)
    atoms = molecule("CH3OH")
    atoms.calc = tblite.ase.TBLite(method="GFN1-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.02)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
    motion = Langevin(atoms, 0.5 * units.fs, temperature_K=temperature, friction=0.01, rng=rng)
    motion.run(SETTLE)
    frames = []
    for number in range(FRAMES):
        motion.run(APART)
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(frame, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        frame.info = {"engine": "GFN1-xTB", "version": "tblite", "kind": f"md_{temperature}K",
                      "group": f"{temperature}K-{seed}", "number": number, "temperature": temperature}
        del frame.arrays["momenta"]
        frames.append(frame)
    return frames


if __name__ == "__main__":
    found = [frame for t in TEMPERATURES for k in range(TRAJECTORIES) for frame in trajectory(t, 10 * t + k)]
    ase.io.write(Path(__file__).parent / "frames.xyz", found, format="extxyz")
    print(f"{len(found)} frames")
