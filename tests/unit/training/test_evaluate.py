"""rxmdnn evaluate: the same errors as by the training network, the tail, parts of the data, faults."""

import json
from math import erfc, sqrt

import ase.io
import numpy as np
import pytest
import torch

from rxmdnn.commands import evaluate as evaluate_command
from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.models.model_file import load_model
from rxmdnn.training import dataset, evaluate, labelled_frames, metrics, training
from tests.unit.training.test_sam import with_stress
from tests.unit.training.test_training import DECK, same_threads, structures, to_frame, workplace  # noqa: F401


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    frames = with_stress()
    for atoms in frames[9:]:  # an isolated molecule has neither a cell nor a stress
        atoms.pbc = False
        atoms.cell = np.zeros((3, 3))
        atoms.calc.results.pop("stress", None)
    training.train(decks.read(workplace(folder, DECK + "epochs 2\n", frames), TABLE))
    return folder


def test_errors_are_those_of_the_training_network(place, tmp_path, capsys):
    evaluate_command.main([str(place / "model.safetensors"), str(place / "set.xyz"), "--precision", "float64", "--out",
                   str(tmp_path), "--json", str(tmp_path / "e.json")])
    report = json.loads((tmp_path / "e.json").read_text())
    frames = labelled_frames.read([place / "set.xyz"], ("N", "H"))
    model = load_model(place / "model.safetensors")
    network = type(model)(model.config, torch.float64)
    network.load_state_dict(model.state_dict())
    found = metrics.predict(network, dataset.Dataset(frames, 3.5), range(12), [[k] for k in range(12)])
    for row, values in metrics.errors(frames, found, ("N", "H")).items():
        assert report["errors"][row] == pytest.approx(values, rel=1e-6), row
    assert {"all", "species N", "species H", "kind a", "kind b", "0 to 120 K"} <= set(report["errors"])
    assert "stress_mae" in report["errors"]["all"]
    worst = report["worst"][0]
    assert worst["force_max"] == pytest.approx(report["errors"]["all"]["force_max"]) and "frame" in worst["where"]
    assert "> 10 RMSE" in capsys.readouterr().out
    for name in ("parity.png", "tail.png"):
        assert (tmp_path / name).read_bytes()[:4] == b"\x89PNG"


def test_python_gives_the_report_of_the_command(place, tmp_path):
    words = [str(place / "model.safetensors"), str(place / "set.xyz"), "--part", "test"]
    evaluate_command.main([*words, "--out", str(tmp_path), "--json", str(tmp_path / "e.json")])
    found = evaluate.evaluate(place / "model.safetensors", [place / "set.xyz"], "test")
    assert found.report == json.loads((tmp_path / "e.json").read_text()) and found.elements == ("N", "H")
    assert sorted(found.predicted) == list(range(len(found.frames))) and found.shift.shape == (2,)
    assert found.predicted[0][1].shape == found.frames[0].forces.shape


def test_tail_of_a_normal_distribution_and_of_an_outlier():
    rng, atoms = np.random.default_rng(0), structures(1)[0]
    frames = [to_frame(atoms, forces=np.zeros((len(atoms), 3))) for _ in range(3000)]
    found = {k: (0.0, 0.1 * rng.normal(size=(len(atoms), 3)), np.zeros((3, 3))) for k in range(3000)}
    table = evaluate.tail(frames, found, ("N", "H"))
    assert table["all"]["rmse"] == pytest.approx(0.1, rel=0.01)
    assert table["all"]["above_3"] == pytest.approx(erfc(3 / sqrt(2)), rel=0.2)
    assert table["all"]["above_10"] == 0.0 and table["N"]["q50"] == pytest.approx(0.06745, rel=0.05)
    found[7][1][0, 0] = 5.0  # the first atom is N
    table = evaluate.tail(frames, found, ("N", "H"))
    n = 3000 * 3 * len(atoms)
    assert table["all"]["above_10"] == pytest.approx(1 / n) and table["H"]["above_10"] == 0.0
    assert table["all"]["max"] == 5.0 and evaluate.worst(frames, found)[0]["force_max"] == 5.0


def test_parts_are_those_of_the_training_deck(place):
    frames = labelled_frames.read([place / "set.xyz"], ("N", "H"))
    split = dataset.split(frames, 0.2, 0.2, 1)
    for part, which in zip(evaluate.PARTS, split):
        chosen = evaluate.chosen_frames(place / "model.safetensors", [place / "set.xyz"], ("N", "H"), part)
        assert [f.where for f in chosen] == [frames[k].where for k in which]


def test_faults_are_named(place, tmp_path):
    model = str(place / "model.safetensors")
    ase.io.write(tmp_path / "new.xyz", structures(seed=4), format="extxyz")
    with pytest.raises(InputError, match=r"--part test: .*model.safetensors was not trained on these versions"):
        evaluate_command.main([model, str(tmp_path / "new.xyz"), "--part", "test"])
    with pytest.raises(InputError, match=r"gone.xyz: no such file"):
        evaluate_command.main([model, str(tmp_path / "gone.xyz")])
    frames = structures(2)
    frames[1].symbols[3] = "O"
    ase.io.write(tmp_path / "o.xyz", frames, format="extxyz")
    with pytest.raises(InputError, match="frame 2: contains O"):
        evaluate_command.main([model, str(tmp_path / "o.xyz")])
