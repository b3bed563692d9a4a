"""i-PI moves atoms with this engine's forces: the same trajectory as the engine's own, and path integrals that hold."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import run
from rxmdnn.io.log import read_energies
from tests.systems import TRICLINIC, spread_atoms

IPI = shutil.which("i-pi", path=str(Path(sys.executable).parent)) or shutil.which("i-pi")
pytestmark = [pytest.mark.validation, pytest.mark.skipif(IPI is None, reason="i-PI is not installed")]
STEPS, N = 40, 40
INPUT = """<simulation verbosity='quiet'>
  <output prefix='sim'>
    <properties filename='out' stride='1'> [ step, potential{{electronvolt}}, conserved{{electronvolt}} ] </properties>
  </output>
  <total_steps>{steps}</total_steps>
  <ffsocket name='f' mode='unix' pbc='false'> <address>{name}</address> </ffsocket>
  <system>
    <initialize nbeads='{beads}'> <file mode='xyz' units='angstrom'>init.xyz</file> </initialize>
    <forces> <force forcefield='f'/> </forces>
    <motion mode='dynamics'>
      <dynamics mode='nve'> <timestep units='femtosecond'>2.0</timestep> </dynamics>
    </motion>
    <ensemble> <temperature units='kelvin'>60</temperature> </ensemble>
  </system>
</simulation>
"""


@pytest.fixture
def folder(tmp_path):
    x = spread_atoms(TRICLINIC, N, 2.9)
    rows = "".join(f"Ar {a:.9f} {b:.9f} {c:.9f}\n" for a, b, c in x)
    lattice = " ".join(map(str, TRICLINIC.h.ravel()))
    (tmp_path / "start.xyz").write_text(f'{N}\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\n{rows}')
    parameters = " ".join(f"{p:.10f}" for p in TRICLINIC.parameters)
    head = f"# CELL(abcABC): {parameters} cell{{angstrom}} positions{{angstrom}}"
    (tmp_path / "init.xyz").write_text(f"{N}\n{head}\n{rows}")
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.948\n")
    (tmp_path / "rxmd.in").write_text(f"time 2.0 {STEPS}\ntemperature 0 1.0 1\nio_step 0 1\nstructure start.xyz\n")
    return tmp_path


def served(folder, beads):
    """Columns of i-PI's output: step, potential, conserved, eV."""
    name = f"rxmdnn-test-{os.getpid()}-{beads}"
    (folder / "input.xml").write_text(INPUT.format(steps=STEPS, name=name, beads=beads))
    environment = {**os.environ, "NUMBA_NUM_THREADS": "1"}
    with open(folder / "ipi.log", "w") as log:
        server = subprocess.Popen([str(IPI), "input.xml"], cwd=folder, stdout=log, stderr=log, env=environment)
        try:
            done = subprocess.run([sys.executable, "-m", "rxmdnn", "driver", "--unix", name, "--rxmdin", "rxmd.in"],
                                  cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
            server.wait(60)
        finally:
            server.kill()
    assert done.returncode == 0, done.stderr + (folder / "ipi.log").read_text()
    assert f"{beads * (STEPS + 1)} force calls" in done.stdout
    return np.loadtxt(folder / "sim.out").T


def test_classical_dynamics_are_the_engines_own(folder, monkeypatch):
    _, potential, conserved = served(folder, 1)
    monkeypatch.chdir(folder)
    run.main(["--rxmdin", "rxmd.in"], MPI.COMM_SELF)
    e = read_energies(folder / "DAT")
    assert abs(potential - potential[0]).max() > 0.05  # it moves
    assert np.allclose(potential, e["potential_eV"], atol=2e-6) and np.allclose(conserved, e["etotal_eV"], atol=2e-6)


def test_a_ring_polymer_conserves_its_energy(folder):
    _, potential, conserved = served(folder, 3)
    assert abs(potential - potential[0]).max() > 0.05
    assert abs(conserved - conserved[0]).max() < 0.01 * abs(potential - potential[0]).max()
