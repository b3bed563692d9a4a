"""Frames from anywhere in the runs of a round, whether they fail or not: what labels of alarms are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rxmdnn.io.read_atoms import read_atoms
from rxmdnn.learning.choose import KIND, Chosen, has_failed
from rxmdnn.learning.cut import cut
from rxmdnn.survival import results


def choose_random(folders: Sequence[Path], count: int, most: int, axes: tuple[int, ...], seed: int) -> Chosen:
    """``count`` of the samples (the line ``samples``) of studies, cut around a random atom of each.

    folders : of studies, in a fixed order; most, axes : of ``cut``
    """
    samples, rng = [], np.random.default_rng([seed, 2])
    for folder in folders:
        path = folder / results.FRAMES
        if path.is_file() and path.stat().st_size:
            found = [a for a in read_atoms(path, format="extxyz") if a.info.get("kind") == "sample"]
            for a in found:
                a.info["run"] = f"{folder.name}/{a.info['run']}"
            samples += sorted(found, key=lambda a: (str(a.info["run"]), int(a.info["step"])))
    good = [a for a in samples if not has_failed(a)]
    frames = []
    for k in sorted(rng.permutation(len(good))[:count].tolist()):
        atoms = cut(good[k], int(rng.integers(len(good[k]))), most, axes)
        run, step = str(good[k].info["run"]).replace("/", "_"), good[k].info["step"]
        atoms.info = {"kind": KIND, "origin": f"{run}:{step}", "alarm": "none", "group": run}
        frames.append(atoms)
    return Chosen(frames, len(samples), len(samples) - len(good), 0)
