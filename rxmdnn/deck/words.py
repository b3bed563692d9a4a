"""Words that decks may use, each with its description, and names that decks and engine share.

The tables of the engine have the same keys: `dynamics.thermostat.MDMODE_FUNCTIONS`, `dynamics.ensembles`,
`ring_polymer.ensemble.METHOD_SETTINGS`, `ring_polymer.splitting.OPERATOR_SEQUENCES`.
"""

from __future__ import annotations

COMPATIBILITY = "compatibility with RXMD"
EXCITATION = "excitation"
GROUPS = (  # headings of the help page of rxmd.in, in this order
    "system", "dynamics", "ensembles", "path integrals", EXCITATION, "output", "fidelity", "device", COMPATIBILITY)
CRITERIA = {  # name: (what is detected, unit)
    "finite": ("atoms with a NaN or infinite position, velocity or force, or lost atoms", ""),
    "pair": ("a pair closer than the limit of its species", "Å"),
    "bond": ("a bond of the reference topology outside its range", "Å"),
    "coordination": ("a number of bonded neighbors of a species outside the range of the reference", ""),
    "force": ("a force above those of the training frames", "eV/Å"),
    "latent": ("network features of an atom far from those of the training (Mahalanobis distance)", ""),
    "spread": ("disagreement of a committee of models on a force", "eV/Å"),
    "temperature": ("mean over 100 fs off the target by over max(100 K, 6 sigma), after the first five tau", "K"),
    "energy": ("conserved energy, as a temperature 2 dE/(3 N k_B), off its start by over max(100 K, 6 sigma)", "K"),
    "published": ("abs(T - 200 K) > 100 K at every 10th step, the criterion of the published times to failure", "K"),
}
DRIVING: tuple[str, ...] = ("excite", "electrons")  # keywords of what acts on the atoms from outside
MDMODES = {
    0: "new Maxwell-Boltzmann velocities at treq every sstep steps",
    1: "constant energy",
    4: "velocities multiplied by vsfact every sstep steps",
    5: "velocities rescaled to treq every sstep steps",
    6: "same as 0",
    7: "each element rescaled to treq, total momentum removed, every sstep steps",
    8: "rescaled to treq only if abs(sqrt(treq/T) - 1) > 0.05, total momentum removed, every sstep steps",
    9: "maximally preserving Boltzmann: only atoms hotter than vsfact^2 treq are slowed, then all rescaled to treq",
    10: "minimization, by conjugate gradients to CG_tol or as the line 'minimizer' says",
}
MINIMIZATION = 10  # the mdmode
FIRST_PULSE = "pulse_fs"  # what frames call the time of the first pulse of light
MINIMIZED = "minimization"  # in the words of rxmdnn.io.motion
ENSEMBLES = {
    "nve": "constant energy, as mdmode 1",
    "nose-hoover": "NVT by a Nosé-Hoover chain of 3, deterministic",
    "langevin": "NVT by Langevin dynamics (BAOAB) with friction 1/tau on every atom",
    "svr": "NVT by stochastic velocity rescaling (Bussi), which hardly disturbs the dynamics",
}
BAROSTATS = {
    "scr": "stochastic cell rescaling (Bernetti, Bussi), with any thermostat",
    "mtk": "Martyna-Tobias-Klein, deterministic, with nose-hoover",
}
SHAPES = {
    "isotropic": "the volume",
    "semi": "the x-y plane, and z",
    "axes": "x, y and z independently",
    "full": "all lengths and angles",
}
RING_METHODS = {
    "pimd": "quantum averages; the ensemble line acts on the centroids (langevin: PILE-L, svr: PILE-G)",
    "eco": "as pimd, with economised rings: frequencies of the modes are fitted to quantum harmonic oscillators up to "
           "omega_max; converged with a quarter of the beads, at the same cost per step",
    "suzuki-chin": "as pimd, of fourth order in 1/beads: a third to a quarter of the beads at low temperature, at "
                   "twice the cost per step; an even number of beads",
    "rpmd": "ring-polymer molecular dynamics, without thermostats",
    "trpmd": "thermostatted ring-polymer molecular dynamics: a thermostat on the internal modes only",
    "pacmd": "partially adiabatic centroid molecular dynamics: thermostatted internal modes of one high frequency",
}
STARTS = {
    "auto": "the first that exists of run_from_xyz, checkpoint, rxff, structure",
    "checkpoint": "<outDir>/checkpoint.h5: elements, masses, models and seed must be those of its run; steps, time "
                  "step, ensemble and output may change",
    "changed": "<outDir>/checkpoint.h5, also with other models, masses or another seed than its run had; forces are "
               "computed anew",
    "rxff": "<outDir>/rxff.bin: positions, velocities and step; clock and output of the folder go on",
    "structure": "the line run_from_xyz or structure",
}
SAMPLING = ("pimd", "eco", "suzuki-chin")  # for averages, with thermostatted centroids; the others are for dynamics
RING_ESTIMATES = {
    "isotope": "ratio of reduced partition functions of an atom of <element> with the mass <value> (amu) and with its "
               "own: isotope fractionation",
    "momentum": "momentum distribution of <element> by displaced paths up to <value> (0.8 Å), for deep inelastic "
                "scattering",
    "heat_capacity": "by coordinates scaled about the centroids; less noise than the average of ring_polymer.csv",
    "kinetic_tensor": "tensor of the quantum kinetic energy of each element",
}
RING_INTEGRATORS = {
    "bcocb": "Cayley map: no resonances, exact averages over positions in a harmonic well",
    "baoab": "exact free ring polymer, noise in the middle of the step",
    "obabo": "exact free ring polymer, noise at both ends of the step",
}
ACTIONS = {
    "off": "no monitoring",
    "flag": "the run continues; incidents.jsonl and incidents.xyz (with a score per atom) record the incidents",
    "stop": "as flag, and the run stops with exit code 3",
    "heal": "as flag, and the run returns to its last valid state and retries with half the time step and new noise; "
            "exit code 3 if that fails",
}
LIMITS = {
    "pair": "shortest distance, in sums of covalent radii",
    "bond": "longest bond, in sums of covalent radii",
    "force": "eV/Å",
    "latent": "in typical distances of the training",
    "spread": "eV/Å",
    "temperature": "K, instead of 100",
    "energy": "K, instead of 100",
}
PRECISIONS = ("float32", "float64", "tf32")  # of a network
PARTS = ("training", "validation", "test")  # of a set of labelled frames
