"""The README's Python script runs as it stands, and ASE and the engine agree in it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def script():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 1
    return blocks[0]


def test_the_script(tmp_path):
    done = subprocess.run([sys.executable, "-c", script()], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    energies = [float(x) for x in re.findall(r"(-?\d+\.\d+) eV", done.stdout)]
    assert len(energies) == 2 and abs(energies[0] - energies[1]) < 1e-4 and energies[0] < -70
