"""Lines of train.in for robust models: long averages, weight decay, noise, decorrelation, weights of frames, a goal."""

import ase
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.legacy_network import LegacyConfig, LegacyNetwork
from rxmdnn.models.model_file import load_model
from rxmdnn.training import dataset, frame_weights, metrics, training
from rxmdnn.training.average import WIDEST, Average
from rxmdnn.training.decorrelation import off_diagonal
from rxmdnn.training.noise import DisplacedFrames
from rxmdnn.training.optimizer import decaying
from tests.unit.training.test_training import (  # noqa: F401
    DECK,
    SMALL,
    run_killed,
    same_threads,
    structures,
    to_frame,
    trainer,
    workplace,
)

ALL = ("ema_horizon 0.1\nweight_decay 0.1\nnoise 0.01\ndecorrelation 0.3\nweight_kinds a 3.0\nweight_close 2.0 1.5\n"
       "weight_stretched 2.0 2.45\nweight_energies 0.1\nsam 0.01 .false. 0.4\n")


def average_of(steps, horizon):
    """Averages of t, t² and 1 over updates t = 1 ... steps, from a start that must leave no trace."""
    w = torch.nn.Parameter(torch.full((3,), 1e6, dtype=torch.float64))
    average = Average([w], 0.9, horizon)
    for t in range(1, steps + 1):
        w.data[:] = torch.tensor([t, t * t, 1.0])
        average.update()
    return average.values[0].tolist()


def test_widest_horizon_is_the_plain_mean():
    mean, square, one = average_of(50, WIDEST)
    assert (mean, square, one) == pytest.approx((25.5, 50 * 51 * 101 / 6 / 50, 1.0), rel=1e-9)


@pytest.mark.parametrize("horizon", [0.05, 0.1, 0.25])
def test_horizon_is_the_relative_width_of_the_window(horizon):
    for steps in (500, 4000):
        mean, square, one = average_of(steps, horizon)
        assert np.sqrt(square - mean**2) / steps == pytest.approx(horizon, rel=0.01) and one == pytest.approx(1.0)


def test_weight_decay_by_hand(tmp_path):
    t = trainer(tmp_path, "warm_up 0\nweight_decay 0.5\n")
    before = [w.detach().clone() for w in t.weights]
    t.descend(t, t.data.batch([0, 1]))
    names = [name for name, w in t.network.named_parameters() if w.requires_grad]
    assert {n for n in names if not n.endswith(".weight")} == {
        "center_embed", "neighbor_embed", "path_weights.0", "path_weights.1"}
    for name, w, b in zip(names, t.weights, before):
        kept = b * (1 - 5e-3 * 0.5) if name.endswith(".weight") else b
        assert torch.allclose(w.detach(), kept - 5e-3 * w.grad / (w.grad.abs() + 1e-8), atol=1e-12), name


@pytest.mark.parametrize("network", [
    AllegroNetwork(AllegroConfig(("N", "H"), 3.5, scale_trainable=True, shift_trainable=True, bessel_trainable=True)),
    LegacyNetwork(LegacyConfig(("N", "H"), 3.5, n_tensor=4, embed_widths=(8, 8), latent_widths=(8,),
                               readout_widths=(8,), scale_trainable=True, bessel_trainable=True))])
def test_only_matrices_decay(network):
    matrices, others = (g["params"] for g in decaying(network, 0.1))
    assert len(matrices) + len(others) == len(list(network.parameters()))
    assert all(w.dim() == 2 for w in matrices)
    assert {id(network.scale), id(network.bessel)} <= {id(w) for w in others}


def test_displaced_frames_are_frames_at_other_positions(tmp_path):
    t = trainer(tmp_path)
    noisy = DisplacedFrames(t.data, 3.5, 0.05, 7)
    which = [0, 3, 5]
    moved = [dataset.replace(t.data.frames[k], x=t.data.frames[k].x + noisy.displacement(k)) for k in which]
    expected = metrics.energy_forces(t.network, dataset.Dataset(moved, 3.5).batch([0, 1, 2]), False)
    batch = noisy.batch(which)
    energy, forces, _ = metrics.energy_forces(t.network, batch, False)
    np.testing.assert_allclose(energy, expected[0], atol=1e-10)
    np.testing.assert_allclose(forces, expected[1], atol=1e-9)
    one = noisy.batch([0])  # alone as in company, and as in the part of a rank
    assert float(one.energy) == float(batch.energy[0]) == float(noisy.part(which, 1, 2).energy)
    noisy.epoch = 1
    assert not np.allclose(noisy.batch([0]).r_ij[:3], one.r_ij[:3])


def test_labels_of_displaced_energies_are_right_to_first_order():
    """The frames are labelled by a network; halving σ halves the same displacements and quarters the error."""
    teacher = AllegroNetwork(AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, shift=(-3.0, -1.0), seed=99,
                                           **SMALL), torch.float64)
    data = dataset.Dataset([to_frame(a) for a in structures(6)], 3.5)
    errors = []
    for sigma in (2e-3, 1e-3):
        batch = DisplacedFrames(data, 3.5, sigma, 1).batch(range(6))
        errors.append(metrics.energy_forces(teacher, batch, False)[0] - batch.energy)
    np.testing.assert_allclose(errors[0] / errors[1], 4.0, rtol=0.1)
    assert torch.equal(batch.forces, data.batch(range(6)).forces)


def test_off_diagonal_by_hand():
    x = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64) * \
        torch.tensor([1.0, 2.0, 3.0]) + 5.0
    assert float(off_diagonal(x)) == pytest.approx(0.0, abs=1e-12)
    pair = torch.stack([x[:, 0], -2 * x[:, 0], x[:, 1]], dim=1)  # covariance -2 of one pair of three
    assert float(off_diagonal(pair)) == pytest.approx(2 * 4.0 / 6)
    assert float(off_diagonal(pair, True)) == pytest.approx(2 / 6)
    assert float(off_diagonal(x[:, :1])) == 0.0


@pytest.mark.parametrize("of", ["covariance", "correlation"])
def test_gradient_of_the_penalty_is_its_finite_difference(tmp_path, of):
    def slope_of(extra):
        t = trainer(tmp_path, extra)
        t.gradient(t.data.batch([0, 3, 5]))
        generator = torch.Generator().manual_seed(3)
        d = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in t.weights]
        return t, d, sum(float((w.grad * x).sum()) for w, x in zip(t.weights, d) if w.grad is not None)

    _, _, plain = slope_of("")
    t, d, with_penalty = slope_of(f"decorrelation 5.0 {of}\n")
    kept, values, step = [w.detach().clone() for w in t.weights], {}, 1e-5
    for k in (-2, -1, 1, 2):
        t.average.put([w + k * step * x for w, x in zip(kept, d)])
        metrics.energy_forces(t.network, t.data.batch([0, 3, 5]), True)
        values[k] = float(t.decorrelation.loss().detach())
    expected = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
    assert with_penalty - plain == pytest.approx(expected, rel=1e-5)


def chain(distances, kind, energy):
    """N-H-H-... on a line with these distances, Å."""
    x = np.concatenate([[0.0], np.cumsum(distances)])
    atoms = ase.Atoms("N" + "H" * len(distances), positions=[[p, 0, 0] for p in x])
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    return to_frame(atoms, kind=kind)


def weights_of(path, text, training=(0, 1, 2, 3)):
    frames = [chain([1.02], "plain", -4.0), chain([0.7], "plain", -2.0), chain([1.4], "bond", -3.0),
              chain([1.02, 5.0], "plain", -5.0)]  # the last atom has no neighbor
    return frame_weights.frame_weights(decks.read(workplace(path, DECK + text), TABLE),
                                       dataset.Dataset(frames, 3.5), list(training))


def test_weights_of_frames_by_hand(tmp_path):
    assert weights_of(tmp_path, "") is None
    expected = np.array([1, 3, 1, 1]) / 1.5
    np.testing.assert_allclose(weights_of(tmp_path, "weight_close 3.0\n"), np.stack([expected] * 2, 1))
    expected = np.array([1, 1, 5, 1]) / 2
    np.testing.assert_allclose(weights_of(tmp_path, "weight_stretched 5.0\n")[:, 0], expected)
    np.testing.assert_allclose(weights_of(tmp_path, "weight_kinds bond 5.0\n")[:, 0], expected)
    expected = np.array([1, 3, 5 * 2, 1]) / (15 / 4)
    found = weights_of(tmp_path, "weight_close 3.0\nweight_stretched 5.0\nweight_kinds bond 2.0\n")
    np.testing.assert_allclose(found[:, 0], expected)
    found = weights_of(tmp_path, "weight_energies 0.5\n")  # NH: 0, 1 and 0.5 eV per atom above the lowest; NH2 is alone
    np.testing.assert_allclose(found[:, 0], 1.0)
    expected = np.array([1, 1 / 3, 1 / 2, 1])
    np.testing.assert_allclose(found[:, 1], expected / expected.mean())
    assert weights_of(tmp_path, "weight_close 3.0\n", [0, 1])[:2].mean() == pytest.approx(1.0)


def test_weighted_loss_is_that_of_its_frames(tmp_path):
    t = trainer(tmp_path, "weight_kinds a 3.0\nhuber 0.5 0.5\n")
    alone = [t.gradient(t.data.batch([k])) for k in range(4)]
    found, w = t.gradient(t.source.batch(range(4))), t.source.weights[:4, 0]
    assert w[0] == 3 * w[1] and t.data.weights is None
    atoms = np.array([len(t.data.frames[k].x) for k in range(4)])
    assert found[0] == pytest.approx((w * atoms * [a[0] for a in alone]).sum() / atoms.sum())
    assert found[1] == pytest.approx((w * [a[1] for a in alone]).mean())


def test_the_goal_ends_a_training(tmp_path):
    path = workplace(tmp_path, DECK + "epochs 30\nkeep last\n")
    deck = decks.read(path, TABLE, ["--epochs", "6", "--output", str(tmp_path / "free")])
    training.train(deck)
    errors = 1000 * np.genfromtxt(tmp_path / "free/metrics.csv", delimiter=",", names=True)["force_mae"]
    goal = 0.5 * (errors[0] + errors.min())
    first = int(np.argmax(errors <= goal)) + 1
    assert first > 1
    report = training.train(decks.read(path, TABLE, ["--stop_at_force", str(goal)]))
    assert report["epochs"] == first
    assert training.train(decks.read(path, TABLE, ["--stop_at_force", str(goal)]))["epochs"] == first
    report = training.train(decks.read(path, TABLE, ["--stop_at_force", str(goal / 100), "--epochs", str(first + 2)]))
    assert report["epochs"] == first + 2  # a lower goal goes on


def test_resume_with_every_line_is_bitwise(tmp_path, monkeypatch):
    text = DECK + ALL + "epochs 5\n"
    whole = training.train(decks.read(workplace(tmp_path / "whole", text), TABLE))
    torn = run_killed(decks.read(workplace(tmp_path / "torn", text), TABLE), monkeypatch)
    assert torn["test"] == whole["test"]
    ends = [load_model(tmp_path / p / "model.safetensors").state_dict() for p in ("whole", "torn")]
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


@pytest.mark.parametrize("line", [line for line in ALL.splitlines() if not line.startswith("sam")])
def test_every_line_changes_the_training(tmp_path, line):
    ends = []
    for text in ("", line + "\n"):
        t = trainer(tmp_path, text)
        t.run_epoch()
        ends.append(torch.cat([v.reshape(-1) for v in t.average.values]))
    assert torch.isfinite(ends[1]).all() and not torch.equal(*ends)


def test_pre_training_by_two_decks_of_one_shape(tmp_path):
    """The second deck repeats the lines of the shape, and its data have another zero of energy."""
    text = DECK + "zbl .false.\nepochs 1\n"
    training.train(decks.read(workplace(tmp_path / "cheap", text), TABLE))
    frames = structures(seed=5)
    for atoms in frames:
        atoms.calc.results["energy"] -= 70.0 * atoms.symbols.count("N")
    path = workplace(tmp_path / "dear", text + "from_model ../cheap/model.safetensors\n", frames)
    network = training.data_and_network(decks.read(path, TABLE))[2]
    cheap = load_model(tmp_path / "cheap/model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), cheap.parameters()))
    assert float(network.shift[0] - cheap.shift[0]) == pytest.approx(-70.0, abs=3.0)


def test_energies_without_weight_leave_no_trace(tmp_path):
    """Differences of forces have no energies: with those of atoms given, other numbers give the same bits."""
    text = DECK + "zbl .false.\nenergies N 0 H 0\nloss 1.0 0.0\nepochs 2\n"
    for k, name in enumerate(("one", "other")):
        frames = structures()
        for atoms in frames:
            atoms.calc.results["energy"] *= 1.0 - 3.0 * k
        training.train(decks.read(workplace(tmp_path / name, text, frames), TABLE))
    one, other = (load_model(tmp_path / name / "model.safetensors") for name in ("one", "other"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), other.buffers()))


@pytest.mark.parametrize("text, message", [
    ("weight_kinds c 2.0\n", "weight_kinds: c: not a kind of the data, which are a, b"),
    ("weight_kinds a 0.0 b 0.0\n", "weight_kinds: the factors leave no training frame"),
    ("ema_horizon 0.5\n", "ema_horizon: fraction = 0.5: must be above 0 and at most 0.288"),
    ("noise -0.1\n", "noise: sigma = -0.1: must be above zero"),
    ("weight_decay 0.1\noptimizer adamw\n", "weight_decay: is AdamW; remove the line 'optimizer'"),
    ("stop_at_force 0\n", "stop_at_force: mae = 0: must be above zero"),
    ("decorrelation 1.0 cov\n", "of must be one of"),
])
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        training.train(decks.read(workplace(tmp_path, DECK + text + "epochs 1\n"), TABLE))
