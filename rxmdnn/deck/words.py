"""The words that decks may use, each with its description; the tables of the engine have the same keys."""

from __future__ import annotations

CRITERIA = {  # name: what is seen, its unit
    "finite": ("atoms whose position, velocity or force is no number, or that were lost", ""),
    "pair": ("a pair closer than any of its species should be", "Å"),
    "bond": ("a bond of the reference topology outside its range", "Å"),
    "coordination": ("a number of bonded neighbors of a species never seen in the reference", ""),
    "force": ("a force beyond those of the training frames", "eV/Å"),
    "latent": ("the network's features of an atom far from those of its training (Mahalanobis)", ""),
    "spread": ("models of a committee that disagree on a force", "eV/Å"),
    "temperature": ("mean over 100 fs off its target by max(100 K, 6 sigma), from five tau after the start on", "K"),
    "energy": ("conserved energy, as a temperature 2 dE/(3 N k_B), off its start by max(100 K, 6 sigma)", "K"),
    "published": ("abs(T - 200 K) > 100 K at every 10th step, as the published times to failure", "K"),
}
MDMODES = {
    0: "new Maxwell-Boltzmann velocities at treq every sstep steps",
    1: "constant energy",
    4: "velocities times vsfact every sstep steps",
    5: "velocities rescaled to treq every sstep steps",
    6: "as 0",
    7: "each element rescaled to treq, total momentum removed, every sstep steps",
    8: "rescaled to treq only when abs(sqrt(treq/T) - 1) > 0.05, total momentum removed, every sstep steps",
    9: "maximally preserving Boltzmann: only atoms hotter than vsfact^2 treq are slowed, then rescaled to treq",
    10: "minimization, by conjugate gradients to CG_tol or as 'minimizer' says",
}
MINIMIZATION = 10
ENSEMBLES = {
    "nve": "constant energy, as mdmode 1",
    "nose-hoover": "Nosé-Hoover chain of 3: deterministic NVT",
    "langevin": "Langevin dynamics by BAOAB: NVT with friction 1/tau on every atom",
    "svr": "stochastic velocity rescaling (Bussi): NVT that hardly disturbs the dynamics",
}
BAROSTATS = {
    "scr": "stochastic cell rescaling (Bernetti, Bussi), with any thermostat",
    "mtk": "Martyna-Tobias-Klein: deterministic, with nose-hoover",
}
SHAPES = {"isotropic": "the volume", "semi": "the x-y plane and z", "axes": "x, y and z each for itself",
          "full": "lengths and angles"}
RING_METHODS = {
    "pimd": "quantum averages; the ensemble line is the centroids' (langevin: PILE-L, svr: PILE-G)",
    "suzuki-chin": "as pimd, at fourth order in 1/beads: a third to a quarter of the beads when it is cold, each step "
                   "twice the work; an even number",
    "rpmd": "ring-polymer dynamics, nothing thermostatted",
    "trpmd": "thermostatted ring-polymer dynamics: the internal modes only",
    "pacmd": "partially adiabatic centroid dynamics: internal modes thermostatted, all of one high frequency",
}
SAMPLING = ("pimd", "suzuki-chin")  # for averages, the centroids thermostatted; the others are dynamics
RING_INTEGRATORS = {
    "bcocb": "Cayley map: no resonances, exact places in a harmonic well",
    "baoab": "exact free ring, noise in the middle",
    "obabo": "exact free ring, noise outside",
}
ACTIONS = {
    "off": "nothing is looked at",
    "flag": "the run goes on; incidents.jsonl and incidents.xyz (with a score for each atom) tell of it",
    "stop": "as flag, and the run stops with exit code 3",
    "heal": "as flag, and the run goes back to the last sound state and tries again with half the step and other "
            "noise; exit code 3 when that fails",
}
LIMITS = {
    "pair": "least distance, in sums of covalent radii", "bond": "longest bond, in sums of covalent radii",
    "force": "eV/Å", "latent": "typical distances of the training", "spread": "eV/Å",
    "temperature": "K, instead of 100", "energy": "K, instead of 100",
}
PARTS = ("training", "validation", "test")  # of a set of labelled frames
