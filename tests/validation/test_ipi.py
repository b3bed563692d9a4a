"""i-PI moves atoms with this engine's forces: the same trajectories, estimators and averages as the engine's own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.cell import Cell
from rxmdnn.commands import run as run_command
from rxmdnn.dynamics.ensembles import Motion, make
from rxmdnn.dynamics.kinetics import Kinetics
from rxmdnn.engine.domain import Domain
from rxmdnn.engine.neighbors import NeighborList
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.log import read_energies
from rxmdnn.models.pair import LennardJones
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.estimators import estimate, mean_and_error
from rxmdnn.ring_polymer.forces import RingForces, U
from rxmdnn.ring_polymer.modes import Modes
from rxmdnn.ring_polymer.suzuki_chin import suzuki_chin
from rxmdnn.timers import Timers
from rxmdnn.units import GPA_PER_EV_A3, KB
from tests.systems import TRICLINIC, share, spread_atoms

IPI = shutil.which("i-pi", path=str(Path(sys.executable).parent)) or shutil.which("i-pi")
pytestmark = [pytest.mark.validation, pytest.mark.skipif(IPI is None, reason="i-PI is not installed")]
STEPS, N = 40, 40
INPUT = """<simulation verbosity='quiet' floatformat='%23.16e'>
  <output prefix='sim'>
    <properties filename='out' stride='1'> [ step, {properties} ] </properties>
    <checkpoint filename='end' stride='{steps}' overwrite='true'/>
  </output>
  <total_steps>{steps}</total_steps>
  <prng><seed>5</seed></prng>
  <ffsocket name='f' mode='unix' pbc='false'> <address>{name}</address> </ffsocket>
  <system>
    <initialize nbeads='{beads}'>
      <file mode='xyz' units='angstrom'>init.xyz</file> {velocities}
    </initialize>
    <forces> <force forcefield='f'/> </forces>
    <motion mode='dynamics'> <dynamics mode='{mode}'> {dynamics} </dynamics> </motion>
    <ensemble> <temperature units='kelvin'>{temperature}</temperature> </ensemble>
  </system>
</simulation>
"""
ENERGIES = "potential{electronvolt}, conserved{electronvolt}"
HARTREE, BOHR = 27.211386245988, 0.529177210903  # eV, Å
SETTLED = 0.25  # of a sampled run, left out


def prepare(folder, cell, x, element, lj, deck):
    """What both programs start from."""
    rows = "".join(f"{element} {a:.9f} {b:.9f} {c:.9f}\n" for a, b, c in x)
    lattice, n = " ".join(map(str, cell.h.ravel())), len(x)
    (folder / "start.xyz").write_text(f'{n}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n{rows}')
    parameters = " ".join(f"{p:.10f}" for p in cell.parameters)
    (folder / "init.xyz").write_text(
        f"{n}\n# CELL(abcABC): {parameters} cell{{angstrom}} positions{{angstrom}}\n{rows}")
    (folder / "rxmdnn.in").write_text(f"lj {lj}\n")
    (folder / "rxmd.in").write_text(f"structure start.xyz\n{deck}")
    return folder


@pytest.fixture
def folder(tmp_path):
    return prepare(tmp_path, TRICLINIC, spread_atoms(TRICLINIC, N, 2.9), "Ar", "0.0104 3.4 6.0 1 Ar 39.948",
                   f"time 2.0 {STEPS}\ntemperature 0 1.0 1\nio_step 0 1\n")


def served(folder, beads, steps=STEPS, mode="nve", dynamics="<timestep units='femtosecond'>2.0</timestep>",
           temperature=60, properties=ENERGIES, velocities=""):
    """Columns of i-PI's output: step, then what was asked for."""
    name = f"rxmdnn-test-{os.getpid()}-{beads}"
    (folder / "input.xml").write_text(INPUT.format(steps=steps, name=name, beads=beads, mode=mode, dynamics=dynamics,
                                                   temperature=temperature, properties=properties,
                                                   velocities=velocities))
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    with open(folder / "ipi.log", "w") as log:
        server = subprocess.Popen([str(IPI), "input.xml"], cwd=folder, stdout=log, stderr=log, env=environment)
        try:
            done = subprocess.run([sys.executable, "-m", "rxmdnn", "driver", "--unix", name, "--rxmdin", "rxmd.in"],
                                  cwd=folder, capture_output=True, text=True, timeout=600, env=environment)
            assert done.returncode == 0, done.stderr + (folder / "ipi.log").read_text()
            server.wait(60)
        finally:
            server.kill()
    assert f"{beads * (steps + 1)} force calls" in done.stdout
    return np.loadtxt(folder / "sim.out").T


def test_classical_dynamics_are_the_engines_own(folder, monkeypatch):
    _, potential, conserved = served(folder, 1)
    monkeypatch.chdir(folder)
    run_command.main(["--rxmdin", "rxmd.in"], MPI.COMM_SELF)
    e = read_energies(folder / "DAT")
    assert abs(potential - potential[0]).max() > 0.05  # it moves
    assert np.allclose(potential, e["potential_eV"], atol=2e-6) and np.allclose(conserved, e["etotal_eV"], atol=2e-6)


def test_a_ring_polymer_conserves_its_energy(folder):
    _, potential, conserved = served(folder, 3)
    assert abs(potential - potential[0]).max() > 0.05
    assert abs(conserved - conserved[0]).max() < 0.01 * abs(potential - potential[0]).max()


# ---------------------------------------------------------------------- a quantum liquid of few atoms
T, BEADS, ATOMS, LJ = 25.0, 4, 80, (0.00295, 2.96, 6.0)
BOX = Cell(np.diag([13.7, 13.7, 13.9]))
PILE = ("<thermostat mode='pile_l'> <tau units='femtosecond'>50</tau> </thermostat> "
        "<timestep units='femtosecond'>8.0</timestep>")
HELIUM = ("He", "{} {} {} 1 He 4.002602".format(*LJ),
          f"time 8.0 1500\ntemperature {T} 1.0 1\nio_step 0 10\nio_type F F F F\n")
WARM = f"<velocities mode='thermal' units='kelvin'>{T}</velocities>"


@pytest.fixture
def helium(tmp_path):
    return prepare(tmp_path, BOX, spread_atoms(BOX, ATOMS, 2.5), *HELIUM)


def last_places(folder):
    """(P, n, 3) Å, of i-PI's checkpoint."""
    found = re.search(r"<q shape='\((\d+), \d+\)'>\s*\[([^\]]*)\]", (folder / "sim.end").read_text())
    assert found is not None
    return np.array(found[2].replace(",", " ").split(), float).reshape(int(found[1]), -1, 3) * BOHR


def estimates(q, method):
    """What this engine makes of the beads at q."""
    backend, species, mass = backends.make("cpu"), np.zeros(ATOMS, np.int32), np.array([4.002602])
    potential = LennardJones(backend, ("He",), *LJ)
    neighbors = NeighborList(backend, potential.cutoff, 0.5)
    domain = Domain(MPI.COMM_SELF, backend, BOX, (0, 0, 0), neighbors.reach)
    fourth = suzuki_chin(mass, T, BEADS) if method == "suzuki-chin" else None
    forces = RingForces(domain, neighbors, potential, Timers(), BEADS, 5.0, fourth=fourth)
    atoms = share(MPI.COMM_SELF, q.mean(axis=0), species)
    atoms.extra[U] = np.einsum("kj,jnc->nkc", Modes(BEADS).to_modes[1:], q)
    kinetics = Kinetics(MPI.COMM_SELF, backend, mass, ATOMS)
    ring = RingPolymer(make(Motion(forces, kinetics, 8.0, 5), "langevin", 50.0), Modes(BEADS), T, method)
    ring.begin(atoms)
    return estimate(ring)


def test_estimators_are_those_of_i_pi(helium):
    """Trotter's and Suzuki-Chin's, at the same places; the two programs' constants differ by 1e-6."""
    asked = ("potential, kinetic_cv, kinetic_td, potential_opsc, potential_tdsc, kinetic_opsc, kinetic_prsc, "
             "virial_cv")
    found = served(helium, BEADS, 10, "nvt", PILE, T, asked, WARM)[1:, -1] * HARTREE
    e, fourth = (estimates(last_places(helium), method) for method in ("pimd", "suzuki-chin"))
    assert abs(e.virial[0] / (1.5 * ATOMS * KB * T) - 1) > 0.05 and abs(fourth.conjugate / fourth.potential - 1) > 1e-3
    pressure = (2 * found[1] / BOX.volume + found[7:10].sum() / BOHR**3) / 3 * GPA_PER_EV_A3
    np.testing.assert_allclose(
        [*found[:7], pressure], [e.potential, e.virial[0], e.primitive[0], fourth.potential, fourth.conjugate,
                                 fourth.virial[0], fourth.primitive[0], e.pressure], rtol=5e-6, atol=3e-6)


def test_sampled_averages_agree_with_i_pis(helium, monkeypatch):
    """PILE-L of both programs: centroid-virial kinetic energy and potential, within four standard errors."""
    monkeypatch.chdir(helium)
    run_command.main(["--rxmdin", "rxmd.in", "--pimd", str(BEADS), "--ensemble", "langevin", "0.05"], MPI.COMM_SELF)
    rows = np.loadtxt("DAT/ring_polymer.csv", delimiter=",", skiprows=1)
    names = Path("DAT/ring_polymer.csv").read_text().splitlines()[0].split(",")
    end = read_checkpoint(MPI.COMM_SELF, "DAT/checkpoint.h5")
    prepare(helium, BOX, end.x[np.argsort(end.gid)], *HELIUM)
    theirs = served(helium, BEADS, 120, "nvt", PILE, T, "kinetic_cv, potential", WARM)[1:] * HARTREE
    for their, name in zip(theirs, ("kinetic_virial_eV", "potential_eV"), strict=True):
        our = rows[:, names.index(name)]
        (a, of_a), (b, of_b) = (mean_and_error(x[int(SETTLED * len(x)) :]) for x in (their, our))
        assert abs(a - b) < 4 * np.hypot(of_a, of_b)
        assert np.hypot(of_a, of_b) < 0.04 * abs(b)
