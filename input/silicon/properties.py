"""Diamond by both models: lattice constant, bulk modulus, phonons. ``python properties.py`` (README.md).

Writes properties.json and docs/silicon_phonons.png; reference.json holds what GPAW itself gives (reference.py).
"""

import json
from pathlib import Path

import ase
import matplotlib
import numpy as np
from ase.build import bulk
from ase.eos import EquationOfState
from ase.units import GPa, _amu, _e

import rxmdnn

matplotlib.use("Agg")
HERE = Path(__file__).parent
MASS = 28.085  # u
TO_THZ = np.sqrt(_e / _amu) * 1e10 / (2 * np.pi) * 1e-12  # of the root of eV/(Å² u)
CELLS, STEP = 4, 0.01  # cubic cells along an axis; Å
MEASURED = {"TA(X)": 4.49, "LA(X)": 12.32, "TO(X)": 13.90, "O(Γ)": 15.53, "TA(L)": 3.43}  # THz, Nilsson and Nelin 1972


def model(temperature: str) -> rxmdnn.Calculator:
    return rxmdnn.Calculator(str(HERE / f"silicon_{temperature}.safetensors"), precision="float64")


def lattice(energies, sizes: np.ndarray) -> dict:
    """Equilibrium by the Birch-Murnaghan equation from energies per atom at lattice constants; none at an edge."""
    energies = np.asarray(energies)
    k = int(energies.argmin())
    if k in (0, len(sizes) - 1):
        return {"a": None, "bulk_modulus": None}
    volume, _, modulus = EquationOfState(np.asarray(sizes) ** 3 / 8, energies, "birchmurnaghan").fit()
    return {"a": float((8 * volume) ** (1 / 3)), "bulk_modulus": float(modulus / GPa)}


def force_constants(calculator: rxmdnn.Calculator, a: float) -> tuple[np.ndarray, np.ndarray]:
    """Φ (2, 3, n, 3), eV/Å², of the atoms of a primitive cell with all atoms, and the vectors (2, n, 3) to these, Å."""
    crystal = bulk("Si", "diamond", a, cubic=True) * (CELLS, CELLS, CELLS)
    phi, vectors = [], []
    for basis in (0, 1):
        rows = []
        for axis in range(3):
            forces = []
            for sign in (1, -1):
                moved = crystal.copy()
                moved.positions[basis, axis] += sign * STEP
                moved.calc = calculator
                forces.append(moved.get_forces())
            rows.append((forces[1] - forces[0]) / (2 * STEP))
        phi.append(rows)
        vectors.append(crystal.get_distances(basis, range(len(crystal)), mic=True, vector=True))
    return np.array(phi), np.array(vectors)


def frequencies(phi: np.ndarray, vectors: np.ndarray, q: np.ndarray) -> np.ndarray:
    """The six frequencies (THz; negative: imaginary) at a wave vector, 1/Å; the parity of an atom is its sublattice."""
    n = phi.shape[2]
    first = np.array([0, 1])
    sub = np.arange(n) % 2
    d = np.zeros((6, 6), complex)
    for i in first:
        wave = np.exp(1j * vectors[i] @ q)
        for j in first:
            d[3 * i:3 * i + 3, 3 * j:3 * j + 3] = (phi[i][:, sub == j] * wave[sub == j][None, :, None]).sum(1)
    squares = np.linalg.eigvalsh((d + d.conj().T) / 2) / MASS
    return np.sign(squares) * np.sqrt(abs(squares)) * TO_THZ


def branches(phi: np.ndarray, vectors: np.ndarray, a: float, points: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies along Γ-X and Γ-L: lengths (n,), 1/Å, negative towards L, and frequencies (n, 6)."""
    x = np.linspace(0, 1, points)[:, None] * np.array([0, 0, 1.0])
    l_point = np.linspace(1, 0, points)[:, None] * np.array([0.5, 0.5, 0.5])
    along = np.concatenate([-np.linalg.norm(l_point, axis=1), np.linalg.norm(x, axis=1)])
    q = 2 * np.pi / a * np.concatenate([l_point, x])
    return along, np.array([frequencies(phi, vectors, each) for each in q])


def of_model(temperature: str, a: float) -> tuple[dict, tuple[np.ndarray, np.ndarray]]:
    """Properties of a model, phonons at the lattice constant ``a``."""
    calculator, sizes = model(temperature), np.linspace(5.25, 5.67, 15)
    energies = []
    for size in sizes:
        atoms = bulk("Si", "diamond", size, cubic=True)
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy() / 8)
    phi, vectors = force_constants(calculator, a)
    named = {name: frequencies(phi, vectors, 2 * np.pi / a * np.array(q)) for name, q in
             (("Γ", (0, 0, 0)), ("X", (0, 0, 1)), ("L", (0.5, 0.5, 0.5)))}
    found = lattice(energies, sizes) | {"phonons_at": a, "THz": {k: v.round(3).tolist() for k, v in named.items()}}
    return found, branches(phi, vectors, a)


def of_reference(entry: dict) -> dict:
    """The same numbers of GPAW."""
    volumes = entry["volumes"]
    low, high = sorted(v["curvature"] for v in entry["X"].values())
    thz = [float(np.sign(c) * np.sqrt(abs(c) / MASS) * TO_THZ) for c in (low, high)]
    internal = float(np.interp(5.40, volumes["a"], volumes["internal"]))
    return lattice(volumes["free"], np.array(volumes["a"])) | {
        "TA(X), TO(X)": [round(f, 3) for f in thz], "internal_at_5.40": internal}



def figure(curves: dict, path: Path) -> None:
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=(6, 4.2), dpi=130)
    for (name, (along, values)), color in zip(curves.items(), ("tab:blue", "tab:red")):
        ax.plot(along, values, color=color, lw=1.3, label=[name, *"_____"])
    for name, thz in MEASURED.items():
        where = {"X": 1.0, "Γ": 0.0, "L": -np.sqrt(0.75)}[name[-2]]
        ax.plot(where, thz, "ks", ms=4, label="measured, 300 K" if name == "TA(X)" else None)
    ax.axhline(0, color="k", lw=0.6)
    ax.set_xticks([-np.sqrt(0.75), 0, 1], ["L", "Γ", "X"])
    ax.set(ylabel="frequency, THz (below 0: imaginary)", xlim=(-np.sqrt(0.75), 1))
    ax.legend(frameon=False, fontsize=8)
    fig.tight_layout()
    fig.savefig(path)


if __name__ == "__main__":
    reference = json.loads((HERE / "reference.json").read_text())
    found, curves = {"ase": ase.__version__}, {}
    a = 5.40
    for temperature in ("300K", "20000K"):
        mine, curves[f"model, electrons at {temperature.removesuffix('K')} K"] = of_model(temperature, a)
        found[temperature] = {"model": mine, "GPAW": of_reference(reference[temperature])}
        print(temperature, json.dumps(found[temperature], indent=1))
    (HERE / "properties.json").write_text(json.dumps(found, indent=1) + "\n")
    figure(curves, HERE.parents[1] / "docs/silicon_phonons.png")
