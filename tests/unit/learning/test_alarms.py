"""Alarms of a study and of a healed run: their frames in order, the atom that met the criterion."""

import json
import shutil
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn import backend as backends
from rxmdnn.commands import run as run_command
from rxmdnn.deck import language as decks
from rxmdnn.deck.tfail import TABLE
from rxmdnn.errors import InputError
from rxmdnn.learning.alarms import alarms_of, strongest
from rxmdnn.models.pair import LennardJones
from rxmdnn.survival import results
from rxmdnn.survival.study import Study

HEAL = Path(__file__).parents[3] / "input/ammonia/fidelity/heal.in"
DECK = """model a.model warm 1
sizes 8
temperatures 40 30000
replicas 3
start argon.xyz
dt 2.0
cap 0.4
check 5
criteria {criteria}
frames 3 5
output out
"""


def study(folder, criteria):
    """Soft atoms, which collide at high temperature."""
    (folder / "a.model").write_text("a")
    ase.io.write(folder / "argon.xyz", ase.build.bulk("Ar", cubic=True, a=5.4), format="extxyz")
    (folder / "tfail.in").write_text(DECK.format(criteria=criteria))
    Study(decks.read(folder / "tfail.in", TABLE), MPI.COMM_SELF,
          lambda file, elements, precision: LennardJones(backends.make("cpu"), elements, 0.0104, 1.2, 5.0)).run()
    return folder / "out"


def test_a_study_gives_its_failures_with_the_frames_before(tmp_path):
    folder = study(tmp_path, "pair")
    found = alarms_of(folder)
    rows = {r["run"]: r for r in results.read(folder) if r["failed"]}
    assert [a.source for a in found] == sorted(rows) and len(found) == 3
    for alarm in found:
        row = rows[alarm.source]
        assert (alarm.criterion, alarm.worst, alarm.time_fs) == ("pair", row["gid"], row["failed_step"] * 2.0)
        steps = [a.info["step"] for a in alarm.frames]
        assert steps == sorted(steps) and steps[-1] == row["failed_step"] and 2 <= len(steps) <= 4
        assert [a.info["at_alarm"] for a in alarm.frames] == [False] * (len(steps) - 1) + [True]
        assert alarm.frames[0].info["origin"] == f"{alarm.source}:{steps[0]}"
        d = np.sort(alarm.frames[-1].get_all_distances(mic=True)[alarm.worst])[1]
        assert d == pytest.approx(row["value"], abs=1e-5)
    table = (folder / "results.csv").read_text().splitlines()  # several ranks finish in another order
    (folder / "results.csv").write_text("\n".join([table[0], *table[:0:-1]]) + "\n")
    frames = results.complete_frames(folder / "failures.xyz")
    (folder / "failures.xyz").write_text("".join(text for _, text in frames[::-1]))
    again = alarms_of(folder)
    assert [(a.source, a.worst, [f.info["origin"] for f in a.frames]) for a in again] == [
        (a.source, a.worst, [f.info["origin"] for f in a.frames]) for a in found]


def test_a_criterion_of_the_whole_system_gives_the_atom_of_the_largest_force(tmp_path):
    found = alarms_of(study(tmp_path, "published"))
    assert {a.criterion for a in found} == {"published"}
    for alarm in found:
        assert alarm.worst == strongest(alarm.frames[-1]) == np.linalg.norm(
            alarm.frames[-1].arrays["model_forces"], axis=1).argmax()


@pytest.fixture(scope="module")
def healed(tmp_path_factory):
    """A run that heals: hot ammonia by a poor model."""
    folder = tmp_path_factory.mktemp("healed") / "DAT"
    run_command.main(["--rxmdin", str(HEAL), "--outDir", str(folder), "--structure",
                      str(HEAL.parents[1] / "solid_I.cif"), "2", "1", "1", "--ntime_step", "60", "--treq", "2500",
                      "--h5md", "10", "--xyz", "10", "--fidelity_heal", "6", "20", "8", "10",
                      "--fidelity_limit", "bond", "1.36"], MPI.COMM_SELF)
    return folder


def test_a_healed_run_gives_its_incidents_with_frames_of_its_trajectory(healed):
    found = alarms_of(healed)
    rows = [json.loads(line) for line in (healed / "incidents.jsonl").read_text().splitlines()]
    assert len(found) == len(rows) > 0
    later = [min(r.get("to_step", 10**9) for r in rows[k:]) for k in range(len(rows))]
    for alarm, row, last in zip(found, rows, later):
        steps = [a.info["step"] for a in alarm.frames]
        assert alarm.source == f"DAT/incident_{row['incident']}" and alarm.time_fs == row["time_fs"]
        expected = [s for s in range(0, 70, 10) if s <= last and s < row["step"]][-4:]
        assert steps == [*expected, row["step"]] and len(expected) >= 1
        assert alarm.criterion in row["kinds"]
        if alarm.criterion == "bond":  # the bond of that atom that is too long in the frame of the incident
            d = alarm.frames[-1].get_distances(alarm.worst, range(len(alarm.frames[-1])), mic=True)
            values = [e["value"] for e in row["events"] if e["gid"] == alarm.worst]
            assert np.abs(d - values[0]).min() < 1e-5


def test_the_trajectory_may_be_of_any_format(healed, tmp_path):
    first = alarms_of(healed)
    folder = shutil.copytree(healed, tmp_path / "DAT")
    (folder / "trajectory.h5md").unlink()
    second = alarms_of(folder)
    for a, b in zip(first, second, strict=True):
        assert [f.info["origin"] for f in a.frames] == [f.info["origin"] for f in b.frames]
        assert np.allclose(a.frames[0].positions, b.frames[0].positions, atol=1e-5)
    (folder / "trajectory.xyz").unlink()
    assert alarms_of(folder)[0].frames[0].info["step"] == 0  # the numbered frame of the start


def test_folders_without_alarms_and_damaged_files_are_refused(tmp_path, healed):
    with pytest.raises(InputError, match=r"no such folder; name one"):
        alarms_of(tmp_path / "none")
    with pytest.raises(InputError, match=r"incidents.jsonl: no such file: no criterion was met .*fidelity heal 10"):
        alarms_of(tmp_path)
    text = (healed / "incidents.jsonl").read_text()
    (tmp_path / "incidents.jsonl").write_text(text + '{"incident": 9')  # a killed run
    assert len(alarms_of(tmp_path)) == text.count("\n") and not alarms_of(tmp_path)[0].frames
    (tmp_path / "incidents.jsonl").write_text(text + "{}\n")
    with pytest.raises(InputError, match=rf"incidents.jsonl:{text.count(chr(10)) + 1}: incident: is missing"):
        alarms_of(tmp_path)
