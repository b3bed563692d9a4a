"""Wall time by part of a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter


class Timers:
    """``with timers("network"): ...`` adds to ``timers.seconds["network"]``.

    Parameters
    ----------
    settle : callable, optional
        Waits for a device at the end of each part, which otherwise is the time to tell it what to do.
    """

    def __init__(self, settle: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.settle = settle

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.settle()
            self.seconds[part] += perf_counter() - start
