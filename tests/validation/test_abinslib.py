"""One- and two-phonon powder spectra of a harmonic crystal against `abinslib` (almost isotropic), where it installs."""

import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from mpi4py import MPI

from rxmdnn.analysis.inelastic import Phonons, like_debye_below
from rxmdnn.analysis.instruments import TOSCA
from rxmdnn.analysis.phonons import HarmonicCrystal
from rxmdnn.analysis.powder import Anisotropy, Sites
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.ase import Calculator
from rxmdnn.backend import make
from rxmdnn.commands.phonons import forces_by
from rxmdnn.models.pair import LennardJones

pytestmark = pytest.mark.validation
TEMPERATURE, ANGLE, STEP, WIDE = 30.0, 135.0, 0.02, 1.0  # K, degrees; meV: fine bins, bins that are compared


@pytest.fixture(scope="module")
def crystal():
    """Layers of Ar and of a light Ne, longer along c: anisotropic, with a <u²> that matters."""
    pytest.importorskip("phonopy")
    unit = Atoms("Ar2Ne2", cell=[5.2, 5.2, 5.4], pbc=True, masses=[40.0, 40.0, 4.0, 4.0],
                 scaled_positions=[(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)])
    potential = LennardJones(make("cpu"), ("Ar", "Ne"), epsilon=0.0104, sigma=3.4, cutoff=7.0)
    return HarmonicCrystal.of(unit, forces_by(Calculator(potential, backend=make("cpu"), comm=MPI.COMM_SELF)),
                              (3, 3, 3))


def by_abinslib(crystal, modes):
    """({order: (atoms, bins)}, edges of the bins): intensities at the Q² of TOSCA for the energy of every mode."""
    pytest.importorskip("abinslib")
    from abinslib.almost_isotropic_incoherent import (
        calculate_almost_isotropic_incoherent_combinations,
        calculate_almost_isotropic_incoherent_fundamentals,
    )
    from abinslib.displacements import Displacements
    from euphonic import Crystal, QpointPhononModes, ureg

    inside = crystal.x @ np.linalg.inv(crystal.cell)
    names = np.array([str(n) for n in crystal.names])
    cell = Crystal(crystal.cell * ureg("Å"), inside, names, crystal.mass * ureg("amu"))
    energy = modes.wavenumber * MEV_PER_CM
    found = QpointPhononModes(cell, modes.q, energy * ureg("meV"), modes.vectors, weights=modes.weight)
    moved = Displacements.from_modes(found, TEMPERATURE * ureg("K"), 0.1 * ureg("meV"))
    still = moved.to_atomic_displacements()
    edges = np.arange(-WIDE / 2, 2.1 * energy.max(), WIDE)
    one = calculate_almost_isotropic_incoherent_fundamentals(
        moved, still, TOSCA.q_squared(energy.ravel(), ANGLE).reshape(energy.shape) * ureg("Å^-2"))
    pair = energy[:, :, None, None] + energy
    two = calculate_almost_isotropic_incoherent_combinations(
        moved, still, TOSCA.q_squared(pair.ravel(), ANGLE).reshape(pair.shape) * ureg("Å^-2"), include_dw=False)
    trace = 2 * np.einsum("aii->a", still.to("Å^2").magnitude) / 3
    damped = np.exp(-TOSCA.q_squared(pair.ravel(), ANGLE).reshape(pair.shape)[..., None] * trace)
    # its table holds every combination twice, (ν, ν') and (ν', ν), and every overtone once
    n = energy.size
    once = np.where(np.eye(n, dtype=bool), 1.0, 0.5).reshape(pair.shape)
    two = two * damped * (once * modes.weight[:, None, None, None] * modes.weight[:, None])[..., None]
    one = one * modes.weight[:, None, None]
    binned = {1: [np.histogram(energy, edges, weights=one[..., a])[0] for a in range(len(names))],
              2: [np.histogram(pair, edges, weights=two[..., a])[0] for a in range(len(names))]}
    return {order: np.array(rows) for order, rows in binned.items()}, edges


def ammonia():
    """Solid ammonia by density functional theory, one cell: its modes at Γ, of which three are translations."""
    phonopy = pytest.importorskip("phonopy")
    folder = Path(os.environ.get("RXMDNN_TEST_DATA", "none")) / "ammonia_phonons"
    if not folder.is_dir():
        pytest.skip("needs RXMDNN_TEST_DATA with ammonia_phonons")
    found = phonopy.load(folder / "ph_disp.yaml", produce_fc=False, log_level=0)
    found.forces = np.load(folder / "ph_F.npy")
    found.produce_force_constants()
    found.symmetrize_force_constants()
    return HarmonicCrystal(found)


def test_orders_one_and_two_are_those_of_abinslib_in_a_soft_crystal(crystal):
    assert_same(crystal, crystal.mesh((2, 2, 2)))


def test_orders_one_and_two_are_those_of_abinslib_in_ammonia():
    """<u²> of hydrogen differs by a factor of three between its axes."""
    crystal = ammonia()
    assert_same(crystal, crystal.mesh((1, 1, 1)))


def assert_same(crystal, modes):
    """Both orders, by kind of atom, in bins of WIDE and in their sums."""
    assert not modes.imaginary
    want, edges = by_abinslib(crystal, modes)
    energy, sums, g = crystal.sites(modes, STEP)
    anisotropic = False
    for name in dict.fromkeys(crystal.names.tolist()):
        own = crystal.names == name
        # g is normalized to a complete set of modes; those that are missing are put into the mass
        mass = float(crystal.mass[own][0] / (g[own].mean(axis=0).sum() * STEP))
        density = like_debye_below(energy, g[own].mean(axis=0), 0.0)
        aniso = Anisotropy(Sites.of(STEP, sums[:, own]), energy, density, mass, TEMPERATURE, 0.0)
        q_most = float(TOSCA.q_squared(np.array([edges[-1]]), ANGLE)[0])
        p = Phonons.of(energy, density, mass, TEMPERATURE, q_most, float(edges[-1]))
        e = p.energy[p.energy >= 0]
        q_sq = np.zeros_like(p.energy)
        q_sq[p.energy >= 0] = TOSCA.q_squared(e, ANGLE)
        each, q = p.by_order(q_sq)[:2, p.energy >= 0] * p.step, q_sq[p.energy >= 0]
        for order, factor in ((1, aniso.first), (2, aniso.second)):
            seen = each[order - 1] * factor(e, q)
            ours = np.histogram(e + 1e-9, edges, weights=seen)[0]
            theirs = want[order][own].mean(axis=0)
            if order == 2:  # below, ours also holds the creation of one with the absorption of another phonon
                fast = edges[:-1] > (energy[-1] * 1.02 if energy[-1] < 50 else 0.0)
                ours, theirs = ours[fast], theirs[fast]
            assert ours.sum() == pytest.approx(theirs.sum(), rel=0.01), (name, order)
            assert np.abs(ours.cumsum() - theirs.cumsum()).max() < 0.01 * theirs.sum(), (name, order)
            plain = np.histogram(e + 1e-9, edges, weights=each[order - 1])[0][-len(ours):]
            anisotropic |= abs(plain.sum() / theirs.sum() - 1) > 0.01
    assert anisotropic  # the isotropic form is not enough here
