"""The page about a run: its parts, without a network; in a browser where there is one."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mpi4py import MPI

from rxmdnn.analysis import run_report, structure_view
from rxmdnn.commands import report
from rxmdnn.commands import run as run_command
from rxmdnn.errors import InputError

AMMONIA = Path(__file__).parents[3] / "input/ammonia"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def dat(tmp_path_factory):
    """The folder of a short monitored run, with an incident."""
    folder = tmp_path_factory.mktemp("run") / "DAT"
    argv = ["--rxmdin", AMMONIA / "rxmd.in", "--outDir", folder, "--structure", AMMONIA / "solid_I.cif",
            "--ntime_step", 20, "--io_step", 10, 5, "--h5md", 5, "--ensemble", "svr", 0.1, "--fidelity", "flag", 10,
            "--fidelity_watch", "pair", "--fidelity_limit", "pair", 1.9]
    run_command.main([str(word) for word in argv], MPI.COMM_SELF)
    return folder


class Texts(HTMLParser):
    """Headings and tags of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.headings, self.inside = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.inside = tag

    def handle_data(self, data):
        if self.inside in ("h1", "h2"):
            self.headings.append(data)
            self.inside = ""


def test_the_parts_of_the_page(dat):
    report.main([str(dat)])
    text = (dat / "report.html").read_text(encoding="utf-8")
    page = Texts(text)
    assert page.headings == ["Run DAT", "Structure", "Course of the run", "Stages", "Incidents", "Performance",
                             "Notes of the log", "Deck", "Versions and set-up", "To cite"]
    images = [a["src"] for tag, a in page.tags if tag == "img"]
    assert len(images) == 3 and all(src.startswith("data:image/png;base64,") for src in images)
    incidents = (dat / "incidents.jsonl").read_text().splitlines()
    assert f"<b>{len(incidents)}</b><span>incidents</span>" in text
    row = json.loads(incidents[0])
    assert f"<td>{row['incident']}</td><td>{row['step']}</td>" in text
    for shown in ("steps/s", "fidelity      flag 10", "10.1063/1.2408420", "rxmdnn 0.1.0", "svr, dt 0.5 fs"):
        assert shown in text


def test_it_loads_nothing(dat, tmp_path):
    text = run_report.write(dat, tmp_path / "page.html").read_text(encoding="utf-8")
    assert not [a for tag, a in Texts(text).tags if re.match("https?:", a.get("src", a.get("href", "")) or "")]
    assert "default-src 'none'" in text


def test_without_plotly_or_with_many_atoms_it_says_so(dat, tmp_path, monkeypatch):
    monkeypatch.setattr(run_report, "MOST_ATOMS", 10)
    text = run_report.write(dat, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Not shown: 16 atoms" in text and "<script>" not in text
    monkeypatch.undo()
    monkeypatch.setattr(structure_view, "scripts", lambda: [])
    text = run_report.write(dat, tmp_path / "page.html").read_text(encoding="utf-8")
    assert structure_view.MISSING.partition("'")[0] in text and "<script>" not in text


def test_texts_of_files_are_escaped(dat, tmp_path):
    shutil.copytree(dat, tmp_path / "copy")
    log = tmp_path / "copy/run.log"
    note = "note         : <script>alert(1)</script>\n"
    log.write_text(log.read_text().replace("deck         :", f"{note}deck         :"))
    text = run_report.write(tmp_path / "copy", tmp_path / "page.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)" in text and "<script>alert" not in text


def test_mistakes(dat, tmp_path):
    with pytest.raises(InputError, match="is its folder the outDir of a run"):
        report.main([str(tmp_path)])
    with pytest.raises(InputError, match="must be above zero"):
        report.main([str(dat), "--rmax", "0"])
    shutil.copytree(dat, tmp_path / "copy")
    (tmp_path / "copy/incidents.jsonl").write_text('{"incident": "one"}\n')
    with pytest.raises(InputError, match=r"incidents\.jsonl:1: incident: "):
        report.main([str(tmp_path / "copy")])
    done = subprocess.run([sys.executable, "-m", "rxmdnn", "report", str(tmp_path / "no")], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 2 and "no such folder" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_view_turns_up_in_a_browser(dat, tmp_path):
    """The scripts run under the policy of the page: plotly has drawn a canvas and the slider is there."""
    pytest.importorskip("plotly")
    path = run_report.write(dat, tmp_path / "page.html")
    done = subprocess.run([CHROMIUM, "--headless=new", "--no-sandbox", "--enable-unsafe-swiftshader",
                           "--virtual-time-budget=10000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
                           path.as_uri()], capture_output=True, text=True, timeout=180, check=False)
    assert "<canvas" in done.stdout and "1 of 5: step 0" in done.stdout and "js-plotly-plot" in done.stdout
