"""rxmdnn train: gradients, averages, exact resume, statistics, split, faults."""

import copy
import functools
import itertools
import json

import ase
import ase.io
import numpy as np
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator

from rxmdnn.commands.train import main as train_main
from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.io.labelled_hdf5 import write_labelled_hdf5
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import load_model, read_metadata
from rxmdnn.training import dataset, labelled_frames, metrics, training
from rxmdnn.training.average import Average
from rxmdnn.training.trainer import Plateau, Trainer

SMALL = {"n_scalar": 8, "n_tensor": 4, "embed_width": 8, "latent_width": 8, "readout_width": 8}
DECK = """
data        set.xyz
elements    N H
split       0.2 0.2
network     1 2 8 4
mlp         8 1 8
r_max       3.5
batch       2 frames
adam        5.0e-3
ema         0.9
clip        5.0
output      out
model       model.safetensors
"""


@pytest.fixture(autouse=True)
def same_threads():
    """Kernels' threads must not change the order of torch's sums."""
    torch.set_num_threads(1)


def structures(count=12, seed=0):
    return copy.deepcopy(labelled(count, seed))


@functools.cache
def labelled(count, seed, n=6):
    """Frames of N and H atoms at random in small periodic cells, labelled by a teacher network."""
    rng = np.random.default_rng(seed)
    config = AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, shift=(-3.0, -1.0), seed=99, **SMALL)
    teacher = AllegroNetwork(config, torch.float64)
    made = []
    for k in range(count):
        grid = np.stack(np.meshgrid(*[np.arange(2)] * 3), -1).reshape(-1, 3)[rng.permutation(8)[: n + k % 3]]
        atoms = ase.Atoms("N2H" + "H" * (len(grid) - 3), positions=2.0 * grid + rng.uniform(-0.4, 0.4, grid.shape),
                          cell=[[4.2, 0, 0], [0.3, 4.1, 0], [0, 0.2, 4.3]], pbc=True)
        atoms.info |= {"kind": "ab"[k % 2], "group": f"g{k}", "temperature": 100.0 * (k % 4)}
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.zeros((len(atoms), 3)))
        made.append(atoms)
    frames = [to_frame(a) for a in made]
    data = dataset.Dataset(frames, 3.5)
    found = metrics.predict(teacher, data, range(count), [[k] for k in range(count)])
    for k, atoms in enumerate(made):
        atoms.calc = SinglePointCalculator(atoms, energy=found[k][0], forces=found[k][1])
    return made


def to_frame(atoms, **changed):
    fields = {"species": np.array([{"N": 0, "H": 1}[s] for s in atoms.symbols]), "x": atoms.positions.copy(),
             "cell": np.array(atoms.cell), "pbc": atoms.pbc, "energy": atoms.get_potential_energy(),
             "forces": atoms.get_forces(), "group": atoms.info.get("group", "g"), "kind": atoms.info.get("kind", "k"),
             "temperature": np.nan, "engine": "", "where": ""}
    return labelled_frames.LabelledFrame(**{**fields, **changed})  # type: ignore[arg-type]


def workplace(path, deck=DECK, frames=None):
    path.mkdir(exist_ok=True)
    ase.io.write(path / "set.xyz", frames or structures(), format="extxyz", parallel=False)
    (path / "train.in").write_text(deck)
    return path / "train.in"


def trainer(tmp_path, extra="", dtype=torch.float64):
    deck = decks.parse(DECK + extra, tmp_path / "train.in", TABLE) if (tmp_path / "set.xyz").exists() else \
        decks.read(workplace(tmp_path, DECK + extra), TABLE)
    frames = labelled_frames.read(deck["data"].file, ("N", "H"))
    data = dataset.Dataset(frames, 3.5)
    network = AllegroNetwork(AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, zbl=True, **SMALL), dtype)
    return Trainer(network, data, list(range(8)), [8, 9], deck)


@pytest.mark.parametrize("extra", ["", "huber 0.5 0.5\n"])
def test_gradient_of_the_loss_is_its_finite_difference(tmp_path, extra):
    t = trainer(tmp_path, "loss 1.0 0.7\n" + extra)
    batch = t.data.batch([0, 3, 5])
    t.gradient(batch)
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(w.shape, generator=generator, dtype=w.dtype) for w in t.weights]
    slope = float(sum((w.grad * d).sum() for w, d in zip(t.weights, direction)))
    values, step = {}, 1e-5
    for k in (-2, -1, 1, 2):
        kept = [w.detach().clone() for w in t.weights]
        t.average.put([w + k * step * d for w, d in zip(kept, direction)])
        values[k] = t.total(*t.gradient(batch))
        t.average.put(kept)
    assert slope == pytest.approx((8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step), rel=1e-6)


def test_forces_of_the_training_path_are_the_slope_of_the_energy():
    atoms = structures(1)[0]
    network = AllegroNetwork(AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, zbl=True, **SMALL), torch.float64)

    def energy_forces(x):
        data = dataset.Dataset([to_frame(atoms, x=x)], 3.5)
        return metrics.predict(network, data, [0], [[0]])[0]

    direction = np.random.default_rng(1).normal(size=atoms.positions.shape)
    step = 1e-4
    slope = (energy_forces(atoms.positions + step * direction)[0]
             - energy_forces(atoms.positions - step * direction)[0]) / (2 * step)
    forces = energy_forces(atoms.positions)[1]
    assert slope == pytest.approx(-(forces * direction).sum(), rel=1e-6)
    assert abs(forces.sum(0)).max() < 1e-10
    # whole periods change nothing
    moved = energy_forces(atoms.positions + np.arange(len(atoms))[:, None] % 3 @ np.array(atoms.cell)[:1])
    assert moved[1] == pytest.approx(forces, abs=1e-10)


def test_huber_is_square_below_delta_and_linear_above():
    error = torch.tensor([0.5, -3.0], dtype=torch.float64, requires_grad=True)
    loss = metrics.mean_loss(error, 1.0)
    assert float(loss.detach()) == pytest.approx((0.25 + 2 * 3 - 1) / 2)
    loss.backward()
    assert error.grad.tolist() == [0.5, -1.0]


def test_average_by_hand():
    w = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    average = Average([w], 0.15)
    w.data.fill_(2.0)
    average.update()  # d = min(0.15, 2/11)
    assert float(average.values[0]) == pytest.approx(1.0 * 0.15 + 2.0 * 0.85)
    average.decay = 0.5
    w.data.fill_(4.0)
    average.update()  # d = min(0.5, 3/12)
    assert float(average.values[0]) == pytest.approx(1.85 * 0.25 + 4.0 * 0.75)
    with average.in_place():
        assert torch.equal(w, average.values[0])
    assert w.tolist() == [4.0]


def test_plateau_and_learning_rate_by_hand(tmp_path):
    plateau = Plateau(0.5, 1)
    scales = []
    for loss in (3.0, 2.0, 2.5, 2.0, 2.1, 2.2, 1.0):
        plateau.see(loss)
        scales.append(plateau.scale)
    assert scales == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    t = trainer(tmp_path, "warm_up 3\n")
    assert [t.learning_rate(k, 100) / 5e-3 for k in (0, 1, 3, 99)] == pytest.approx([0.25, 0.5, 1.0, 1.0])
    t = trainer(tmp_path, "cosine 0.1\n")
    assert [t.learning_rate(k, 100) / 5e-3 for k in (0, 50, 100)] == pytest.approx([1.0, 0.55, 0.1])


def test_first_step_is_adam_by_hand(tmp_path):
    t = trainer(tmp_path, "warm_up 0\n")
    before = [w.detach().clone() for w in t.weights]
    t.descend(t, t.data.batch([0, 1]))
    for w, b in zip(t.weights, before):  # the first step of Adam: learning rate times the sign, softened by epsilon
        expected = b - 5e-3 * w.grad / (w.grad.abs() + 1e-8)
        assert torch.allclose(w.detach(), expected, atol=1e-12)
    assert float(torch.cat([w.grad.reshape(-1) for w in t.weights]).norm()) <= 5.0 + 1e-6  # clipped


def run_killed(deck, monkeypatch):
    """A training that is killed in its third epoch and resumed."""
    save = training.save_checkpoint

    def killed(path, t, origin):
        if t.epoch == 3:
            raise KeyboardInterrupt
        save(path, t, origin)

    monkeypatch.setattr(training, "save_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        training.train(deck)
    monkeypatch.setattr(training, "save_checkpoint", save)
    return training.train(deck)


@pytest.mark.parametrize("schedule", ["plateau 0.5 0\n", "cosine 0.1\nhuber 0.3 0.1\n"])
def test_resume_is_bitwise(tmp_path, monkeypatch, schedule):
    text = DECK + schedule + "epochs 5\n"
    whole = training.train(decks.read(workplace(tmp_path / "whole", text), TABLE))
    deck = decks.read(workplace(tmp_path / "torn", text), TABLE)
    torn = run_killed(deck, monkeypatch)
    assert torn["test"] == whole["test"] and torn["best_epoch"] == whole["best_epoch"]
    states = [load_model(tmp_path / p / "model.safetensors").state_dict() for p in ("whole", "torn")]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    rows = [np.genfromtxt(tmp_path / p / "out" / "metrics.csv", delimiter=",", names=True) for p in ("whole", "torn")]
    assert len(rows[0]) == 5 and rows[0]["validation_loss"][-1] < rows[0]["validation_loss"][0]
    for name in set(rows[0].dtype.names) - {"seconds"}:
        assert (rows[0][name] == rows[1][name]).all(), name


def test_command_writes_model_report_and_plots(tmp_path, capsys):
    path = workplace(tmp_path / "w", DECK + "epochs 2\n")
    assert train_main([str(path), "--epochs", "3", "--json", str(tmp_path / "r.json"), "--tensorboard", "T"]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["epochs"] == 3 and report["frames"] == {"training": 8, "validation": 2, "test": 2}
    assert {"all", "species N", "species H", "kind a", "kind b"} <= set(report["test"])
    assert "force" not in capsys.readouterr().err
    for name in ("parity.png", "learning_curve.png"):
        assert (tmp_path / "w" / "out" / name).read_bytes()[:4] == b"\x89PNG"
    (events,) = (tmp_path / "w" / "out" / "tensorboard").iterdir()
    assert events.read_bytes().count(b"validation_loss") == 3
    # the saved model gives the reported errors
    frames = labelled_frames.read([tmp_path / "w" / "set.xyz"], ("N", "H"))
    _, _, test = dataset.split(frames, 0.2, 0.2, 1)
    network = load_model(tmp_path / "w" / "model.safetensors")
    found = metrics.predict(network, dataset.Dataset(frames, 3.5), test, [[k] for k in test])
    ours = metrics.errors(frames, found, ("N", "H"))["all"]
    assert ours["force_rmse"] == pytest.approx(report["test"]["all"]["force_rmse"], rel=1e-4)
    provenance = json.loads(read_metadata(tmp_path / "w" / "model.safetensors")["provenance"])
    assert "epochs" in provenance["deck"] and provenance["best_epoch"] == provenance["kept_epoch"]
    # the same training, all of it done, gives the last average where the deck asks for that
    assert train_main([str(path), "--epochs", "3", "--keep", "last", "--json", str(tmp_path / "r.json")]) == 0
    assert json.loads((tmp_path / "r.json").read_text())["kept_epoch"] == 3
    last = torch.load(tmp_path / "w" / "out" / "last.pt", weights_only=True)
    kept = [w for w in load_model(tmp_path / "w" / "model.safetensors").parameters() if w.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(last["average"], kept))
    assert str(tmp_path) not in json.dumps(provenance)


def test_statistics_by_hand():
    def chain(n_symbols, x, energy, forces):
        atoms = ase.Atoms(n_symbols, positions=[[p, 0, 0] for p in x])
        return to_frame_of(atoms, energy, forces)

    def to_frame_of(atoms, energy, forces):
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.array(forces, float))
        return to_frame(atoms)

    frames = [chain("NH", [0, 1], -5.0, [[3, 0, 0], [0, 0, 0]]),
              chain("NHH", [0, 1, 1.5], -7.0, [[0, 3, 0], [0, 0, 2], [0, 0, 0]])]
    stats = dataset.statistics(dataset.Dataset(frames, 1.2), [0, 1], 2)
    assert stats.shift == pytest.approx([-3.0, -2.0])
    assert stats.neighbors == pytest.approx([1.0, (1 + 2 + 1) / 3])
    assert stats.scale == pytest.approx([np.sqrt(9 / 3), np.sqrt(4 / 9)])
    known = {0: (-1.0, np.zeros((2, 3))), 1: (-1.0, np.array([[0, 3.0, 0], [0, 0, 0], [0, 0, 0]]))}
    stats = dataset.statistics(dataset.Dataset(frames, 1.2), [0, 1], 2, known=known)
    assert stats.shift == pytest.approx([-2.0, -2.0]) and stats.scale[0] == pytest.approx(np.sqrt(9 / 6))


def test_groups_are_never_split_and_every_part_has_every_kind():
    atoms = structures(1)[0]
    frames = [to_frame(atoms, group=f"{kind}{k // length}", kind=kind)
              for kind, count, length in (("md", 60, 10), ("single", 40, 1), ("few", 2, 1)) for k in range(count)]
    parts = dataset.split(frames, 0.1, 0.2, 5)
    assert sorted(itertools.chain(*parts)) == list(range(len(frames)))
    groups = [{frames[k].group for k in part} for part in parts]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    for part, least in zip(parts, (1, 1, 1)):
        for kind in ("md", "single"):
            assert sum(frames[k].kind == kind for k in part) >= least
    assert sum(frames[k].kind == "single" for k in parts[2]) == 8
    assert sum(frames[k].kind == "md" for k in parts[2]) == 10
    assert parts == dataset.split(frames, 0.1, 0.2, 5) != dataset.split(frames, 0.1, 0.2, 6)
    with pytest.raises(InputError, match="leave none for validation"):
        dataset.split(frames[:1], 0.1, 0.1, 1)


def test_batches_hold_every_frame_once_and_keep_their_limit():
    sizes = [4, 128, 8, 60, 70, 128, 300, 4]
    cut = dataset.batches(range(8), sizes, 140, True, np.random.default_rng(0))
    assert sorted(itertools.chain(*cut)) == list(range(8))
    assert all(sum(sizes[k] for k in b) <= 140 or b == [6] for b in cut)
    assert dataset.batches(range(5), sizes, 2, False) == [[0, 1], [2, 3], [4]]


def test_hdf5_gives_the_same_frames(tmp_path):
    made = structures(4)
    ase.io.write(tmp_path / "a.xyz", made, format="extxyz")
    write_labelled_hdf5(tmp_path / "a.h5", made)
    text, binary = (labelled_frames.read([tmp_path / f"a.{end}"], ("N", "H")) for end in ("xyz", "h5"))
    for a, b in zip(text, binary):
        assert (a.species == b.species).all() and (a.group, a.kind, a.temperature) == (b.group, b.kind, b.temperature)
        for name in ("x", "cell", "energy", "forces"):
            assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-7)


def no_forces(frames):
    del frames[1].calc.results["forces"]


def not_finite(frames):
    frames[1].calc.results["forces"][2, 0] = np.nan


def stranger(frames):
    frames[1].symbols[4] = "O"


def twin(frames):
    frames[1] = frames[0].copy()
    frames[1].calc = SinglePointCalculator(frames[1], **frames[0].calc.results)


def other_engine(frames):
    frames[1].info["engine"] = "GPAW"


@pytest.mark.parametrize("spoil, message", [
    (no_forces, "set.xyz: frame 2: no forces; the file has the columns species pos and the words .*label the"),
    (not_finite, "set.xyz: frame 2: a force is NaN or infinite"),
    (stranger, "set.xyz: frame 2: contains O, not one of the elements"),
    (twin, "set.xyz: frame 2: the same configuration as .*set.xyz: frame 1"),
    (other_engine, "labels of several engines or settings cannot be mixed: .*frame 1: ''; .*frame 2: 'GPAW'"),
])
def test_faulty_data_are_named(tmp_path, spoil, message):
    frames = structures(3)
    spoil(frames)
    with pytest.raises(InputError, match=message):
        training.train(decks.read(workplace(tmp_path, frames=frames), TABLE))


def test_faulty_decks_are_named_all_at_once(tmp_path):
    path = workplace(tmp_path, DECK.replace("ema ", "emma ").replace("5.0e-3", "-1") + "split 0.6 0.5\nloss 1.0\n")
    with pytest.raises(InputError) as caught:
        train_main([str(path)])
    text = str(caught.value)
    assert "train.in:10: emma: unknown keyword; did you mean 'ema'?" in text
    assert "train.in:9: adam: learning_rate = -1: must be above zero" in text and "loss: energy is missing" in text
    with pytest.raises(InputError, match=r"train.in:3: elements: N is named twice"):
        training.train(decks.read(workplace(tmp_path, DECK.replace("N H", "N N H")), TABLE))
    with pytest.raises(InputError, match=r"Foo is not the symbol of an element.*\n.*D is an isotope: write H"):
        training.train(decks.read(workplace(tmp_path, DECK.replace("N H", "N H Foo D")), TABLE))
    with pytest.raises(InputError, match="energies: needs one energy for each of N H"):
        training.train(decks.read(workplace(tmp_path, DECK + "energies N -3.0\n"), TABLE))


def test_resume_refuses_another_deck_other_data_and_a_truncated_checkpoint(tmp_path):
    path = workplace(tmp_path, DECK + "epochs 1\n")
    training.train(decks.read(path, TABLE))
    with pytest.raises(InputError, match=r"last.pt: made by a deck that says 'ema 0.9', not 'ema 0.8'; restore"):
        training.train(decks.read(path, TABLE, ["--ema", "0.8"]))
    training.train(decks.read(path, TABLE, ["--model", str(tmp_path / "again.safetensors")]))  # names may change
    checkpoint = tmp_path / "out" / "last.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"last.pt: not a checkpoint of rxmdnn train, or damaged"):
        training.train(decks.read(path, TABLE))
    checkpoint.write_bytes(whole)
    ase.io.write(tmp_path / "set.xyz", structures(seed=4), format="extxyz")
    with pytest.raises(InputError, match=r"last.pt: made from other data"):
        training.train(decks.read(path, TABLE))


def test_divergence_is_reported(tmp_path):
    with pytest.raises(InputError, match="the loss is not finite in epoch 1; lower learning_rate"):
        training.train(decks.read(workplace(tmp_path, DECK.replace("5.0e-3", "1.0e30")), TABLE))
