"""Training data with a hole: frames of ../gfn1_xtb.xyz in which no N-H bond is longer than 1.15 Å. python hole.py

A model of such data does not know how a bond breaks. Dynamics of it that is hot enough finds out (quick.in).
"""

from pathlib import Path

import ase.io
import numpy as np

HERE = Path(__file__).parent
LONGEST = 1.15  # Å
EVERY = {"solid_md": 3, "solid": 6, "liquid_md": 6, "rotated": 5, "close": 7, "monomer": 1}  # of each kind


def longest_bond(atoms: ase.Atoms) -> float:
    """The largest distance of a hydrogen atom from its nearest nitrogen atom, Å."""
    distance = atoms.get_all_distances(mic=bool(atoms.pbc.any()))
    return float(distance[np.ix_(atoms.numbers == 1, atoms.numbers == 7)].min(axis=1).max())


def main() -> None:
    """Write hole.xyz, the text of the frames as it was."""
    path = HERE.parent / "gfn1_xtb.xyz"
    lines, seen, out, at = path.read_text().splitlines(keepends=True), dict.fromkeys(EVERY, 0), [], 0
    for atoms in ase.io.iread(path):
        block = lines[at:at + len(atoms) + 2]
        at += len(block)
        kind = atoms.info["kind"]
        if kind in EVERY and longest_bond(atoms) <= LONGEST:
            seen[kind] += 1
            if seen[kind] % EVERY[kind] == 0:
                out += block
    (HERE / "hole.xyz").write_text("".join(out))


if __name__ == "__main__":
    main()
