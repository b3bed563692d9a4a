"""Frames of ammonia for a density functional: few and small, with the displacements of the quantum-harmonic solid.

Bulk frames have 8 molecules: the solid as 2 x 1 x 1 cells, the liquid in a box of that shape. A system of molecules is
(h, x) as in ``ammonia_frames``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rxmdnn.labelling import ammonia_frames as frames

WAVENUMBERS = {"translation": (76, 112, 116, 179), "libration": (316, 345, 365, 435, 603), "stretch": (3296, 3428),
               "bend": (1135, 1655)}  # cm^-1: the harmonic solid at a = 5.084 Å; bend is umbrella, scissors
RELAXED = (0.203175, (0.363670, 0.273269, 0.102865), 5.084)  # crystal relaxed with revPBE-D3(BJ); r(NH) 1.026 Å
MASSES = np.array([14.007, 1.008, 1.008, 1.008])
HBAR = 16.8576  # amu Å^2 cm^-1: ħ/2m of a wavenumber is HBAR / (m ν)
KB = 0.6950348  # cm^-1/K


def quantum_width(wavenumber: float | np.ndarray, mass: float, temperature: float) -> np.ndarray:
    """Quantum root-mean-square displacement of a harmonic mode, Å: ``wavenumber`` in cm^-1, mass in amu, K."""
    nu = np.asarray(wavenumber, float)
    return np.sqrt(HBAR / (mass * nu) / np.tanh(nu / (2 * KB * temperature)))


def internal_modes(arms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The six vibrations of a molecule: (6, 4, 3) mass-weighted orthonormal modes, and their wavenumbers (6,), cm^-1.

    ``arms`` (3, 3), Å: H relative to N. The stretches are along the bonds, orthogonal to translation and rotation; the
    rest of the internal space are bends, of which the umbrella is the one that preserves the threefold axis.
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
    q = np.linalg.qr(rows.T, mode="complete")[0].T  # Gram-Schmidt in this order; the last two complete the space
    (low, high), (umbrella_nu, scissors) = WAVENUMBERS["stretch"], WAVENUMBERS["bend"]
    return q[6:].reshape(6, 4, 3), np.array([low, high, high, umbrella_nu, scissors, scissors], float)


def vibrate(x: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """The molecules (n, 4, 3), Å, displaced along their vibrations with the quantum widths at ``temperature`` (K)."""
    x = x.copy()
    for m in x:
        modes, nu = internal_modes(m[1:] - m[:1])
        kick = rng.normal(size=6) * quantum_width(nu, 1.0, temperature)
        m += np.tensordot(kick, modes, 1) / np.sqrt(MASSES)[:, None]
    return x


def quantum_displace(x: np.ndarray, temperature: float, rng: np.random.Generator) -> np.ndarray:
    """The molecules (n, 4, 3), Å, displaced as in the quantum-harmonic solid: translation, libration, vibration."""
    n = len(x)
    x = vibrate(x, temperature, rng)
    center = x[:, :1] + rng.normal(size=(n, 1, 3)) * quantum_width(
        rng.choice(WAVENUMBERS["translation"], (n, 1, 3)), 17.03, temperature)
    inertia = 1.94  # amu Å^2: harmonic mean of 1.70 (twice) and 2.71
    turns = rng.normal(size=(n, 3)) * quantum_width(rng.choice(WAVENUMBERS["libration"], (n, 3)), inertia, temperature)
    return np.concatenate([center, center + frames.turn(x[:, 1:] - x[:, :1], turns)], 1)


Molecules = tuple[np.ndarray, np.ndarray]
NEAREST = np.array([[2.1, 1.3], [1.3, 1.0]])[np.ix_([0, 1, 1, 1], [0, 1, 1, 1])]  # Å: least distances between molecules


def has_no_contacts(h: np.ndarray, x: np.ndarray) -> bool:
    """Whether no two molecules are nearer than ``NEAREST``: closer contacts are too repulsive to be useful labels."""
    d = np.linalg.norm(frames.minimum_image(h, x[:, None, :, None] - x[None, :, None]), axis=-1)
    d[np.arange(len(x)), np.arange(len(x))] = 99.0
    return bool((d > NEAREST).all())


def without_contacts(source: frames.Source) -> frames.Source:
    """A source that draws again until the frame has no contacts."""
    def draw(parameters: dict, rng: np.random.Generator) -> Molecules:
        while not has_no_contacts(*(frame := source(parameters, rng))):
            pass
        return frame
    return draw


def _crystal(parameters: dict, rng: np.random.Generator) -> Molecules:
    h, x = frames.strain(*frames.solid(parameters["a"], (2, 1, 1), *RELAXED), parameters.get("strain", 0.0), rng)
    displace = quantum_displace if parameters["spread"] == "quantum" else frames.thermal
    return h, displace(x, parameters["temperature"], rng)


def _random_molecules(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(len(x))[: rng.integers(1, 3)]


def _stretched(parameters: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(parameters, rng)
    return h, frames.stretch(x, _random_molecules(x, rng), 0.8, 1.5, rng)


def _rotated(parameters: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(parameters, rng)
    return h, frames.rotate(x, _random_molecules(x, rng), rng)


def _inverted(parameters: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(parameters, rng)
    return h, frames.invert(x, _random_molecules(x, rng), rng)


def _close(parameters: dict, rng: np.random.Generator) -> Molecules:
    h, x = _crystal(parameters, rng)
    return h, frames.approach(h, x, parameters["pair"], parameters["distance"], rng)


def _liquid(parameters: dict, rng: np.random.Generator) -> Molecules:
    """Random packing, then Langevin dynamics with GFN1-xTB, which only samples."""
    from tblite.ase import TBLite

    h, x = frames.liquid(8, parameters["density"], rng, 1.75)
    atoms = frames.to_ase(h, x)
    sampler = TBLite(method="GFN1-xTB", accuracy=1.0, max_iterations=300, verbosity=0)
    steps = int(parameters["sampled"])
    x = frames.langevin(atoms, sampler, parameters["temperature"], steps, [steps], rng)[0].positions.reshape(-1, 4, 3)
    return h, vibrate(x, parameters["temperature"], rng) if parameters["spread"] == "quantum" else x


def _monomer(parameters: dict, rng: np.random.Generator) -> Molecules:
    x = frames.rotate(frames.molecule(1.022, 106.3)[None] + 4.25, np.array([0]), rng)
    path = parameters["path"]
    if path == "stretch":
        x = frames.stretch(x, np.array([0]), 0.75, 1.6, rng)
    elif path == "inversion":
        x = frames.invert(x, np.array([0]), rng)
    return np.eye(3) * 8.5, vibrate(x, parameters["temperature"], rng) if path == "vibration" else x


def _dimer(parameters: dict, rng: np.random.Generator) -> Molecules:
    h, x = frames.dimer(10.0, parameters["distance"], rng)
    if parameters["pair"] != "NN":
        x = frames.approach(h, x, parameters["pair"], parameters["distance"], rng)
    return h, vibrate(x, parameters["temperature"], rng)


KINDS: dict[str, frames.Source] = {kind: without_contacts(source) for kind, source in {
    "solid": _crystal, "liquid": _liquid, "hot": _crystal, "close": _close, "stretched": _stretched,
    "rotated": _rotated, "inverted": _inverted, "monomer": _monomer, "dimer": _dimer,
}.items()}
VOLUMES = (4.95, 5.0, 5.05, 5.1, 5.15, 5.2, 5.25)  # Å: few, because frames of one cell reuse its last density


def plan(share: float = 1.0) -> list[frames.Task]:
    """The tasks of the set, kinds interleaved: every beginning of the list is a balanced set; ``share`` < 1 is one."""
    placed: list[tuple[float, frames.Task]] = []

    def add(kind: str, count: int, draw: Callable[[np.random.Generator, int], dict[str, float | str]]) -> None:
        rng = np.random.default_rng([20262, *map(ord, kind)])
        placed.extend(((k + 0.5) / count, frames.Task(kind, k, draw(rng, k))) for k in range(count))

    def bulk(rng: np.random.Generator, low: float, high: float, spread: str, strained: bool = False
             ) -> dict[str, float | str]:
        parameters: dict[str, float | str] = {
            "a": float(rng.choice(VOLUMES)), "temperature": round(rng.uniform(low, high)), "spread": spread}
        return parameters | ({"strain": 0.01, "stress": "yes"} if strained else {})

    def dense(rng: np.random.Generator, k: int) -> dict[str, float | str]:
        parameters: dict[str, float | str] = {
            "density": round(rng.uniform(0.6, 0.76), 3), "sampled": 150, "temperature": round(rng.uniform(190, 600)),
            "spread": either(k)}
        return parameters | ({"stress": "yes"} if k % 5 == 0 else {})

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
