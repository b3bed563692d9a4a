"""The checksum of a native model file: SHA-256 of its arrays and of its metadata, in the metadata itself.

Texts that are added to a model later (a fit of times to failure, a certificate) are not covered.
"""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

from rxmdnn.schema import parse_json

KEY = "sha256"
LIFETIME, CERTIFICATE = "lifetime", "certificate"  # keys of texts that are added later
METADATA = "__metadata__"


def split(data: bytes, source: str) -> tuple[dict[str, Any], bytes]:
    """The JSON header of a safetensors file, and the bytes of its arrays. Raises InputError."""
    (length,) = struct.unpack("<Q", data[:8])
    return parse_json(data[8 : 8 + length], source, "an rxmdnn model file"), data[8 + length :]


def joined(head: dict[str, Any], arrays: bytes) -> bytes:
    """The inverse of ``split``; entries of the metadata that are None are left out."""
    head = {**head, METADATA: {k: v for k, v in head[METADATA].items() if v is not None}}
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + arrays


def with_checksum(data: bytes) -> bytes:
    """The bytes of a safetensors file with the checksum in its metadata."""
    head, arrays = split(data, "a model")
    head[METADATA][KEY] = _of(head, arrays)
    return joined(head, arrays)


def is_damaged(data: bytes, source: str) -> bool:
    """Whether a file has a checksum, and another content. Raises InputError."""
    head, arrays = split(data, source)
    return KEY in head[METADATA] and head[METADATA][KEY] != _of(head, arrays)


def _of(head: dict[str, Any], arrays: bytes) -> str:
    kept = {k: v for k, v in head[METADATA].items() if k not in (KEY, LIFETIME, CERTIFICATE)}
    total = hashlib.sha256(json.dumps({**head, METADATA: kept}, sort_keys=True).encode())
    total.update(arrays)
    return total.hexdigest()
