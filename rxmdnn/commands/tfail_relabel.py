"""``rxmdnn tfail relabel FRAMES``: true force errors on frames of a study, from a reference engine."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import ase
from tqdm import tqdm

from rxmdnn import files
from rxmdnn.errors import InputError
from rxmdnn.locks import LOCK, held
from rxmdnn.survival import results
from rxmdnn.survival.figures import true_force_figure
from rxmdnn.survival.true_force import COLUMNS, CSV, FIGURE, FRAMES, SAMPLE, chosen, compare_all, read_rows, table


def main(argv: Sequence[str]) -> None:
    """Label the frames that have no label yet; write relabelled.xyz, true_forces.csv and true_forces.png."""
    from rxmdnn.labelling.engines import KNOWN, engine_of

    a = _arguments(argv, KNOWN)
    if a.workers < 1 or (a.most is not None and a.most < 1):
        raise InputError("relabel: --workers and --most must be positive")
    engine = engine_of(a.engine)
    frames = chosen(a.frames, a.most, a.atoms, a.kind)
    folder = a.out or a.frames[0].parent / re.sub(r"[^\w.-]+", "_", f"relabel_{a.engine}")
    with held(folder / LOCK, f"{folder}: another command writes to this folder; wait for its end, or use another --out"
              ), files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        failed = _label(frames, folder, a.engine, a.workers)
        rows = read_rows(folder / CSV)
        if not rows:
            raise InputError(f"{a.frames[0]}: {engine.name} could label none of {len(frames)} frames")
        print(table(rows) + (f"\n{failed} frames could not be labelled" if failed else ""))
        true_force_figure(rows, folder / FIGURE)
    print(f"{CSV}, {FRAMES}, {FIGURE} are in {folder}")


def _arguments(argv: Sequence[str], engines: str) -> argparse.Namespace:
    p = argparse.ArgumentParser("rxmdnn tfail relabel", description="True force errors, from a reference engine.")
    p.add_argument("frames", metavar="FRAMES", type=Path, nargs="+", help="failures.xyz of a study")
    p.add_argument("--engine", default="gfn1", help=f"reference engine: {engines} (default: gfn1)")
    p.add_argument("--most", type=int, help="maximum number of frames of each kind, evenly spaced (default: all)")
    p.add_argument("--atoms", type=int, help="only frames of this many atoms; small ones cost the engine least")
    p.add_argument("--kind", choices=(SAMPLE, "before", "failure"), help="only frames of this kind")
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: 2)")
    p.add_argument("--out", metavar="DIR", type=Path, help="output folder (default: relabel_<engine> beside FRAMES)")
    return p.parse_args(argv)


def _label(frames: list[ase.Atoms], folder: Path, engine: str, workers: int) -> int:
    """Append the frames without a row to both files; the number of frames that the engine could not label."""
    done = read_rows(folder / CSV)
    complete = [text for _, text in results.complete_frames(folder / FRAMES)][: len(done)]
    files.write_text(folder / FRAMES, "".join(complete))
    files.write_text(folder / CSV, results.line(COLUMNS) + "".join(results.line(list(r.values())) for r in done))
    known = {(r["run"], int(r["step"]), r["kind"]) for r in done}
    rest = [f for f in frames if (f.info["run"], f.info["step"], f.info["kind"]) not in known]
    failed = 0
    bar = tqdm(compare_all(rest, engine, workers), total=len(frames), initial=len(frames) - len(rest), unit="frame")
    for found in bar:
        if isinstance(found, str):
            failed += 1
            bar.write(f"not labelled: {found}")
            continue
        files.append(folder / FRAMES, found[1])
        files.append(folder / CSV, results.line(found[0]))
    return failed
