"""What the ledger of a learning loop tells: its lines by round and step, and the state reached in plain words."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rxmdnn.learning import ledger

STEPS = ledger.STEPS[1:-1]  # of a round
Line = dict[str, Any]


@dataclass
class Story:
    """A loop as far as it went.

    start : line of the start, empty before it
    rounds : one for each round that began, from 0: {step: its last line}
    stop : line of the end, empty while the loop goes on
    """

    start: Line = field(default_factory=dict)
    rounds: list[dict[str, Line]] = field(default_factory=list)
    stop: Line = field(default_factory=dict)

    @property
    def asked(self) -> Line:
        """Atoms, ps, temperature_K, probability and confidence that the loop has to show."""
        return self.start.get("asked") or {}

    @property
    def labelled(self) -> int:
        """Labels of all rounds, those whose training was undone too."""
        return sum(int(of["label"].get("labelled", 0)) for of in self.rounds if "label" in of)

    @property
    def trained(self) -> list[tuple[int, Line]]:
        """The rounds that retrained the model, with their lines."""
        return [(k, of["train"]) for k, of in enumerate(self.rounds) if "train" in of]

    @property
    def undone(self) -> list[int]:
        """Rounds whose retrained model was rejected."""
        return [k for k, line in self.trained if not line.get("kept")]

    @property
    def survival(self) -> tuple[int, Line] | None:
        """The last survival that could be estimated, and its round."""
        for k in reversed(range(len(self.rounds))):
            if found := self.rounds[k].get("runs", {}).get("survival"):
                return k, found
        return None

    @property
    def reached(self) -> bool:
        """Whether the lower bound of the survival last estimated is at least the probability asked for."""
        last = self.survival
        return last is not None and number(last[1].get("low")) >= number(self.asked.get("probability"))

    def seconds(self, step: str | None = None, clock: str = "seconds") -> float:
        """Wall or CPU time (``clock`` "cpu_s") of one step in all rounds, or of all steps."""
        lines = [self.start, self.stop] if step is None else []
        lines += [line for of in self.rounds for name, line in of.items() if step in (None, name)]
        return sum(t for line in lines if math.isfinite(t := number(line.get(clock))))


def read(folder: Path) -> Story:
    """The story of a loop's folder; empty without a ledger. Raises InputError for a damaged one."""
    story = Story()
    for line in ledger.read(folder / ledger.NAME) if (folder / ledger.NAME).is_file() else []:
        if line["step"] == "start":
            story.start = line
        elif line["step"] == "stop":
            story.stop = line
        else:
            story.rounds += [{} for _ in range(len(story.rounds), line["round"] + 1)]
            story.rounds[line["round"]][line["step"]] = line
            story.stop = {}  # with a larger budget it has gone on
    return story


def number(value: Any) -> float:
    """A number of a ledger; NaN for anything else."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan


def plain_number(value: Any, digits: int = 4) -> str:
    """A number in ``digits`` significant digits, without an exponent below a million; a dash if there is none."""
    x = number(value)
    if not math.isfinite(x):
        return "–"
    return f"{x:,.0f}" if 10**digits <= abs(x) < 1e6 else f"{x:.{digits}g}"


def probability(value: Any) -> str:
    """A probability in three decimals; one that is neither 0 nor 1 is never shown as either."""
    p = number(value)
    if not math.isfinite(p):
        return "–"
    if p > 0.9995:
        return "1" if p >= 1 else "> 0.999"
    if p < 0.0005:
        return "0" if p <= 0 else "< 0.001"
    return f"{p:.3f}"


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.2g} s"


def run_asked(asked: Line) -> str:
    """The run to survive, in words."""
    return (f"{plain_number(asked.get('atoms'))} atoms for {plain_number(asked.get('ps'))} ps at "
            f"{plain_number(asked.get('temperature_K'))} K")


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"


def sentence(story: Story) -> str:
    """What was reached, in one or two plain sentences."""
    if not story.start and not story.rounds:
        return "Nothing has been done yet."
    shown = _survival_shown(story)
    spent = f"after {_count(len(story.trained), 'retraining')} and {_count(story.labelled, 'label')}"
    if not story.stop:
        done = [step for step in STEPS if story.rounds and step in story.rounds[-1]]
        where = f"round {len(story.rounds) - 1}, last finished step: {done[-1]}" if done else "before its first runs"
        return f"The loop is not finished ({where}). {shown}"
    if story.reached:
        return f"Survival is shown, {spent}. {shown}"
    reason = {"budget": "the budget is spent", "rounds": "all rounds are done"}
    text = reason.get(str(story.stop.get("reason")), str(story.stop.get("text") or story.stop.get("reason")))
    return f"Survival is not shown: {text}, {spent}. {shown}"


def _survival_shown(story: Story) -> str:
    last = story.survival
    if last is None:
        return "The probability of survival could not be estimated" + ("." if story.stop else " yet.")
    at, s = last
    of = {**story.asked, **{key: value for key, value in s.items() if value is not None}}
    how = ", extrapolated from hotter runs" if s.get("method") == "ladder" else ""
    confidence = number(of.get("confidence"))
    level = f" at {100 * confidence:.3g} % confidence" if math.isfinite(confidence) else ""
    asked = probability(story.asked.get("probability"))
    return (f"A run of {run_asked(of)} finishes without failure with a probability of at least "
            f"{probability(s.get('low'))}{level} (estimate {probability(s.get('probability'))}, runs of round {at}"
            f"{how}); at least {asked} was asked for.")
