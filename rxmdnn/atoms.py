"""The state of a run: atoms as a struct of arrays, and the edges between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rxmdnn.arrays import namespace


@dataclass(frozen=True)
class Field:
    """One array of Atoms: what shape its row has, and whether it travels.

    ``migrates``: goes with an atom that changes owner. ``copied``: present on copies of other owners' atoms.
    """

    name: str
    dtype: type
    row: tuple[int, ...]
    migrates: bool
    copied: bool


FIELDS = (
    Field("gid", np.int64, (), True, True),
    Field("species", np.int32, (), True, True),
    Field("x", np.float64, (3,), True, True),
    Field("v", np.float64, (3,), True, False),
    Field("image", np.int32, (3,), True, False),
    Field("f", np.float64, (3,), True, True),
)


@dataclass
class Atoms:
    """Rows [0, n_owned) belong to this rank; rows [n_owned, n_all) are copies of other owners' atoms.

    Attributes
    ----------
    gid     (n_all,)     int64     global number, never reused
    species (n_all,)     int32     index into the run's element list
    x       (n_all, 3)   float64   position, Å, continuous across the domain's faces
    v       (n_owned, 3) float64   velocity, Å/fs
    image   (n_owned, 3) int32     periods crossed since the start: x + image @ h is the unwrapped position
    f       (n_all, 3)   float64   force, eV/Å; a copy's row is what must be given back
    n_owned int
    extra   {name: (n_owned, ...)}   further rows that migrate with their atom
    """

    gid: np.ndarray
    species: np.ndarray
    x: np.ndarray
    v: np.ndarray
    image: np.ndarray
    f: np.ndarray
    n_owned: int
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def n_all(self) -> int:
        return len(self.gid)

    @classmethod
    def of(cls, gid: np.ndarray, species: np.ndarray, x: np.ndarray, v: np.ndarray | None = None,
           image: np.ndarray | None = None, f: np.ndarray | None = None) -> Atoms:
        """Owned atoms only (no copies); missing arrays are zero."""
        n = len(gid)
        given = {"gid": gid, "species": species, "x": x, "v": v, "image": image, "f": f}
        arrays: dict[str, Any] = {}
        for a in FIELDS:
            array = given[a.name]
            arrays[a.name] = np.zeros((n, *a.row), a.dtype) if array is None else np.ascontiguousarray(array, a.dtype)
        return cls(**arrays, n_owned=n)

    def on(self, convert: Callable[[Any], Any]) -> Atoms:
        """The same atoms, every array as ``convert`` gives it: on a device, or from there."""
        return Atoms(**{a.name: convert(getattr(self, a.name)) for a in FIELDS}, n_owned=self.n_owned,
                     extra={name: convert(array) for name, array in self.extra.items()})


@dataclass
class Edges:
    """Directed pairs inside the true cutoff, unless ``whole``, grouped by center; every center is owned.

    Attributes
    ----------
    center   (m,)           int32    row of the owned atom at the origin
    neighbor (m,)           int32    row of the other atom, owned or copy
    r_ij     (m, 3)         float64  x[neighbor] - x[center], Å
    first    (n_owned + 1,) int64    edges of atom i are first[i]:first[i + 1]
    slot     (m_skin,)      int64    of edges from a list with a skin: where each pair of the list is here, or -1
    whole    bool                    all pairs of the list, also those beyond the cutoff
    room     (m, 3)         float64  if given, where a potential may put its gradient: fresh memory costs more than
                                     what is written to it
    """

    center: np.ndarray
    neighbor: np.ndarray
    r_ij: np.ndarray
    first: np.ndarray
    slot: np.ndarray | None = None
    whole: bool = False
    room: np.ndarray | None = None

    def gradient(self) -> np.ndarray:
        """(m, 3) float64 for a gradient, contents undefined."""
        return namespace(self.r_ij).empty((len(self.center), 3)) if self.room is None else self.room
