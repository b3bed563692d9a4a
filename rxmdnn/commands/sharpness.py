"""``rxmdnn sharpness MODEL DATA``: how steeply the loss rises around the weights of a model."""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn.commands.arguments import frames_arguments
from rxmdnn.errors import InputError
from rxmdnn.models.model_file import load_model
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.train.dataset import Dataset
from rxmdnn.train.evaluate import chosen_frames
from rxmdnn.train.loss_surface import NetworkSurface, Surface, climb, entropy, landscape, noise, spectrum


def main(argv: Sequence[str], comm: MPI.Intracomm = MPI.COMM_SELF) -> None:
    """Print every measure with its standard error and ‖w‖; draw the pictures; write JSON where asked."""
    p = argparse.ArgumentParser("rxmdnn sharpness", description="How steeply the loss rises around a model's weights.",
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    frames_arguments(p)
    p.add_argument("--frames", type=int, default=16, help="at most so many of the frames, drawn by the seed")
    p.add_argument("--loss", type=float, nargs=2, default=(1.0, 1.0), metavar=("F", "E"),
                   help="weights of the squared errors of forces and of energy per atom")
    p.add_argument("--seed", type=int, default=1, help="of frames, noise, starts and directions")
    p.add_argument("--epsilon", type=float, default=0.05, help="size of the noise on a weight")
    p.add_argument("--entropy-epsilon", type=float, default=0.002, help="the same of the local entropy")
    p.add_argument("--draws", type=int, default=100, help="of the noise, and of the entropy; 0 leaves both out")
    p.add_argument("--rho", type=float, default=0.05, help="radius of the ball that is climbed in")
    p.add_argument("--starts", type=int, default=3, help="climbs; 0 leaves the measure out")
    p.add_argument("--climb-steps", type=int, default=8, help="of a climb")
    p.add_argument("--runs", type=int, default=2, help="Lanczos runs; 0 leaves the Hessian out")
    p.add_argument("--steps", type=int, default=30, help="Hessian products of a Lanczos run")
    p.add_argument("--probes", type=int, default=10, help="further Hessian products for the trace")
    p.add_argument("--eigenvalues", type=int, default=3, help="largest ones that are printed")
    p.add_argument("--landscape", type=int, nargs=2, default=(21, 11), metavar=("POINTS", "SQUARE"),
                   help="points of a line, and of a side of the square; 0 leaves either out")
    p.add_argument("--span", type=float, default=0.2, help="half the length of the landscape")
    p.add_argument("--out", metavar="DIR", type=Path, default=Path("sharpness"), help="where pictures go")
    p.add_argument("--json", metavar="F", type=Path, help="also write the figures to this file")
    unheard = io.StringIO()
    with redirect_stdout(sys.stdout if comm.rank == 0 else unheard), \
            redirect_stderr(sys.stderr if comm.rank == 0 else unheard):
        a = p.parse_args(argv)
    low = {"frames": 1, "draws": 0, "starts": 0, "climb_steps": 1, "runs": 0, "steps": 2, "probes": 0,
           "eigenvalues": 1, "seed": 0}
    faults = [f"sharpness: --{k.replace('_', '-')}: must be at least {v}" for k, v in low.items() if getattr(a, k) < v]
    faults += [f"sharpness: --{k.replace('_', '-')}: must be above zero"
               for k in ("epsilon", "entropy_epsilon", "rho", "span") if getattr(a, k) <= 0]
    if min(a.landscape) < 0 or min(a.loss) < 0:
        faults.append("sharpness: --landscape, --loss: must not be negative")
    if faults:
        raise AgreedError(*faults)
    with together(comm):
        model = load_model(a.model)
        frames = chosen_frames(a.model, a.data, model.config.elements, a.part)
        rng = np.random.default_rng([a.seed, 3])
        frames = [frames[k] for k in sorted(rng.permutation(len(frames))[:a.frames])]
        threads = torch.get_num_threads()  # Numba's kernels change it
        data = Dataset(frames, float(model.config.cutoff.max()))
        torch.set_num_threads(threads)
        make: Any = type(model)
        network = make(model.config, torch.float64)
        network.load_state_dict(model.state_dict())
    surface = NetworkSurface(network, data, tuple(a.loss), comm)
    report = measure(surface, a, rng, comm.rank == 0)
    report |= {"model": str(a.model), "data": [str(f) for f in a.data], "part": a.part, "frames": len(frames),
               "loss_weights": list(a.loss), "seed": a.seed}
    on_root(comm, lambda: finish(report, a))


def measure(surface: Surface, a: argparse.Namespace, rng: np.random.Generator, root: bool) -> dict[str, Any]:
    """What the flags ask for."""
    points, square = a.landscape
    lines = 5 if points else 0
    total = 2 * a.draws + a.starts * a.climb_steps + a.runs * a.steps + (a.probes if a.runs else 0) + points * lines + \
        square**2
    bar = tqdm(total=total, desc="sharpness", disable=not root or not sys.stderr.isatty(), leave=False)
    w = surface.origin
    report: dict[str, Any] = {"parameters": len(w), "norm": float(w.norm()),
                              "loss": surface.loss(w), "gradient_norm": float(surface.gradient(w).norm())}
    if a.draws:
        report["noise"] = noise(surface, a.epsilon, a.draws, rng, bar.update)
        report["entropy"] = entropy(surface, a.entropy_epsilon, a.draws, np.random.default_rng([a.seed, 4]), bar.update)
    if a.starts:
        report["climb"] = climb(surface, a.rho, a.climb_steps, a.starts, rng, bar.update)
    if a.runs:
        report["hessian"] = spectrum(surface, a.eigenvalues, a.runs, a.steps, a.probes, rng, bar.update)
    if points or square:
        report["landscape"] = landscape(surface, points, lines, square, a.span, rng, bar.update)
    bar.close()
    return report


def finish(report: dict[str, Any], a: argparse.Namespace) -> None:
    """Print, draw, write."""
    print(report_text(report))
    try:
        a.out.mkdir(parents=True, exist_ok=True)
        names = plot(report, a.out)
        if a.json:
            a.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.filename or a.out}: cannot be written: {error.strerror}") from None
    if names:
        print(f"\n{', '.join(names)} in {a.out}")


def _error(x: float | None) -> str:
    return "" if x is None else f" ± {x:.2g}"


def report_text(r: dict[str, Any]) -> str:
    """Every figure with its standard error, and ‖w‖."""
    norm = f"‖w‖ {r['norm']:.4f}"
    lines = [f"{r['model']}: {r['parameters']} parameters, {norm}; {r['frames']} frames ({r['part']}), seed "
             f"{r['seed']}",
             f"loss {r['loss']:.6g} (weights {' '.join(map(str, r['loss_weights']))}; eV, Å), gradient "
             f"{r['gradient_norm']:.4g}", ""]
    if n := r.get("noise"):
        lines += [f"noise ε {n['epsilon']:g}, {n['draws']} draws: rise {n['mean']:.5g}{_error(n['error'])} (median "
                  f"{n['median']:.4g}); a parameter {n['per_parameter']:.4g}{_error(n['per_parameter_error'])}; {norm}"]
    if s := r.get("entropy"):
        lines += [f"entropy ε {s['epsilon']:g}: {s['value']:.4g}{_error(s['error'])}, carried by "
                  f"{s['effective']:.0f} of {s['draws']} draws; {norm}"]
    if c := r.get("climb"):
        lines += [f"climb ρ {c['rho']:g}: SAM's step {c['one_step']:.5g}; the best of {c['starts']} climbs "
                  f"{c['max']:.5g}; their mean {c['mean']:.5g}{_error(c['error'])}; {norm}"]
    if h := r.get("hessian"):
        lines += [f"Hessian, largest {k + 1}: {e['value']:.6g}, residual {e['residual']:.1g}; λ‖w‖² "
                  f"{e['value'] * r['norm'] ** 2:.5g}" for k, e in enumerate(h["largest"])]
        lines += [f"Hessian, smallest: {h['smallest']['value']:.5g}, residual {h['smallest']['residual']:.1g}",
                  f"Hessian, largest over {h['runs']} runs: {h['largest_over_runs']['mean']:.6g}"
                  f"{_error(h['largest_over_runs']['error'])}; {norm}",
                  f"trace: {h['trace']['mean']:.5g}{_error(h['trace']['error'])}, {h['trace']['probes']} probes; "
                  f"{norm}"]
    return "\n".join(lines)


def plot(r: dict[str, Any], folder: Path) -> list[str]:
    """landscape_1d.png, landscape_2d.png, spectrum.png of what was measured; their names."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made = []

    def save(figure: Any, name: str) -> None:
        figure.tight_layout()
        figure.savefig(folder / name, dpi=120)
        plt.close(figure)
        made.append(name)

    land, label = r.get("landscape", {}), f"‖w‖ {r['norm']:.1f}, loss {r['loss']:.3g}"
    if "lines" in land:
        figure, axes = plt.subplots(figsize=(5.4, 4))
        for row in land["lines"]:
            axes.semilogy(land["at"], row, lw=0.8, color="#92c5de")
        axes.semilogy(land["at"], np.exp(np.log(land["lines"]).mean(0)), "o-", ms=3, lw=1.4, color="#2166ac",
                      label="geometric mean")
        axes.set(xlabel="distance along a filter-normalized direction", ylabel="loss", title=label)
        axes.legend(frameon=False, fontsize=8)
        save(figure, "landscape_1d.png")
    if "square" in land:
        figure, axes = plt.subplots(figsize=(5.4, 4.4))
        x, values = land["square_at"], np.log10(land["square"])
        shown = axes.contourf(x, x, values, 24, cmap="viridis")
        axes.contour(x, x, values, 12, colors="white", linewidths=0.4)
        axes.plot(0, 0, "r+", ms=9)
        figure.colorbar(shown, label="log10 loss")
        axes.set(xlabel="first direction", ylabel="second direction", title=label)
        save(figure, "landscape_2d.png")
    if h := r.get("hessian"):
        figure, axes = plt.subplots(figsize=(5.4, 4))
        nodes, weights = (np.array([x for run in h[k] for x in run]) for k in ("nodes", "weights"))
        width = max(np.ptp(nodes), 1e-300) / 100
        x = np.linspace(nodes.min() - 4 * width, nodes.max() + 4 * width, 800)
        density = (weights * np.exp(-0.5 * ((x[:, None] - nodes) / width) ** 2)).sum(1) / (
            h["runs"] * width * np.sqrt(2 * np.pi))
        axes.semilogy(x, density + 1e-300, lw=1.2, color="#2166ac")
        axes.set(xlabel="eigenvalue of the Hessian", ylabel="density", title=label,
                 ylim=(density.max() * 1e-8, density.max() * 3))
        save(figure, "spectrum.png")
    return made
