"""Path integrals timed: a step of P beads against P steps of a single system, and what the rings themselves cost.

Solid ammonia with an Allegro network of random weights, one thread, CPU time of this process (the best of several
turns, taken in alternation), so that other jobs on the machine hardly matter. Rows go to tools/results/bench_pimd.csv.

    python tools/bench_pimd.py [--beads 32]
"""

import argparse
import csv
import os
import platform
import subprocess
from pathlib import Path
from time import process_time

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import numpy as np
from bench_md import SKIN, ammonia, potential
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.dynamics.ensembles import Ensemble, Motion, StepTargets, make
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.system import System
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.forces import RingForces
from rxmdnn.ring_polymer.modes import Modes

HERE = Path(__file__).parent
MASS, T, DT = np.array([1.008, 14.007]), 160.0, 0.5
TURNS = 4


def system(cells: int, beads: int) -> tuple[Atoms, Ensemble]:
    """Ready for steps; beads 0: a classical system."""
    backend, (cell, x, species) = backends.make("cpu"), ammonia(cells)
    model = potential("allegro", backend, "float32")
    made = System.of(model, cell, species, x, backend=backend, skin=SKIN,
                     make_forces=(lambda a, b, c, d: RingForces(a, b, c, d, beads, 3.0)) if beads else Forces)
    forces, atoms, kinetics = made.forces, made.atoms, Kinetics(MPI.COMM_SELF, backend, MASS, len(x))
    kinetics.draw(atoms, T, 1, 0)
    forces.compute(atoms)
    ensemble = make(Motion(forces, kinetics, DT, 1), "langevin", 100.0)
    if beads:
        ensemble = RingPolymer(ensemble, Modes(beads), T, "pimd")
    ensemble.begin(atoms)
    return atoms, ensemble


def seconds(atoms: Atoms, ensemble: Ensemble, start: int, steps: int) -> float:
    begin = process_time()
    for step in range(start, start + steps):
        ensemble.step(atoms, StepTargets(step, T))
    return (process_time() - begin) / steps


def case(cells: int, beads: int, single_steps: int, ring_steps: int) -> dict:
    one, rings = system(cells, 0), system(cells, beads)
    seconds(*one, 0, 20), seconds(*rings, 0, 20)  # compiles; the rings open
    timers, forces = rings[1].motion.forces.timers, rings[1].motion.forces
    timers.seconds.clear()
    single, ring, builds = [], [], forces.builds
    for turn in range(TURNS):
        single.append(seconds(*one, 20 + turn * single_steps, single_steps))
        ring.append(seconds(*rings, 20 + turn * ring_steps, ring_steps))
    parts = {k: v / sum(timers.seconds.values()) for k, v in timers.seconds.items()}
    return {
        "atoms": len(one[0].v), "beads": beads, "edges_per_atom": forces.edges / beads / len(one[0].v),
        "ms_single_step": 1e3 * min(single), "ms_ring_step": 1e3 * min(ring),
        "ratio_to_P_singles": min(ring) / (beads * min(single)), "share_ring": parts["ring"],
        "share_network": parts["network"], "builds": forces.builds - builds, "ring_steps": TURNS * ring_steps,
        "skin": forces.neighbors.skin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beads", type=int, default=32)
    beads = parser.parse_args().beads
    rows = [case(1, beads, 40, 4), case(2, beads, 20, 2)]
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=HERE).stdout.strip()
    with (HERE / "results/bench_pimd.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0], "machine", "commit"])
        table.writeheader()
        table.writerows({**row, "machine": platform.machine(), "commit": commit} for row in rows)
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
