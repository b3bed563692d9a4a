"""CUDA graphs: the kernels of a step between two neighbor lists are recorded once and then launched together.

A step of a small system on a GPU spends most of its time in launching kernels one by one. A graph needs constant
shapes: the edges are all pairs of the list, skin included, and pairs beyond the cutoff contribute nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from rxmdnn.arrays import Array
from rxmdnn.device import Device

Given = TypeVar("Given")
Answer = TypeVar("Answer")


class Repeated(Generic[Given, Answer]):
    """``work`` as a CUDA graph of the device.

    Parameters
    ----------
    work : its kernels must depend only on the numbers in the arrays ``of``, and its shapes only on the neighbor list
    say : called with the reason if no graph can be made; from then on each call runs ``work`` itself

    Attributes
    ----------
    possible : False once the device has refused a graph
    graphs : number of graphs recorded
    """

    def __init__(self, device: Device, work: Callable[[Given], Answer], say: Callable[[str], None]) -> None:
        self._device, self._work, self._say = device, work, say
        self.possible, self.graphs = True, 0
        self.forget()

    def forget(self) -> None:
        """Drop the graph, since shapes or arrays change."""
        self._replay: Callable[[], None] | None = None
        self._answer: Answer | None = None
        self._of: tuple[Array, ...] = ()

    def __call__(self, given: Given, *of: Array) -> Answer:
        """The answer of ``work(given)``.

        The first call, which compiles and allocates, and each call in which one of the objects ``of`` differs from that
        of the call before, run ``work`` itself; others run the graph.
        """
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
        self._device.synchronize()
        try:
            self._replay = self._device.capture(lambda: kept.append(self._work(given)))
        except RuntimeError as error:
            self.possible = False
            self._say(str(error).strip().split("\n")[0])
        else:
            self._answer = kept[0]
            self.graphs += 1
