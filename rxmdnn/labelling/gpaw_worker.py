"""The GPAW process: JSON requests on standard input, JSON replies on standard output, one line each.

Runs in a Python that has ``gpaw`` and ``ase``, and ``dftd3`` where that is an argument (gpaw 22.8 of Debian needs the
Python of the system), so this file does not import rxmdnn. A request has ``numbers``, ``positions`` (Å), ``cell`` (Å),
``kpts``, ``cutoff`` (eV), ``functional``, ``width`` (eV, Fermi-Dirac), ``dispersion`` and ``stress`` (true or false)
and ``empty``, the occupation below which the bands end, or null: two bands more than are occupied at 0 K, of H and N.
The reply has ``energy`` (eV), ``forces`` (eV/Å) minus their mean, ``net_force`` (eV/Å, the norm of that mean),
``iterations``, ``bands`` or null, and ``stress`` (xx, yy, zz, yz, xz, xy; eV/Å^3, tension positive) or null, or only
``error``.
"""

import json
import math
import os
import sys
from collections import OrderedDict

KEPT = 10  # calculators in memory: frames of the same cell start from its last density
VALENCE = 10.5  # eV: typical width of the occupied bands, for a first number of bands
GROWTH, TRIES = 1.2, 10  # more bands until the highest is empty
NEEDED: dict = {}  # numbers of bands that sufficed for frames of the same size


def new_calculator(request, bands):
    from gpaw import GPAW, PW, FermiDirac, Mixer

    return GPAW(mode=PW(request["cutoff"]), xc=request["functional"], kpts={"size": request["kpts"]},
                symmetry={"point_group": False}, nbands=bands, occupations=FermiDirac(request["width"]),
                mixer=Mixer(0.4, 8, 1.0), convergence={"eigenstates": 1e-6, "density": 1e-4}, maxiter=120, txt=None)


def dispersion(atoms, functional):
    """Energy (eV), gradient (eV/Å) and virial (eV) of D3 with Becke-Johnson damping, pairs only."""
    import numpy as np
    from ase.units import Bohr, Hartree
    from dftd3.interface import DispersionModel, RationalDampingParam

    model = DispersionModel(atoms.numbers, atoms.positions / Bohr, np.asarray(atoms.cell) / Bohr, np.ones(3, bool))
    out = model.get_dispersion(RationalDampingParam(method=functional.lower(), atm=False), grad=True)
    return out["energy"] * Hartree, out["gradient"] * Hartree / Bohr, out["virial"] * Hartree


def first_bands(request):
    """A first number of bands: those occupied at 0 K, times that of free electrons up to the wanted occupation."""
    from ase.data import chemical_symbols
    from gpaw.setup_data import SetupData

    electrons = sum(SetupData(chemical_symbols[z], request["functional"]).Nv for z in request["numbers"])
    above = request["width"] * math.log(1 / request["empty"])
    return math.ceil((1 + above / VALENCE) ** 1.5 * electrons / 2) + 2


def highest_occupation(calc):
    """The largest occupation (of 1) of the highest band over the k-points of this cell."""
    weights = calc.get_k_point_weights()
    return max(calc.get_occupation_numbers(k)[-1] / (2 * w) for k, w in enumerate(weights))


def converged(atoms, request, calculators, key):
    """The converged calculator of these atoms, its energy (eV) and its number of bands; raises what GPAW raises."""
    if request["empty"] is None:
        electrons = int(sum({1: 1, 7: 5}[z] for z in request["numbers"]))
        atoms.calc = calculators.pop(key, None) or new_calculator(request, electrons // 2 + 2)
        return atoms.calc, atoms.get_potential_energy(force_consistent=True), None
    kind = json.dumps([request[word] for word in ("numbers", "kpts", "cutoff", "width", "empty")])
    bands = max(first_bands(request), NEEDED.get(kind, 0))
    for _ in range(TRIES):
        atoms.calc = calculators.pop(key, None) or new_calculator(request, bands)
        energy = atoms.get_potential_energy(force_consistent=True)
        if highest_occupation(atoms.calc) < request["empty"]:
            NEEDED[kind] = max(bands, NEEDED.get(kind, 0))
            return atoms.calc, energy, atoms.calc.get_number_of_bands()
        bands = math.ceil(GROWTH * atoms.calc.get_number_of_bands())
    raise RuntimeError(f"{bands} bands are not enough for an occupation of {request['empty']} at {request['width']} eV")


def reply_to(request, calculators):
    """The reply to a request; its calculator is added to ``calculators``."""
    import ase
    import numpy as np

    atoms = ase.Atoms(request["numbers"], positions=request["positions"], cell=request["cell"], pbc=True)
    key = json.dumps([request["cell"], request["kpts"], request["cutoff"], request["numbers"]])
    try:
        calc, energy, bands = converged(atoms, request, calculators, key)
        forces = atoms.get_forces()
        stress = atoms.get_stress(voigt=False) if request["stress"] else None
    except Exception as fault:
        return {"error": f"{type(fault).__name__}: {fault}"}
    calculators[key] = calc
    while len(calculators) > KEPT:
        calculators.popitem(last=False)
    if request["dispersion"]:
        pair_energy, gradient, virial = dispersion(atoms, request["functional"])
        energy, forces = energy + pair_energy, forces - gradient
        stress = None if stress is None else stress + virial / atoms.get_volume()
    net = forces.mean(0)
    if stress is not None:
        stress = stress.reshape(-1)[[0, 4, 8, 5, 2, 1]].tolist()
    return {"energy": energy, "forces": (forces - net).tolist(), "stress": stress,
            "net_force": float(np.linalg.norm(net)), "iterations": int(calc.scf.niter),
            "bands": bands}


def main():
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # output of the programs goes to the log
    import gpaw

    version = f"GPAW {gpaw.__version__}"
    if "dftd3" in sys.argv[1:]:
        import dftd3

        version += f", dftd3 {dftd3.__version__}"
    print(json.dumps({"version": version}), file=replies, flush=True)
    calculators = OrderedDict()
    for line in sys.stdin:
        print(json.dumps(reply_to(json.loads(line), calculators)), file=replies, flush=True)


if __name__ == "__main__":
    main()
