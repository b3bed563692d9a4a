"""Training steps timed: SAM and late-phase SAM beside Adam, and nequip-train where an environment with it is named.

The three take turns, a step each, on the same batches, so that what else the machine does falls on all alike.
Rows go to tools/results/bench_train.csv.

    python tools/bench_train.py
    python tools/bench_train.py --nequip ENV/bin/nequip-train     # also its epochs, same architecture, data, batch
"""

import argparse
import csv
import math
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

os.environ.update(OMP_NUM_THREADS="1", NUMBA_NUM_THREADS="1", MKL_NUM_THREADS="1")

import ase.io
import torch

from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.training import dataset, labelled_frames, training
from rxmdnn.training.trainer import Trainer

HERE = Path(__file__).parent
FRAMES, BATCH, START = 24, 2, 0.8  # frames of 128 atoms; late-phase SAM begins after this part of the steps
DECK = f"""
data     set.xyz
elements N H
r_max    4.5
network  1 2 64 16
mlp      64 1 32
zbl      .false.
batch    {BATCH} frames
epochs   1000000
model    bench.safetensors
"""
LINES = {"adam": "", "sam": "sam 0.005\n", "late_sam": f"sam 0.005 .false. {START}\n"}
NEQUIP = """
run: [train]
cutoff_radius: 4.5
model_type_names: [N, H]
data:
  _target_: nequip.data.datamodule.ASEDataModule
  seed: 1
  train_file_path: set.xyz
  val_file_path: val.xyz
  transforms:
    - _target_: nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper
      model_type_names: ${model_type_names}
    - _target_: nequip.data.transforms.NeighborListTransform
      r_max: ${cutoff_radius}
  train_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: BATCH, shuffle: true}
  val_dataloader: {_target_: torch.utils.data.DataLoader, batch_size: BATCH}
trainer:
  _target_: lightning.Trainer
  accelerator: cpu
  max_epochs: 3
  logger: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks: [{_target_: bench_callback.Clock}]
training_module:
  _target_: nequip.train.EMALightningModule
  loss: {_target_: nequip.train.EnergyForceLoss, per_atom_energy: true, coeffs: {total_energy: 1.0, forces: 1.0}}
  val_metrics: {_target_: nequip.train.EnergyForceMetrics, coeffs: {total_energy_rmse: 1.0, forces_rmse: 1.0}}
  optimizer: {_target_: torch.optim.Adam, lr: 0.002}
  model:
    _target_: allegro.model.AllegroModel
    seed: 1
    model_dtype: float32
    type_names: ${model_type_names}
    r_max: ${cutoff_radius}
    radial_chemical_embed: {_target_: allegro.nn.TwoBodyBesselScalarEmbed, num_bessels: 8}
    scalar_embed_mlp_hidden_layers_depth: 1
    scalar_embed_mlp_hidden_layers_width: 64
    l_max: 1
    num_layers: 2
    num_scalar_features: 64
    num_tensor_features: 16
    allegro_mlp_hidden_layers_depth: 1
    allegro_mlp_hidden_layers_width: 64
    readout_mlp_hidden_layers_depth: 1
    readout_mlp_hidden_layers_width: 32
    avg_num_neighbors: 40.0
""".replace("BATCH", str(BATCH))
CLOCK = """
import time, lightning
class Clock(lightning.Callback):
    def on_train_batch_start(self, *a, **k): self.start = time.perf_counter()
    def on_train_batch_end(self, *a, **k): print("STEP", time.perf_counter() - self.start, flush=True)
"""


def ours(folder: Path, steps: int) -> dict[str, list[float]]:
    """Seconds of each step, by the way of stepping."""
    seconds: dict[str, list[float]] = {name: [] for name in LINES}
    trainers: dict[str, Trainer] = {}
    for name, line in LINES.items():
        deck = decks.parse(DECK + line, folder / "train.in", TABLE)
        frames = labelled_frames.read(deck["data"].file, ("N", "H"))
        data = dataset.Dataset(frames, 4.5)
        torch.set_num_threads(1)
        which = list(range(len(frames)))
        trainers[name] = Trainer(training.build(deck, data, which, None)[0], data, which, which[:1], deck)
    for step in range(-2, steps):  # two to warm up
        for name, trainer in trainers.items():
            order = trainer.order(max(step, 0) * BATCH // FRAMES)
            trainer.progress = max(step, 0) / steps
            start = perf_counter()
            trainer.descend(trainer, trainer.data.batch(order[step % len(order)]))
            trainer.average.update()
            if step >= 0:
                seconds[name].append(perf_counter() - start)
    return seconds


def nequip(program: Path, folder: Path) -> list[float]:
    """Seconds of each step of nequip-train after its first epoch, eager, one thread."""
    (folder / "config.yaml").write_text(NEQUIP)
    (folder / "bench_callback.py").write_text(CLOCK)
    done = subprocess.run([program.absolute(), "-cp", str(folder), "-cn", "config.yaml", f"hydra.run.dir={folder}/out"],
                          cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, text=True)
    found = [float(s) for s in re.findall(r"STEP ([\d.e+-]+)", done.stdout)]
    if done.returncode or not found:
        sys.exit(f"{program} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return found[FRAMES // BATCH:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--nequip", type=Path, metavar="PROGRAM", help="nequip-train of another environment")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        frames = [a for a in ase.io.read(HERE.parent / "input/ammonia/gfn1_xtb.xyz", ":") if len(a) == 128][:FRAMES]
        ase.io.write(folder / "set.xyz", frames)
        ase.io.write(folder / "val.xyz", frames[:1])
        seconds = ours(folder, args.steps)
        if args.nequip:
            seconds["nequip_train"] = nequip(args.nequip, folder)
    rows = [{"name": name, "steps": len(s), "atoms_per_step": 128 * BATCH, "median_s": statistics.median(s),
             "mean_s": statistics.fmean(s), "frames_per_s": BATCH / statistics.median(s)}
            for name, s in seconds.items()]
    git = ["git", "rev-parse", "--short", "HEAD"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=HERE).stdout.strip()
    results = HERE / "results/bench_train.csv"
    with results.open("w", newline="") as file:
        table = csv.DictWriter(file, [*rows[0], "machine", "commit"])
        table.writeheader()
        table.writerows({**row, "machine": platform.machine(), "commit": commit} for row in rows)
    for row in rows:
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    adam = seconds["adam"]
    print(f"wrote {results.relative_to(Path.cwd()) if results.is_relative_to(Path.cwd()) else results}")
    pairs = statistics.median(s / a for s, a in zip(seconds["sam"], adam))
    late = math.ceil(args.steps * START)
    climbing = statistics.median(s / a for s, a in zip(seconds["late_sam"][late:], adam[late:]))
    before = statistics.median(s / a for s, a in zip(seconds["late_sam"][:late], adam[:late]))
    print(f"ratio sam adam = {pairs:.3f} (median of {len(adam)} pairs of steps; sums "
          f"{sum(seconds['sam']) / sum(adam):.3f})")
    print(f"ratio late_sam adam = {START * before + (1 - START) * climbing:.3f} (sums "
          f"{sum(seconds['late_sam']) / sum(adam):.3f})")
    if args.nequip:
        theirs = statistics.median(seconds["nequip_train"])
        print(f"ratio nequip_train adam = {theirs / statistics.median(adam):.2f} (seconds of a step)")


if __name__ == "__main__":
    main()
