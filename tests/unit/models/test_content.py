"""The kind of a model file is told by its content; files that hold code are refused unread; native copies."""

import json
import os
import pickle
import shlex
import zipfile

import numpy as np
import pytest
import torch

from rxmdnn.commands.import_model import main
from rxmdnn.errors import InputError
from rxmdnn.models import content
from rxmdnn.models.content import import_command, kind_of
from rxmdnn.models.model_file import load_model, native_metadata, read_metadata, save_model
from rxmdnn.models.native_copy import native_copy
from tests.unit.models.test_allegro_legacy import network, state_of
from tests.unit.models.test_torchscript import Hostile, deployed, rewritten

CONFIG = "PolynomialCutoff_p: 6\nedge_eng_mlp_nonlinearity: null\n"


def zipped(path, *names):
    with zipfile.ZipFile(path, "w") as new:
        for name in names:
            new.writestr(name, b"x")


WRITERS = {
    content.DEPLOYED: lambda p: deployed(p, network(), CONFIG),
    content.CHECKPOINT: lambda p: torch.save({"state_dict": {"a": torch.ones(2)}}, p),
    content.PACKAGE: lambda p: zipped(p, "m/.data/version", "m/.data/extern_modules", "m/model/model.pkl"),
    content.COMPILED: lambda p: zipped(p, "m/version", "m/data/aotinductor/model/a.so"),
    content.ARRAYS: lambda p: np.savez(open(p, "wb"), a=np.ones(2)),  # noqa: SIM115
    content.OTHER: lambda p: p.write_text("PK is not a zip archive, nor is this a model"),
}


@pytest.mark.parametrize("name", ["m.safetensors", "m.pth", "m.ckpt", "m"])
@pytest.mark.parametrize("kind", WRITERS)
def test_kind_is_told_by_the_content(tmp_path, kind, name):
    path = tmp_path / name
    WRITERS[kind](path)
    assert kind_of(path) == kind
    if kind == content.DEPLOYED:
        assert load_model(path).config.elements == network().config.elements
        return
    with pytest.raises(InputError) as caught:
        load_model(path)
    (message,) = caught.value.faults
    assert message.startswith(f"{path}: ") and "\n" not in message
    if kind in (content.CHECKPOINT, content.PACKAGE):
        assert message.endswith(import_command(path, "--trust")) and "--trust" in message
    if kind == content.ARRAYS:
        assert import_command(path) in message


def test_old_pickles_and_absent_files(tmp_path):
    torch.save({"a": 1}, tmp_path / "old", _use_new_zipfile_serialization=False)
    assert kind_of(tmp_path / "old") == content.CHECKPOINT
    assert kind_of(tmp_path / "absent") == kind_of(tmp_path) == content.OTHER
    with pytest.raises(InputError, match="absent: cannot be read: No such file"):
        load_model(tmp_path / "absent")


@pytest.mark.parametrize("name", ["model.nequip.zip", "model.ckpt", "two words.ckpt"])
def test_the_command_in_a_message_converts(tmp_path, name):
    words = shlex.split(import_command(tmp_path / name, "--trust"))
    assert words[:2] == ["rxmdnn", "import-model"] and words[2] == str(tmp_path / name) and words[4] == "--trust"
    assert words[3] == str(tmp_path / f"{name.split('.')[0]}.safetensors")


def test_planted_code_is_not_run(tmp_path):
    trace = tmp_path / "ran"
    hostile = Hostile(os.system, f"touch {shlex.quote(str(trace))}")
    torch.save({"state_dict": hostile}, tmp_path / "a.ckpt")
    torch.save(hostile, tmp_path / "b.pth", _use_new_zipfile_serialization=False)
    WRITERS[content.DEPLOYED](tmp_path / "good")
    rewritten(tmp_path / "good", tmp_path / "c.deploy", data_pkl=lambda data: pickle.dumps(hostile, 2))
    for name in ("a.ckpt", "b.pth", "c.deploy"):
        with pytest.raises(InputError, match=rf"{name}: (refused|a checkpoint)"):
            load_model(tmp_path / name)
    assert not trace.exists()
    torch.load(tmp_path / "a.ckpt", weights_only=False)  # it does what it says
    assert trace.exists()


def test_deployed_model_equals_its_native_file(tmp_path):
    WRITERS[content.DEPLOYED](tmp_path / "m.pth")
    main([str(tmp_path / "m.pth"), str(tmp_path / "m.safetensors")])
    direct, converted = load_model(tmp_path / "m.pth"), load_model(tmp_path / "m.safetensors")
    assert direct.config == converted.config
    assert all(torch.equal(a, b) for a, b in zip(direct.state_dict().values(), converted.state_dict().values()))
    assert "m.pth" in read_metadata(tmp_path / "m.pth")["provenance"]
    with pytest.raises(InputError, match=r"nothing can be added; convert it once: rxmdnn import-model"):
        native_metadata(tmp_path / "m.pth")


def test_missing_setting_of_a_deployed_model(tmp_path):
    deployed(tmp_path / "m", network(), "edge_eng_mlp_nonlinearity: null\n")
    with pytest.raises(InputError, match=r"--cutoff-p.*convert it once with this option: rxmdnn import-model"):
        load_model(tmp_path / "m")


def test_native_copy_is_made_once(tmp_path):
    model, folder = tmp_path / "m.deploy", tmp_path / "DAT"
    WRITERS[content.DEPLOYED](model)
    copy, note = native_copy(model, folder)
    assert copy.parent == folder and "converted to" in note
    made = copy.stat().st_mtime_ns
    assert load_model(copy).config == load_model(model).config
    again, note = native_copy(model, folder)
    assert again == copy and "is used" in note and copy.stat().st_mtime_ns == made
    save_model(copy, network())  # another model under this name
    assert "converted to" in native_copy(model, folder)[1]
    copy.write_bytes(copy.read_bytes()[:-9])
    assert "converted to" in native_copy(model, folder)[1] and load_model(copy)
    deployed(model, network(envelope_p=8.0), CONFIG.replace("6", "8"))
    other, _ = native_copy(model, folder)
    assert other != copy and load_model(other).config.envelope_p == 8.0
    assert sorted(p.name for p in folder.iterdir()) == sorted([copy.name, other.name])
    assert native_copy(copy, folder) is None
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        native_copy(model, tmp_path / "file")


@pytest.mark.parametrize("name", ["w.npz", "w.pth", "w", "w.ckpt"])
@pytest.mark.parametrize("by_torch", [True, False])
def test_named_arrays_are_imported_whatever_their_suffix(tmp_path, name, by_torch):
    net = network()
    state, settings = state_of(net)
    if by_torch:
        torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, tmp_path / name)
    else:
        with open(tmp_path / name, "wb") as file:
            np.savez(file, **state)
    (tmp_path / "w.json").write_text(json.dumps(settings))
    main([str(tmp_path / name), str(tmp_path / "out"), "--config", str(tmp_path / "w.json")])
    again = load_model(tmp_path / "out")
    assert all(torch.allclose(again.state_dict()[key], value, rtol=1e-14, atol=1e-15)
               for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", ["a.ckpt", "a.pth", "a"])
def test_checkpoints_need_trust(tmp_path, name):
    trace = tmp_path / "ran"
    torch.save({"state_dict": {"w": torch.ones(1)}, "x": Hostile(os.system, f"touch {trace}")}, tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: reading a checkpoint or package runs the Python code .* --trust"):
        main([str(tmp_path / name), str(tmp_path / "out")])
    zipped(tmp_path / name, "m/version", "m/data/aotinductor/model/a.so")
    with pytest.raises(InputError, match="machine code"):
        main([str(tmp_path / name), str(tmp_path / "out"), "--trust"])
    assert not trace.exists() and not (tmp_path / "out").exists()
