"""Scan SAM's rho: ``python tools/rho_scan.py DECK FOLDER 0 0.005 0.01 ... [--jobs 2] [--epochs N]``.

Trains the deck once for each rho (0: without SAM; the other words of its line 'sam' stay), measures each model's errors
on the validation frames and its sharpness, and writes FOLDER/rho_scan.csv. A killed scan goes on when it is run again.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

RXMDNN = [sys.executable, "-m", "rxmdnn"]


def words_of(deck: Path, keyword: str) -> list[str]:
    """Words of a deck's line, without what is remarked; none where the deck does not have it."""
    lines = (re.split("[<#]", line)[0].split() for line in deck.read_text().splitlines())
    return next((words[1:] for words in lines if words[:1] == [keyword]), [])


def measure(deck: Path, folder: Path, rho: str, flags: list[str]) -> dict[str, str | float]:
    """Train, evaluate, measure the sharpness; what is done already is not done again."""
    here = folder / f"rho_{rho}"
    here.mkdir(parents=True, exist_ok=True)
    model = here / "model.safetensors"
    data = [str(deck.parent / w) for w in words_of(deck, "data")]
    weights = words_of(deck, "loss") or ["1", "1"]
    jobs = {
        "training.json": ["train", str(deck), "--outDir", str(here / "training"), "--model", str(model), "--sam", rho,
                          *words_of(deck, "sam")[1:], *flags],
        "evaluation.json": ["evaluate", str(model), *data, "--part", "validation", "--out", str(here)],
        "sharpness.json": ["sharpness", str(model), *data, "--part", "training", "--frames", "12", "--loss",
                           *weights, "--draws", "20", "--starts", "1", "--runs", "1", "--steps", "18", "--probes",
                           "2", "--landscape", "0", "0", "--out", str(here)],
    }
    for name, words in jobs.items():
        if not (here / name).exists():
            with (here / f"{Path(name).stem}.log").open("w") as log:
                subprocess.run([*RXMDNN, *words, "--json", str(here / name)], stdout=log, stderr=log, check=True)
    training, evaluation, sharpness = (json.loads((here / name).read_text()) for name in jobs)
    metrics = list(csv.DictReader((here / "training/metrics.csv").open()))
    errors, tail = evaluation["errors"]["all"], evaluation["tail"]["all"]
    return {
        "rho": rho, "epochs": training["epochs"], "minutes": round(training["seconds"] / 60, 2),
        "validation_loss": float(metrics[int(training["kept_epoch"]) - 1]["validation_loss"]),
        "force_mae_meV_per_A": 1e3 * errors["force_mae"], "force_rmse_meV_per_A": 1e3 * errors["force_rmse"],
        "above_5_rmse_ppm": 1e6 * tail["above_5"],
        "lambda_max": sharpness["hessian"]["largest"][0]["value"], "trace": sharpness["hessian"]["trace"]["mean"],
        "trace_error": sharpness["hessian"]["trace"]["error"], "noise_rise": sharpness["noise"]["mean"],
        "noise_rise_error": sharpness["noise"]["error"], "entropy": sharpness["entropy"]["value"],
        "ball_rise": sharpness["climb"]["max"], "weight_norm": sharpness["norm"],
    }


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("deck", type=Path)
    p.add_argument("folder", type=Path)
    p.add_argument("rho", nargs="+")
    p.add_argument("--jobs", type=int, default=2, help="trainings beside each other, of one thread each")
    a, flags = p.parse_known_args()
    with ThreadPoolExecutor(a.jobs) as pool:
        rows = list(pool.map(lambda rho: measure(a.deck, a.folder, rho, flags), a.rho))
    with (a.folder / "rho_scan.csv").open("w", newline="") as out:
        table = csv.DictWriter(out, list(rows[0]))
        table.writeheader()
        table.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
    print((a.folder / "rho_scan.csv").read_text())


if __name__ == "__main__":
    main()
