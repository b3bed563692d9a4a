"""Sharpness of the loss around the weights of a model. The command is ``rxmdnn sharpness``.

Measures on a surface: a loss L(w) of the concatenated weights, its gradient, and its Hessian times a vector.

- noise: mean of L(w + ε z) - L(w), z ~ N(0, I): Allegro-Legato's measure (arXiv:2303.08169); of a quadratic ½ε² tr H
- entropy: ln of the mean of exp(-(L(w + ε z) - L(w))/L(w)), z ~ N(0, I): the local entropy of Entropy-SGD
  (Chaudhari et al., arXiv:1611.01838) in units of the loss, zero if it is flat; of a quadratic, with β = 1/L,
  -½ Σ ln(1 + β ε² λ)
- climb: the largest L(w + δ) - L(w) found with ‖δ‖ <= ρ, by δ <- ρ g(w + δ)/‖g(w + δ)‖; of a quadratic ½ρ² λ_max
- spectrum: Lanczos from random signs; its Ritz values give the largest eigenvalues, with residuals, and the density by
  Gauss quadrature (Ghorbani et al., arXiv:1901.10159); Hutchinson's zᵀHz gives the trace
- landscape: L along random directions whose columns have the norms of the weights (Li et al., arXiv:1712.09913)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from mpi4py import MPI
from scipy.linalg import eigh_tridiagonal
from torch import Tensor
from tqdm import tqdm

from rxmdnn.io.labels import NO_KEYS, LabelKeys
from rxmdnn.models.model_file import load_model
from rxmdnn.parallel import together
from rxmdnn.training.dataset import Dataset, batches, with_neighbors
from rxmdnn.training.evaluate import chosen_frames
from rxmdnn.training.metrics import Huber, energy_forces, loss_parts

HESSIAN_ATOMS = 256  # per batch: its graph of second derivatives is in memory at once
LINES = 5  # directions of a landscape
Advance = Callable[[], object]  # called after each evaluation, for a progress bar


class Surface(Protocol):
    """A loss of weights: ``origin`` (n,) float64, the weights it is studied at; ``shapes`` of their arrays."""

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
    network : in float64; its weights are the origin
    data : Dataset, all frames are used
    weights : of the mean squared errors of forces (eV/Å) and of energies per atom (eV)
    """

    def __init__(self, network: torch.nn.Module, data: Dataset, weights: tuple[float, float],
                 comm: MPI.Intracomm = MPI.COMM_SELF) -> None:
        self.network, self.weights, self.comm, self.n_frames = network, weights, comm, len(data.frames)
        self.parameters = [p for p in network.parameters() if p.requires_grad]
        self.shapes = [p.shape for p in self.parameters]
        self.origin = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        every = range(len(data.frames))
        cut = batches(every, [len(f.x) for f in data.frames], HESSIAN_ATOMS, True)[comm.rank::comm.size]
        self.batches = [replace(data.batch(some), shares=data.shares(some, every)) for some in cut]

    def _sum(self, mine: Tensor) -> Tensor:
        """The sum over the ranks, with the same bits on each."""
        total = np.empty_like(mine.numpy())
        self.comm.Reduce(mine.numpy(), total)
        self.comm.Bcast(total)
        return torch.from_numpy(total)

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
    """Mean and its standard error, which is None for a single sample."""
    x = np.array(samples)
    return {"mean": float(x.mean()), "error": float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else None}


def _normal(rng: np.random.Generator, n: int) -> Tensor:
    return torch.from_numpy(rng.standard_normal(n))


def noise(surface: Surface, epsilon: float, draws: int, rng: np.random.Generator, advance: Advance) -> dict[str, Any]:
    """The published measure: rise of the loss, and rise per parameter."""
    base, n, rises = surface.loss(surface.origin), len(surface.origin), []
    for _ in range(draws):
        rises.append(surface.loss(surface.origin + epsilon * _normal(rng, n)) - base)
        advance()
    found = _mean(rises)
    return {**found, "per_parameter": found["mean"] / n,
            "per_parameter_error": found["error"] and found["error"] / n,
            "median": float(np.median(rises)), "loss": base, "epsilon": epsilon, "draws": draws}


def entropy(surface: Surface, epsilon: float, draws: int, rng: np.random.Generator, advance: Advance) -> dict[str, Any]:
    """The local entropy; ``effective``: number of draws that contribute to it (few: use a smaller ``epsilon``)."""
    base, n, exponents = surface.loss(surface.origin), len(surface.origin), []
    for _ in range(draws):
        exponents.append(1.0 - surface.loss(surface.origin + epsilon * _normal(rng, n)) / base)
        advance()
    top = max(exponents)
    terms = np.exp(np.array(exponents) - top)
    error = float(terms.std(ddof=1) / np.sqrt(draws) / terms.mean()) if draws > 1 else None
    return {"value": float(np.log(terms.mean())) + top, "error": error, "epsilon": epsilon, "draws": draws,
            "effective": float(terms.sum() ** 2 / (terms**2).sum())}


def climb(surface: Surface, rho: float, steps: int, starts: int, rng: np.random.Generator, advance: Advance
          ) -> dict[str, Any]:
    """Rise after one SAM step, and the largest of ``starts`` climbs: one from that step, others from random ones."""
    base = surface.loss(surface.origin)
    heights = []
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
            advance()
        heights.append(highest)
    return {"rho": rho, "one_step": first, "max": max(heights), **_mean(heights), "starts": starts, "steps": steps}


def lanczos(product: Callable[[Tensor], Tensor], start: Tensor, steps: int, advance: Advance = lambda: None
            ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues of a symmetric operator by Lanczos iteration from ``start``, with full reorthogonalization.

    Returns
    -------
    values (k,) Ritz values, ascending; weights (k,) of Gauss quadrature, sum 1; residuals (k,) ‖H y - θ y‖
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
        advance()
        if beta[-1] <= 1e-12 * max(map(abs, alpha)):
            break
    values, vectors = eigh_tridiagonal(np.array(alpha), np.array(beta[:-1]))
    return values, vectors[0] ** 2, abs(beta[-1] * vectors[-1])


def spectrum(surface: Surface, count: int, runs: int, steps: int, probes: int, rng: np.random.Generator,
             advance: Advance) -> dict[str, Any]:
    """The ``count`` largest eigenvalues and the smallest one, each with its residual; trace; nodes of the density."""
    n = len(surface.origin)
    signs = [torch.from_numpy(rng.choice([-1.0, 1.0], n)) for _ in range(runs + probes)]
    found = [lanczos(surface.product, z, steps, advance) for z in signs[:runs]]
    values, _, residuals = max(found, key=lambda run: run[0][-1])  # a Ritz value never exceeds the largest eigenvalue
    traces = [n * float(v @ w) for v, w, _ in found]
    for z in signs[runs:]:
        traces.append(float(z @ surface.product(z)))
        advance()
    top = list(reversed(range(max(0, len(values) - count), len(values))))
    return {"largest": [{"value": float(values[k]), "residual": float(residuals[k])} for k in top],
            "largest_over_runs": _mean([float(v[-1]) for v, _, _ in found]),
            "smallest": {"value": float(values[0]), "residual": float(residuals[0])},
            "trace": {**_mean(traces), "probes": len(traces)}, "steps": len(values), "runs": runs,
            "nodes": [v.tolist() for v, _, _ in found], "weights": [w.tolist() for _, w, _ in found]}


def direction(surface: Surface, rng: np.random.Generator) -> Tensor:
    """A random direction: columns have the norms of the columns of the weights, one-dimensional arrays are zero."""
    sizes = [int(np.prod(shape)) for shape in surface.shapes]
    parts = []
    for shape, w in zip(surface.shapes, surface.origin.split(sizes)):
        d = _normal(rng, w.numel()).view(shape)
        d = d * (w.view(shape).norm(dim=0) / d.norm(dim=0).clamp_min(1e-300)) if len(shape) > 1 else 0 * d
        parts.append(d.reshape(-1))
    return torch.cat(parts)


def landscape(surface: Surface, points: int, lines: int, square: int, span: float, rng: np.random.Generator,
              advance: Advance) -> dict[str, Any]:
    """Losses at ``points`` points along ``lines`` directions, and at ``square`` × ``square`` points along two more."""
    out: dict[str, Any] = {}

    def loss(w: Tensor) -> float:
        value = surface.loss(w)
        advance()
        return value

    if points:
        at, rows = np.linspace(-span, span, points), []
        for _ in range(lines):
            d = direction(surface, rng)
            rows.append([loss(surface.origin + float(x) * d) for x in at])
        out |= {"at": at.tolist(), "lines": rows}
    if square:
        a, b, at = direction(surface, rng), direction(surface, rng), np.linspace(-span, span, square)
        out |= {"square_at": at.tolist(), "square": [[loss(surface.origin + float(x) * a + float(y) * b) for x in at]
                                                     for y in at]}
    return out


def model_surface(model: Path, data: Sequence[Path], rng: np.random.Generator, part: str = "all", frames: int = 16,
                  weights: tuple[float, float] = (1.0, 1.0), comm: MPI.Intracomm = MPI.COMM_SELF,
                  keys: LabelKeys = NO_KEYS) -> NetworkSurface:
    """The loss of a model file over at most ``frames`` frames of the data files, drawn by ``rng``. All ranks call it.

    Parameters
    ----------
    part : "all", or "training", "validation" or "test" as the training deck of the model split these files
    weights : of the mean squared errors of forces (eV/Å) and of energies per atom (eV)
    keys : names of the labels in the frames

    Raises
    ------
    InputError
        On every rank, for a damaged model file or faulty data.
    """
    with together(comm):
        loaded = load_model(model)
        every = chosen_frames(model, data, loaded.config.elements, part, keys)
        some = [every[k] for k in sorted(rng.permutation(len(every))[:frames])]
        threads = torch.get_num_threads()  # Numba's kernels change it
        with_edges = with_neighbors(some, float(loaded.config.cutoff.max()))
        torch.set_num_threads(threads)
        make: Any = type(loaded)
        network = make(loaded.config, torch.float64)
        network.load_state_dict(loaded.state_dict())
    return NetworkSurface(network, with_edges, weights, comm)


def measure(surface: Surface, rng: np.random.Generator, seed: int = 1, epsilon: float = 0.05,
            entropy_epsilon: float = 0.002, draws: int = 100, rho: float = 0.05, starts: int = 3, climb_steps: int = 8,
            runs: int = 2, lanczos_steps: int = 30, probes: int = 10, eigenvalues: int = 3, points: int = 21,
            square: int = 11, span: float = 0.2, progress: bool = False) -> dict[str, Any]:
    """All measures of a surface. All ranks call it.

    Parameters
    ----------
    rng : for noise, starts and directions; seed : for the noise of the entropy
    epsilon, entropy_epsilon : standard deviation of the noise on a weight
    draws : of the noise, and of the entropy; 0: neither
    rho : radius of the ball of the climbs; starts : climbs (0: none) of ``climb_steps`` steps
    runs : Lanczos runs (0: no Hessian) of ``lanczos_steps`` products; probes : further products for the trace;
        eigenvalues : number of largest ones
    points, square : of a line, and of a side of the square of the landscape (0: neither), up to ``span`` on each side
    progress : show a progress bar

    Returns
    -------
    {"parameters", "norm" (‖w‖), "loss", "gradient_norm", "noise", "entropy", "climb", "hessian", "landscape"}: the
    last five as from the functions of this module
    """
    lines = LINES if points else 0
    total = 2 * draws + starts * climb_steps + points * lines + square**2
    total += runs * lanczos_steps + probes if runs else 0
    bar = tqdm(total=total, desc="sharpness", disable=not progress, leave=False)
    w = surface.origin
    report: dict[str, Any] = {"parameters": len(w), "norm": float(w.norm()),
                              "loss": surface.loss(w), "gradient_norm": float(surface.gradient(w).norm())}
    if draws:
        report["noise"] = noise(surface, epsilon, draws, rng, bar.update)
        report["entropy"] = entropy(surface, entropy_epsilon, draws, np.random.default_rng([seed, 4]), bar.update)
    if starts:
        report["climb"] = climb(surface, rho, climb_steps, starts, rng, bar.update)
    if runs:
        report["hessian"] = spectrum(surface, eigenvalues, runs, lanczos_steps, probes, rng, bar.update)
    if points or square:
        report["landscape"] = landscape(surface, points, lines, square, span, rng, bar.update)
    bar.close()
    return report
