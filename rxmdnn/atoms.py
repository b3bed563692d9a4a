"""The state of a run: atoms as a struct of arrays, and the edges between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rxmdnn.arrays import Array, namespace

EXCITATION = "excitation"  # row of Atoms.extra: (n_owned,) weights of the excited surface, and column of frames
CHARGES = "charges"  # row of Atoms.extra: (n_owned,) charges, or (n_owned, 9) Born tensors xx xy xz yx ... zz, e


@dataclass(frozen=True)
class Field:
    """One array of Atoms.

    Attributes
    ----------
    name, dtype, row : of the array, and the shape of one row
    migrates : whether it goes with an atom that changes its owner
    copied : whether copies of the atoms of other owners have it
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
    """Atoms of a rank: rows [0, n_owned) are owned, rows [n_owned, n_all) are copies of atoms of other owners.

    Attributes
    ----------
    gid     (n_all,)     int64     global number, never reused
    species (n_all,)     int32     index into the run's element list
    x       (n_all, 3)   float64   position, Å, continuous across the domain's faces
    v       (n_owned, 3) float64   velocity, Å/fs
    image   (n_owned, 3) int32     periods crossed since the start: x + image @ h is the unwrapped position
    f       (n_all, 3)   float64   force, eV/Å; the row of a copy must be given back to its owner
    n_owned int
    extra   {name: (n_owned, ...)}   further arrays that migrate with their atom
    """

    gid: Array
    species: Array
    x: Array
    v: Array
    image: Array
    f: Array
    n_owned: int
    extra: dict[str, Array] = field(default_factory=dict)

    @property
    def n_all(self) -> int:
        return len(self.gid)

    @classmethod
    def of(cls, gid: np.ndarray, species: np.ndarray, x: np.ndarray, v: np.ndarray | None = None,
           image: np.ndarray | None = None, f: np.ndarray | None = None) -> Atoms:
        """Atoms without copies; missing arrays are zero."""
        n = len(gid)
        given = {"gid": gid, "species": species, "x": x, "v": v, "image": image, "f": f}
        arrays: dict[str, Array] = {}
        for a in FIELDS:
            array = given[a.name]
            arrays[a.name] = np.zeros((n, *a.row), a.dtype) if array is None else np.ascontiguousarray(array, a.dtype)
        return cls(**arrays, n_owned=n)

    def on(self, convert: Callable[[Array], Array]) -> Atoms:
        """The same atoms with every array converted, to a device or from it."""
        return Atoms(**{a.name: convert(getattr(self, a.name)) for a in FIELDS}, n_owned=self.n_owned,
                     extra={name: convert(array) for name, array in self.extra.items()})


@dataclass
class Edges:
    """Directed pairs inside the cutoff (all pairs of the list if ``with_skin``), grouped by center; centers are owned.

    Attributes
    ----------
    center        (m,)           int32    row of the owned atom at the origin
    neighbor      (m,)           int32    row of the other atom, owned or copy
    r_ij          (m, 3)         float64  x[neighbor] - x[center], Å
    first         (n_owned + 1,) int64    edges of atom i are first[i]:first[i + 1]
    index_in_list (m_skin,)      int64    for edges from a list with a skin: the edge of each pair of the list, or -1
    with_skin     bool                    the edges are all pairs of the list, also those beyond the cutoff
    scratch       (m, 3)         float64  if given, memory for the gradient: to allocate it anew costs more than to fill
                                          it
    progress      callable                if given, a potential may call it now and then: messages travel meanwhile
    """

    center: Array
    neighbor: Array
    r_ij: Array
    first: Array
    index_in_list: Array | None = None
    with_skin: bool = False
    scratch: Array | None = None
    progress: Callable[[], None] | None = None

    def gradient(self) -> Array:
        """(m, 3) float64 for a gradient, contents undefined."""
        return namespace(self.r_ij).empty((len(self.center), 3)) if self.scratch is None else self.scratch
