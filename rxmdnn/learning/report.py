"""The report of a learning loop: figures in PNG and one self-contained page of HTML, from its folder alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import rxmdnn
from rxmdnn.analysis import structure_view
from rxmdnn.analysis.page import NOTHING, Markup, image, page, section, table, tag
from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of, write_text, writing
from rxmdnn.learning.report_figures import draw
from rxmdnn.learning.report_frames import worst_frames
from rxmdnn.learning.story import (
    STEPS,
    Line,
    Story,
    duration,
    number,
    plain_number,
    probability,
    read,
    run_asked,
    sentence,
)
from rxmdnn.units import FS_PER_PS

PAGE = "report.html"
ROUNDS = ("Round", "Model", "Runs", "Failures", "Survival [low, high]", "Alarms", "Frames chosen", "Labels",
          "Retrained model")


def write(folder: Path) -> Path:
    """Write the figures and report.html of a loop's folder, finished or not; the path of the page.

    Without the package plotly the page has no 3-D view and says so. Raises InputError for a damaged ledger or a file
    that cannot be written.
    """
    story = read(folder)
    with writing(folder):
        figures = draw(story, folder)
        scripts = structure_view.scripts()
        frames, drawn = _frames(story, folder, bool(scripts))
        name = folder.resolve().name
        text = page(f"Learning loop {name}", _head(story, name), _cards(story),
                    _figures(figures), _rounds(story), frames, _quarantine(story), _asked(story), _time(story),
                    _deck(story, folder), _origins(story), scripts=scripts if drawn else [])
        return write_text(folder / PAGE, text)


def _head(story: Story, name: str) -> Markup:
    kind = "open" if not story.stop else "good" if story.reached else "bad"
    asked = f"Asked: a model with which a run of {run_asked(story.asked)} finishes without failure." if (
        story.asked) else "The ledger has no line yet that says what was asked."
    return Markup(tag("h1", f"Learning loop {name}") + tag("p", asked, class_="soft")
                  + tag("p", sentence(story), class_=f"verdict {kind}"))


def _cards(story: Story) -> Markup:
    budget, last = story.start.get("budget") or {}, story.survival
    bound, estimate = (probability(last[1].get(key)) for key in ("low", "probability")) if last else (NOTHING, NOTHING)
    cards = [(bound, f"lower bound of survival; estimate {estimate}" if last else "lower bound of survival: not known"),
             (probability(story.asked.get("probability")), "asked for this bound"),
             (len(story.trained), f"retrainings{_of(budget.get('rounds'))}, {len(story.undone)} undone"),
             (story.labelled, f"labels{_of(budget.get('labels'))}"),
             (duration(story.seconds()), f"wall time{_of(budget.get('hours'), ' h')}")]
    return tag("div", *(tag("div", tag("b", value), tag("span", text), class_="card") for value, text in cards),
               class_="cards")


def _of(limit: Any, unit: str = "") -> str:
    return "" if limit is None else f" of at most {plain_number(limit)}{unit}"


def _figures(figures: dict[Path, str]) -> Markup:
    if not figures:
        return Markup()
    return section("Round by round", tag("div", *(image(path, text) for path, text in figures.items()),
                                         class_="figures"))


def _rounds(story: Story) -> Markup:
    if not story.rounds:
        return Markup()
    return section("Rounds", table(ROUNDS, (_row(k, of) for k, of in enumerate(story.rounds))), tag(
        "p", "The runs of a round test the model of that row on velocities that no training has seen. A retrained "
             "model is undone, and the old one goes on, if its errors grew for some kind of frame.", class_="soft"),
        _cells(story))


def _cells(story: Story) -> Markup:
    """Runs and times to failure by size and temperature, folded."""
    rows = [(k, cell.get("n_atoms"), plain_number(cell.get("temperature_K")), cell.get("runs"), cell.get("failures"),
             plain_number(cell.get("exposure_ps")), _interval(cell, _in_ps, "life_fs", "life_low_fs", "life_high_fs"))
            for k, of in enumerate(story.rounds) for cell in of.get("runs", {}).get("cells") or []]
    if not rows:
        return Markup()
    return tag("details", tag("summary", "Runs by size and temperature"), table(
        ("Round", "Atoms", "Temperature (K)", "Runs", "Failures", "Exposure (ps)", "Time to failure (ps) [low, high]"),
        rows))


def _in_ps(femtoseconds: Any) -> str:
    return plain_number(number(femtoseconds) / FS_PER_PS, 3)


def _row(k: int, of: dict[str, Line]) -> list[Any]:
    runs, choose, label, train = (of.get(step, {}) for step in STEPS)
    s = runs.get("survival")
    alarms = ", ".join(f"{kind} {n}" for kind, n in sorted((runs.get("alarms") or {}).items()))
    chosen = f"{choose.get('chosen')} of {choose.get('candidates')}" if choose else NOTHING
    labels = f"{label.get('labelled')}, {len(label.get('quarantined') or [])} quarantined" if label else NOTHING
    return [k, _short(runs.get("model")), runs.get("runs"), runs.get("failures"),
            _interval(s, probability, "probability", "low", "high") if s else NOTHING, alarms or NOTHING, chosen,
            tag("span", labels, class_="line"), _outcome(train)]


def _interval(values: Line, shown: Callable[[Any], str], at: str, low: str, high: str) -> Markup:
    return tag("span", f"{shown(values.get(at))} [{shown(values.get(low))}, {shown(values.get(high))}]", class_="line")


def _outcome(train: Line) -> Markup:
    if not train:
        return Markup(NOTHING)
    worse = ", ".join(map(str, train.get("worse") or []))
    told = tag("span", "kept", class_="kept") if train.get("kept") else tag(
        "span", "undone" + (f": worse on {worse}" if worse else ""), class_="undone")
    return Markup(f"{told} {_short(train.get('model'))}")


def _short(digest: Any) -> Markup:
    return Markup(NOTHING) if digest is None else tag("code", str(digest)[:10], title=str(digest))


def _frames(story: Story, folder: Path, able: bool) -> tuple[Markup, bool]:
    """The section of the worst frames, and whether it has a view."""
    title = "Worst chosen frames"
    try:
        found = worst_frames(story, folder)
    except InputError as error:
        return section(title, tag("p", str(error))), False
    if not found:
        return Markup(), False
    if not able:
        return section(title, tag("p", f"Not shown: {structure_view.MISSING}."),
                       tag("ul", *(tag("li", caption) for _, _, caption in found))), False
    atoms, marked, captions = zip(*found)
    told = ("The atom of the alarm is marked. Drag to turn, scroll or pinch to zoom; the slider goes through the "
            "frames, those farthest from the training data in latent space first.")
    return section(title, tag("p", told, class_="soft"), structure_view.view(atoms, marked, captions)), True


def _quarantine(story: Story) -> Markup:
    rows = [(k, q.get("frame"), q.get("reason")) for k, of in enumerate(story.rounds)
            for q in of.get("label", {}).get("quarantined") or []]
    if not rows:
        return Markup()
    return section("Quarantine", table(("Round", "Frame", "Reason"), rows), tag(
        "p", "Frames whose label was not trusted; they are in no training set.", class_="soft"))


def _asked(story: Story) -> Markup:
    if not story.start:
        return Markup()
    asked, budget = story.asked, story.start.get("budget") or {}
    rows = [("Run to survive", run_asked(asked)),
            ("Probability of survival", f"at least {probability(asked.get('probability'))}, shown with a confidence of "
                                        f"{plain_number(asked.get('confidence'))}"),
            ("Labels by", story.start.get("engine")),
            ("Budget", ", ".join(f"{plain_number(budget[key])} {unit}" for key, unit in (
                ("labels", "labels"), ("rounds", "rounds"), ("hours", "h")) if budget.get(key) is not None))]
    if story.stop:
        rows.append(("Ended by", story.stop.get("text") or story.stop.get("reason")))
    return section("What was asked", table(("", ""), rows))


def _time(story: Story) -> Markup:
    rows = [(step, duration(story.seconds(step)), duration(story.seconds(step, "cpu_s"))) for step in STEPS]
    if not story.rounds:
        return Markup()
    return section("Time by step", table(("Step", "Wall", "CPU"), [
        *rows, ("all", duration(story.seconds()), duration(story.seconds(clock="cpu_s")))]))


def _deck(story: Story, folder: Path) -> Markup:
    """The lines of the deck in the ledger, or a copy in the folder whose digest the ledger has."""
    deck = story.start.get("deck")
    if isinstance(deck, dict):
        return section("Deck", tag("pre", "\n".join(map(str, deck.values()))))
    for path in sorted(folder.glob("*.in")):
        if sha256_of(path) == deck:
            return section(f"Deck {path.name}", tag("pre", path.read_text(encoding="utf-8", errors="replace")))
    return Markup()


def _origins(story: Story) -> Markup:
    """Versions and digests from which everything can be traced."""
    start, rows = story.start, []
    if start:
        model = start.get("model") or {}
        decks = start.get("decks") or {}
        rows = [("start model", model.get("file"), model.get("sha256")), *(("deck", *of) for of in decks.items())]
        if isinstance(start.get("deck"), str):
            rows.append(("deck", "", start["deck"]))
        rows += [("data", f"{d.get('file')}" + (f", {d['frames']} frames" if "frames" in d else ""), d.get("sha256"))
                 for d in start.get("data") or []]
    for k, of in enumerate(story.rounds):
        for step, key, what in (("choose", "frames", "chosen frames"), ("label", "labels", "labels"),
                                ("train", "model", "model")):
            if of.get(step, {}).get(key) is not None:
                undone = " (undone)" if step == "train" and not of[step].get("kept") else ""
                rows.append((f"round {k}", what + undone, of[step][key]))
    times = [line["time"] for line in (start, story.stop) if line.get("time") is not None]
    begun = f" Begun {', ended '.join(map(str, times))}." if times else ""
    versions = f"Loop: {start.get('version', NOTHING)}; report: rxmdnn {rxmdnn.__version__}.{begun}"
    digests = table(("What", "File", "SHA-256"), (
        (a, b, NOTHING if c is None else tag("code", c)) for a, b, c in rows)) if rows else ""
    return section("Versions and digests", tag("p", versions, class_="soft"), digests)
