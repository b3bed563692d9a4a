"""Model files: a written network is read back; damaged or foreign files give a message of one line."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from rxmdnn.atoms import Edges
from rxmdnn.errors import InputError
from rxmdnn.models.allegro import Allegro, AllegroConfig, AllegroNetwork
from rxmdnn.models.import_nequip import import_nequip
from rxmdnn.models.model_file import load_model, read_metadata, save_model

DATA = Path(__file__).parents[2] / "data"


def network(dtype=torch.float32):
    return AllegroNetwork(AllegroConfig(("H", "N"), ((3.0, 2.0), (2.5, 3.0)), l_max=2, n_scalar=8, n_tensor=4,
                                        embed_width=8, latent_width=8, readout_width=8, shift=(-1.0, -2.0), seed=7),
                          dtype)


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "model.rxnn", network(), {"deck": "train.in", "data": "frames.xyz"})
    return tmp_path / "model.rxnn"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trip(tmp_path, dtype):
    net = network(dtype)
    with torch.no_grad():
        net.scale.copy_(torch.tensor([0.3, 0.7]))
    save_model(tmp_path / "a", net, {"deck": "l_max 2\n"})
    again = load_model(tmp_path / "a")
    assert again.config == net.config
    assert again.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    metadata = read_metadata(tmp_path / "a")
    provenance = json.loads(metadata["provenance"])
    assert provenance["deck"] == "l_max 2\n"
    assert "date" in provenance
    assert metadata["units"] == "Angstrom eV"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def rewritten(path, change):
    """The file with its JSON head changed by ``change(head)``, without a checksum, as of earlier versions."""
    data = path.read_bytes()
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    head["__metadata__"].pop("sha256", None)
    change(head)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + n :])


def set_config(**settings):
    def change(head):
        config = json.loads(head["__metadata__"]["config"])
        head["__metadata__"]["config"] = json.dumps({**config, **settings})
    return change


FAULTS = {
    "empty": (lambda p: p.write_bytes(b""), "not an rxmdnn model file"),
    "text": (lambda p: p.write_text("allegro model of ammonia\n" * 9), "not an rxmdnn model file"),
    "endless head": (lambda p: p.write_bytes(struct.pack("<Q", 2**63) + b"{}" * 99), "not an rxmdnn model file"),
    "head is a list": (lambda p: p.write_bytes(struct.pack("<Q", 2) + b"[]"), "not an rxmdnn model"),
    "nested head": (lambda p: p.write_bytes(struct.pack("<Q", 200000) + b"[" * 200000), "header is damaged"),
    "other safetensors": (lambda p: rewritten(p, lambda h: h.pop("__metadata__")), "not an rxmdnn model"),
    "later version": (lambda p: rewritten(p, lambda h: h["__metadata__"].update(version="9")), "format version 9"),
    "no config": (lambda p: rewritten(p, lambda h: h["__metadata__"].pop("config")), "config is missing"),
    "unknown setting": (lambda p: rewritten(p, set_config(colour="red")), "colour"),
    "huge network": (lambda p: rewritten(p, set_config(n_scalar=4096, latent_width=8192)), "do not fit"),
    "thousands of elements": (lambda p: rewritten(p, set_config(elements=[str(k) for k in range(9999)])), "elements"),
    "seed of text": (lambda p: rewritten(p, set_config(seed="x")), "seed"),
    "bad setting": (lambda p: rewritten(p, set_config(l_max=77)), "l_max: 77"),
    "half as long": (lambda p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), "model.rxnn: "),
    "a byte short": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "damaged model file"),
    "other dtype": (lambda p: rewritten(p, lambda h: h["__metadata__"].update(dtype="float64")), "not torch.float64"),
    "odd dtype": (lambda p: rewritten(p, lambda h: h["__metadata__"].update(dtype="int8")), "must be float32 or"),
    "an array missing": (lambda p: rewritten(p, lambda h: h.pop("basis.weight")), "model.rxnn: "),
    "a changed weight": (lambda p: p.write_bytes(p.read_bytes()[:-4] + struct.pack("<f", 0.25)), "of its checksum"),
    "NaN": (lambda p: (rewritten(p, lambda h: None), p.write_bytes(
        p.read_bytes()[:-4] + struct.pack("<f", float("nan")))), "NaN"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(saved, fault):
    damage, message = FAULTS[fault]
    damage(saved)
    with pytest.raises(InputError) as caught:
        load_model(saved)
    assert message in str(caught.value)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_file_and_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_model(tmp_path / "absent")
    with pytest.raises(InputError, match="cannot be written"):
        save_model(tmp_path / "absent" / "model", network())


def test_import_asks_for_trust_before_it_opens_anything(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(InputError, match="--trust"):
        import_nequip(tmp_path / "a.ckpt", tmp_path / "out")
    with pytest.raises(InputError, match="no such file"):
        import_nequip(tmp_path / "b.ckpt", tmp_path / "out", trust=True)
    (tmp_path / "old").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        import_nequip(tmp_path / "a.ckpt", tmp_path / "old", trust=True)
    (tmp_path / "a.nequip.pt2").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"a\.nequip\.pt2: a compiled model .*machine code, not the weights"):
        import_nequip(tmp_path / "a.nequip.pt2", tmp_path / "out", trust=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["nequip_l1", "nequip_l2"])
def test_energies_and_forces_of_nequip_allegro(name):
    """Random weights; energies and forces as nequip-allegro computed them in float64 (tests/validation made them)."""
    golden = np.load(DATA / f"{name}.npz")
    x, species = golden["x"], golden["species"]
    d = x[None] - x[:, None]
    center, neighbor = np.nonzero(np.linalg.norm(d, axis=-1) + 9 * np.eye(len(x)) < 4.0)
    edges = Edges(center.astype(np.int32), neighbor.astype(np.int32), np.ascontiguousarray(d[center, neighbor]),
                  np.searchsorted(center, np.arange(len(x) + 1)).astype(np.int64))
    for precision, tolerance in (("float64", 1e-12), ("float32", 3e-6)):
        potential = Allegro.load(DATA / f"{name}.rxnn", ("N", "H"), precision)  # the model's order is H, N
        e_i, g_ij = potential.compute(edges, species)
        f = np.zeros_like(x)
        np.add.at(f, center, g_ij)
        np.add.at(f, neighbor, -g_ij)
        assert np.abs(e_i - golden["e"]).max() < tolerance * np.abs(golden["e"]).max()
        assert np.abs(f - golden["f"]).max() < tolerance * np.abs(golden["f"]).max()
