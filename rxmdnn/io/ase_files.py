"""The one place where ASE reads a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from rxmdnn.errors import InputError


def read_by_ase(path: str | Path, index: str = ":", format: str | None = None) -> list[Atoms]:
    """The frames of a file in any format that ASE reads, every rank for itself.

    Parameters
    ----------
    index : frames as ASE counts them: ":" are all, "-1" is the last
    format : ASE's name of the format; default: ASE finds it by content and name

    Raises
    ------
    InputError
        No such file, or one that ASE cannot read.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Not in parallel, in which ASE broadcasts over all ranks; and a name may hold "@".
            found: Any = ase.io.read(path, index, format=format, parallel=False, do_not_split_by_at_sign=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # the readers of ASE raise exceptions of any kind
        raise InputError(f"{path}: ASE cannot read it: {str(error) or type(error).__name__}") from None
    return found if isinstance(found, list) else [found]
