"""CUDA graphs: what comes again in every step between two lists is recorded once and then done in one go.

A small system's step on a GPU is mostly the host telling the device one kernel after the other. A graph needs shapes
that stay: the edges are all pairs of the list, skin included, and what lies beyond the cutoff adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rxmdnn.device import Device

Given = TypeVar("Given")
Answer = TypeVar("Answer")


class Repeated(Generic[Given, Answer]):
    """``work`` as a graph of the device.

    Parameters
    ----------
    work : what it has the device do with what it is given must follow from the numbers in the arrays ``of`` alone, and
        its arrays' shapes from those of the list
    say : called with the reason when no graph can be made of it; from then on it is ``work`` itself
    """

    def __init__(self, device: Device, work: Callable[[Given], Answer], say: Callable[[str], None]) -> None:
        self._device, self._work, self._say = device, work, say
        self.possible, self.graphs = True, 0
        self.forget()

    def forget(self) -> None:
        """Shapes or arrays will be others."""
        self._replay: Callable[[], None] | None = None
        self._answer: Answer | None = None
        self._of: tuple[Any, ...] = ()

    def __call__(self, given: Given, *of: Any) -> Answer:
        """Do it with what is given. The first time, which compiles and allocates, and whenever one of the objects
        ``of`` is another one than the time before, it is done step by step."""
        same = len(of) == len(self._of) and all(a is b for a, b in zip(of, self._of))
        if not same:
            self.forget()
            self._of = of
            return self._work(given)
        if self._replay is None and self.possible:
            self._capture(given)
        if self._replay is None:
            return self._work(given)
        self._replay()
        assert self._answer is not None
        return self._answer

    def _capture(self, given: Given) -> None:
        kept: list[Answer] = []
        self._device.settle()
        try:
            self._replay = self._device.capture(lambda: kept.append(self._work(given)))
        except RuntimeError as error:
            self.possible = False
            self._say(str(error).strip().split("\n")[0])
        else:
            self._answer = kept[0]
            self.graphs += 1
