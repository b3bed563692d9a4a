"""The 3-D view of structures: atoms, bonds across faces, marked atoms and cells as the browser gets them."""

import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from rxmdnn.analysis import structure_view
from rxmdnn.analysis.structure_view import ball, drawing, nearest, view


def test_a_molecule_across_a_face_is_drawn_whole():
    """Ammonia at the corner of a cell: six halves of bonds of 1.02 Å, three of nitrogen and three of hydrogen."""
    atoms = molecule("NH3", cell=[6.0, 7.0, 8.0], pbc=True)
    atoms.positions -= atoms.positions[0]
    atoms.wrap()
    assert np.ptp(atoms.positions, axis=0).max() > 5.0
    d = drawing(atoms, [])
    bonds = {e["name"]: np.array(e["bonds"]) for e in d["elements"]}
    assert {name: len(b) for name, b in bonds.items()} == {"N": 3, "H": 3}
    at = np.vstack([e["at"] for e in d["elements"]])
    assert np.ptp(at, axis=0).max() < 2.0
    assert (at.mean(axis=0) > -0.01).all() and (at.mean(axis=0) < [6.01, 7.01, 8.01]).all()
    length = atoms.get_distance(0, 1, mic=True)
    for b in bonds.values():
        assert np.linalg.norm(b[:, 3:] - b[:, :3], axis=1) == pytest.approx(length / 2, abs=2e-3)
    ends = np.sort(np.round(np.vstack([b[:, 3:] for b in bonds.values()]), 2), axis=0)
    assert ends[::2] == pytest.approx(ends[1::2], abs=0.011)  # both halves of a bond meet


def test_the_marked_atom_is_at_the_center_of_the_cell():
    atoms = bulk("Si", cubic=True)
    d = drawing(atoms, [5])
    edges = np.array(d["cell"])
    assert edges.shape == (12, 6)
    assert np.linalg.norm(edges[:, 3:] - edges[:, :3], axis=1) == pytest.approx(5.43, abs=2e-3)
    assert (d["marked"][0]["name"], d["marked"][0]["row"]) == ("Si", 5)
    assert d["marked"][0]["at"] == pytest.approx(edges.reshape(-1, 3).mean(axis=0), abs=2e-3)
    assert len({tuple(row) for row in np.round(edges.reshape(-1, 3), 2)}) == 8
    silicon = d["elements"][0]
    assert sorted(silicon["rows"]) == list(range(8)) and len(silicon["bonds"]) == 32  # four bonds per atom
    assert drawing(bulk("Al", cubic=True), [])["elements"][0]["bonds"] == []  # twelve neighbors


def test_clusters_have_no_cell_and_slabs_move_along_periodic_axes_only():
    atoms = molecule("NH3")
    d = drawing(atoms, [0])
    assert d["cell"] == [] and d["elements"][-1]["at"][0] == pytest.approx(atoms.positions[0].tolist(), abs=1e-3)
    slab = Atoms("H2", [[5.5, 0, -3.0], [0.2, 0, 9.0]], cell=[6, 6, 6], pbc=[True, True, False])
    z = np.array(drawing(slab, [0])["elements"][0]["at"])[:, 2]
    assert z.tolist() == [-3.0, 9.0]


def test_nearest_neighbors_count_images():
    atoms = Atoms("HN", [[0.1, 0, 0], [9.5, 0, 0]], cell=[10, 10, 10], pbc=True)
    assert nearest(atoms, 0) == (1, pytest.approx(0.6))
    atoms.pbc = False
    assert nearest(atoms, 0) is None  # beyond 8 Å


def test_texts_end_no_element_of_the_page():
    evil = "</script><script>alert(1)</script> & <b>"
    frames = [molecule("NH3"), molecule("H2O")]
    text = view(frames, [[0], []], [evil, "second"])
    held = json.loads(re.search(r"<script type=\"application/json\">(.*?)</script>", text)[1])
    assert [f["caption"] for f in held] == [evil, "second"] and evil not in text
    assert [len(f["marked"]) for f in held] == [1, 0] and 'max="1"' in text
    assert "type=\"range\"" not in view(frames[:1], [[]], [""])  # one frame needs no slider
    assert held[0]["marked"][0]["radius"] > ball(7)


def test_scripts_end_with_the_view():
    pytest.importorskip("plotly")
    library, own = structure_view.scripts()
    assert len(library) > 1e6 and "Plotly.react" in own and "</script" not in library + own
