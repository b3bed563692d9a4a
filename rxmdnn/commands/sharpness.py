"""``rxmdnn sharpness MODEL DATA``: how steeply the loss rises around the weights of a model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.commands.arguments import frames_arguments, label_keys, parse
from rxmdnn.files import check_outputs, write_figure, write_json, writing
from rxmdnn.parallel import AgreedError, on_root
from rxmdnn.training.loss_surface import measure, model_surface


def main(argv: Sequence[str], comm: MPI.Intracomm = MPI.COMM_SELF) -> None:
    """Print every measure with its standard error and ‖w‖; draw the figures; write the numbers with ``--json``."""
    a = _arguments(argv, comm)
    on_root(comm, lambda: check_outputs(a.json, folders=[a.out]))
    rng = np.random.default_rng([a.seed, 3])
    surface = model_surface(a.model, a.data, rng, a.part, a.frames, tuple(a.loss), comm, label_keys(a))
    points, square = a.landscape
    report = measure(surface, rng, seed=a.seed, epsilon=a.epsilon, entropy_epsilon=a.entropy_epsilon, draws=a.draws,
                     rho=a.rho, starts=a.starts, climb_steps=a.climb_steps, runs=a.runs, lanczos_steps=a.steps,
                     probes=a.probes, eigenvalues=a.eigenvalues, points=points, square=square, span=a.span,
                     progress=comm.rank == 0 and sys.stderr.isatty())
    report |= {"model": str(a.model), "data": [str(f) for f in a.data], "part": a.part, "frames": surface.n_frames,
               "loss_weights": list(a.loss), "seed": a.seed, "notes": surface.notes}
    on_root(comm, lambda: _finish(report, a.out, a.json))


def _arguments(argv: Sequence[str], comm: MPI.Intracomm) -> argparse.Namespace:
    p = argparse.ArgumentParser("rxmdnn sharpness", description="How steeply the loss rises around the weights of a "
                                "model.", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    frames_arguments(p)
    p.add_argument("--frames", type=int, default=16, help="largest number of frames, drawn by the seed")
    p.add_argument("--loss", type=float, nargs=2, default=(1.0, 1.0), metavar=("F", "E"),
                   help="weights of the squared errors of forces and of energy per atom")
    p.add_argument("--seed", type=int, default=1, help="of frames, noise, starts and directions")
    p.add_argument("--epsilon", type=float, default=0.05, help="standard deviation of the noise on a weight")
    p.add_argument("--entropy-epsilon", type=float, default=0.002, help="the same, for the local entropy")
    p.add_argument("--draws", type=int, default=100, help="of the noise, and of the entropy; 0 omits both")
    p.add_argument("--rho", type=float, default=0.05, help="radius of the ball around the weights for the climbs")
    p.add_argument("--starts", type=int, default=3, help="number of climbs; 0 omits them")
    p.add_argument("--climb-steps", type=int, default=8, help="steps per climb")
    p.add_argument("--runs", type=int, default=2, help="Lanczos runs; 0 omits the Hessian")
    p.add_argument("--steps", type=int, default=30, help="Hessian products per Lanczos run")
    p.add_argument("--probes", type=int, default=10, help="additional Hessian products for the trace")
    p.add_argument("--eigenvalues", type=int, default=3, help="number of largest eigenvalues that are printed")
    p.add_argument("--landscape", type=int, nargs=2, default=(21, 11), metavar=("POINTS", "SQUARE"),
                   help="points per line, and per side of the square; 0 omits either")
    p.add_argument("--span", type=float, default=0.2, help="half the length of the landscape")
    p.add_argument("--out", metavar="DIR", type=Path, default=Path("sharpness"), help="folder of the figures")
    p.add_argument("--json", metavar="F", type=Path, help="also write the numbers to this file")
    a = parse(p, argv, comm)
    low = {"frames": 1, "draws": 0, "starts": 0, "climb_steps": 1, "runs": 0, "steps": 2, "probes": 0,
           "eigenvalues": 1, "seed": 0}
    faults = [f"sharpness: --{k.replace('_', '-')}: must be at least {v}" for k, v in low.items() if getattr(a, k) < v]
    faults += [f"sharpness: --{k.replace('_', '-')}: must be above zero"
               for k in ("epsilon", "entropy_epsilon", "rho", "span") if getattr(a, k) <= 0]
    if min(a.landscape) < 0 or min(a.loss) < 0:
        faults.append("sharpness: --landscape, --loss: must not be negative")
    if faults:
        raise AgreedError(*faults)
    return a


def _finish(report: dict[str, Any], folder: Path, json_path: Path | None) -> None:
    """Print, draw, write."""
    print(report_text(report))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        names = plot(report, folder)
        if json_path:
            write_json(json_path, report)
    if names:
        print(f"\n{', '.join(names)} in {folder}")


def _error(x: float | None) -> str:
    return "" if x is None else f" ± {x:.2g}"


def report_text(r: dict[str, Any]) -> str:
    """Every number with its standard error, and ‖w‖."""
    norm = f"‖w‖ {r['norm']:.4f}"
    lines = [f"{r['model']}: {r['parameters']} parameters, {norm}; {r['frames']} frames ({r['part']}), seed "
             f"{r['seed']}",
             f"loss {r['loss']:.6g} (weights {' '.join(map(str, r['loss_weights']))}; eV, Å), gradient "
             f"{r['gradient_norm']:.4g}", ""]
    if n := r.get("noise"):
        lines += [f"noise ε {n['epsilon']:g}, {n['draws']} draws: rise {n['mean']:.5g}{_error(n['error'])} (median "
                  f"{n['median']:.4g}); per parameter {n['per_parameter']:.4g}{_error(n['per_parameter_error'])}; "
                  f"{norm}"]
    if s := r.get("entropy"):
        lines += [f"entropy ε {s['epsilon']:g}: {s['value']:.4g}{_error(s['error'])}, effectively "
                  f"{s['effective']:.0f} of {s['draws']} draws; {norm}"]
    if c := r.get("climb"):
        lines += [f"climb ρ {c['rho']:g}: one SAM step {c['one_step']:.5g}; highest of {c['starts']} climbs "
                  f"{c['max']:.5g}; mean {c['mean']:.5g}{_error(c['error'])}; {norm}"]
    if h := r.get("hessian"):
        lines += [f"Hessian, largest {k + 1}: {e['value']:.6g}, residual {e['residual']:.1g}; λ‖w‖² "
                  f"{e['value'] * r['norm'] ** 2:.5g}" for k, e in enumerate(h["largest"])]
        lines += [f"Hessian, smallest: {h['smallest']['value']:.5g}, residual {h['smallest']['residual']:.1g}",
                  f"Hessian, largest over {h['runs']} runs: {h['largest_over_runs']['mean']:.6g}"
                  f"{_error(h['largest_over_runs']['error'])}; {norm}",
                  f"trace: {h['trace']['mean']:.5g}{_error(h['trace']['error'])}, {h['trace']['probes']} probes; "
                  f"{norm}"]
    return "\n".join([*lines, *(f"note: {note}" for note in r.get("notes", ()))])


def plot(r: dict[str, Any], folder: Path) -> list[str]:
    """Draw the measured ones of landscape_1d.png, landscape_2d.png and spectrum.png; their names."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    made = []

    def save(figure: Any, name: str) -> None:
        figure.tight_layout()
        write_figure(figure, folder / name, dpi=120)
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
