"""One command per folder: the second is refused, a crash leaves nothing that has to be cleaned."""

import os
import signal
import subprocess
import sys

import pytest

from rxmdnn.errors import InputError
from rxmdnn.locks import LOCK, held, lock_of

HOLDER = ("import sys, time\nfrom pathlib import Path\nfrom rxmdnn.locks import held\n"
          "with held(Path(sys.argv[1]), 'busy'):\n    print('held', flush=True)\n    time.sleep(60)\n")


def holder(lock):
    """A process that holds a lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_lock_ends_with_its_process_however_that_ends(tmp_path, how):
    lock = tmp_path / "out" / LOCK
    process = holder(lock)
    try:
        with pytest.raises(InputError, match=rf"^out: busy \(process {process.pid} on "), held(lock, "out: busy"):
            pass
        assert lock.exists()
    finally:
        process.send_signal(how)
        process.wait(20)
    with held(lock, "out: busy"):
        assert lock.read_text().startswith(f"process {os.getpid()} on ")
    assert not lock.exists()


def test_a_folder_made_for_a_lock_is_removed_when_it_stays_empty(tmp_path):
    with held(tmp_path / "a" / LOCK, "busy"):
        pass
    assert not list(tmp_path.iterdir())
    with held(tmp_path / "a" / LOCK, "busy"):
        (tmp_path / "a" / "file").write_text("")
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["file"]


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "other").write_text("mine")
    (tmp_path / LOCK).symlink_to(tmp_path / "other")
    with pytest.raises(InputError, match="it is a symbolic link"), held(tmp_path / LOCK, "busy"):
        pass
    assert (tmp_path / "other").read_text() == "mine"


def test_a_lock_that_its_holder_removes_meanwhile_is_made_again(tmp_path, monkeypatch):
    """The file is removed between our opening and our locking it, as its last holder does."""
    opened, count = os.open, [0]

    def late(path, flags, *more):
        handle = opened(path, flags, *more)
        if str(path).endswith(LOCK) and not count[0]:
            count[0] = 1
            os.unlink(path)
        return handle
    monkeypatch.setattr(os, "open", late)
    with held(tmp_path / LOCK, "busy"):
        monkeypatch.undo()
        assert (tmp_path / LOCK).exists() and count == [1]
        with pytest.raises(InputError, match="busy"), held(tmp_path / LOCK, "busy"):
            pass
    assert lock_of(tmp_path / "a.xyz") == tmp_path / ".a.xyz.lock"


def test_a_second_training_study_or_labelling_is_refused(tmp_path):
    from rxmdnn.commands.train import main as train
    from rxmdnn.labelling import labelling
    from tests.unit.survival import test_study as study
    from tests.unit.training.test_training import DECK, workplace

    deck = workplace(tmp_path / "training", DECK + "epochs 1\n")
    with held(deck.parent / "out" / LOCK, "busy"), pytest.raises(InputError, match="another training writes to"):
        train([str(deck)])
    (tmp_path / "study").mkdir()
    deck = study.workplace(tmp_path / "study")
    with held(deck.parent / "out" / LOCK, "busy"), pytest.raises(InputError, match="another study writes to"):
        study.run(deck)
    out = tmp_path / "out.xyz"
    with held(lock_of(out), "busy"), pytest.raises(InputError, match="another labelling writes to"):
        labelling.run(out, [], "ase:ase.calculators.emt:EMT", 1)
    assert not list(tmp_path.glob("*/out/*")) and not out.exists()
