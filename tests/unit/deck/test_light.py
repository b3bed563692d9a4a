"""Lines of the deck for light: faults by text, tables of pulses."""

import numpy as np
import pytest

from rxmdnn.deck.light import read_pulse_table
from rxmdnn.errors import InputError


def test_a_table_is_read(tmp_path):
    path = tmp_path / "pulse.csv"
    path.write_text("# t_fs, height\n0, 0\n10, 2  # peak\n\n30, 0\n")
    np.testing.assert_array_equal(read_pulse_table(path), [[0, 10, 30], [0, 2, 0]])


@pytest.mark.parametrize(("text", "message"), [
    ("0 0\n1 one\n", r"pulse.csv:2: expected two numbers"), ("0 0\n1 2 3\n", ":2: expected two numbers"),
    ("0 0\n5 1\n5 0\n", ":3: times must increase, but 5 follows 5"), ("0 -1\n1 0\n", ":1: .* not negative"),
    ("0 1\n", "at least two rows"), ("0 0\n1 0\n", "one of them above zero"), ("0 nan\n1 0\n", ":1: .* finite"),
])
def test_faults_of_a_table_name_the_line(tmp_path, text, message):
    (tmp_path / "pulse.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pulse_table(tmp_path / "pulse.csv")


def test_a_missing_table_is_one_message(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_pulse_table(tmp_path / "none.csv")
