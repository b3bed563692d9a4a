"""The ledger: what is done is done once, a line that was cut off is done again, other files are refused."""

import json

import pytest

from rxmdnn.errors import InputError
from rxmdnn.learning.ledger import NAME, Ledger, without_clocks


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
    assert without_clocks(row) == {"round": 2, "step": "runs", "runs": 3, "ratio": None}


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


@pytest.mark.parametrize("text", ['{"round": 0}\n', "no json\n", '{"round": "a", "step": "runs", "seconds": 1}\n',
                                  '{"round": 0, "step": "other", "seconds": 1}\n', "[1]\n", "[" * 100000 + "\n"])
def test_other_files_are_refused_with_their_line(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=r"ledger.jsonl:1: not a line of a ledger"):
        Ledger(tmp_path)
    assert (tmp_path / NAME).read_text() == text
