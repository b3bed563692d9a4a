"""One self-contained page of HTML about a run, from its folder alone: numbers, figures, a 3-D view, log and deck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms

from rxmdnn.analysis import structure_view
from rxmdnn.analysis.bibliography import Paper
from rxmdnn.analysis.citations import methods_of, papers
from rxmdnn.analysis.figures import draw_radial
from rxmdnn.analysis.page import NOTHING, Markup, image, page, section, table, tag
from rxmdnn.analysis.run_figures import Stage, draw_run_energies, draw_temperature, stages_of, stretches
from rxmdnn.analysis.structure import radial
from rxmdnn.analysis.style import STYLE
from rxmdnn.errors import InputError
from rxmdnn.files import write_text, writing
from rxmdnn.io.log import COLUMNS, read_energies
from rxmdnn.io.run_log import LoggedStart, read_log
from rxmdnn.io.stages import read_stages
from rxmdnn.io.trajectory import Snapshot, read_frames
from rxmdnn.schema import Checked, Item, read_json_lines

PAGE = "report.html"
MOST_ATOMS = 3000  # in the 3-D view; more are too many for a browser
VIEWS = 5  # frames of the 3-D view
MOST_INCIDENTS = 50  # rows
INCIDENT = {"incident": Item("int", low=0), "step": Item("int", low=0), "action": Item("text"), "kinds": Item("dict")}
UNITS = {"temperature_mean_K": "K", "temperature_std_K": "K", "pressure_mean_GPa": "GPa", "time_ps": "ps",
         "drift_eV/atom/ps": "eV/atom/ps"}


@dataclass
class Run:
    """What the folder of a run holds.

    Attributes
    ----------
    energies : columns of energies.csv; stages : of its rows; frames : some of the trajectory, evenly spaced
    starts : of run.log; incidents : lines of incidents.jsonl; cited : papers of its methods
    """

    folder: Path
    energies: dict[str, np.ndarray]
    stages: list[Stage]
    frames: list[Snapshot]
    starts: list[LoggedStart]
    incidents: list[dict[str, Any]]
    cited: list[Paper] = field(default_factory=list)

    @property
    def atoms(self) -> int | None:
        return len(self.frames[0].names) if self.frames else None


def read(folder: Path, most: int) -> Run:
    """The run of a folder. most : number of frames. Raises InputError for damaged files, or a folder without a run."""
    energies = read_energies(folder, COLUMNS[:7])
    frames, starts = list(read_frames(folder, most)), read_log(folder)
    if not energies and not frames:
        raise InputError(f"{folder}: nothing to report: no rows in energies.csv and no frames")
    stages = stages_of(energies, read_stages(folder)) if energies else []
    cited = papers(methods_of(folder)) if starts or (folder / "stages.jsonl").is_file() else []
    return Run(folder, energies, stages, frames, starts, _incidents(folder / "incidents.jsonl"), cited)


def _incidents(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    rows: list[tuple[Checked, Any]] = read_json_lines(path, "a list of incidents of a run")
    return [{**line.entries(row, INCIDENT), "time_fs": row.get("time_fs")} for line, row in rows]


def write(folder: Path, out: Path, most: int = 50, r_max: float = 10.0) -> Path:
    """Write the page; its path. Without the package plotly it has no 3-D view and says so. Raises InputError.

    most : number of frames for g(r); r_max : its largest distance, Å
    """
    run = read(folder, most)
    name = folder.resolve().name
    view, drawn = _structure(run)
    with TemporaryDirectory() as made, writing(folder), plt.rc_context(STYLE):
        figures = _figures(run, Path(made), r_max)
        text = page(f"Run {name}", _head(run, name), _cards(run), view, figures, _stages(run), _found(run),
                    _performance(run), _notes(run), _deck(run), _origins(run), _papers(run),
                    scripts=structure_view.scripts() if drawn else [])
    return write_text(out, text)


def _head(run: Run, name: str) -> Markup:
    facts = run.starts[-1].facts if run.starts else {}
    what = "; ".join(facts[key] for key in ("atoms", "cell", "model") if key in facts)
    return Markup(tag("h1", f"Run {name}") + tag("p", what or "without a log", class_="soft"))


def _cards(run: Run) -> Markup:
    numbers = run.stages[-1].figures(run.atoms) if run.stages else {}
    drift = next((key for key in numbers if key.startswith("drift")), "")
    cards = [(run.atoms, "atoms"), (numbers.get("steps"), "steps"), (_number(numbers, "time_ps"), "simulated time"),
             (_number(numbers, "temperature_mean_K", "temperature_std_K"), "temperature, later half of the last stage"),
             (_number(numbers, "pressure_mean_GPa"), "pressure, later half of the last stage"),
             (_number(numbers, drift), "drift of the conserved quantity, last stage"),
             (len(run.incidents), "incidents")]
    return tag("div", *(tag("div", tag("b", value), tag("span", text), class_="card") for value, text in cards),
               class_="cards")


def _number(numbers: dict[str, Any], key: str, spread: str = "") -> str | None:
    if key not in numbers:
        return None
    more = f" ± {numbers[spread]:.3g}" if spread in numbers else ""
    return f"{numbers[key]:.4g}{more} {UNITS.get(key, key.partition('_')[2])}"


def _structure(run: Run) -> tuple[Markup, bool]:
    """The section of the 3-D view, and whether it has one."""
    title = "Structure"
    if not run.frames:
        return section(title, tag("p", "The run wrote no frames.")), False
    if (run.atoms or 0) > MOST_ATOMS:
        return section(title, tag("p", f"Not shown: {run.atoms} atoms; the view shows at most {MOST_ATOMS}.")), False
    if not structure_view.scripts():
        return section(title, tag("p", f"Not shown: {structure_view.MISSING}.")), False
    chosen = [run.frames[k] for k in np.unique(np.linspace(0, len(run.frames) - 1, VIEWS).astype(int))]
    atoms = [Atoms([_element(name) for name in f.names], positions=f.x, cell=f.cell.h, pbc=f.cell.pbc) for f in chosen]
    finite = [k for k, of in enumerate(atoms) if np.isfinite(of.positions).all()]
    if not finite:
        return section(title, tag("p", "Not shown: NaN or infinite coordinates.")), False
    told = "Drag to turn, scroll or pinch to zoom; the slider goes through frames of the run."
    return section(title, tag("p", told, class_="soft"), structure_view.view(
        [atoms[k] for k in finite], [[] for _ in finite], [f"step {chosen[k].step}" for k in finite])), True


def _element(name: str) -> str:
    return {"D": "H", "T": "H"}.get(str(name), str(name))


def _figures(run: Run, made: Path, r_max: float) -> Markup:
    """The figures, as rxmdnn plot draws them."""
    figures = []
    if run.stages:
        healed = stretches(run.folder, run.energies)
        figures += [
            image(draw_run_energies(run.energies, run.stages, run.atoms, healed, made / "e.png"),
                  "Energies since the start; below, the conserved quantity of each stage with its drift"),
            image(draw_temperature(run.energies, run.stages[-1], healed, made / "t.png"), "Temperature and pressure")]
    late = run.frames[len(run.frames) // 2:]
    if late:
        r, g = radial(late, r_max)
        averaged = f"{len(late)} frame{'s' if len(late) != 1 else ''}, the later half of the run"
        figures.append(image(draw_radial(r, g, averaged, made / "g.png"), f"g(r): {averaged}"))
    return section("Course of the run", tag("div", *figures, class_="figures"))


def _stages(run: Run) -> Markup:
    if not run.stages:
        return Markup()
    rows = [stage.figures(run.atoms) for stage in run.stages]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    shown = [[f"{row[key]:.6g}" if isinstance(row.get(key), float) else row.get(key) for key in keys] for row in rows]
    return section("Stages", table([key.replace("_", " ") for key in keys], shown),
                   tag("p", "Means and standard deviations are of the later half of a stage.", class_="soft"))


def _found(run: Run) -> Markup:
    monitored = any(start.deck.get("fidelity", [["off"]])[0][:1] != ["off"] for start in run.starts)
    if not run.incidents:
        return section("Incidents", tag("p", "None: the run was monitored." if monitored else
                                        "The run was not monitored: its deck has no line 'fidelity'."))
    rows = [(i["incident"], i["step"], _plain(i["time_fs"]), i["action"],
             ", ".join(f"{n} {kind}" for kind, n in i["kinds"].items())) for i in run.incidents[:MOST_INCIDENTS]]
    more = len(run.incidents) - len(rows)
    return section("Incidents", table(("Number", "Step", "Time (fs)", "Action", "Criteria"), rows),
                   *([tag("p", f"{more} more in incidents.jsonl.")] if more else []))


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, (int, float)) else NOTHING


def _performance(run: Run) -> Markup:
    rows = [(start.facts.get("kernels", NOTHING), *parts) for start in run.starts
            if len(parts := _parts(start.performance)) == 2]
    return section("Performance", table(("Kernels", "Speed", "Share of each part (smallest and largest rank)"), rows)
                   if rows else tag("p", "The log has no line PERFORMANCE: the run has not come to its end."))


def _parts(line: str) -> list[str]:
    """Speeds, and shares of the parts, of a line PERFORMANCE."""
    words = [word.strip() for word in line.split("  ") if word.strip()]
    speeds = [word for word in words if "%" not in word]
    return [", ".join(speeds), ", ".join(word for word in words if "%" in word)] if words else []


def _notes(run: Run) -> Markup:
    notes = list(dict.fromkeys(note for start in run.starts for note in start.notes))
    return section("Notes of the log", tag("ul", *(tag("li", note) for note in notes))) if notes else Markup()


def _deck(run: Run) -> Markup:
    parts: list[Markup] = []
    for k, start in enumerate(run.starts, 1):
        title = "Effective deck" + (f" of start {k}" if len(run.starts) > 1 else "")
        if start.deck_text:
            parts.append(tag("details", tag("summary", title), tag("pre", "\n".join(start.deck_text))))
    return section("Deck", *parts) if parts else Markup()


def _origins(run: Run) -> Markup:
    rows: Sequence[tuple[str, str]] = [(key, value) for start in run.starts[-1:] for key, value in (
        ("program", start.version), *start.facts.items())]
    return section("Versions and set-up", table(("Fact", "Value"), rows)) if rows else Markup()


def _papers(run: Run) -> Markup:
    if not run.cited:
        return Markup()
    rows = [(paper.what, paper.fields["title"], paper.fields.get("year", NOTHING), paper.fields.get("doi", NOTHING))
            for paper in run.cited]
    return section("To cite", table(("For", "Title", "Year", "DOI"), rows),
                   tag("p", f"rxmdnn cite {run.folder} prints the BibTeX entries.", class_="soft"))
