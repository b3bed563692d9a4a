"""Checkpoints of a training, and what one that is continued must agree with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI

from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.files import atomic, sha256_of
from rxmdnn.parallel import on_root, together
from rxmdnn.schema import Checked, Item, reading
from rxmdnn.training.trainer import Trainer

ORIGIN = {"deck": Item("dict"), "data": Item("list"), "seconds": Item("float", low=0)}
ANOTHER = "remove it or name another output folder"
# Lines of the deck that may change when a training is resumed; data are compared by content. More epochs continue a
# finished training.
FREE = ("output", "model", "json", "data", "training_data", "tensorboard", "keep", "epochs", "stop", "stop_at_force")


def origin_of(deck: Deck, comm: MPI.Intracomm) -> dict[str, Any]:
    """What a checkpoint records of its training: lines of the deck, SHA-256 of the data, threads, ranks, seconds."""
    start = [deck["from_model"].file] if deck["from_model"].file else []
    return {"deck": {line.split()[0]: " ".join(line.split("<")[0].split()) for line in deck.echo().splitlines()},
            "data": [sha256_of(p) for p in (*deck["data"].file, *deck["training_data"].file, *start)],
            "threads": torch.get_num_threads(), "ranks": comm.size, "seconds": 0.0}


def resume(trainer: Trainer, checkpoint: Path, origin: dict[str, Any], log: Callable[[str], None]) -> None:
    """Continue from the checkpoint if there is one; its seconds are added to ``origin``."""

    def saved() -> dict[str, Any] | None:
        if not checkpoint.exists():
            return None
        state = load_checkpoint(checkpoint)
        with reading(checkpoint, "a checkpoint of rxmdnn train", ANOTHER) as checked:
            old = checked.entries(state, {"origin": Item("dict")})["origin"]
            checked.entries(old, ORIGIN, "origin")
            _check_origin(checkpoint, old, origin)
        return state

    if state := on_root(trainer.comm, saved):
        with together(trainer.comm), reading(checkpoint, "a checkpoint of this training", ANOTHER) as checked:
            _check_state(checked, state, trainer)
            trainer.restore(state)
        origin["seconds"] = state["origin"]["seconds"]
        log(f"resuming from {checkpoint} after epoch {trainer.epoch}")
        before, now = (o["deck"].get("epochs") for o in (state["origin"], origin))
        if before != now and any(trainer.deck[line].given for line in ("cosine", "sam")):
            log(f"note: '{now}', not '{before}': what 'cosine' and 'sam' do at a fraction of the epochs moves with it")
        for what in ("threads", "ranks"):
            if (before := state["origin"].get(what, 1)) != origin[what]:
                log(f"note: {origin[what]} {what}, not {before}: the last bits may differ")


def _check_state(checked: Checked, state: dict[str, Any], trainer: Trainer) -> None:
    """Raises InputError for a state that is not one of this training. trainer : before its first epoch"""
    fresh = trainer.state()
    weights = fresh["weights"]
    moved = [w.detach() for group in trainer.optimizer.param_groups for w in group["params"]]  # in their own order
    checked.alike(state, fresh, "state")
    checked.alike(state["best_values"], weights, "state.best_values")
    checked.alike(state.get("sam", {}).get("mean"), weights, "state.sam.mean")
    for k, moments in state["optimizer"]["state"].items():
        for name, value in moments.items():
            if np.ndim(value):
                checked.alike(value, moved[k], f"state.optimizer.{k}.{name}")


def _check_origin(checkpoint: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise InputError if the checkpoint was made with another deck or other data."""
    was, now = ({k: d["deck"].get(k, f"no {k}") for k in {**old["deck"], **new["deck"]}} for d in (old, new))
    faults = [f"{checkpoint}: made by a deck that says '{was[k]}', not '{now[k]}'; restore the line or name another "
              "output" for k in was if k not in FREE and was[k] != now[k]]
    if old["data"] != new["data"]:
        faults.append(f"{checkpoint}: made from other data; restore the files or name another output")
    if faults:
        raise InputError(*faults)


def save_checkpoint(path: Path, trainer: Trainer, origin: dict[str, Any]) -> None:
    """Replace the checkpoint at once: the state of the trainer and its ``origin`` (deck, data, ...)."""
    try:
        with atomic(path) as new, new.open("wb") as out:
            torch.save({"origin": origin, **trainer.state()}, out)
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be written: {reason}; the previous checkpoint is kept") from None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint; code in the file is never executed."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path}: not a checkpoint of rxmdnn train, or damaged: {str(error).splitlines()[0]}; "
                         f"{ANOTHER}") from None
