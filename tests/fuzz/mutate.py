"""Damage to files: bytes, text, JSON, HDF5, safetensors and npz, by a generator of random numbers of one seed."""

import io
import json
import random
import re
import struct
import zipfile
from contextlib import suppress

import h5py
import numpy as np

NUMBERS = ("nan", "inf", "-inf", "-1", "0", "-0.0", "1e308", "1e-320", "1e400", "2147483648", "9223372036854775808",
           "1e12", "0.5", "x", "", "1_000", "٣", "\x1b[31m", "99999999999999999999999")
NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
INSERTED = (b"\xff\xfe", b"\x1b[2J", b"\0", b"\n\n", b"#", b'"', b",", b"\r")
DEEP = 300  # levels
SPOILT = (KeyError, TypeError, ValueError, RuntimeError, MemoryError, OSError)  # by a change before


def odd_values(rng):
    """A value that a reader of JSON may not expect."""
    deep = []
    for _ in range(DEEP):
        deep = [deep]
    return rng.choice([None, True, "", "x", "\x1b[31m", "../../etc/passwd", -1, 0, 0.5, 1e308, float("nan"),
                       float("inf"), 2**31, 2**63, 2**70, [], {}, [1], ["x"], [[1.0, 2.0], [3.0]], {"dict": {}},
                       {"array": [1]}, {"array": [1.0], "dtype": "S2000000000", "shape": [1]},
                       {"array": [], "dtype": "<f8", "shape": [10**9, 0]}, deep])


# ---------------------------------------------------------------------- any file
def change_bytes(data, rng):
    """Flip bits, cut, insert, repeat or clear a part."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        if not data:
            return b"\0" * rng.randrange(64)
        at, n = rng.randrange(len(data)), rng.choice([1, 2, 4, 8, 64, 512])
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + n] = rng.randbytes(n)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + n]
        elif kind == 4:
            data[at:at] = data[at : at + n]
        elif kind == 5:
            data[at : at + n] = bytes(len(data[at : at + n]))
        else:
            data[at : at + 8] = struct.pack("<q", rng.choice([-1, 2**31, 2**40, 2**62, 0]))
    return bytes(data)


def change_text(data, rng):
    """Replace numbers and words, move, repeat and cut lines, add bytes that are not text."""
    for _ in range(rng.choice([1, 1, 2, 5])):
        kind = rng.randrange(8)
        numbers, lines = list(NUMBER.finditer(data)), data.split(b"\n")
        if kind <= 2 and numbers:
            found = rng.choice(numbers)
            data = data[: found.start()] + rng.choice(NUMBERS).encode() + data[found.end() :]
        elif kind == 3:
            k = rng.randrange(len(lines))
            data = b"\n".join(lines[:k] + lines[k + 1 :])
        elif kind == 4:
            k, m = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[k], lines[m] = lines[m], lines[k]
            data = b"\n".join(lines)
        elif kind == 5:
            k = rng.randrange(len(lines))
            data = b"\n".join([*lines[:k], lines[k], *lines[k:]])
        elif kind == 6:
            at = rng.randrange(len(data) + 1)
            data = data[:at] + rng.choice(INSERTED) + data[at:]
        else:
            data = change_bytes(data, rng)
    return data


# ---------------------------------------------------------------------- JSON
def change_json(value, rng):
    """The value with one part of it deleted, replaced, repeated or moved."""
    parts = []

    def collect(node):
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            parts.append((node, key))
            collect(node[key])

    holder = [json.loads(json.dumps(value))]
    collect(holder)
    node, key = rng.choice(parts)
    kind = rng.randrange(6)
    if kind == 0 and node is not holder:
        del node[key]
    elif kind == 1 and isinstance(node[key], list) and node[key]:
        node[key] = node[key] * 2 if rng.random() < 0.5 else node[key][:-1]
    elif kind == 2:
        other, there = rng.choice(parts)
        node[key] = json.loads(json.dumps(other[there])) if other is node or not isinstance(other, dict) else 0
    elif kind == 3 and isinstance(node, dict):
        node[rng.choice(["", "x", "dict", "__metadata__"])] = node.pop(key)
    else:
        node[key] = odd_values(rng)
    return holder[0]


def change_json_text(data, rng):
    """A JSON file, or one of JSON lines."""
    if rng.random() < 0.2:
        return change_text(data, rng)
    lines = data.decode().splitlines()
    try:
        return json.dumps(change_json(json.loads(data), rng)).encode()
    except ValueError:
        k = rng.randrange(len(lines))
        lines[k] = json.dumps(change_json(json.loads(lines[k]), rng))
        return "\n".join(lines).encode() + b"\n"


# ---------------------------------------------------------------------- HDF5
def change_hdf5(data, rng, repair=None):
    """An HDF5 file with one or two entries changed. repair : makes its checksums right again, in half of the cases"""
    if rng.random() < 0.2:
        return change_bytes(data, rng)
    out = io.BytesIO(data)
    with h5py.File(out, "r+") as file:
        for _ in range(rng.choice([1, 1, 2])):
            with suppress(*SPOILT):
                _change_entry(file, rng)
        if repair is not None and rng.random() < 0.6:
            with suppress(*SPOILT, AttributeError, IndexError):
                repair(file)
    return out.getvalue()


def _change_entry(file, rng):
    names = ["/"]
    file.visit(names.append)
    name = rng.choice(names)
    item = file[name]
    if len(item.attrs) and (name == "/" or rng.random() < 0.5):
        return _change_attribute(item, rng)
    if name == "/":
        return None
    kind = rng.randrange(9)
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "O" and kind < 6:
        return _change_texts(file, name, item, rng)
    if isinstance(item, h5py.Dataset) and kind < 6:
        return _change_values(file, name, item, rng)
    del file[name]
    if kind == 6:
        file.create_group(name)
    elif kind == 7:
        file[name] = rng.choice([h5py.SoftLink(f"/{name}"), h5py.ExternalLink("/etc/passwd", "/x"),
                                 h5py.ExternalLink("other.h5", f"/{name}"), h5py.SoftLink("/")])
    return None


def _change_attribute(item, rng):
    name = rng.choice(sorted(item.attrs))
    value = item.attrs[name]
    if isinstance(value, str) and value.startswith("{") and rng.random() < 0.8:
        item.attrs[name] = json.dumps(change_json(json.loads(value), rng))
    elif rng.random() < 0.3:
        del item.attrs[name]
    else:
        item.attrs[name] = rng.choice([1, -1.5, "x", b"\xff\xfe", np.zeros((2, 3)), ["a", "b"], np.nan, 2**63])


def _change_texts(file, name, item, rng):
    """Change one text, which may be JSON, or the shape of the texts."""
    texts = np.atleast_1d(item[()]).tolist()
    k = rng.randrange(len(texts)) if texts else 0
    if texts:
        try:
            texts[k] = json.dumps(change_json(json.loads(texts[k]), rng))
        except ValueError:
            texts[k] = rng.choice(["", "Xx", "\x1b[31m", "H" * 100, "../x"])
    shape = item.shape
    del file[name]
    file[name] = (texts[0] if shape == () else texts) if rng.random() < 0.85 else rng.choice([3.5, [1, 2], [[b"a"]]])


def _change_values(file, name, item, rng):
    """Change a value, the type, the shape, or declare what is not stored."""
    values, kind = item[()], rng.randrange(8)
    if kind <= 2 and values.size:
        flat = np.array(values).reshape(-1)
        odd = [np.nan, np.inf, -1e300, 1e12, -1, 0] if flat.dtype.kind == "f" else [-1, 0, 2**31 - 1, 2**62, 7]
        with suppress(OverflowError):
            flat[rng.randrange(flat.size)] = rng.choice(odd)
        new = flat.reshape(np.shape(values))
        if new.shape == item.shape and item.shape:
            item[...] = new
            return
    elif kind == 3:
        new = np.asarray(values).astype(rng.choice(["f4", "f8", "i4", "i8", "S8", "u1", "c16", "bool"]))
    elif kind == 4:
        new = np.concatenate([np.atleast_1d(values)] * 2) if rng.random() < 0.5 else np.atleast_1d(values)[:-1]
    elif kind == 5:
        new = rng.choice([np.asarray(values)[None], np.asarray(values).reshape(-1), np.zeros(0), np.float64(1.5)])
    else:
        attributes, dtype = dict(item.attrs), item.dtype
        rows = rng.choice([10**7, 10**10, 2**40])
        shape = (rows, *item.shape[1:])
        del file[name]
        chunks = (1024, *(max(1, n) for n in item.shape[1:])) if kind == 6 else None
        packed = rng.choice([None, "gzip"]) if chunks else None
        file.create_dataset(name, shape, dtype, chunks=chunks, compression=packed)
        file[name].attrs.update(attributes)
        return
    attributes = dict(item.attrs)
    del file[name]
    file[name] = new
    file[name].attrs.update(attributes)


# ---------------------------------------------------------------------- safetensors, zip
def change_safetensors(data, rng, repair=None):
    """A model file with its header changed, or bytes of it. repair : of the bytes, makes the checksum right again"""
    if rng.random() < 0.3:
        return change_bytes(data, rng)
    (n,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + n])
    texts = [k for k, v in head["__metadata__"].items() if v.startswith("{")]
    if texts and rng.random() < 0.6:
        key = rng.choice(texts)
        head["__metadata__"][key] = json.dumps(change_json(json.loads(head["__metadata__"][key]), rng))
    else:
        head = change_json(head, rng)
    arrays = bytearray(data[8 + n :])
    if rng.random() < 0.3:
        at = rng.randrange(len(arrays) // 8) * 8
        arrays[at : at + 8] = struct.pack("<d", rng.choice([float("nan"), 1e308, 0.0, -1.0]))
    text = json.dumps(head).encode()
    out = struct.pack("<Q", len(text)) + text + bytes(arrays)
    if repair is not None and rng.random() < 0.7:
        with suppress(Exception):
            out = repair(out)
    return out


def change_zip(data, rng):
    """An archive (npz, files of torch) with one member changed, missing or packed."""
    if rng.random() < 0.3:
        return change_bytes(data, rng)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name = rng.choice(sorted(members))
    if rng.random() < 0.15:
        del members[name]
    elif name.endswith(".npy") and rng.random() < 0.7:
        members[name] = _change_npy(members[name], rng)
    else:
        members[name] = change_bytes(members[name], rng)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return out.getvalue()


def _change_npy(data, rng):
    kind = rng.randrange(5)
    out = io.BytesIO()
    if kind == 0:
        np.save(out, np.array([{"a": 1}, None], object), allow_pickle=True)
    elif kind == 1:  # a header that promises more
        shape = rng.choice([(10**12,), (2**40, 2), (-1,), (1 << 60, 16)])
        np.lib.format.write_array_header_1_0(out, {"descr": "<f8", "fortran_order": False, "shape": shape})
        out.write(bytes(64))
    elif kind == 2:
        np.save(out, np.array(["x", "yy"]))
    else:
        array = np.load(io.BytesIO(data))
        new = rng.choice([array.reshape(-1), array[None], array.astype("f4"), array.astype("i8"), np.zeros(0),
                          np.full_like(array, np.nan) if array.dtype.kind == "f" else array])
        np.save(out, new)
    return out.getvalue()


def change(data, kind, rng, repair=None):
    """The bytes of a file of a kind ("text", "json", "hdf5", "safetensors", "zip", "bytes"), damaged."""
    if kind == "hdf5":
        return change_hdf5(data, rng, repair)
    if kind == "safetensors":
        return change_safetensors(data, rng, repair)
    return {"text": change_text, "json": change_json_text, "zip": change_zip, "bytes": change_bytes}[kind](data, rng)


def generator(seed, target, number):
    """The random numbers of one case."""
    return random.Random(f"{seed} {target} {number}")
