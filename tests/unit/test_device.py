"""The backend of a GPU, also without a GPU: arrays separate from NumPy, the network, messages of one line."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.atoms import Edges
from rxmdnn.commands import run as run_command
from rxmdnn.deck.run import read_run
from rxmdnn.device import Device, shortage
from rxmdnn.engine.neighbors import pairs
from rxmdnn.errors import InputError
from rxmdnn.models import allegro as allegro_module
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.allegro_evaluation import BlockEvaluation
from rxmdnn.models.interface import Potential
from rxmdnn.models.repulsion import Repulsion
from rxmdnn.parallel import run_to_exit_code
from rxmdnn.run import device as run_device
from rxmdnn.run import job, trial
from tests import device
from tests.device import DEVICES, XP, Array
from tests.runs import MODELS, write_start
from tests.systems import TRICLINIC, argon
from tests.unit.models import test_allegro, test_allegro_legacy
from tests.unit.models.test_allegro import ELEMENTS, by_autograd, cluster, edges_of

MIXED = {
    "an operation": lambda a: a + np.ones(3), "the other way round": lambda a: np.ones(3) * a, "a ufunc": np.sqrt,
    "a function": lambda a: np.concatenate([a, a]), "an index of the host": lambda a: a[np.arange(2)],
    "as an index": lambda a: np.arange(9.0)[a], "an assignment": lambda a: a.__setitem__(0, np.ones(1)),
    "into the host": lambda a: np.ones(3).__setitem__(slice(None), a), "np.asarray": np.asarray,
    "in place": lambda a: np.ones(3).__iadd__(a), "a message": lambda a: MPI.COMM_SELF.Isend(a, 0),
    "where": lambda a: XP.where(np.ones(3, bool), a, 0.0), "its elements": list,
}


@pytest.mark.parametrize("how", MIXED)
def test_arrays_of_the_device_and_of_the_host_do_not_mix(how):
    device.make()
    with pytest.raises((TypeError, IndexError)):
        MIXED[how](XP.zeros(3))


def test_numbers_of_the_host_do_mix():
    a = XP.zeros(3)
    a += np.float64(2.0)
    for b in (a * np.float64(3.0), np.float64(3.0) * a, 3.0 * a):
        assert isinstance(b, Array) and b.get().tolist() == [6.0] * 3
    assert float(a.sum()) == 6.0 and isinstance(a.sum(), Array)


@DEVICES
def test_pairs_are_those_of_the_cpu(name):
    there, x = device.find(name), np.random.default_rng(0).random((60, 3)) * 9
    for cell in (TRICLINIC, None):
        for a, b in zip(pairs(backends.make("cpu"), x, cell, 4.0), pairs(there, x, cell, 4.0), strict=True):
            np.testing.assert_array_equal(a, b)


def test_coordinates_that_are_no_numbers_are_told_by_row():
    x = np.zeros((4, 3))
    x[2, 1] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinite coordinates of 1 atom\(s\), the first in row 2: \[ 0"):
        pairs(device.make(), x, None, 1.0)


# ------------------------------------------------------------------ the network
def answer(potential: Potential, backend: Device, edges: Edges, species: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies and gradients computed on the device, as arrays of the host."""
    arrays = (edges.center, edges.neighbor, edges.r_ij, edges.first)
    e_i, g_ij = potential.compute(Edges(*map(backend.from_host, arrays)), backend.from_host(species))
    return backend.to_host(e_i), backend.to_host(g_ij)


@DEVICES
@pytest.mark.parametrize("settings", [*test_allegro.VARIANTS, {"embed_width": 8}], ids=str)
def test_allegro_on_a_device_equals_autograd(name, settings):
    agrees(device.find(name), test_allegro.network(**settings))


@DEVICES
@pytest.mark.parametrize("settings", test_allegro_legacy.VARIANTS, ids=str)
def test_the_older_form_on_a_device_equals_autograd(name, settings):
    agrees(device.find(name), test_allegro_legacy.network(**settings))


def agrees(there, net):
    x, species = cluster()
    edges = edges_of(x)
    expected = by_autograd(net, edges, species)
    for block_edges in (60, 10**6):
        potential = Allegro(net, ELEMENTS, "float64", block_edges=block_edges, backend=there)
        for a, b in zip(expected, answer(potential, there, edges, species), strict=True):
            assert np.abs(b - a).max() < 1e-12 * np.abs(a).max()


@pytest.mark.parametrize("n_tensor", [4, 40])  # some lanes of a warp are idle, or have two channels
@pytest.mark.parametrize("form", [test_allegro, test_allegro_legacy])
def test_the_network_by_warps_equals_autograd(form, n_tensor):
    agrees(device.make(plain=False), form.network(l_max=2, n_tensor=n_tensor))


@DEVICES
@pytest.mark.parametrize("form", [test_allegro, test_allegro_legacy])
def test_float32_on_the_device_is_that_of_the_cpu(name, form):
    there, net = device.find(name), form.network(l_max=2)
    x, species = cluster()
    edges = edges_of(x)
    here, far = Allegro(net, ELEMENTS), Allegro(net, ELEMENTS, backend=there)
    here.watched = far.watched = True
    e_i, g_ij = here.compute(edges, species)
    e_there, g_there = answer(far, there, edges, species)
    assert np.abs(e_there - e_i).max() < 2e-6 * np.abs(e_i).max()
    assert np.abs(g_there - g_ij).max() < 1e-5 * np.abs(g_ij).max()
    assert np.abs(far.features() - here.features()).max() < 1e-5 * np.abs(here.latent).max()
    assert answer(far, there, edges, species)[1].tobytes() == g_there.tobytes()


@DEVICES
def test_atoms_without_edges_and_no_atoms(name):
    there = device.find(name)
    potential = Allegro(test_allegro.network(), ELEMENTS, "float64", backend=there)
    for n in (3, 0):
        nothing = Edges(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 3)), np.zeros(n + 1, np.int64))
        e_i, g_ij = answer(potential, there, nothing, np.arange(n, dtype=np.int32))
        assert e_i.tolist() == [-1.0, -3.0, 4.0][:n] and g_ij.shape == (0, 3)


def test_blocks_shrink_until_the_device_holds_them(monkeypatch):
    net = test_allegro.network()
    x, species = cluster(40)
    edges = edges_of(x)
    expected = by_autograd(net, edges, species)[1]
    allocate, tried, most = BlockEvaluation.allocate, [], 100

    def small(self, rows, centers):
        tried.append(rows)
        if rows > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        allocate(self, rows, centers)

    monkeypatch.setattr(BlockEvaluation, "allocate", small)
    monkeypatch.setattr(allegro_module, "DEVICE_ROUND", 4)
    monkeypatch.setattr(allegro_module, "LEAST_BLOCK_EDGES", 64)
    there = device.make()
    potential = Allegro(net, ELEMENTS, "float64", block_edges=1024, backend=there)
    assert len(edges.center) > 2 * most
    g_ij = answer(potential, there, edges, species)[1]
    assert np.abs(g_ij - expected).max() < 1e-12 * np.abs(expected).max()
    assert potential.block_edges < 1024 and max(tried) > most
    n, most = len(tried), 20
    potential = Allegro(net, ELEMENTS, "float64", block_edges=1024, backend=there)
    with pytest.raises(InputError, match=r"4 GiB, too little for 40 atoms per rank \(CUDA out of memory.*; about \d+ "):
        answer(potential, there, edges, species)
    assert len(tried) > n


@DEVICES
def test_the_repulsion_is_that_of_the_cpu(name):
    there, (x, species) = device.find(name), cluster(40)
    edges = edges_of(0.4 * x, 1.2)
    e_i, g_ij = Repulsion(ELEMENTS).compute(edges, species)
    e_there, g_there = answer(Repulsion(ELEMENTS, backend=there), there, edges, species)
    assert np.abs(e_i).max() > 1.0 and (g_ij == 0).all(axis=1).any()
    np.testing.assert_allclose(e_there, e_i, rtol=1e-13, atol=1e-13 * np.abs(e_i).max())
    np.testing.assert_allclose(g_there, g_ij, rtol=1e-12, atol=1e-13 * np.abs(g_ij).max())


# ------------------------------------------------------------------ mistakes of a user
class Runtime:
    def __init__(self, devices=1, error=None):
        self.devices, self.error = devices, error

    def getDeviceCount(self):  # noqa: N802 - CuPy's name
        if self.error:
            raise self.error
        return self.devices

    def getDeviceProperties(self, number):  # noqa: N802
        return {"name": b"A card"}


def pretend(monkeypatch, runtime, capability="90"):
    """A substitute for CuPy with a given runtime."""
    cupy = ModuleType("cupy")

    class Device:
        compute_capability = capability

        def __init__(self, number=0):
            self.id = number

        def use(self):
            runtime.used = self.id

    compiler = SimpleNamespace(CompileException=type("CompileException", (Exception,), {}))
    stream = SimpleNamespace(synchronize=lambda: None, ptr=1)
    stream.use = lambda: stream
    cupy.cuda = SimpleNamespace(runtime=runtime, Device=Device, compiler=compiler, Stream=lambda: stream)
    cupy.RawModule = lambda code, options: SimpleNamespace(get_function=lambda name: None)
    cupy.zeros = np.zeros
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", ModuleType("cupyx"))
    return cupy


def test_a_missing_cupy_an_old_driver_and_an_old_device_get_one_line(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cupy", None)
        with pytest.raises(InputError, match=r"^backend cuda: CuPy cannot be imported .*install cupy-cuda13x"):
            backends.make("cuda")
    old = RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient\nmore")
    for runtime, capability, text in (
            (Runtime(error=old), "90", r"no device that CuPy can use \(cudaErrorInsufficientDriver: [^\n]*\); say"),
            (Runtime(), "61", r"compute capability 6\.1, less than 7\.0; say backend cpu")):
        with monkeypatch.context() as patch:
            pretend(patch, runtime, capability)
            with pytest.raises(InputError, match=f"^backend cuda: .*{text}"):
                backends.make("cuda")


def test_ranks_take_the_devices_of_their_machine_in_turn(monkeypatch):
    for local_rank, ranks, used, note in ((1, 2, 1, False), (3, 4, 1, True)):
        runtime = Runtime(devices=2)
        pretend(monkeypatch, runtime)
        made = backends.make("cuda", local_rank, ranks)
        assert runtime.used == used and made.torch_device.startswith("cuda:")
        assert made.notes[0].startswith("backend cuda: A card; ") and len(made.notes) == 1 + note
    assert "4 ranks of this machine share 2 device(s)" in made.notes[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch can use a GPU")
def test_a_torch_without_cuda_gets_one_line(monkeypatch):
    pretend(monkeypatch, Runtime())
    with pytest.raises(InputError, match=r"^backend cuda: torch .* cannot use the GPU, which a network needs; install"):
        Allegro(test_allegro.network(), ELEMENTS, backend=backends.make("cuda"))


def test_the_script_of_the_first_day_with_a_gpu_can_be_read_by_its_shell():
    script = Path(__file__).parents[2] / "tools/gpu_day.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_a_run_that_finds_no_device_ends_with_code_2(tmp_path, monkeypatch, capsys):
    write_start(tmp_path)
    (tmp_path / "rxmdnn.in").write_text(MODELS)
    (tmp_path / "rxmd.in").write_text("time 1.0 2\nstructure start.xyz\nbackend cuda\n")
    monkeypatch.setitem(sys.modules, "cupy", None)
    words = ["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out")]
    assert run_to_exit_code(MPI.COMM_SELF, lambda: run_command.main(words, MPI.COMM_SELF)) == 2
    said = capsys.readouterr().err
    assert said.startswith("rxmdnn: backend cuda: CuPy cannot be imported") and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("case, kernels, note", [
    ("good", "cuda-host", r"backend auto: cuda; a short trial agrees with the CPU to 1 part in 10\^1"),
    ("wrong assemble", "cpu", "a short trial of the GPU differs from the CPU by .* of the largest value"),
    ("wrong gaussian", "cpu", "a short trial of the GPU differs from the CPU by .* of the largest value"),
    ("wrong kick", "cpu", "a short trial of the GPU differs from the CPU by .* of the largest value"),
    ("broken", "cpu", "backend auto: cpu; an illegal memory access was encountered"),
    ("none", "cpu", "backend auto: cpu; backend cuda: no device that CuPy can use"),
    ("no CuPy", "cpu", None)])
def test_auto_takes_a_device_that_passes_its_trial(tmp_path, monkeypatch, case, kernels, note):
    write_start(tmp_path)
    (tmp_path / "rxmdnn.in").write_text(MODELS)
    (tmp_path / "rxmd.in").write_text("time 1.0 2\nstructure start.xyz\n")
    there = device.make()

    which = case.split()[1] if "wrong" in case else "assemble"
    kernel = there._kernels[which]

    def changed(*arguments):
        if case == "broken":
            raise RuntimeError("an illegal memory access was encountered\nmore")
        kernel(*arguments)
        if "wrong" in case:
            arguments[-1][:2] *= 1.5
    there._kernels[which] = changed

    def make(name, *_):
        if name == "cuda" and case == "none":
            raise InputError("backend cuda: no device that CuPy can use (no driver); say backend cpu")
        return there if name == "cuda" else backends.load("cpu")

    monkeypatch.setattr(run_device.backends, "make", make)
    monkeypatch.setattr(trial, "find_spec", lambda name: None if case == "no CuPy" else True)
    words = ["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out")]
    assert run_command.main(words, MPI.COMM_SELF) == 0
    log = (tmp_path / "out/run.log").read_text()
    assert f"kernels      : {kernels}," in log
    assert re.search(note, log) if note else "backend auto" not in log


def test_memory_that_runs_out_in_a_run_ends_with_code_2(tmp_path, monkeypatch, capsys):
    write_start(tmp_path)
    (tmp_path / "rxmdnn.in").write_text(MODELS)
    (tmp_path / "rxmd.in").write_text("time 1.0 2\nstructure start.xyz\nbackend cuda\n")
    full = type("OutOfMemoryError", (MemoryError,), {"_size": 2 << 30})("Out of memory allocating 2,147,483,648 bytes")

    def fail(self, edges, species):
        raise full

    monkeypatch.setattr(job, "make_backend", lambda comm, run: device.make())
    monkeypatch.setattr(type(argon()), "compute", fail)
    words = ["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out")]
    assert run_to_exit_code(MPI.COMM_SELF, lambda: run_command.main(words, MPI.COMM_SELF)) == 2
    said = capsys.readouterr().err
    assert said.startswith("rxmdnn: backend cuda: the device has 4 GiB, too little for 40 atoms per rank (Out of")
    assert "about 36 would fit" in said and said.count("\n") == 1
    assert shortage(device.make(), ValueError("no"), 40) is None


@pytest.mark.parametrize("lines, said", [
    ("pimd 4\nensemble svr 0.1\nbackend cuda\ngraphs T", r"rxmd\.in:\d+: graphs: 'pimd' moves several beads"),
    ("fidelity flag\nbackend cuda\ngraphs T", r"rxmd\.in:\d+: graphs: 'fidelity' reads the results of each step"),
    ("backend cpu\nprecision tf32", r"rxmd\.in:\d+: precision: needs 'backend cuda'"),
    ("mpi cuda-aware", r"rxmd\.in:\d+: mpi: needs 'backend cuda'"),
    ("graphs T", r"rxmd\.in:\d+: graphs: needs 'backend cuda'"),
    ("backend cuda\ngraphs T\nverbose T", r"rxmd\.in:\d+: graphs: 'verbose' synchronizes after each part"),
    ("backend cuda\ngraphs T\nensemble svr 0.1\nbarostat scr 0.1 0.5", r"rxmd\.in:\d+: graphs: 'barostat' changes"),
])
def test_what_a_gpu_does_not_do_is_said_before_the_run(tmp_path, lines, said):
    write_start(tmp_path)
    (tmp_path / "rxmdnn.in").write_text(MODELS)
    (tmp_path / "rxmd.in").write_text(f"time 1.0 2\nstructure start.xyz\n{lines}\n")
    with pytest.raises(InputError, match=said):
        read_run(["--rxmdin", str(tmp_path / "rxmd.in"), "--outDir", str(tmp_path / "out")], 1)


def test_tf32_is_refused_on_a_cpu():
    with pytest.raises(InputError, match="precision tf32 needs a GPU; use float32, or backend cuda"):
        Allegro(test_allegro.network(), ELEMENTS, "tf32")
