"""``rxmdnn sharpness MODEL DATA``: how steeply the loss rises around a model's weights.

Measures on a surface: a loss L(w) of weights laid end to end, its gradient, and its Hessian times a vector.

- noise: mean of L(w + ε z) - L(w), z ~ N(0, I): Allegro-Legato's measure (arXiv:2303.08169); of a quadratic ½ε² tr H
- entropy: ln of the mean of exp(-(L(w + ε z) - L(w))/L(w)), z ~ N(0, I): the local entropy of Entropy-SGD
  (Chaudhari et al., arXiv:1611.01838) in units of the loss, zero where it is flat; of a quadratic, with β = 1/L,
  -½ Σ ln(1 + β ε² λ)
- climb: the largest L(w + δ) - L(w) found with ‖δ‖ <= ρ, by δ <- ρ g(w + δ)/‖g(w + δ)‖; of a quadratic ½ρ² λ_max
- spectrum: Lanczos from random signs; its Ritz values give the largest eigenvalues, with residuals, and the density by
  Gauss quadrature (Ghorbani et al., arXiv:1901.10159); Hutchinson's zᵀHz gives the trace
- landscape: L along random directions whose columns have the weights' own norms (Li et al., arXiv:1712.09913)
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mpi4py import MPI
from scipy.linalg import eigh_tridiagonal
from torch import Tensor
from tqdm import tqdm

from rxmdnn.errors import InputError
from rxmdnn.models.model_file import load_model
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.train.dataset import Dataset, batches
from rxmdnn.train.evaluate import chosen_frames, frames_arguments
from rxmdnn.train.metrics import Huber, energy_forces, loss_parts

HESSIAN_ATOMS = 256  # of a batch whose graph of second derivatives is held at once
Tell = Callable[[], object]


class Surface(Protocol):
    """A loss over weights: ``origin`` (n,) float64 where it is studied, ``shapes`` of the arrays they are in."""

    origin: Tensor
    shapes: list[torch.Size]

    def loss(self, w: Tensor) -> float: ...

    def gradient(self, w: Tensor) -> Tensor: ...

    def product(self, v: Tensor) -> Tensor:
        """The Hessian at the origin times v."""
        ...


class NetworkSurface:
    """The loss of a network over frames; ranks share the frames.

    Parameters
    ----------
    network : of float64; its weights are the origin
    data : Dataset, all of whose frames count
    weights : of the mean squared errors of forces (eV/Å) and of energies per atom (eV)
    """

    def __init__(self, network: torch.nn.Module, data: Dataset, weights: tuple[float, float],
                 comm: MPI.Intracomm = MPI.COMM_SELF) -> None:
        self.network, self.weights, self.comm = network, weights, comm
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.shapes = [p.shape for p in self.parameters]
        self.origin = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        every = range(len(data.frames))
        cut = batches(every, [len(f.x) for f in data.frames], HESSIAN_ATOMS, True)[comm.rank::comm.size]
        self.batches = [replace(data.batch(some), shares=data.shares(some, every)) for some in cut]

    def _sum(self, mine: Tensor) -> Tensor:
        """Over the ranks, the same bits on each."""
        whole = np.empty_like(mine.numpy())
        self.comm.Reduce(mine.numpy(), whole)
        self.comm.Bcast(whole)
        return torch.from_numpy(whole)

    @torch.no_grad()
    def _put(self, w: Tensor) -> None:
        for p, part in zip(self.parameters, w.split([p.numel() for p in self.parameters])):
            p.copy_(part.view_as(p))

    def _losses(self, differentiable: bool) -> Any:
        for batch in self.batches:
            energy, forces, _ = energy_forces(self.network, batch, differentiable)
            of_forces, of_energy = loss_parts(energy, forces, None, batch, Huber())
            yield self.weights[0] * of_forces + self.weights[1] * of_energy

    def _flat(self, grads: Sequence[Tensor | None]) -> Tensor:
        return torch.cat([torch.zeros_like(p).reshape(-1) if g is None else g.detach().reshape(-1)
                          for g, p in zip(grads, self.parameters)])

    def loss(self, w: Tensor) -> float:
        self._put(w)
        mine = sum((loss.detach() for loss in self._losses(False)), torch.zeros((), dtype=torch.float64))
        self._put(self.origin)
        return float(self._sum(mine.reshape(1)))

    def gradient(self, w: Tensor) -> Tensor:
        self._put(w)
        out = torch.zeros_like(self.origin)
        for loss in self._losses(True):
            out += self._flat(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        self._put(self.origin)
        return self._sum(out)

    def product(self, v: Tensor) -> Tensor:
        out = torch.zeros_like(self.origin)
        for loss in self._losses(True):
            grads = torch.autograd.grad(loss, self.parameters, create_graph=True, allow_unused=True)
            slope = sum(((g * part.view_as(g)).sum() for g, part in zip(
                grads, v.split([p.numel() for p in self.parameters])) if g is not None), loss.new_zeros(()))
            out += self._flat(torch.autograd.grad(slope, self.parameters, allow_unused=True))
        return self._sum(out)


def _mean(samples: Sequence[float]) -> dict[str, Any]:
    """Mean and its standard error; None of a single sample."""
    x = np.array(samples)
    return {"mean": float(x.mean()), "error": float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else None}


def _normal(rng: np.random.Generator, n: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(n))


def noise(surface: Surface, epsilon: float, draws: int, rng: np.random.Generator, tell: Tell) -> dict[str, Any]:
    """The published measure: absolute, and for a parameter."""
    base, n, rises = surface.loss(surface.origin), len(surface.origin), []
    for _ in range(draws):
        rises.append(surface.loss(surface.origin + epsilon * _normal(rng, n)) - base)
        tell()
    found = _mean(rises)
    return {**found, "per_parameter": found["mean"] / n,
            "per_parameter_error": found["error"] and found["error"] / n,
            "median": float(np.median(rises)), "loss": base, "epsilon": epsilon, "draws": draws}


def entropy(surface: Surface, epsilon: float, draws: int, rng: np.random.Generator, tell: Tell) -> dict[str, Any]:
    """The local entropy; ``effective``: how many draws carry its mean (few: a smaller ``epsilon`` is needed)."""
    base, n, exponents = surface.loss(surface.origin), len(surface.origin), []
    for _ in range(draws):
        exponents.append(1.0 - surface.loss(surface.origin + epsilon * _normal(rng, n)) / base)
        tell()
    top = max(exponents)
    terms = np.exp(np.array(exponents) - top)
    error = float(terms.std(ddof=1) / np.sqrt(draws) / terms.mean()) if draws > 1 else None
    return {"value": float(np.log(terms.mean())) + top, "error": error, "epsilon": epsilon, "draws": draws,
            "effective": float(terms.sum() ** 2 / (terms**2).sum())}


def climb(surface: Surface, rho: float, steps: int, starts: int, rng: np.random.Generator, tell: Tell
          ) -> dict[str, Any]:
    """Rise after SAM's own step, and the largest of ``starts`` climbs: from that step, and from random ones."""
    base = surface.loss(surface.origin)
    best = []
    for start in range(starts):
        d = surface.gradient(surface.origin) if start == 0 else _normal(rng, len(surface.origin))
        highest = -float("inf")
        for k in range(steps):
            d = rho * d / (float(d.norm()) + 1e-300)
            rise = surface.loss(surface.origin + d) - base
            highest = max(highest, rise)
            if start == k == 0:
                first = rise
            d = surface.gradient(surface.origin + d)
            tell()
        best.append(highest)
    return {"rho": rho, "one_step": first, "max": max(best), **_mean(best), "starts": starts, "steps": steps}


def lanczos(product: Callable[[Tensor], Tensor], start: Tensor, steps: int, tell: Tell = lambda: None
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of a symmetric operator seen from ``start``, every new vector made orthogonal to all before.

    Returns
    -------
    values (k,) Ritz values, rising; weights (k,) of Gauss quadrature, of sum 1; residuals (k,) ‖H y - θ y‖
    """
    basis = torch.empty((min(steps, len(start)), len(start)), dtype=torch.float64)
    alpha: list[float] = []
    beta: list[float] = []
    v = start
    for k in range(len(basis)):
        basis[k] = v / v.norm()
        v = product(basis[k])
        alpha.append(float(v @ basis[k]))
        for _ in range(2):
            v = v - basis[:k + 1].T @ (basis[:k + 1] @ v)
        beta.append(float(v.norm()))
        tell()
        if beta[-1] <= 1e-12 * max(map(abs, alpha)):
            break
    values, vectors = eigh_tridiagonal(np.array(alpha), np.array(beta[:-1]))
    return values, vectors[0] ** 2, abs(beta[-1] * vectors[-1])


def spectrum(surface: Surface, count: int, runs: int, steps: int, probes: int, rng: np.random.Generator, tell: Tell
             ) -> dict[str, Any]:
    """The ``count`` largest eigenvalues and the smallest one, each with its residual; trace; nodes of the density."""
    n = len(surface.origin)
    signs = [torch.from_numpy(rng.choice([-1.0, 1.0], n)) for _ in range(runs + probes)]
    found = [lanczos(surface.product, z, steps, tell) for z in signs[:runs]]
    values, _, residuals = max(found, key=lambda run: run[0][-1])  # a Ritz value never exceeds the largest eigenvalue
    traces = [n * float(v @ w) for v, w, _ in found]
    for z in signs[runs:]:
        traces.append(float(z @ surface.product(z)))
        tell()
    top = list(reversed(range(max(0, len(values) - count), len(values))))
    return {"largest": [{"value": float(values[k]), "residual": float(residuals[k])} for k in top],
            "largest_over_runs": _mean([float(v[-1]) for v, _, _ in found]),
            "smallest": {"value": float(values[0]), "residual": float(residuals[0])},
            "trace": {**_mean(traces), "probes": len(traces)}, "steps": len(values), "runs": runs,
            "nodes": [v.tolist() for v, _, _ in found], "weights": [w.tolist() for _, w, _ in found]}


def direction(surface: Surface, rng: np.random.Generator) -> Tensor:
    """At random, each column with the norm of the weights' column; arrays of one dimension stay as they are."""
    sizes = [int(np.prod(shape)) for shape in surface.shapes]
    parts = []
    for shape, w in zip(surface.shapes, surface.origin.split(sizes)):
        d = _normal(rng, w.numel()).view(shape)
        d = d * (w.view(shape).norm(dim=0) / d.norm(dim=0).clamp_min(1e-300)) if len(shape) > 1 else 0 * d
        parts.append(d.reshape(-1))
    return torch.cat(parts)


def landscape(surface: Surface, points: int, lines: int, square: int, span: float, rng: np.random.Generator,
              tell: Tell) -> dict[str, Any]:
    """Losses along ``lines`` directions of ``points`` points, and over ``square`` × ``square`` points of two more."""
    at, out = np.linspace(-span, span, points), dict[str, Any]()
    if points:
        rows = []
        for _ in range(lines):
            d = direction(surface, rng)
            rows.append([_told(tell, surface.loss(surface.origin + float(x) * d)) for x in at])
        out |= {"at": at.tolist(), "lines": rows}
    if square:
        a, b, at = direction(surface, rng), direction(surface, rng), np.linspace(-span, span, square)
        out |= {"square_at": at.tolist(), "square": [[_told(tell, surface.loss(
            surface.origin + float(x) * a + float(y) * b)) for x in at] for y in at]}
    return out


def _told(tell: Tell, value: float) -> float:
    tell()
    return value


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
