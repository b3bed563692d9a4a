"""Example inputs: copies are whole, their decks are sound, an installation holds them."""

import subprocess
import sys
from pathlib import Path

import pytest

from rxmdnn.commands import check
from rxmdnn.errors import InputError
from rxmdnn.run.examples import EXAMPLES, copy, inputs

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_decks_of_a_copy_are_sound(name, tmp_path, monkeypatch, capsys):
    """Every file that a deck names is there."""
    example = copy(name, tmp_path / "new")
    monkeypatch.chdir(tmp_path / "new")
    assert sorted(example.files) == sorted(str(p.relative_to(tmp_path / "new")) for p in Path.cwd().rglob("*.*"))
    for line in example.run:
        words = line.partition("rxmdnn ")[2].split()
        deck = words[2] if words[:2] == ["run", "--rxmdin"] else words[1]
        if words[0] in ("run", "train", "tfail") and deck != "report":
            check.main([deck])
            assert "valid" in capsys.readouterr().out


def test_a_built_package_holds_them(tmp_path):
    """What setup.py copies into a wheel: the files of every example, below rxmdnn/input."""
    done = subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(tmp_path)], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for example in EXAMPLES.values():
        assert all((tmp_path / "rxmdnn/input" / example.folder / file).is_file() for file in example.files)
    assert (tmp_path / "rxmdnn/kernels/cuda").is_dir() and (tmp_path / "rxmdnn/analysis/page.css").is_file()


def test_the_inputs_of_the_source_tree_are_found():
    assert inputs() == ROOT / "input"


def test_a_used_folder_is_refused(tmp_path):
    (tmp_path / "kept").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an empty folder"):
        copy("ammonia", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


def test_the_command(tmp_path):
    command = [sys.executable, "-m", "rxmdnn", "examples"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in EXAMPLES)
    done = subprocess.run([*command, "amonia", str(tmp_path / "a")], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "did you mean 'ammonia'?" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*command, "ammonia"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "name a folder" in done.stderr
    done = subprocess.run([*command, "ammonia", str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert "rxmdnn run --rxmdin rxmd.in" in done.stdout and (tmp_path / "a/rxmd.in").is_file()
