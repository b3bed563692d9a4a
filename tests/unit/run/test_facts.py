"""Facts of a run: a model is known by its content, not by its file's name or by what monitoring has added to it."""

import shutil

import numpy as np
import pytest
import torch

from rxmdnn.deck.run import read_run
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import add_to_model, save_model
from rxmdnn.run.facts import digest, facts_of


def model(path, seed=1, r_max=4.0):
    torch.manual_seed(seed)
    config = AllegroConfig(("N", "H"), r_max, average_neighbors=5.0, n_scalar=4, n_tensor=2, seed=seed)
    save_model(path, AllegroNetwork(config), {"note": str(path)})
    return path


@pytest.fixture
def decks(tmp_path):
    (tmp_path / "start.xyz").write_text('1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
                                        "H 1 1 1\n")
    model(tmp_path / "a.safetensors")
    (tmp_path / "rxmdnn.in").write_text("allegro a.safetensors 2 H 1.008 N 14.007\n")
    (tmp_path / "rxmd.in").write_text("mdmode 1\ntime 0.5 10\ntemperature 60 1.0 1\nstructure start.xyz\n")
    return tmp_path


def test_a_model_is_its_network(tmp_path):
    first = digest(model(tmp_path / "a.safetensors"))
    assert digest(model(tmp_path / "renamed.safetensors")) == first
    add_to_model(tmp_path / "a.safetensors", tmp_path / "more.safetensors", "fidelity.", {"x": np.ones(3)}, "{}")
    assert digest(tmp_path / "more.safetensors") == first
    assert digest(model(tmp_path / "b.safetensors", seed=2)) != first
    assert digest(model(tmp_path / "c.safetensors", r_max=4.5)) != first


def test_a_file_of_another_kind_is_its_bytes(tmp_path):
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
    a, b, c = (digest(tmp_path / name) for name in ("a.pth", "b.pth", "c.pth"))
    assert a == b != c


def test_facts_do_not_depend_on_places_and_change_with_what_is_read(decks):
    words = ["--rxmdin", str(decks / "rxmd.in")]
    facts = facts_of(read_run(words))
    shutil.copytree(decks, decks / "copy")
    assert facts_of(read_run(["--rxmdin", str(decks / "copy" / "rxmd.in")])) == facts

    def changed(*flags):
        other = facts_of(read_run([*words, *flags]))
        return {name for name in facts if other[name] != facts[name]}

    assert changed("--ntime_step", "20") == changed("--pstep", "5") == changed("--outDir", "X") == set()
    assert changed("--dt", "0.25") == {"time_step"} and changed("--seed", "2") == {"seed"}
    assert changed("--structure", str(decks / "start.xyz"), "2", "1", "1") == {"structure"}
    assert changed("--ensemble", "langevin", "0.1", "--pimd", "4") == {"ensemble", "pimd", "rings"}
    model(decks / "a.safetensors", seed=2)
    assert changed() == {"models"}


def test_a_calculator_of_a_file_is_its_content(decks):
    """Wherever the deck lies and from wherever it is run."""
    (decks / "rxmdnn.in").write_text("ase mine.py:make 2 H 1.008 N 14.007\n")
    (decks / "mine.py").write_text("def make():\n    pass\n")
    shutil.copytree(decks, decks / "copy")
    here, there = (facts_of(read_run(["--rxmdin", str(place / "rxmd.in")])) for place in (decks, decks / "copy"))
    assert here == there
    (decks / "copy/mine.py").write_text("def make():\n    return None\n")
    there = facts_of(read_run(["--rxmdin", str(decks / "copy/rxmd.in")]))
    assert {name for name in here if there[name] != here[name]} == {"models"}
