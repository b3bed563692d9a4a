"""Files that one rank writes: replaced at once, JSON that every reader takes, one wording of "cannot be written".

Outputs that a user names are checked before the work (``check_outputs``).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rxmdnn.errors import InputError


def unwritable(path: str | Path, error: OSError) -> InputError:
    """The message for a file, or something below a folder, that the operating system refused to write."""
    name = re.sub(r"(\.\d+)?\.part$", "", str(error.filename or path))
    return InputError(f"{name}: cannot be written: {error.strerror or error}")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """A block that writes to ``path`` or below it; a refusal of the operating system is one InputError."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from None


def check_outputs(*files: str | Path | None, folders: Sequence[str | Path] = ()) -> None:
    """Before the work: raises InputError for files and folders that could not be written at its end.

    folders : written by the same command, which makes them if they do not exist
    """
    faults = [fault for folder in folders if (fault := _folder_fault(Path(folder)))]
    faults += [fault for file in files if file is not None and (fault := file_fault(file, folders))]
    if faults:
        raise InputError(*faults)


def file_fault(file: str | Path, folders: Sequence[str | Path] = ()) -> str:
    """Why a file could not be written, or nothing. folders : as of ``check_outputs``"""
    path, folder = Path(file).absolute(), Path(file).parent
    if path.is_dir():
        return f"{file}: cannot be written: it is a folder; name a file in it"
    if any(Path(made).absolute().is_relative_to(path.parent) for made in folders):
        return ""
    if not folder.exists():
        return f"{file}: cannot be written: the folder {folder} does not exist; make it, or name another file"
    if not folder.is_dir():
        return f"{file}: cannot be written: {folder} is not a folder"
    allowed = os.access(path if path.is_relative_to("/dev") else folder, os.W_OK)
    return "" if allowed else f"{file}: cannot be written: no permission"


def _folder_fault(folder: Path) -> str:
    """Why files in this folder, which may have to be made, could not be written; or nothing."""
    above = folder.absolute()
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        return f"{folder}: cannot be written: {above} is not a folder"
    return "" if os.access(above, os.W_OK | os.X_OK) else f"{folder}: cannot be written: no permission in {above}"


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """A block that writes a temporary file beside ``path``; on success it is flushed to disk and takes its name.

    A reader sees the old file or the new one, never a part; after a failure the old file is unchanged. A link stays a
    link; a device such as /dev/stdout is written to.

    Example
    -------
    >>> with atomic("report.csv") as new:        # doctest: +SKIP
    ...     new.write_text("a,b\\n1,2\\n")
    """
    path = Path(path)
    if path.is_relative_to("/dev") or path.is_relative_to("/proc") or path.is_fifo():  # nothing to replace
        yield path
        return
    if path.is_symlink():
        path = path.resolve()
    new = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield new
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def sha256_of(path: str | Path) -> str:
    """SHA-256 of the content of a file, in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def write_text(path: str | Path, text: str) -> Path:
    """Replace a file by UTF-8 text at once; its path."""
    with atomic(path) as new:
        new.write_text(text, encoding="utf-8")
    return Path(path)


def write_json(path: str | Path, values: Any) -> Path:
    """Replace a file by indented JSON at once; NaN and infinity, which JSON does not have, are null."""
    return write_text(path, json.dumps(plain(values), indent=1) + "\n")


def plain(values: Any) -> Any:
    """Nested dicts and sequences with every NaN and infinity as None."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def append(path: str | Path, text: str) -> None:
    """Add UTF-8 text to a file in one write, flushed to disk. Raises InputError if it did not fit whole."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        if os.write(handle, text.encode()) != len(text.encode()):
            raise InputError(f"{path}: could not be written whole; is the disk full? Run again to go on")
        os.fsync(handle)
    finally:
        os.close(handle)
