"""Losses, errors and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rxmdnn.files import write_figure
from rxmdnn.training.dataset import Batch, Dataset
from rxmdnn.training.labelled_frames import LabelledFrame

Predicted = tuple[float, np.ndarray, np.ndarray]  # energy, forces, stress of a frame
TEMPERATURE_EDGES = (0.0, 120.0, 250.0, 350.0, 10000.0)  # K: rows of the table of errors


def energy_forces(network: torch.nn.Module, batch: Batch, differentiable: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Energies of the frames (f,), eV, forces (n, 3), eV/Å, and dE/dr_ij (m, 3), eV/Å, for `stress`.

    ``differentiable`` keeps their graph for training.
    """
    r_ij = batch.r_ij.detach().requires_grad_()
    e_i = network(r_ij, batch.center, batch.species, batch.species[batch.neighbor])
    (g,) = torch.autograd.grad(e_i.sum(), r_ij, create_graph=differentiable)
    forces = torch.zeros_like(batch.forces).index_add(0, batch.center, g).index_add(0, batch.neighbor, -g)
    energy = torch.zeros_like(batch.energy).index_add(0, batch.frame, e_i)
    return (energy, forces, g) if differentiable else (energy.detach(), forces, g)


def stress(g: Tensor, batch: Batch) -> Tensor:
    """(f, 3, 3) Σ r_ij ⊗ g_ij / V, eV/Å³, tension positive; meaningless for frames without a volume."""
    virial = torch.zeros_like(batch.stress).index_add(0, batch.frame[batch.center], batch.r_ij[:, :, None] * g[:, None])
    return virial / batch.volume[:, None, None].clamp_min(1e-30)


def mean_loss(error: Tensor, huber: float | Tensor | None, weight: Tensor | None = None) -> Tensor:
    """Mean of error²; with ``huber`` = δ, of 2δ|error| - δ² beyond δ, which has the same value and slope at δ.

    weight : factor of each row of ``error``
    """
    loss = error.square()
    if huber is not None:
        size = error.abs()
        loss = torch.where(size < huber, loss, 2 * huber * size - huber**2)
    if weight is not None:
        loss = loss * weight.view(-1, *[1] * (loss.dim() - 1))
    return loss.mean()


@dataclass(frozen=True)
class Huber:
    """Error δ beyond which the loss is linear; None: never.

    Attributes
    ----------
    force, energy, stress : eV/Å, eV/atom, eV/Å³
    by_species : (T,) float64, eV/Å, instead of ``force``
    """

    force: float | None = None
    energy: float | None = None
    stress: float | None = None
    by_species: Tensor | None = None

    def of_forces(self, species: Tensor) -> float | Tensor | None:
        """δ of the forces on atoms of these species (n,): one number, or (n, 1), eV/Å."""
        return self.force if self.by_species is None else self.by_species[species][:, None]


def loss_parts(energy: Tensor, forces: Tensor, g: Tensor | None, batch: Batch, huber: Huber) -> tuple[Tensor, ...]:
    """Losses of force components, (eV/Å)², of energies per atom, eV², and with ``g`` of stresses, (eV/Å³)²."""
    of_force, of_energy = (None, None) if batch.weights is None else batch.weights.unbind(1)
    parts = [mean_loss(forces - batch.forces, huber.of_forces(batch.species),
                       None if of_force is None else of_force[batch.frame]),
             mean_loss((energy - batch.energy) / batch.atoms, huber.energy, of_energy)]
    if g is not None:
        known = torch.isfinite(batch.stress).all(-1).all(-1)
        error = stress(g, batch)[known] - batch.stress[known]
        parts.append(mean_loss(error, huber.stress) if len(error) else error.sum())
    return tuple(part if share == 1 else part * share for part, share in zip(parts, batch.shares))


def predict(network: torch.nn.Module, data: Dataset, which: Sequence[int], batches: list[list[int]]
            ) -> dict[int, Predicted]:
    """Energy (eV), forces (n, 3), eV/Å, and stress (3, 3), eV/Å³, of frames, by their index."""
    out: dict[int, Predicted] = {}
    for chosen in batches:
        batch = data.batch(chosen)
        energy, forces, g = energy_forces(network, batch, differentiable=False)
        stresses = stress(g, batch).numpy()
        rows = np.cumsum([0, *(int(n) for n in batch.atoms)])
        for k, frame in enumerate(chosen):
            out[frame] = float(energy[k]), forces[rows[k]:rows[k + 1]].numpy(), stresses[k]
    return {k: out[k] for k in which}


def errors(frames: Sequence[LabelledFrame], predicted: Mapping[int, Predicted], elements: Sequence[str]
           ) -> dict[str, dict[str, float]]:
    """Errors of all frames, and by species, kind and range of temperature.

    Returns
    -------
    {row: {"frames", "force_mae", "force_rmse", "force_max", "energy_mae", "energy_rmse"}}: of force components, eV/Å,
    and of energies, eV/atom; if frames have stresses, "stress_mae" and "stress_rmse" of components, eV/Å³
    """
    def row(which: Sequence[int], species: int | None = None) -> dict[str, float]:
        df = np.concatenate([(predicted[k][1] - frames[k].forces)[
            slice(None) if species is None else frames[k].species == species].reshape(-1) for k in which])
        out: dict[str, float] = {"frames": len(which)}
        if df.size:
            out |= {"force_mae": float(abs(df).mean()), "force_rmse": float(np.sqrt((df**2).mean())),
                    "force_max": float(abs(df).max())}
        if species is None:
            de = np.array([(predicted[k][0] - frames[k].energy) / len(frames[k].x) for k in which])
            out |= {"energy_mae": float(abs(de).mean()), "energy_rmse": float(np.sqrt((de**2).mean()))}
            ds = np.array([predicted[k][2] - frames[k].stress for k in which])
            if len(ds := ds[np.isfinite(ds)]):
                out |= {"stress_mae": float(abs(ds).mean()), "stress_rmse": float(np.sqrt((ds**2).mean()))}
        return out

    every = list(predicted)
    table = {"all": row(every)} | {f"species {e}": row(every, k) for k, e in enumerate(elements)}
    for kind in sorted({frames[k].kind for k in every}):
        table[f"kind {kind}"] = row([k for k in every if frames[k].kind == kind])
    for low, high in pairwise(TEMPERATURE_EDGES):
        warm = [k for k in every if low <= frames[k].temperature < high]
        if warm:
            table[f"{low:.0f} to {high:.0f} K" if high < 1e4 else f"above {low:.0f} K"] = row(warm)
    return table


def cell(value: float, width: int = 9, decimals: int = 2) -> str:
    """A number of a table: with ``decimals``, or with an exponent where it would touch the column before it."""
    text = f"{value:{width}.{decimals}f}"
    return text if len(text) <= width and text[0] == " " else f" {value:{width - 1}.1e}"


def table_text(table: dict[str, dict[str, float]]) -> str:
    """The table of ``errors`` as text, in meV/Å and meV/atom, and meV/Å³ if there are stresses."""
    columns = ["force_mae", "force_rmse", "force_max", "energy_mae", "energy_rmse"]
    head = f"{'':<18s}{'frames':>7s}{'F MAE':>9s}{'F RMSE':>9s}{'F max':>9s}{'E MAE':>9s}{'E RMSE':>9s}"
    if "stress_mae" in table["all"]:
        columns += ["stress_mae", "stress_rmse"]
        head += f"{'S MAE':>9s}{'S RMSE':>9s}"
    lines = [head + "   meV/Å, meV/atom" + (", meV/Å³" if len(columns) > 5 else "")]
    for name, row in table.items():
        cells = "".join(cell(1000 * row[c]) if c in row else f"{'':>9s}" for c in columns)
        lines.append(f"{name:<18s}{row['frames']:7.0f}{cells}")
    return "\n".join(lines)


def plot_parity(path: Path, frames: Sequence[LabelledFrame], predicted: Mapping[int, Predicted],
                elements: Sequence[str], shift: np.ndarray) -> None:
    """Draw energies per atom (minus ``shift``, eV, of the species) and force components, predicted against labelled."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.8))
    own = {k: shift[frames[k].species].sum() for k in predicted}
    kinds = sorted({frames[k].kind for k in predicted})
    for kind in kinds:
        which = [k for k in predicted if frames[k].kind == kind]
        left.plot([1000 * (frames[k].energy - own[k]) / len(frames[k].x) for k in which],
                  [1000 * (predicted[k][0] - own[k]) / len(frames[k].x) for k in which], ".", label=kind, ms=5)
    for s, element in enumerate(elements):
        label = np.concatenate([frames[k].forces[frames[k].species == s].reshape(-1) for k in predicted])
        ours = np.concatenate([predicted[k][1][frames[k].species == s].reshape(-1) for k in predicted])
        rmse = 1000 * np.sqrt(((ours - label) ** 2).mean()) if len(label) else 0.0
        right.plot(label, ours, ".", ms=2, alpha=0.5, label=f"{element}: RMSE {rmse:.0f} meV/Å")
    for axes, what in ((left, "energy, meV/atom"), (right, "force component, eV/Å")):
        low, high = axes.get_xlim()
        axes.plot([low, high], [low, high], "k-", lw=0.6, zorder=0)
        axes.set(xlabel=f"label: {what}", ylabel=f"model: {what}")
        axes.legend(fontsize=7)
    figure.suptitle(f"{len(predicted)} held-out frames")
    figure.tight_layout()
    write_figure(figure, path, dpi=110)
    plt.close(figure)


def plot_curve(path: Path, rows: Sequence[dict[str, float]]) -> None:
    """Draw losses, errors and learning rate against the epoch."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    epoch = [r["epoch"] for r in rows]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for name in ("train_loss", "validation_loss"):
        left.semilogy(epoch, [r[name] for r in rows], label=name.replace("_", " "))
    right.semilogy(epoch, [1000 * r["force_mae"] for r in rows], label="validation force MAE, meV/Å")
    right.semilogy(epoch, [1000 * r["energy_mae"] for r in rows], label="validation energy MAE, meV/atom")
    right.semilogy(epoch, [1e4 * r["learning_rate"] for r in rows], ":", label="learning rate × 10⁴")
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.legend(fontsize=8)
    figure.tight_layout()
    write_figure(figure, path, dpi=110)
    plt.close(figure)
