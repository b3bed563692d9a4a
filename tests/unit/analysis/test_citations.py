"""Methods of runs and their papers; the command as a user calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mpi4py import MPI

from rxmdnn.analysis.bibliography import PAPERS
from rxmdnn.analysis.citations import methods_of, papers
from rxmdnn.commands import cite
from rxmdnn.commands import run as run_command
from rxmdnn.deck.words import ENSEMBLES, RING_METHODS
from rxmdnn.errors import InputError

AMMONIA = Path(__file__).parents[3] / "input/ammonia"


def run(folder, *argv):
    run_command.main(["--rxmdin", str(AMMONIA / "rxmd.in"), "--outDir", str(folder), "--ntime_step", "2", "--structure",
                      str(AMMONIA / "solid_I.cif"), "--io_step", "0", "1", "--h5md", "0", *argv], MPI.COMM_SELF)
    return folder


def keys(folder):
    return [paper.key for paper in papers(methods_of(folder))]


def test_a_plain_run_cites_its_model(tmp_path):
    assert keys(run(tmp_path / "DAT")) == ["rxmdnn", "allegro", "legato", "zbl"]


def test_thermostat_barostat_and_monitoring(tmp_path):
    run(tmp_path, "--ensemble", "nose-hoover", "0.1", "--barostat", "mtk", "0.0", "1.0")
    assert keys(tmp_path)[4:] == ["martyna1996", "martyna1994"]
    run(tmp_path, "--ensemble", "svr", "0.1", "--barostat", "scr", "0.0", "1.0", "full", "--start", "structure")
    assert keys(tmp_path)[4:] == ["bussi2007", "bernetti2020", "deltatto2022"]


def test_rings_and_a_minimization(tmp_path):
    run(tmp_path / "a", "--pimd", "4", "trpmd")
    assert {"rossi2014", "ceriotti2010", "korol2020"} <= set(keys(tmp_path / "a"))
    run(tmp_path / "c", "--pimd", "4", "pimd", "--ensemble", "langevin", "0.1", "--pimd_estimate", "heat_capacity", "1")
    assert {"yamamoto2005", "ceriotti2010"} <= set(keys(tmp_path / "c"))
    assert "leimkuhler2013" not in keys(tmp_path / "c")
    run(tmp_path / "b", "--mdmode", "10", "--minimizer", "fire", "100.0")
    assert {"bitzek2006", "guenole2020"} <= set(keys(tmp_path / "b"))


def test_entries_are_well_formed_and_every_method_has_one():
    for paper in PAPERS:
        assert paper.bibtex.count("{") == paper.bibtex.count("}") and re.match(r"% .+\n@[a-z]+\{\w+,\n", paper.bibtex)
        assert re.fullmatch(r"10\.\d{4,5}/\S+", paper.fields.get("doi", "10.1000/x")), paper.key
    assert len({paper.key for paper in PAPERS}) == len(PAPERS)
    known = {method for paper in PAPERS for method in paper.methods}
    assert set(ENSEMBLES) - {"nve"} <= known and set(RING_METHODS) - {"pimd", "eco"} <= known


def test_a_stage_of_a_later_version_is_no_obstacle(tmp_path):
    stage = {"step": 0, "models": ["new thing"], "ensemble": ["newer"]}
    (tmp_path / "stages.jsonl").write_text(json.dumps(stage) + "\n")
    assert keys(tmp_path) == ["rxmdnn"]


def test_the_command(tmp_path):
    folder = run(tmp_path / "DAT", "--ensemble", "langevin", "0.1")
    command = [sys.executable, "-m", "rxmdnn", "cite"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=True)
    assert "@article{leimkuhler2013," in done.stdout and done.stdout.count("@software{rxmdnn,") == 1
    done = subprocess.run([*command, str(tmp_path / "no")], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "cite: " in done.stderr and "no such folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(InputError, match=r"no run: neither stages\.jsonl nor run\.log"):
        cite.main([str(tmp_path)])
