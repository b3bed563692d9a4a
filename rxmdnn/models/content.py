"""The kind of a model file, by its content; names and suffixes do not count, and nothing in the file is executed."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.models.torchscript import is_torchscript

DEPLOYED, CHECKPOINT, PACKAGE = "TorchScript file", "checkpoint, or another file saved by torch", "nequip package"
COMPILED, ARRAYS, OTHER = "compiled model (AOTInductor)", "file of arrays (.npz)", "other file"
PICKLE = b"\x80\x02"  # how torch wrote its files before it wrote zip archives


def kind_of(path: str | Path) -> str:
    """One of DEPLOYED, CHECKPOINT, PACKAGE, COMPILED, ARRAYS, OTHER; native files, and files not there, are OTHER."""
    try:
        with open(path, "rb") as file:
            head = file.read(4)
        if head[:2] == PICKLE:
            return CHECKPOINT
        if head[:2] != b"PK":
            return OTHER
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return OTHER
    if any("/data/aotinductor/" in f"/{name}" for name in names):
        return COMPILED
    if any(name.endswith("/.data/extern_modules") for name in names):  # torch.package
        return PACKAGE
    if is_torchscript(path):
        return DEPLOYED
    if any(name.endswith("data.pkl") for name in names):
        return CHECKPOINT
    return ARRAYS if names and all(name.endswith(".npy") for name in names) else OTHER


def is_native(path: str | Path) -> bool:
    """Whether a file begins as safetensors do: the length of a JSON header, and that header."""
    with open(path, "rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < Path(path).stat().st_size


def import_command(path: str | Path, options: str = "") -> str:
    """The command that converts a model file to a native one beside it."""
    path = Path(path)
    out = path.with_name(path.name.removesuffix(".zip").removesuffix(path.suffix).removesuffix(".nequip")
                         + ".safetensors")
    return " ".join(["rxmdnn import-model", shlex.quote(str(path)), shlex.quote(str(out)), *options.split()])


def refusal(path: str | Path, kind: str) -> InputError:
    """Why a file of this kind is not taken as a model, and what to do."""
    if kind in (CHECKPOINT, PACKAGE):
        return InputError(f"{path}: a {kind}: reading it would run the Python code inside it, which only import-model "
                          f"does; if you trust its source, convert it once: {import_command(path, '--trust')}")
    if kind == ARRAYS:
        return InputError(f"{path}: a {kind}: the settings of the network are not in it; convert it once: "
                          f"{import_command(path)} (rxmdnn import-model --help lists the settings)")
    if kind == COMPILED:
        return InputError(f"{path}: a {kind}: machine code, not the weights of a network; convert the checkpoint or "
                          "package that it was made from with rxmdnn import-model, or run it with a line 'compiled "
                          "FILE LAYERS ...' in rxmdnn.in (rxmdnn help compiled)")
    return InputError(f"{path}: not an rxmdnn model file, a deployed TorchScript model, or a checkpoint or package of "
                      "nequip; or it is truncated")
