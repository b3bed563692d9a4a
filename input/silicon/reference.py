"""Silicon by GPAW itself: ``python3 reference.py OUT.json`` (the Python of GPAW; README.md).

Of electrons at 300 and 20,000 K: free and internal energy of diamond against the lattice constant, and the transverse
acoustic mode at the zone boundary X from displacements of the eight atoms of the cubic cell.
"""

import json
import sys

import numpy as np
from ase.build import bulk
from ase.units import kB
from gpaw import GPAW, PW, FermiDirac

SIZES = np.linspace(5.25, 5.67, 8)  # Å
AMPLITUDE = 0.04  # Å, of each atom
# Mode at X: the planes (001) of a half of the cell move together along [110] or [1-10], those of the other half back.
PHASE = {0: 1, 1: 1, 2: -1, 3: -1}  # quarter of the height: sign of the displacement


def calculator(temperature: float, k: int, bands: int, symmetric: bool) -> GPAW:
    return GPAW(mode=PW(220), xc="LDA", kpts={"size": (k, k, k)}, nbands=bands, maxiter=150, txt=None,
                symmetry={} if symmetric else {"point_group": False}, occupations=FermiDirac(kB * temperature))


def volumes(temperature: float) -> dict:
    """Energies per atom, eV, of the primitive cell."""
    free, internal = [], []
    for a in SIZES:
        atoms = bulk("Si", "diamond", a)
        atoms.calc = calculator(temperature, 6, 17 if temperature > 1e3 else 8, True)
        f = atoms.get_potential_energy(force_consistent=True)
        free.append(f / 2)
        internal.append((2 * atoms.get_potential_energy() - f) / 2)  # ASE's energy: the mean of both
    return {"a": SIZES.tolist(), "free": free, "internal": internal}


def zone_boundary(temperature: float, a: float) -> dict:
    """Force along the mode, eV/Å per atom, at the amplitude, and its curvature in eV/Å^2."""
    atoms = bulk("Si", "diamond", a, cubic=True)
    heights = np.round(atoms.positions[:, 2] / (a / 4)).astype(int) % 4
    pattern = np.zeros((8, 3))
    best = {}
    for name, along in (("[110]", (1, 1, 0)), ("[1-10]", (1, -1, 0))):
        pattern = np.array([PHASE[h] * np.array(along) / np.sqrt(2) for h in heights])
        moved = atoms.copy()
        moved.positions += AMPLITUDE * pattern
        moved.calc = calculator(temperature, 2 if temperature > 1e3 else 3, 66 if temperature > 1e3 else 20, False)
        force = float((moved.get_forces() * pattern).sum() / 8)
        best[name] = {"force": force, "curvature": -force / AMPLITUDE}
    return best


if __name__ == "__main__":
    found = {}
    for temperature in (300.0, 20000.0):
        found[f"{temperature:.0f}K"] = {"volumes": volumes(temperature), "X": zone_boundary(temperature, 5.40)}
        print(temperature, found[f"{temperature:.0f}K"], flush=True)
    with open(sys.argv[1], "w") as out:
        json.dump(found, out, indent=1)
