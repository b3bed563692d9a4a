"""Small systems that several rings of tests share."""

import numpy as np
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.engine.forces import Forces
from rxmdnn.engine.system import System
from rxmdnn.models.pair import LennardJones

TRICLINIC = Cell(np.array([[14.0, 0.0, 0.0], [3.0, 13.0, 0.0], [-2.0, 2.5, 12.0]]))


def spread_atoms(cell: Cell, n: int, closest: float, seed: int = 0) -> np.ndarray:
    """(n, 3) positions at random, no two copies nearer than ``closest`` Å."""
    rng = np.random.default_rng(seed)
    kept = np.empty((0, 3))
    while len(kept) < n:
        s = rng.random(3)
        d = kept - s
        d -= np.round(d)
        if not len(kept) or np.linalg.norm(d @ cell.h, axis=1).min() > closest:
            kept = np.vstack([kept, s])
    return cell.cartesian(kept)


def ammonia(cell: Cell = TRICLINIC, n: int = 40, seed: int = 3):
    """Molecules at random places and orientations as ASE atoms, in any order, wrapped into the cell one by one."""
    import ase.build

    rng = np.random.default_rng(seed)
    molecule = ase.build.molecule("NH3")
    arms = molecule.positions - molecule.positions[0]
    x = [center + arms @ np.linalg.qr(rng.normal(size=(3, 3)))[0] for center in spread_atoms(cell, n, 3.1, seed)]
    atoms = ase.Atoms("NH3" * n, np.concatenate(x), cell=cell.h, pbc=True)[rng.permutation(4 * n)]
    atoms.wrap()
    return atoms


def engine(comm: MPI.Comm, cell: Cell, potential, grid=(0, 0, 0), skin=0.5, backend=None) -> Forces:
    """Forces of a system whose atoms a test gives."""
    return System(potential, cell, comm=comm, backend=backend, skin=skin, grid=grid).forces


def share(comm: MPI.Comm, x: np.ndarray, species: np.ndarray, v: np.ndarray | None = None) -> Atoms:
    """Atoms dealt out to ranks like cards, wherever they are."""
    mine = np.arange(comm.rank, len(x), comm.size)
    return Atoms.of(mine, species[mine], x[mine], None if v is None else v[mine])


def collect(comm: MPI.Comm, atoms: Atoms, *arrays: np.ndarray) -> list[np.ndarray]:
    """Owned rows of arrays from all ranks, in the order of gid, on every rank."""
    gid = np.concatenate(comm.allgather(atoms.gid[: atoms.n_owned]))
    assert (np.sort(gid) == np.arange(len(gid))).all(), "every atom has exactly one owner"
    return [np.concatenate(comm.allgather(a[: atoms.n_owned]))[np.argsort(gid)] for a in arrays]


def argon(backend=None, cutoff: float = 6.0, elements=("Ar",)) -> LennardJones:
    return LennardJones(backend or backends.make("cpu"), elements, epsilon=0.0104, sigma=3.4, cutoff=cutoff)


def allegro(elements=("Ar", "Ne"), precision="float32", r_max=5.0, backend=None, **config):
    """A small Allegro potential with random weights."""
    from rxmdnn.models.allegro import Allegro
    from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork

    small = {"n_scalar": 8, "n_tensor": 4, "embed_width": 8, "latent_width": 8, "readout_width": 8}
    network = AllegroNetwork(AllegroConfig(elements, r_max, average_neighbors=10.0, **{**small, **config}))
    return Allegro(network, elements, precision, backend=backend)
