"""Counts of messages, bytes and collective calls, and what a run's PERFORMANCE figures say of them. Any rank count."""

import json

import numpy as np
from mpi4py import MPI

from rxmdnn.traffic import CountedComm, Traffic, counted, traffic_of
from tests.runs import run_text
from tests.systems import TRICLINIC, argon, engine, share, spread_atoms

COMM = MPI.COMM_WORLD


def test_a_copy_and_a_giving_back_are_counted_to_the_byte():
    comm = counted(COMM)
    x = spread_atoms(TRICLINIC, 60, 2.6)
    atoms = share(comm, x, np.zeros(len(x), np.int32))
    forces = engine(comm, TRICLINIC, argon())
    forces.domain.distribute(atoms)
    forces.compute(atoms)
    flows = [flow for hop in forces.domain.flows for flow in hop if {flow.send_to, flow.receive_from} != {comm.rank}]
    traffic = traffic_of(comm)
    traffic.clear()
    forces.domain.copy(atoms.x)
    assert (traffic.messages, traffic.bytes) == (len(flows), sum(24 * len(flow.rows) for flow in flows))
    forces.domain.give_back(atoms.f)
    assert traffic.messages == 2 * len(flows)
    assert traffic.bytes == 24 * sum(len(flow.rows) + flow.stop - flow.start for flow in flows)
    assert traffic.collectives == 0
    comm.allreduce(1)
    forces.energy()
    assert traffic.collectives == (2 if comm.size > 1 else 0)
    assert (traffic.waited > 0) == (comm.size > 1)


def test_parts_of_a_communicator_count_into_its_counts():
    comm = counted(COMM)
    part = comm.Split(comm.rank % 2, comm.rank)
    assert part.size == sum(rank % 2 == comm.rank % 2 for rank in range(comm.size))
    part.Barrier()
    assert traffic_of(comm).collectives == (1 if comm.size > 1 else 0)
    assert counted(comm) is comm
    assert isinstance(comm, CountedComm) == (comm.size > 1)
    assert traffic_of(MPI.COMM_SELF) == Traffic()


def test_a_run_states_what_it_sends_and_how_long_it_waits(folder):
    text = "mdmode 1\ntime 2.0 11\ntemperature 60.0 1.0 100\nio_step 20 10\nstructure start.xyz\njson out.json\n"
    code, out = run_text(COMM, folder, "out", text)
    assert code == 0
    if COMM.rank:
        return
    figures = json.loads((folder / "out.json").read_text())
    (line,) = (row for row in (out / "run.log").read_text().splitlines() if "PERFORMANCE" in row)
    sent, alone = figures["per_step"], COMM.size == 1
    assert (sent["messages"] > 0) == (sent["kB"] > 0) == (sent["collectives"] >= 1) == (not alone)
    assert ("waiting" in line) == ("messages" in line) == (not alone)
    waiting = figures["share_percent"]["waiting"]
    assert 0 <= waiting["min"] <= waiting["mean"] <= waiting["max"] <= 100
    assert (waiting["max"] > 0) == (not alone)
