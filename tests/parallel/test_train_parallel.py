"""Training on any rank count: the weights of one rank on the same batches, the same bits on every rank."""

import shutil

import numpy as np
import pytest
import torch
from mpi4py import MPI

from rxmdnn.commands import train as train_command
from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import load_model
from rxmdnn.training import dataset, training
from rxmdnn.training.loss_surface import NetworkSurface
from tests.unit.training.test_sam import with_stress
from tests.unit.training.test_training import DECK, SMALL, structures, to_frame, workplace

COMM = MPI.COMM_WORLD
LINES = "dtype float64\nbatch 4 frames\nepochs 3\nloss 1.0 0.5 10.0\n"


@pytest.fixture
def folder(tmp_path_factory, monkeypatch):
    """One folder for all ranks, with a data set of which not every frame has a stress."""
    torch.set_num_threads(1)
    for plot in ("plot_parity", "plot_curve"):  # test_train.py looks at them
        monkeypatch.setattr(training.metrics, plot, lambda *words: None)
    place = COMM.bcast(tmp_path_factory.mktemp("train") if COMM.rank == 0 else None)
    if COMM.rank == 0:
        workplace(place, DECK, with_stress())
    COMM.Barrier()
    yield place
    COMM.Barrier()
    if COMM.rank == 0:
        shutil.rmtree(place)


def go(folder, name, comm, lines):
    """Train in ``folder/name``; the model's arrays."""
    if comm.rank == 0:
        (folder / f"{name}.in").write_text(DECK.replace("batch       2 frames\n", "") + LINES + lines)
    comm.Barrier()
    report = training.train(decks.read(folder / f"{name}.in", TABLE, ["--output", str(folder / name), "--model",
                                                                   str(folder / f"{name}.safetensors")]), comm)
    comm.Barrier()
    return load_model(folder / f"{name}.safetensors").state_dict(), report


@pytest.mark.parametrize("lines", [
    "", "sam 0.02\n", "sam 0.02 .true. 0.4 friendly\noptimizer adamw\n",
    "noise 0.01\nweight_kinds a 3.0\nweight_energies 0.1\nweight_decay 0.1\nema_horizon 0.1\n"])
def test_any_rank_count_gives_the_weights_of_one(folder, lines):
    many, report = go(folder, "many", COMM, lines)
    alone = COMM.bcast(go(folder, "one", MPI.COMM_SELF, lines) if COMM.rank == 0 else None)
    for name, value in alone[0].items():
        np.testing.assert_allclose(many[name].numpy(), value.numpy(), rtol=1e-6, atol=1e-6, err_msg=name)
    assert report["test"]["all"]["force_rmse"] == pytest.approx(alone[1]["test"]["all"]["force_rmse"], rel=1e-6)
    assert len(set(COMM.allgather(str(report["validation"])))) == 1


def test_weights_are_the_same_bits_on_every_rank(folder, monkeypatch):
    seen, run_epoch = [], training.Trainer.run_epoch

    def watched(self, *words):
        row = run_epoch(self, *words)
        seen.append(b"".join(w.detach().numpy().tobytes() for w in self.weights))
        return row

    monkeypatch.setattr(training.Trainer, "run_epoch", watched)
    go(folder, "bits", COMM, "sam 0.02\n")
    assert len(seen) == 3 and all(len(set(COMM.allgather(s))) == 1 for s in seen)


def test_ascent_of_each_rank_trains_too(folder):
    _, report = go(folder, "own", COMM, "sam 0.02 .false. 0.0 plain 5 rank\n")
    assert np.isfinite(report["test"]["all"]["force_rmse"])


def test_a_killed_run_resumes_to_the_same_bits(folder):
    whole, _ = go(folder, "whole", COMM, "sam 0.02 .false. 0.0 friendly\n")
    save = training.save_checkpoint

    def killed(path, trainer, origin):
        if trainer.epoch == 2:
            raise InputError("killed")
        save(path, trainer, origin)

    training.save_checkpoint = killed
    try:
        with pytest.raises(InputError, match="killed"):
            go(folder, "killed", COMM, "sam 0.02 .false. 0.0 friendly\n")
    finally:
        training.save_checkpoint = save
    COMM.Barrier()
    resumed, _ = go(folder, "killed", COMM, "sam 0.02 .false. 0.0 friendly\n")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_fault_is_one_message_on_every_rank(folder):
    with pytest.raises(InputError, match="elements: N is named twice"):
        train_command.main([str(folder / "train.in"), "--elements", "N", "N", "H"], COMM)
    with pytest.raises(InputError, match="frame 1: contains H, not one of the elements"):
        train_command.main([str(folder / "train.in"), "--elements", "N", "--output", str(folder / "bad")], COMM)


def test_ranks_share_the_frames_of_a_sharpness():
    data = dataset.Dataset([to_frame(a) for a in structures(7)], 3.5)
    config = AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, **SMALL)
    many, one = (NetworkSurface(AllegroNetwork(config, torch.float64), data, (1.0, 2.0), c)
                 for c in (COMM, MPI.COMM_SELF))
    v = torch.from_numpy(np.random.default_rng(0).normal(size=len(one.origin)))
    assert many.loss(v) == pytest.approx(one.loss(v), rel=1e-12)
    for ours, theirs in ((many.gradient(v), one.gradient(v)), (many.product(v), one.product(v))):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))
        assert len(set(COMM.allgather(ours.numpy().tobytes()))) == 1
