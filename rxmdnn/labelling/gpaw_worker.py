"""The GPAW process: JSON requests on standard input, JSON replies on standard output, one line each.

Runs in a Python that has ``gpaw``, ``ase`` and ``dftd3`` (gpaw 22.8 of Debian needs the Python of the system), so this
file does not import rxmdnn. A request has ``numbers``, ``positions`` (Å), ``cell`` (Å), ``kpts``, ``cutoff`` (eV) and
``stress`` (true or false); the reply has ``energy`` (eV), ``forces`` (eV/Å) minus their mean, ``net_force`` (eV/Å, the
norm of that mean) and ``stress`` (xx, yy, zz, yz, xz, xy; eV/Å^3, tension positive) or null, or only ``error``.
"""

import json
import os
import sys
from collections import OrderedDict

KEPT = 10  # calculators in memory: frames of the same cell start from its last density


def new_calculator(cutoff, kpts, electrons):
    from gpaw import GPAW, PW, FermiDirac, Mixer

    return GPAW(mode=PW(cutoff), xc="revPBE", kpts={"size": kpts}, symmetry={"point_group": False},
                nbands=electrons // 2 + 2, occupations=FermiDirac(0.1), mixer=Mixer(0.4, 8, 1.0),
                convergence={"eigenstates": 1e-6, "density": 1e-4}, maxiter=120, txt=None)


def dispersion(atoms):
    """Energy (eV), gradient (eV/Å) and virial (eV) of D3 with Becke-Johnson damping, pairs only."""
    import numpy as np
    from ase.units import Bohr, Hartree
    from dftd3.interface import DispersionModel, RationalDampingParam

    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, np.asarray(atoms.cell) / Bohr, np.ones(3, bool))
    out = model.get_dispersion(RationalDampingParam(method="revpbe", atm=False), grad=True)
    return out["energy"] * Hartree, out["gradient"] * Hartree / Bohr, out["virial"] * Hartree


def reply_to(request, calculators):
    """The reply to a request; its calculator is added to ``calculators``."""
    import ase
    import numpy as np

    atoms = ase.Atoms(request["numbers"], positions=request["positions"], cell=request["cell"], pbc=True)
    key = json.dumps([request["cell"], request["kpts"], request["cutoff"], request["numbers"]])
    electrons = int(sum({1: 1, 7: 5}[z] for z in request["numbers"]))
    try:
        calc = calculators.pop(key, None) or new_calculator(request["cutoff"], request["kpts"], electrons)
        atoms.calc = calc
        energy = atoms.get_potential_energy(force_consistent=True)
        forces = atoms.get_forces()
        stress = atoms.get_stress(voigt=False) if request["stress"] else None
    except Exception as fault:
        return {"error": f"{type(fault).__name__}: {fault}"}
    calculators[key] = calc
    while len(calculators) > KEPT:
        calculators.popitem(last=False)
    pair_energy, gradient, virial = dispersion(atoms)
    forces = forces - gradient
    net = forces.mean(0)
    if stress is not None:
        stress = (stress + virial / atoms.get_volume()).reshape(-1)[[0, 4, 8, 5, 2, 1]].tolist()
    return {"energy": energy + pair_energy, "forces": (forces - net).tolist(), "stress": stress,
            "net_force": float(np.linalg.norm(net)), "iterations": int(calc.scf.niter)}


def main():
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of the programs goes to the log
    import dftd3
    import gpaw

    print(json.dumps({"version": f"GPAW {gpaw.__version__}, dftd3 {dftd3.__version__}"}), file=replies, flush=True)
    calculators = OrderedDict()
    for line in sys.stdin:
        print(json.dumps(reply_to(json.loads(line), calculators)), file=replies, flush=True)


if __name__ == "__main__":
    main()
