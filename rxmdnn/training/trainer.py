"""Training: steps, average of the weights, learning rate, epochs, checkpoints.

A killed training resumes from the end of the last complete epoch; the result is that of an uninterrupted one, bit for
bit (with the same number of threads): a checkpoint holds weights, Adam's moments, the average and the schedule, and the
order of the batches depends on seed and epoch alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
import torch
from mpi4py import MPI

from rxmdnn.deck.language import Deck
from rxmdnn.parallel import AgreedError
from rxmdnn.training.average import Average
from rxmdnn.training.dataset import Batch, Dataset, batches
from rxmdnn.training.decorrelation import Decorrelation
from rxmdnn.training.frame_weights import frame_weights
from rxmdnn.training.metrics import Huber, Predicted, energy_forces, loss_parts, mean_loss, predict
from rxmdnn.training.noise import DisplacedFrames
from rxmdnn.training.optimizer import make_optimizer
from rxmdnn.training.sam import Sam


class Plateau:
    """A factor on the learning rate, reduced after more than ``patience`` epochs without a lower loss."""

    def __init__(self, factor: float, patience: int) -> None:
        self.factor, self.patience = factor, patience
        self.best, self.waited, self.scale = math.inf, 0, 1.0

    def see(self, loss: float) -> None:
        """Take the loss of one more epoch into account."""
        if loss < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            self.scale, self.waited = self.scale * self.factor, 0


class Trainer:
    """A network, its data, and everything that changes during training.

    Parameters
    ----------
    network : torch module; called as in metrics.energy_forces
    data : Dataset
    train, validation : indices of frames
    deck : Deck of rxmdnn.deck.train.TABLE
    descend : (trainer, batch) -> the losses of forces, energies and, if the deck has a weight for them, stresses
        One optimizer step; default: `plain_step`, or a `Sam` if the deck has the line 'sam'.
    comm : ranks that share every batch; their weights are the same bits at every step

    Attributes
    ----------
    progress : fraction of the deck's epochs that are done
    """

    def __init__(self, network: torch.nn.Module, data: Dataset, train: list[int], validation: list[int], deck: Deck,
                 descend: Callable[[Trainer, Batch | None], tuple[float, ...]] | None = None,
                 comm: MPI.Intracomm = MPI.COMM_SELF) -> None:
        self.network, self.data, self.train, self.validation, self.deck = network, data, train, validation, deck
        self.comm, self.progress = comm, 0.0
        self.descend = descend or (plain_step if deck["sam"].rho is None else Sam(deck["sam"]))
        self.weights = [p for p in network.parameters() if p.requires_grad]
        self._copy_from_root()
        self.optimizer = make_optimizer(deck, network)
        self.average = Average(self.weights, deck["ema"].decay, deck["ema_horizon"].fraction)
        self.source = self._source()
        self.decorrelation = None if deck["decorrelation"].weight is None else Decorrelation(
            network, deck["decorrelation"].weight, deck["decorrelation"].of == "correlation")
        self.plateau = Plateau(deck["plateau"].factor, deck["plateau"].patience)
        self.huber = make_huber(deck)
        if deck["loss"].stress and not any(np.isfinite(data.frames[k].stress).all() for k in train):
            raise AgreedError(deck["loss"].fault("no training frame has a stress; remove its weight"))
        self.sizes = [len(f.x) for f in data.frames]
        self.epoch, self.step, self.best, self.best_epoch = 0, 0, math.inf, 0
        self.best_values = [v.clone() for v in self.average.values]
        self.rows: list[dict[str, float]] = []

    def _source(self) -> Dataset:
        """The data as the steps take them: with the weights of frames and the noise of the deck."""
        source, sigma = self.data, self.deck["noise"].sigma
        if (weights := frame_weights(self.deck, source, self.train)) is not None:
            source = copy(source)
            source.weights = weights
        if sigma is not None:
            config: Any = self.network.config
            source = DisplacedFrames(source, float(config.cutoff.max()), sigma, self.deck["seed"].seed)
        return source

    def order(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch."""
        rng = np.random.default_rng([self.deck["seed"].seed, 2, epoch])
        return batches(self.train, self.sizes, self.deck["batch"].size, self.deck["batch"].of == "atoms", rng)

    def learning_rate(self, step: int, steps: int) -> float:
        """The learning rate at optimizer step ``step`` (from 0) of ``steps``."""
        rate, final, warm = self.deck["adam"].learning_rate, self.deck["cosine"].final, self.deck["warm_up"].steps
        rate *= self.plateau.scale if final is None else \
            final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return rate * min(1.0, (step + 1) / (warm + 1))

    def gradient(self, batch: Batch | None, together: bool = True) -> tuple[float, ...]:
        """Set the gradients of the weights to those of the loss of ``batch``; returns the parts of the loss.

        ``batch`` is this rank's part of one batch (None: no frame). Gradients and losses are summed over the ranks if
        ``together``.
        """
        self.optimizer.zero_grad()
        losses = [0.0] * (3 if self.deck["loss"].stress else 2)
        if batch is not None:
            energy, forces, g = energy_forces(self.network, batch, differentiable=True)
            parts = loss_parts(energy, forces, g if self.deck["loss"].stress else None, batch, self.huber)
            loss = self.total(*parts)
            if self.decorrelation is not None:
                loss = loss + batch.shares[0] * self.decorrelation.loss()
            loss.backward()
            losses = [float(part.detach()) for part in parts]
        if self.comm.size > 1 and together:
            losses = self._sum_over_ranks(losses)
        return tuple(losses)

    @torch.no_grad()
    def _sum_over_ranks(self, losses: list[float]) -> list[float]:
        """Sum gradients and ``losses`` in float64 on one rank, so that every rank gets the same bits."""
        rows = [torch.zeros(w.numel(), dtype=torch.float64) if w.grad is None else w.grad.reshape(-1).double()
                for w in self.weights]
        mine = torch.cat([*rows, torch.tensor(losses, dtype=torch.float64)]).numpy()
        total = np.empty_like(mine)
        self.comm.Reduce(mine, total)
        self.comm.Bcast(total)
        *grads, sums = torch.from_numpy(total).split([*(w.numel() for w in self.weights), len(losses)])
        for w, grad in zip(self.weights, grads):
            w.grad = grad.reshape(w.shape).to(w.dtype)
        return sums.tolist()

    @torch.no_grad()
    def _copy_from_root(self) -> None:
        """Give every rank the arrays of rank 0: processors may differ in the last bits."""
        if self.comm.size > 1:
            for value in (*self.network.parameters(), *self.network.buffers()):
                value.copy_(self.comm.bcast(value.detach()))

    def clip(self) -> None:
        """Limit the norm of the gradient as the line 'clip' says."""
        if self.deck["clip"].norm is not None:
            torch.nn.utils.clip_grad_norm_(self.weights, self.deck["clip"].norm)

    def run_epoch(self, on_batch: Callable[[int, int], None] = lambda done, of: None) -> dict[str, float]:
        """One pass over the training frames and a validation of the average; returns the row of metrics.

        ``on_batch`` is called after each batch with the number of batches done, and of all.
        """
        todo = self.order(self.epoch)
        self.source.epoch = self.epoch
        total = self.deck["epochs"].epochs * len(todo)
        sums = np.zeros(3 if self.deck["loss"].stress else 2)
        for k, chosen in enumerate(todo):
            self.progress = (self.epoch + k / len(todo)) / self.deck["epochs"].epochs
            for group in self.optimizer.param_groups:
                group["lr"] = self.learning_rate(self.step, total)
            parts = self.descend(self, self.source.part(chosen, self.comm.rank, self.comm.size))
            if not np.isfinite(parts).all():
                raise AgreedError(self.deck["adam"].fault(f"the loss is not finite in epoch {self.epoch + 1}; lower "
                                                          "learning_rate, or give 'clip' or 'warm_up'"))
            sums += parts
            self.average.update()
            self.step += 1
            on_batch(k + 1, len(todo))
        self.epoch += 1
        row = {"epoch": float(self.epoch), "train_loss": self.total(*(sums / len(todo)).tolist()), **self.validate(),
               "learning_rate": float(self.optimizer.param_groups[0]["lr"])}
        self.plateau.see(row["validation_loss"])
        if row["validation_loss"] < self.best:
            self.best, self.best_epoch = row["validation_loss"], self.epoch
            self.best_values = [v.clone() for v in self.average.values]
        self.rows.append(row)
        return row

    def total(self, of_forces: Any, of_energy: Any, *of_stress: Any) -> Any:
        """The weighted loss from its parts, numbers or tensors."""
        loss = self.deck["loss"].force * of_forces + self.deck["loss"].energy * of_energy
        return loss + self.deck["loss"].stress * of_stress[0] if of_stress else loss

    def predict(self, which: list[int]) -> dict[int, Predicted]:
        """Energies, forces and stresses of frames with the current weights, on every rank."""
        cut = batches(which, self.sizes, 512, True)[self.comm.rank::self.comm.size]
        mine = predict(self.network, self.data, [k for some in cut for k in some], cut)
        every = {k: p for some in self.comm.allgather(mine) for k, p in some.items()} if self.comm.size > 1 else mine
        return {k: every[k] for k in which}

    def validate(self) -> dict[str, float]:
        """Loss and errors of the average over the validation frames (eV/Å, eV/atom)."""
        with self.average.in_place():
            predicted = self.predict(self.validation)
        frames = self.data.frames
        df = torch.from_numpy(np.concatenate([predicted[k][1] - frames[k].forces for k in self.validation]))
        de = torch.tensor([(predicted[k][0] - frames[k].energy) / len(frames[k].x) for k in self.validation],
                          dtype=torch.float64)
        species = torch.from_numpy(np.concatenate([frames[k].species for k in self.validation]))
        parts = [float(mean_loss(df, self.huber.of_forces(species))), float(mean_loss(de, self.huber.energy))]
        row = {"force_mae": float(df.abs().mean()), "force_rmse": float(df.square().mean().sqrt()),
               "energy_mae": float(de.abs().mean()), "energy_rmse": float(de.square().mean().sqrt())}
        ds = torch.from_numpy(np.array([predicted[k][2] - frames[k].stress for k in self.validation]))
        if self.deck["loss"].stress and len(ds := ds[torch.isfinite(ds)]):
            parts.append(float(mean_loss(ds, self.huber.stress)))
            row["stress_mae"] = float(ds.abs().mean())
        return {"validation_loss": self.total(*parts), **row}

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the line 'stop' or 'stop_at_force' ends the training."""
        patience, mae = self.deck["stop"].patience, self.deck["stop_at_force"].mae
        return self.epoch >= self.deck["epochs"].epochs or (
            patience is not None and self.epoch - self.best_epoch >= patience) or (
            mae is not None and bool(self.rows) and 1000 * self.rows[-1]["force_mae"] <= mae)

    def state(self) -> dict[str, Any]:
        """Everything a checkpoint needs: only tensors, numbers and text."""
        return {"epoch": self.epoch, "step": self.step, "best": self.best, "best_epoch": self.best_epoch,
                "weights": [w.detach() for w in self.weights], "average": self.average.values,
                "updates": self.average.updates, "best_values": self.best_values,
                "optimizer": self.optimizer.state_dict(), "plateau": dict(vars(self.plateau)), "rows": self.rows,
                **({"sam": self.descend.state()} if isinstance(self.descend, Sam) else {})}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a `state`."""
        self.average.put(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.values, self.average.updates = state["average"], state["updates"]
        self.best_values, self.best, self.best_epoch = state["best_values"], state["best"], state["best_epoch"]
        vars(self.plateau).update(state["plateau"])
        if isinstance(self.descend, Sam):
            self.descend.restore(state["sam"])
        self.epoch, self.step, self.rows = state["epoch"], state["step"], state["rows"]


def make_huber(deck: Deck) -> Huber:
    """The Huber losses of the lines 'huber' and 'huber_species'."""
    line, elements, of_species = deck["huber"], deck["elements"].element, deck["huber_species"]
    unknown = sorted(set(of_species.element) - set(elements))
    if unknown:
        raise AgreedError(of_species.fault(f"{', '.join(unknown)}: not in the line 'elements'"))
    own = dict(zip(of_species.element, of_species.force))
    by_species = torch.tensor([own.get(e, line.force or 1e100) for e in elements], dtype=torch.float64)
    return Huber(line.force, line.energy, line.stress, by_species if own else None)


def plain_step(trainer: Trainer, batch: Batch | None) -> tuple[float, ...]:
    """One optimizer step: gradient, clip, step; returns the parts of the loss."""
    parts = trainer.gradient(batch)
    trainer.clip()
    trainer.optimizer.step()
    return parts
