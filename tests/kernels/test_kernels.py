"""Every kernel of every backend present against the reference, call by call."""

import inspect
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.codegen import get_host_cpu_features

from rxmdnn.backend import Backend
from rxmdnn.cell import Cell
from rxmdnn.engine.neighbors import NeighborList, pairs, spatial_order
from rxmdnn.kernels import CONTRACT, n_chunks
from rxmdnn.kernels.cpu import edges as cpu_edges
from rxmdnn.units import ACCELERATION
from tests.kernels.tested import TESTED, make

REACH = 2.0
TOLERANCE = 1e-12  # relative to the largest number of the array: sums of a few hundred terms in another order
SENTINEL = 77


class Recorder(Backend):
    """The reference backend, remembering the arguments of every call before and after it."""

    def __init__(self):
        reference = make("reference")
        self.calls = []
        super().__init__("recorder", np, {name: self._recording(name, getattr(reference, name)) for name in CONTRACT})

    def _recording(self, name, kernel):
        def call(*arguments):
            before = [np.copy(a) if isinstance(a, np.ndarray) else a for a in arguments]
            kernel(*arguments)
            self.calls.append((name, before, [np.copy(a) if isinstance(a, np.ndarray) else a for a in arguments]))
        return call


def lattice(n, spacing):
    side = int(np.ceil(max(n, 1) ** (1 / 3)))
    return spacing * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n].astype(float)


def jiggled(n, rng):
    return lattice(n, 1.1) + rng.uniform(-0.2, 0.2, (n, 3))


SYSTEMS = {
    **{f"{n} atoms": lambda rng, n=n: jiggled(n, rng) for n in (0, 1, 2, 301, 4099)},
    "on cell faces": lambda rng: lattice(200, REACH / 2) - 3.0,
    "all in one cell": lambda rng: rng.uniform(0, 0.5, (150, 3)) + lattice(150, 0.02),
    "empty cells": lambda rng: np.concatenate([jiggled(100, rng), jiggled(100, rng) + 1000.0]),
    "exactly at the cutoff": lambda rng: lattice(64, REACH),
    "coincident": lambda rng: np.repeat(lattice(20, 1.5), 2, axis=0),
}


def record(x, rng):
    """One call or more of every kernel, on a system whose last third is copies."""
    backend, n = Recorder(), len(x)
    n_owned = n - n // 3
    species = rng.integers(0, 2, n).astype(np.int32)
    cutoff = np.array([[REACH, 1.7], [1.5, 1.9]])
    neighbors = NeighborList(backend, cutoff, 0.3)
    neighbors.build(x, n_owned)
    moved = x + rng.uniform(-0.05, 0.05, x.shape)
    neighbors.displacement_sq(moved[:n_owned])
    edges = neighbors.edges(moved, species)
    m = len(edges.center)
    e_i, g_ij, f = np.empty(n_owned), np.empty((m, 3)), np.empty((n, 3))
    epsilon, sigma = np.array([[1.0, 0.7], [0.7, 0.5]]), np.array([[1.0, 1.1], [1.1, 1.2]])
    edges.r_ij[(edges.r_ij == 0).all(axis=1)] = 1.0  # coincident atoms have no finite energy
    edges.r_ij[3::7] *= 4.0  # beyond the cutoff there is nothing
    backend.lennard_jones(edges.r_ij, edges.first, edges.neighbor, species, epsilon, sigma, cutoff, e_i, g_ij)
    neighbors.assemble(edges, g_ij, f)
    neighbors.virial(edges, g_ij)
    rows = rng.permutation(n)[: n // 2]
    buffer = np.empty((len(rows), 3))
    backend.pack(x, rows, np.array([1.0, -2.0, 3.0]), buffer)
    backend.unpack_add(buffer, np.concatenate([rows[:1], rows[:-1]]) if len(rows) else rows, f)
    v, mass = np.empty((n_owned, 3)), np.array([1.0, 14.0])
    gid = rng.permutation(n_owned).astype(np.int64) + 2**40
    backend.gaussian(2**40 + 17, 5, 2**33 + 3, gid, v)
    backend.kick(f, species, 0.5 * ACCELERATION / mass, v)
    backend.drift(v, 0.5, moved)
    backend.kinetic(v, species, mass, np.empty((n_chunks(n_owned), 2, 3, 3)))
    words = rng.integers(0, 2**32, (n, 4), dtype=np.uint32)
    backend.philox(words, np.array([1, 2**32 - 1], np.uint32), np.empty_like(words))
    spatial_order(backend, x[:n_owned], gid, REACH)
    pairs(backend, x[:30] + 5.0, Cell(np.eye(3) * 4.0), REACH)
    return backend.calls


@pytest.fixture(scope="module", params=SYSTEMS)
def calls(request):
    return record(SYSTEMS[request.param](np.random.default_rng(3)), np.random.default_rng(4))


def replay(kernel, name, before):
    """Call a kernel on copies whose outputs hold rubbish, and see that it writes nowhere else."""
    arguments, ends = [], []
    for argument, value in zip(CONTRACT[name].arguments, before, strict=True):
        if isinstance(value, np.ndarray):
            room = np.full(value.size + 32, SENTINEL, value.dtype)
            if argument.role in ("in", "inout"):
                room[: value.size] = value.ravel()
            ends.append(room[value.size:])
            value = room[: value.size].reshape(value.shape)
        arguments.append(value)
    kernel(*arguments)
    assert all((end == SENTINEL).all() for end in ends), f"{name} writes beyond an array"
    return arguments


@pytest.mark.parametrize("backend", TESTED)
def test_every_kernel_equals_the_reference(backend, calls):
    tested = make(backend)
    assert {name for name, _, _ in calls} == set(CONTRACT)
    for name, before, after in calls:
        result = replay(getattr(tested, name), name, before)
        for argument, value, expected in zip(CONTRACT[name].arguments, result, after, strict=True):
            if argument.role == "work" or not isinstance(value, np.ndarray):
                continue
            if value.dtype.kind == "f":
                scale = abs(expected).max(initial=0.0)
                np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE * scale, err_msg=name)
            else:
                np.testing.assert_array_equal(value, expected, err_msg=f"{name}: {argument.name}")


def compare_threads():
    """Every call of every kernel gives the same bits with one thread and with two, which gather forces if told to."""
    tested = make("cpu")
    for system in SYSTEMS.values():
        calls = record(system(np.random.default_rng(3)), np.random.default_rng(4))
        results = []
        for threads in (1, 2):
            numba.set_num_threads(threads)
            cpu_edges.FEW_THREADS = 1
            assert tested.reads_reverse() == (threads == 2)
            results.append([replay(getattr(tested, name), name, before) for name, before, _ in calls])
        for (name, _, _), one, other in zip(calls, *results, strict=True):
            for argument, a, b in zip(CONTRACT[name].arguments, one, other, strict=True):
                assert argument.role == "work" or np.array_equal(a, b), f"{name}: {argument.name}"


def test_the_same_bits_for_one_and_two_threads():
    """In a process of its own: this one may have a single thread."""
    script = f"import runpy; runpy.run_path({__file__!r})['compare_threads']()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2],
                   env={**os.environ, "NUMBA_NUM_THREADS": "2"})


@pytest.mark.parametrize("backend", ["reference", *TESTED])
def test_arguments_are_those_of_the_contract(backend):
    kernels = make(backend)
    for name, kernel in CONTRACT.items():
        function = getattr(kernels, name)
        assert list(inspect.signature(getattr(function, "py_func", function)).parameters) \
            == [argument.name for argument in kernel.arguments], name
        roles = [argument.role for argument in kernel.arguments]
        assert roles == sorted(roles, key=["in", "work", "inout", "out"].index), f"{name}: outputs come last"


@pytest.mark.parametrize("backend", TESTED)
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sort_does_not_depend_on_the_number_of_parts(backend, dtype):
    for n_keys in (50, 3):
        key = np.random.default_rng(0).integers(0, n_keys, 1001).astype(np.int32)
        for parts in (1, 3, 8):
            first, order = np.empty(n_keys + 1, np.int64), np.empty(len(key), dtype)
            make(backend).sort_by_key(key, np.empty((parts, n_keys), np.int64), first, order)
            np.testing.assert_array_equal(order, np.argsort(key, kind="stable"))
            np.testing.assert_array_equal(first, np.searchsorted(np.sort(key), np.arange(n_keys + 1)))


@pytest.mark.parametrize("backend", TESTED)
def test_segments_of_any_length_are_sorted(backend):
    rng = np.random.default_rng(0)
    first = np.cumsum([0, 0, 1, 2, 3, 31, 32, 33, 64, 255, 256, 257, 700])
    for gid in (rng.permutation(first[-1]), np.arange(first[-1]), np.arange(first[-1])[::-1].copy()):
        order = np.arange(first[-1], dtype=np.int32)
        expected = np.concatenate([a + np.argsort(gid[a:b]) for a, b in pairwise(first)])
        make(backend).sort_segments(gid + 2**40, first, order)
        np.testing.assert_array_equal(order, expected)


@pytest.mark.parametrize("backend", TESTED)
@pytest.mark.parametrize("ascending", [True, False])
def test_rows_that_repeat_are_added_in_their_order(backend, ascending):
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 90, 400)
    rows = np.sort(rows) if ascending else rows
    buffer, f = rng.normal(size=(400, 3)), rng.normal(size=(100, 3))
    expected = f.copy()
    np.add.at(expected, rows, buffer)
    make(backend).unpack_add(buffer, rows, f)
    np.testing.assert_array_equal(f, expected)


@pytest.mark.parametrize("backend", ["reference", *TESTED])
def test_philox_known_answers(backend):
    """kat_vectors of Random123 1.14: philox4x32, 10 rounds."""
    for counter, key, word in (
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
         [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ):
        out = np.empty((1, 4), np.uint32)
        make(backend).philox(np.array([counter], np.uint32), np.array(key, np.uint32), out)
        assert out[0].tolist() == word


def test_gaussian_is_normal_and_a_function_of_the_atom_alone():
    backend, n = make("cpu"), 200_000
    gid = np.arange(n, dtype=np.int64)

    def draw(seed, stream, step, gid):
        z = np.empty((len(gid), 3))
        backend.gaussian(seed, stream, step, gid, z)
        return z

    z = draw(1, 2, 3, gid)
    error = 5 / np.sqrt(3 * n)  # five standard errors of a mean of unit variance
    assert abs(z.mean()) < error
    for power, moment, variance in ((2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((z**power).mean() - moment) < error * np.sqrt(variance)
    assert abs((z[:, 0] * z[:, 1]).mean()) < 5 / np.sqrt(n)
    assert abs((z[1:] * z[:-1]).mean()) < error
    shuffled = np.random.default_rng(0).permutation(n)
    np.testing.assert_array_equal(draw(1, 2, 3, gid[shuffled]), z[shuffled])
    np.testing.assert_array_equal(draw(1, 2, 3, gid[500:900]), z[500:900])
    for other in ((1 + 2**32, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4), (1, 2, 3 + 2**32)):
        assert abs((draw(*other, gid) * z).mean()) < error
    assert abs((draw(1, 2, 3, gid + 2**32) * z).mean()) < error


@pytest.mark.parametrize("backend", ["reference", *TESTED])
def test_displacement_and_extent_keep_a_nan(backend):
    tested = make(backend)
    for row in (0, 17, 99):
        x = np.random.default_rng(1).normal(size=(100, 3))
        moved = x + 0.1
        moved[row, 1] = np.nan
        partial, low, high = np.empty(1), np.empty((1, 3)), np.empty((1, 3))
        tested.displacement(moved, x, partial)
        tested.extent(moved, low, high)
        assert np.isnan(partial[0]) and np.isnan(low[0, 1]) and np.isnan(high[0, 1])


@pytest.mark.parametrize("cpu", [
    {"NUMBA_CPU_NAME": "generic"},
    {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+popcnt"},
], ids=["plain", "avx2"])
def test_search_on_other_processors(cpu):
    """The paths of CPUs without AVX-512, in a process that compiles for one."""
    if cpu["NUMBA_CPU_NAME"] == "haswell" and "+avx2" not in get_host_cpu_features().split(","):
        pytest.skip("no AVX2 here")
    script = (
        "import numpy as np\n"
        "from rxmdnn.backend import make\n"
        "from rxmdnn.engine.neighbors import pairs\n"
        "from rxmdnn.kernels.cpu import search\n"
        f"assert not search.AVX512 and search.AVX2 == {cpu['NUMBA_CPU_NAME'] == 'haswell'}\n"
        "x = np.random.default_rng(0).random((400, 3)) * 9\n"
        "for cutoff in (0.7, 2.5, 4.0):\n"
        "    for a, b in zip(pairs(make('cpu'), x, None, cutoff), pairs(make('reference'), x, None, cutoff)):\n"
        "        np.testing.assert_array_equal(a, b)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, **cpu})
