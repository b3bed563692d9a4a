"""Frames of ammonia and their labels."""

import ase.build
import numpy as np
import pytest
from ase.io import read

from rxmdnn.io.canonical import names_of
from rxmdnn.labelling import ammonia_frames as frames
from rxmdnn.labelling import labelling
from rxmdnn.labelling.engines import ENGINES
from rxmdnn.labelling.executor import Processes
from rxmdnn.labelling.frame_text import text

MONOMERS = [t for t in frames.plan() if t.kind == "monomer"][:4]


def bonds(x):
    return np.linalg.norm(x[:, 1:] - x[:, :1], axis=2)


def test_molecule_and_crystal():
    m = frames.molecule(1.012, 106.7)
    assert bonds(m[None]) == pytest.approx(1.012)
    cosine = (m[1] - m[0]) @ (m[2] - m[0]) / 1.012**2
    assert np.degrees(np.arccos(cosine)) == pytest.approx(106.7)
    h, x = frames.solid(5.1305, 2)
    assert x.shape == (32, 4, 3) and np.diag(h) == pytest.approx(10.261)
    assert bonds(x) == pytest.approx(0.989, abs=1e-3)
    _, wide = frames.solid(5.3, 2)
    assert bonds(wide) == pytest.approx(bonds(x))
    d = frames.minimum_image(h, x[:, None, 0] - x[None, :, 0]) + 99 * np.eye(32)[..., None]
    assert np.sort(np.linalg.norm(d, axis=2), axis=1)[:, :7].min(0)[0] == pytest.approx(3.37, abs=0.05)  # N...N


def test_displacements_have_their_widths():
    rng = np.random.default_rng(0)
    _, x = frames.solid(5.1305, 4)
    moved = frames.thermal(x, frames.KT_REFERENCE, rng)
    assert (moved[:, 0] - x[:, 0]).std() == pytest.approx(frames.TRANSLATION, rel=0.1)
    assert (bonds(moved) - bonds(x)).std() == pytest.approx(frames.STRETCH, rel=0.15)
    hot = frames.thermal(x, 4 * frames.KT_REFERENCE, rng)
    assert (hot[:, 0] - x[:, 0]).std() == pytest.approx(2 * frames.TRANSLATION, rel=0.1)


def test_distortions_do_what_they_say():
    rng = np.random.default_rng(0)
    h, x = frames.solid(5.1305, 2)
    one = np.array([3])
    others = np.arange(32) != 3
    for moved in (frames.rotate(x, one, rng), frames.invert(x, one, rng)):
        assert (moved[others] == x[others]).all() and abs(moved[3] - x[3]).max() > 0.05
        assert bonds(moved) == pytest.approx(bonds(x))
    long = bonds(frames.stretch(x, one, 1.3, 1.5, rng))
    assert (long[3] > 1.29).any() and long[others] == pytest.approx(bonds(x)[others])
    n, hydrogen = slice(0, 1), slice(1, 4)
    for kind, rows in {"HH": (hydrogen, hydrogen), "NH": (n, hydrogen), "NN": (n, n)}.items():
        moved = frames.approach(h, x, kind, 1.4, rng)
        d = frames.minimum_image(h, moved[:, None, rows[0], None] - moved[None, :, None, rows[1]])
        r = np.linalg.norm(d, axis=-1) + 99 * np.eye(32)[:, :, None, None]
        assert abs(r - 1.4).min() < 1e-9 and bonds(moved) == pytest.approx(bonds(x))


def test_liquid_has_its_density_and_no_contacts():
    h, x = frames.liquid(32, 0.68, np.random.default_rng(2))
    assert 32 * frames.MASS_NH3 / 0.602214076 / np.linalg.det(h) == pytest.approx(0.68)
    flat = x.reshape(-1, 3)
    d = np.linalg.norm(frames.minimum_image(h, flat[:, None] - flat[None]), axis=2)
    other = np.arange(128)[:, None] // 4 != np.arange(128) // 4
    assert d[other].min() > 1.5


def test_plan_is_the_same_every_time_and_a_share_is_its_beginning():
    whole, part = frames.plan(), frames.plan(0.1)
    assert whole == frames.plan() and set(map(repr, part)) < set(map(repr, whole))
    assert len({t.group for t in whole}) == len(whole)
    for task in whole[::7]:
        h, x = frames.KINDS[task.kind](dict(task.parameters), task.rng())
        assert np.isfinite(x).all() and np.diag(h).min() > 9.0
        again = frames.KINDS[task.kind](dict(task.parameters), task.rng())
        assert (again[1] == x).all()


def test_a_killed_job_goes_on_and_gives_the_same_file(tmp_path):
    pytest.importorskip("tblite")
    path = tmp_path / "set.xyz"
    assert labelling.run(path, MONOMERS, "gfn1", Processes(1)) == {} and len(labelling.finished(path)) == 4
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 5 // 8])  # in the middle of a frame
    assert labelling.run(path, MONOMERS, "gfn1", Processes(1)) == {} and len(labelling.finished(path)) == 4
    assert path.read_bytes() == whole
    made = read(path, ":")
    assert [a.info["group"] for a in made] == [t.group for t in MONOMERS]
    assert all(a.info["engine"] == "GFN1-xTB" and a.info["version"].startswith("tblite") for a in made)
    assert made[0].get_stress().shape == (6,)


def test_labels_are_gradients(tmp_path):
    pytest.importorskip("tblite")
    atoms = frames.to_ase(*frames.dimer(12.0, 3.3, np.random.default_rng(0)))
    atoms.calc = ENGINES["gfn1"].calculator()
    frozen = frames.freeze(atoms)
    path = tmp_path / "one.xyz"
    frozen.info |= {"group": "dimer-000"}
    path.write_text(text(frozen))
    read_back = read(path)
    assert read_back.positions == pytest.approx(atoms.positions, abs=1e-6)
    assert labelling.check_forces([read_back], "gfn1", tmp_path / "check.csv") < 1e-4
    assert (tmp_path / "check.csv").read_text().count("\n") == 2
    md = frames.langevin(atoms, atoms.calc, 300.0, 4, [2, 4], np.random.default_rng(1))
    assert len(md) == 2 and abs(md[1].positions - md[0].positions).max() > 1e-4


def test_isotopes_are_masses_that_other_programs_read(tmp_path):
    atoms = ase.build.molecule("NH3")
    atoms.arrays["forces"] = np.ones((4, 3))
    atoms.arrays["id"] = np.array([4, 3, 2, 1])
    atoms.set_masses([14.007, 2.014, 1.008, 3.016])
    (tmp_path / "heavy.xyz").write_text(text(atoms))
    found = read(tmp_path / "heavy.xyz")
    assert found.get_chemical_symbols() == ["N", "H", "H", "H"] and found.arrays["id"].tolist() == [4, 3, 2, 1]
    assert found.get_masses() == pytest.approx(atoms.get_masses())
    assert names_of(found).tolist() == ["N", "D", "H", "T"]
    assert "masses" not in text(ase.build.molecule("CH4"), "positions")
