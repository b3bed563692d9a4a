"""A loop on two ranks: the frames, labels and models of one rank, by processes that are no ranks."""

import shutil

import pytest
from mpi4py import MPI

from rxmdnn.commands import learn
from tests.unit.learning.test_loop import deck, ledger, prepare

COMM = MPI.COMM_WORLD


@pytest.mark.skipif(COMM.size > 2, reason="the first rank leads; more ranks only wait as the second does")
def test_two_ranks_do_what_one_does(tmp_path_factory):
    place = COMM.bcast(tmp_path_factory.mktemp("learn") if COMM.rank == 0 else None)
    if COMM.rank == 0:
        prepare(place)
        paths = [deck(place, name, rounds="1") for name in ("one", "many")]
        assert learn.main([str(paths[0])]) == 0
    COMM.Barrier()
    assert learn.main([str(place / "many.in"), "--workers", "2"], COMM) == 0
    if COMM.rank == 0:
        assert ledger(place / "one") == ledger(place / "many")
    COMM.Barrier()
    if COMM.rank == 0:
        shutil.rmtree(place)
