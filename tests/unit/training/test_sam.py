"""SAM and its relatives against calculations by hand, optimizers, stress, per-species Huber, fine-tuning."""

import numpy as np
import pytest
import torch

from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.io.labelled_hdf5 import write_labelled_hdf5
from rxmdnn.models.model_file import load_model
from rxmdnn.training import dataset, labelled_frames, metrics, training
from rxmdnn.training.sam import ETA, Sam
from tests.unit.training.test_training import DECK, run_killed, same_threads, structures, trainer, workplace  # noqa: F401


def line(text):
    return decks.parse(f"sam {text}\n", "train.in", [k for k in TABLE if k.name == "sam"])["sam"]


def flat(weights):
    return torch.cat([w.detach().reshape(-1) for w in weights])


class Bowl:
    """½ wᵀ diag(h) w in the trainer's place: its gradient is h w."""

    def __init__(self, w, h):
        self.weights = [torch.nn.Parameter(torch.tensor(w[:2], dtype=torch.float64)),
                        torch.nn.Parameter(torch.tensor(w[2:], dtype=torch.float64))]
        self.h, self.asked, self.progress, self.step = torch.tensor(h, dtype=torch.float64), [], 0.5, 0
        self.optimizer = torch.optim.SGD(self.weights, lr=0.1)
        self.average = self

    @torch.no_grad()
    def put(self, values):
        for w, v in zip(self.weights, values):
            w.copy_(v)

    def gradient(self, batch, together=True):
        w = flat(self.weights)
        self.asked.append(w.clone())
        for p, g in zip(self.weights, (self.h * w).split([2, len(w) - 2])):
            p.grad = g.clone()
        return float(0.5 * w @ (self.h * w)), 0.0

    def clip(self):
        pass


W, H = np.array([1.0, -2.0, 0.5]), np.array([4.0, 1.0, 3.0])


def test_plain_sam_by_hand():
    bowl = Bowl(W, H)
    assert Sam(line("0.05"))(bowl, None)[0] == pytest.approx(0.5 * W @ (H * W))  # the loss at w, not at the top
    g = H * W
    above = W + 0.05 * g / np.linalg.norm(g)  # one norm over both parameters
    np.testing.assert_allclose(bowl.asked[1], above, rtol=1e-12)
    np.testing.assert_allclose(flat(bowl.weights), W - 0.1 * H * above, rtol=1e-12)


def test_adaptive_sam_by_hand_and_its_scaling():
    bowl = Bowl(W, H)
    Sam(line("0.05 .true."))(bowl, None)
    t, g = abs(W) + ETA, H * W
    np.testing.assert_allclose(bowl.asked[1] - bowl.asked[0], 0.05 * t**2 * g / np.linalg.norm(t * g), rtol=1e-12)
    # weights s times larger in a loss that knows only w/s: the climb is s times longer, relative to w the same
    s = np.array([1e3, 1e4, 1e5])
    climbs = []
    for scale in (s, 100 * s):
        bowl = Bowl(scale * W, H / scale**2)
        Sam(line("0.05 .true."))(bowl, None)
        climbs.append((bowl.asked[1] - bowl.asked[0]).numpy() / scale)
    np.testing.assert_allclose(climbs[0], climbs[1], rtol=1e-4)


def test_friendly_sam_by_hand():
    bowl, sam = Bowl(W, H), Sam(line("0.05 .false. 0.0 friendly"))
    mean, w = None, W.copy()
    for _ in range(3):
        sam(bowl, None)
        g = H * w
        d = g if mean is None else g - mean
        mean = g if mean is None else 0.9 * mean + 0.1 * g
        above = w + 0.05 * d / np.linalg.norm(d)
        np.testing.assert_allclose(bowl.asked[-1], above, rtol=1e-9)
        w = w - 0.1 * H * above
        np.testing.assert_allclose(flat(bowl.weights), w, rtol=1e-12)


def test_periodic_and_late_sam_climb_when_they_should():
    bowl, sam = Bowl(W, H), Sam(line("0.05 .false. 0.0 periodic 3"))
    for bowl.step in range(6):
        sam(bowl, None)
    assert len(bowl.asked) == 6 + 2
    bowl, sam = Bowl(W, H), Sam(line("0.05 .false. 0.8"))
    for bowl.progress in (0.0, 0.5, 0.79, 0.8, 0.99):
        sam(bowl, None)
    assert len(bowl.asked) == 5 + 2


def test_both_gradients_of_a_network_step(tmp_path):
    t = trainer(tmp_path, "sam 0.01\nwarm_up 0\n")
    batch, before = t.data.batch([0, 3]), flat(t.weights)
    t.gradient(batch)
    g = torch.cat([w.grad.reshape(-1) for w in t.weights])
    above = before + 0.01 * g / (g.norm() + 1e-12)
    t.average.put([v.reshape(w.shape) for v, w in zip(above.split([w.numel() for w in t.weights]), t.weights)])
    t.gradient(batch)
    second = torch.cat([w.grad.reshape(-1) for w in t.weights])
    second = second * min(1.0, 5.0 / (float(second.norm()) + 1e-6))  # the deck clips the second gradient at 5
    t.average.put([v.reshape(w.shape) for v, w in zip(before.split([w.numel() for w in t.weights]), t.weights)])
    t.descend(t, batch)
    expected = before - 5e-3 * second / (second.abs() + 1e-8)  # Adam's first step
    assert torch.allclose(flat(t.weights), expected, atol=1e-9)


@pytest.mark.parametrize("extra", ["sam 0.0\n", "sam 0.0 .true.\n", "sam 0.05 .false. 0.99\n"])
def test_sam_of_no_length_is_adam_bit_for_bit(tmp_path, extra):
    ends = []
    for text in ("", extra):
        t = trainer(tmp_path, text + "epochs 2\n", torch.float32)
        t.run_epoch()
        ends.append(flat(t.weights))
    assert torch.equal(*ends)


@pytest.mark.parametrize("extra", ["sam 0.02 .false. 0.4\n", "sam 0.02 .true. 0.0 friendly\noptimizer adamw\n"])
def test_resume_with_sam_is_bitwise(tmp_path, monkeypatch, extra):
    text = DECK + extra + "epochs 4\n"
    training.train(decks.read(workplace(tmp_path / "whole", text), TABLE))
    deck = decks.read(workplace(tmp_path / "torn", text), TABLE)
    run_killed(deck, monkeypatch)
    ends = [load_model(tmp_path / p / "model.safetensors").state_dict() for p in ("whole", "torn")]
    assert all(torch.equal(ends[0][k], ends[1][k]) for k in ends[0])


def test_an_interrupted_write_keeps_the_checkpoint(tmp_path, monkeypatch):
    path = workplace(tmp_path, DECK + "epochs 1\n")
    training.train(decks.read(path, TABLE))
    kept = (tmp_path / "out" / "last.pt").read_bytes()
    deck = decks.read(path, TABLE, ["--epochs", "2", "--output", str(tmp_path / "out")])

    def full(state, out):
        out.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    t = trainer(tmp_path)
    with pytest.raises(InputError, match=r"last.pt: cannot be written: No space.*; the previous checkpoint is kept"):
        training.save_checkpoint(tmp_path / "out" / "last.pt", t, {})
    assert (tmp_path / "out" / "last.pt").read_bytes() == kept and deck["epochs"].epochs == 2


def with_stress(count=12):
    frames = structures(count)
    for k, atoms in enumerate(frames):
        if k % 3 != 2:
            atoms.calc.results["stress"] = 0.01 * np.array([1.0, 2, 3, 0.5, -0.5, k / count])
    return frames


@pytest.mark.parametrize("extra", ["loss 1.0 0.7 30.0\n", "loss 1.0 0.0 30.0\nhuber 0.5 0.5 0.01\n",
                                   "huber 1.0 1.0\nhuber_species H 0.2 N 0.7\n", "huber_species H 0.2\n"])
def test_gradient_of_every_loss_is_its_finite_difference(tmp_path, extra):
    workplace(tmp_path, frames=with_stress())
    t = trainer(tmp_path, extra)
    batch = t.data.batch([0, 2, 4])
    t.gradient(batch)
    generator = torch.Generator().manual_seed(3)
    d = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in t.weights]
    slope = float(sum((w.grad * x).sum() for w, x in zip(t.weights, d)))
    kept, values, step = [w.detach().clone() for w in t.weights], {}, 1e-5
    for k in (-2, -1, 1, 2):
        t.average.put([w + k * step * x for w, x in zip(kept, d)])
        values[k] = t.total(*t.gradient(batch))
    assert slope == pytest.approx((8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step), rel=1e-6)
    assert "stress" not in extra or len(t.gradient(batch)) == 3


def test_stress_is_the_slope_of_the_energy_with_strain(tmp_path):
    t = trainer(tmp_path)
    frame = t.data.frames[0]
    strain = np.random.default_rng(5).normal(size=(3, 3)) * 1e-4
    strain += strain.T
    energy = []
    for sign in (1, -1):
        turned = np.eye(3) + sign * strain
        moved = dataset.Dataset([dataset.replace(frame, x=frame.x @ turned, cell=frame.cell @ turned)], 3.5)
        energy.append(metrics.predict(t.network, moved, [0], [[0]])[0][0])
    stress = t.predict([0])[0][2]
    volume = abs(np.linalg.det(frame.cell))
    assert (energy[0] - energy[1]) / 2 == pytest.approx(volume * (stress * strain).sum(), rel=1e-5)
    assert stress == pytest.approx(stress.T, abs=1e-10)


def test_huber_of_species_by_hand():
    delta = torch.tensor([1.0, 2.0], dtype=torch.float64)[torch.tensor([0, 1, 1])][:, None]
    error = torch.tensor([[3.0], [3.0], [-1.0]], dtype=torch.float64)
    assert float(metrics.mean_loss(error, delta)) == pytest.approx(((2 * 3 - 1) + (2 * 2 * 3 - 4) + 1) / 3)


def test_stresses_come_back_from_hdf5(tmp_path):
    made = with_stress(6)
    write_labelled_hdf5(tmp_path / "a.h5", made)
    frames = labelled_frames.read([tmp_path / "a.h5"], ("N", "H"))
    assert [bool(np.isfinite(f.stress).all()) for f in frames] == [True, True, False] * 2
    np.testing.assert_allclose(frames[1].stress, 0.01 * np.array([[1, 1 / 6, -0.5], [1 / 6, 2, 0.5], [-0.5, 0.5, 3]]))


def test_output_has_a_default_beside_the_deck(tmp_path):
    training.train(decks.read(workplace(tmp_path, DECK.replace("output      out\n", "epochs 1\n")), TABLE))
    assert (tmp_path / "training" / "last.pt").exists()


def test_fine_tuning_starts_from_the_model(tmp_path):
    first = training.train(decks.read(workplace(tmp_path / "a", DECK + "epochs 6\n"), TABLE))
    frames = structures()
    for atoms in frames:  # another zero of energy
        atoms.calc.results["energy"] += 70.0 * atoms.symbols.count("N") - 20.0 * atoms.symbols.count("H")
    text = DECK.replace("network     1 2 8 4\n", "").replace("5.0e-3", "1.0e-4") + \
        "from_model ../a/model.safetensors\nepochs 1\n"
    tuned = training.train(decks.read(workplace(tmp_path / "b", text, frames), TABLE))
    best = first["validation"]["all"]
    # The new zero of energy is fitted to 8 frames with the model's own errors: forces stay, energies nearly so.
    for what, times in (("force_mae", 1.3), ("energy_mae", 3.0)):
        assert tuned["validation"]["all"][what] < times * best[what]
    old, new = (load_model(tmp_path / p / "model.safetensors") for p in "ab")
    assert torch.allclose(new.shift - old.shift, torch.tensor([70.0, -20.0], dtype=torch.float64), atol=0.3)
    with pytest.raises(InputError, match="network: the model of 'from_model' has 1 2 8 4; write these, or remove"):
        training.train(decks.read(workplace(tmp_path / "c", text + "network 1 2 16 4\n", frames), TABLE))
    with pytest.raises(InputError, match=r"elements: .* has N H; write these"):
        training.train(decks.read(workplace(tmp_path / "d", text.replace("N H", "H N"), frames), TABLE))


@pytest.mark.parametrize("text, message", [
    ("optimizer adamw lr=0.1\n", "lr comes from the line 'adam'"),
    ("optimizer adamw weight_decay\n", "'weight_decay': write options as name=value"),
    ("optimizer adam nonsense=1\n", "adam: .*nonsense"),
    ("optimizer nonesuch\n", "nonesuch: (not an optimizer of pytorch_optimizer|'adam' and 'adamw' are built in)"),
    ("sam 0.005 .false. 0.0 friendly 5 rank\n", "friendly averages one gradient"),
    ("sam -1\n", "rho = -1: must not be negative"),
    ("sam 0.1 .false. 0.0 freindly\n", "variant must be one of .*did you mean 'friendly'"),
    ("huber_species O 0.1\n", "O: not in the line 'elements'"),
    ("loss 1.0 1.0 1.0\n", "loss: no training frame has a stress"),
])
def test_faults_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        training.train(decks.read(workplace(tmp_path, DECK + text + "epochs 1\n"), TABLE))


def other_units(frames):
    for atoms in frames[5:7]:
        atoms.calc.results["energy"] /= 27.211386


def named_units(frames):
    frames[1].info["energy_unit"] = "kcal/mol"


def no_number(frames):
    frames[1].calc.results["stress"] = np.full(6, np.nan)


@pytest.mark.parametrize("spoil, message", [
    (other_units, "frame 6: .* probably in Hartree; give all labels in eV and Å"),
    (named_units, "frame 2: energy_unit is kcal/mol; give labels in eV and Å"),
    (no_number, "frame 2: a stress is NaN or infinite"),
])
def test_faulty_data_are_named(tmp_path, spoil, message):
    frames = structures()
    spoil(frames)
    with pytest.raises(InputError, match=message):
        training.train(decks.read(workplace(tmp_path, frames=frames), TABLE))


def test_any_optimizer_of_the_package(tmp_path):
    pytest.importorskip("pytorch_optimizer")
    t = trainer(tmp_path, "optimizer lion weight_decay=0.01\n")
    t.run_epoch()
    assert type(t.optimizer).__name__ == "Lion" and t.optimizer.param_groups[0]["weight_decay"] == 0.01
