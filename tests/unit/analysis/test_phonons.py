"""Phonons of Lennard-Jones crystals: against ASE's, by dynamics, coherent scattering; messages of the command."""

import json

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet
from mpi4py import MPI

from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.instruments import TOSCA
from rxmdnn.analysis.neutron import Vibrations, neutron_spectrum
from rxmdnn.analysis.phonons import HarmonicCrystal
from rxmdnn.ase import Calculator
from rxmdnn.backend import make
from rxmdnn.commands import phonons as command
from rxmdnn.errors import InputError
from rxmdnn.io.series import open_series
from rxmdnn.models.pair import LennardJones
from tests import trajectories

CM = units.invcm


def calculator():
    potential = LennardJones(make("cpu"), ("Ar", "Ne"), epsilon=0.0104, sigma=3.4, cutoff=7.0)
    return Calculator(potential, backend=make("cpu"), comm=MPI.COMM_SELF)


@pytest.fixture(scope="module")
def argon():
    pytest.importorskip("phonopy")
    calc = calculator()
    unit = bulk("Ar", "fcc", a=5.25, cubic=True)
    return HarmonicCrystal.of(unit, command.forces_by(calc), (3, 3, 3))


@pytest.fixture(scope="module")
def layered():
    """Ar and Ne in layers, longer along c: anisotropic."""
    pytest.importorskip("phonopy")
    unit = Atoms("Ar2Ne2", cell=[5.2, 5.2, 5.4], pbc=True,
                 scaled_positions=[(0, 0, 0), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)])
    return HarmonicCrystal.of(unit, command.forces_by(calculator()), (3, 3, 3))


def test_wavenumbers_are_those_of_ase(argon, tmp_path):
    from ase.phonons import Phonons as AsePhonons

    other = AsePhonons(bulk("Ar", "fcc", a=5.25), calculator(), supercell=(5, 5, 5), delta=0.01, name=tmp_path / "ph")
    other.run()
    other.read(acoustic=True)
    points = np.array([[0.0, 0.5, 0.5], [0.5, 0.5, 0.5], [0.1, 0.25, 0.3]])
    # the same wave vectors in the two choices of primitive vectors
    ours = points @ np.linalg.inv(bulk("Ar", "fcc", a=5.25).cell.array).T @ argon.cell.T
    want = np.sort(other.band_structure(points), axis=1) / CM
    assert np.allclose(np.sort(argon.at(ours).wavenumber, axis=1)[:2], want[:2], rtol=0.03)
    exact = HarmonicCrystal.of(bulk("Ar", "fcc", a=5.25), command.forces_by(calculator()), (5, 5, 5))
    ours = points @ np.linalg.inv(bulk("Ar", "fcc", a=5.25).cell.array).T @ exact.cell.T
    assert np.allclose(np.sort(exact.at(ours).wavenumber, axis=1), want, rtol=2e-3, atol=0.1)


def test_a_mesh_counts_every_mode_once_and_keeps_the_symmetry(argon):
    modes = argon.mesh((6, 6, 6))
    assert modes.weight.sum() == pytest.approx(1.0) and len(modes.q) == 108 and not modes.imaginary
    _, sums, g = argon.sites(modes, 0.1)
    assert g.sum(axis=1) * 0.1 == pytest.approx(1.0)
    assert sums[0, 0, :, :3].sum(axis=0) == pytest.approx(1.0) and sums[0, 0, :, 3:] == pytest.approx(0.0, abs=1e-12)
    bands = argon.bands(5)
    assert bands.path.startswith("GXWK") and bands.ticks[0][1] == "G"
    assert bands.segments[0][1][0] == pytest.approx(0.0, abs=0.5)  # acoustic at Γ


def commensurate(crystal, box):
    """(n, 3) wave vectors that are periodic in a box (3, 3), Å, q and -q once, and the weight of each."""
    q = np.array(np.meshgrid(*[np.arange(-3, 5) / 4] * 3, indexing="ij")).reshape(3, -1).T
    whole = q @ np.linalg.inv(crystal.cell).T @ box.T
    q = np.unique(np.round(q[np.abs(whole - np.round(whole)).max(axis=1) < 1e-9] % 1, 6) % 1, axis=0)
    kept, weight = [], []
    for row in q:
        if not any(np.abs((row + other) - np.round(row + other)).max() < 1e-9 for other in kept):
            kept.append(row)
            own = np.abs(2 * row - np.round(2 * row)).max() < 1e-9
            weight.append(1 if own else 2)
    return np.array(kept), np.array(weight)


def test_dynamics_of_the_crystal_has_the_spectrum_of_its_phonons(argon, tmp_path):
    """Every mode of a small crystal is given the same energy; its velocities then show the phonons, as TOSCA sees."""
    atoms = bulk("Ar", "fcc", a=5.25, cubic=True) * (2, 2, 2)
    box, x = atoms.cell.array.copy(), atoms.positions.copy()
    crystal = HarmonicCrystal.of(atoms, command.forces_by(calculator()))
    q, weight = commensurate(crystal, box)
    assert weight.sum() == 32
    modes = crystal.at(q, weight)
    phase = np.exp(2j * np.pi * x @ np.linalg.inv(crystal.cell) @ q.T)  # (atoms, q)
    start = np.zeros_like(x)
    for k, mode in np.argwhere(modes.wavenumber > 1.0):
        field = phase[:, k, None] * modes.vectors[k, mode, 0]
        if weight[k] == 1:
            field = field / np.exp(1j * np.angle(field.ravel()[np.argmax(abs(field))]))
        start += weight[k] * field.real
    atoms.calc = calculator()
    atoms.set_velocities(start * 1e-5)
    v, dyn = [], VelocityVerlet(atoms, 10 * units.fs)
    dyn.attach(lambda: v.append(atoms.get_velocities() * units.fs))
    dyn.run(1999)
    run = trajectories.write(tmp_path / "run", ["Ar"] * 32, [39.948] * 32, np.tile(x, (2000, 1, 1)), np.array(v),
                             dt=10.0)
    seen = sp.measure(MPI.COMM_SELF, [open_series(run)], 2000, 10.0)
    energy, _, g = crystal.sites(modes, 0.02)
    low, top = 1.0, 15.0
    by_run, by_phonons = (neutron_spectrum([Vibrations("Ar", "Ar", 32, 39.948, e, dos)], 20.0, TOSCA, top, low)
                          for e, dos in ((seen.wavenumber * sp.MEV_PER_CM, seen.dos[0]), (energy, g[0])))
    assert by_run.u_squared["Ar"] == pytest.approx(by_phonons.u_squared["Ar"], rel=0.03)
    for name in ("one_phonon", "two_phonons"):
        a, b = (np.interp(np.arange(0, 15, 0.2), s.columns["energy_meV"], s.columns[name]).cumsum()
                for s in (by_run, by_phonons))
        assert np.abs(a / a[-1] - b / b[-1]).max() < 0.03 and a[-1] == pytest.approx(b[-1], rel=0.06)


def test_coherent_scattering_by_one_atom_per_cell_is_incoherent_far_out(argon):
    """At large Q the interference averages out; in any description of the crystal the result is the same."""
    from rxmdnn.analysis.coherent import powder_map

    b, tensors = np.array([2.0]), np.array([[0.004, 0.004, 0.004, 0, 0, 0]])
    q, energy = np.arange(8.0, 11.0, 0.25), np.arange(0, 12, 0.5)
    s = powder_map(argon, b, tensors, 20.0, q, energy)
    _, _, g = argon.sites(argon.mesh((8, 8, 8)), 0.5)
    e = energy[: g.shape[1]]
    up = 2.0901 / 39.948 * g[0][: len(e)] / np.maximum(e, 0.1) / -np.expm1(-np.maximum(e, 0.1) / 1.7235)
    want = 4 * np.pi * 4.0 * 1e-2 * (q**2 * np.exp(-q**2 * 0.004))[:, None] * up
    fast = e > 3.0  # slow phonons stand near Bragg reflections, in few of the directions
    assert s[:, : len(e)][:, fast].sum() == pytest.approx(want[:, fast].sum(), rel=0.03)


def test_positions_give_the_phases_of_coherent_scattering(layered):
    """The same crystal with its atoms moved by lattice vectors, and as a larger cell, scatters alike."""
    from rxmdnn.analysis.coherent import powder_map

    b = np.array([2.0 if n == "Ar" else 4.6 for n in layered.names])
    tensors = np.tile([0.01, 0.01, 0.02, 0, 0, 0], (len(b), 1))
    q, energy = np.array([2.0, 4.0]), np.arange(0, 20, 1.0)
    s = powder_map(layered, b, tensors, 20.0, q, energy)
    unit = Atoms("Ar2Ne2", cell=[5.2, 5.2, 5.4], pbc=True,
                 scaled_positions=[(1, 0, 0), (0.5, 1.5, 0), (0.5, 0, 0.5), (1, 0.5, 0.5)])
    unit.positions += 0.7
    other = HarmonicCrystal.of(unit, command.forces_by(calculator()), (3, 3, 3))
    b = np.array([2.0 if n == "Ar" else 4.6 for n in other.names])
    assert powder_map(other, b, tensors, 20.0, q, energy) == pytest.approx(s, rel=1e-3, abs=1e-6 * s.max())


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.948\n")
    bulk("Ar", "fcc", a=5.25, cubic=True).write(tmp_path / "ar.xyz")
    return tmp_path


def test_the_command_writes_bands_density_and_the_spectrum_of_an_instrument(place):
    pytest.importorskip("phonopy")
    command.main(["model.in", "ar.xyz", "--supercell", "2", "2", "2", "--mesh", "4", "4", "4", "--instrument", "tosca",
                  "--max", "200", "--coherent", "--json", "n.json", "-o", "out"])
    found = json.loads((place / "n.json").read_text())
    assert found["atoms_in_primitive_cell"] == 1 and found["imaginary_modes"] == 0 and 60 < found["highest_cm"] < 75
    dos = np.genfromtxt(place / "out/dos.csv", delimiter=",", names=True)
    assert np.trapezoid(dos["total_modes_per_cm"], dos["wavenumber_cm"]) == pytest.approx(3.0, rel=0.01)
    seen = np.genfromtxt(place / "out/neutron.csv", delimiter=",", names=True)
    assert seen["coherent_one_phonon"].max() > 0 and np.allclose(seen["all"], seen["incoherent"] + seen["coherent"])
    for name in ("phonons.png", "neutron.png", "phonons.h5", "phonopy_params.yaml", "bands.csv"):
        assert (place / "out" / name).stat().st_size > 1000


def test_imaginary_modes_are_said(place, capsys):
    pytest.importorskip("phonopy")
    bulk("Ar", "fcc", a=6.6, cubic=True).write(place / "torn.xyz")
    command.main(["model.in", "torn.xyz", "--mesh", "3", "3", "3", "--supercell", "2", "2", "2", "-o", "out"])
    printed = capsys.readouterr().out
    assert "modes of the mesh are imaginary, the worst" in printed and "imaginary_modes: 0" not in printed


def test_faults_are_refused(place, monkeypatch):
    for argv, words in ((["none", "ar.xyz"], "none: no such model file or model deck"),
                        (["model.in", "ar.xyz", "--supercell", "0", "1", "1"], "--supercell: must be three numbers"),
                        (["model.in", "ar.xyz", "--coherent"], "--coherent: goes with --instrument"),
                        (["model.in", "ar.xyz", "--instrument", "tosac"], "did you mean 'tosca'"),
                        (["model.in", "gone.xyz"], "gone.xyz: no such file")):
        monkeypatch.setattr(command, "phonopy", lambda: None)
        with pytest.raises(InputError, match=words):
            command.main(argv)


def test_without_phonopy_the_message_says_how_to_install_it(place, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "phonopy", None)
    with pytest.raises(InputError, match="needs the package phonopy: pip install"):
        command.main(["model.in", "ar.xyz"])
