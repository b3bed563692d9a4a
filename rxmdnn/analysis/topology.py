"""Topological charge of a texture of vectors on a periodic or open lattice of sites."""

from __future__ import annotations

import numpy as np


def solid_angle(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(...) signed solid angles of the spherical triangles of unit vectors a, b, c, (..., 3), in (-2π, 2π).

    tan(Ω/2) = a·(b × c) / (1 + a·b + b·c + c·a) (van Oosterom and Strackee, IEEE Trans. Biomed. Eng. 30, 125 (1983)).
    """
    def dot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (u * v).sum(axis=-1)

    return 2.0 * np.arctan2(dot(a, np.cross(b, c)), 1.0 + dot(a, b) + dot(b, c) + dot(c, a))


def topological_charge(vectors: np.ndarray, periodic: tuple[bool, bool] = (True, True)) -> np.ndarray:
    """(...) Q = Σ Ω / 4π over the two triangles of each square of a layer; an integer where the layer is periodic.

    Berg and Lüscher, Nucl. Phys. B 190, 412 (1981). The mean over both diagonals of the squares is taken, so that a
    rotation of the layer by 90° does not change it where it is not an integer.

    Parameters
    ----------
    vectors : (..., nx, ny, 3) float64, of any length above zero; x, y and the sense of rotation are right-handed
    periodic : whether the layer repeats along x and y
    """
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    n = vectors / np.where(length > 0, length, 1.0)
    for axis, repeats in zip((-3, -2), periodic):
        if repeats:
            first = n.take([0], axis=axis)
            n = np.concatenate([n, first], axis=axis)
    p, q, r, s = n[..., :-1, :-1, :], n[..., 1:, :-1, :], n[..., 1:, 1:, :], n[..., :-1, 1:, :]
    one = solid_angle(p, q, r) + solid_angle(p, r, s)
    other = solid_angle(p, q, s) + solid_angle(q, r, s)
    return 0.5 * (one + other).sum(axis=(-2, -1)) / (4.0 * np.pi)
