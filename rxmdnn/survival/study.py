"""``rxmdnn tfail tfail.in``: runs of several models until failure, paired, batched, distributed over ranks, resumable.

Runs are grouped into batches of replicas of one model and size, which do not depend on the number of ranks. Rank 0
distributes the batches and writes the results between its own steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.deck.language import Deck
from rxmdnn.io.folder import locked
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import on_root
from rxmdnn.survival import results
from rxmdnn.survival.batch import ReplicaBatch
from rxmdnn.survival.dispatcher import Dispatcher
from rxmdnn.survival.plan import StudyPlan
from rxmdnn.survival.stored import digest
from rxmdnn.survival.thermalize import StartPositions

FREE = ("model", "sizes", "temperatures", "replicas", "batch", "output", "cap", "start")  # may differ when resumed


class Study:
    """A study of times to failure: a plan, and the execution of its runs.

    load : (file, elements, precision) -> Potential; Allegro by default
    """

    def __init__(self, deck: Deck, comm: MPI.Intracomm, load: Callable[..., Potential] | None = None) -> None:
        self.comm, self.plan = comm, StudyPlan(deck, comm, load)
        self.positions = StartPositions(self.plan, comm)

    def run(self) -> None:
        """Execute all runs without a result yet; write results.h5 at the end. Raises InputError where another study
        writes to the folder."""
        with locked(self.comm, self.plan.folder, "study", "output"):
            self._run()

    def _run(self) -> None:
        comm, plan = self.comm, self.plan
        done = on_root(comm, lambda: results.begin(plan.folder, self._identity(), FREE))
        all_runs = plan.runs()
        rest = [run for run in all_runs if run.name not in done]
        if comm.rank == 0:
            copies = " ".join(map(str, plan.deck["replicas"].n))
            print(f"{len(all_runs)} runs: {len(plan.models)} models, {len(plan.starts)} sizes, "
                  f"{len(set(plan.deck['temperatures'].t))} temperatures, {copies} replicas; "
                  f"{len(all_runs) - len(rest)} done; {comm.size} rank{'s' if comm.size > 1 else ''}", flush=True)
        self.positions.prepare(rest)
        with tqdm(total=len(all_runs), initial=len(all_runs) - len(rest), unit="run",
                  disable=comm.rank > 0 or not sys.stderr.isatty()) as bar:
            dispatcher = Dispatcher(comm, plan.batches(rest), plan.folder, bar)
            while (runs := dispatcher.next()) is not None:
                ReplicaBatch(plan, runs, self.positions.of(runs), dispatcher).run()
            dispatcher.close()
        if comm.rank == 0:
            self._finish()

    def _identity(self) -> dict[str, dict[str, str]]:
        """What must be equal when a study is resumed: the lines of its deck, the digests of its models."""
        lines = {row.split()[0]: " ".join(row.split("<")[0].split()) for row in self.plan.deck.echo().splitlines()}
        digests = {m.name: digest(m.file) for m in self.plan.models}
        return {"deck": lines, "models": digests}

    def _finish(self) -> None:
        folder = self.plan.folder
        path, rows = results.write_h5(folder), results.read(folder)
        print(f"{sum(r['failed'] for r in rows)} of {len(rows)} runs failed; {folder / results.CSV}, {path.name}, "
              f"{results.FRAMES}")
