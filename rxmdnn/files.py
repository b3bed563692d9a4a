"""Files that one rank writes: replaced at once or longer by whole lines, JSON that every reader takes, one wording of
"cannot be written".

Outputs that a user names are checked before the work (``check_outputs``). After a write that fails, or a process killed
at any call, a file is what it was or what it was to be.
"""

from __future__ import annotations

import errno
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

FULL = (errno.ENOSPC, errno.EDQUOT)  # no space, no quota


def unwritable(path: str | Path, error: OSError) -> InputError:
    """The message for a file, or something below a folder, that the operating system refused to write."""
    name = re.sub(r"(\.\d+)?\.part$", "", str(error.filename or path))
    return InputError(f"{name}: cannot be written: {reason_of(error)}")


def reason_of(error: OSError) -> str:
    """Why the operating system refused to write, and what to do where that is known."""
    reason = error.strerror or str(error)
    if error.errno in FULL:
        return f"{reason}; make room, then run the same command again"
    linked = "it is a symbolic link, which is not followed; link the folder instead, or remove it"
    return linked if error.errno == errno.ELOOP else reason


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
    allowed = os.access(path if is_device(path) else folder, os.W_OK)
    return "" if allowed else f"{file}: cannot be written: no permission"


def is_device(path: Path) -> bool:
    """Whether a path names a device, a pipe or an open file, as /dev/stdout does; /dev/shm holds ordinary files.

    >>> is_device(Path("/dev/stdout")), is_device(Path("/dev/shm/report.json"))
    (True, False)
    """
    named = path.is_relative_to("/proc") or (path.is_relative_to("/dev") and not path.is_relative_to("/dev/shm"))
    return named or path.is_fifo()


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

    A reader sees the old file or the new one, never a part; after a failure the old file is unchanged. A link to a file
    of its own folder stays one; a link that leads elsewhere is replaced, and the file there stays what it is. A device
    such as /dev/stdout is written to. A new file has the permissions that the umask leaves.

    Example
    -------
    >>> with atomic("report.csv") as new:        # doctest: +SKIP
    ...     new.write_text("a,b\\n1,2\\n")
    """
    path = Path(path)
    if is_device(path):  # nothing to replace
        yield path
        return
    if path.is_symlink() and (target := Path(os.path.realpath(path))).is_relative_to(os.path.realpath(path.parent)):
        path = target
    new = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        new.unlink(missing_ok=True)  # of a killed process of this number, or a link to another file
        yield new
        with open(new, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
        flush_folder(path.parent)
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


def write_figure(figure: Any, path: str | Path, **options: Any) -> Path:
    """Replace a picture at once by a figure of Matplotlib; its path. options : of savefig"""
    path = Path(path)
    with atomic(path) as new:
        figure.savefig(new, format=path.suffix[1:] or "png", **options)
    return path


def plain(values: Any) -> Any:
    """Nested dicts and sequences with every NaN and infinity as None."""
    if isinstance(values, dict):
        return {key: plain(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [plain(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


def flush_folder(folder: Path) -> None:
    """Have the disk hold the names of the files of a folder, where the file system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


class Lines:
    """A text file that becomes longer by whole lines. A link of this name is not followed.

    Parameters
    ----------
    path : Path
    begin : text that replaces what the file holds, at once; None: the file goes on

    Raises OSError.
    """

    def __init__(self, path: str | Path, begin: str | None = None) -> None:
        self.path = Path(path)
        if begin is not None:
            if self.path.is_symlink():
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path))
            write_text(self.path, begin)
        self._handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)

    def add(self, text: str) -> None:
        """Add UTF-8 text in one write. Raises OSError if it did not fit whole; the file is then what it was."""
        data, before = text.encode(), os.fstat(self._handle).st_size
        try:
            done = os.write(self._handle, data)
            if done < len(data):  # the second write tells why the first was short
                write_at_end(self._handle, data[done:])
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._handle, before)
            raise OSError(error.errno, error.strerror, str(self.path)) from None

    def flush(self) -> None:
        """Have the disk hold all lines."""
        os.fsync(self._handle)

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def append(path: str | Path, text: str) -> None:
    """Add UTF-8 text to a file in one write, flushed to disk. Raises InputError if it did not fit whole."""
    with writing(path):
        lines = Lines(path)
        try:
            lines.add(text)
            lines.flush()
        finally:
            lines.close()


def write_at_end(file: int, data: bytes) -> None:
    """Write all bytes to an open file. Raises OSError."""
    while data:
        data = data[os.write(file, data):]


def reserve(file: int, start: int, end: int) -> None:
    """Have the disk hold the bytes from ``start`` to ``end`` of an open file. Raises OSError where it is full."""
    try:
        os.posix_fallocate(file, start, end - start)
    except (AttributeError, OSError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise
        os.ftruncate(file, end)  # a file system, or a system, without reservations


def write_at(file: int, offset: int, data: bytes | memoryview) -> None:
    """Write all bytes at an offset of an open file. Raises OSError."""
    rest = memoryview(data)
    while rest:
        done = os.pwrite(file, rest, offset)
        rest, offset = rest[done:], offset + done
