"""Texts about times to failure in the header of a model file, and a digest of the model that they do not change."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.models.model_file import native_metadata, write_bytes

LIFETIME, CERTIFICATE = "lifetime", "certificate"  # keys of the metadata


def put(model: Path, key: str, text: str) -> None:
    """Put a text into the metadata of a model file; the bytes of its arrays do not change. Raises InputError."""
    native_metadata(model)
    write_bytes(model, _with(model.read_bytes(), {key: text}))


def digest(model: Path) -> str:
    """SHA-256 (hex) of a model file without these texts; for a file without them, that of the file."""
    try:
        metadata = native_metadata(model)
    except InputError:  # another form, to which nothing can be added
        metadata = {}
    stored: dict[str, str | None] = {key: None for key in (LIFETIME, CERTIFICATE) if key in metadata}
    return hashlib.sha256(_with(model.read_bytes(), stored)).hexdigest() if stored else sha256_of(model)


def weights_digest(model: Path) -> str:
    """SHA-256 (hex) of the arrays of a model file and their names: equal where only the texts in its header differ."""
    native_metadata(model)
    data = model.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    names = {k: v for k, v in json.loads(data[8 : 8 + length]).items() if k != "__metadata__"}
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode() + data[8 + length :]).hexdigest()


def _with(data: bytes, texts: dict[str, str | None]) -> bytes:
    """The bytes of a model file whose metadata have these texts; None removes one."""
    length = struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8 : 8 + length])
    head["__metadata__"] = {k: v for k, v in (head["__metadata__"] | texts).items() if v is not None}
    header = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]
