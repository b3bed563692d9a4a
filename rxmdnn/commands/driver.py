"""``rxmdnn driver``: serve forces to i-PI over its socket protocol."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mpi4py import MPI

from rxmdnn.commands.arguments import parse_known
from rxmdnn.deck.run import read_run
from rxmdnn.engine.system import System
from rxmdnn.parallel import AgreedError, on_each
from rxmdnn.run.device import make_backend
from rxmdnn.run.ipi import Line, serve
from rxmdnn.run.potential import make_potential
from rxmdnn.run.start import read_start
from rxmdnn.run.threads import fewer_threads, set_threads


def main(argv: Sequence[str], comm: MPI.Comm) -> None:
    """Serve forces until the server says EXIT or goes away."""
    p = argparse.ArgumentParser("rxmdnn driver", description="Serve forces to i-PI over its socket protocol. The deck "
                                "names the model and the structure, whose order of atoms is the server's. Other flags "
                                "are those of rxmdnn run: --rxmdin DECK, and what goes over it.", allow_abbrev=False)
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument("--unix", metavar="NAME", help="Unix socket: i-PI's <address>, or a path with '/'")
    where.add_argument("--host", help="of an inet socket")
    p.add_argument("--port", type=int, help="of an inet socket")
    p.add_argument("--wait", type=float, default=60.0, metavar="S", help="how long to try to connect (default 60)")
    a, rest = parse_known(p, argv, comm)
    if a.host and not a.port:
        raise AgreedError(f"driver: --host {a.host}: a port is missing; write --port as in i-PI's <port>")
    run = on_each(comm, lambda: read_run(rest, comm.size))
    backend = make_backend(comm, run)
    set_threads(comm, run.deck["threads"].n)
    potential = on_each(comm, lambda: make_potential(run, backend))
    start = read_start(comm, run)
    if (note := fewer_threads(comm, run.deck["threads"].n, start.n_global)) and comm.rank == 0:
        print(f"driver: {note}", flush=True)
    system = System(potential, start.cell, start.atoms(), comm=comm, backend=backend, skin=run.deck["skin"].skin,
                    grid=tuple(run.deck["processors"]), balance=run.deck["balance"].on)
    served = serve(system, lambda: Line(a.unix, a.host, a.port, a.wait))
    if comm.rank == 0:
        print(f"driver: {served} force calls served, {system.forces.builds} neighbor lists", flush=True)
