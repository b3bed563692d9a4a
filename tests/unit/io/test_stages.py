"""The list of stages of a run: what belongs to which, and what a new attempt replaces."""

import pytest

from rxmdnn.errors import InputError
from rxmdnn.io.stages import NAME, begin_stage, read_stages, stage_at


def test_stages_begin_where_something_changes(tmp_path):
    assert read_stages(tmp_path) == [] and stage_at([], 3) is None
    begin_stage(tmp_path, None, {"dt": 1}, new=True)
    begin_stage(tmp_path, 40, {"dt": 1}, new=False)
    begin_stage(tmp_path, 40, {"dt": 2}, new=True)
    begin_stage(tmp_path, 80, {"dt": 3}, new=True)
    assert read_stages(tmp_path) == [{"step": 0, "dt": 1}, {"step": 41, "dt": 2}, {"step": 81, "dt": 3}]
    assert [stage_at(read_stages(tmp_path), step)["dt"] for step in (0, 40, 41, 80, 81, 999)] == [1, 1, 2, 2, 3, 3]
    begin_stage(tmp_path, 60, {"dt": 2}, new=False)  # from a checkpoint before the last change
    assert [stage["dt"] for stage in read_stages(tmp_path)] == [1, 2]
    begin_stage(tmp_path, None, {"dt": 9}, new=True)
    assert read_stages(tmp_path) == [{"step": 0, "dt": 9}]


def test_a_folder_of_an_earlier_version_has_its_first_stage_from_the_start_or_from_the_change(tmp_path):
    begin_stage(tmp_path, 20, {"dt": 1}, new=False)
    assert read_stages(tmp_path)[0]["step"] == 0
    (tmp_path / NAME).unlink()
    begin_stage(tmp_path, 20, {"dt": 2}, new=True)
    assert read_stages(tmp_path)[0]["step"] == 21


@pytest.mark.parametrize("text", ["{", "{}\n", "[1]\n", '{"step": "x"}\n'])
def test_a_damaged_list_is_told(tmp_path, text):
    (tmp_path / NAME).write_text(text)
    with pytest.raises(InputError, match=r"stages.jsonl:1: .*; move it away"):
        read_stages(tmp_path)
