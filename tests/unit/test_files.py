"""Files are replaced whole or not at all, and their JSON is JSON."""

import json
import os

import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.files import append, atomic, check_outputs, write_json, write_text, writing


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.csv"
    write_text(path, "old\n")

    def fail():
        with atomic(path) as new:
            new.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old\n" and [f.name for f in tmp_path.iterdir()] == ["report.csv"]


def test_json_has_no_bare_nan(tmp_path):
    path = write_json(tmp_path / "a.json", {"x": [1.5, float("nan"), (float("inf"), np.float64("nan"))], "n": None})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {"x": [1.5, None, [None, None]], "n": None}


def test_what_cannot_be_written_names_the_file(tmp_path):
    def fail():
        with writing(tmp_path):
            write_text(tmp_path / "nowhere" / "a.txt", "a")

    with pytest.raises(InputError, match=r"nowhere/a.txt: cannot be written: No such file"):
        fail()


def test_links_and_devices_stay_what_they_are(tmp_path, capfd):
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "a\n")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "a\n"
    write_json("/dev/stdout", {"a": 1})
    assert '"a": 1' in capfd.readouterr().out


def test_a_link_that_leads_elsewhere_is_replaced(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "other").write_text("of somebody else")
    for name, target in {"a": "../other", "b": str(tmp_path / "other"), "loop": "loop", "none": "../none"}.items():
        path = tmp_path / "own" / name
        path.symlink_to(target)
        write_text(path, "new\n")
        assert not path.is_symlink() and path.read_text() == "new\n"
    assert (tmp_path / "other").read_text() == "of somebody else" and not (tmp_path / "none").exists()


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_files_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a", "1\n")
        append(tmp_path / "b", "1\n")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_append(tmp_path):
    append(tmp_path / "rows.csv", "Å\n")
    append(tmp_path / "rows.csv", "b\n")
    assert (tmp_path / "rows.csv").read_text(encoding="utf-8") == "Å\nb\n"


def test_outputs_are_checked_before_they_are_written(tmp_path):
    (tmp_path / "file").write_text("")
    check_outputs(None, tmp_path / "a.json", "/dev/null", tmp_path / "new" / "a.json", folders=[tmp_path / "new"])
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    (tmp_path / "wall").write_text("")
    with pytest.raises(InputError) as found:
        check_outputs(tmp_path / "more" / "a.json", tmp_path, tmp_path / "file" / "a.json",
                      folders=[tmp_path / "wall" / "b", tmp_path / "other"])
    assert [fault.removeprefix(f"{tmp_path}") for fault in found.value.faults] == [
        f"/wall/b: cannot be written: {tmp_path}/wall is not a folder",
        f"/more/a.json: cannot be written: the folder {tmp_path}/more does not exist; make it, or name another file",
        ": cannot be written: it is a folder; name a file in it",
        f"/file/a.json: cannot be written: {tmp_path}/file is not a folder"]
