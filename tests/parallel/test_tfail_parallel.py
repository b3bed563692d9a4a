"""A study of times to failure on any rank count: every run once, with the results of one rank."""

import shutil
from pathlib import Path

from mpi4py import MPI

from rxmdnn.survival import results
from tests.unit.survival.test_study import run, workplace

COMM = MPI.COMM_WORLD


def test_any_rank_count_gives_the_runs_of_one(tmp_path_factory):
    place: Path = COMM.bcast(tmp_path_factory.mktemp("tfail") if COMM.rank == 0 else None)
    if COMM.rank == 0:
        deck = workplace(place)
        deck.write_text(deck.read_text() + "thermalize b.model 0.02 2.0\n")
        run(deck, ["--outDir", str(place / "one"), "--batch", "8"])
    COMM.Barrier()
    run(place / "tfail.in", ["--outDir", str(place / "many"), "--batch", "8"], COMM)
    if COMM.rank == 0:
        one, many = ({r["run"]: r for r in results.read(place / name)} for name in ("one", "many"))
        assert len(results.read(place / "many")) == len(many) == 12
        assert {k: str(v) for k, v in one.items()} == {k: str(v) for k, v in many.items()}
        frames = (dict(results.complete_frames(place / name / "failures.xyz")) for name in ("one", "many"))
        assert next(frames) == next(frames)
        assert (place / "many/results.h5").exists()
    COMM.Barrier()
    if COMM.rank == 0:
        shutil.rmtree(place)
