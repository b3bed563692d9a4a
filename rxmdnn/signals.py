"""Signals that ask a run to stop: remembered, not obeyed at once, so that the run ends with a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

STOPPING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))
_active: list[list[int]] = []  # handlers belong to the process, and so does the list that they fill


@contextmanager
def remembered() -> Iterator[list[int]]:
    """A block in which SIGTERM, SIGINT and SIGUSR1 only add their numbers to a list, which the block is given.

    A second SIGINT (Ctrl-C) is obeyed at once, by a KeyboardInterrupt. Blocks inside another have the list of the
    outer one. In another thread than the main one, where Python allows no handlers, nothing changes.
    """
    if _active:
        yield _active[-1]
        return
    asked: list[int] = []
    if current_thread() is not main_thread():
        yield asked
        return

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in STOPPING}
    _active.append(asked)
    try:
        yield asked
    finally:
        _active.pop()
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def pass_on(number: int) -> None:
    """Deliver a remembered signal to the handlers that there were before: those of a user's program. 0: none"""
    if number and current_thread() is main_thread():
        signal.raise_signal(number)
