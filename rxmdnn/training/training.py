"""A training from a deck to a model file: data, network, epochs, errors, files. The command is ``rxmdnn train``."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.files import atomic, check_outputs, unwritable, write_json, writing
from rxmdnn.io.folder import locked
from rxmdnn.io.labels import LabelKeys
from rxmdnn.isotopes import element_of
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import load_model
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.training import dataset, metrics
from rxmdnn.training.doubts import doubts, in_time, untrained
from rxmdnn.training.from_model import adapt
from rxmdnn.training.labelled_frames import LabelledFrame, read
from rxmdnn.training.model_output import deck_line, write_model
from rxmdnn.training.resume import origin_of, resume, save_checkpoint
from rxmdnn.training.trainer import Trainer

Log = Callable[[str], None]


def train(deck: Deck, comm: MPI.Intracomm = MPI.COMM_SELF) -> dict[str, Any]:
    """The report of a training (what ``--json`` writes): train, resume, or only report where all epochs are done.

    Writes the model file, checkpoints, metrics and figures where the deck says. All ranks call it.

    Parameters
    ----------
    deck : Deck of rxmdnn.deck.train.TABLE
    comm : the ranks that share every batch

    Returns
    -------
    {"model", "frames", "weights", "epochs", "kept_epoch", "best_epoch", "seconds", "validation" and "test": as from
    metrics.errors; eV/Å, eV/atom}

    Raises
    ------
    InputError
        For a fault of the deck, of the data or of a checkpoint, and for a file that cannot be written.

    Example
    -------
    >>> from rxmdnn.deck.language import read                       # doctest: +SKIP
    >>> from rxmdnn.deck.train import TABLE                         # doctest: +SKIP
    >>> train(read("train.in", TABLE))["test"]["all"]["force_mae"]  # doctest: +SKIP
    """
    log: Log = print if comm.rank == 0 else _silent
    _atomic_energies(deck)  # its faults, before anything is written
    folder: Path = deck["output"].folder if deck["output"].given else deck.path(deck["output"].folder)
    with locked(comm, folder, "training", "output"):
        on_root(comm, lambda: _make_folders(folder, deck["model"].file.parent))
        on_root(comm, lambda: check_outputs(deck["model"].file, deck["json"].file))
        return _train(deck, comm, folder, log)


def _train(deck: Deck, comm: MPI.Intracomm, folder: Path, log: Log) -> dict[str, Any]:
    """The training in a folder that no other one writes to."""
    data, parts, network, statistics = data_and_network(deck, comm)
    trainer = Trainer(network, data, parts.training, parts.validation, deck, comm=comm)
    origin = origin_of(deck, comm)
    resume(trainer, folder / "last.pt", origin, log)
    _log_setup(trainer, parts, statistics, log)
    _run_epochs(trainer, folder, origin, log)
    kept_epoch = _put_kept_weights(trainer)
    report, predicted = _report(trainer, parts, kept_epoch, origin, log)
    if comm.rank == 0:
        with writing(folder):
            metrics.plot_parity(folder / "parity.png", data.frames, predicted, network.config.elements,
                                np.array(statistics.shift))
            metrics.plot_curve(folder / "learning_curve.png", trainer.rows)
        write_model(trainer, network, report, origin)
        log(f"\n{deck['model'].file}: trained in {origin['seconds'] / 60:.1f} minutes; metrics.csv, parity.png and "
            f"learning_curve.png are in {folder}")
        log("for a run, in rxmdnn.in:\n" + deck_line(deck["model"].file, network.config.elements))
        if deck["json"].file:
            with writing(deck["json"].file):
                write_json(deck["json"].file, report)
    return report


# Data and network

def _atomic_energies(deck: Deck) -> list[float] | None:
    """Energies of isolated atoms (eV) in the order of the elements, or None; checks the lines that name elements."""
    elements = tuple(deck["elements"].element)
    energies = dict(zip(deck["energies"].element, deck["energies"].energy))
    twice = sorted({e for e in elements if elements.count(e) > 1})
    faults = [deck["elements"].fault(f"{e} is named twice") for e in twice]
    faults += [deck["elements"].fault(f"{e} is not the symbol of an element") for e in elements
               if not atomic_numbers.get(element_of(e))]
    faults += [deck["elements"].fault(f"{e} is an isotope: write {element_of(e)}, whose weights it has; its mass is "
                                      "given in rxmdnn.in") for e in elements if element_of(e) != e]
    if energies and set(energies) != set(elements):
        faults.append(deck["energies"].fault(f"needs one energy for each of {' '.join(elements)}"))
    if faults:
        raise AgreedError(*faults)
    return [energies[e] for e in elements] if energies else None


def _make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(folder, error) from None


def data_and_network(deck: Deck, comm: MPI.Intracomm = MPI.COMM_SELF
                     ) -> tuple[dataset.Dataset, dataset.Split, AllegroNetwork, dataset.Statistics]:
    """Frames with their neighbors, their split, and the network: a new one, or that of the deck's 'from_model'."""
    shift = _atomic_energies(deck)
    threads = torch.get_num_threads()  # Numba's kernels change it
    with together(comm):
        frames = read_frames(deck)
        parts = split_of(deck, frames)
        start = load_model(deck["from_model"].file) if deck["from_model"].file else None
        r_max = float(start.config.cutoff.max()) if start else deck["r_max"].r_max
        data = dataset.with_neighbors(frames, r_max, progress=comm.rank == 0 and sys.stderr.isatty())
        torch.set_num_threads(threads)
        network, statistics = adapt(start, deck, data, parts.training, shift) if start else \
            build(deck, data, parts.training, shift)
    return data, parts, network, statistics


def read_frames(deck: Deck) -> list[LabelledFrame]:
    """The frames that the deck names, those of 'training_data' last. Raises InputError."""
    keys = LabelKeys(*(deck[key].name for key in ("energy_key", "forces_key", "stress_key")))
    return read([*deck["data"].file, *deck["training_data"].file], deck["elements"].element, deck["groups"].group,
                deck["groups"].kind, keys)


def split_of(deck: Deck, frames: list[LabelledFrame]) -> dataset.Split:
    """The split of the frames that ``read_frames`` gives; those of 'training_data' are all trained on."""
    further = {str(path) for path in deck["training_data"].file}
    own = [f for f in frames if f.where.rpartition(": frame ")[0] not in further]
    parts = dataset.split(own, deck["split"].validation, deck["split"].test, deck["seed"].seed)
    return parts._replace(training=[*parts.training, *range(len(own), len(frames))])


def build(deck: Deck, data: dataset.Dataset, training: Sequence[int], shift: Sequence[float] | None
          ) -> tuple[AllegroNetwork, dataset.Statistics]:
    """The network of a deck, scaled by the statistics of the training frames after subtracting the repulsion."""
    elements, mlp = tuple(deck["elements"].element), deck["mlp"]
    dtype = getattr(torch, deck["dtype"].dtype)
    shape = deck["network"]
    config = AllegroConfig(
        elements=elements, r_max=deck["r_max"].r_max, l_max=shape.l_max, n_layers=shape.layers, n_scalar=shape.scalars,
        n_tensor=shape.tensors, embed_depth=mlp.depth, embed_width=mlp.width, latent_depth=mlp.depth,
        latent_width=mlp.width, readout_width=mlp.readout, zbl=deck["zbl"].on,
        zbl_fraction=deck["zbl"].fraction if deck["zbl"].on else 0.0, scale=0.0, shift=0.0, seed=deck["seed"].seed)
    known = None
    if config.zbl:  # a network of scale zero is the repulsion alone
        sizes = [len(f.x) for f in data.frames]
        known = metrics.predict(AllegroNetwork(config, dtype), data, training,
                                dataset.batches(training, sizes, 512, True))
    stats = dataset.statistics(data, training, len(elements), None if shift is None else np.array(shift), known)
    config = replace(config, average_neighbors=tuple(stats.neighbors.tolist()), scale=tuple(stats.scale.tolist()),
                     shift=tuple(stats.shift.tolist()))
    return AllegroNetwork(config, dtype), stats


# Epochs

def _log_setup(trainer: Trainer, parts: dataset.Split, statistics: dataset.Statistics, log: Log) -> None:
    ranks, n_batches = trainer.comm.size, len(trainer.order(0))
    log(f"{sum(map(len, parts))} frames: {len(parts.training)} training, {len(parts.validation)} validation, "
        f"{len(parts.test)} test; {_count(trainer)} weights; {torch.get_num_threads()} threads"
        + (f"; {ranks} ranks" if ranks > 1 else ""))
    if len(parts.training) < ranks * n_batches:
        log(f"note: {len(parts.training) / n_batches:.1f} frames per batch for {ranks} ranks; some ranks are idle")
    for k, e in enumerate(trainer.deck["elements"].element):
        log(f"  {e}: {statistics.neighbors[k]:.2f} neighbors, forces {statistics.scale[k]:.4f} eV/Å rms, "
            f"shift {statistics.shift[k]:.4f} eV")


    frames = trainer.data.frames
    for note in (*doubts(frames), *in_time(frames), *untrained(frames, parts.training,
                                                               trainer.deck["elements"].element)):
        log(f"note: {note}")


def _count(trainer: Trainer) -> int:
    return sum(w.numel() for w in trainer.weights)


def _run_epochs(trainer: Trainer, folder: Path, origin: dict[str, Any], log: Log) -> None:
    """The epochs that remain, each saved in ``folder``; their time is added to ``origin``."""
    epochs, root = trainer.deck["epochs"].epochs, trainer.comm.rank == 0
    board = _tensorboard(trainer, folder) if root and trainer.deck["tensorboard"].on else None
    if trainer.rows:  # a training that was killed between its checkpoint and its table
        on_root(trainer.comm, lambda: _write_table(trainer, folder))
    bar = tqdm(total=epochs, initial=trainer.epoch, unit="epoch", disable=not root or not sys.stderr.isatty())
    log(f"{'epoch':>6s}{'training':>12s}{'validation':>12s}{'F MAE':>9s}{'E MAE':>9s}{'rate':>10s}   "
        "loss; meV/Å, meV/atom")
    while not trainer.finished:
        start = time.time()
        row = trainer.run_epoch(lambda done, of: bar.set_postfix_str(f"batch {done}/{of}", refresh=done % 8 == 0))
        origin["seconds"] += time.time() - start
        row["seconds"] = origin["seconds"]
        on_root(trainer.comm, lambda: _save(trainer, folder, origin))
        if not root:
            continue
        bar.update(1)
        tqdm.write(f"{trainer.epoch:6d}{metrics.cell(row['train_loss'], 12, 5)}"
                   f"{metrics.cell(row['validation_loss'], 12, 5)}{metrics.cell(1000 * row['force_mae'])}"
                   f"{metrics.cell(1000 * row['energy_mae'])}{row['learning_rate']:10.2e}")
        sys.stdout.flush()
        if board:
            for name, value in row.items():
                board.add_scalar(name, value, trainer.epoch)
    bar.close()
    if board:
        board.close()


def _tensorboard(trainer: Trainer, folder: Path) -> Any:
    """The writer of TensorBoard's files; a resumed training drops what is later than its checkpoint."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(trainer.deck["tensorboard"].fault("the package tensorboardX is missing; pip install it, or "
                                                           "remove the line")) from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=trainer.epoch + 1)


def _save(trainer: Trainer, folder: Path, origin: dict[str, Any]) -> None:
    """Write the checkpoint and the table of all epochs so far."""
    save_checkpoint(folder / "last.pt", trainer, origin)
    _write_table(trainer, folder)


def _write_table(trainer: Trainer, folder: Path) -> None:
    table = folder / "metrics.csv"
    with writing(table), atomic(table) as new, new.open("w", newline="") as out:
        writer = csv.DictWriter(out, list(trainer.rows[-1]))
        writer.writeheader()
        writer.writerows({k: f"{v:.8g}" for k, v in r.items()} for r in trainer.rows)


# Report and model file

def _put_kept_weights(trainer: Trainer) -> int:
    """Put the average that the deck keeps ('best' or 'last') into the network; its epoch."""
    last = trainer.deck["keep"].weights == "last"
    trainer.average.put(trainer.average.values if last else trainer.best_values)
    return trainer.epoch if last else trainer.best_epoch


def _report(trainer: Trainer, parts: dataset.Split, kept_epoch: int, origin: dict[str, Any], log: Log
            ) -> tuple[dict[str, Any], dict[int, metrics.Predicted]]:
    """The report, and the predictions of the test frames, or of the validation frames if there are none."""
    deck, frames = trainer.deck, trainer.data.frames
    report: dict[str, Any] = {"model": str(deck["model"].file),
                              "frames": {name: len(which) for name, which in parts._asdict().items()},
                              "weights": _count(trainer), "epochs": trainer.epoch, "kept_epoch": kept_epoch,
                              "best_epoch": trainer.best_epoch, "seconds": origin["seconds"]}
    predicted: dict[int, metrics.Predicted] = {}
    for name, which in (("validation", parts.validation), ("test", parts.test)):
        if which:
            predicted = trainer.predict(which)
            report[name] = metrics.errors(frames, predicted, deck["elements"].element)
            log(f"\n{name} errors, weights of epoch {kept_epoch}\n" + metrics.table_text(report[name]))
    return report, predicted


def _silent(text: str) -> None:
    """The log of ranks other than 0."""
