"""``rxmdnn tfail relabel FRAMES``: true force errors on frames of a study, by a reference engine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from tqdm import tqdm

from rxmdnn.analysis.style import STYLE
from rxmdnn.errors import InputError
from rxmdnn.survival import results
from rxmdnn.survival.true_force import COLUMNS, CSV, FIGURE, FRAMES, SAMPLE, _judged, chosen, draw, read_rows, table


def main(argv: Sequence[str]) -> None:
    """Label what is not labelled yet; write relabelled.xyz, true_forces.csv and true_forces.png."""
    from rxmdnn.labelling.labelling import ENGINES

    p = argparse.ArgumentParser("rxmdnn tfail relabel", description="How wrong forces were, by a reference engine.")
    p.add_argument("frames", metavar="FRAMES", type=Path, nargs="+", help="failures.xyz of a study")
    p.add_argument("--engine", choices=sorted(ENGINES), default="gfn1")
    p.add_argument("--most", type=int, help="at most so many frames of each kind, evenly (default: all)")
    p.add_argument("--atoms", type=int, help="only frames of so many atoms: a study's small ones cost an engine least")
    p.add_argument("--kind", choices=(SAMPLE, "before", "failure"), help="only these frames")
    p.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    p.add_argument("--out", metavar="DIR", type=Path, help="where files go (default: relabel_<engine> beside FRAMES)")
    a = p.parse_args(argv)
    if a.workers < 1 or (a.most is not None and a.most < 1):
        raise InputError("relabel: --workers and --most must be above zero")
    frames = chosen(a.frames, a.most, a.atoms, a.kind)
    folder = a.out or a.frames[0].parent / f"relabel_{a.engine}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        done = read_rows(folder / CSV)
        text = [t for _, t in results.whole_frames(folder / FRAMES)][: len(done)]
        results.replace(folder / FRAMES, "".join(text))
        results.replace(folder / CSV, results.line(COLUMNS) + "".join(results.line(list(r.values())) for r in done))
        known = {(r["run"], int(r["step"]), r["kind"]) for r in done}
        rest = [f for f in frames if (f.info["run"], f.info["step"], f.info["kind"]) not in known]
        bar = tqdm(_judged(rest, a.engine, a.workers), total=len(frames), initial=len(frames) - len(rest), unit="frame")
        refused = 0
        for found in bar:
            if isinstance(found, str):
                refused += 1
                bar.write(f"not labelled: {found}")
                continue
            results.append(folder / FRAMES, found[1])
            results.append(folder / CSV, results.line(found[0]))
        rows = read_rows(folder / CSV)
        if not rows:
            raise InputError(f"{a.frames[0]}: {ENGINES[a.engine].name} could label none of {len(frames)} frames")
        print(table(rows) + (f"\n{refused} frames could not be labelled" if refused else ""))
        with plt.rc_context(STYLE):
            draw(rows, folder / FIGURE)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    print(f"{CSV}, {FRAMES}, {FIGURE} are in {folder}")
