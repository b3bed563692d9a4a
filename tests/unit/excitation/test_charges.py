"""Charges of elements and of atoms: forces, sums, and that they are gradients of -E·P."""

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import CHARGES, Atoms
from rxmdnn.deck.fields import FieldLine
from rxmdnn.dynamics.simulation import Schedule, Simulation
from rxmdnn.engine.system import System
from rxmdnn.excitation.charges import Charges
from rxmdnn.excitation.field import ElectricField
from tests.device import DEVICES, find
from tests.systems import TRICLINIC, argon, share, spread_atoms

RNG = np.random.default_rng(5)
N = 7
SPECIES = np.array([0, 1, 2, 0, 1, 2, 2])
TABLE = RNG.normal(size=(3, 3, 3))


def atoms_with(column=None):
    atoms = Atoms.of(np.arange(N), SPECIES, RNG.normal(size=(N, 3)))
    if column is not None:
        atoms.extra[CHARGES] = column
    return atoms


CASES = {
    "elements": (Charges(TABLE), None, TABLE[SPECIES]),
    "numbers": (Charges(), (q := RNG.normal(size=N)), q[:, None, None] * np.eye(3)),
    "tensors": (Charges(), (z := RNG.normal(size=(N, 9))), z.reshape(N, 3, 3)),
}


@pytest.mark.parametrize("name", CASES)
def test_force_and_sums_against_loops(name):
    charges, column, z = CASES[name]
    atoms, field, rows = atoms_with(column), np.array([0.3, -1.0, 0.2]), RNG.normal(size=(N, 3))
    np.testing.assert_allclose(charges.force(atoms, field), [zi @ field for zi in z], rtol=1e-13)
    exact = sum(np.multiply.outer(r, zi) for r, zi in zip(rows, z))
    np.testing.assert_allclose(charges.sum_with(atoms, rows), exact, rtol=1e-12, atol=1e-13)
    total, size = charges.total(atoms)
    np.testing.assert_allclose(total, z.sum(axis=0), rtol=1e-12)
    assert size == pytest.approx(np.abs(z).max(axis=(1, 2)).sum())


@pytest.mark.parametrize("name", CASES)
def test_subtracting_the_mean_makes_the_sum_zero(name):
    charges, column, z = CASES[name]
    charges, atoms = Charges(charges.table), atoms_with(None if column is None else column.copy())
    charges.subtract(atoms, z.mean(axis=0))
    np.testing.assert_allclose(charges.total(atoms)[0], 0.0, atol=1e-13)


def test_a_force_is_the_gradient_of_the_polarization_along_the_field():
    charges, atoms, field = Charges(TABLE), atoms_with(), np.array([0.3, -1.0, 0.2])

    def along(x):
        return float(np.einsum("aab,b", charges.sum_with(atoms, x), field))

    x, h = atoms.x.copy(), 1e-3
    for i in range(N):
        for a in range(3):
            up, down = x.copy(), x.copy()
            up[i, a] += h
            down[i, a] -= h
            assert charges.force(atoms, field)[i, a] == pytest.approx((along(up) - along(down)) / (2 * h), abs=1e-10)


@DEVICES
@pytest.mark.parametrize("kind", CASES)
def test_a_field_on_a_device_is_that_on_the_host(name, kind):
    """The same trajectory, work and polarization, with all arrays on a device."""
    ends = []
    for backend in (backends.make("cpu"), find(name)):
        charges, column, z = CASES[kind]
        system = System(argon(backend, elements=("A", "B", "C")), TRICLINIC,
                        share(MPI.COMM_SELF, spread_atoms(TRICLINIC, N, 4.0), SPECIES.astype(np.int32)),
                        backend=backend)
        atoms = system.atoms
        charges = Charges(charges.table)
        if column is not None:
            atoms.extra[CHARGES] = backend.from_host(column[backend.to_host(atoms.gid[:N])])
        charges.subtract(atoms, z.mean(axis=0))
        s = Simulation(MPI.COMM_SELF, backend, system.domain, system.forces, atoms, np.array([10.0, 20.0, 40.0]),
                       Schedule(2.0, 20, 1, (0.0, 0.0), 1.0, 0, 5, 1), N)
        field = ElectricField(charges, [FieldLine("sine", np.array([0.1, -0.2, 0.3]), {"frequency": 9.0, "phase": 0})])
        s.drives, s.forces.added, rows = [field], [field], []
        s.on_print = rows.append
        for _ in s.steps(False):
            pass
        ends.append([backend.to_host(atoms.x[:N])[np.argsort(backend.to_host(atoms.gid[:N]))].ravel(),
                     [rows[-1].driven[c] for c in field.column_names], [rows[-1].conserved, field.work]])
    for host, device in zip(*ends):
        np.testing.assert_allclose(device, host, atol=1e-10)
    assert abs(ends[0][2][1]) > 1e-6
