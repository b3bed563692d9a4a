"""Hazards of the models of input/ammonia/fidelity/robust_life.in: ``python tools/robust_life.py DIR``.

DIR is the folder of that study. Ratios of times to failure are the inverse of hazard ratios of a Cox model that has a
baseline of its own for each size and temperature (Cox, J. R. Stat. Soc. B 34, 187 (1972)); without a failure of one
model, or with constant hazards, they are what one expects. A failure counts as torn if the hydrogen that left its
nitrogen is bound to no other one at the end (nearest beyond 1.35 Å), otherwise a proton has been transferred.
Writes tools/results/robust_life.csv: model, ratio to the first model, its 95 % interval, runs, failures, torn.
"""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from lifelines import CoxPHFitter

from rxmdnn.io.read_atoms import read_atoms

BOUND = 1.35  # Å
RESULTS = Path(__file__).parent / "results/robust_life.csv"


def torn(frame) -> bool:
    """Whether the hydrogen whose bond broke is bound to no nitrogen."""
    nitrogen, hydrogen = (np.flatnonzero(frame.numbers == z) for z in (7, 1))
    left = int(frame.info["gid"])
    if left not in hydrogen:  # the criterion names one end of the bond
        nearest = [frame.get_distances(h, nitrogen, mic=True).min() for h in hydrogen]
        left = hydrogen[int(np.argmax(nearest))]
    return frame.get_distances(left, nitrogen, mic=True).min() > BOUND


def main() -> None:
    folder = Path(sys.argv[1])
    runs = pd.read_csv(folder / "results.csv")
    frames = read_atoms(folder / "failures.xyz", ":")
    last = {str(f.info["run"]): torn(f) for f in frames if f.info["kind"] == "failure"}
    runs["torn"] = [last.get(run, False) for run in runs["run"]]
    runs["cell"] = runs["n_atoms"].astype(str) + "/" + runs["temperature_K"].astype(str)
    first, *others = sorted(set(runs["model"]), key=lambda name: "former" not in name)
    rows = []
    for model in (first, *others):
        ratio = (1.0, 1.0, 1.0)
        if model != first:
            pair = runs[runs["model"].isin([first, model])].assign(other=lambda r, m=model: (r["model"] == m) * 1.0)
            fit = CoxPHFitter().fit(pair[["time_fs", "failed", "cell", "other"]], "time_fs", "failed", strata="cell")
            low, high = fit.confidence_intervals_.loc["other"]
            ratio = tuple(np.exp([-fit.params_["other"], -high, -low]))
        own = runs[runs["model"] == model]
        rows.append([model, *(f"{x:.3g}" for x in ratio), len(own), own["failed"].sum(), own["torn"].sum()])
    with RESULTS.open("w", newline="") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerows([["model", "ratio", "low", "high", "runs", "failures", "torn"], *rows])
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
