"""A hole in the training data, planted: the loop of input/ammonia/learning finds it by failures and closes it."""

import json
import shutil
from pathlib import Path

import ase.build
import numpy as np
import pytest

import rxmdnn
from rxmdnn.commands import learn
from rxmdnn.labelling.engines import engine_of

PLACE = Path(__file__).parents[2] / "input/ammonia/learning"
pytest.importorskip("tblite")


def reduced(folder, name, **lines):
    """A deck of the loop with these lines instead of its own."""
    deck = {line.split()[0]: line for line in (PLACE / name).read_text().splitlines() if line and line[0] != "#"}
    deck |= {keyword: f"{keyword} {values}" for keyword, values in lines.items()}
    (folder / name).write_text("\n".join(deck.values()) + "\n")


def pull(bond, calculator):
    """Force (eV/Å) on one hydrogen of a molecule along its bond (Å)."""
    atoms = ase.build.molecule("NH3")
    along = atoms.positions[1] - atoms.positions[0]
    along /= np.linalg.norm(along)
    atoms.positions[1] = atoms.positions[0] + bond * along
    atoms.center(vacuum=6.0)
    atoms.pbc = True
    atoms.calc = calculator
    return atoms.get_forces()[1] @ along


def test_bonds_that_the_data_lack_are_found_and_learned(tmp_path):
    for file in ("hole.xyz", "hole.safetensors"):
        shutil.copy(PLACE / file, tmp_path)
    shutil.copy(PLACE.parent / "solid_I.cif", tmp_path)
    reduced(tmp_path, "quick_runs.in", sizes="32", temperatures="1000", cap="0.5", start="solid_I.cif", frames="6 10")
    reduced(tmp_path, "retrain.in", epochs="10")
    reduced(tmp_path, "quick.in", survive="32 0.5 1000 0.9", rounds="1", labels="60 4", cut="16", guard="60")
    assert learn.main([str(tmp_path / "quick.in"), "--outDir", str(tmp_path / "out")]) == 0
    lines = map(json.loads, (tmp_path / "out/ledger.jsonl").read_text().splitlines())
    rows = {(line["round"], line["step"]): line for line in lines}
    assert set(rows[0, "runs"]["alarms"]) == {"bond"}
    assert 10 <= rows[0, "label"]["labelled"] <= 60 and rows[0, "train"]["kept"]
    exact, before, after = (np.array([pull(bond, c) for bond in (1.15, 1.2)]) for c in (
        engine_of("gfn1").calculator(), rxmdnn.Calculator(PLACE / "hole.safetensors"),
        rxmdnn.Calculator(tmp_path / "out/round_0/model.safetensors")))
    assert abs(before - exact).mean() > 1.0  # beyond 1.15 Å the model lets bonds go
    assert abs(after - exact).mean() < 0.6 * abs(before - exact).mean()
