"""A loop through its command: a model of calm argon learns to survive hot argon, by labels of Lennard-Jones."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import ase.build
import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones
from mpi4py import MPI

from rxmdnn.commands import label, learn, train
from rxmdnn.commands import run as main_run
from rxmdnn.errors import InputError
from rxmdnn.learning.ledger import CLOCKS, NAME, Ledger
from rxmdnn.learning.loop import LearningLoop

ENGINE = """from pathlib import Path
from ase.calculators.lj import LennardJones

LIMIT = Path(__file__).with_name("limit")


class Failing(LennardJones):
    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        if LIMIT.exists() and abs(self.results["forces"]).max() > float(LIMIT.read_text()):
            raise RuntimeError("no convergence")


def make():
    return Failing(epsilon=0.0103, sigma=2.0, rc=4.0, smooth=True)
"""
TRAIN = """data calm.xyz
elements Ar
split 0.2 0.2
r_max 4.0
network 0 1 16 4
mlp 16 1 16
zbl .false.
loss 1.0 1.0
batch 4
ema 0.9
adam 5.0e-3
cosine 0.1
epochs {epochs}
keep last
output {output}
model {model}
"""
RUNS = """sizes 32
temperatures 300
replicas 3
start argon.xyz
thermostat svr 50
dt 4.0
cap 1.2
check 5
criteria finite pair
frames 5 8
samples 25
"""
LEARN = """model start.safetensors
data calm.xyz
train retrain.in
runs runs.in
survive 32 1.2 300 0.5
engine ase:{place}/lj.py:make
budget 12
rounds 2
labels 6 3
cut 16
guard 1000
workers 1
output out
"""


def make_frames(count, amplitude, kind, seed):
    rng, made = np.random.default_rng(seed), []
    for k in range(count):
        atoms = ase.build.bulk("Ar", cubic=True, a=3.2) * (1, 1, 2)
        atoms.positions += rng.normal(0, amplitude, atoms.positions.shape)
        atoms.info = {"kind": kind, "group": f"{kind}{k}"}
        made.append(atoms)
    return made


def prepare(folder):
    """Decks, data and the model to begin with."""
    (folder / "lj.py").write_text(ENGINE)
    ase.io.write(folder / "bare.xyz", make_frames(20, 0.05, "calm", 1) + make_frames(20, 0.1, "warm", 2),
                 parallel=False)  # one rank alone may make it
    assert label.main([str(folder / "calm.xyz"), "--frames", str(folder / "bare.xyz"), "--engine",
                       f"ase:{folder}/lj.py:make", "--workers", "1"]) == 0
    ase.io.write(folder / "argon.xyz", ase.build.bulk("Ar", cubic=True, a=3.2), format="extxyz", parallel=False)
    (folder / "first.in").write_text(TRAIN.format(epochs=30, output="training", model="start.safetensors"))
    (folder / "retrain.in").write_text("".join(
        line for line in TRAIN.format(epochs=30, output="none", model="none").splitlines(keepends=True)
        if line.split()[0] not in ("r_max", "network", "mlp", "zbl", "output")))
    (folder / "runs.in").write_text(RUNS)
    assert train.main([str(folder / "first.in")]) == 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with all that a loop needs."""
    folder = tmp_path_factory.mktemp("learn")
    prepare(folder)
    return folder


def deck(place, name, text=LEARN, **changes):
    """Write a deck with lines changed; its path."""
    lines = dict(line.split(maxsplit=1) for line in text.format(place=place).splitlines())
    lines |= {"output": name, **changes}
    path = place / f"{name}.in"
    path.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
    return path


def ledger(folder):
    """The lines, without what differs between equal loops."""
    return [{key: value for key, value in row.items() if key not in CLOCKS} for row in Ledger(folder).lines]


@pytest.fixture(scope="module")
def undisturbed(place):
    """A loop that ran to its end."""
    assert learn.main([str(deck(place, "whole"))]) == 0
    return place / "whole"


def test_a_loop_labels_what_fails_retrains_and_ends(undisturbed, capsys):
    rows = ledger(undisturbed)
    steps = [(row["round"], row["step"]) for row in rows]
    assert steps[:6] == [(0, "start"), (0, "runs"), (0, "choose"), (0, "label"), (0, "train"), (1, "runs")]
    assert steps[-1][1] == "stop" and rows[-1]["reason"] in ("survival", "budget", "rounds")
    first = rows[1]
    assert first["runs"] == 3 and first["failures"] > 0 and sum(first["alarms"].values()) == first["failures"]
    assert 0 <= first["survival"]["low"] <= first["survival"]["probability"] <= 1
    assert rows[2]["chosen"] == rows[3]["labelled"] + len(rows[3]["quarantined"]) <= 6
    labels = ase.io.read(undisturbed / "round_0/labels.xyz", ":")
    assert len(labels) == rows[3]["labelled"] and all(len(a) <= 16 and a.info["kind"] == "learned" for a in labels)
    for a in labels:  # of the engine, on these positions
        forces = a.get_forces()
        a.calc = LennardJones(epsilon=0.0103, sigma=2.0, rc=4.0, smooth=True)
        assert abs(a.get_forces() - forces).max() < 2e-2 * max(1, abs(forces).max())
    assert rows[4]["kept"] and rows[4]["errors_after"]["learned"] < rows[4]["errors_before"]["learned"]
    assert (undisturbed / "round_0/model.safetensors").is_file() and (undisturbed / "report.html").is_file()
    draws = [(undisturbed / f"round_{k}/runs/study_1_32_300K_0/study.json").read_text() for k in (0, 1)]
    assert [json.loads(d)["deck"]["seed"] for d in draws] == ["seed 1 study", "seed 10001 study"]


def test_started_again_it_does_nothing_more(undisturbed, place):
    before = (undisturbed / NAME).read_bytes()
    assert learn.main([str(place / "whole.in")]) == 0
    assert (undisturbed / NAME).read_bytes() == before


def test_labels_and_hours_of_later_rounds_do_not_end_an_earlier_one(tmp_path):
    runs = {"survival": None}
    loop = LearningLoop.__new__(LearningLoop)
    loop.ledger = Ledger(tmp_path)
    loop.ledger.lines = [{"round": k, "step": step, "seconds": 900.0, **more} for k in (0, 1) for step, more in (
        ("runs", runs), ("choose", {"chosen": 6}), ("label", {}), ("train", {}))]
    survive = SimpleNamespace(time=1.0, atoms=32, temperature=300.0, probability=0.9, confidence=0.95)

    def reasons(labels, hours):
        budget = SimpleNamespace(labels=labels, hours=hours)
        loop.plan = SimpleNamespace(deck={"survive": survive, "budget": budget, "rounds": SimpleNamespace(number=9)})
        return [(loop._reason(k, runs) or {"reason": None})["reason"] for k in (0, 1, 2)]

    assert reasons(12, None) == [None, None, "budget"]
    assert reasons(99, 1.9) == [None, None, "budget"]
    assert reasons(6, None) == [None, "budget", "budget"]


def test_killed_at_ten_random_instants_it_ends_with_the_same_ledger(undisturbed, place):
    path, rng, kills = deck(place, "killed"), random.Random(3), 0
    command = [sys.executable, "-m", "rxmdnn", "learn", str(path)]
    while True:
        job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
        try:
            _, errors = job.communicate(timeout=rng.uniform(3.0, 9.0) if kills < 10 else 300)
            assert job.returncode == 0, errors
            break
        except subprocess.TimeoutExpired:
            os.kill(job.pid, signal.SIGKILL)
            job.communicate()
            kills += 1
            time.sleep(0.5)
    assert kills > 2 and ledger(place / "killed") == ledger(undisturbed)


def test_a_full_disk_in_a_round_is_one_message_and_the_loop_goes_on(undisturbed, place, monkeypatch):
    path, replace = deck(place, "full"), os.replace
    for name in ("chosen.xyz", "model.safetensors"):  # the disk is full when a file of this name is to be there
        def full(source, target, name=name):
            if Path(target).name == name and Path(target).parent.name == "round_0":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.raises(InputError, match=rf"{name}: cannot be written: No space left on device; make room"):
                learn.main([str(path)])
        done = ledger(place / "full")
        assert done == ledger(undisturbed)[:len(done)] and done[-1]["step"] in ("runs", "label")
    assert learn.main([str(path)]) == 0
    assert ledger(place / "full") == ledger(undisturbed)


def test_a_retraining_that_worsens_a_kind_is_undone(place):
    assert learn.main([str(deck(place, "undone", guard="1.0e-9", rounds="1"))]) == 0
    rows = ledger(place / "undone")
    trained = next(row for row in rows if row["step"] == "train")
    assert not trained["kept"] and set(trained["worse"]) <= {"all", "calm", "warm", "learned"} and trained["worse"]
    assert rows[-1]["step"] == "stop" and not (place / "undone/round_0/model.safetensors").exists()
    runs = [row for row in rows if row["step"] == "runs"]
    assert runs[0]["model"] == runs[1]["model"]  # its next runs are of the old model, and count with the first ones
    assert [row["survival"]["runs"] for row in runs] == [3, 6]


def test_labels_that_fail_are_in_quarantine(place, undisturbed):
    largest = [abs(a.get_forces()).max() for a in ase.io.read(place / "whole/round_0/labels.xyz", ":")]
    (place / "limit").write_text(str(np.median(largest)))
    try:
        assert learn.main([str(deck(place, "bad", rounds="1"))]) == 0
    finally:
        (place / "limit").unlink()
    row = next(row for row in ledger(place / "bad") if row["step"] == "label")
    assert row["quarantined"] and all(q["reason"] == "no convergence" for q in row["quarantined"])
    kept, out = (ase.io.read(place / f"bad/round_0/{name}.xyz", ":") for name in ("labels", "quarantine"))
    assert len(kept) == row["labelled"] and len(out) == len(row["quarantined"])
    assert {a.info["reason"] for a in out} == {"no convergence"}


def test_random_frames_are_as_many(place, undisturbed):
    assert learn.main([str(deck(place, "random", choose="random", rounds="1"))]) == 0
    (row,), whole = ([r for r in ledger(folder) if r["step"] == "choose"] for folder in (place / "random", undisturbed))
    assert 0 < row["chosen"] <= 6 and row["alarms"] == whole[0]["alarms"]


@pytest.mark.parametrize(("changes", "message"), [
    ({"engine": "dft"}, "--engine dft: not known"),
    ({"engine": "ase:no_such_module:make"}, "no_such_module"),
    ({"budget": "0"}, "budget: labels = 0: must be above zero"),
    ({"survive": "32 1.2 300 1.5"}, "must be between 0 and 1"),
    ({"runs": "helium.in"}, "He"),
    ({"runs": "blind.in"}, "keeps no frames from before a failure"),
    ({"data": "calm.xyz other.xyz"}, "several engines or settings cannot be mixed"),
    ({"train": "leaky.in"}, r"leaky\.in:12: seed: start.safetensors was trained with 'seed 1'; write this"),
    ({"executor": "parsl"}, "executor: write 'processes', or 'parsl <file>'"),
])
def test_bad_decks_are_one_message_and_write_nothing(place, changes, message):
    helium = ase.io.read(place / "argon.xyz")
    helium.symbols[:] = "He"
    ase.io.write(place / "helium.xyz", helium)
    (place / "helium.in").write_text(RUNS.replace("argon.xyz", "helium.xyz"))
    (place / "blind.in").write_text(RUNS.replace("frames 5 8", "frames 0 8"))
    (place / "leaky.in").write_text((place / "retrain.in").read_text() + "seed 2\n")
    others = ase.io.read(place / "calm.xyz", ":3")
    for atoms in others:
        atoms.info["engine"] = "another"
        atoms.positions += 0.01
    ase.io.write(place / "other.xyz", others, format="extxyz")
    with pytest.raises(InputError, match=message):
        learn.main([str(deck(place, "faulty", **changes))])
    assert not (place / "faulty" / NAME).exists()


def test_a_deck_changed_between_rounds_is_refused_and_the_ledger_stays(place, undisturbed):
    before = (undisturbed / NAME).read_bytes()
    with pytest.raises(InputError, match=r"begun with 'cut 16', not 'cut 12'"):
        learn.main([str(place / "whole.in"), "--cut", "12"])
    for name, old, new in (("runs.in", "300", "200"), ("argon.xyz", "3.2", "3.3")):
        text = (place / name).read_text()
        (place / name).write_text(text.replace(old, new))
        try:
            with pytest.raises(InputError, match=f"begun with another '{re.escape(name)}'"):
                learn.main([str(place / "whole.in")])
        finally:
            (place / name).write_text(text)
    assert (undisturbed / NAME).read_bytes() == before


def test_the_incidents_of_a_production_run_are_the_first_alarms(place, capsys):
    (place / "rxmdnn.in").write_text("allegro start.safetensors 1 Ar 39.948\n")
    (place / "rxmd.in").write_text("structure argon.xyz 2 2 2\ntime 4.0 150\ntemperature 300 1.0 1000\nio_step 50 10\n"
                                   "ensemble langevin 0.05\nfidelity flag 5\nfidelity_watch finite pair\nh5md 5\n")
    run = place / "DAT"
    assert main_run.main(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(run)], MPI.COMM_SELF) in (0, 3, 4)
    assert (run / "incidents.jsonl").is_file()
    path = deck(place, "from", rounds="1", production="rxmd.in")
    assert learn.main([str(path), "--from", str(run)]) == 0
    rows = ledger(place / "from")
    with pytest.raises(InputError, match="begun with '--from' and the incidents of a run, but not with none"):
        learn.main([str(path)])
    assert ledger(place / "from") == rows
    assert rows[1]["runs"] == 0 and rows[1]["survival"] is None  # no runs of its own yet
    assert rows[2]["alarms"] > 0 and rows[3]["labelled"] > 0
    origins = [a.info["origin"] for a in ase.io.read(place / "from/round_0/chosen.xyz", ":")]
    assert all(origin.startswith("DAT/") for origin in origins)
    assert rows[5]["runs"] == 3  # those of the new model; its production run is beside them
    assert (place / "from/round_1/runs/production_1/run.log").is_file()
    with pytest.raises(InputError, match="no such folder"):
        learn.main([str(deck(place, "nothing")), "--from", str(place / "none")])
    with pytest.raises(InputError, match="--from: give the folder of a run"):
        learn.main([str(path), "--from"])
    with pytest.raises(InputError, match="learn: give a deck"):
        learn.main(["--from", str(run)])
