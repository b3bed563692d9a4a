"""TorchScript archives: arrays against state_dict(), hostile and damaged files, deployed models."""

import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rxmdnn.commands.import_model import main
from rxmdnn.errors import InputError
from rxmdnn.models import torchscript
from rxmdnn.models.allegro import Allegro
from rxmdnn.models.import_nequip import import_nequip
from rxmdnn.models.model_file import load_model
from rxmdnn.models.torchscript import is_torchscript, read_torchscript, scalar_settings
from tests.unit.models.test_allegro import forces
from tests.unit.models.test_allegro_legacy import network, periodic_edges, state_of

PUBLISHED = Path(os.environ.get("RXMDNN_TEST_DATA", ".")) / "published"
published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="set RXMDNN_TEST_DATA to a folder with the published "
                               "models in published/, which are not part of the project")


class Inner(torch.nn.Module):
    power: float

    def __init__(self, n):
        super().__init__()
        self.power, self.sizes, self.label, self.nothing = 7.0, [1, 2], "a", None
        self.pairs = {"x": [(1, 2.0)], "y": None}
        self.device = torch.device("cpu")
        self.weight = torch.nn.Parameter(torch.arange(n * 4.0).reshape(n, 4).T)  # strides (1, 4)
        self.plain = torch.ones(2)  # neither parameter nor buffer
        self.register_buffer("short", torch.tensor([0.5, 2.0], dtype=torch.float16))
        self.register_buffer("spread", torch.ones(1).expand(3))

    def forward(self, x):
        return x * self.power + self.weight.sum() + self.short.float().sum() + self.plain.sum()


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        shared = torch.linspace(0.0, 1.0, 12, dtype=torch.float64)
        self.layers = torch.nn.ModuleList([Inner(3), Inner(2), torch.nn.Linear(3, 2, dtype=torch.float64)])
        self.again = self.layers[0]
        self.register_buffer("whole", shared)
        self.register_buffer("part", shared[2:8:2])
        self.register_buffer("index", torch.tensor([[1, -2]]))
        self.register_buffer("small", torch.tensor([3, 4], dtype=torch.int32))
        self.register_buffer("flags", torch.tensor([True, False]))
        self.register_buffer("scalar", torch.tensor(2.5))
        self.register_buffer("empty", torch.zeros(0, 3))

    def forward(self, x):
        return self.layers[1](self.layers[0](x))


@pytest.fixture
def archive(tmp_path):
    """A TorchScript file with nested modules and an extra file."""
    path = tmp_path / "model"
    torch.jit.script(Outer()).save(str(path), _extra_files={"type_names": "H N"})
    return path


def rewritten(path, target, **changes):
    """A copy of an archive with some files changed, named with _pkl for .pkl and __ for /."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            for name, change in changes.items():
                if info.filename.split("/", 1)[1] == name.replace("__", "/").replace("_pkl", ".pkl"):
                    data = change(data)
            new.writestr(info.filename, data)
    return target


def test_arrays_equal_the_state_dict(archive):
    content, state = read_torchscript(archive), torch.jit.load(archive).state_dict()
    assert content.texts == {"type_names": "H N"}
    assert set(content.arrays) == set(state)
    assert "layers.0.plain" not in state and "again.weight" in state
    for name, value in state.items():
        array = content.arrays[name]
        assert array.dtype == value.numpy().dtype and array.shape == value.shape, name
        assert np.array_equal(array, value.numpy()), name
    assert not content.arrays["layers.0.weight"].flags.c_contiguous
    assert content.attributes["layers.1.power"] == 7.0
    assert content.attributes["layers.1.label"] == "a"
    assert content.attributes["layers.1.nothing"] is None
    assert is_torchscript(archive)


def test_state_dicts_and_other_files_are_not_torchscript(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.pth")
    np.savez(tmp_path / "w.npz", a=np.ones(2))
    (tmp_path / "text").write_text("x")
    assert not any(is_torchscript(tmp_path / name) for name in ("w.pth", "w.npz", "text", "absent"))


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol, message", [(2, r"refused: the file asks for \w+\.system"),
                                               (4, "refused: the pickle has the operation FRAME")])
def test_hostile_pickle_is_refused(tmp_path, archive, protocol, message):
    trace = tmp_path / "ran"
    hostile = pickle.dumps({"a": Hostile(os.system, f"touch {trace}")}, protocol)
    pickle.loads(hostile)  # it does what it says
    assert trace.exists()
    trace.unlink()
    bad = rewritten(archive, tmp_path / "bad.pth", data_pkl=lambda data: hostile)
    with pytest.raises(InputError, match=message) as caught:
        import_nequip(bad, tmp_path / "out")
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    assert not trace.exists() and not (tmp_path / "out").exists()


def inserted(code):
    """A pickle of one hand-written value."""
    return lambda data: b"\x80\x02" + code + b"."


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nDoubleStorage\nX\x01\x00\x00\x00%dX\x03\x00\x00\x00cpuK\x0ctQ"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE.replace(b"%d", b"0") + b"%s\x89}tR"
FAULTS = {
    "builtins": ("data_pkl", inserted(b"cbuiltins\neval\nX\x03\x00\x00\x001+1\x85R"), "asks for builtins.eval"),
    "torch function": ("data_pkl", inserted(b"ctorch\nload\n)R"), "asks for torch.load"),
    "dotted name": ("data_pkl", inserted(b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n)R"), "asks for"),
    "changed function": ("data_pkl", inserted(b"ctorch._utils\n_rebuild_tensor_v2\n}b"), "not a module"),
    "changed storage": ("data_pkl", inserted(STORAGE.replace(b"%d", b"0") + b"}b"), "not a module"),
    "changed class": ("data_pkl", inserted(b"c__torch__.A\nB\n}b"), "damaged TorchScript file"),
    "no module": ("data_pkl", inserted(b"]"), "does not hold a module"),
    "memo": ("data_pkl", inserted(b"]r\xff\xff\xff\x7f"), "index outside"),
    "cut pickle": ("data_pkl", lambda data: data[:-40], "damaged TorchScript file"),
    "unknown storage": ("data_pkl", inserted(b"X\x01\x00\x00\x00aQ"), "unknown kind of storage"),
    "absent storage": ("data_pkl", inserted(STORAGE.replace(b"%d", b"x")), "data/x is missing"),
    "no storage": ("data_pkl", inserted(b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00K\x02\x85K\x01\x85\x89}tR"),
                   "without a storage"),
    "short storage": ("data__0", lambda data: data[:-1], "elements need"),
    "no code": ("code____torch__", None, "is missing"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damaged_archives(tmp_path, archive, fault):
    name, change, message = FAULTS[fault]
    bad = tmp_path / "bad"
    if change:
        rewritten(archive, bad, **{name: change})
    else:
        with zipfile.ZipFile(archive) as old, zipfile.ZipFile(bad, "w") as new:
            for info in old.infolist():
                if "/code/" not in info.filename:
                    new.writestr(info.filename, old.read(info))
    with pytest.raises(InputError, match=message) as caught:
        read_torchscript(bad)
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [  # offset, size, stride
    b"K\x00K\x0d\x85K\x01\x85", b"K\x01K\x0c\x85K\x01\x85", b"K\x00K\x02K\x02\x86K\x01K\x0b\x86",
    b"K\x00J\xff\xff\xff\x7f\x85K\x00\x85", b"J\xff\xff\xff\xffK\x02\x85K\x01\x85",
    b"K\x00K\x02\x85J\xff\xff\xff\xff\x85",
    b"K\x00K\x02\x85K\x01K\x01\x86"], ids=["size", "offset", "stride", "expanded", "before", "backward", "ranks"])
def test_tensors_outside_of_their_storage(tmp_path, archive, shape):
    with zipfile.ZipFile(archive) as old:
        key = next(name for name in old.namelist() if "/data/" in name and len(old.read(name)) == 96).rpartition("/")[2]
    tensor = TENSOR.replace(b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x00" + key.encode()).replace(b"%s", shape)
    bad = rewritten(archive, tmp_path / "bad", data_pkl=inserted(tensor))
    with pytest.raises(InputError, match=r"damaged TorchScript file: (a tensor of shape|the shape|sizes and strides)"):
        read_torchscript(bad)


def test_truncated_archives(tmp_path, archive):
    data = archive.read_bytes()
    for share in (0.0, 0.3, 0.99):
        for name in ("cut.pth", "cut.deploy", "cut"):
            (tmp_path / name).write_bytes(data[: int(share * len(data))])
            with pytest.raises(InputError, match=name):
                import_nequip(tmp_path / name, tmp_path / "out")
    with pytest.raises(InputError, match="damaged TorchScript file: BadZipFile"):
        read_torchscript(tmp_path / "cut")
    flipped = bytearray(data)
    with zipfile.ZipFile(archive) as content:
        flipped[max(content.infolist(), key=lambda info: info.compress_size).header_offset + 200] ^= 255
    archive.write_bytes(flipped)
    with pytest.raises(InputError, match="damaged"):
        read_torchscript(archive)


def test_archives_that_unpack_to_much_more_than_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(torchscript, "MAX_UNPACKED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as new:
        new.writestr("m/code/a", "")
        new.writestr("m/data.pkl", bytes(1 << 21))
    with pytest.raises(InputError, match=r"data\.pkl has 2097152 bytes unpacked"):
        read_torchscript(tmp_path / "bomb")


def test_scalar_settings():
    text = ("a: true\nb: null\nc: 7\nd: 1.0e-05\ne: o3_full\nf: '7'\n_g: False\nlist:\n- 1\n- !!python/tuple\n"
            "  - x: 1\nh: !!python/name:os.system ''\ni: &id001 x\nj: [1, 2]\nk: {}\nl: *id001\nm: ~\n")
    assert scalar_settings(text) == {"a": True, "b": None, "c": 7, "d": 1e-5, "e": "o3_full", "f": "7", "_g": False,
                                     "m": None}


class Node(torch.nn.Module):
    def forward(self, x: float) -> float:
        return x


def deployed(path, net, config, **attributes):
    """A TorchScript file as nequip-deploy writes it, of a network of the older form."""
    state, _ = state_of(net)
    top = Node()
    for name, value in state.items():
        node, (*parts, last) = top, name.split(".")
        for part in parts:
            if part not in dict(node.named_children()):
                node.add_module(part, Node())
            node = node.get_submodule(part)
        node.register_buffer(last, torch.from_numpy(np.array(value)))
    for name, value in attributes.items():
        setattr(top.get_submodule("model.func.allegro"), name, value)
    torch.jit.script(top).save(str(path), _extra_files={
        "config": config, "type_names": " ".join(net.config.elements), "r_max": str(net.config.r_max)})


@pytest.mark.parametrize("name", ["m.pth", "m.deploy", "m.pt", "m.x", "m"])
def test_deployed_model_gives_back_the_network(tmp_path, name):
    net = network(parity=False, readout_silu=True, envelope_p=7.0)
    deployed(tmp_path / name, net, "PolynomialCutoff_p: 7\navg_num_neighbors: 9.0\nedge_eng_mlp_nonlinearity: silu\n"
             "parity: o3_restricted\nbetas: &id001 !!python/tuple\n- 0.9\n")
    assert import_nequip(tmp_path / name, tmp_path / "out")["elements"] == list(net.config.elements)
    again = load_model(tmp_path / "out")
    assert again.config.envelope_p == 7.0 and again.config.readout_silu and not again.config.parity
    for key, value in net.state_dict().items():
        assert torch.allclose(again.state_dict()[key], value, rtol=1e-14, atol=1e-15), key


def test_settings_of_a_deployed_model(tmp_path):
    net = network(envelope_p=8.0)
    deployed(tmp_path / "m", net, "edge_eng_mlp_nonlinearity: null\nPolynomialCutoff_p: 7\n", polynomial_cutoff_p=8.0)
    import_nequip(tmp_path / "m", tmp_path / "attribute")
    assert load_model(tmp_path / "attribute").config.envelope_p == 8.0  # the module goes before the training's settings
    main([str(tmp_path / "m"), str(tmp_path / "option"), "--cutoff-p", "5"])
    assert load_model(tmp_path / "option").config.envelope_p == 5.0
    deployed(tmp_path / "m", net, "edge_eng_mlp_nonlinearity: null\n")
    with pytest.raises(InputError, match="--cutoff-p"):
        import_nequip(tmp_path / "m", tmp_path / "out")
    deployed(tmp_path / "m", net, "PolynomialCutoff_p: 7\n", cutoff_type="cosine")
    with pytest.raises(InputError) as caught:
        import_nequip(tmp_path / "m", tmp_path / "out")
    assert len(caught.value.faults) == 2 and "'cosine'" in str(caught.value) and "--readout" in str(caught.value)


def test_other_models_are_refused(tmp_path, archive):
    with pytest.raises(InputError, match="not an Allegro model; run its code"):
        import_nequip(archive, tmp_path / "out")


def by_torchscript(path, x, cell, species, edges):
    """Energies per atom and forces of the TorchScript model itself, in float64."""
    shifts = np.rint((edges.r_ij - x[edges.neighbor] + x[edges.center]) @ np.linalg.inv(cell))
    model = torch.jit.load(path, map_location="cpu").double()
    with torch.jit.optimized_execution(False):
        out = model({"pos": torch.tensor(x), "cell": torch.tensor(cell), "edge_cell_shift": torch.tensor(shifts),
                     "edge_index": torch.tensor(np.stack([edges.center, edges.neighbor]), dtype=torch.long),
                     "atom_types": torch.tensor(species, dtype=torch.long)})
    return out["atomic_energy"].detach().numpy()[:, 0], out["forces"].detach().numpy()


# The references are float32. The model of YMnO3, evaluated in float32 at coordinates shifted by 3.3 Å, differs from its
# own reference by 1.2e-5 eV and 2.4e-4 eV/Å; in float64 it equals the imported model much more closely.
@published
@pytest.mark.parametrize("file, reference, elements, numbers, energy", [
    ("ymno3.deploy", "ymno3_1920.npz", ("Y", "Mn", "O"), (39, 25, 8), 2e-5),
    ("psto.pth", "psto_135.npz", ("Pb", "Sr", "Ti", "O"), (82, 38, 22, 8), 1e-5)])
def test_published_deployed_models(tmp_path, file, reference, elements, numbers, energy):
    state = torch.jit.load(PUBLISHED / file, map_location="cpu").state_dict()
    content = read_torchscript(PUBLISHED / file)
    assert set(content.arrays) == set(state)
    assert all(np.array_equal(value.numpy(), content.arrays[name]) for name, value in state.items())
    main([str(PUBLISHED / file), str(tmp_path / "model")])
    golden = np.load(PUBLISHED / reference)
    species = np.array([numbers.index(z) for z in golden["numbers"]], np.int32)
    edges = periodic_edges(golden["positions"], golden["cell"], float(content.texts["r_max"]))
    judge = by_torchscript(PUBLISHED / file, golden["positions"], golden["cell"], species, edges)
    for precision, exact in (("float32", 5e-6), ("float64", 2e-6)):
        e_i, g_ij = Allegro.load(tmp_path / "model", elements, precision).compute(edges, species)
        f_i = forces(edges, g_ij)
        assert np.abs(e_i - golden["energies"]).max() < energy
        assert np.abs(f_i - golden["forces"]).max() < 5e-4
        assert np.abs(e_i - judge[0]).max() < exact
        assert np.abs(f_i - judge[1]).max() < 5 * exact
