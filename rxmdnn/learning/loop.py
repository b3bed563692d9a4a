"""``rxmdnn learn learn.in``: run, catch failures, label what led to them, retrain, until survival is shown.

Facts about such loops: query by failure is active learning on the frames that the dynamics of the model itself finds
(Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017); Vandermause et al., npj Comput. Mater. 6, 20 (2020)).
"""

from __future__ import annotations

import shutil
from contextlib import closing, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.files import atomic, sha256_of, writing
from rxmdnn.labelling.engines import engine_of
from rxmdnn.learning import labels, report, runs
from rxmdnn.learning.alarms import INCIDENTS, Alarm, alarms_of
from rxmdnn.learning.choose import KIND, choose
from rxmdnn.learning.choose_random import choose_random
from rxmdnn.learning.ledger import Ledger
from rxmdnn.learning.plan import LearningPlan
from rxmdnn.learning.retrain import errors_by_kind, worsened
from rxmdnn.schema import Checked, Item
from rxmdnn.survival.results import CSV
from rxmdnn.survival.stored import weights_digest
from rxmdnn.training.labelled_frames import read
from rxmdnn.training.training import train

Line = dict[str, Any]
START = {"deck": Item("dict"), "decks": Item("dict"), "model": Item("dict"), "data": Item("list")}


class LearningLoop:
    """The rounds of a loop.

    Parameters
    ----------
    deck : Deck of rxmdnn.deck.learn
    first : Path, optional
        Folder of a production run, whose incidents are the alarms of the first round instead of runs of its own.
    ranks : of the job, which is the default number of workers

    Example
    -------
    >>> LearningLoop(read("learn.in", TABLE)).run()["reason"]  # doctest: +SKIP
    'survival'
    """

    def __init__(self, deck: Deck, first: Path | None = None, ranks: int = 1) -> None:
        if first is not None:
            alarms_of(first)  # its faults, before anything is written
        self.plan, self.first = LearningPlan(deck, ranks), first
        with writing(self.plan.folder):
            self.plan.folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(self.plan.folder, lambda: self.plan.executor.cpu_s)
        start = self.ledger.step(0, "start", lambda: {**self.plan.start_line(), "from": _digest(first)})
        self._check_same(start)

    def _check_same(self, start: Line) -> None:
        """Raises InputError if the folder holds another loop, or files that it names have changed since."""
        Checked(self.ledger.path, "restore the file, or choose another output").entries(start, START)
        now, begun = self.plan.identity(), f"{self.plan.folder}: begun with"
        old, new = ({k: d["deck"].get(k, f"no {k}") for k in {**start["deck"], **now["deck"]}} for d in (start, now))
        faults = [f"{begun} '{old[k]}', not '{new[k]}'; restore it, or choose another output"
                  for k in old if old[k] != new[k]]
        faults += [f"{begun} another '{name}'; restore it, or choose another output"
                   for name in {**start["decks"], **now["decks"]} if start["decks"].get(name) != now["decks"].get(name)]
        if start.get("from") != _digest(self.first):
            faults.append(f"{self.plan.folder}: begun {'with' if start.get('from') else 'without'} '--from' and the "
                          f"incidents of a run, but not with {'these' if self.first else 'none'}; start it in the same "
                          "way, or choose another output")
        if (start["model"]["sha256"], [d["sha256"] for d in start["data"]]) != (
                now["model"]["sha256"], [d["sha256"] for d in now["data"]]):
            faults.append(f"{begun} another model or other data; restore the files, or choose another output")
        if faults:
            raise InputError(*faults)

    def run(self) -> Line:
        """All rounds; the line of the ledger that says why the loop ended."""
        number = 0
        with closing(self.plan.executor):
            while not (reason := self._round(number)):
                self._report()
                number += 1
        end = self.ledger.step(number, "stop", lambda: reason)
        page = self._report()
        print(f"{end['text']}\n{self.model}; {page}", flush=True)
        return end

    def _round(self, number: int) -> Line | None:
        """Runs, and a retraining by what they show, or the reason why the loop ends."""
        done = self.ledger.step(number, "runs", lambda: self._runs(number))
        print(_told(done), flush=True)
        reason = self._reason(number, done)
        if not reason:
            self._repair(number)
        return reason

    @property
    def model(self) -> Path:
        """The present model: that of the last round whose training was kept, or the first."""
        kept = [row["round"] for row in self.ledger.of("train") if row["kept"]]
        return self._folder(max(kept)) / "model.safetensors" if kept else self.plan.model

    def _folder(self, number: int) -> Path:
        return self.plan.folder / f"round_{number}"

    # ------------------------------------------------------------------------------------ steps
    def _jobs(self, number: int) -> list[runs.Job]:
        return [] if number == 0 and self.first else runs.jobs(self.plan, self.model, number)

    def _runs(self, number: int) -> Line:
        """The runs of a round, and what all runs of the present model say about its survival."""
        todo, model = self._jobs(number), weights_digest(self.model)
        runs.run_all(todo, self.plan.executor, f"round {number}: runs")
        rows = runs.rows_of(todo)
        same = [row["round"] for row in self.ledger.of("runs") if row["model"] == model]
        every = [r for k in same for r in runs.rows_of(runs.jobs(self.plan, self.model, k) if k or not self.first
                                                       else [])] + rows
        return {"model": model, **runs.summary(rows), **runs.survival(every, self.plan)}

    def _repair(self, number: int) -> None:
        """Choose, label and retrain after the runs of a round."""
        chosen = self.ledger.step(number, "choose", lambda: self._choose(number))
        if not chosen["chosen"]:
            return
        folder, line = self._folder(number), self.plan.deck["engine"]
        labelled = self.ledger.step(number, "label", lambda: labels.label(folder, line.name, self.plan.executor))
        print(f"round {number}: {chosen['alarms']} alarms, {chosen['chosen']} frames chosen, {labelled['labelled']} "
              f"labelled, {len(labelled['quarantined'])} in quarantine", flush=True)
        if not labelled["labelled"]:
            return
        trained = self.ledger.step(number, "train", lambda: self._train(number))
        before, after = (1e3 * trained[f"errors_{when}"]["all"] for when in ("before", "after"))
        print(f"round {number}: force error on held-out frames {before:.1f} -> {after:.1f} meV/Å; "
              + ("kept" if trained["kept"] else f"undone, for it rose for {', '.join(trained['worse'])}"), flush=True)

    def _choose(self, number: int) -> Line:
        """Choose what is labelled of the frames before the alarms of a round, and write it."""
        deck, jobs = self.plan.deck, self._jobs(number)
        axes, most = engine_of(deck["engine"].name).axes, deck["cut"].atoms
        count = min(deck["labels"].round, deck["budget"].labels - self._labels(number))
        folders = [self.first] if number == 0 and self.first else [Path(job.folder) for job in jobs]
        found = [alarm for folder in folders for alarm in _alarms(folder)]
        if deck["choose"].by == "random":
            chosen = choose_random([Path(job.folder) for job in jobs if job.study], count, most, axes, number)
        else:
            chosen = choose(found, self.model, count, most, axes, deck["labels"].alarm, at_alarm=False)
        path = self._folder(number) / "chosen.xyz"
        if chosen.frames:
            for frame in chosen.frames:
                frame.info["group"] = f"round_{number}_{frame.info['group']}"
            labels.write_frames(path, chosen.frames)
        return {"alarms": len(found), "candidates": chosen.candidates, "failed": chosen.failed,
                "duplicates": chosen.duplicates, "chosen": len(chosen.frames),
                "atoms": sum(map(len, chosen.frames)), "frames": sha256_of(path) if chosen.frames else None}

    def _train(self, number: int) -> Line:
        """Retrain on all labels so far, and keep the result if no kind of held-out frames has become worse."""
        folder, plan, old = self._folder(number), self.plan, self.model
        new = [self._folder(row["round"]) / "labels.xyz" for row in self.ledger.of("label") if row["labelled"]]
        model = folder / "training/model.safetensors"
        print(f"round {number}: training; its log is {folder / 'training.log'}", flush=True)
        log_file = folder / "training.log"
        with writing(log_file), log_file.open("a", encoding="utf-8") as log, redirect_stdout(log):
            train(plan.training("--training_data", *map(str, new), "--from_model", str(old), "--outDir",
                                str(folder / "training"), "--model", str(model)))
        fresh = read([new[-1]], plan.elements)
        line: Line = {}
        for when, file in (("before", old), ("after", model)):
            forces, energies = errors_by_kind(file, plan.guards)
            of_new = errors_by_kind(file, fresh)
            for errors, new_errors in zip((forces, energies), of_new):  # held-out frames of an earlier loop go first
                errors.setdefault(KIND, new_errors["all"])
            line |= {f"errors_{when}": forces, f"energies_{when}": energies}
        worse = worsened(line["errors_before"], line["errors_after"], plan.deck["guard"].percent)
        if not worse:
            kept = folder / "model.safetensors"
            with writing(kept), atomic(kept) as copy:
                shutil.copyfile(model, copy)
        return {"model": weights_digest(model), "kept": not worse, "worse": worse, **line}

    # ------------------------------------------------------------------------------------ the end
    def _labels(self, number: int) -> int:
        """Labels that were paid for before a round chooses: those in quarantine too."""
        return sum(row["chosen"] for row in self.ledger.before(number) if row["step"] == "choose")

    def _reason(self, number: int, done: Line) -> Line | None:
        """Why the loop ends after the runs of this round, or None; later rounds of a loop that goes on do not count."""
        deck, asked = self.plan.deck, self.plan.deck["survive"]
        found, what = done["survival"], f"{asked.time:g} ps of {asked.atoms} atoms at {asked.temperature:g} K"
        level = f"{100 * asked.confidence:g} %"
        if found and found["low"] >= asked.probability:
            return {"reason": "survival", "text": f"survival shown: {what} complete with a probability of at least "
                                                  f"{found['low']:.3f} ({level} confidence)"}
        least = f"at least {found['low']:.3f} ({level} confidence)" if found else (
            f"not known ({done.get('no_bound', 'no runs')})")
        passed, most = sum(row["seconds"] for row in self.ledger.before(number)) / 3600, deck["budget"]
        if self._labels(number) >= most.labels:
            reason, why = "budget", f"all {most.labels} labels are made"
        elif most.hours is not None and passed >= most.hours:
            reason, why = "budget", f"{most.hours:g} hours have passed"
        elif number >= deck["rounds"].number:
            reason, why = "rounds", f"{deck['rounds'].number} rounds are done"
        else:
            return None
        return {"reason": reason,
                "text": f"{why}; survival is not shown: the probability that {what} complete is {least}"}

    def _report(self) -> Path:
        return report.write(self.plan.folder)


def _digest(first: Path | None) -> str | None:
    """SHA-256 of the incidents of the first alarms, or of the results of the study."""
    return None if first is None else sha256_of(next(p for p in (first / CSV, first / INCIDENTS) if p.is_file()))


def _alarms(folder: Path) -> list[Alarm]:
    """The alarms of a job, or of a production run; none where it has none. They and their frames name the folder."""
    if not any((folder / name).exists() for name in (CSV, INCIDENTS)):
        return []
    found = alarms_of(folder)
    for frame in (f for alarm in found for f in alarm.frames):
        frame.info["origin"] = f"{folder.name}/{frame.info['origin']}"
    return [replace(alarm, source=f"{folder.name}/{alarm.source}", group=f"{folder.name}_{alarm.group}")
            for alarm in found]


def _told(done: Line) -> str:
    """The line of the runs of a round."""
    by = ", ".join(f"{count} by {kind}" for kind, count in done["alarms"].items())
    found = done["survival"]
    return (f"round {done['round']}: {done['failures']} of {done['runs']} runs failed{f' ({by})' if by else ''}; "
            + (f"probability of survival {found['probability']:.3f}, at least {found['low']:.3f}" if found else
               f"no bound of survival ({done.get('no_bound', 'unknown')})"))
