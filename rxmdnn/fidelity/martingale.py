"""An alarm that is valid at any length of a run: a test martingale of calibrated scores.

Every block of checks gives one p-value: the smallest of all atoms, tails (tail.py) and checks of the block, times their
number (Bonferroni, so that atoms may be correlated; below the start of a tail p is 1). It is turned into a bet of mean
at most 1 by the mixture of powers (Vovk & Wang, Ann. Stat. 49, 1736 (2021), section 2)

    e(p) = ∫_0^1 ε p^(ε-1) dε = (1/p - 1 + ln p)/ln² p,

and bets that begin at block s = 1, 2, ... are mixed with weights π_s = 1/(s (s + 1)), so that a long normal time before
a shift costs little:

    W_t = Σ_{s ≤ t} π_s Π_{i=s}^t e(p_i) + Σ_{s > t} π_s,   W_0 = 1.

W is a supermartingale while the run behaves as the calibrated one, and P(W_t ≥ 1/α at any t) ≤ α (Ville 1939). Blocks
must be longer than the memory of the scores, because p-values must hold given the earlier blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rxmdnn.fidelity.criteria import Close
from rxmdnn.fidelity.observed import observed
from rxmdnn.fidelity.tail import Tail

SMALLEST = 1e-300  # p-value
NEAR_ONE = 1e-3  # -ln p, below which a series is used


def log_bet(p: float | np.ndarray) -> np.ndarray:
    """ln e(p). p : in (0, 1]"""
    far = -np.log(np.maximum(p, SMALLEST))
    safe = np.maximum(far, NEAR_ONE)
    return np.where(far < NEAR_ONE, np.log(0.5 + far / 6),
                    safe - 2 * np.log(safe) + np.log1p(-(1 + safe) * np.exp(-safe)))


def log_wealth(log_bets: float | np.ndarray, block: int) -> np.ndarray:
    """ln W at the end of a block. log_bets : ln of Σ_{s ≤ block} π_s Π e, of ``add``"""
    return np.logaddexp(log_bets, -np.log1p(block))


def add(log_bets: float | np.ndarray, block: int, p: float | np.ndarray) -> np.ndarray:
    """ln of Σ_{s ≤ block} π_s Π e after block 1, 2, ... with this p-value; -inf before the first."""
    return np.logaddexp(log_bets, -np.log(block) - np.log1p(block)) + log_bet(p)


class Scores:
    """The smallest p-value of the atoms of one check.

    Parameters
    ----------
    elements : of the run; tails : {kind: {species: Tail}}, of a calibration; bonded : (T, T) Å, of Limits
    kinds : those that are used; counts : (T,) number of atoms of each element

    Attributes
    ----------
    tests : p-values of a check, over all ranks; reach : Å, of the pairs that matter
    """

    def __init__(self, elements: tuple[str, ...], tails: Mapping[str, Mapping[str, Tail]], bonded: np.ndarray,
                 kinds: frozenset[str] | set[str], counts: np.ndarray) -> None:
        number = dict(zip(elements, counts.tolist()))
        self.elements, self.bonded = elements, bonded
        self.tails = {(kind, name): tail for kind, names in tails.items() if kind in kinds
                      for name, tail in names.items() if all(number.get(e) for e in name.split("-"))}
        self.tests = int(sum(number[name.split("-")[0]] for _, name in self.tails))
        nearest = [np.exp(-tail.start) for (kind, _), tail in self.tails.items() if kind == "pair"]
        self.reach = float(max([*nearest, bonded.max(initial=0.0)]))

    def least(self, close: Close, species: np.ndarray, f: np.ndarray, latent: np.ndarray | None,
              spread: np.ndarray | None) -> float:
        """The smallest p-value of this rank, not multiplied by their number. As for ``observed``."""
        least = 1.0
        for kind, name, values in observed(self.elements, close, species, self.bonded, f, latent, spread):
            tail = self.tails.get((kind, name))
            if tail is not None and len(values):
                least = min(least, tail.exceedance(float(values.max())))
        return least


class Martingale:
    """The wealth W of one run, equal on all ranks.

    alpha : probability of a false alarm in a run of any length; checks : of a block; scores : Scores
    """

    def __init__(self, alpha: float, checks: int, scores: Scores) -> None:
        self.alpha, self.checks, self.scores = alpha, checks, scores
        self._begin()

    def _begin(self) -> None:
        self.log_bets, self.blocks, self.seen, self.least = -np.inf, 0, 0, 1.0

    def describe(self) -> str:
        """A line for the header of the log."""
        return (f"    martingale: alarm at {1 / self.alpha:g}, false in at most {100 * self.alpha:g} % of runs; "
                f"{self.scores.tests} scores per check, {self.checks} checks per block")

    def look(self, least: float) -> None:
        """Add the smallest p-value of a check over all ranks; at the end of a block the wealth changes."""
        self.least, self.seen = min(self.least, least), self.seen + 1
        if self.seen >= self.checks:
            self.blocks += 1
            p = min(1.0, self.least * self.scores.tests * self.checks)
            self.log_bets, self.seen, self.least = float(add(self.log_bets, self.blocks, p)), 0, 1.0

    @property
    def wealth(self) -> float:
        with np.errstate(over="ignore"):
            return float(np.exp(log_wealth(self.log_bets, self.blocks)))

    @property
    def alarmed(self) -> bool:
        return self.wealth >= 1 / self.alpha

    def restart(self) -> None:
        """After a rollback: drop the block that has begun; after an alarm begin a new test."""
        self.seen, self.least = 0, 1.0
        if self.alarmed:
            self._begin()

    def state(self) -> dict[str, Any]:
        """Numbers for a checkpoint."""
        return {"log_bets": self.log_bets if self.blocks else None, "blocks": self.blocks, "seen": self.seen,
                "least": self.least}

    def resume(self, state: Mapping[str, Any]) -> None:
        self.blocks, self.seen, self.least = int(state["blocks"]), int(state["seen"]), float(state["least"])
        self.log_bets = float(state["log_bets"]) if self.blocks else -np.inf
