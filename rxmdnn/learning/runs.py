"""The runs of a round: studies of the present model with velocities that no earlier round has drawn.

Frames before their failures are what the model learns from next, so that the runs of a round are a test of its model by
seeds that its training has not seen. A job is one batch of replicas of one deck, size and temperature, with a seed of
its own. An unfinished job is done again from its beginning: runs are chaotic, and a resumed one would end elsewhere.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpi4py import MPI
from scipy import stats
from tqdm import tqdm

from rxmdnn.deck import language as decks
from rxmdnn.deck import tfail
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.labelling.executor import Executor, LostError
from rxmdnn.learning.plan import LearningPlan
from rxmdnn.parallel import FailedRunError
from rxmdnn.run.job import run_job
from rxmdnn.survival import results
from rxmdnn.survival.certificate import bound, certify
from rxmdnn.survival.plan import replica_counts
from rxmdnn.survival.report import cell_rows
from rxmdnn.survival.study import Study
from rxmdnn.training.model_output import deck_line, species_words
from rxmdnn.units import FS_PER_PS

DONE, LOG = "done", "log"  # files of a job
PARTS = 10_000  # seeds of a round: more than a round has batches of one size and temperature


class Job(NamedTuple):
    """A deck with flags over it, of ``tfail`` or of ``run``, whose results go to a folder."""

    deck: str
    argv: tuple[str, ...]
    folder: str
    study: bool


def jobs(plan: LearningPlan, model: Path, number: int) -> list[Job]:
    """The jobs of a round, the largest first."""
    found, base = [], plan.folder.absolute() / f"round_{number}/runs"  # a worker of a cluster has a folder of its own
    for k, (path, deck) in enumerate(plan.studies, 1):
        counts = replica_counts(deck)
        for n in sorted(counts, reverse=True):
            size = max(1, deck["batch"].atoms // n)
            for t in sorted(set(deck["temperatures"].t), reverse=True):
                for part, first in enumerate(range(0, counts[n], size)):
                    folder = base / f"study_{k}_{n}_{t:g}K_{part}"
                    found.append(Job(str(path.absolute()), (
                        "--model", str(model.absolute()), "model", "1", "--sizes", str(n), "--temperatures", f"{t:g}",
                        "--replicas", str(min(size, counts[n] - first)), "--seed",
                        str(deck["seed"].number + PARTS * number + part), "--outDir", str(folder)), str(folder), True))
    for k, line in enumerate(plan.deck["production"], 1):
        folder = base / f"production_{k}"
        found.append(Job(str(line.deck.absolute()), (
            str(model.absolute()), "--seed", str(1 + number), "--outDir", str(folder)), str(folder), False))
    return found


def run_all(todo: Sequence[Job], executor: Executor, what: str) -> None:
    """Do the jobs that are not done. Raises InputError for one that cannot be."""
    rest = [job for job in todo if not (Path(job.folder) / DONE).exists()]
    for job in rest:
        shutil.rmtree(job.folder, ignore_errors=True)
    bar = tqdm(executor.unordered(do, rest), total=len(todo), initial=len(todo) - len(rest), unit="job", desc=what,
               leave=False, disable=None)
    lost = [f"{rest[k].folder}: {made}" for k, made in bar if isinstance(made, LostError)]
    if lost:
        raise InputError(*lost)


def do(job: Job) -> None:
    """One job, in a process of its own; what it prints is in its folder."""
    folder = Path(job.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOG).open("w", encoding="utf-8") as log, contextlib.redirect_stdout(log), \
            contextlib.redirect_stderr(log):
        if job.study:
            import numba

            numba.set_num_threads(1)  # as many jobs as cores
            Study(decks.read(job.deck, tfail.TABLE, job.argv), MPI.COMM_SELF).run()
        else:
            _produce(job)
    (folder / DONE).touch()


def _produce(job: Job) -> None:
    """A production run by the present model in the place of the Allegro model of its deck."""
    model, *argv = job.argv
    words = ["--rxmdin", job.deck, *argv]
    given = read_run(words, 1)
    lines = [deck_line(Path(model).resolve(), given.elements, given.masses)]
    if given.repulsion is not None:
        lines.append(f"zbl {given.repulsion.parameters['fraction']:g} {species_words(given.elements, given.masses)}")
    models = Path(job.folder) / "rxmdnn.in"
    models.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with contextlib.suppress(FailedRunError):  # its incidents are what is asked for
        run_job(MPI.COMM_SELF, read_run([*words, "--model", str(models)], 1))


# ------------------------------------------------------------------------------------------------ what they show
def rows_of(todo: Sequence[Job]) -> list[dict[str, Any]]:
    """The runs of finished studies, in an order that does not depend on which ended first."""
    rows = [row for job in todo if job.study for row in results.read(Path(job.folder))]
    return sorted(rows, key=lambda r: (-r["n_atoms"], -r["temperature_K"], r["replica"], r["run"]))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Runs, failures, alarms by criterion, and times to failure by size and temperature."""
    return {"runs": len(rows), "failures": sum(r["failed"] for r in rows),
            "alarms": dict(sorted(Counter(r["criterion"] for r in rows if r["failed"]).items())),
            "cells": [_cell(cell, rows) for cell in cell_rows(results.failure_times(rows), {})][::-1] if rows else []}


def _cell(cell: dict[str, Any], rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One size and temperature; the mean time to failure is that of memoryless failures, with its 95 % interval."""
    kept = {name: cell[name] for name in ("n_atoms", "temperature_K", "runs", "failures", "median_fs")}
    exposure = sum(r["time_fs"] for r in rows if (r["n_atoms"], r["temperature_K"]) == tuple(kept.values())[:2])
    d = cell["failures"]
    return {**kept, "exposure_ps": exposure / FS_PER_PS, "life_fs": exposure / d if d else None,
            "life_low_fs": 1 / float(bound(d, exposure, 0.025)) if exposure else 0.0,
            "life_high_fs": 2 * exposure / float(stats.chi2.ppf(0.025, 2 * d)) if d and exposure else None}


def survival(rows: Sequence[dict[str, Any]], plan: LearningPlan) -> dict[str, Any]:
    """The bound of the probability that is asked for, from all runs of one model, as ``survival``; the reason where
    they give none, as ``no_bound``."""
    asked = plan.deck["survive"]
    if not rows:
        return {"survival": None, "no_bound": "no runs of this model"}
    try:
        found = certify(results.failure_times(rows), asked.atoms, asked.time * FS_PER_PS, asked.temperature,
                        asked.confidence, dt=max(row["dt_fs"] for row in rows), memoryless=True)
    except InputError as error:
        return {"survival": None, "no_bound": str(error)}
    return {"survival": {"probability": found.estimate, "low": found.lower, "high": 1.0, "method": found.method,
                         "atoms": asked.atoms, "ps": asked.time, "temperature_K": asked.temperature,
                         "confidence": asked.confidence, "runs": found.runs, "exposure": found.exposure}}
