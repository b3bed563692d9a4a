"""More epochs of a finished training, a fine-tune with a new element, what the model file tells a run."""

import numpy as np
import pytest
import torch

from rxmdnn.commands.check import main as check_main
from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import atoms_of_training, load_model, save_model
from rxmdnn.training import dataset, metrics, training
from rxmdnn.training.from_model import extend
from tests.unit.training.test_training import DECK, SMALL, same_threads, structures, to_frame, workplace  # noqa: F401


def test_more_epochs_are_those_of_a_longer_training(tmp_path, capsys):
    whole = training.train(decks.read(workplace(tmp_path / "whole", DECK + "epochs 3\n"), TABLE))
    path = workplace(tmp_path / "parts", DECK + "epochs 2\nstop 50\n")
    assert training.train(decks.read(path, TABLE))["epochs"] == 2
    more = training.train(decks.read(path, TABLE, ["--epochs", "3"]))
    assert more["epochs"] == 3 and more["validation"] == whole["validation"]
    states = [load_model(tmp_path / p / "model.safetensors").state_dict() for p in ("whole", "parts")]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    out = capsys.readouterr().out
    assert f"for a run, in rxmdnn.in:\nallegro {tmp_path / 'parts' / 'model.safetensors'} 2 N 14.007 H 1.008" in out


def test_an_element_without_frames_is_said_by_train_check_and_run(tmp_path, capsys):
    text = DECK.replace("elements    N H", "elements    N H O")
    model = tmp_path / "model.safetensors"
    training.train(decks.read(workplace(tmp_path, text + "epochs 1\n"), TABLE))
    assert "note: no training frame holds O" in capsys.readouterr().out
    counts = atoms_of_training(model)
    assert counts["O"] == 0 and counts["N"] == 16 and counts["H"] > 30
    (tmp_path / "rxmdnn.in").write_text(f"allegro {model.name} 3 N 14 H 1 O 16\n")
    (tmp_path / "start.xyz").write_text('2\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\n'
                                        "H 1 1 1\nO 3 1 1\n")
    (tmp_path / "rxmd.in").write_text("mdmode 1\ntime 1.0 1\ntemperature 0 1 1\nmodel rxmdnn.in\n"
                                      "structure start.xyz\ncheckpoint 0\n")
    check_main([str(tmp_path / "rxmd.in")])
    line = "note: model.safetensors: no frame of its training holds O: the forces on 1 O are meaningless"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize("make", [
    lambda: AllegroNetwork(AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, shift=(-3.0, -1.0), **SMALL),
                           torch.float64),
    lambda: LegacyNetwork(LegacyConfig(("N", "H"), 3.5, n_tensor=4, embed_widths=(8, 8), latent_widths=(8,),
                                       readout_widths=(8,), average_neighbors=(5.0, 4.0)), torch.float64)])
def test_a_new_element_leaves_the_known_ones_alone(tmp_path, make):
    old = make()
    deck = decks.parse(DECK.replace("N H", "N H O"), workplace(tmp_path), TABLE)
    found = dataset.Statistics(np.array([9.0, 9.0, 3.0]), np.array([8.0, 8.0, 2.0]), np.zeros(3))
    new = extend(old, ("N", "H", "O"), found, deck)
    data = dataset.Dataset([to_frame(a) for a in structures(2)], 3.5)
    before, after = (metrics.predict(n, data, [0, 1], [[0, 1]]) for n in (old, new))
    for k in (0, 1):
        assert after[k][0] == pytest.approx(before[k][0], abs=1e-10)
        np.testing.assert_allclose(after[k][1], before[k][1], atol=1e-10)
    assert new.scale.tolist()[2] == 2.0 and new.config.per_species("average_neighbors")[2] == 3.0


def test_a_fine_tune_adds_an_element(tmp_path):
    model = tmp_path / "first.safetensors"
    config = AllegroConfig(("N", "H"), 3.5, l_max=1, n_layers=2, average_neighbors=5.0, shift=(-3.0, -1.0), **SMALL)
    save_model(model, AllegroNetwork(config), {"atoms": '{"N": 5, "H": 7}'})
    frames = structures()
    for atoms in frames[::2]:
        atoms.symbols[3] = "O"
    text = DECK.replace("N H", "N H O").replace("network     1 2 8 4\nmlp         8 1 8\n", "") + \
        "from_model first.safetensors\nepochs 1\n"
    training.train(decks.read(workplace(tmp_path, text, frames), TABLE))
    tuned = load_model(tmp_path / "model.safetensors")
    assert tuned.config.elements == ("N", "H", "O") and np.isfinite(tuned.shift.numpy()).all()
    counts = atoms_of_training(tmp_path / "model.safetensors")
    assert counts["N"] == 5 + 16 and counts["O"] > 0
