"""Wall time by part of a step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter


class Timers:
    """``with timers("network"): ...`` adds the wall time of the block, s, to ``timers.seconds["network"]``.

    Parameters
    ----------
    synchronize : callable, optional
        Waits for a device at the end of each part. Without it, the time of a part on a device is that of its launch.
    """

    def __init__(self, synchronize: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.synchronize = synchronize

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self.synchronize()
            self.seconds[part] += perf_counter() - start
