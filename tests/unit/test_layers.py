"""Rules of the tree: imports run downwards through the layers, and the tests mirror the package."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rxmdnn"
LAYERS = [  # lowest first; what stands in one line does not know each other, but the ground does
    {"ground"}, {"deck", "models"}, {"engine"}, {"io", "dynamics"}, {"ring_polymer", "excitation"},
    {"fidelity", "analysis"},
    {"training"}, {"labelling"}, {"survival"}, {"run"}, {"learning"}, {"ase"}, {"api"}, {"commands"}, {"__main__"}]
RANK = {room: rank for rank, layer in enumerate(LAYERS) for room in layer}
DOORS = {"ase.py", "api.py", "__main__.py"}  # may ask for the communicator of all ranks
MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(parts):
    """The room of a module: its folder, or its own name where that has a layer, or the ground."""
    return parts[0] if len(parts) > 1 or parts[0] in RANK else "ground"


def imports(path, everywhere=True):
    """Names of rxmdnn's modules that a file imports: anywhere in it, or only on loading."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "rxmdnn":
            for name in node.names:
                found = [*node.module.split(".")[1:], name.name]
                while found and not (PACKAGE.joinpath(*found).with_suffix(".py").is_file()
                                     or PACKAGE.joinpath(*found, "__init__.py").is_file()):
                    found.pop()  # a name of a module
                if found:
                    yield tuple(found)


def parts_of(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_runs_upwards(path):
    here = room_of(parts_of(path))
    if parts_of(path) == ("__init__",):
        return  # the public names, imported when they are used
    for parts in imports(path):
        there = room_of(parts)
        assert there == here or RANK[there] < RANK[here], f"{path.name} of {here} imports {'.'.join(parts)} of {there}"
    assert path.name == "world.py" or "MPI.COMM_WORLD" not in path.read_text()
    assert path.name in DOORS or ("world",) not in imports(path)


def test_modules_load_in_no_circle():
    below = {parts_of(path): set(imports(path, everywhere=False)) - {parts_of(path)} for path in MODULES}
    while ready := [m for m, needs in below.items() if not needs & below.keys()]:
        for module in ready:
            del below[module]
    assert not below


def test_torch_is_loaded_by_networks_and_training_only():
    allowed = {"models", "training"}
    for path in MODULES:
        tree = ast.parse(path.read_text())
        names = [n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)] + [
            a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names]
        assert "torch" not in {name.partition(".")[0] for name in names} or parts_of(path)[0] in allowed, path


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_read_and_written_by_the_rank_that_asks(path):
    """By default ASE broadcasts over all ranks, which one rank alone cannot do."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("ase.io.read", "ase.io.iread", "ase.io.write"):
            assert any(word.arg == "parallel" for word in node.keywords), f"{path.name}:{node.lineno}"


def test_tests_mirror_the_package():
    folders = {p.relative_to(ROOT / "tests/unit") for p in (ROOT / "tests/unit").rglob("test_*.py")}
    for folder in {p.parent for p in folders}:
        assert (PACKAGE / folder).is_dir(), f"tests/unit/{folder} has no counterpart in rxmdnn/"


def test_no_test_reads_outside_the_repository():
    for path in (ROOT / "tests").rglob("*.py"):
        for up in re.findall(r"__file__\)(?:\.resolve\(\))?\.parents\[(\d+)\]", path.read_text()):
            assert path.parents[int(up)].is_relative_to(ROOT), path


def test_one_name_is_one_class():
    homes = {}
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                homes.setdefault(node.name, []).append(path.name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_private_names_stay_in_their_file():
    for path in [*MODULES, *(ROOT / "tools").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "rxmdnn":
                private = [n.name for n in node.names if n.name.startswith("_") and not n.name.startswith("__")]
                assert not private, f"{path}: {private} of {node.module}"
