"""The site builds without warnings from a clean folder, and its pages name what they should."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("sphinx", "myst_parser", "furo", "sphinx_copybutton", "sphinx_design")


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built site."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"the extra 'docs' is not installed: {', '.join(missing)}")
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(["bash", "tools/docs.sh", str(out)], cwd=ROOT, capture_output=True, text=True, check=False,
                          env=os.environ | {"PYTHON": sys.executable})
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stdout + done.stderr
    return out


def test_the_site_has_its_parts(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    for part in ("start", "tutorials", "reference", "concepts", "studies", "help", "developers"):
        assert f'href="{part}/index.html"' in text
    dynamics = (site / "reference/generated/keywords/rxmd-in-dynamics.html").read_text(encoding="utf-8")
    assert 'id="keyword-rxmd-time"' in dynamics
    assert "rxmdnn.simulate" in (site / "reference/python.html").read_text(encoding="utf-8")


def test_the_site_loads_nothing_from_elsewhere(site):
    """Scripts, styles and pictures are files of the site, so that it is read without a network."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        found = re.findall(r'<(?:script|link|img)[^>]*\s(?:src|href)="(https?:[^"]+)"', text)
        assert not found, (page, found)
