"""Links of README, docs and the other pages lead somewhere; lines of pages are short."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(p for p in ROOT.glob("docs/**/*.md") if "generated" not in p.parts)])
LINK = re.compile(r"\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
LENGTH = 120


def prose(text):
    """The text without blocks and pieces of code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"(?ms)^(```|~~~).*?^\1", "", text))


def anchors(path):
    """The anchors of the headings of a page, as repository browsers and MyST make them."""
    heads = re.findall(r"(?m)^#+\s+(.*)$", re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if "generated" in path.parts:  # pages of the reference, which the build of the site checks
            assert path.stem == "index" or path.stem in names_of_generated_pages(), target
            continue
        assert path.exists(), f"{target}: no such file"
        assert not anchor or anchor in anchors(path), f"{target}: no such heading"


def names_of_generated_pages():
    import generated

    return {Path(name).stem for name in generated.pages()}


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.parent == ROOT / "docs" or p.name == "README.md"],
                         ids=lambda p: str(p.relative_to(ROOT)))
def test_lines_are_short(page):
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    long = [line for line in text.splitlines() if len(line) > LENGTH and not line.startswith("|")]
    assert not long, long


def test_every_page_is_in_the_navigation():
    """Each page of docs/ is in a list of pages, by its name or by a pattern."""
    listed = set()
    for page in PAGES:
        for block in re.findall(r"(?ms)^```\{toctree\}\n(.*?)^```", page.read_text(encoding="utf-8")):
            for entry in (line for line in block.splitlines() if line and not line.startswith(":")):
                base = ROOT / "docs" if entry.startswith("/") else page.parent
                listed |= {p.resolve() for p in base.glob(f"{entry.lstrip('/')}.md")}
    assert {p.resolve() for p in PAGES if "docs" in p.parts} - listed == {ROOT / "docs/index.md"}
