"""The commands of the tutorials run, in order, in an empty folder; their output is that of the pages.

A block marked bash or python runs; a block marked text right after one is its output, where ... stands for anything.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in (ROOT / "docs/tutorials").glob("*.md") if p.name != "index.md")
BLOCK = re.compile(r"(?ms)^```(bash|python|text)\n(.*?)^```$")
MPIRUN = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
LIMIT = 1800  # s, of a page on a busy machine


def steps(page):
    """[(language, code, output or None)] of a page."""
    text = page.read_text(encoding="utf-8")
    found, end = [], 0
    for match in BLOCK.finditer(text):
        language, code = match.groups()
        if language != "text":
            found.append([language, code, None])
        elif found and found[-1][2] is None and not re.search(r"(?m)^(#|\S)", text[end:match.start()].strip()):
            found[-1][2] = code
        end = match.end()
    return found


def script(blocks):
    """One shell script: every block after a line that numbers it."""
    lines = ["set -eu", "exec 2>&1"]
    for k, (language, code, _) in enumerate(blocks):
        lines += [f"echo '@@ {k}'", code if language == "bash" else f"python - <<'PYTHON'\n{code}PYTHON\n"]
    return "\n".join(lines)


def pattern(output):
    """A regular expression for the output: ... is anything, lines of dots are any lines."""
    words = (".*?" if word == "..." else re.escape(word).replace(r"\.\.\.", ".*?") for word in output.split())
    return r"\s*" + r"\s+".join(words).replace(r"\s+.*?\s+", r"\s+(?:.*?\s+)?") + r"\s*"


@pytest.fixture
def path(tmp_path):
    """A folder with the commands of this interpreter: rxmdnn, python and mpirun."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, command in (("rxmdnn", [sys.executable, "-m", "rxmdnn"]), ("python", [sys.executable]),
                          *([("mpirun", [MPIRUN])] if MPIRUN else [])):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(map(str, command))} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_tutorial_runs(page, path, tmp_path):
    blocks = steps(page)
    assert blocks
    if any("mpirun" in code for _, code, _ in blocks) and not (path / "mpirun").exists():
        pytest.skip("no mpirun on this machine")
    work = tmp_path / "work"
    work.mkdir()
    environment = os.environ | {"PATH": f"{path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script(blocks)], cwd=work, capture_output=True, text=True, check=False,
                          timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stdout[-3000:]
    outputs = dict(zip(*[iter(re.split(r"(?m)^@@ (\d+)\n", done.stdout)[1:])] * 2))
    for k, (_, code, output) in enumerate(blocks):
        if output is not None:
            assert re.fullmatch(pattern(output), outputs[str(k)], re.S), f"{code}\nprinted\n{outputs[str(k)]}"


@pytest.mark.parametrize("text, shown, fits", [
    ("a 1.25 b\nend\n", "a ... b\nend", True), ("a b\n", "a\nc", False),
    ("x\nmany\nlines\nlast\n", "x\n...\nlast", True),
    ("total: 3 of 4\n", "total: ... of 5", False), ("wrote A.h5 B\n", "wrote ...h5 B", True),
    ("a b\n", "a ... b", True), ("a b c\n", "a ... d", False)])
def test_what_an_output_may_be(text, shown, fits):
    assert bool(re.fullmatch(pattern(shown), text, re.S)) == fits


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_scripts_of_other_machines_are_sound(page):
    """Batch scripts, which no test can run, are at least shell scripts."""
    for code in re.findall(r"(?ms)^```text\n(#!/bin/bash\n.*?)^```$", page.read_text(encoding="utf-8")):
        done = subprocess.run([shutil.which("bash"), "-n"], input=code, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
