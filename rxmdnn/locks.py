"""One lock per folder, or per file, that a command writes: two commands never write to the same place.

The lock is one of the operating system on a small file. It ends with the process, however that ends, so that nothing
has to be cleaned after a crash; a file that a crash left behind is taken over and removed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.files import unwritable

LOCK = ".rxmdnn.lock"


def lock_of(output: Path) -> Path:
    """The lock of a file that a command makes longer, beside it."""
    return output.with_name(f".{output.name}.lock")


@contextmanager
def held(lock: Path, busy: str) -> Iterator[None]:
    """A block during which no other process holds the lock; a folder that is made for it and stays empty is removed.

    Parameters
    ----------
    lock : a file, <folder>/.rxmdnn.lock of a folder
    busy : message where another process holds it; who that is follows

    Raises InputError, also where the file cannot be made.
    """
    made = not lock.parent.exists()
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = _take(lock)
    except BlockingIOError:
        raise InputError(f"{busy} ({_holder(lock)})") from None
    except OSError as error:
        raise unwritable(lock, error) from None
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(file)
        if made:
            with suppress(OSError):  # not empty, as a rule
                lock.parent.rmdir()


def _take(lock: Path) -> int:
    """The locked file, open. Raises BlockingIOError where another process has it."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
                    raise
                return file  # a file system without locks
            # Its last holder may have removed the file between our two calls: then the lock is of nothing.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), os.stat(lock)):
                    with suppress(OSError):  # a full disk: the lock holds without the text
                        os.ftruncate(file, 0)
                        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
                    return file
            os.close(file)
        except BaseException:
            os.close(file)
            raise


def _holder(lock: Path) -> str:
    """Who holds a lock, as its file says."""
    try:
        text = "".join(c for c in lock.read_text(errors="replace")[:200].strip() if c.isprintable())
    except OSError:
        text = ""
    return text or "another process"
