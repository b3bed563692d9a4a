"""What an installation holds, and what importing it does not pull in."""

import subprocess
import sys
from pathlib import Path

import rxmdnn
import rxmdnn.kernels

ROOT = Path(rxmdnn.__file__).parent


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_engine_imports_neither_torch_nor_cupy():
    modules = ["rxmdnn.commands.run", "rxmdnn.commands.check", "rxmdnn.commands.geninit", "rxmdnn.commands.plot",
               "rxmdnn.dynamics.simulation", "rxmdnn.models.pair"]
    found = run(f"import sys, {', '.join(modules)}\nprint([m for m in ('torch', 'cupy', 'e3nn') if m in sys.modules])")
    assert found == "[]"


def test_kernels_are_a_part_of_the_package_and_of_nothing_else():
    assert rxmdnn.kernels.__name__ == "rxmdnn.kernels"
    assert run("import importlib.util, os; os.chdir('/'); import rxmdnn.kernels.cpu, rxmdnn.kernels.reference\n"
               "print(importlib.util.find_spec('kernels'))") == "None"


def test_every_command_is_there():
    from rxmdnn.__main__ import COMMANDS, usage

    for name in COMMANDS:
        assert name in usage()
        assert "def main(" in (ROOT / "commands" / f"{name.replace('-', '_').replace(' ', '_')}.py").read_text()


def test_version_and_unknown_commands():
    command = [sys.executable, "-m", "rxmdnn"]
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"rxmdnn {rxmdnn.__version__}\n"
    done = subprocess.run([*command, "trian"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "trian: unknown command; did you mean 'train'?" in done.stderr and "Traceback" not in done.stderr
