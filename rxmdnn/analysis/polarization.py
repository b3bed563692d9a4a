"""Local polarization about cages of atoms, such as those of a perovskite: p = (1/V_c) Σ_j w_j Z_j u_j.

A cage is a center (B of ABO3) with its nearest neighbors of other elements (6 O, 8 A). An atom's weight w is one over
the number of cages that it belongs to: 1 for B, 1/2 for O, 1/8 for A (Meyer and Vanderbilt, Phys. Rev. B 65, 104111
(2002)). V_c is the volume of the cell per cage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.units import C_M2_PER_E_A2

SHELL = 1.1  # the next neighbor must be farther than the last of the cage by this factor
BLOCK = 512  # centers whose distances to all atoms are computed at once


@dataclass(frozen=True)
class Cages:
    """Cages of a structure.

    Attributes
    ----------
    center (n,) int64 : rows of the atoms at their centers
    member (n, m) int64 : rows of the neighbors
    apart (n, m, 3) float64 : fractional vector from the center to each neighbor, in the structure that the cages were
        found in
    weight (atoms,) float64 : one over the number of cages of each atom; 0 for an atom of none
    """

    center: np.ndarray
    member: np.ndarray
    apart: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, names: np.ndarray, x: np.ndarray, cell: Cell, centers: Sequence[str],
           shells: Sequence[tuple[Sequence[str], int]]) -> Cages:
        """The cages of a structure.

        Parameters
        ----------
        names (n,), x (n, 3) Å, cell : of the structure
        centers : elements of the centers
        shells : (elements, number of nearest neighbors of these elements) pairs

        Raises InputError where there is no center, or the nearest neighbors are not a shell of their own.
        """
        center = np.flatnonzero(np.isin(names, centers))
        if not len(center):
            raise InputError(f"no atom of {', '.join(centers)}; the elements are {', '.join(np.unique(names))}")
        found = []
        for elements, number in shells:
            rows = np.flatnonzero(np.isin(names, elements))
            if not len(rows):
                raise InputError(f"no atom of {', '.join(elements)} for the cages of {', '.join(centers)}")
            found.append(_nearest(x, cell, center, rows, number, f"{number} {'+'.join(elements)}"))
        member, apart = (np.concatenate(part, axis=1) for part in zip(*found))
        count = np.bincount(np.concatenate([center, member.ravel()]), minlength=len(names))
        return cls(center, member, apart, np.where(count > 0, 1.0 / np.maximum(count, 1), 0.0))

    def charge(self, z: np.ndarray) -> np.ndarray:
        """(n, 3, 3) Σ w_j Z_j of each cage, center included, e. z : (atoms, 3, 3)."""
        of_atom = self.weight[:, None, None] * z
        return of_atom[self.center] + of_atom[self.member].sum(axis=1)

    def polarization(self, s: np.ndarray, h: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(..., n, 3) p_b = (1/V_c) Σ_j w_j Σ_a Z_j,ab (x_j - x_center)_a, C/m^2.

        The reference is any structure whose cages are symmetric about their centers. Where the charge of a cage is not
        zero, its center has the charge that makes it so.

        Parameters
        ----------
        s : (..., atoms, 3) fractional coordinates, in any period
        h : (..., 3, 3) cell vectors, Å
        z : (atoms, 3, 3) float64, e, rows for the displacement
        """
        away = s[..., self.member, :] - s[..., self.center, None, :]
        away = away - np.round(away - self.apart)
        weighted = (self.weight[:, None, None] * z)[self.member]
        volume = np.abs(np.linalg.det(h)) / len(self.center)
        p = np.einsum("nmab,...nmc,...ca->...nb", weighted, away, h, optimize=True)
        return p / volume[..., None, None] * C_M2_PER_E_A2

    def from_reference(self, u: np.ndarray, h: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(..., n, 3) p_b = (1/V_c) Σ_j w_j Σ_a Z_j,ab u_ja, C/m^2, the center included.

        The mean over the cages is the polarization of the cell for any charges, where each atom belongs to a cage.

        u : (..., atoms, 3) displacements, Å, from a reference structure; the others as of ``polarization``
        """
        of_atom = np.einsum("jab,...ja->...jb", self.weight[:, None, None] * z, u)
        volume = np.abs(np.linalg.det(h)) / len(self.center)
        total = of_atom[..., self.center, :] + of_atom[..., self.member, :].sum(axis=-2)
        return total / volume[..., None, None] * C_M2_PER_E_A2


def _nearest(x: np.ndarray, cell: Cell, center: np.ndarray, rows: np.ndarray, number: int, what: str
             ) -> tuple[np.ndarray, np.ndarray]:
    """(n, number) rows of the nearest atoms, (n, number, 3) fractional vectors to them. Raises InputError."""
    around = np.stack(np.meshgrid(*(np.arange(-1, 2) if p else np.zeros(1, int) for p in cell.pbc), indexing="ij"),
                      axis=-1).reshape(-1, 3)
    members, apart = [], []
    for start in range(0, len(center), BLOCK):
        part = center[start:start + BLOCK]
        s = (x[rows][None] - x[part][:, None]) @ cell.inverse
        wrap = -np.round(s) * cell.pbc
        d = np.linalg.norm((s + wrap)[:, :, None] @ cell.h + around @ cell.h, axis=-1).reshape(len(part), -1)
        d[d < 1e-6] = np.inf  # the center itself
        if d.shape[1] < number:
            raise InputError(f"cage: the cell has fewer than {what}")
        order = np.argsort(d, axis=1, kind="stable")
        far = np.take_along_axis(d, order[:, number - 1:number + 1], axis=1)
        if far.shape[1] > 1 and (wrong := far[:, 1] < SHELL * far[:, 0]).any():
            k = int(np.argmax(wrong))
            raise InputError(f"cage: the {what} nearest to atom {part[k] + 1} are not a shell: the last is at "
                             f"{far[k, 0]:.2f} Å, the next at {far[k, 1]:.2f} Å; choose other numbers by --cage, or a "
                             "less disordered structure by --reference")
        chosen, turn = np.divmod(order[:, :number], len(around))
        members.append(rows[chosen])
        apart.append(np.take_along_axis(s + wrap, chosen[:, :, None], axis=1) + around[turn])
    return np.concatenate(members), np.concatenate(apart)


@dataclass(frozen=True)
class Layers:
    """Centers on a grid along the cell vectors.

    Attributes
    ----------
    shape : number of sites along a, b, c
    site (n,) int64 : flat index of the grid of each center
    """

    shape: tuple[int, int, int]
    site: np.ndarray

    @classmethod
    def of(cls, s: np.ndarray, h: np.ndarray) -> Layers | None:
        """The grid of centers at fractional coordinates s, (n, 3); None where they are not on one."""
        for shape in _shapes(len(s), h):
            index = _on_grid(s, shape)
            if index is not None:
                return cls(shape, index)
        return None

    def on_grid(self, p: np.ndarray) -> np.ndarray:
        """(..., na, nb, nc, 3) values of the centers, (..., n, 3), on the grid."""
        out = np.empty_like(p)
        out[..., self.site, :] = p
        return out.reshape(*p.shape[:-2], *self.shape, 3)


def _shapes(n: int, h: np.ndarray) -> list[tuple[int, int, int]]:
    """Grids of n sites, those with the most nearly cubic cells first."""
    lengths = np.linalg.norm(h, axis=1)
    found = [(a, b, n // a // b) for a in range(1, n + 1) if n % a == 0 for b in range(1, n // a + 1)
             if n // a % b == 0]
    return sorted(found, key=lambda shape: float(np.ptp(np.log(lengths / shape))))[:12]


def _on_grid(s: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """(n,) flat index of the site of each center, or None where a site has not exactly one."""
    at = s * shape
    phase = np.exp(2j * np.pi * at).mean(axis=0)
    at = at - np.mod(np.angle(phase) / (2 * np.pi), 1.0)
    index = np.mod(np.rint(at).astype(int), shape)
    flat = np.ravel_multi_index(tuple(index.T), shape)
    return flat if len(np.unique(flat)) == len(s) else None


def charge_tensors(names: np.ndarray, charges: dict[str, np.ndarray]) -> np.ndarray:
    """(n, 3, 3) charges of atoms by element, e. Raises InputError for an element without a charge."""
    missing = sorted(set(map(str, names)) - set(charges))
    if missing:
        raise InputError(f"no charge of {', '.join(missing)}; write --charges {missing[0]}=<q> ...")
    return np.array([charges[str(name)] for name in names])
