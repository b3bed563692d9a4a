"""Damaged files are read or refused by a message: no traceback, no control character, bounded memory."""

import os
import resource
from pathlib import Path

import pytest

from tests.fuzz import targets
from tests.fuzz.mutate import change, generator

CORPUS = Path(__file__).parent / "corpus"
SEED = "ring"
CASES = int(os.environ.get("RXMDNN_FUZZ_CASES", "2000"))
MEMORY = 2 << 30  # bytes that a case may ask for
SHARE = {"restart": 25, "model": 60}  # cases of slow readers; the others share the rest


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return targets.make_seeds(tmp_path_factory.mktemp("seeds"))


@pytest.fixture(autouse=True)
def bounded_memory():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def cases_of(name):
    rest = len(targets.TARGETS) - len(SHARE)
    return CASES * SHARE[name] // 2000 if name in SHARE else -(-(CASES - CASES * sum(SHARE.values()) // 2000) // rest)


@pytest.mark.parametrize("name", list(targets.BY_NAME))
def test_what_is_whole_is_read(seeds, tmp_path, name):
    assert targets.attempt(targets.BY_NAME[name], seeds[name], tmp_path / "case") == "read"


@pytest.mark.parametrize("name", list(targets.BY_NAME))
def test_damaged_files(seeds, tmp_path, name):
    target, refused = targets.BY_NAME[name], 0
    for number in range(cases_of(name)):
        rng = generator(SEED, name, number)
        file = rng.choice(sorted(target.files))
        data = change(seeds[name][file], target.files[file], rng, target.repairs.get(file))
        try:
            refused += targets.attempt(target, {**seeds[name], file: data}, tmp_path / "case") == "refused"
        except Exception as error:
            raise AssertionError(f"case {number} of {name}: {file}: {error!r}") from error
    assert refused or cases_of(name) < 50, "no case was refused: the mutator does not reach the reader"


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*--*")), ids=lambda p: p.name)
def test_what_failed_once(seeds, tmp_path, path):
    """A file of the corpus is named target--file--digest; '+' stands for '/'."""
    name, file, _ = path.name.split("--")
    files = {**seeds[name], file.replace("+", "/"): path.read_bytes()}
    assert targets.attempt(targets.BY_NAME[name], files, tmp_path / "case") in ("read", "refused")


def test_the_corpus_is_small():
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 1 << 20
