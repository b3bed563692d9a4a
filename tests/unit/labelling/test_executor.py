"""Calls in other processes: results by number, lost processes, exceptions, mistakes of the user, no rank of a job."""

import os
import subprocess
import sys
from contextlib import closing

import pytest

from rxmdnn.errors import InputError
from rxmdnn.labelling.executor import LostError, Processes, executor_of


def work(item):
    if item == "die":
        os._exit(7)
    if item == "raise":
        raise ValueError("two\nlines")
    if item == "wrong":
        raise InputError("x.in: wrong")
    return os.environ.get("OMPI_COMM_WORLD_SIZE", "alone") if item == "rank" else item * 2


def test_results_come_with_their_numbers_from_processes_that_are_no_ranks(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "2")
    with closing(Processes(2)) as executor:
        assert list(executor.unordered(work, [])) == []
        assert dict(executor.unordered(work, [1])) == {0: 2}
        assert dict(executor.unordered(work, [1, 2, 3, "rank"])) == {0: 2, 1: 4, 2: 6, 3: "alone"}


def test_a_lost_process_and_an_exception_are_results():
    with closing(Processes(1)) as executor:
        found = dict(executor.unordered(work, ["raise", 4, "die"]))
        assert dict(executor.unordered(work, [5])) == {0: 10}  # another process has taken its place
    assert found[1] == 8 and str(found[0]) == "ValueError: two lines"
    assert isinstance(found[2], LostError) and "exit code 7" in str(found[2])


def test_mistakes_of_the_user_end_everything(tmp_path):
    with closing(Processes(1)) as executor, pytest.raises(InputError, match=r"x\.in: wrong"):
        list(executor.unordered(work, ["wrong"]))
    for name, file, message in (("slurm", None, "slurm: unknown"), ("parsl", None, "write 'processes', or")):
        with pytest.raises(InputError, match=message):
            executor_of(name, file, 1)


SCRIPT = """
import sys, time
from rxmdnn.labelling.executor import Processes

def work(pipe):
    with open(pipe, "w") as out:
        print("at work", file=out, flush=True)
        time.sleep(60)
        print("alive", file=out)

if __name__ == "__main__":
    list(Processes(1).unordered(work, sys.argv[1:]))
"""


def test_the_processes_end_with_the_one_that_started_them(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    (tmp_path / "script.py").write_text(SCRIPT)
    parent = subprocess.Popen([sys.executable, tmp_path / "script.py", pipe])
    with open(pipe) as words:
        assert words.readline() == "at work\n"
        parent.kill()
        parent.wait()
        assert words.read() == ""  # the pipe is closed: its process has ended
