"""Frames of ammonia for labelling: solid, liquid, distorted and colliding molecules.

A system of molecules is (h, x): ``h`` (3, 3) float64, Å, rows are cell vectors, and ``x`` (n, 4, 3) float64, Å,
complete molecules in the order N, H, H, H. Every function draws from the generator that is passed in, so that a seed
determines a frame. Functions that need forces take an ASE calculator.

Crystal of phase I: space group P2_13, N at 4a (x, x, x), H at 12b (Hewat and Riekel, Acta Cryst. A 35 (1979) 569).
"""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np
from ase.calculators.calculator import Calculator
from ase.md.langevin import Langevin
from ase.spacegroup import crystal
from ase.units import fs
from scipy.spatial.transform import Rotation

from rxmdnn.labelling.task import Task

SYMBOLS = ("N", "H", "H", "H")
MASS_NH3 = 17.0305  # amu
KT_REFERENCE = 160.0  # K: temperature of the widths below
TRANSLATION, LIBRATION, STRETCH, BEND = 0.13, 0.13, 0.02, 0.045  # Å, rad, Å, Å: classical widths at KT_REFERENCE


def molecule(bond: float = 1.012, angle: float = 106.7) -> np.ndarray:
    """One molecule, (4, 3) float64, Å: N at the origin, three H at ``bond`` (Å), H-N-H ``angle`` (degrees), axis z."""
    sin_tilt = 2.0 / np.sqrt(3.0) * np.sin(np.radians(angle) / 2)  # of N-H against the axis
    phi = 2 * np.pi * np.arange(3) / 3
    h = np.stack([sin_tilt * np.cos(phi), sin_tilt * np.sin(phi), np.full(3, -np.sqrt(1 - sin_tilt**2))], 1)
    return np.vstack([np.zeros(3), bond * h])


def solid(a: float, cells: int | tuple[int, int, int] = 2, x_n: float = 0.2107,
          x_h: tuple[float, float, float] = (0.3689, 0.2671, 0.1159), known_at: float = 5.1305,
          ) -> tuple[np.ndarray, np.ndarray]:
    """The crystal at lattice parameter ``a`` (Å), replicated; the shape of the molecules does not depend on ``a``.

    The shape is that of the fractional coordinates ``x_n`` (on all three axes) and ``x_h`` at a = ``known_at`` (Å).
    """
    repeats = np.array([cells] * 3 if isinstance(cells, int) else cells)
    unit = crystal(["N", "H"], [(x_n,) * 3, x_h], spacegroup=198, cellpar=[known_at] * 3 + [90] * 3)
    s = unit.get_scaled_positions()
    n, h = s[unit.numbers == 7], s[unit.numbers == 1]
    d = h[None] - n[:, None]
    d -= np.round(d)
    nearest = np.argsort((d**2).sum(2), axis=1)[:, :3]
    shape = np.concatenate([np.zeros((len(n), 1, 3)), np.take_along_axis(d, nearest[..., None], 1)], 1) * known_at
    shift = np.stack(np.meshgrid(*map(np.arange, repeats), indexing="ij"), -1).reshape(-1, 1, 3)
    x = ((n[None] + shift) * a)[:, :, None] + shape[None]
    return np.diag(a * repeats), x.reshape(-1, 4, 3)


def strain(h: np.ndarray, x: np.ndarray, size: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(h, x) after a random symmetric strain of standard deviation ``size``; molecules move rigidly."""
    e = rng.normal(0.0, size, (3, 3))
    deform = np.eye(3) + (e + e.T) / 2
    return h @ deform, x + (x[:, :1] @ deform - x[:, :1])


def thermal(x: np.ndarray, temperature: float, rng: np.random.Generator, inner: float = 1.0) -> np.ndarray:
    """The molecules displaced as by phonons of the solid at ``temperature`` (K): translation, libration, stretch, bend.

    Widths are proportional to √T; ``inner`` multiplies those of stretch and bend (about 2.5 at 160 K is the quantum
    width).
    """
    n, scale = len(x), np.sqrt(temperature / KT_REFERENCE)
    center, arms = x[:, :1], x[:, 1:] - x[:, :1]
    along = arms / np.linalg.norm(arms, axis=2, keepdims=True)
    kick = rng.normal(0.0, 1.0, arms.shape)
    radial = (kick * along).sum(2, keepdims=True) * along
    arms = arms + inner * scale * (STRETCH * radial + BEND * (kick - radial))
    arms = turn(arms, rng.normal(0.0, LIBRATION * scale, (n, 3)))
    center = center + rng.normal(0.0, TRANSLATION * scale, center.shape)
    return np.concatenate([center, center + arms], 1)


def turn(arms: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The arms (n, k, 3) of each molecule, rotated by its rotation vector (n, 3), rad."""
    return np.einsum("nab,nkb->nka", Rotation.from_rotvec(rotation).as_matrix(), arms)


def rotate(x: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The molecules, those of ``which`` in a uniformly random orientation about their N."""
    x = x.copy()
    x[which] = x[which, :1] + turn(x[which] - x[which, :1], Rotation.random(len(which), random_state=rng).as_rotvec())
    return x


def stretch(x: np.ndarray, which: np.ndarray, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """The molecules, with one to three N-H bonds of those in ``which`` set to random lengths in [low, high], Å."""
    x = x.copy()
    for m in which:
        for h in rng.permutation(3)[: rng.integers(1, 4)] + 1:
            arm = x[m, h] - x[m, 0]
            x[m, h] = x[m, 0] + arm * rng.uniform(low, high) / np.linalg.norm(arm)
    return x


def invert(x: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The molecules, those of ``which`` on their inversion path: height of N above the H plane times 1.2 to -1.2.

    N moves; the triangle of H opens so that bond lengths are unchanged.
    """
    x = x.copy()
    for m in which:
        middle = x[m, 1:].mean(0)
        axis = x[m, 0] - middle
        height = np.linalg.norm(axis)
        axis /= height
        spoke = x[m, 1:] - middle
        bond_sq = ((x[m, 1:] - x[m, 0]) ** 2).sum(1)
        new = height * rng.uniform(-1.2, 1.2)
        flat = spoke - (spoke @ axis)[:, None] * axis
        flat *= (np.sqrt(bond_sq - new**2) / np.linalg.norm(flat, axis=1))[:, None]
        x[m, 0] = middle + new * axis
        x[m, 1:] = middle + flat
    return x


def minimum_image(h: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Shortest images of differences (..., 3), Å, in a nearly cubic cell."""
    return d - np.round(d @ np.linalg.inv(h)) @ h


def approach(h: np.ndarray, x: np.ndarray, kind: str, distance: float, rng: np.random.Generator) -> np.ndarray:
    """The molecules, one of them shifted until a pair of atoms of ``kind`` (HH, NH or NN) is ``distance`` (Å) apart.

    The pair is the closest of that kind between a random molecule and its nearest other one.
    """
    x = x.copy()
    m = int(rng.integers(len(x)))
    d = minimum_image(h, x[:, None, :, None] - x[m, None, :][None, None])  # (n, 1, 4, 4, 3): from m to the others
    d = d[:, 0]
    d[m] = 99.0
    rows = {"HH": (slice(1, 4), slice(1, 4)), "NH": (slice(0, 1), slice(1, 4)), "NN": (slice(0, 1), slice(0, 1))}[kind]
    d = d[:, rows[0], rows[1]].reshape(len(x), -1, 3)
    r = np.linalg.norm(d, axis=2)
    other, pair = np.unravel_index(int(r.argmin()), r.shape)
    x[other] += d[other, pair] * (distance / r[other, pair] - 1.0)
    return x


def liquid(n: int, density: float, rng: np.random.Generator, aspect: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """``n`` molecules packed at random at ``density`` (g/cm^3); least distances are reduced until all fit.

    The box is a cube, or has its first axis ``aspect`` times as long as the others.
    """
    h = np.diag([aspect, 1.0, 1.0]) * (n * MASS_NH3 / 0.602214076 / density / aspect) ** (1 / 3)
    contact = np.array([[3.1, 2.3], [2.3, 2.0]])[np.ix_([0, 1, 1, 1], [0, 1, 1, 1])]
    while True:
        placed: list[np.ndarray] = []
        for _ in range(3000):
            arms = molecule() @ Rotation.random(random_state=rng).as_matrix().T
            new = rng.uniform(size=3) @ h + arms
            r = np.linalg.norm(minimum_image(h, np.array(placed).reshape(-1, 4, 1, 3) - new), axis=3)
            if (r > contact).all():
                placed.append(new)
            if len(placed) == n:
                return h, np.array(placed)
        contact = contact * 0.97


def dimer(box: float, distance: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two molecules of random orientation, N-N distance ``distance`` (Å), in an empty cube of side ``box`` (Å)."""
    arms = np.stack([molecule() @ m.T for m in Rotation.random(2, random_state=rng).as_matrix()])
    axis = rng.normal(size=3)
    centers = np.outer([-0.5, 0.5], axis / np.linalg.norm(axis)) * distance + box / 2
    return np.eye(3) * box, centers[:, None] + arms


def to_ase(h: np.ndarray, x: np.ndarray) -> ase.Atoms:
    """A periodic ASE structure of the molecules."""
    return ase.Atoms(SYMBOLS * len(x), positions=x.reshape(-1, 3), cell=h, pbc=True)


def langevin(atoms: ase.Atoms, calculator: Calculator, temperature: float, steps: int, keep: list[int],
             rng: np.random.Generator, dt: float = 1.5, friction: float = 0.03) -> list[ase.Atoms]:
    """Frames at the steps ``keep`` of short Langevin dynamics (mass of H 3 amu: only for sampling).

    Parameters
    ----------
    temperature : float, K
    dt : float, fs
    friction : float, 1/fs

    Returns
    -------
    list of ase.Atoms, with the calculator's results attached by ``freeze``
    """
    atoms.calc = calculator
    atoms.set_masses([3.0 if s == "H" else 14.007 for s in atoms.symbols])
    sigma = np.sqrt(8.617333262e-5 * temperature / atoms.get_masses())[:, None]
    atoms.set_velocities(rng.normal(size=(len(atoms), 3)) * sigma)
    dynamics = Langevin(atoms, dt * fs, temperature_K=temperature, friction=friction / fs, rng=rng, fixcm=False)
    kept: list[ase.Atoms] = []
    for step in range(1, steps + 1):
        dynamics.run(1)
        if step in keep:
            kept.append(freeze(atoms))
    return kept


def freeze(atoms: ase.Atoms) -> ase.Atoms:
    """A copy that keeps energy (eV), forces (eV/Å) and, if computed, stress (eV/Å^3, tension positive).

    The energy is the one whose gradient the forces are: the free energy, where the calculator tells it. Constraints do
    not act on labels. A frame that is open along an axis has no stress.
    """
    copy = ase.Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    energy = atoms.get_potential_energy(apply_constraint=False)
    copy.arrays["forces"] = atoms.get_forces(apply_constraint=False)
    copy.info["energy"] = float(atoms.calc.results.get("free_energy", energy))
    if "stress" in atoms.calc.results and atoms.pbc.all():
        copy.info["stress"] = atoms.get_stress(voigt=False, apply_constraint=False)
    return copy


# ---------------------------------------------------------------------------------------------------------------------
# The plan: the frames of a set
# ---------------------------------------------------------------------------------------------------------------------


Source = Callable[[dict, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def _crystal(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    h, x = strain(*solid(parameters["a"]), parameters.get("strain", 0.0), rng)
    return h, thermal(x, parameters["temperature"], rng, parameters.get("inner", 1.0))


def _random_molecules(n: int, at_most: int, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(n)[: rng.integers(1, at_most + 1)]


def _stretched(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    h, x = _crystal(parameters, rng)
    return h, stretch(x, _random_molecules(len(x), 4, rng), 0.8, 1.5, rng)


def _rotated(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    h, x = _crystal(parameters, rng)
    return h, rotate(x, _random_molecules(len(x), 6, rng), rng)


def _inverted(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    h, x = _crystal(parameters, rng)
    return h, invert(x, _random_molecules(len(x), 4, rng), rng)


def _close(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    h, x = _crystal(parameters, rng)
    return h, approach(h, x, parameters["pair"], parameters["distance"], rng)


def _monomer(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    x = rotate(molecule()[None] + 6.0, np.array([0]), rng)
    x = thermal(x, parameters["temperature"], rng)
    path = parameters["path"]
    if path == "stretch":
        x = stretch(x, np.array([0]), 0.75, 1.7, rng)
    elif path == "inversion":
        x = invert(x, np.array([0]), rng)
    return np.eye(3) * 12.0, x


def _dimer(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    h, x = dimer(12.0, parameters["distance"], rng)
    if parameters["pair"] != "NN":
        x = approach(h, x, parameters["pair"], parameters["distance"], rng)
    return h, thermal(x, parameters["temperature"], rng)


def _liquid(parameters: dict, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return liquid(32, parameters["density"], rng)


KINDS: dict[str, Source] = {
    "liquid_md": _liquid, "solid_md": _crystal, "solid": _crystal, "close": _close, "stretched": _stretched,
    "rotated": _rotated, "inverted": _inverted, "monomer": _monomer, "dimer": _dimer,
}


def plan(share: float = 1.0) -> list[Task]:
    """The tasks of the GFN1-xTB set, longest first; ``share`` < 1: a smaller set with the same mixture of kinds."""
    tasks: list[Task] = []
    rng = np.random.default_rng()

    def add(kind: str, count: int, draw: Callable[[int], dict[str, float | str]]) -> None:
        nonlocal rng
        rng = np.random.default_rng([20261, len(kind), ord(kind[0]), ord(kind[-1])])
        tasks.extend(Task(kind, k, draw(k)) for k in range(max(1, round(count * share))))  # a smaller share: a prefix

    def bulk(low: float = 50, high: float = 600) -> dict[str, float | str]:
        return {"a": round(rng.uniform(4.85, 5.35), 4), "temperature": round(rng.uniform(low, high)), "strain": 0.01}

    liquids = [(0.62, 300), (0.72, 450), (0.68, 250), (0.65, 600), (0.62, 450), (0.70, 220), (0.65, 350), (0.72, 600)]
    add("liquid_md", 8, lambda k: {"density": liquids[k][0], "temperature": liquids[k][1], "steps": 170, "every": 10,
                                   "from": 20})
    solids = [(5.13, 150), (5.0, 300), (4.9, 200), (5.13, 300), (5.25, 250), (5.2, 450), (5.07, 100)]
    add("solid_md", 7, lambda k: {"a": solids[k][0], "temperature": solids[k][1], "steps": 90, "every": 12, "from": 18})
    add("solid", 120, lambda k: {**bulk(), "inner": round(rng.uniform(0.8, 1.6), 2)})
    pairs = {"HH": (1.0, 1.9), "NH": (1.3, 2.2), "NN": (2.1, 3.0)}
    names = list(pairs)
    add("close", 42, lambda k: {**bulk(50, 300), "pair": names[k % 3],
                                "distance": round(rng.uniform(*pairs[names[k % 3]]), 3)})
    add("stretched", 36, lambda k: bulk(50, 400))
    add("rotated", 30, lambda k: bulk(50, 400))
    add("inverted", 16, lambda k: bulk(50, 300))
    add("monomer", 36, lambda k: {"temperature": round(rng.uniform(50, 900)),
                                  "path": ("thermal", "stretch", "inversion")[k % 3]})
    near = {"HH": (0.7, 2.6), "NH": (1.1, 3.2), "NN": (1.8, 5.5)}
    add("dimer", 72, lambda k: {"temperature": round(rng.uniform(50, 400)), "pair": names[k % 3],
                                "distance": round(rng.uniform(*near[names[k % 3]]), 3)})
    return tasks
