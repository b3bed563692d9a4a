"""Reader of TorchScript archives (``torch.jit.save``): arrays and texts, without running any code of the archive."""

from __future__ import annotations

import ast
import contextlib
import io
import math
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.errors import InputError

DTYPES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "LongStorage": "<i8",
          "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "|b1"}
OPCODES = {  # all that TorchScript writes
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT",
    "BINUNICODE", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "APPEND", "APPENDS",
    "EMPTY_DICT", "SETITEM", "SETITEMS", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "GLOBAL", "REDUCE",
    "NEWOBJ", "BUILD", "BINPERSID"}
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
MAX_EXPANDED = 1 << 20  # elements of a tensor with more elements than its storage
MAX_VISITS, MAX_DEPTH = 100_000, 100  # of the tree of modules
MAX_UNPACKED = 1 << 28  # bytes read in all, beyond four times the size of the archive


@dataclass
class TorchScript:
    """The content of a TorchScript archive.

    Attributes
    ----------
    arrays : parameters and buffers, named as ``state_dict()`` of the module names them
    attributes : the other attributes of all modules that are one number, string, truth value or None, named likewise
    texts : the files of ``extra/``, by name
    classes : the name of the class of each module, by the name of the module ("" at the top), before those of its parts
    """

    arrays: dict[str, np.ndarray]
    attributes: dict[str, Any]
    texts: dict[str, str]
    classes: dict[str, str]


def is_torchscript(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive, by its content."""
    try:
        with zipfile.ZipFile(path) as archive:
            _root(archive)
    except (InputError, OSError, ValueError, zipfile.BadZipFile):
        return False
    return True


def read_torchscript(path: str | Path) -> TorchScript:
    """The arrays, attributes and extra files of a TorchScript archive. No code of the archive is run.

    Raises
    ------
    InputError : the archive is damaged, or its pickle refers to anything but modules and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            reader = _Reader(archive, _root(archive), MAX_UNPACKED + 4 * Path(path).stat().st_size)
            arrays, attributes = reader.members()
            return TorchScript(arrays, attributes, reader.texts("extra/"), reader.classes)
    except InputError as error:
        raise InputError(*(f"{path}: {fault}" for fault in error.faults)) from None
    except Exception as error:  # a user gets one line about any fault of a foreign file
        raise InputError(f"{path}: damaged TorchScript file: {type(error).__name__}: "
                         f"{(str(error).splitlines() or [''])[0][:200]}") from None


def scalar_settings(text: str) -> dict[str, Any]:
    """The settings of a YAML text that are one number, string, truth value or null at its top level.

    Lists, maps and values with tags (of Python objects) are left out.
    """
    settings = {}
    for name, value in re.findall(r"^([A-Za-z_]\w*):[ ]+(\S.*?)[ ]*$", text, re.MULTILINE):
        if value[0] not in "!&*[{|>":
            settings[name] = _scalar(value)
    return settings


def _scalar(text: str) -> Any:
    """The value of a YAML scalar."""
    words = {"null": None, "~": None, "true": True, "false": False}
    if text.lower() in words:
        return words[text.lower()]
    if text[0] in "'\"" and text[-1] == text[0]:
        return text[1:-1]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def _root(archive: zipfile.ZipFile) -> str:
    """The folder of the archive that holds all its files. Raises InputError if it is not a TorchScript archive."""
    names = archive.namelist()
    for name in names:
        root, _, rest = name.partition("/")
        if rest == "data.pkl" and any(other.startswith((f"{root}/code/", f"{root}/extra/")) for other in names):
            return root + "/"
    raise InputError("not a TorchScript file")


class _Module:
    """An object of a class of the archive: its state, and nothing that it could do."""

    qualified_name = ""
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Fixed:
    """An object that a pickle cannot change."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        raise InputError("refused: the pickle changes an object that is not a module")


class _Builder(_Fixed):
    """A function that a pickle may call."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class _Storage(_Fixed):
    """The values (n,) of one storage."""

    __slots__ = ("values",)

    def __init__(self, values: np.ndarray) -> None:
        self.values = values


class _Unpickler(pickle.Unpickler):
    """An unpickler that knows modules, lists and tensors, and refuses all else."""

    def __init__(self, data: bytes, storage: Callable[[Any], _Storage]) -> None:
        super().__init__(io.BytesIO(data))
        self._storage = storage
        self._classes: dict[str, type[_Module]] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            full = f"{module}.{name}"
            return self._classes.setdefault(full, type("Module", (_Module,), {"qualified_name": full}))
        if (module, name) == ("collections", "OrderedDict"):
            return _Builder(OrderedDict)
        if module == "torch" and name in DTYPES:
            return name
        if (module, name) == ("torch", "device"):
            return _Builder(lambda *parts: ":".join(map(str, parts)))
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Builder(_tensor)
        if module == "torch.jit._pickle" and name in LISTS:
            return _Builder(list)
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _Builder(lambda value, tag: value)
        raise InputError(f"refused: the file asks for {module}.{name}, which is not a part of a model")

    def persistent_load(self, pid: Any) -> _Storage:
        return self._storage(pid)


def _integers(values: Any) -> tuple[int, ...]:
    """The values, if they are non-negative integers."""
    if not all(type(value) is int and value >= 0 for value in values):
        raise InputError("damaged TorchScript file: the shape of a tensor is not made of integers")
    return tuple(values)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> np.ndarray:
    """A tensor as a read-only view of its storage."""
    if not isinstance(storage, _Storage):
        raise InputError("damaged TorchScript file: a tensor without a storage")
    values, (start, *shape), steps = storage.values, _integers((offset, *size)), _integers(stride)
    n = math.prod(shape)
    if len(shape) != len(steps) or len(shape) > 32:
        raise InputError("damaged TorchScript file: sizes and strides of a tensor do not fit together")
    if n == 0:
        return np.zeros(shape, values.dtype)
    if start + sum((a - 1) * b for a, b in zip(shape, steps)) >= len(values) or n > max(len(values), MAX_EXPANDED):
        raise InputError(f"damaged TorchScript file: a tensor of shape {shape} is larger than its storage "
                         f"({len(values)} elements)")
    return np.lib.stride_tricks.as_strided(values[start:], shape, [b * values.itemsize for b in steps], writeable=False)


class _Reader:
    """Reads the files below one folder of an archive, at most ``budget`` bytes in all."""

    def __init__(self, archive: zipfile.ZipFile, root: str, budget: int) -> None:
        self._archive, self._root, self._budget = archive, root, budget
        self._storages: dict[tuple[str, str, int], _Storage] = {}
        self._tensor_names: dict[str, set[str]] = {}
        self._visits = 0
        self.classes: dict[str, str] = {}

    def _bytes(self, name: str) -> bytes:
        """The content of a file."""
        try:
            info = self._archive.getinfo(self._root + name)
        except KeyError:
            raise InputError(f"damaged TorchScript file: {name} is missing") from None
        self._budget -= info.file_size
        if self._budget < 0:
            raise InputError(f"damaged TorchScript file: {name} has {info.file_size} bytes unpacked")
        return self._archive.read(info)

    def texts(self, folder: str) -> dict[str, str]:
        """The text files of a folder, by name; bytes that are not UTF-8 are replaced."""
        start = self._root + folder
        names = [name[len(start):] for name in self._archive.namelist() if name.startswith(start)]
        return {name: self._bytes(folder + name).decode(errors="replace") for name in names if name}

    def members(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The arrays and the attributes of the module, by name: see TorchScript."""
        data = self._bytes("data.pkl")
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in OPCODES:
                raise InputError(f"refused: the pickle has the operation {opcode.name}, which TorchScript never writes")
            if opcode.name == "LONG_BINPUT" and isinstance(argument, int) and argument > len(data):
                raise InputError("damaged TorchScript file: an index outside of the pickle")
        top = _Unpickler(data, self._storage).load()
        if not isinstance(top, _Module):
            raise InputError("the TorchScript file does not hold a module")
        arrays: dict[str, np.ndarray] = {}
        attributes: dict[str, Any] = {}
        self._collect(top, "", 0, arrays, attributes)
        return arrays, attributes

    def _storage(self, pid: Any) -> _Storage:
        """The storage of a persistent id (``storage``, type, number of the file, device, number of elements)."""
        if not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage" and pid[1] in DTYPES
                and isinstance(pid[2], str) and type(pid[4]) is int and pid[4] >= 0):
            raise InputError("damaged TorchScript file: an unknown kind of storage")
        if pid[1:3] + pid[4:] not in self._storages:
            dtype, name, n = np.dtype(DTYPES[pid[1]]), f"data/{pid[2]}", pid[4]
            data = self._bytes(name)
            if len(data) < n * dtype.itemsize:
                raise InputError(f"damaged TorchScript file: {name} has {len(data)} bytes; {n} elements need "
                                 f"{n * dtype.itemsize}")
            self._storages[pid[1:3] + pid[4:]] = _Storage(np.frombuffer(data, dtype, n))
        return self._storages[pid[1:3] + pid[4:]]

    def _tensors(self, qualified_name: str) -> set[str]:
        """The names of the parameters and buffers of a class, from the text of its code in the archive."""
        if qualified_name not in self._tensor_names:
            module, _, name = qualified_name.rpartition(".")
            code = self._bytes(f"code/{module.replace('.', '/')}.py").decode()
            body = re.search(rf"^class {re.escape(name)}\(Module\):\n((?:[ ].*\n|\n)*)", code, re.MULTILINE)
            lists = re.findall(r"^  __(?:parameters|buffers)__ = (\[.*\])$", body[1], re.MULTILINE) if body else []
            self._tensor_names[qualified_name] = {member for text in lists for member in ast.literal_eval(text)}
        return self._tensor_names[qualified_name]

    def _collect(self, module: _Module, prefix: str, depth: int, arrays: dict[str, np.ndarray],
                 attributes: dict[str, Any]) -> None:
        """Add the arrays and attributes of a module and of the modules in it."""
        self._visits += 1
        if not isinstance(module.state, dict) or depth > MAX_DEPTH or self._visits > MAX_VISITS:
            raise InputError(f"damaged TorchScript file: the module {prefix[:100] or 'at the top'} cannot be read")
        self.classes[prefix.removesuffix(".")] = module.qualified_name.rpartition(".")[2]
        tensors = self._tensors(module.qualified_name)
        for name, value in module.state.items():
            if isinstance(value, _Module):
                self._collect(value, f"{prefix}{name}.", depth + 1, arrays, attributes)
            elif isinstance(value, np.ndarray):
                if name in tensors:
                    arrays[prefix + name] = value
            elif value is None or isinstance(value, (bool, int, float, str)):
                attributes[prefix + name] = value
