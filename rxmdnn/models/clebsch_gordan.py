"""The products of irreps in an Allegro network and their nonzero Clebsch-Gordan coefficients."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np

Irrep = tuple[int, int]  # (l, parity)


@dataclass(frozen=True)
class ProductTable:
    """The tensor product of one layer, V'[m3] = Σ_t coefficient W[path] V[m1] A[m2], as a list of terms.

    Attributes
    ----------
    d_in, d_env, d_out : int
        Components of V (features in), A (environment) and V' (features out).
    n_paths : int
        Triples of irreps (out, in, environment), in this order of nesting; each has one weight per channel.
    m1, m2, m3, path (t,) int64, coefficient (t,) float64
        √(2 l3 + 1) times Wigner's 3j symbol in the real basis of e3nn; magnitudes below 1e-10 are left out.
    pair (t,) int64
        The row of ``pairs`` to which a term belongs.
    pairs (q, 2) int64
        Distinct (m1, m3), sorted by m3, then m1: the sum over environment and path is made once per center.
    """

    d_in: int
    d_env: int
    d_out: int
    n_paths: int
    m1: np.ndarray
    m2: np.ndarray
    m3: np.ndarray
    path: np.ndarray
    coefficient: np.ndarray
    pair: np.ndarray
    pairs: np.ndarray


def harmonic_irreps(l_max: int) -> list[Irrep]:
    """Irreps of the spherical harmonics: parity (-1)^l."""
    return [(l, (-1) ** l) for l in range(l_max + 1)]  # noqa: E741


def _reachable(a: Irrep, b: Irrep, out: Irrep) -> bool:
    return abs(a[0] - b[0]) <= out[0] <= a[0] + b[0] and a[1] * b[1] == out[1]


def layer_irreps(l_max: int, parity: bool, n_layers: int) -> list[list[Irrep]]:
    """Irreps of the tensor features before the first layer and after each one.

    With ``parity`` both mirror parities of every l are allowed, otherwise only that of the harmonics. Irreps that
    cannot reach the scalar of the last layer are pruned (Allegro: Nat. Commun. 14, 579, and nequip-allegro 0.8.3).
    """
    env = harmonic_irreps(l_max)
    allowed = [(l, p) for l in range(l_max + 1) for p in (1, -1)] if parity else env  # noqa: E741
    grown = [env]
    for k in range(n_layers):
        targets = [(0, 1)] if k == n_layers - 1 else allowed
        grown.append([o for o in targets if any(_reachable(i, e, o) for i in grown[-1] for e in env)])
    kept = [grown[-1]]
    for irreps in reversed(grown[:-1]):
        kept.append([i for i in irreps if any(_reachable(i, e, o) for e in env for o in kept[-1])])
    return kept[::-1]


@lru_cache(maxsize=64)
def product_tables(l_max: int, parity: bool, n_layers: int) -> tuple[ProductTable, ...]:
    """The tensor products of all layers, with the Wigner 3j symbols of e3nn."""
    import torch
    from e3nn.o3 import wigner_3j

    env = harmonic_irreps(l_max)
    irreps = layer_irreps(l_max, parity, n_layers)
    tables = []
    for inputs, outputs in pairwise(irreps):
        starts = [np.cumsum([0] + [2 * l + 1 for l, _ in some]) for some in (inputs, env, outputs)]  # noqa: E741
        rows: list[tuple[int, int, int, int, float]] = []
        n_paths = 0
        for i3, o in enumerate(outputs):
            for i1, i in enumerate(inputs):
                for i2, e in enumerate(env):
                    if not _reachable(i, e, o):
                        continue
                    w = wigner_3j(i[0], e[0], o[0], dtype=torch.float64).numpy() * math.sqrt(2 * o[0] + 1)
                    rows += [(int(starts[0][i1] + a), int(starts[1][i2] + b), int(starts[2][i3] + c), n_paths,
                              float(w[a, b, c])) for a, b, c in zip(*np.nonzero(np.abs(w) > 1e-10))]
                    n_paths += 1
        rows.sort(key=lambda t: (t[2], t[0], t[1], t[3]))
        m1, m2, m3, path = (np.array([row[k] for row in rows], np.int64) for k in range(4))
        pairs, pair = np.unique(np.stack([m3, m1], axis=1), axis=0, return_inverse=True)
        tables.append(ProductTable(
            d_in=int(starts[0][-1]), d_env=int(starts[1][-1]), d_out=int(starts[2][-1]), n_paths=n_paths, m1=m1, m2=m2,
            m3=m3, path=path, coefficient=np.array([row[4] for row in rows]), pair=pair.reshape(-1),
            pairs=np.ascontiguousarray(pairs[:, ::-1])))
    return tuple(tables)


@dataclass(frozen=True)
class Mix:
    """The features of one irrep and the products from which a linear map makes them.

    Attributes
    ----------
    l : of the irrep; paths : number of products of this irrep
    start_in : first row of the products: component m of path p is row start_in + m paths + p
    start_out : first row of the features
    """

    l: int  # noqa: E741
    paths: int
    start_in: int
    start_out: int


@lru_cache(maxsize=64)
def path_tables(l_max: int, parity: bool, n_layers: int) -> tuple[tuple[ProductTable, tuple[Mix, ...]], ...]:
    """The tensor products of all layers with the results of the paths kept apart, and the linear maps that join them.

    Scalars come first, one row per path; ``d_in`` of the next table is the size after joining.
    """
    tables = []
    for table, irreps in zip(product_tables(l_max, parity, n_layers), layer_irreps(l_max, parity, n_layers)[1:]):
        path_of = {int(p): int(m3) for p, m3 in zip(table.path, table.m3)}  # any component tells the irrep of a path
        mixes, m3, start_in, start_out = [], table.m3.copy(), 0, 0
        for l, _ in irreps:  # noqa: E741
            here = [p for p in sorted(path_of) if start_out <= path_of[p] < start_out + 2 * l + 1]
            for k, p in enumerate(here):
                of_path = table.path == p
                m3[of_path] = start_in + (table.m3[of_path] - start_out) * len(here) + k
            mixes.append(Mix(l, len(here), start_in, start_out))
            start_in, start_out = start_in + (2 * l + 1) * len(here), start_out + 2 * l + 1
        pairs, pair = np.unique(np.stack([m3, table.m1], axis=1), axis=0, return_inverse=True)
        tables.append((replace(table, d_out=start_in, m3=m3, pair=pair.reshape(-1),
                               pairs=np.ascontiguousarray(pairs[:, ::-1])), tuple(mixes)))
    return tuple(tables)
