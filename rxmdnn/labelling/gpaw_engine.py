"""Density-functional labels: revPBE-D3(BJ) in plane waves by GPAW, and the frames of ammonia worth its time.

GPAW runs in a Python of its own, which ``$RXMDNN_GPAW_PYTHON`` names, and is spoken to through a pipe
(``gpaw_worker.py``). The bulk frames have 8 molecules: the solid as 2 x 1 x 1 cells, the liquid in a box of that shape.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import ase
import numpy as np
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from rxmdnn.errors import InputError
from rxmdnn.labelling import ammonia_frames as frames

PYTHON = "RXMDNN_GPAW_PYTHON"
CUTOFF = 700.0  # eV
REACH = 9.5  # Å: the length that a cell, or the repeats that its k-points stand for, reaches
DENSE = 25.0  # Å^3 an atom: what is thinner is molecules in a box, at the Γ point
SETTINGS = (f"revPBE, D3(BJ) pairs, PAW setups 0.9.20000, plane waves {CUTOFF:.0f} eV, Monkhorst-Pack k-points 1 "
            f"(axes from {REACH} Angstrom, molecules in a box) or 2 (other axes), Fermi-Dirac 0.1 eV, free energy, "
            "mean force subtracted")


def kpoints(cell: np.ndarray, atoms: int, reach: float = REACH) -> list[int]:
    """Monkhorst-Pack numbers for a cell (3, 3), Å, of so many atoms."""
    if abs(np.linalg.det(cell)) / atoms > DENSE:
        return [1, 1, 1]
    return [int(np.ceil(reach / length - 1e-9)) for length in np.linalg.norm(cell, axis=1)]


class Gpaw(Calculator):
    """ASE calculator that asks a GPAW process of its own; a process that dies is started again.

    Parameters
    ----------
    cutoff : float, eV
    reach : float, Å; see ``kpoints``
    """

    implemented_properties = ["energy", "forces", "stress"]  # noqa: RUF012 (ASE's type)

    def __init__(self, cutoff: float = CUTOFF, reach: float = REACH) -> None:
        super().__init__()
        self.cutoff, self.reach = cutoff, reach
        self.notes: dict[str, str | float] = {}
        self.worker: subprocess.Popen[str] | None = None
        self._start()

    def _start(self) -> None:
        python = os.environ.get(PYTHON)
        if not python:
            raise InputError(f"${PYTHON} is not set; give the Python that imports gpaw and dftd3")
        self.worker = subprocess.Popen([python, str(Path(__file__).with_name("gpaw_worker.py"))], text=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.worker.stdout
        hello = self.worker.stdout.readline()
        if not hello:
            raise InputError(f"${PYTHON}={python} does not run gpaw and dftd3; its message is above")
        self.version = json.loads(hello)["version"]

    def calculate(self, atoms: ase.Atoms | None = None, properties: tuple[str, ...] = ("energy",),
                  system_changes: tuple[str, ...] = tuple(all_changes)) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.worker and self.worker.stdin and self.worker.stdout
        cell = np.asarray(self.atoms.cell)
        kpts = kpoints(cell, len(self.atoms), self.reach)
        request = {"numbers": self.atoms.numbers.tolist(), "positions": self.atoms.positions.tolist(),
                   "cell": cell.tolist(), "kpts": kpts, "cutoff": self.cutoff, "stress": "stress" in properties}
        try:
            self.worker.stdin.write(json.dumps(request) + "\n")
            self.worker.stdin.flush()
            reply = json.loads(self.worker.stdout.readline() or "{}")
        except BrokenPipeError:
            reply = {}
        if "energy" not in reply:
            fault = reply.get("error", "the process ended")
            print(f"GPAW: {fault}", file=sys.stderr)
            if not reply:
                self.worker.kill()
                self.worker.wait()
                self._start()
            raise CalculationFailed(fault)
        self.results = {"energy": reply["energy"], "forces": np.array(reply["forces"])}
        if reply["stress"]:
            self.results["stress"] = np.array(reply["stress"])
        self.notes = {"kpoints": " ".join(map(str, kpts)), "net_force": reply["net_force"],
                      "iterations": reply["iterations"]}

    def __del__(self) -> None:
        if self.worker and self.worker.stdin:
            self.worker.stdin.close()  # the end of its input ends the process
            self.worker.wait()


@cache
def gpaw() -> Gpaw:
    """The one calculator of this process: its GPAW stays, with the densities of its last cells."""
    return Gpaw()


# ---------------------------------------------------------------------------------------------------------------------
# Frames
# ---------------------------------------------------------------------------------------------------------------------

WAVENUMBERS = {"translation": (76, 112, 116, 179), "libration": (316, 345, 365, 435, 603), "stretch": (3296, 3428),
               "bend": (1135, 1655)}  # cm^-1: the harmonic solid at a = 5.084 Å; bend is umbrella, scissors
RELAXED = (0.203175, (0.363670, 0.273269, 0.102865), 5.084)  # crystal relaxed with this functional; r(NH) 1.026 Å
MASSES = np.array([14.007, 1.008, 1.008, 1.008])
HBAR = 16.8576  # amu Å^2 cm^-1: ħ/2m of a wavenumber is HBAR / (m ν)
KB = 0.6950348  # cm^-1/K


def width(wavenumber: float | np.ndarray, mass: float, temperature: float) -> np.ndarray:
    """Quantum root-mean-square displacement (Å √amu / √mass) of a harmonic mode of ``wavenumber`` cm^-1, K."""
    nu = np.asarray(wavenumber, float)
    return np.sqrt(HBAR / (mass * nu) / np.tanh(nu / (2 * KB * temperature)))


def internal_modes(arms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The six vibrations of a molecule: (6, 4, 3) mass-weighted orthonormal patterns, and their wavenumbers (6,).

    ``arms`` (3, 3), Å: H from N. The stretches are the bonds' own directions less translation and rotation; the rest
    of the internal space is bends, of which the umbrella is the one that keeps the threefold axis.
    """
    x = np.vstack([np.zeros(3), arms])
    x = x - MASSES @ x / MASSES.sum()
    root = np.sqrt(MASSES)[:, None]
    rigid = [root * e for e in np.eye(3)] + [root * np.cross(e, x) for e in np.eye(3)]
    bonds = np.zeros((3, 4, 3))
    for k in range(3):
        u = arms[k] / np.linalg.norm(arms[k])
        bonds[k, [0, k + 1]] = [-u, u]
    bonds /= root
    bonds[0] = bonds.sum(0)  # the symmetric stretch first
    axis = -arms.sum(0) / np.linalg.norm(arms.sum(0))
    umbrella = np.vstack([axis, np.tile(-axis, (3, 1))]) * root
    rows = np.array([*rigid, *bonds, umbrella]).reshape(10, 12)
    q = np.linalg.qr(rows.T, mode="complete")[0].T  # Gram-Schmidt in this order; the last two: what remains
    (low, high), (umbrella_nu, scissors) = WAVENUMBERS["stretch"], WAVENUMBERS["bend"]
    return q[6:].reshape(6, 4, 3), np.array([low, high, high, umbrella_nu, scissors, scissors], float)


def internal(x: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Displace the molecules (n, 4, 3) along their vibrations with the quantum widths at ``temperature`` (K)."""
    x = x.copy()
    for m in x:
        modes, nu = internal_modes(m[1:] - m[:1])
        kick = rng.normal(size=6) * width(nu, 1.0, temperature)
        m += np.tensordot(kick, modes, 1) / np.sqrt(MASSES)[:, None]
    return x


def quantum(x: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """Displace as the quantum-harmonic solid does: rigid molecules translate and librate, and vibrate inside."""
    n = len(x)
    x = internal(x, temperature, rng)
    center = x[:, :1] + rng.normal(size=(n, 1, 3)) * width(rng.choice(WAVENUMBERS["translation"], (n, 1, 3)), 17.03,
                                                           temperature)
    inertia = 1.94  # amu Å^2: harmonic mean of 1.70 (twice) and 2.71
    turns = rng.normal(size=(n, 3)) * width(rng.choice(WAVENUMBERS["libration"], (n, 3)), inertia, temperature)
    return np.concatenate([center, center + frames.turn(x[:, 1:] - x[:, :1], turns)], 1)


Molecules = tuple[np.ndarray, np.ndarray]
NEAREST = np.array([[2.1, 1.3], [1.3, 1.0]])[np.ix_([0, 1, 1, 1], [0, 1, 1, 1])]  # Å, of atoms of two molecules


def clear(h: np.ndarray, x: np.ndarray) -> bool:
    """Whether no two molecules are nearer than ``NEAREST``: what lies further up the wall is not worth a label."""
    d = np.linalg.norm(frames.minimum_image(h, x[:, None, :, None] - x[None, :, None]), axis=-1)
    d[np.arange(len(x)), np.arange(len(x))] = 99.0
    return bool((d > NEAREST).all())


def cleared(source: frames.Source) -> frames.Source:
    """Draw again until the frame is ``clear``."""
    def draw(given: dict, rng: np.random.Generator) -> Molecules:
        while not clear(*(made := source(given, rng))):
            pass
        return made
    return draw


def _crystal(given: dict, rng: np.random.Generator) -> Molecules:
    h, x = frames.strain(*frames.solid(given["a"], (2, 1, 1), *RELAXED), given.get("strain", 0.0), rng)
    displace = quantum if given["spread"] == "quantum" else frames.thermal
    return h, displace(x, given["temperature"], rng)


def _some(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(len(x))[: rng.integers(1, 3)]


def _stretched(given: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(given, rng)
    return h, frames.stretch(x, _some(x, rng), 0.8, 1.5, rng)


def _rotated(given: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(given, rng)
    return h, frames.rotate(x, _some(x, rng), rng)


def _inverted(given: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(given, rng)
    return h, frames.invert(x, _some(x, rng), rng)


def _close(given: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(given, rng)
    return h, frames.approach(h, x, given["pair"], given["distance"], rng)


def _liquid(given: dict, rng: np.random.Generator) -> Molecules:
    """Random packing, then Langevin dynamics with GFN1-xTB: a sampler only, which a small cell serves."""
    from tblite.ase import TBLite

    h, x = frames.liquid(8, given["density"], rng, 1.75)
    atoms = frames.to_ase(h, x)
    sampler = TBLite(method="GFN1-xTB", accuracy=1.0, max_iterations=300, verbosity=0)
    steps = int(given["sampled"])
    x = frames.langevin(atoms, sampler, given["temperature"], steps, [steps], rng)[0].positions.reshape(-1, 4, 3)
    return h, internal(x, given["temperature"], rng) if given["spread"] == "quantum" else x


def _monomer(given: dict, rng: np.random.Generator) -> Molecules:
    x = frames.rotate(frames.molecule(1.022, 106.3)[None] + 4.25, np.array([0]), rng)
    path = given["path"]
    if path == "stretch":
        x = frames.stretch(x, np.array([0]), 0.75, 1.6, rng)
    elif path == "inversion":
        x = frames.invert(x, np.array([0]), rng)
    return np.eye(3) * 8.5, internal(x, given["temperature"], rng) if path == "vibration" else x


def _dimer(given: dict, rng: np.random.Generator) -> Molecules:
    h, x = frames.dimer(10.0, given["distance"], rng)
    if given["pair"] != "NN":
        x = frames.approach(h, x, given["pair"], given["distance"], rng)
    return h, internal(x, given["temperature"], rng)


KINDS: dict[str, frames.Source] = {kind: cleared(source) for kind, source in {
    "solid": _crystal, "liquid": _liquid, "hot": _crystal, "close": _close, "stretched": _stretched,
    "rotated": _rotated, "inverted": _inverted, "monomer": _monomer, "dimer": _dimer,
}.items()}
VOLUMES = (4.95, 5.0, 5.05, 5.1, 5.15, 5.2, 5.25)  # Å: few, because a frame starts from the last density of its cell


def plan(share: float = 1.0) -> list[frames.Task]:
    """The frames for the functional, kinds interleaved: every beginning of the list is a balanced set."""
    placed: list[tuple[float, frames.Task]] = []

    def add(kind: str, count: int, draw: Callable[[np.random.Generator, int], dict[str, float | str]]) -> None:
        rng = np.random.default_rng([20262, *map(ord, kind)])
        placed.extend(((k + 0.5) / count, frames.Task(kind, k, draw(rng, k))) for k in range(count))

    def bulk(rng: np.random.Generator, low: float, high: float, spread: str, strained: bool = False
             ) -> dict[str, float | str]:
        given: dict[str, float | str] = {"a": float(rng.choice(VOLUMES)), "temperature": round(rng.uniform(low, high)),
                                         "spread": spread}
        return given | ({"strain": 0.01, "stress": "yes"} if strained else {})

    def dense(rng: np.random.Generator, k: int) -> dict[str, float | str]:
        given: dict[str, float | str] = {"density": round(rng.uniform(0.6, 0.76), 3), "sampled": 150,
                                         "temperature": round(rng.uniform(190, 600)), "spread": either(k)}
        return given | ({"stress": "yes"} if k % 5 == 0 else {})

    def either(k: int) -> str:
        return "quantum" if k % 2 else "classical"

    names = ("HH", "NH", "NN")
    bulk_pair = {"HH": (1.1, 1.9), "NH": (1.4, 2.2), "NN": (2.2, 3.0)}
    free_pair = {"HH": (1.1, 2.6), "NH": (1.4, 3.2), "NN": (2.4, 5.2)}
    add("solid", 170, lambda rng, k: bulk(rng, 5, 300, "quantum", k % 4 == 0))
    add("hot", 60, lambda rng, k: bulk(rng, 50, 600, "classical", k % 4 == 0))
    add("liquid", 120, dense)
    add("close", 48, lambda rng, k: bulk(rng, 50, 300, either(k)) | {
        "pair": names[k % 3], "distance": round(rng.uniform(*bulk_pair[names[k % 3]]), 3)})
    add("stretched", 40, lambda rng, k: bulk(rng, 50, 300, either(k)))
    add("rotated", 42, lambda rng, k: bulk(rng, 50, 300, either(k)))
    add("inverted", 24, lambda rng, k: bulk(rng, 50, 300, either(k)))
    add("monomer", 45, lambda rng, k: {"temperature": round(rng.uniform(50, 900)),
                                       "path": ("vibration", "stretch", "inversion")[k % 3]})
    add("dimer", 75, lambda rng, k: {"temperature": round(rng.uniform(50, 300)), "pair": names[k % 3],
                                     "distance": round(rng.uniform(*free_pair[names[k % 3]]), 3)})
    order = [task for _, task in sorted(placed, key=lambda p: (p[0], p[1].kind))]
    return order[: max(1, round(len(order) * share))]


def convergence(path: Path, frame: ase.Atoms) -> None:
    """Table of the energy and forces of a frame against cutoff and k-points, as CSV; the last row is the reference."""
    made = []
    for cutoff, reach in ((600.0, REACH), (CUTOFF, REACH), (CUTOFF, 1.0), (CUTOFF, 1.5 * REACH), (900.0, REACH)):
        atoms = frame.copy()
        atoms.calc = Gpaw(cutoff, reach)
        made.append((cutoff, kpoints(np.asarray(atoms.cell), len(atoms), reach), atoms.get_potential_energy(),
                     atoms.get_forces(), atoms.calc.notes["net_force"]))
    with path.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["frame", "cutoff_eV", "kpoints", "energy_eV", "force_rms_difference_eV_per_A",
                        "force_max_difference_eV_per_A", "net_force_eV_per_A"])
        for cutoff, kpts, energy, forces, net in made:
            d = forces - made[1][3]
            table.writerow([frame.info.get("group", ""), cutoff, " ".join(map(str, kpts)), f"{energy:.5f}",
                            f"{np.sqrt((d**2).mean()):.5f}", f"{abs(d).max():.5f}", f"{net:.5f}"])
