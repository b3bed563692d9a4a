"""The methods that a run has used, from its stages and its log, and the papers to cite for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rxmdnn.analysis.bibliography import PAPERS, Paper
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.errors import InputError
from rxmdnn.io.run_log import LoggedStart, read_log
from rxmdnn.io.stages import read_stages
from rxmdnn.models.model_file import provenance

SHAPED = ("semi", "axes", "full")  # of barostats


def methods_of(folder: str | Path) -> set[str]:
    """The methods of a run, as the papers name them. Raises InputError for a folder without a run."""
    folder = Path(folder)
    stages, starts = read_stages(folder), read_log(folder)
    if not stages and not starts:
        raise InputError(f"{folder}: no run: neither stages.jsonl nor run.log is there; name the outDir of a run")
    found = {"rxmdnn"}
    for stage in stages:
        found |= set(_of_stage(stage))
    for start in starts:
        found |= set(_of_deck(start.deck, MINIMIZATION in (_first(stage, "mdmode") for stage in stages)))
        found |= set(_of_models(start))
    return found


def papers(methods: Iterable[str]) -> list[Paper]:
    """The papers of these methods, in the order of the bibliography."""
    wanted = set(methods)
    return [paper for paper in PAPERS if wanted & set(paper.methods)]


def _first(stage: Mapping[str, Any], name: str) -> Any:
    values = stage.get(name) or [None]
    return values[0] if isinstance(values, list) else None


def _of_stage(stage: Mapping[str, Any]) -> list[str]:
    found = [str(model).split()[0] for model in stage.get("models") or [] if str(model)]
    ensemble, barostat = _first(stage, "ensemble"), stage.get("barostat") or []
    pimd = stage.get("pimd") or []
    if pimd:
        method, integrator = str(pimd[1]), str(pimd[3]) if len(pimd) > 3 else ""
        found += [method, integrator, *([] if method == "rpmd" else ["pile"])]
    if ensemble not in (None, "nve") and not (pimd and ensemble == "langevin"):  # of rings, PILE is the thermostat
        found.append(str(ensemble))
    if barostat:
        found += [str(barostat[0]), *([f"{barostat[0]}-shape"] if set(SHAPED) & set(map(str, barostat)) else [])]
    return [*found, *(["field"] if stage.get("field") else [])]


def _of_deck(deck: Mapping[str, Sequence[Sequence[str]]], minimizes: bool) -> list[str]:
    """Methods that only the effective deck tells of."""
    def word(name: str, k: int = 0) -> str:
        values = deck.get(name, [[]])[0]
        return values[k] if k < len(values) else ""

    found = [values[0] for values in deck.get("pimd_estimate", []) if values]
    if minimizes:
        found.append(word("minimizer"))
    if "electrons" in deck:
        found.append(f"electrons-{word('electrons_exchange') or 'langevin'}")
    if word("fidelity") not in ("", "off"):
        found += [name for name in ("calibration", "martingale") if f"fidelity_{name}" in deck]
    return [*found, *(["contraction"] if word("pimd_contraction") else [])]


def _of_models(start: LoggedStart) -> list[str]:
    """Of the model files that are still where the log says: how they were trained."""
    found = []
    for name in start.facts.get("model", "").split("  cutoff ")[0].split(", "):
        try:
            deck = str(provenance(Path(name)).get("deck", "")) if Path(name).is_file() else ""
        except InputError:
            continue
        found += [method for method, line in (("legato", "sam "), ("zbl", "zbl           .true.")) if line in deck]
    return found
