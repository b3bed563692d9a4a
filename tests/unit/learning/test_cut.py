"""Clusters around the worst atom: whole molecules, right images, the forces of the whole frame inside."""

import ase
import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.learning.cut import cut, molecules
from tests.systems import TRICLINIC, ammonia, spread_atoms


def test_a_small_frame_stays_whole_without_labels_and_velocities():
    atoms = ammonia(n=10)
    atoms.set_velocities(np.ones((40, 3)))
    atoms.info |= {"energy": 3.0, "run": "a/64/300/0", "origin": "x.xyz:3"}
    atoms.set_array("model_forces", np.ones((40, 3)))
    found = cut(atoms, 7, 40)
    assert found.positions.tolist() == atoms.positions.tolist() and found.pbc.all()
    assert np.array_equal(found.cell, atoms.cell) and found.arrays["worst"].nonzero()[0].tolist() == [7]
    assert "momenta" not in found.arrays and "model_forces" not in found.arrays
    assert found.info == {"run": "a/64/300/0", "origin": "x.xyz:3"}


@pytest.mark.parametrize("worst", range(0, 160, 17))
def test_molecules_stay_whole_and_the_nearest_images_are_taken(worst):
    atoms = ammonia()
    found = cut(atoms, worst, 64)
    assert len(found) % 4 == 0 and 56 < len(found) <= 64 and not found.pbc.any()
    r = found.get_all_distances()
    nitrogen = found.numbers == 7
    assert (np.sort(r[nitrogen][:, ~nitrogen], axis=1)[:, :3] < 1.1).all()
    center = int(found.arrays["worst"].argmax())
    assert found.arrays["frame_atom"][center] == worst and found.arrays["worst"].sum() == 1
    # every image of every atom, by brute force: those nearer than cut_radius, and no others, surround the worst atom
    shifts = np.array([[i, j, k] for i in (-2, -1, 0, 1, 2) for j in (-2, -1, 0, 1, 2) for k in (-2, -1, 0, 1, 2)])
    every = (atoms.positions[None] + (shifts @ atoms.cell)[:, None] - atoms.positions[worst]).reshape(-1, 3)
    near = every[np.linalg.norm(every, axis=1) < found.info["cut_radius"] - 1e-3]
    own = found.positions - found.positions[center]
    own = own[np.linalg.norm(own, axis=1) < found.info["cut_radius"] - 1e-3]
    assert len(near) == len(own) > 12
    assert np.abs(near[np.lexsort(near.round(6).T)] - own[np.lexsort(own.round(6).T)]).max() < 1e-9
    inside = np.linalg.solve(np.array(found.cell).T, found.positions.T)
    assert inside.min() > 0 and inside.max() < 1


def test_inner_forces_are_those_of_the_whole_frame():
    atoms = ammonia(Cell(np.eye(3) * 20.0), 140)
    model = LennardJones(sigma=0.9, epsilon=0.1, rc=2.2, smooth=True)
    forces = model.get_forces(atoms)
    for worst in (5, 233, 501):
        found = cut(atoms, worst, 64)
        center = int(found.arrays["worst"].argmax())
        inner = found.get_distances(center, range(len(found))) < found.info["cut_radius"] - 2.2
        assert inner.sum() >= 4 and inner[center]
        of_cluster = model.get_forces(found)
        assert np.abs(of_cluster - forces[found.arrays["frame_atom"]])[inner].max() < 1e-9
        assert np.abs(of_cluster - forces[found.arrays["frame_atom"]]).max() > 1e-3  # the surface differs


def test_a_stretched_bond_is_not_cut():
    atoms = ammonia()
    nitrogen = int(np.flatnonzero(atoms.numbers == 7)[0])
    d = atoms.get_distances(nitrogen, range(len(atoms)), mic=True, vector=True)
    bonded = int(np.flatnonzero((np.linalg.norm(d, axis=1) < 1.1) & (atoms.numbers == 1))[0])
    atoms.positions[bonded] = atoms.positions[nitrogen] + d[bonded] * 1.55 / np.linalg.norm(d[bonded])
    found = cut(atoms, nitrogen, 4)
    assert sorted(found.symbols) == ["H", "H", "H", "N"] and bonded in found.arrays["frame_atom"]


def test_an_engine_without_open_frames_gets_a_box():
    atoms = ammonia()
    boxed, free = cut(atoms, 0, 64, (3,)), cut(atoms, 0, 64, (0, 3))
    assert boxed.pbc.all() and not free.pbc.any()
    gap = np.array(boxed.cell).diagonal() - np.ptp(boxed.positions, axis=0)
    assert np.allclose(gap, 10.0) and boxed.get_volume() / len(boxed) > 25  # the engines take molecules in a box
    layer = atoms.copy()
    layer.pbc = (True, True, False)
    whole = cut(layer, 0, 160, (0, 3))
    assert whole.pbc.all() and np.array_equal(whole.cell[:2], atoms.cell[:2])
    height = whole.positions @ np.array(whole.cell[2]) / np.linalg.norm(whole.cell[2])
    assert np.isclose(np.linalg.norm(whole.cell[2]) - np.ptp(height), 10.0)
    assert np.allclose(whole.cell[:2] @ whole.cell[2], 0)


def test_a_narrow_cell_gives_two_images_of_a_molecule():
    atoms = ammonia(Cell(np.diag([90.0, 6.0, 6.0])), 50)
    found = cut(atoms, 0, 64)
    rows = found.arrays["frame_atom"]
    assert len(np.unique(rows)) < len(rows) and found.get_all_distances()[np.triu_indices(len(rows), 1)].min() > 0.9


def shaken(atoms, width, seed=1):
    atoms.positions += np.random.default_rng(seed).normal(0, width, (len(atoms), 3))
    return atoms


@pytest.mark.parametrize(("crystal", "kept"), [(ase.build.bulk("Si", cubic=True) * (4, 4, 4), 64),
                                               (ase.build.bulk("Si") * (6, 6, 6), 54),
                                               (ase.build.bulk("Cu", cubic=True) * (4, 6, 4), 64)])
def test_a_crystal_gives_a_small_cell_with_the_neighbors_of_the_frame(crystal, kept):
    atoms, worst = shaken(crystal.copy(), 0.15), 100
    found = cut(atoms, worst, 64)
    assert found.pbc.all() and len(found) == kept == len(set(found.arrays["frame_atom"]))
    assert np.isclose(found.get_volume() / kept, atoms.get_volume() / len(atoms))
    center, half = int(found.arrays["worst"].argmax()), Cell(found.cell).widths.min() / 2
    near, all_near = _all_distances(found, center), _all_distances(atoms, worst)
    shell = np.sort(near)[1 : 1 + (near < half - 0.5).sum() - 1]
    assert len(shell) >= 12 and np.allclose(shell, np.sort(all_near)[1 : 1 + len(shell)], atol=1e-9)
    assert min(np.sort(_all_distances(found, k))[1] for k in range(kept)) > 1.5  # at the boundary too


def test_a_crystal_of_two_elements_keeps_its_composition():
    atoms = shaken(ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 3, 4), 0.1)
    found = cut(atoms, 11, 64)
    assert found.pbc.all() and len(found) % 8 == 0 and (found.numbers == 11).sum() == len(found) / 2


def test_a_melt_gives_the_nearest_atoms():
    atoms = ase.Atoms("Cu200", spread_atoms(TRICLINIC, 200, 1.5), cell=TRICLINIC.h, pbc=True)
    found = cut(atoms, 9, 64)
    assert len(found) == 64 and not found.pbc.any() and np.isclose(
        found.info["cut_radius"], np.sort(_all_distances(atoms, 9))[64], atol=1e-3)


def _all_distances(atoms, of):
    shifts = np.stack(np.meshgrid(*[(-2, -1, 0, 1, 2)] * 3), -1).reshape(-1, 3)
    return np.linalg.norm(atoms.positions[None] + (shifts @ atoms.cell)[:, None] - atoms.positions[of],
                          axis=-1).ravel()


def test_a_molecule_over_the_boundary_is_one_piece_and_an_endless_chain_is_none():
    cell = Cell(np.diag([15.0, 9.0, 9.0]))
    x = np.column_stack([np.arange(10) * 1.5, np.zeros(10), np.zeros(10)])
    chain = ase.Atoms("C10", x, cell=cell.h, pbc=True)
    assert molecules(chain, cell, 64).size.tolist() == [1] * 10
    part = chain[[0, 1, 2, 8, 9]]  # 12, 13.5, then 15 = 0
    found = molecules(part, cell, 64)
    assert found.size.tolist() == [5] * 5 and np.ptp(found.x[:, 0]) == pytest.approx(6.0)
    assert molecules(part, cell, 4).size.tolist() == [1] * 5


def test_molecules_stay_whole_between_atoms_of_a_metal():
    atoms = ammonia(n=20)
    away = [x for x in spread_atoms(TRICLINIC, 130, 2.0, 7) if _nearest(atoms, x) > 1.9]
    atoms += ase.Atoms(f"Cu{len(away)}", away)
    assert len(away) > 20
    found = cut(atoms, len(atoms) - 1, 64)
    d = found.get_all_distances()
    nitrogen, hydrogen = found.numbers == 7, found.numbers == 1
    assert hydrogen.sum() == 3 * nitrogen.sum() > 0 and (np.sort(d[nitrogen][:, hydrogen])[:, :3] < 1.1).all()


def _nearest(atoms, x):
    d = atoms.positions - x
    s = d @ TRICLINIC.inverse
    return np.linalg.norm((s - np.round(s)) @ TRICLINIC.h, axis=1).min()


def test_masses_of_heavy_hydrogen_stay():
    atoms = ammonia()
    masses = atoms.get_masses()
    masses[atoms.numbers == 1] = 2.0141
    atoms.set_masses(masses)
    found = cut(atoms, 3, 32)
    assert np.allclose(found.get_masses()[found.numbers == 1], 2.0141)


def test_rows_that_do_not_exist_and_nan_are_refused():
    atoms = ammonia()
    with pytest.raises(InputError, match="has no atom 160"):
        cut(atoms, 160)
    atoms.positions[3, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        cut(atoms, 0)
