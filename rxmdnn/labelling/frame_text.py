"""One frame as extended XYZ: the text that a labelling job and a study of times to failure append."""

from __future__ import annotations

from typing import Any

import ase
import numpy as np

from rxmdnn.io.canonical import names_of


def text(atoms: ase.Atoms, column: str = "forces") -> str:
    """One frame in extended XYZ: positions to 1e-6 Å, forces to 1e-5 eV/Å, words, periodicity, masses of isotopes, ids.

    column : name of the column of forces, an array of the atoms
    """
    has_ids, symbols = "id" in atoms.arrays, atoms.get_chemical_symbols()
    heavy = bool((names_of(atoms) != symbols).any())  # a column of masses says so; other readers know no D or T
    info: dict[str, Any] = {"Lattice": np.asarray(atoms.cell)} if atoms.cell.any() else {}
    info |= {"Properties": f"species:S:1:pos:R:3:{column}:R:3" + (":id:I:1" if has_ids else "")
             + (":masses:R:1" if heavy else ""),
             "pbc": " ".join("T" if p else "F" for p in atoms.pbc), **atoms.info}
    ends = [f" {k}" for k in atoms.arrays["id"]] if has_ids else [""] * len(atoms)
    if heavy:
        ends = [f"{end} {m:.6f}" for end, m in zip(ends, atoms.get_masses())]
    rows = [f"{s} {x[0]:.6f} {x[1]:.6f} {x[2]:.6f} {f[0]:.5f} {f[1]:.5f} {f[2]:.5f}{end}"
            for s, x, f, end in zip(symbols, atoms.positions, atoms.arrays[column], ends)]
    head = " ".join(f"{k}={v if k == 'Properties' else _value(v)}" for k, v in info.items())
    return f"{len(atoms)}\n{head}\n" + "\n".join(rows) + "\n"


def _value(v: Any) -> str:
    """A word of the header; quotes and line ends of a text would end it, and are replaced."""
    if isinstance(v, (bool, np.bool_)):
        return "T" if v else "F"
    if isinstance(v, (list, tuple, np.ndarray)):
        array = np.asarray(v)
        numbers = array.dtype.kind in "fiu"
        return '"' + " ".join(f"{t:.8g}" if numbers else str(t) for t in array.reshape(-1)).replace('"', "'") + '"'
    if isinstance(v, (int, np.integer)):
        return str(v)
    if isinstance(v, (float, np.floating)):
        return f"{v:.7f}" if abs(v) > 1000 else f"{v:.10g}"
    return '"' + " ".join(str(v).replace('"', "'").split()) + '"'
