"""The report of a learning loop: numbers of the ledger in the page, which loads nothing; loops that went wrong."""

import builtins
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import ase.io
import numpy as np
import pytest

from rxmdnn.analysis import structure_view
from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.learning import report
from rxmdnn.learning.story import probability, read, sentence

INPUT = Path(__file__).parents[3] / "input"
EVIL = "<script>alert('x')</script><img src=http://a.example/x.png>"
ASKED = {"atoms": 512, "ps": 100.0, "temperature_K": 300.0, "probability": 0.9, "confidence": 0.95}


def survival(p, low, high, method="ladder"):
    return {"probability": p, "low": low, "high": high, "method": method, **{k: ASKED[k] for k in (
        "atoms", "ps", "temperature_K", "confidence")}}


def cell(n, t, failures, life, low, high):
    return {"n_atoms": n, "temperature_K": t, "runs": 8, "failures": failures, "exposure_ps": 16.0,
            "median_fs": None, "life_fs": life, "life_low_fs": low, "life_high_fs": high}


def runs(k, failures, alarms, known, cells, model="a"):
    return {"round": k, "step": "runs", "model": model * 64, "runs": 24, "failures": failures, "alarms": alarms,
            "cells": cells, "survival": known, "seconds": 300.0 + k, "cpu_s": 590.0}


def train(k, model, kept, before, after, worse=()):
    return {"round": k, "step": "train", "model": model * 64, "kept": kept, "worse": list(worse), "seconds": 120.0,
            "cpu_s": 200.0, "errors_before": before, "errors_after": after,
            "energies_before": {n: e / 10 for n, e in before.items()},
            "energies_after": {n: e / 10 for n, e in after.items()}}


LEDGER = [
    {"round": 0, "step": "start", "deck": "d" * 64, "engine": "GFN1-xTB (tblite 0.8.0)", "asked": ASKED,
     "model": {"file": "start.safetensors", "sha256": "a" * 64}, "version": "0.1.0", "time": "2026-11-30T09:00:00",
     "data": [{"file": f"frames {EVIL}.xyz", "sha256": "0" * 64, "frames": 120}], "seconds": 1.0, "cpu_s": 1.0,
     "budget": {"labels": 200, "hours": 1.0, "rounds": 4}},
    runs(0, 19, {"bond": 13, "pair": 6}, survival(0.0213, 0.0071, 0.0634), [
        cell(64, 600.0, 8, 410.0, 220.0, 760.0), cell(128, 450.0, 6, 2300.0, 1200.0, 4600.0),
        cell(128, 300.0, 0, None, 5340.0, None)]),
    {"round": 0, "step": "choose", "alarms": 19, "candidates": 57, "failed": 9, "duplicates": 22, "chosen": 26,
     "atoms": 900, "frames": "f" * 64, "seconds": 4.0, "cpu_s": 4.0},
    {"round": 0, "step": "label", "labelled": 24, "labels": "b" * 64, "seconds": 60.0, "cpu_s": 110.0,
     "quarantined": [{"frame": "run3 step 410", "reason": "SCF did not converge"}, {"frame": EVIL, "reason": EVIL}]},
    train(0, "c", True, {"all": 0.031, "close": 0.22, "liquid": 0.04}, {"all": 0.03, "close": 0.08, "liquid": 0.041}),
    runs(1, 4, {"bond": 3, "energy & <b>": 1}, survival(0.6, 0.41, 0.78, "direct"), [
        cell(64, 600.0, 4, 3900.0, 1500.0, 9800.0), cell(128, 450.0, 0, None, 5340.0, None)], "c"),
    {"round": 1, "step": "choose", "alarms": 4, "candidates": 12, "failed": 1, "duplicates": 4, "chosen": 7,
     "atoms": 250, "frames": "e" * 64, "seconds": 3.0, "cpu_s": 3.0},
    {"round": 1, "step": "label", "labelled": 7, "labels": "7" * 64, "seconds": 20.0, "cpu_s": 40.0, "quarantined": []},
    train(1, "9", False, {"all": 0.03, "close": 0.08, "liquid": 0.041}, {"all": 0.034, "close": 0.05, "liquid": 0.06},
          ["liquid"]),
    runs(2, 1, {"bond": 1}, survival(0.9812, 0.9421, 0.9996), [cell(64, 600.0, 1, 15000.0, 4000.0, 50000.0)], "c"),
    {"round": 2, "step": "stop", "reason": "survival", "text": "the lower bound reached what was asked",
     "time": "2026-11-30T09:31:00", "seconds": 0.1, "cpu_s": 0.1},
]
FEW = [LEDGER[k] for k in (0, 2, 3, 6)]  # of both rounds with frames, for one figure


def crystal():
    return ase.io.read(INPUT / "ammonia/solid_I.cif")


def chosen(k, count, rng):
    for n in range(count):
        atoms = crystal()
        atoms.positions += rng.normal(scale=0.05, size=(len(atoms), 3))
        atoms.arrays["worst"] = (np.arange(len(atoms)) == 3 * n).astype(int)
        if n % 2:  # a cluster
            atoms.pbc, atoms.cell = False, None
        atoms.info = {"origin": f"round {k} run{n} step {41 * n}", "alarm": "bond", "kind": "learned", "group": f"g{n}",
                      "latent_distance": 1.0 + n + 10 * k}
        yield atoms


def make(folder, lines=LEDGER, frames=True):
    """A loop's folder with these lines and frames of the first two rounds."""
    folder.mkdir()
    (folder / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rng = np.random.default_rng(3)
    for k in range(2 * frames):
        (folder / f"round_{k}").mkdir()
        made = list(chosen(k, 3, rng))
        ase.io.write(folder / f"round_{k}/chosen.xyz", made, format="extxyz")
        ase.io.write(folder / f"round_{k}/labels.xyz", made[:2], format="extxyz")
    return folder


class Page(HTMLParser):
    """Tags that are open, every attribute, tables as rows of text, all text outside scripts and styles."""

    VOID = frozenset(["meta", "img", "input", "br"])

    def __init__(self, text):
        super().__init__()
        self.open, self.attributes, self.rows, self.text, self.tags = [], [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.attributes += attrs
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text += data
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] += data

    def row(self, *begin):
        """The one row that begins so."""
        (found,) = [r for r in self.rows if r[:len(begin)] == list(begin)]
        return found


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = make(tmp_path_factory.mktemp("loop") / "quick")
    path = report.write(folder)
    assert path == folder / "report.html"
    return folder, path.read_text(encoding="utf-8")


def test_the_page_tells_what_the_ledger_holds(written):
    folder, text = written
    page = Page(text)
    assert page.row("0", "a" * 10)[2:] == ["24", "19", "0.021 [0.007, 0.063]", "bond 13, pair 6", "26 of 57",
                                           "24, 2 quarantined", "kept " + "c" * 10]
    assert page.row("1", "c" * 10)[4:] == ["0.600 [0.410, 0.780]", "bond 3, energy & <b> 1", "7 of 12",
                                           "7, 0 quarantined", "undone: worse on liquid " + "9" * 10]
    assert page.row("2", "c" * 10)[2:] == ["24", "1", "0.981 [0.942, > 0.999]", "bond 1", "–", "–", "–"]
    assert ("Survival is shown, after 2 retrainings and 31 labels. A run of 512 atoms for 100 ps at 300 K finishes "
            "without failure with a probability of at least 0.942 at 95 % confidence (estimate 0.981, runs of round 2, "
            "extrapolated from hotter runs); at least 0.900 was asked for.") in page.text
    assert page.row("0", "run3 step 410") == ["0", "run3 step 410", "SCF did not converge"]
    assert page.row("0", "64") == ["0", "64", "600", "8", "8", "16", "0.41 [0.22, 0.76]"]
    assert page.row("0", "128", "300")[-1] == "– [5.34, –]"
    assert page.row("runs")[1:] == ["15.1 min", "29.5 min"] and page.row("all")[1] == "20.5 min"
    for digest in "adbcef097":
        assert digest * 64 in text
    for name in ("survival", "life", "alarms", "errors", "frames"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert page.tags.count("img") == 5


def test_the_page_loads_nothing_and_runs_no_text_of_a_file(written):
    _, text = written
    page = Page(text)
    links = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "data")]
    assert links and all(link.startswith("data:image/png;base64,") for link in links)
    assert "link" not in page.tags and "iframe" not in page.tags and not re.search(r"@import|url\(", text[:9000])
    (policy,) = [v for name, v in page.attributes if name == "content" and v.startswith("default-src 'none'")]
    assert "http" not in policy and "unsafe-inline" not in policy.partition("script-src")[2]
    assert EVIL not in text and page.text.count(EVIL) == 3  # twice in the quarantine, once as a file


def test_the_worst_frames_come_first(written):
    folder, _ = written
    found = report.worst_frames(read(folder), folder)
    assert [atoms.info["latent_distance"] for atoms, _, _ in found] == [13.0, 12.0, 11.0, 3.0, 2.0, 1.0]
    atoms, marked, caption = found[0]
    assert marked == [6] and caption.startswith("round 1; alarm: bond; 16 atoms; periodic cell; without a label; "
                                                "latent distance 13; marked atom ")
    assert "labelled" in found[1][2] and "cluster" in found[1][2]
    near = np.delete(atoms.get_distances(6, np.arange(16), mic=True), 6)
    assert f"at {near.min():.2f} Å. From round 1 run2 step 82" in caption


def test_frames_that_cannot_be_drawn_are_left_out(tmp_path):
    folder = make(tmp_path / "loop", FEW)
    atoms = crystal()
    atoms.positions[2] = np.nan
    ase.io.write(folder / "round_0/chosen.xyz", [crystal(), atoms], format="extxyz")
    assert len(report.worst_frames(read(folder), folder)) == 1 + 3


def test_heavy_hydrogen_is_drawn_as_hydrogen(tmp_path):
    folder = make(tmp_path / "loop", FEW)
    path = folder / "round_0/chosen.xyz"
    path.write_text(path.read_text().replace("\nH ", "\nD "))
    found = report.worst_frames(read(folder), folder)
    assert len(found) == 6 and {str(atoms.symbols) for atoms, _, _ in found} == {str(crystal().symbols)}


@pytest.mark.parametrize(("p", "text"), [(0.0, "0"), (3e-6, "< 0.001"), (0.0213, "0.021"), (0.9996, "> 0.999"),
                                         (1.0, "1"), (None, "–")])
def test_probabilities_are_not_rounded_to_certainty(p, text):
    assert probability(p) == text


@pytest.mark.parametrize(("lines", "says"), [
    ([], "Nothing has been done yet."),
    (LEDGER[:1], "The loop is not finished (before its first runs). The probability of survival could not be"),
    (LEDGER[:3], "The loop is not finished (round 0, last finished step: choose). A run of 512 atoms"),
    ([*LEDGER[:5], LEDGER[-1] | {"round": 1}, *LEDGER[5:7]], "The loop is not finished (round 1, last finished step: "),
    ([LEDGER[0], runs(0, 24, {}, None, [])], "The loop is not finished (round 0, last finished step: runs). The prob"),
    ([LEDGER[0], *({**LEDGER[8], "round": k} for k in range(3)),
      {"round": 3, "step": "stop", "reason": "rounds", "text": "all rounds done", "seconds": 0.0}],
     "Survival is not shown: all rounds are done, after 3 retrainings and 0 labels. The probability of survival"),
])
def test_loops_that_did_not_end_well(tmp_path, lines, says):
    page = Page(report.write(make(tmp_path / "loop", lines, frames=False)).read_text())
    assert says in page.text
    assert page.text.count("undone:") == 3 * (len(lines) == 5)


def test_a_line_cut_short_is_left_out_and_a_damaged_one_named(tmp_path):
    folder = make(tmp_path / "loop", LEDGER[:2], frames=False)
    whole = sentence(read(folder))
    with open(folder / "ledger.jsonl", "a") as file:
        file.write('{"round": 1, "ste')
    assert sentence(read(folder)) == whole
    for bad, message in (("x", "not a line of a ledger"), ('{"step": "runs"}', "round: is missing"),
                         ("[1]", "content: must be an object")):
        (folder / "ledger.jsonl").write_text(f"{json.dumps(LEDGER[0])}\n{bad}\n")
        with pytest.raises(InputError, match=rf"ledger\.jsonl:2: {message}"):
            report.write(folder)


def test_the_deck_is_shown(tmp_path):
    """Its lines in the ledger, or the file of the folder that has the digest of the ledger."""
    lines = {"rounds": "rounds 4", "output": "output </pre>"}
    folder = make(tmp_path / "lines", [{**LEDGER[0], "deck": lines, "decks": {"tfail.in": "8" * 64}}], frames=False)
    page = Page(report.write(folder).read_text())
    assert "rounds 4\noutput </pre>" in page.text and page.row("deck", "tfail.in") == ["deck", "tfail.in", "8" * 64]
    folder = make(tmp_path / "file", LEDGER[:1], frames=False)
    (folder / "learn.in").write_text("rounds 4  # </pre>\n")
    assert "rounds 4" not in report.write(folder).read_text()
    start = {**LEDGER[0], "deck": sha256_of(folder / "learn.in")}
    (folder / "ledger.jsonl").write_text(json.dumps(start) + "\n")
    assert "rounds 4  # </pre>\n" in Page(report.write(folder).read_text()).text


def test_without_plotly_the_page_says_so(tmp_path, monkeypatch):
    def absent(name, *rest):
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest)

    real = builtins.__import__
    folder = make(tmp_path / "loop", FEW)
    monkeypatch.setattr(builtins, "__import__", absent)
    page = Page(report.write(folder).read_text())
    assert structure_view.MISSING in page.text and "script" not in page.tags
    assert "round 1; alarm: bond; 16 atoms" in page.text  # the list of frames is there all the same


def test_a_damaged_file_of_frames_leaves_the_rest(tmp_path):
    folder = make(tmp_path / "loop", FEW)
    (folder / "round_0/chosen.xyz").write_text("16\nx\nH 0 0\n")
    page = Page(report.write(folder).read_text())
    assert "round_0/chosen.xyz: cannot be read" in page.text and "Quarantine" in page.text
