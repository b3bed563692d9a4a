"""Texts about times to failure in the header of a model file, and a digest of the model that they do not change."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.models.checksum import CERTIFICATE, LIFETIME, METADATA, joined, split
from rxmdnn.models.model_file import native_metadata, write_bytes


def put(model: Path, key: str, text: str) -> None:
    """Put a text into the metadata of a model file; the bytes of its arrays do not change. Raises InputError."""
    native_metadata(model)
    write_bytes(model, _with(model, {key: text}))


def digest(model: Path) -> str:
    """SHA-256 (hex) of a model file without these texts; for a file without them, that of the file."""
    try:
        metadata = native_metadata(model)
    except InputError:  # another form, to which nothing can be added
        metadata = {}
    stored: dict[str, str | None] = {key: None for key in (LIFETIME, CERTIFICATE) if key in metadata}
    return hashlib.sha256(_with(model, stored)).hexdigest() if stored else sha256_of(model)


def weights_digest(model: Path) -> str:
    """SHA-256 (hex) of the arrays of a model file and their names: equal where only the texts in its header differ."""
    native_metadata(model)
    head, arrays = split(model.read_bytes(), str(model))
    names = {k: v for k, v in head.items() if k != METADATA}
    return hashlib.sha256(json.dumps(names, sort_keys=True).encode() + arrays).hexdigest()


def _with(model: Path, texts: dict[str, str | None]) -> bytes:
    """The bytes of a model file whose metadata have these texts; None removes one."""
    head, arrays = split(model.read_bytes(), str(model))
    return joined({**head, METADATA: head[METADATA] | texts}, arrays)
