"""Files made to run code or to read other files, and servers that send what no i-PI server sends: one message each."""

import io
import json
import os
import pickle
import shutil
import socket
import struct
import threading
import zipfile

import h5py
import numpy as np
import pytest
import torch
from mpi4py import MPI

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError, printable
from rxmdnn.hdf5 import opened
from rxmdnn.io.checkpoint import read_checkpoint
from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.models import import_legacy
from rxmdnn.models.model_file import load_model
from rxmdnn.npz import read_npz
from rxmdnn.run.ipi import HEADER, Line
from rxmdnn.schema import Item, parse_json, read_json
from rxmdnn.training.resume import load_checkpoint
from tests.fuzz.targets import go_on, models_of_targets, run_of_targets


class Planted:
    """A pickle of it makes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.fixture
def trap(tmp_path):
    """A path that exists only after planted code has run; checked at the end of each test."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists(), "code in a file of data was run"


def planted(path, trap, kind):
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Planted(trap), protocol=2))
    elif kind == "torch":
        torch.save({"weight": Planted(trap)}, path)
    elif kind == "old torch":
        torch.save({"weight": Planted(trap)}, path, _use_new_zipfile_serialization=False)
    else:
        array = np.array([None], object)
        array[0] = Planted(trap)
        np.savez(path.with_suffix(".npz"), weight=array)
        path.with_suffix(".npz").rename(path)


READERS = {"model": load_model, "weights": import_legacy.read_arrays, "npz": lambda p: read_npz(p, "arrays"),
           "training": load_checkpoint, "atoms": read_atoms,
           "checkpoint": lambda p: read_checkpoint(MPI.COMM_SELF, p)}


@pytest.mark.parametrize("kind", ["pickle", "torch", "old torch", "npz"])
@pytest.mark.parametrize("reader", READERS)
def test_no_file_of_data_runs_code(tmp_path, trap, reader, kind):
    path = tmp_path / ("w.npz" if kind == "npz" else "w.pth")
    planted(path, trap, kind)
    with pytest.raises(InputError):
        READERS[reader](path)
    assert import_legacy.saved_arrays(path) is None


def test_code_in_a_deployed_model_is_not_run(tmp_path, trap):
    class Runs(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("ran")

    torch.jit.script(Runs()).save(str(tmp_path / "m.pth"))
    with zipfile.ZipFile(tmp_path / "m.pth") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(n for n in members if n.endswith("data.pkl"))
    members[name] = pickle.dumps(Planted(trap), protocol=2)
    with zipfile.ZipFile(tmp_path / "m.pth", "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    with pytest.raises(InputError):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize(("make", "said"), [
    (lambda f, other: f.__setitem__("x", h5py.ExternalLink(str(other), "x")), "is a link, which is not followed"),
    (lambda f, other: f.__setitem__("x", h5py.SoftLink("/x")), "is a link, which is not followed"),
    (lambda f, other: f.create_dataset("x", (4,), "u1", external=[(str(other), 0, 4)]), "stored in another file"),
    (lambda f, other: f.create_virtual_dataset("x", layout_of(other)), "stored in another file"),
    (lambda f, other: f.create_dataset("x", (10**10,), "f8", chunks=(1024,)), "declares 80000000000 bytes"),
    (lambda f, other: f.create_dataset("x", (10**12,), "f8", chunks=(1024,), compression="gzip"), "declares 80000000"),
    (lambda f, other: with_filter(f), "needs the filter 305"),
    (lambda f, other: f.create_dataset("x", data=np.array([("a", 1)], [("s", "S1"), ("n", "i4")])), "is not read"),
])
def test_hdf5_stays_in_its_file(tmp_path, make, said):
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.arange(4, dtype="u1")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        make(file, tmp_path / "other.h5")
    with pytest.raises(InputError, match=rf"a\.h5: x: .*{said}"), opened(tmp_path / "a.h5", "a test") as file:
        file.dataset("x")


def layout_of(other):
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(other), "x", (4,))
    return layout


def with_filter(file):
    """A dataset whose filter, 305 (LZO), HDF5 would load from a plugin; optional, so that it can be made here."""
    make = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    make.set_chunk((4,))
    make.set_filter(305, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(file.id, b"x", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((4,)), make)


def test_archives_promise_no_more_than_they_hold(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)})
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(800))
    with pytest.raises(InputError, match=r"x\.npy: 800 bytes for the shape \(1000000000000,\)"):
        read_npz(tmp_path / "w.npz", "arrays")
    np.savez(tmp_path / "good.npz", a=np.arange(6.0).reshape(2, 3).T, b=np.int64(3))
    read = read_npz(tmp_path / "good.npz", "arrays")
    assert np.array_equal(read["a"], np.arange(6.0).reshape(2, 3).T) and read["b"] == 3


def test_json_of_bounded_depth(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(InputError, match="nested deeper than 64 levels"):
        read_json(tmp_path / "deep.json", "a report")
    text = json.dumps({"a": "[" * 100, "b": '\\"[[[' * 50})  # brackets in text are no levels
    assert parse_json(text, "x", "a report") == json.loads(text)


def test_control_characters_are_spelled_out():
    assert str(InputError("a\x1b[2Jb\x07\x7f\u202ec\n d\udc80")) == "a\\x1b[2Jb\\x07\\x7f\\u202ec\n d\\udc80"
    assert printable("Å 1e-3 µs\n") == "Å 1e-3 µs\n"


def test_kinds_of_entries():
    from rxmdnn.schema import Checked

    checked = Checked("f", "move it away")
    assert checked.value("n", 3, Item("int")) == 3 and checked.value("x", [1, 2.5], Item("float", ("n",))).shape == (2,)
    for value, item, said in ((True, Item("float"), "must be a number"), ("3", Item("int"), "must be an integer"),
                              (2.5, Item("int"), "must be an integer"), (2**70, Item("int"), "must be an integer"),
                              ([1, 2, 3], Item("float", ("n",)), r"shape \(3\), not \(2\)"),
                              ([[1], [2, 3]], Item("float", (2, 2)), "rows of one length"),
                              (float("nan"), Item("float"), "NaN or infinite"),
                              (-1, Item("int", low=0), "-1 is below 0"),
                              (None, Item("float"), "must be a number"), (b"\xff", Item("text"), "not UTF-8")):
        with pytest.raises(InputError, match=rf"f: e: .*{said}.*; move it away"):
            checked.value("e", value, item)


# ---------------------------------------------------------------------- i-PI
def word(text):
    return text.ljust(HEADER).encode()


NUMBERS = struct.pack("<18d", *np.eye(3).ravel() * 20, *np.eye(3).ravel() / 20)
MESSAGES = {
    "absurd length": (word("INIT") + struct.pack("<ii", 0, 2**31 - 1), "a text of 2147483647 bytes"),
    "negative length": (word("INIT") + struct.pack("<ii", 0, -5), "a text of -5 bytes"),
    "absurd number of atoms": (word("POSDATA") + NUMBERS + struct.pack("<i", 2**31 - 1), "the server has 2147483647"),
    "NaN": (word("POSDATA") + NUMBERS + struct.pack("<i3d", 1, 0.0, float("nan"), 0.0), "NaN or infinite"),
    "far away": (word("POSDATA") + NUMBERS + struct.pack("<i3d", 1, 0.0, 1e12, 0.0), "beyond 1e\\+08"),
    "no cell": (word("POSDATA") + struct.pack("<18d", *[0.0] * 18) + struct.pack("<i3d", 1, 0.0, 0.0, 0.0), "cell"),
    "wrong order": (word("GETFORCE"), "unexpected message 'GETFORCE'"),
    "control characters": (b"\x1b[2J\x07".ljust(HEADER), r"unexpected message '\\x1b\[2J\\x07'"),
    "closed in a message": (word("POSDATA") + NUMBERS[:50], "went away in the middle"),
    "closed in a word": (b"POS", "went away in the middle"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_odd_messages_of_a_server(tmp_path, name):
    data, said = MESSAGES[name]
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "s"))
    server.listen()

    def serve():
        client, _ = server.accept()
        client.sendall(data)
        client.close()

    thread = threading.Thread(target=serve)
    thread.start()
    line = Line(str(tmp_path / "s"), None, None, 5.0)
    with pytest.raises(InputError, match=said):
        line.request(None, 1, Cell(np.eye(3)).pbc)
    line.socket.close()
    thread.join()
    server.close()


LINKED = ("run.log", "energies.csv", "trajectory.h5md", "trajectory.xyz", "checkpoint.h5", "checkpoint.prev.h5",
          "rxff.bin", "rxff.bin.json", "stages.jsonl", "observe.h5", "000000004.xyz", "checkpoint.h5.part",
          "trajectory.h5md.part", "rxff.bin.part", ".rxmdnn.lock")


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with a run of 8 steps."""
    place = tmp_path_factory.mktemp("begun")
    run_of_targets(place)
    return place


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("name", LINKED)
def test_links_planted_in_the_output_folder_are_not_written_through(begun, tmp_path, name, goes_on):
    """The file that a link leads to stays what it is; the run goes on, or is refused by one message."""
    shutil.copytree(begun, tmp_path / "run")
    out, elsewhere = tmp_path / "run" / "DAT", tmp_path / "elsewhere"
    if not goes_on:
        shutil.rmtree(out)
    out.mkdir(exist_ok=True)
    before = (out / name).read_bytes() if (out / name).exists() else b"of somebody else"
    elsewhere.write_bytes(before)
    (out / name).unlink(missing_ok=True)
    (out / name).symlink_to(elsewhere)
    refused = ""
    try:
        go_on(tmp_path / "run")
    except InputError as error:
        refused = str(error)
    assert elsewhere.read_bytes() == before
    assert not refused or "symbolic link" in refused or "not a complete checkpoint" in refused or "not an rx" in refused


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_of_a_run_and_of_a_model_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        run_of_targets(tmp_path)
        models_of_targets(tmp_path)
    finally:
        os.umask(before)
    wrong = {p.name: oct(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()
             and p.stat().st_mode & 0o777 != 0o666 & ~mask}
    assert not wrong
