"""``rxmdnn tfail tfail.in``: many runs of many models until they fail, in pairs, in batches, over ranks, resumable.

Runs are grouped into batches of replicas of one model and size, which are the same whatever the number of ranks. Rank 0
hands batches out and keeps the books between its own steps.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase.data import atomic_masses, atomic_numbers
from mpi4py import MPI
from tqdm import tqdm

from rxmdnn import backend as backends
from rxmdnn.backend import Backend
from rxmdnn.deck.language import Deck
from rxmdnn.deck.tfail import WATCHED
from rxmdnn.errors import InputError
from rxmdnn.fidelity import criteria
from rxmdnn.fidelity.criteria import Band, Found, Limits
from rxmdnn.io.structure import species_of
from rxmdnn.models.interface import Potential
from rxmdnn.parallel import AgreedError, on_root, together
from rxmdnn.survival import results
from rxmdnn.survival.desk import Desk
from rxmdnn.survival.replicas import THERMOSTATS, Constant, Langevin, Replicas
from rxmdnn.survival.starts import Model, Run, read_starts

FREE = ("model", "sizes", "temperatures", "replicas", "batch", "output", "cap", "start")  # may change between resumes


@dataclass
class Story:
    """What is known of a run in flight: first[kind] = (step, atom, value, threshold); frames as text."""

    run: Run
    first: dict[str, tuple[int, int, float, float]] = field(default_factory=dict)
    before: deque[tuple[int, np.ndarray, np.ndarray]] = field(default_factory=deque)
    frames: list[str] = field(default_factory=list)
    failure: str = ""


class Study:
    """A deck, checked, on all ranks.

    load : (file, elements, precision) -> Potential; Allegro where it is left out
    """

    def __init__(self, deck: Deck, comm: MPI.Intracomm, load: Callable[..., Potential] | None = None) -> None:
        self.deck, self.comm = deck, comm
        self.folder: Path = deck["output"].folder if deck["output"].given else deck.path(deck["output"].folder)
        self.dt, self.every = deck["dt"].dt, deck["check"].steps
        self.cap = int(deck["cap"].time * 1000 / self.dt // self.every) * self.every  # whole checks
        if load is None:
            from rxmdnn.models.allegro import Allegro

            load = Allegro.load
        self.load = load
        self.criteria = tuple(deck["criteria"].kind)
        names = [m.file.stem for m in deck["model"]]
        sizes, counts = deck["sizes"].atoms, deck["replicas"].n
        if len(counts) not in (1, len(sizes)):
            raise AgreedError(deck["replicas"].fault(f"{len(counts)} numbers for {len(sizes)} sizes; give one, or one "
                                                     "for each size"))
        self.count = dict(zip(sizes, counts * (len(sizes) if len(counts) == 1 else 1)))
        self.models = [Model(m.file, m.arm, m.training_seed,
                             m.file.stem if names.count(m.file.stem) == 1 else f"{m.arm}_{m.training_seed}")
                       for m in deck["model"]]
        self.backend: Backend = backends.make("cpu")
        with together(comm):
            self._check()

    def _check(self) -> None:
        """Everything that can be wrong before a step is made."""
        deck = self.deck
        faults = [] if self.models else [f"{deck.file}: model: missing; write 'model <file> <arm> <training_seed>'"]
        if not deck["start"]:
            raise InputError(*faults, f"{deck.file}: start: missing; write 'start <file>'")
        twice = sorted({m.name for m in self.models if [k.name for k in self.models].count(m.name) > 1})
        faults += [f"{deck.file}: model: {m}: given twice; give arms and training seeds of their own" for m in twice]
        line = deck["criteria"]
        faults += [line.fault(f"'{k}' is unreachable: a study has no limits for it; it watches {', '.join(WATCHED)}")
                   for k in self.criteria if k not in WATCHED]
        if self.cap < self.every:
            faults.append(deck["cap"].fault(f"{deck['cap'].time:g} ps end before the first check, at step {self.every}"
                                            ": no criterion could be reached"))
        try:
            self.starts = read_starts([s.file for s in deck["start"]], list(dict.fromkeys(deck["sizes"].atoms)))
        except InputError as error:
            raise InputError(*faults, *(deck["sizes"].fault(f.removeprefix("sizes: ")) if f.startswith("sizes: ") else f
                                        for f in error.faults)) from None
        self.elements = tuple(dict.fromkeys(e for s in self.starts.values() for e in s.names.tolist()))
        given = dict(zip(deck["masses"].element, deck["masses"].mass))
        faults += [deck["masses"].fault(f"{e} is not in the starts ({' '.join(self.elements)})")
                   for e in given if e not in self.elements]
        faults += [f"{deck.file}: masses: {e} is no chemical element; give its mass" for e in self.elements
                   if e not in given and e not in atomic_numbers]
        self.mass = np.array([given.get(e, atomic_masses[atomic_numbers.get(e, 0)]) for e in self.elements])
        self.limits = Limits.of(self.elements)
        for model in self.models:
            try:
                self.load(model.file, self.elements, deck["precision"].network)
            except InputError as error:
                faults += error.faults
        if faults:
            raise InputError(*faults)
        n = max(self.starts)
        if set(self.criteria) == {"bond"} and not (self._bonds(self.potential(self.models[0]), n) >= 0).any():
            raise InputError(line.fault("'bond' is unreachable: the start has no bonds; add 'pair' or 'temperature'"))

    def potential(self, model: Model) -> Potential:
        return self.load(model.file, self.elements, self.deck["precision"].network)

    def species(self, n: int) -> np.ndarray:
        return species_of(self.starts[n].names, self.elements, "start")

    def _bonds(self, potential: Potential, n: int) -> np.ndarray:
        """(n, B) atoms bonded to each atom of the start of n atoms, -1 where there are fewer."""
        r = self.replicas(potential, n, self.starts[n].x[:1], np.ones(1), np.zeros(1, np.int64))
        r.compute()
        close = criteria.close_edges(r.edges.center, r.edges.neighbor, r.edges.r_ij, self.limits.reach)
        return criteria.topology(close, r.kind, r.row.astype(np.int64), n, self.limits.bonded)

    def replicas(self, potential: Potential, n: int, x: np.ndarray, temperature: np.ndarray, keys: np.ndarray
                 ) -> Replicas:
        return Replicas(self.backend, potential, self.starts[n].cell, self.species(n), self.mass, x, temperature, keys,
                        self.deck["seed"].number, self.deck["skin"].skin)

    # ------------------------------------------------------------------------------------ the whole
    def all_runs(self) -> list[Run]:
        d = self.deck
        own = d["seed"].of == "training"
        return [Run(m, n, t, k, m.seed if own else 0) for n in sorted(self.starts, reverse=True) for t in sorted(
            set(d["temperatures"].t), reverse=True) for m in self.models for k in range(self.count[n])]

    def batches(self, runs: Sequence[Run]) -> list[list[Run]]:
        """Runs that are moved together: of one model and size, hot ones first, large systems first."""
        out: list[list[Run]] = []
        for n in sorted(self.starts, reverse=True):
            together_ = max(1, self.deck["batch"].atoms // n)
            of_model = [[r for r in runs if r.model is m and r.n == n] for m in self.models]
            for at in range(0, max(map(len, of_model), default=0), together_):  # models take turns
                out += [rows[at : at + together_] for rows in of_model if rows[at : at + together_]]
        return out

    def run(self) -> None:
        """All runs that are not done yet; results.h5 at the end."""
        deck, comm, folder = self.deck, self.comm, self.folder
        lines = {row.split()[0]: " ".join(row.split("<")[0].split()) for row in deck.echo().splitlines()}
        digests = {m.name: hashlib.sha256(m.file.read_bytes()).hexdigest() for m in self.models}
        done = on_root(comm, lambda: results.begin(folder, {"deck": lines, "models": digests}, FREE))
        everything = self.all_runs()
        rest = [r for r in everything if r.name not in done]
        if comm.rank == 0:
            copies = " ".join(map(str, deck["replicas"].n))
            print(f"{len(everything)} runs: {len(self.models)} models, {len(self.starts)} sizes, "
                  f"{len(set(deck['temperatures'].t))} temperatures, {copies} replicas; "
                  f"{len(everything) - len(rest)} done; {comm.size} rank{'s' if comm.size > 1 else ''}", flush=True)
        self._thermalize(rest)
        bar = tqdm(total=len(everything), initial=len(everything) - len(rest), unit="run",
                   disable=comm.rank > 0 or not sys.stderr.isatty())
        desk = Desk(comm, self.batches(rest), folder, bar)
        while (batch := desk.next()) is not None:
            self.run_batch(batch, desk)
        desk.close()
        if comm.rank == 0:
            bar.close()
            path = results.write_h5(folder)
            rows = results.read(folder)
            print(f"{sum(r['failed'] for r in rows)} of {len(rows)} runs failed; {folder / results.CSV}, {path.name}, "
                  f"{results.FRAMES}")

    def _thermalize(self, runs: Sequence[Run]) -> None:
        """Positions of every start after a run with the reference model, kept in files; cells are shared out."""
        line = self.deck["thermalize"]
        cells = sorted({(r.n, r.temperature) for r in runs})
        if line.file is None or not cells:
            return
        with together(self.comm):
            potential = self.load(line.file, self.elements, self.deck["precision"].network)
        digest = zlib.crc32(line.file.read_bytes() + f"{line.time} {line.dt} {self.deck['seed'].number}".encode())
        for k, (n, t) in enumerate(reversed(cells)):
            path = self._start_file(n, t)
            if k % self.comm.size != self.comm.rank:
                continue
            count = 1 + max(r.start for r in self.all_runs() if (r.n, r.temperature) == (n, t))
            if path.exists():
                with np.load(path) as old:
                    if len(old["x"]) >= count and int(old["digest"]) == digest:
                        continue
            keys = np.array([Run(self.models[0], n, t, j).key for j in range(count)])
            pool = self.starts[n].x
            r = self.replicas(potential, n, pool[np.arange(count) % len(pool)], np.full(count, t), keys + (1 << 33))
            r.draw()
            r.compute()
            bath = Langevin(r, line.dt, 100.0)
            for step in range(1, round(line.time * 1000 / line.dt) + 1):
                bath.before(step)
                if r.lost(line.dt).any():
                    raise InputError(f"thermalize: {line.file}: {n} atoms at {t:g} K blew up at step {step}; give a "
                                     "shorter dt, or another model")
                r.compute()
                bath.after(step)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.with_suffix(".new").open("wb") as out:
                np.savez(out, x=r.x, digest=digest)
            path.with_suffix(".new").replace(path)
        self.comm.Barrier()

    def _start_file(self, n: int, t: float) -> Path:
        return self.folder / "starts" / f"{n}_{t:g}.npz"

    def positions(self, batch: Sequence[Run]) -> np.ndarray:
        """(K, n, 3) of the starts of a batch's runs."""
        pool = self.starts[batch[0].n].x
        if self.deck["thermalize"].file is None:
            return np.array([pool[r.start % len(pool)] for r in batch])
        out = []
        for run in batch:
            with np.load(self._start_file(run.n, run.temperature)) as made:
                out.append(made["x"][run.start])
        return np.array(out)

    # ------------------------------------------------------------------------------------ a batch
    def run_batch(self, batch: list[Run], desk: Desk) -> None:
        """Move a batch until its last run has failed or reached the cap; a run that ends leaves at once."""
        deck, n, dt = self.deck, batch[0].n, self.dt
        potential = self.potential(batch[0].model)
        bonds = self._bonds(potential, n)
        r = self.replicas(potential, n, self.positions(batch), np.array([b.temperature for b in batch]),
                          np.array([b.key for b in batch]))
        stories = [Story(b) for b in batch]
        r.draw()
        r.compute()
        bath: Constant = THERMOSTATS[deck["thermostat"].kind](r, dt, deck["thermostat"].tau)
        watch = Watch(self, r, bath, bonds)
        spacing, count, sampling = deck["frames"].spacing, deck["frames"].count, deck["samples"].steps
        with np.errstate(over="ignore", invalid="ignore"):
            for step in range(1, self.cap + 1):
                bath.before(step)
                gone = r.lost(dt)
                if gone.any():  # all that is watched has failed with it
                    for k in np.flatnonzero(gone).tolist():
                        atom = int(np.argmax(np.nan_to_num(np.abs(r.v[k]).max(axis=1), nan=np.inf)))
                        for kind in WATCHED:
                            stories[k].first.setdefault(kind, (step, atom, float("inf"), 0.0))
                    self._leave(r, bath, watch, stories, gone, step, desk)
                    if not stories:
                        return
                r.compute()
                bath.after(step)
                if step % spacing == 0 and count:
                    for k, story in enumerate(stories):
                        story.before.append((step, r.x[k].copy(), r.f[k].copy()))
                        while len(story.before) > count:
                            story.before.popleft()
                if sampling and step % sampling == 0:
                    for k, story in enumerate(stories):
                        story.frames.append(self.frame(story, step, r.x[k], r.f[k], "sample"))
                if step % self.every == 0:
                    watch.look(step, stories)
                    for k, story in enumerate(stories):
                        if not story.failure and self._failed(story):
                            self._note_failure(story, step, r.x[k], r.f[k])
                    ended = np.array([bool(s.failure) and step - s.first[s.failure][0] >= deck["after"].steps
                                      for s in stories])
                    self._leave(r, bath, watch, stories, ended, step, desk)
                    if not stories:
                        return
                desk.poll()
        self._leave(r, bath, watch, stories, np.ones(len(r), bool), self.cap, desk)

    def _failed(self, story: Story) -> str:
        """The criterion of the deck that was met first; "" for none."""
        met = [k for k in self.criteria if k in story.first]
        return min(met, key=lambda k: (story.first[k][0], self.criteria.index(k)), default="")

    def _note_failure(self, story: Story, step: int, x: np.ndarray | None, f: np.ndarray | None) -> None:
        story.failure = self._failed(story)
        if story.failure:
            story.frames += [self.frame(story, s, x_s, f_s, "before") for s, x_s, f_s in story.before if s < step]
            if x is not None and f is not None and np.isfinite(x).all() and np.isfinite(f).all():
                story.frames.append(self.frame(story, step, x, f, "failure"))

    def _leave(self, r: Replicas, bath: Constant, watch: Watch, stories: list[Story], who: np.ndarray, step: int,
               desk: Desk) -> None:
        """Book the runs that end here, and go on without them."""
        if not who.any():
            return
        for k in np.flatnonzero(who).tolist():
            if not stories[k].failure:
                self._note_failure(stories[k], step, None, None)
            desk.done(results.line(self.row(stories[k], step)), "".join(stories[k].frames))
        stories[:] = [s for s, leaves in zip(stories, who) if not leaves]
        bath.keep(~who)
        watch.keep(~who)
        r.keep(~who)

    def row(self, story: Story, step: int) -> list[Any]:
        """A row of results.csv (its columns)."""
        run, kind = story.run, story.failure
        at, gid, value, threshold = story.first[kind] if kind else (-1, -1, float("nan"), float("nan"))
        end = max(step, at)
        return [run.name, run.model.name, run.model.arm, run.model.seed, run.n, float(run.temperature), run.replica,
                float(self.dt), self.every, self.cap, end, float(end * self.dt), int(bool(kind)), kind, at, gid,
                float(value), float(threshold), *(story.first.get(k, (-1,))[0] for k in WATCHED)]

    def frame(self, story: Story, step: int, x: np.ndarray, f: np.ndarray, kind: str) -> str:
        """A frame in extended XYZ with the model's forces."""
        from rxmdnn.labelling.labelling import text

        run, start = story.run, self.starts[story.run.n]
        atoms = ase.Atoms(start.names.tolist(), x, cell=start.cell.h, pbc=start.cell.pbc)
        atoms.arrays["forces"] = f
        atoms.info = {"run": run.name, "kind": kind, "model": run.model.name, "arm": run.model.arm,
                      "training_seed": run.model.seed, "temperature": run.temperature, "replica": run.replica,
                      "step": step, "time_fs": float(step * self.dt)}
        if kind != "sample":
            failed_at, gid, value, _ = story.first[story.failure]
            atoms.info |= {"criterion": story.failure, "failed_step": failed_at, "gid": gid, "value": float(value)}
        return text(atoms)


class Watch:
    """The criteria over a batch."""

    def __init__(self, study: Study, r: Replicas, bath: Constant, bonds: np.ndarray) -> None:
        self.study, self.r, self.bath, self.bonds = study, r, bath, bonds
        interval = study.every * study.dt
        self.temperature, self.energy = Band(interval), Band(interval)
        self.energy_0 = bath.conserved()
        species = study.species(r.n)
        self.bond_species = np.where(bonds >= 0, species[np.maximum(bonds, 0)], 0)

    def keep(self, alive: np.ndarray) -> None:
        self.energy_0 = self.energy_0[alive]
        for band in (self.temperature, self.energy):
            band.values = deque((v[alive] for v in band.values), maxlen=band.values.maxlen)

    def look(self, step: int, stories: list[Story]) -> None:
        """Note the first time of every criterion of every run."""
        r, n, limits = self.r, self.r.n, self.study.limits
        m, count = len(r) * n, len(r)
        local = np.tile(self.bonds, (count, 1))
        bonds = np.where(local >= 0, local + n * np.repeat(np.arange(count), n)[:, None], -1)
        gid = r.row.astype(np.int64)
        found = criteria.examine(limits, r.edges.center, r.edges.neighbor, r.edges.r_ij, r.kind, gid,
                                 r.x.reshape(m, 3), r.v.reshape(m, 3), r.f.reshape(m, 3), bonds,
                                 np.tile(self.bond_species, (count, 1)))
        now, target = self.bath.temperature(), r.temperature
        width = criteria.allowed(target, n)
        off, mean = self.temperature.outside(now, target, width)
        found.append(Found("temperature", np.flatnonzero(off) * n, mean[off], width[off]))
        gained = criteria.energy_as_temperature(self.bath.conserved() - self.energy_0, n)
        off, mean = self.energy.outside(gained, 0.0, width)
        found.append(Found("energy", np.flatnonzero(off) * n, mean[off], width[off]))
        band = self.study.deck["published"].band
        off = criteria.published(now - target, 0.0, band)
        found.append(Found("published", np.flatnonzero(off) * n, now[off], np.full(off.sum(), band)))
        whole = ("temperature", "energy", "published")
        for item in found:
            for row, value, threshold in zip(item.row, item.value, item.threshold):
                k, atom = divmod(int(row), n)
                stories[k].first.setdefault(item.kind, (step, -1 if item.kind in whole else atom, float(value),
                                                        float(threshold)))


