"""Picture of a path-integral run: nitrogen in blue, every bead of each hydrogen in white.

    rxmdnn run --rxmdin input/ammonia/rxmd.in --structure input/ammonia/solid_I.cif 2 2 1 --outDir PI --time 0.5 360 \\
        --pimd 24 pimd --ensemble langevin 0.05 --temperature 160 1 1 --pimd_dump 60
    python tools/render_rings.py PI docs/_static/front.png

Spheres in perspective with a depth buffer, light from above, and darkening where near spheres stand in front.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, zoom

COLORS = {"N": (0.22, 0.38, 0.95), "H": (0.97, 0.97, 0.99)}
RADII = {"N": 0.42, "H": 0.11}  # Å
BACKGROUND = np.array([0.055, 0.075, 0.13])
LIGHT = np.array([-0.45, 0.65, 0.62])


def beads(folder: Path) -> tuple[list[np.ndarray], list[str], np.ndarray]:
    """Positions of the last frame of every bead, whole molecules, Å; elements; cell vectors."""
    out: list[np.ndarray] = []
    names: list[str] = []
    cell = np.eye(3)
    for path in sorted(folder.glob("bead_*.h5md")):
        with h5py.File(path) as file:
            x = file["particles/all/position/value"][-1]
            cell = file["particles/all/box/run_edges"][-1]
            kinds = [word.decode() for word in file["parameters/elements"][:]]
            names = [kinds[k] for k in file["particles/all/species"][:]]
            x = x + file["particles/all/image/value"][-1] @ cell
        out.append(x)
    return out, names, cell


def spheres(folder: Path, repeats: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centers, radii and colors of all spheres, the cell repeated around the origin."""
    rings, names, cell = beads(folder)
    centers, radii, colors = [], [], []
    shifts = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in repeats], indexing="ij"), -1).reshape(-1, 3)
    is_n = np.array([name == "N" for name in names])
    middle = 0.5 * np.ones(3) @ cell
    wrap = rings[0] - rings[0] @ np.linalg.inv(cell) % 1.0 @ cell  # moves the first bead of each atom into the cell
    apart = np.linalg.norm(_nearest(rings[0][:, None] - rings[0][None, is_n], cell), axis=-1)
    home = np.where(is_n)[0][np.argmin(apart, axis=1)]
    bond = _nearest(rings[0] - rings[0][home], cell) - (rings[0] - rings[0][home])
    for x in rings:
        placed = x - wrap[home] + bond - middle
        for shift in shifts @ cell:
            for element, mask in (("N", is_n), ("H", ~is_n)):
                centers.append(placed[mask] + shift)
                radii.append(np.full(mask.sum(), RADII[element]))
                colors.append(np.tile(COLORS[element], (mask.sum(), 1)))
    return np.concatenate(centers), np.concatenate(radii), np.concatenate(colors)


def _nearest(d: np.ndarray, cell: np.ndarray) -> np.ndarray:
    return d - np.round(d @ np.linalg.inv(cell)) @ cell


def render(centers: np.ndarray, radii: np.ndarray, colors: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width, 3) picture of the spheres seen along a tilted axis."""
    a, b = np.radians(24), np.radians(17)
    turn = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]) @ np.array(
        [[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    x = centers @ turn.T
    far = x[:, 2].max() + 9.0
    depth = far - x[:, 2]
    scale = 1.25 * width / 2 / depth
    px, py, pr = width / 2 + x[:, 0] * scale, height / 2 - x[:, 1] * scale, radii * scale
    near = np.full((height, width), np.inf)
    normal = np.zeros((height, width, 3))
    base = np.tile(BACKGROUND, (height, width, 1))
    for k in np.argsort(-depth):
        x0, x1 = int(max(px[k] - pr[k], 0)), int(min(px[k] + pr[k] + 2, width))
        y0, y1 = int(max(py[k] - pr[k], 0)), int(min(py[k] + pr[k] + 2, height))
        if x0 >= x1 or y0 >= y1:
            continue
        u = (np.arange(x0, x1)[None] - px[k]) / pr[k]
        v = (py[k] - np.arange(y0, y1)[:, None]) / pr[k]
        w = 1.0 - u**2 - v**2
        z = depth[k] - radii[k] * np.sqrt(np.maximum(w, 0.0))
        seen = (w > 0) & (z < near[y0:y1, x0:x1])
        near[y0:y1, x0:x1][seen] = z[seen]
        n = np.stack(np.broadcast_arrays(u, v, np.sqrt(np.maximum(w, 0.0))), -1)
        normal[y0:y1, x0:x1][seen] = n[seen]
        base[y0:y1, x0:x1][seen] = colors[k]
    hit = np.isfinite(near)
    depth_map = np.where(hit, near, depth.max())
    dark = np.zeros((height, width))
    for sigma, reach in ((3, 0.6), (9, 1.4), (24, 3.0)):  # Å that stand in front of a pixel, on several scales
        dark += np.clip((depth_map - gaussian_filter(depth_map, sigma)) / reach, 0.0, 1.0) / 3
    light = LIGHT / np.linalg.norm(LIGHT)
    shine = np.clip(normal @ light, 0.0, None)
    half = light + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    gloss = np.clip(normal @ half, 0.0, None) ** 40
    picture = base * (0.34 + 0.72 * shine)[..., None] * (1.0 - 0.75 * dark)[..., None] + 0.30 * gloss[..., None]
    fog = np.clip((depth_map - depth.min()) / np.ptp(depth), 0.0, 1.0) ** 1.6 * 0.72
    picture = picture * (1 - fog)[..., None] + BACKGROUND * fog[..., None]
    return np.clip(np.where(hit[..., None], picture, BACKGROUND), 0.0, 1.0)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path, help="outDir of a run with pimd_dump")
    p.add_argument("picture", type=Path)
    p.add_argument("--width", type=int, default=1280)
    p.add_argument("--height", type=int, default=480)
    a = p.parse_args()
    drawn = render(*spheres(a.folder, (5, 2, 4)), 2 * a.width, 2 * a.height)
    small = np.clip(zoom(drawn, (0.5, 0.5, 1), order=1), 0.0, 1.0)
    Image.fromarray((255 * small).astype(np.uint8)).quantize(256).save(a.picture, optimize=True)


if __name__ == "__main__":
    main()
