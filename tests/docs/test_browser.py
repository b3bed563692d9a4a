"""The built site in headless Chromium: pages open, the navigation leads on, the search finds a keyword."""

import re
import shutil
import subprocess

import pytest

from tests.docs.test_site import site  # noqa: F401

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


def opened(address, tmp_path, width=1280):
    """The document of a page after its scripts have run."""
    done = subprocess.run([CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
                           "--virtual-time-budget=15000", "--allow-file-access-from-files",
                           f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", address],
                          capture_output=True, text=True, timeout=300, check=False)
    return done.stdout


def test_the_navigation_leads_from_page_to_page(site, tmp_path):  # noqa: F811
    page, text = site / "index.html", opened((site / "index.html").as_uri(), tmp_path)
    for wanted in ("Reference", "Deck keywords", "rxmd.in: ensembles"):
        links = {name: address for address, name in re.findall(
            r'<a class="reference internal" href="([^"#]+)"[^>]*>(?:<[^>]+>)*([^<]+)', text)}
        assert wanted in links, f"{page.name}: no link to {wanted}"
        page = (page.parent / links[wanted]).resolve()
        text = opened(page.as_uri(), tmp_path)
    assert page.name == "rxmd-in-ensembles.html" and "barostat scr 0.0 1.0 semi" in text


def test_the_search_finds_a_keyword(site, tmp_path):  # noqa: F811
    text = opened(f"{(site / 'search.html').as_uri()}?q=barostat", tmp_path, 412)
    assert "rxmd-in-ensembles.html" in text.partition('id="search-results"')[2]
