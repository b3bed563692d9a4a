"""The modules of a TorchScript file as plain objects, which hold what the file holds and can do nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from rxmdnn.models.torchscript import TorchScript


class Part:
    """A module: its parts, arrays (as tensors) and simple attributes are its attributes.

    Parameters
    ----------
    class_name : of the module, without the name of its Python file
    """

    def __init__(self, class_name: str) -> None:
        self.class_name = class_name

    def named_children(self) -> list[tuple[str, Part]]:
        """The parts that are modules, in the order of the file."""
        return [(name, value) for name, value in vars(self).items() if isinstance(value, Part)]

    def __iter__(self) -> Iterator[Any]:
        """The numbered parts of a list of modules."""
        return iter([value for name, value in vars(self).items() if name.isdigit()])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, k: int) -> Any:
        return list(iter(self))[k]


def parts_of(archive: TorchScript) -> Part:
    """The module of a TorchScript file."""
    top = Part(archive.classes[""])
    found = {"": top}
    for name, class_name in archive.classes.items():  # a module stands before its parts
        if name:
            parent, _, last = name.rpartition(".")
            found[name] = Part(class_name)
            vars(found[parent])[last] = found[name]  # unlike setattr, changes nothing of the class
    arrays = {name: torch.from_numpy(value.copy()) for name, value in archive.arrays.items()}
    for name, value in {**archive.attributes, **arrays}.items():
        parent, _, last = name.rpartition(".")
        vars(found[parent])[last] = value
    return top


def class_name(module: Any) -> str:
    """The name of the class of a module, of either kind."""
    return module.class_name if isinstance(module, Part) else type(module).__name__
