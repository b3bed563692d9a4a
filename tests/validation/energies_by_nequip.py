"""What nequip computes: run by a Python that has it, ``energies_by_nequip.py MODEL FRAMES OUT.npz``.

MODEL is a checkpoint, a package, or a compiled file for ASE. OUT gets the energies of the atoms (eV), forces (eV/Å) and
stresses (eV/Å³) of all frames, joined.
"""

import sys
import warnings

import ase.io
import numpy as np
from nequip.integrations.ase import NequIPCalculator

warnings.simplefilter("ignore")


def calculator(name: str) -> NequIPCalculator:
    if name.endswith(".nequip.pt2"):
        return NequIPCalculator.from_compiled_model(name, device="cpu")
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model.saved_models.load_utils import load_saved_model
    from nequip.utils.global_state import set_global_state

    set_global_state()
    model = load_saved_model(name).eval()
    names = list(model.type_names)
    return NequIPCalculator(model, "cpu", transforms=[
        ChemicalSpeciesToAtomTypeMapper(names), NeighborListTransform(float(model.metadata["r_max"]))])


def main(model: str, frames: str, out: str) -> None:
    calc, rows = calculator(model), []
    for atoms in ase.io.read(frames, ":"):
        atoms.calc = calc
        rows.append((atoms.get_potential_energies(), atoms.get_forces(), atoms.get_stress(voigt=False)))
    e_i, f, stress = zip(*rows)
    np.savez(out, e_i=np.concatenate(e_i), f=np.concatenate(f), stress=np.stack(stress))


if __name__ == "__main__":
    main(*sys.argv[1:])
