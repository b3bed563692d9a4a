"""The ledger: what is done is done once, a line that was cut off is done again, other files are refused."""

import json

import pytest

from rxmdnn.errors import InputError
from rxmdnn.learning.ledger import CLOCKS, NAME, Ledger


def test_a_step_is_done_once_and_is_on_disk_when_it_returns(tmp_path):
    done = []

    def work():
        done.append(1)
        return {"runs": 3, "ratio": float("nan")}

    ledger = Ledger(tmp_path)
    row = ledger.step(2, "runs", work)
    assert (row["round"], row["step"], row["runs"], row["ratio"]) == (2, "runs", 3, None) and row["seconds"] >= 0
    again = Ledger(tmp_path)
    assert again.step(2, "runs", work) == row and done == [1]
    assert again.find(1, "runs") is None and again.of("runs") == [row]
    assert row.keys() - CLOCKS == {"round", "step", "runs", "ratio"}


def test_what_was_there_when_the_runs_of_a_round_had_ended(tmp_path):
    ledger = Ledger(tmp_path)
    for number, step in ((0, "start"), (0, "runs"), (0, "choose"), (1, "runs"), (1, "choose"), (1, "stop")):
        ledger.step(number, step, lambda: {})
    assert [[row["step"] for row in ledger.before(k)] for k in (0, 1)] == [
        ["start", "runs"], ["start", "runs", "choose", "runs"]]


def test_a_line_that_a_kill_cut_off_is_dropped_at_every_byte(tmp_path):
    ledger = Ledger(tmp_path)
    first, second = (ledger.step(0, step, lambda: {}) for step in ("start", "runs"))
    whole = (tmp_path / NAME).read_bytes()
    length = len(json.dumps(first)) + 1
    for size in range(length, len(whole)):
        (tmp_path / NAME).write_bytes(whole[:size])
        assert Ledger(tmp_path).lines == [first], size
        assert (tmp_path / NAME).read_bytes() == whole[:length]
    (tmp_path / NAME).write_bytes(whole)
    assert Ledger(tmp_path).lines == [first, second]


@pytest.mark.parametrize(("text", "message"), [
    ('{"round": 0}\n', "step: is missing"), ("no json\n", "not a line of a ledger"),
    ('{"round": "a", "step": "runs", "seconds": 1}\n', "round: must be an integer"),
    ('{"round": 1000000000, "step": "runs", "seconds": 1}\n', "round: 1000000000 is above 9999"),
    ('{"round": 0, "step": "other", "seconds": 1}\n', "step: 'other' is no step"), ("[1]\n", "must be an object"),
    ("[" * 100000 + "\n", "deeper than 64 levels")])
def test_other_files_are_refused_with_their_line(tmp_path, text, message):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=rf"ledger\.jsonl:1: .*{message}"):
        Ledger(tmp_path)
    assert (tmp_path / NAME).read_text() == text
