"""``rxmdnn train train.in``: from labelled frames to a model file, with its errors and plots."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from tqdm import tqdm

import rxmdnn
from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.fidelity.reference import write as write_reference
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.models.model_file import load_model, save_model
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.train import dataset, metrics
from rxmdnn.train.from_model import adapt
from rxmdnn.train.reference_samples import of_network
from rxmdnn.train.trainer import Trainer, load_checkpoint, save_checkpoint

# Lines that may change between resumes; data are compared by content.
FREE = ("output", "model", "json", "data", "tensorboard", "keep")


def run(deck: Deck, comm: MPI.Intracomm = MPI.COMM_SELF) -> dict[str, Any]:
    """Train, or go on, or only report where all is done; the report that ``--json`` writes. All ranks call it."""
    root = comm.rank == 0
    say = print if root else _silent
    elements = tuple(deck["elements"].element)
    given = dict(zip(deck["energies"].element, deck["energies"].energy))
    twice = sorted({e for e in elements if elements.count(e) > 1})
    wrong = [deck["elements"].fault(f"{e} is named twice") for e in twice]
    if given and set(given) != set(elements):
        wrong.append(deck["energies"].fault(f"needs one energy for each of {' '.join(elements)}"))
    if wrong:
        raise AgreedError(*wrong)
    folder: Path = deck["output"].folder if deck["output"].given else deck.path(deck["output"].folder)

    def make_folders() -> None:
        for place in (folder, deck["model"].file.parent):
            try:
                place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"{place}: cannot be made: {error.strerror}") from None

    on_root(comm, make_folders)
    threads = torch.get_num_threads()  # Numba's kernels change it
    shift = [given[e] for e in elements] if given else None
    with together(comm):
        frames = dataset.read(deck["data"].file, elements, deck["groups"].group, deck["groups"].kind)
        train, validation, test = dataset.split(frames, deck["split"].validation, deck["split"].test, deck["seed"].seed)
        base = load_model(deck["from_model"].file) if deck["from_model"].file else None
        r_max = float(base.config.cutoff.max()) if base else deck["r_max"].r_max
        data = dataset.Dataset(frames, r_max, progress=root and sys.stderr.isatty())
        torch.set_num_threads(threads)
        network, stats = adapt(base, deck, data, train, shift) if base else build(deck, data, train, shift)
    trainer = Trainer(network, data, train, validation, deck, comm=comm)
    origin: dict[str, Any] = {
        "deck": {line.split()[0]: " ".join(line.split("<")[0].split()) for line in deck.echo().splitlines()},
        "data": [hashlib.sha256(p.read_bytes()).hexdigest()
                 for p in (*deck["data"].file, *([deck["from_model"].file] if base else []))],
        "threads": torch.get_num_threads(), "ranks": comm.size, "seconds": 0.0}
    last = folder / "last.pt"


    def saved() -> dict[str, Any] | None:
        state = load_checkpoint(last) if last.exists() else None
        if state:
            _same(last, state["origin"], origin)
        return state

    if state := on_root(comm, saved):
        trainer.restore(state)
        origin["seconds"] = state["origin"]["seconds"]
        say(f"going on from {last} after epoch {trainer.epoch}")
        for what in ("threads", "ranks"):
            if (before := state["origin"].get(what, 1)) != origin[what]:
                say(f"note: {origin[what]} {what}, not {before}: the last bits may differ")
    n_weights, counts = sum(w.numel() for w in trainer.weights), {"training": len(train), "validation": len(validation),
                                                                  "test": len(test)}
    say(f"{len(frames)} frames: {len(train)} training, {len(validation)} validation, {len(test)} test; "
        f"{n_weights} weights; {torch.get_num_threads()} threads" + (f"; {comm.size} ranks" if comm.size > 1 else ""))
    if len(train) < comm.size * len(trainer.order(0)):
        say(f"note: a batch has {len(train) / len(trainer.order(0)):.1f} frames for {comm.size} ranks; some wait")
    for k, e in enumerate(elements):
        say(f"  {e}: {stats.neighbors[k]:.2f} neighbors, forces {stats.scale[k]:.4f} eV/Å rms, "
            f"shift {stats.shift[k]:.4f} eV")

    _epochs(trainer, folder, last, origin)

    last_ones = deck["keep"].weights == "last"
    trainer.average.put(trainer.average.values if last_ones else trainer.best_values)
    kept = trainer.epoch if last_ones else trainer.best_epoch
    report: dict[str, Any] = {"model": str(deck["model"].file),
                              "frames": counts, "weights": n_weights, "epochs": trainer.epoch, "kept_epoch": kept,
                              "best_epoch": trainer.best_epoch, "seconds": origin["seconds"]}
    for name, which in (("validation", validation), ("test", test)):
        if which:
            found = trainer.predict(which)
            report[name] = metrics.errors(frames, found, elements)
            say(f"\n{name} errors, weights of epoch {kept}\n" + metrics.table_text(report[name]))
            if root:
                metrics.plot_parity(folder / "parity.png", frames, found, elements, np.array(stats.shift))
    if not root:
        return report
    metrics.plot_curve(folder / "learning_curve.png", trainer.rows)
    judged = "test" if test else "validation"
    save_model(deck["model"].file, network, {
        "program": f"rxmdnn {rxmdnn.__version__}, torch {torch.__version__}", "labels": frames[0].engine,
        "deck": deck.echo(), "data_sha256": " ".join(origin["data"]), "frames": json.dumps(counts),
        "best_epoch": str(trainer.best_epoch), "kept_epoch": str(kept),
        f"{judged}_errors": json.dumps(report[judged]["all"])})
    _keep_reference(deck["model"].file, network, data, train)
    print(f"\n{deck['model'].file}: trained in {origin['seconds'] / 60:.1f} minutes; metrics.csv, parity.png and "
          f"learning_curve.png are in {folder}")
    if deck["json"].file:
        deck["json"].file.write_text(json.dumps(report, indent=1) + "\n")
    return report


def _keep_reference(model: Path, network: AllegroNetwork, data: dataset.Dataset, train: Sequence[int]) -> None:
    """What the training frames show, into the model file, for runs that are watched (``fidelity``)."""
    try:
        found = of_network(network, data, train)
        write_reference(found, model, model, {"frames": str(len(train)), "kinds": "training"})
    except InputError as error:
        print(f"note: no statistics for 'fidelity' in the model file: {'; '.join(error.faults)}")


def build(deck: Deck, data: dataset.Dataset, train: Sequence[int], shift: Sequence[float] | None
          ) -> tuple[AllegroNetwork, dataset.Statistics]:
    """The network of a deck, scaled by the statistics of the training frames (what the repulsion gives taken off)."""
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
        known = metrics.predict(AllegroNetwork(config, dtype), data, train, dataset.batches(train, sizes, 512, True))
    stats = dataset.statistics(data, train, len(elements), None if shift is None else np.array(shift), known)
    config = replace(config, average_neighbors=tuple(stats.neighbors.tolist()), scale=tuple(stats.scale.tolist()),
                     shift=tuple(stats.shift.tolist()))
    return AllegroNetwork(config, dtype), stats


def _epochs(trainer: Trainer, folder: Path, last: Path, origin: dict[str, Any]) -> None:
    epochs, root = trainer.deck["epochs"].epochs, trainer.comm.rank == 0
    board = _board(trainer, folder) if root and trainer.deck["tensorboard"].on else None
    bar = tqdm(total=epochs, initial=trainer.epoch, unit="epoch", disable=not root or not sys.stderr.isatty())
    say = print if root else _silent
    say(f"{'epoch':>6s}{'training':>12s}{'validation':>12s}{'F MAE':>9s}{'E MAE':>9s}{'rate':>10s}   "
        "loss; meV/Å, meV/atom")
    while not trainer.finished:
        start = time.time()
        row = trainer.run_epoch(lambda done, of: bar.set_postfix_str(f"batch {done}/{of}", refresh=done % 8 == 0))
        origin["seconds"] += time.time() - start
        row["seconds"] = origin["seconds"]
        on_root(trainer.comm, lambda: _save(trainer, folder, last, origin))
        if not root:
            continue
        bar.update(1)
        tqdm.write(f"{trainer.epoch:6d}{row['train_loss']:12.5f}{row['validation_loss']:12.5f}"
                   f"{1000 * row['force_mae']:9.2f}{1000 * row['energy_mae']:9.2f}{row['learning_rate']:10.2e}")
        sys.stdout.flush()
        if board:
            for name, value in row.items():
                board.add_scalar(name, value, trainer.epoch)
    bar.close()
    if board:
        board.close()


def _board(trainer: Trainer, folder: Path) -> Any:
    """What writes TensorBoard's files; of a training that goes on, what came after its checkpoint is dropped."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise InputError(trainer.deck["tensorboard"].fault("the package tensorboardX is missing; pip install it, or "
                                                           "leave the line out")) from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=trainer.epoch + 1)


def _save(trainer: Trainer, folder: Path, last: Path, origin: dict[str, Any]) -> None:
    """Checkpoint and table of an epoch."""
    save_checkpoint(last, trainer, origin)
    with (folder / "metrics.csv").open("w", newline="") as out:
        writer = csv.DictWriter(out, list(trainer.rows[-1]))
        writer.writeheader()
        writer.writerows({k: f"{v:.8g}" for k, v in r.items()} for r in trainer.rows)


def _silent(*words: object) -> None:
    """What ranks other than 0 print."""


def _same(last: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse to go on with another deck or other data."""
    was, now = ({k: d["deck"].get(k, f"no {k}") for k in {**old["deck"], **new["deck"]}} for d in (old, new))
    faults = [f"{last}: made by a deck that says '{was[k]}', not '{now[k]}'; restore the line or name another output"
              for k in was if k not in FREE and was[k] != now[k]]
    if old["data"] != new["data"]:
        faults.append(f"{last}: made from other data; restore the files or name another output")
    if faults:
        raise InputError(*faults)
