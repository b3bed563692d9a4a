"""What must not change while a loop is repeated: every one of repeated lines, decks of equal names in two folders."""

import shutil
from pathlib import Path

from rxmdnn.deck import language as decks
from rxmdnn.deck.learn import TABLE
from rxmdnn.learning.plan import LearningPlan

PLACE = Path(__file__).parents[3] / "input/ammonia/learning"
DECK = f"""model {PLACE}/hole.safetensors
data {PLACE}/hole.xyz
train {PLACE}/retrain.in
runs one/runs.in
runs two/runs.in
survive 128 2.0 700 0.8
engine gfn1
budget 200
"""


def identity(file):
    plan = LearningPlan.__new__(LearningPlan)
    plan.deck = decks.read(file, TABLE)
    plan.model, plan.data, plan.starts = plan.deck["model"].file, list(plan.deck["data"].file), []
    return plan.identity()


def test_repeated_lines_and_decks_of_equal_names_are_all_kept(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(PLACE / "quick_runs.in", tmp_path / name / "runs.in")
    file = tmp_path / "learn.in"
    file.write_text(DECK)
    first = identity(file)
    assert first["deck"]["runs"] == "runs one/runs.in; runs two/runs.in" and "budget" not in first["deck"]
    assert {"one/runs.in", "two/runs.in"} < first["decks"].keys()
    with (tmp_path / "one/runs.in").open("a") as out:
        out.write("skin 0.5\n")
    changed = identity(file)
    assert [name for name, digest in changed["decks"].items() if digest != first["decks"][name]] == ["one/runs.in"]
