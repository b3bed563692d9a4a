"""The plan of a loop: its checked deck, the decks that it names, what must not change while it is repeated."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mpi4py import MPI

import rxmdnn
from rxmdnn.deck import language as decks
from rxmdnn.deck import tfail
from rxmdnn.deck import train as training_deck
from rxmdnn.deck.language import Deck
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.labelling.engines import engine_of
from rxmdnn.labelling.executor import Executor, executor_of
from rxmdnn.learning.retrain import held_out, split_faults
from rxmdnn.models.model_file import load_model
from rxmdnn.survival.plan import StudyPlan
from rxmdnn.survival.stored import weights_digest
from rxmdnn.training.labelled_frames import LabelledFrame

FREE = ("output", "workers", "executor", "budget", "rounds")  # lines that may differ when a loop goes on


class LearningPlan:
    """A checked deck of a loop. Raises InputError with the faults of the deck and of what it names.

    Parameters
    ----------
    deck : Deck of rxmdnn.deck.learn
    ranks : of the job, which is the default number of workers

    Attributes
    ----------
    folder : Path, of the loop
    model : Path, to begin with; data : list of Path
    studies : list of (Path, Deck), the decks of ``runs``, checked with the first model
    starts : list of Path, what the runs begin from: structures, and models that make them hot
    moving : set of str, elements of the runs
    guards : list of LabelledFrame, held-out frames whose errors by kind may not rise
    executor : Executor
    """

    def __init__(self, deck: Deck, ranks: int = 1) -> None:
        self.deck = deck
        self.folder: Path = deck["output"].folder if deck["output"].given else deck.path(deck["output"].folder)
        self.model, self.data = deck["model"].file, list(deck["data"].file)
        self.workers = deck["workers"].number or (ranks if ranks > 1 else len(os.sched_getaffinity(0)))
        if not deck["runs"]:
            raise InputError(f"{deck.file}: runs: missing; write 'runs <deck>', a deck of rxmdnn tfail")
        self.elements = load_model(self.model).config.elements
        self.moving: set[str] = set()
        self.executor: Executor = executor_of(deck["executor"].name, deck["executor"].file, self.workers)
        self.studies = [(line.deck, self._study(line.deck)) for line in deck["runs"]]
        self.starts = [p for _, study in self.studies
                       for p in (*(line.file for line in study["start"]), study["thermalize"].file) if p]
        self.starts += [p for line in deck["production"] if (p := _production(line))]
        self.guards = self._guards()
        self._check_engine()

    def training(self, *argv: str) -> Deck:
        """The deck of a retraining, with flags over it."""
        data = [str(p) for p in self.data]
        return decks.read(self.deck["train"].deck, training_deck.TABLE, [
            "--data", *data, "--elements", *self.elements, *argv])

    def study(self, path: Path, model: Path, *argv: str) -> Deck:
        """A deck of runs, for this model, with flags over it."""
        return decks.read(path, tfail.TABLE, ["--model", str(model), "model", "1", *argv])

    def identity(self) -> dict[str, Any]:
        """What must be equal when a loop goes on: lines of the deck, and digests of the files that they name."""
        lines: dict[str, str] = {}
        for row in self.deck.echo().splitlines():  # lines of 'runs' and 'production' may repeat
            line = " ".join(row.split("<")[0].split())
            lines[row.split()[0]] = "; ".join([*filter(None, [lines.get(row.split()[0])]), line])
        named = [self.deck["train"].deck, *(line.deck for kind in ("runs", "production") for line in self.deck[kind]),
                 *self.starts]
        return {"deck": {k: v for k, v in lines.items() if k not in FREE},
                "decks": {os.path.relpath(p, self.deck.file.parent): sha256_of(p) for p in named},
                "model": {"file": self.model.name, "sha256": weights_digest(self.model)},
                "data": [{"file": p.name, "sha256": sha256_of(p)} for p in self.data]}

    def start_line(self) -> dict[str, Any]:
        """The first line of the ledger."""
        asked, budget = self.deck["survive"], self.deck["budget"]
        return {**self.identity(), "engine": engine_of(self.deck["engine"].name).name,
                "asked": {"atoms": asked.atoms, "ps": asked.time, "temperature_K": asked.temperature,
                          "probability": asked.probability, "confidence": asked.confidence},
                "budget": {"labels": budget.labels, "hours": budget.hours, "rounds": self.deck["rounds"].number},
                "version": f"rxmdnn {rxmdnn.__version__}"}

    # ------------------------------------------------------------------------------------ checks
    def _study(self, path: Path) -> Deck:
        """A checked deck of runs."""
        deck = self.study(path, self.model)
        if self.deck["choose"].by == "latent" and not deck["frames"].count:
            raise InputError(deck["frames"].fault("keeps no frames from before a failure; write 'frames 3 20'"))
        if self.deck["choose"].by == "random" and not deck["samples"].steps:
            raise InputError(f"{path}: samples: missing; 'choose random' takes frames from there: 'samples 200'")
        self.moving |= set(StudyPlan(deck, MPI.COMM_SELF).elements)
        return deck

    def _guards(self) -> list[LabelledFrame]:
        """The held-out frames of the training deck."""
        deck = self.training("--model", str(self.folder / "model.safetensors"))
        frames, guards = held_out(deck)
        if faults := split_faults(self.model, deck):
            raise InputError(*faults)
        have = {self.elements[s] for f in frames for s in set(f.species.tolist())}
        missing = sorted(self.moving - have)
        if missing:
            raise InputError(self.deck["data"].fault(f"no frame has {', '.join(missing)}, which the runs have; add "
                                                     "labelled frames of it"))
        return guards

    def _check_engine(self) -> None:
        """Raises InputError for an engine that cannot be used, or that is not the one of the data."""
        line = self.deck["engine"]
        known = engine_of(line.name)
        try:
            version = known.version(known.calculator())
        except ImportError as error:
            raise InputError(line.fault(f"{line.name}: a package is missing: {error}")) from None
        mine = f"{known.name} {version} {known.settings}"
        theirs = next((f.engine for f in self.guards if f.engine), mine)
        if theirs != mine:
            raise InputError(line.fault(f"the data were labelled by '{theirs}', but this is '{mine}'; labels of "
                                        "several engines or settings cannot be mixed"))


def _production(line: Any) -> Path | None:
    """Check a deck of production runs; its structure."""
    run = read_run(["--rxmdin", str(line.deck)], 1)
    if run.deck["fidelity"].action == "off":
        raise InputError(line.fault(f"{line.deck} does not watch the run; write 'fidelity stop 5' into it"))
    return run.deck["structure"].file  # type: ignore[no-any-return]
