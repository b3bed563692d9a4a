"""The plan of a study of times to failure: its checked deck, its runs, and the batches that are propagated together."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.deck.language import Deck
from rxmdnn.deck.tfail import WATCHED
from rxmdnn.errors import InputError
from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.io.structure import species_of
from rxmdnn.isotopes import element_of, standard_mass
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import AgreedError, together
from rxmdnn.survival.replicas import Replicas
from rxmdnn.survival.starts import StartFrames, read_starts
from rxmdnn.units import FS_PER_PS


@dataclass(frozen=True)
class StudyModel:
    """file : Path; arm : str; seed : int, of its training; name : str, unique in the study"""

    file: Path
    arm: str
    seed: int
    name: str


@dataclass(frozen=True)
class StudyRun:
    """One run of a study: its model, number of atoms, temperature (K), replica, and draw of velocities and noise."""

    model: StudyModel
    n: int
    temperature: float
    replica: int
    draw: int = 0

    @property
    def name(self) -> str:
        return f"{self.model.name}/{self.n}/{self.temperature:g}/{self.replica}"

    @property
    def key(self) -> int:
        """Key of the random numbers: equal for all models at one size, temperature, replica and draw."""
        return zlib.crc32(f"{self.n} {self.temperature:.6f} {self.replica}{f' {self.draw}' * bool(self.draw)}".encode())

    @property
    def start(self) -> int:
        """Number of its start frame; numbers beyond the last frame begin again at the first."""
        return self.replica + self.draw


class StudyPlan:
    """A checked deck of a study, equal on all ranks. Raises InputError with every fault of the deck.

    Parameters
    ----------
    deck : Deck, of ``rxmdnn.deck.tfail``
    comm : MPI.Intracomm
    load : (file, elements, precision) -> Potential; Allegro by default

    Attributes
    ----------
    folder : Path, of the results; criteria : tuple of str, those that end a run
    dt : float, fs; check_steps, cap_steps : int, steps between checks and of the longest run (whole checks)
    models : list of StudyModel; replica_counts : {atoms: runs of each model and temperature}
    starts : {atoms: StartFrames}; elements : tuple of str; mass : (n_elements,) float64, amu
    limits : Limits, of the criteria; backend : Backend
    """

    def __init__(self, deck: Deck, comm: MPI.Intracomm, load: Callable[..., Potential] | None = None) -> None:
        self.deck = deck
        self.folder: Path = deck["output"].folder if deck["output"].given else deck.path(deck["output"].folder)
        self.dt, self.check_steps = deck["dt"].dt, deck["check"].steps
        self.cap_steps = int(deck["cap"].time * FS_PER_PS / self.dt // self.check_steps) * self.check_steps
        if load is None:
            from rxmdnn.models.allegro import Allegro

            load = Allegro.load
        self._load = load
        self.criteria = tuple(deck["criteria"].kind)
        self.replica_counts = replica_counts(deck)
        self.models = _models(deck)
        self.backend: Backend = backends.make("cpu")
        with together(comm):
            self._check()

    # ------------------------------------------------------------------------------------ checks
    def _check(self) -> None:
        """Find every fault before a step is made."""
        faults = self._line_faults()
        self.starts = self._read_starts(faults)
        self.elements = tuple(dict.fromkeys(e for s in self.starts.values() for e in s.names.tolist()))
        self.mass = self._masses(faults)
        self.limits = Limits.of(self.elements)
        for model in self.models:
            try:
                self.potential(model.file)
            except InputError as error:
                faults += error.faults
        if faults:
            raise InputError(*faults)
        if set(self.criteria) == {"bond"} and not self._has_bonds():
            raise InputError(self.deck["criteria"].fault("'bond' is unreachable: the start has no bonds; add 'pair' or "
                                                         "'temperature'"))

    def _line_faults(self) -> list[str]:
        """Faults of single lines of the deck. Raises InputError where no start is given."""
        deck = self.deck
        faults = [] if self.models else [f"{deck.file}: model: missing; write 'model <file> <arm> <training_seed>'"]
        if not deck["start"]:
            raise InputError(*faults, f"{deck.file}: start: missing; write 'start <file>'")
        names = [m.name for m in self.models]
        faults += [f"{deck.file}: model: {name}: given twice; give each model its own arm and training seed"
                   for name in sorted({name for name in names if names.count(name) > 1})]
        faults += [deck["criteria"].fault(f"'{kind}' is unreachable: a study has no limits for it; available: "
                                          f"{', '.join(WATCHED)}") for kind in self.criteria if kind not in WATCHED]
        if self.cap_steps < self.check_steps:
            faults.append(deck["cap"].fault(f"{deck['cap'].time:g} ps end before the first check, at step "
                                            f"{self.check_steps}: no criterion could be reached"))
        return faults

    def _read_starts(self, faults: Sequence[str]) -> dict[int, StartFrames]:
        sizes = self.deck["sizes"]
        try:
            return read_starts([s.file for s in self.deck["start"]], list(dict.fromkeys(sizes.atoms)))
        except InputError as error:
            raise InputError(*faults, *(sizes.fault(f.removeprefix("sizes: ")) if f.startswith("sizes: ") else f
                                        for f in error.faults)) from None

    def _masses(self, faults: list[str]) -> np.ndarray:
        """(n_elements,) amu, of the deck or natural; faults are added to the list."""
        line = self.deck["masses"]
        given = dict(zip(line.element, line.mass))
        faults += [line.fault(f"{e} is not in the starts ({' '.join(self.elements)})")
                   for e in given if e not in self.elements]
        faults += [f"{self.deck.file}: masses: {e} is not a chemical element; give its mass" for e in self.elements
                   if e not in given and element_of(e) not in atomic_numbers]
        return np.array([given.get(e, standard_mass(e)) for e in self.elements])

    def _has_bonds(self) -> bool:
        return bool((self.bonds(self.potential(self.models[0].file), max(self.starts)) >= 0).any())

    # ------------------------------------------------------------------------------------ systems
    def potential(self, file: Path) -> Potential:
        """The potential of a model file, for the elements of the study."""
        return self._load(file, self.elements, self.deck["precision"].network)

    def species(self, n: int) -> np.ndarray:
        """(n,) int32 species of the start of n atoms."""
        return species_of(self.starts[n].names, self.elements, "start")

    def replicas(self, potential: Potential, n: int, x: np.ndarray, temperature: np.ndarray, keys: np.ndarray
                 ) -> Replicas:
        """K replicas of n atoms. x : (K, n, 3) Å; temperature : (K,) K; keys : (K,) int64, of the random numbers."""
        return Replicas(self.backend, potential, self.starts[n].cell, self.species(n), self.mass, x, temperature, keys,
                        self.deck["seed"].number, self.deck["skin"].skin)

    def bonds(self, potential: Potential, n: int) -> np.ndarray:
        """(n, B) atoms bonded to each atom of the start of n atoms, -1 where there are fewer."""
        r = self.replicas(potential, n, self.starts[n].x[:1], np.ones(1), np.zeros(1, np.int64))
        r.compute()
        close = criteria.close_edges(r.edges.center, r.edges.neighbor, r.edges.r_ij, self.limits.reach)
        return criteria.topology(close, r.kind, r.row.astype(np.int64), n, self.limits.bonded)

    # ------------------------------------------------------------------------------------ runs
    def runs(self) -> list[StudyRun]:
        """All runs: large systems first, then high temperatures."""
        by_training = self.deck["seed"].of == "training"
        return [StudyRun(m, n, t, k, m.seed if by_training else 0)
                for n in sorted(self.starts, reverse=True)
                for t in sorted(set(self.deck["temperatures"].t), reverse=True)
                for m in self.models for k in range(self.replica_counts[n])]

    def batches(self, runs: Sequence[StudyRun]) -> list[list[StudyRun]]:
        """Runs of one model and size that are propagated together; large systems first, models alternate."""
        out: list[list[StudyRun]] = []
        for n in sorted(self.starts, reverse=True):
            length = max(1, self.deck["batch"].atoms // n)
            by_model = [[r for r in runs if r.model is m and r.n == n] for m in self.models]
            for first in range(0, max(map(len, by_model), default=0), length):
                out += [rows[first : first + length] for rows in by_model if rows[first : first + length]]
        return out


def replica_counts(deck: Deck) -> dict[int, int]:
    """Runs of each model and temperature, by number of atoms."""
    sizes, counts = deck["sizes"].atoms, deck["replicas"].n
    if len(counts) not in (1, len(sizes)):
        raise AgreedError(deck["replicas"].fault(f"{len(counts)} numbers for {len(sizes)} sizes; give one, or one for "
                                                 "each size"))
    return dict(zip(sizes, counts * (len(sizes) if len(counts) == 1 else 1)))


def _models(deck: Deck) -> list[StudyModel]:
    """The models of a deck, named by their files, or by arm and training seed where file names are equal."""
    stems = [m.file.stem for m in deck["model"]]
    return [StudyModel(m.file, m.arm, m.training_seed,
                       m.file.stem if stems.count(m.file.stem) == 1 else f"{m.arm}_{m.training_seed}")
            for m in deck["model"]]
