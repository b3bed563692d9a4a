"""What makes a model survive: ``python tools/robust_study.py FOLDER [--seeds 6] [--tables DIR] [--report]``.

Recipes of training (arms) at equal architecture, data and cost of a run, several training seeds each: train, run until
failure on the ladder of robust.in, measure the sharpness. One process; the most informative arms first, all seeds of
them in turn, so that what is done at any moment compares arms fairly. A killed study goes on when it is run again;
FOLDER/ledger.jsonl says what was done, with CPU seconds. ``--report`` only makes tables and figure of what is there.

One unit of compute is the base training: 16 epochs of Adam, 45 CPU seconds. A step with SAM costs two gradients. All
arms with 6 seeds take about 10 CPU-hours.
"""

import argparse
import csv
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator

from rxmdnn.errors import InputError
from rxmdnn.survival import results, statistics
from rxmdnn.survival.ratios import CommonShape, common_shape, log_times, ratio
from rxmdnn.survival.statistics import FailureTimes

RXMDNN = [sys.executable, "-m", "rxmdnn"]
AMMONIA = Path(__file__).resolve().parent.parent / "input/ammonia"
DECKS = AMMONIA / "fidelity"
BASE = "adam_x1"
GFN1_EPOCH = 3.7  # epochs of the set of the functional that cost as much as one of the GFN1-xTB set
SHARPNESS = ("--part training --loss 1 20 --frames 12 --draws 4 --starts 1 --climb-steps 2 --runs 1 --steps 10 "
             "--probes 1 --landscape 0 0")


class Arm(NamedTuple):
    """Epochs (over those of the base), gradients per step, and lines of the training deck."""

    epochs: float
    gradients: float
    flags: str = ""


ARMS = {
    BASE: Arm(1, 1), "adam_x2": Arm(2, 1), "adam_x4": Arm(4, 1), "adam_x8": Arm(8, 1),
    **{f"sam{rho}_x{n}": Arm(n / 2, 2, f"--sam {rho}") for rho in (0.002, 0.005, 0.01, 0.02) for n in (2, 4)},
    "sam0.005_x8": Arm(4, 2, "--sam 0.005"),
    "sam0.005_equal": Arm(3, 2, "--sam 0.005 --stop_at_force {goal}"),  # to the validation error of adam_x2
    "late_x2": Arm(27 / 16, 1.2, "--sam 0.01 .false. 0.8"),
    "ema_x2": Arm(2, 1, "--ema_horizon 0.1"),
    "noise0.01_x2": Arm(2, 1, "--noise 0.01"), "noise0.02_x2": Arm(2, 1, "--noise 0.02"),
    "decay_x2": Arm(2, 1, "--weight_decay 0.1"),
    "decorrelation_x2": Arm(2, 1, "--decorrelation 0.1"),
    "zbl_x2": Arm(2, 1, "--zbl T 0.8"),
    "frames_x2": Arm(2, 1, "--weight_close 3 0.85 --weight_stretched 3 1.2"),
    "energies_x2": Arm(2, 1, "--weight_energies 0.1"),
    "gfn1_x2": Arm(1, 1, "--from_model {gfn1}"),
}
PHASES = (  # the most informative first
    (BASE, "adam_x2", "sam0.005_x2", "ema_x2", "noise0.01_x2", "late_x2"),
    ("adam_x4", "sam0.005_equal", "sam0.005_x4"),
    ("gfn1_x2", "zbl_x2", "decay_x2", "frames_x2", "energies_x2", "decorrelation_x2", "noise0.02_x2", "sam0.02_x2"),
    ("adam_x8", "sam0.005_x8", "sam0.002_x2", "sam0.01_x2"),
    ("sam0.002_x4", "sam0.01_x4", "sam0.02_x4"),
)


class Study:
    """The files of a study and the steps that make them.

    Files of an arm and a seed: models/<arm>_<seed>.safetensors, train/<arm>_<seed>.json, runs/results.csv (all),
    life/<arm>_<seed> (empty: its runs are done), sharpness/<arm>_<seed>.json.
    """

    def __init__(self, folder: Path, epochs: int) -> None:
        self.folder, self.epochs = folder.resolve(), epochs
        for name in ("models", "train", "life", "sharpness", "log", "work"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def call(self, arm: str, seed: int, step: str, words: list[str]) -> None:
        """One command, with its output in log/ and a line in the ledger."""
        start, before = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN)
        with (self.folder / f"log/{arm}_{seed}_{step}").open("a") as log:
            subprocess.run([*RXMDNN, *words], stdout=log, stderr=log, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        row = {"arm": arm, "seed": seed, "step": step, "cpu_s": round(cpu, 1), "wall_s": round(time.time() - start, 1)}
        with (self.folder / "ledger.jsonl").open("a") as ledger:
            ledger.write(json.dumps(row) + "\n")
        print(time.strftime("%H:%M:%S"), row, flush=True)

    def train(self, arm: str, seed: int) -> None:
        name = f"{arm}_{seed}"
        done = self.folder / f"train/{name}.json"
        if done.exists():
            return
        of = ARMS[arm]
        places: dict[str, Any] = {}
        if "{goal}" in of.flags:
            self.train("adam_x2", seed)
            places["goal"] = f"{1e3 * self.report('adam_x2', seed)['validation']['all']['force_mae']:.3f}"
        if "{gfn1}" in of.flags:
            places["gfn1"] = self._cheap_model(seed)
        new = self.folder / f"work/{name}.json"
        self.call(arm, seed, "train", [
            "train", str(DECKS / "train_arm.in"), "--data", str(AMMONIA / "revpbe_d3bj.xyz"), "--seed", str(seed),
            "--epochs", str(round(of.epochs * self.epochs)), "--outDir", str(self.folder / "work" / name), "--model",
            str(self.folder / f"models/{name}.safetensors"), "--json", str(new), *of.flags.format(**places).split()])
        new.rename(done)

    def _cheap_model(self, seed: int) -> Path:
        """A model of the GFN1-xTB set, of as much compute as the base training."""
        model = self.folder / f"work/gfn1_{seed}.safetensors"
        if not model.exists():
            self.call("gfn1", seed, "pretrain", [
                "train", str(DECKS / "train_arm.in"), "--data", str(AMMONIA / "gfn1_xtb.xyz"), "--seed", str(seed),
                "--epochs", str(max(1, round(self.epochs / GFN1_EPOCH))), "--batch", "1", "--outDir",
                str(self.folder / f"work/gfn1_{seed}"), "--model", str(model)])
        return model

    def live(self, arm: str, seed: int) -> None:
        name = f"{arm}_{seed}"
        if not (self.folder / "life" / name).exists():
            self.call(arm, seed, "life", ["tfail", str(DECKS / "robust.in"), "--outDir", str(self.folder / "runs"),
                                          "--model", str(self.folder / f"models/{name}.safetensors"), arm, str(seed)])
            (self.folder / "life" / name).touch()

    def measure(self, arm: str, seed: int) -> None:
        """Largest eigenvalue of the Hessian of the loss of 12 training frames."""
        name = f"{arm}_{seed}"
        done, new = self.folder / f"sharpness/{name}.json", self.folder / f"work/{name}_sharpness.json"
        if not done.exists():
            self.call(arm, seed, "sharpness", [
                "sharpness", str(self.folder / f"models/{name}.safetensors"), str(AMMONIA / "revpbe_d3bj.xyz"),
                *SHARPNESS.split(), "--out", str(self.folder / "work" / name), "--json", str(new)])
            new.rename(done)

    def run(self, seeds: int, arms: list[str]) -> None:
        """Everything that is not done yet; the last seed first, whose starts serve the others too."""
        order = range(seeds, 0, -1)
        for every in PHASES:
            phase = [arm for arm in every if arm in arms]
            for seed in order:
                for arm in phase:
                    self.train(arm, seed)
                    self.live(arm, seed)
            for seed in order:
                for arm in phase:
                    self.measure(arm, seed)

    def report(self, arm: str, seed: int) -> dict[str, Any]:
        """The report of a training."""
        return json.loads((self.folder / f"train/{arm}_{seed}.json").read_text())

    def properties(self, arm: str, seed: int) -> dict[str, float]:
        """Compute, epochs, errors and sharpness of a model."""
        trained, of = self.report(arm, seed), ARMS[arm]
        errors, path = trained["validation"]["all"], self.folder / f"sharpness/{arm}_{seed}.json"
        extra = 1.0 if "{gfn1}" in of.flags else 0.0
        out = {"compute": extra + trained["epochs"] / self.epochs * of.gradients, "epochs": float(trained["epochs"]),
               "force_mae_meV_per_A": 1e3 * errors["force_mae"], "force_rmse_meV_per_A": 1e3 * errors["force_rmse"],
               "test_force_mae_meV_per_A": 1e3 * trained["test"]["all"]["force_mae"]}
        if path.exists():
            out["lambda_max"] = json.loads(path.read_text())["hessian"]["largest"][0]["value"]
        return out


# ------------------------------------------------------------------------------------------------ tables and figure
def run_table(study: Study, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row per run: its model, with its properties, and its time to failure or to the cap."""
    return [{"arm": r["arm"], "training_seed": r["training_seed"], **study.properties(r["arm"], r["training_seed"]),
             **{k: r[k] for k in ("n_atoms", "temperature_K", "replica", "time_fs", "failed")}} for r in rows]


def against(times: FailureTimes, arm: str, base: str, name: str, shape: CommonShape) -> dict[str, float]:
    """Time to failure of an arm over that of another, as columns of ``name``; none where it cannot be had."""
    try:
        found = ratio(times, arm, base, shape)
    except InputError:
        return {}
    return {f"ratio_to_{name}": found.value, f"ratio_to_{name}_low": found.low, f"ratio_to_{name}_high": found.high,
            f"seeds_{name}": found.seeds}


def exponent(times: FailureTimes, shape: CommonShape) -> dict[str, float]:
    """The exponent b of one arm, and its standard error by the curvature of the likelihood."""
    try:
        fit = statistics.fit_arm(times, shape.reference)
    except InputError:
        return {}
    return {"b": fit.values["b"], "b_sigma": fit.errors["b"]}


def arm_table(study: Study, times: FailureTimes) -> list[dict[str, Any]]:
    """A row per arm: means over its seeds, counts, ratios to the base and to Adam of about the same compute.

    ratio_at_equal_error is over the line of Adam's models, ln(time to failure) against ln(force MAE).
    """
    shape, out = common_shape(times), []
    lives = log_times(times, shape)
    known = {m: study.properties(*_names(m)) for m in lives}
    x, y = ([of(m) for m in lives if m.startswith("adam")] for of in (
        lambda m: np.log(known[m]["force_mae_meV_per_A"]), lambda m: lives[m]))
    line = np.polyfit(x, y, 1) if len(x) > 3 else None
    for arm in [a for a in ARMS if a in times.arm]:
        of = times[times.arm == arm]
        models = np.unique(of.model).tolist()
        row: dict[str, Any] = {"arm": arm, "models": len(models), "runs": len(of), "failures": int(of.failed.sum())}
        for key in ("compute", "force_mae_meV_per_A", "force_rmse_meV_per_A", "lambda_max"):
            values = [known[m][key] for m in models if key in known[m]]
            if values:
                row[key] = float(np.mean(values))
        row["ln_time_fs"] = float(np.mean([lives[m] for m in models]))
        row |= exponent(of, shape)
        equal = min(("adam_x1", "adam_x2", "adam_x4", "adam_x8"), key=lambda a: abs(
            np.log(ARMS[a].epochs / row["compute"])))
        for base, name in ((BASE, BASE), (equal, "adam_of_equal_compute")):
            if arm not in ("adam_x1", base) and base in times.arm:
                row |= against(times, arm, base, name, shape)
        if line is not None:
            rest = [lives[m] - np.polyval(line, np.log(known[m]["force_mae_meV_per_A"])) for m in models]
            row["ratio_at_equal_error"] = float(np.exp(np.mean(rest)))
            if len(rest) > 1:  # of its logarithm
                row["ratio_at_equal_error_sigma"] = float(np.std(rest, ddof=1) / len(rest) ** 0.5)
        out.append(row)
    return out


def _names(model: str) -> tuple[str, int]:
    arm, _, seed = model.rpartition("_")
    return arm, int(seed)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as out:
        table = csv.DictWriter(out, list(dict.fromkeys(k for r in rows for k in r)), lineterminator="\n")
        table.writeheader()
        table.writerows({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in r.items()} for r in rows)


def draw(path: Path, rows: list[dict[str, Any]]) -> None:
    """Ratio of the time to failure to that of the base, with its interval, against error, sharpness and compute."""
    key = f"ratio_to_{BASE}"
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.6), sharey=True, layout="constrained")
    for axis, (x, label) in zip(axes, (("force_mae_meV_per_A", "validation force MAE (meV/Å)"),
                                       ("lambda_max", "largest eigenvalue of the Hessian"),
                                       ("compute", "compute (16 epochs of Adam)"))):
        for row in rows:
            if x not in row or (key not in row and row["arm"] != BASE):
                continue
            color = {"adam": "#2166ac", "sam0": "#d6604d", "late": "#d6604d"}.get(row["arm"][:4], "#1b7837")
            value, low, high = (row.get(key + end, 1.0) for end in ("", "_low", "_high"))
            if np.isinf(value):  # no failure: a lower bound
                axis.plot(row[x], value := low, "^", ms=5, color=color)
            else:
                axis.errorbar(row[x], value, np.nan_to_num([[value - low], [high - value]]), fmt="o", ms=4, lw=0.9,
                              color=color)
            axis.annotate(row["arm"], (row[x], value), xytext=(4, 3), textcoords="offset points", fontsize=6.5)
        axis.axhline(1.0, color="0.6", lw=0.7)
        axis.set(xscale="log", yscale="log", xlabel=label)
        axis.margins(x=0.15)
        axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
    axes[0].set_ylabel(f"time to failure / that of {BASE} (95 %)")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--seeds", type=int, default=6)
    p.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM", help="only these")
    p.add_argument("--epochs", type=int, default=16, help="of the base training")
    p.add_argument("--report", action="store_true", help="only tables and figure")
    p.add_argument("--tables", type=Path, help="where they go (default: FOLDER)")
    a = p.parse_args()
    study = Study(a.folder, a.epochs)
    if not a.report:
        study.run(a.seeds, a.arms)
    rows = [r for r in results.read(study.folder / "runs") if (study.folder / "life" / r["model"]).exists()]
    places = a.tables or study.folder
    table = arm_table(study, results.failure_times(rows))
    write_table(places / "robust_study.csv", run_table(study, rows))
    write_table(places / "robust_study_arms.csv", table)
    draw(places / "robust_study.png", table)
    print((places / "robust_study_arms.csv").read_text())


if __name__ == "__main__":
    main()
