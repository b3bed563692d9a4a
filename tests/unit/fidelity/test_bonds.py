"""Bonds of molecules and networks are told from other pairs; those of metals, ionic melts and liquids are not."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from rxmdnn.errors import InputError
from rxmdnn.fidelity.bonds import bond_range, covalent_pairs
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.fidelity.reference import Reference, Sample

CUTOFF = 5.0


def measure(frames, elements, cutoff=CUTOFF):
    """The reference of frames whose features are random."""
    samples, rng = [], np.random.default_rng(3)
    for atoms in frames:
        i, j, r = neighbor_list("ijd", atoms, cutoff)
        species = np.array([elements.index(s) for s in atoms.symbols])
        samples.append(Sample(species, i, j, r, rng.normal(size=(len(atoms), 3)), rng.normal(size=(len(atoms), 4))))
    return Reference.measure(elements, samples, np.full((len(elements), len(elements)), cutoff))


def rattled(atoms, spread, n=8, seed=0):
    """n copies with normal displacements of all atoms, Å, and random strains of 1 %."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(n):
        frame = atoms.copy()
        frame.set_cell(frame.cell * (1 + rng.normal(0, 0.01)), scale_atoms=True)
        frame.positions += rng.normal(0, spread, frame.positions.shape)
        out.append(frame)
    return out


def alloy():
    atoms = bulk("Cu", "fcc", 3.85, cubic=True) * (2, 2, 2)
    atoms.symbols[np.random.default_rng(1).permutation(32)[:16]] = "Au"
    return atoms


def liquid(symbols, length, closest, seed=0):
    """A random packing: atoms at least ``closest`` apart, Å, by repeated soft pushes."""
    rng = np.random.default_rng(seed)
    atoms = Atoms(symbols, cell=[length] * 3, pbc=True)
    atoms.positions = rng.uniform(0, length, (len(atoms), 3))
    for _ in range(400):
        i, d = neighbor_list("iD", atoms, closest)
        r = np.linalg.norm(d, axis=1, keepdims=True)
        if not len(r) or r.min() > 0.97 * closest:
            break
        np.add.at(atoms.positions, i, 0.25 * d * (1 - closest / r))
    return atoms


METHANOL = molecule("CH3OH", vacuum=4.0)
SALT = bulk("NaCl", "rocksalt", 5.64, cubic=True) * (2, 2, 2)
LOOSE = {
    "alloy at 300 K": (lambda: rattled(alloy(), 0.09), ("Cu", "Au")),
    "cold alloy, with a gap between its shells": (lambda: rattled(alloy(), 0.01), ("Cu", "Au")),
    "body-centered iron": (lambda: rattled(bulk("Fe", "bcc", 2.87, cubic=True) * (3, 3, 3), 0.08), ("Fe",)),
    "liquid copper": (lambda: [liquid("Cu100", 11.0, 2.1, k) for k in range(3)], ("Cu",)),
    "sodium chloride at 300 K": (lambda: rattled(SALT, 0.17), ("Na", "Cl")),
    "molten salt": (lambda: [liquid("Na50Cl50", 14.5, 2.4, k) for k in range(3)], ("Na", "Cl")),
}
BONDED = {
    "a molecule in vacuum": (lambda: rattled(METHANOL, 0.03, 60), ("H", "C", "O"), {"H-C", "H-O", "C-O"}),
    "water": (lambda: [rattled(liquid("O24", 9.0, 2.7, k), 0.0, 1)[0] for k in range(4)], ("H", "O"), {"H-O"}),
    "silicon": (lambda: rattled(bulk("Si", "diamond", 5.43, cubic=True) * (2, 2, 2), 0.07), ("Si",), {"Si-Si"}),
}


def hydrated(oxygen, rng):
    """Water molecules of random orientations on the oxygens."""
    out = oxygen.copy()
    for x in oxygen.positions:
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.positions += x - water.positions[0]
        out += water[1:]
    return out


def told(reference):
    e, t = reference.elements, range(len(reference.elements))
    return {f"{e[a]}-{e[b]}" for a in t for b in t if a <= b and np.isfinite(reference.longest[a, b])}


@pytest.mark.parametrize("name", LOOSE)
def test_no_bonds_in_metals_ionic_melts_and_liquids(name):
    make, elements = LOOSE[name]
    found = measure(make(), elements)
    limits = found.tighten(Limits.of(elements))
    assert not told(found) and not limits.bonded[np.ix_([0], [0])].any()
    near = limits.bonded > 0  # only pairs that no frame has near, as Cl-Cl
    assert (limits.most[near] == 0).all() and np.isinf(limits.most[~near]).all()
    assert np.isinf(limits.longest[~near]).all() and (limits.closest > 0).all()


@pytest.mark.parametrize("name", BONDED)
def test_bonds_of_molecules_and_networks(name):
    make, elements, bonds = BONDED[name]
    frames = make()
    if name == "water":
        rng = np.random.default_rng(5)
        frames = [f for oxygen in frames for f in rattled(hydrated(oxygen, rng), 0.03, 2)]
    found = measure(frames, elements)
    assert told(found) == bonds
    limits = found.tighten(Limits.of(elements))
    text = limits.bonds_text()
    assert text.startswith("watched for") and all(bond in text for bond in bonds)
    if name == "water":
        assert found.fewest[1, 0] == found.most[1, 0] == 2 and found.most[0, 0] == 0


def test_a_few_stretched_bonds_leave_the_gap_but_many_do_not():
    rng = np.random.default_rng(0)
    bonds, others = rng.normal(1.0, 0.03, 5000), rng.uniform(2.2, 5.0, 50000)
    longest, end = bond_range(np.sort(np.r_[bonds, others]), 1.33, CUTOFF)
    assert longest == bonds.max() and 1.3 < end < 2.0
    few, many = np.linspace(1.0, 2.2, 100), np.linspace(1.0, 2.2, 1000)
    longest, end = bond_range(np.sort(np.r_[bonds, others, few]), 1.33, CUTOFF)
    assert 1.2 < longest < end < 2.0
    assert bond_range(np.sort(np.r_[bonds, others, many]), 1.33, CUTOFF)[1] == 0.0
    assert bond_range(np.sort(others), 1.33, CUTOFF)[1] == 1.33
    assert bond_range(np.sort(bonds)[:10], 1.33, CUTOFF)[1] == 0.0  # too few to tell


def test_without_training_frames_only_bonds_of_nonmetals_are_known():
    elements = ("D", "Cu", "Ar", "N")
    known = covalent_pairs(elements)
    assert known[0, 3] and known[0, 0] and not known[1].any() and not known[2].any()
    limits = Limits.of(elements)
    assert (limits.bonded > 0).tolist() == known.tolist() == np.isfinite(limits.longest).tolist()
    assert "not watched for D-Cu" in limits.bonds_text() and "only bonds between nonmetals" in limits.bonds_text()


def test_an_earlier_model_file_has_no_bonds_in_close_packed_shells():
    found = measure(rattled(alloy(), 0.09), ("Cu", "Au"))
    old = replace(found, bonded=np.full((2, 2), 3.4), longest=np.full((2, 2), 3.39), fewest=np.zeros((2, 2)),
                  most=np.full((2, 2), 11.0))
    limits = old.tighten(Limits.of(found.elements))
    assert not limits.bonded.any() and np.isinf(limits.most).all()


def test_a_rare_element_does_not_take_the_statistics_of_the_others():
    atoms = alloy()
    atoms.symbols[:] = "Cu"
    frames = rattled(atoms, 0.09)
    frames[0].symbols[0] = "Au"
    found = measure(frames, ("Cu", "Au", "Pt"))
    assert np.isfinite([found.force[0], found.latent[0], found.closest[0, 0]]).all()
    assert np.isnan([*found.force[1:], *found.latent[1:], found.closest[0, 1]]).all()
    assert found.missing() == ["Au, Pt: fewer than 50 atoms in the training frames; not monitored"]
    limits = found.tighten(Limits.of(found.elements))
    assert np.isfinite(limits.force[0]) and np.isinf(limits.force[1:]).all() and (limits.closest > 0).all()
    with pytest.raises(InputError, match="no element has 50 atoms in the frames: 32 Cu, 0 Au"):
        measure([atoms], ("Cu", "Au"))
