"""Figures of a learning loop: survival, times to failure, alarms, errors and frames by round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from rxmdnn.analysis.style import BLUE, GRAY, GREEN, ORANGE, STYLE, save_figure
from rxmdnn.learning.story import Line, Story, number, run_asked
from rxmdnn.survival.figures import COLORS
from rxmdnn.units import FS_PER_PS

SIZE = 4.4, 3.0
LOOK: Any = {**STYLE, "figure.dpi": 200, "text.parse_math": False}  # names in a ledger are not formulas
ERRORS = ("errors", "force error (meV/Å)"), ("energies", "energy error (meV/atom)")
MEV = 1000.0  # meV/eV
MARKERS, REJECTED = "os^D", "#f6e3dd"
MOST_WORDS = 7  # beside each other below an axis


def draw(story: Story, folder: Path) -> dict[Path, str]:
    """Draw those figures whose numbers the ledger has; what each shows, by its path."""
    makers = {"survival": (_survival, "Probability of survival by round, with its interval"),
              "life": (_life, "Times to failure by round; arrows: lower bounds from runs without failure"),
              "alarms": (_alarms, "Alarms by kind in the runs of each round"),
              "errors": (_errors, "Errors by kind of frame before and after each training; crosses: undone"),
              "frames": (_frames, "Frames chosen, labelled and quarantined")}
    made = {}
    with plt.rc_context(LOOK):
        for name, (maker, caption) in makers.items():
            if (figure := maker(story)) is not None:
                made[save_figure(figure, folder / f"{name}.png")] = caption
    return made


def _runs(story: Story) -> list[tuple[int, Line]]:
    return [(k, of["runs"]) for k, of in enumerate(story.rounds) if "runs" in of]


def _panel(height: float = SIZE[1]) -> tuple[Any, Any]:
    figure, panel = plt.subplots(figsize=(SIZE[0], height), layout="constrained")
    _by_round(panel)
    return figure, panel


def _by_round(panel: Any) -> None:
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    panel.set_xlabel("round")


def _style(n: int) -> tuple[str, str]:
    """The color and the marker of the n-th line."""
    return COLORS[n % len(COLORS)], MARKERS[n // len(COLORS) % len(MARKERS)]


def _limits(panel: Any, rounds: Sequence[int]) -> None:
    panel.set_xlim(min(rounds) - 0.6, max(rounds) + 0.6)


def _survival(story: Story) -> Any:
    runs = _runs(story)
    if not runs:
        return None
    figure, panel = _panel()
    known = [(k, [number(of["survival"].get(w)) for w in ("probability", "low", "high")], of["survival"])
             for k, of in runs if of.get("survival")]
    for method, marker, label in (("direct", "o", "from runs as asked"), ("ladder", "s", "from hotter runs")):
        here = [(k, p) for k, p, s in known if (s.get("method") == "ladder") == (method == "ladder")]
        if here:
            at, p = np.array([k for k, _ in here]), np.array([p for _, p in here])
            high = np.where(p[:, 2] < 1.0, p[:, 2], p[:, 0])  # a bound from below has no bar above
            error = np.clip([p[:, 0] - p[:, 1], high - p[:, 0]], 0.0, None)
            panel.errorbar(at, p[:, 0], error, fmt=marker, color=BLUE, capsize=4, ms=6, label=label)
    if len(known) > 1:
        panel.plot([k for k, _, _ in known], [p[0] for _, p, _ in known], color=BLUE, lw=0.8, alpha=0.5)
    unknown = [k for k, of in runs if not of.get("survival")]
    if unknown:
        panel.plot(unknown, np.zeros(len(unknown)), "x", color=GRAY, clip_on=False, label="not known")
    level = number(story.asked.get("probability"))
    if np.isfinite(level):
        panel.axhline(level, color=GREEN, ls="--", lw=1.0, label=f"asked for the lower bound: {level:g}")
        panel.set_title(run_asked(story.asked), color=GRAY, fontsize=8.5)
    panel.set(ylim=(-0.03, 1.05), ylabel="probability of survival")
    _limits(panel, [k for k, _ in runs])
    panel.legend(fontsize=7.5)
    return figure


def _life(story: Story) -> Any:
    cells: dict[tuple[float, float], list[tuple[int, Line]]] = {}
    for k, of in _runs(story):
        for cell in of.get("cells") or []:
            cells.setdefault((number(cell.get("temperature_K")), number(cell.get("n_atoms"))), []).append((k, cell))
    if not cells:
        return None
    figure, panel = _panel()
    span = 0.5 / len(cells)
    for n, ((t, atoms), seen) in enumerate(sorted(cells.items())):
        shift = (n - (len(cells) - 1) / 2) * span
        _life_of_cell(panel, seen, shift, _style(n), f"{atoms:g} atoms, {t:g} K")
    panel.set(yscale="log", ylabel="time to failure (ps)")
    panel.margins(y=0.15)
    bottom, top = panel.get_ylim()
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0,) if top > 30 * bottom else (1.0, 2.0, 5.0)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.yaxis.set_minor_formatter(NullFormatter())
    _limits(panel, [k for k, _ in _runs(story)])
    if panel.get_legend_handles_labels()[0]:
        figure.legend(fontsize=7.5, ncols=min(3, len(cells)), loc="outside upper center")
    return figure


def _life_of_cell(panel: Any, seen: list[tuple[int, Line]], shift: float, style: tuple[str, str],
                  label: str) -> None:
    """Times to failure with intervals; an arrow from the lower bound where no run failed. style : color and marker"""
    color, marker = style
    at = np.array([k + shift for k, _ in seen])
    life, low, high = (np.array([number(cell.get(f"life{w}_fs")) for _, cell in seen]) / FS_PER_PS
                       for w in ("", "_low", "_high"))
    failed = np.array([bool(cell.get("failures")) for _, cell in seen]) & np.isfinite(life)
    if failed.any():
        error = np.nan_to_num(np.clip([(life - low)[failed], (high - life)[failed]], 0.0, None))
        panel.errorbar(at[failed], life[failed], error, fmt=f"{marker}-", ms=4, lw=0.9, capsize=3, color=color,
                       label=label)
    bound = ~failed & np.isfinite(low)
    if bound.any():
        panel.plot(at[bound], low[bound], lw=0, marker="_", ms=7, color=color, label=None if failed.any() else label)
        for x, y in zip(at[bound], low[bound]):
            panel.annotate("", (x, y), (0, 16), textcoords="offset points",
                           arrowprops={"arrowstyle": "<-", "color": color, "shrinkA": 0, "shrinkB": 0})


def _stacked(panel: Any, rounds: Sequence[int], series: dict[str, tuple[Sequence[float], str]]) -> None:
    panel.set_axisbelow(True)
    base = np.zeros(len(rounds))
    for label, (heights, color) in series.items():
        panel.bar(rounds, heights, 0.55, bottom=base, color=color, label=label, edgecolor="w", lw=0.6)
        base = base + np.asarray(heights, float)
    panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylim(0, max(1.0, 1.25 * base.max(initial=0.0)))
    _limits(panel, rounds)
    if series:
        panel.legend(fontsize=7.5, ncols=3)


def _alarms(story: Story) -> Any:
    runs = _runs(story)
    if not runs:
        return None
    kinds = sorted({kind for _, of in runs for kind in of.get("alarms") or {}})
    figure, panel = _panel()
    _stacked(panel, [k for k, _ in runs], {
        kind: ([_whole((of.get("alarms") or {}).get(kind)) for _, of in runs], COLORS[n % len(COLORS)])
        for n, kind in enumerate(kinds)})
    for k, of in runs:
        total = sum(_whole(v) for v in (of.get("alarms") or {}).values())
        panel.annotate(f"{of.get('failures', 0)}/{of.get('runs', 0)}", (k, total), (0, 3),
                       textcoords="offset points", ha="center", fontsize=7.5, color=GRAY)
    panel.set_title("above the bars: failed runs / runs", color=GRAY, fontsize=8.5)
    panel.set_ylabel("alarms")
    return figure


def _whole(value: Any) -> float:
    return max(0.0, float(np.nan_to_num(number(value))))


def _errors(story: Story) -> Any:
    """Of each training the errors before, hollow, and after it, on the same frames."""
    trained = story.trained
    wanted = [(what, unit) for what, unit in ERRORS if any(of.get(f"{what}_after") for _, of in trained)]
    if not wanted:
        return None
    figure, panels = plt.subplots(len(wanted), 1, figsize=(SIZE[0], 0.5 + 2.3 * len(wanted)), squeeze=False,
                                  sharex=True, layout="constrained")
    for panel, (what, unit) in zip(panels[:, 0], wanted):
        kinds = list(dict.fromkeys(kind for _, of in trained for kind in of.get(f"{what}_after") or {}))
        for n, kind in enumerate(kinds):
            _errors_of_kind(panel, trained, what, kind, _style(n))
        for k, of in trained:
            if not of.get("kept"):
                panel.axvspan(k - 0.45, k + 0.45, color=REJECTED, lw=0, zorder=0)
        _scale(panel, [MEV * number(v) for _, of in trained for w in ("before", "after")
                       for v in (of.get(f"{what}_{w}") or {}).values()])
        panel.set_ylabel(unit)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), fontsize=7.5, ncols=4, loc="outside upper center")
    last = panels[-1, 0]
    undone = "\nundone" if len(trained) <= MOST_WORDS else ""
    last.set_xticks([k for k, _ in trained], [f"{k}" + ("" if of.get("kept") else undone) for k, of in trained])
    _limits(last, [k for k, _ in trained])
    last.set_xlabel("round (hollow: before its training)")
    return figure


def _scale(panel: Any, values: Sequence[float]) -> None:
    """From zero, or logarithmic where the errors of the kinds differ much."""
    known = [v for v in values if v > 0]
    if known and max(known) > 20 * min(known):
        panel.set_yscale("log")
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_ylim(bottom=0)


def _errors_of_kind(panel: Any, trained: list[tuple[int, Line]], what: str, kind: str,
                    style: tuple[str, str]) -> None:
    """Lines from before a training to after it, and on to the next training of that model. style : as ``_style``"""
    color, marker = style
    last: tuple[float, float] | None = None
    panel.plot([], [], f"{marker}-", color=color, ms=4, label=kind)
    for k, of in trained:
        before, after = (MEV * number((of.get(f"{what}_{w}") or {}).get(kind)) for w in ("before", "after"))
        x = k - 0.25, k + 0.25
        if last is not None:
            panel.plot([last[0], x[0]], [last[1], before], ":", color=color, lw=0.8)
        panel.plot(x, [before, after], "-" if of.get("kept") else "--", color=color)
        panel.plot(x[0], before, marker, color=color, mfc="w", ms=4)
        panel.plot(x[1], after, marker if of.get("kept") else "x", color=color, ms=4 if of.get("kept") else 6)
        last = (x[1], after) if of.get("kept") else (x[0], before)


def _frames(story: Story) -> Any:
    chosen = [(k, of) for k, of in enumerate(story.rounds) if "choose" in of]
    if not chosen:
        return None
    figure, panel = _panel()
    labelled = [_whole(of.get("label", {}).get("labelled")) for _, of in chosen]
    quarantined = [float(len(of.get("label", {}).get("quarantined") or [])) for _, of in chosen]
    waiting = [max(0.0, _whole(of["choose"].get("chosen")) - a - b) for (_, of), a, b in
               zip(chosen, labelled, quarantined)]
    _stacked(panel, [k for k, _ in chosen], {"labelled": (labelled, GREEN), "quarantined": (quarantined, ORANGE),
                                             "chosen, without a label": (waiting, "#c3cad1")})
    for (k, of), top in zip(chosen, np.add(np.add(labelled, quarantined), waiting)):
        panel.annotate(f"{of['choose'].get('candidates', 0)}", (k, top), (0, 3), textcoords="offset points",
                       ha="center", fontsize=7.5, color=GRAY)
    budget = number((story.start.get("budget") or {}).get("labels"))
    used = f"{story.labelled} labels" + (f" of a budget of {budget:g}" if np.isfinite(budget) else "")
    panel.set_title(f"{used}; above the bars: candidates", color=GRAY, fontsize=8.5)
    panel.set_ylabel("frames chosen")
    return figure
