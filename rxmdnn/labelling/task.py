"""One piece of work of a labelling job: frames that are made by a recipe, or one frame of a file."""

from __future__ import annotations

from dataclasses import dataclass, field

import ase
import numpy as np


@dataclass(frozen=True)
class Task:
    """One independent piece of work.

    Attributes
    ----------
    kind : str, of its frames: a key of KINDS of the recipe, or any name if ``atoms`` is set
    number : int, of this kind; ``kind`` and ``number`` determine the seed
    parameters : of the kind, e.g. temperature (K)
    atoms : the frame itself, if it comes from a file; its info are words that the labelled frame keeps
    group_name : group of its frames in the split, if it is not kind and number
    where : what messages call it
    """

    kind: str
    number: int
    parameters: dict[str, float | str] = field(default_factory=dict)
    atoms: ase.Atoms | None = None
    group_name: str = ""
    where: str = ""

    @property
    def group(self) -> str:
        """The group of its frames in the split: those of one group are never split."""
        return self.group_name or f"{self.kind}-{self.number:03d}"

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.where or self.group

    def rng(self, attempt: int = 0) -> np.random.Generator:
        """The random stream of an attempt."""
        return np.random.default_rng([sum(ord(c) * 131**k for k, c in enumerate(self.kind)), self.number, attempt])
