"""Frames to label: neither failed nor equal ones; the farthest in latent space, in any order of alarms."""

from pathlib import Path

import ase
import ase.build
import ase.io
import numpy as np
import pytest

from rxmdnn.errors import InputError
from rxmdnn.io.labels import is_by_model
from rxmdnn.labelling import committee
from rxmdnn.labelling.file_tasks import tasks_of_file
from rxmdnn.learning.alarms import Alarm
from rxmdnn.learning.choose import LatentSpace, choose, farthest, has_failed
from tests.systems import ammonia

INPUT = Path(__file__).parents[3] / "input/ammonia"
MODEL = INPUT / "fidelity/poor.safetensors"


def alarm(name, atoms, worst, moved=(0.0, 0.05, 0.1), criterion="bond"):
    """Frames of one run in which the worst atom moves away, the last one that of the alarm."""
    frames = []
    for k, by in enumerate(moved):
        frame = atoms.copy()
        frame.positions[worst, 0] += by
        frame.info = {"origin": f"{name}:{k}", "step": k, "at_alarm": k == len(moved) - 1, "run": name, "model": "m",
                      "arm": "a", "replica": 0, "temperature": 300.0}
        frame.set_array("model_forces", np.zeros((len(atoms), 3)))
        frames.append(frame)
    return Alarm(name, criterion, 1.0, frames, worst, name)


@pytest.fixture(scope="module")
def alarms():
    atoms = ammonia()
    last = alarm("m/160/300/3", atoms, 11, (0.1, 0.2, 0.0))
    last.frames[2].positions[11] = last.frames[2].positions[12] + [0.3, 0.0, 0.0]  # almost at the place of another atom
    return [alarm("m/160/300/0", atoms, 3), alarm("m/160/300/1", atoms, 20, (0.0, 0.1, 0.3)),
            alarm("m/160/300/2", atoms, 77, (0.0, 0.0, 0.2)), last]  # two equal frames


def test_the_chosen_frames_are_cut_named_and_without_failed_and_equal_ones(alarms):
    found = choose(alarms, MODEL, 100, 64)
    assert (found.candidates, found.failed, found.duplicates, len(found.frames)) == (12, 1, 1, 10)
    for atoms in found.frames:
        assert len(atoms) <= 64 and not atoms.pbc.any() and atoms.arrays["worst"].sum() == 1 and not is_by_model(atoms)
        assert atoms.info["kind"] == "learned" and atoms.info["alarm"] == "bond" and atoms.info["temperature"] == 300.0
        assert atoms.info["group"] == atoms.info["origin"].partition(":")[0].replace("/", "_")
        assert "model" not in atoms.info and not has_failed(atoms)
    assert len({a.info["origin"] for a in found.frames}) == 10


def test_frames_with_nan_or_infinite_coordinates_have_failed():
    broken = alarm("m/160/300/4", ammonia(), 5)
    broken.frames[1].positions[0, 2] = np.nan
    assert has_failed(broken.frames[1])
    found = choose([broken], MODEL, 100)
    assert (found.candidates, found.failed, len(found.frames)) == (3, 1, 2)


def test_the_order_of_alarms_and_frames_in_a_file_does_not_matter(alarms):
    first = choose(alarms, MODEL, 6)
    again = choose(alarms[::-1], MODEL, 6)
    assert [a.info for a in first.frames] == [a.info for a in again.frames] and len(first.frames) == 6
    assert all((a.positions == b.positions).all() for a, b in zip(first.frames, again.frames))


def test_few_of_one_alarm_and_none_of_the_alarm_itself_where_asked(alarms):
    one = choose(alarms, MODEL, 100, per_alarm=1)
    assert sorted(a.info["group"][-1] for a in one.frames) == ["0", "1", "2", "3"]
    before = choose(alarms, MODEL, 100, at_alarm=False)
    assert before.candidates == 8 and not any(a.info["origin"].endswith(":2") for a in before.frames)


def test_the_first_choice_is_the_farthest_from_the_training_set(alarms):
    space = LatentSpace(MODEL)
    every = {f.info["origin"]: space.point_of(f, a.worst) for a in alarms for f in a.frames[:2]}
    chosen = choose(alarms, MODEL, 3, at_alarm=False).frames
    lengths = {origin: np.linalg.norm(point) for origin, (point, _) in every.items()}
    assert chosen[0].info["origin"] == max(lengths, key=lengths.get)
    assert chosen[0].info["latent_distance"] == round(every[chosen[0].info["origin"]][1], 4)


def test_the_distance_is_that_of_the_whole_frame(alarms):
    """Features of a few atoms are those of an evaluation of all; the distance is that of rxmdnn label --select."""
    space = LatentSpace(MODEL)
    for chosen in alarms[:2]:
        frame = chosen.frames[1]
        d = frame.get_distances(chosen.worst, range(len(frame)), mic=True)
        near = d < 1.6 * 1.02 if frame.numbers[chosen.worst] == 7 else (d < 1.6 * 1.02) & (
            (frame.numbers == 7) | (d < 1.6 * 0.62))
        (every,) = committee.latent_distance(MODEL, [frame])
        assert space.point_of(frame, chosen.worst)[1] == pytest.approx(every[near].max(), rel=1e-3)
        assert 2 <= near.sum() <= 6


def test_points_do_not_depend_on_place_orientation_and_order(alarms):
    space, frame, worst = LatentSpace(MODEL), alarms[0].frames[1], alarms[0].worst
    point, _ = space.point_of(frame, worst)
    moved = frame.copy()
    moved.rotate(40, (1, 2, 3), rotate_cell=True)
    moved.positions += [1.0, -7.0, 30.0]
    order = np.random.default_rng(2).permutation(len(frame))
    other, _ = space.point_of(moved[order], int(np.flatnonzero(order == worst)[0]))
    assert np.linalg.norm(point) > 0.5 and np.linalg.norm(point - other) < 1e-3


def test_farthest_points_of_a_line():
    points = np.array([[1.0], [5.0], [4.9], [-3.0], [2.6]])
    assert farthest(points, list("abcde"), 4, 1) == [1, 3, 4, 0]  # 5; then -3 is 3 from 0; 2.6 is 2.4 from 5
    assert farthest(points, list("aabaa"), 4, 1) == [1, 2]
    assert farthest(points, list("abcde"), 9, 1) == [1, 3, 4, 0, 2]
    assert farthest(np.empty((0, 1)), [], 3, 1) == []


def test_a_pair_is_too_near_also_over_the_boundary():
    atoms = ase.Atoms("NH", [[0.1, 0, 0], [9.5, 0, 0]], cell=[10, 10, 10], pbc=True)
    assert has_failed(atoms)  # 0.60 Å; the limit is 0.612
    atoms.positions[1, 0] = 9.48
    assert not has_failed(atoms)
    atoms.positions[1, 0], atoms.pbc = 0.7, False
    assert has_failed(atoms)


def test_chosen_frames_are_tasks_of_a_labelling_job(alarms, tmp_path):
    found = choose(alarms, MODEL, 5).frames
    ase.io.write(tmp_path / "chosen.xyz", found, format="extxyz")
    tasks = tasks_of_file(tmp_path / "chosen.xyz")
    assert [(t.kind, t.group) for t in tasks] == [("learned", a.info["group"]) for a in found]
    assert all(t.atoms.info["origin"] == a.info["origin"] for t, a in zip(tasks, found))


def test_models_without_statistics_and_unknown_elements_are_refused(alarms):
    with pytest.raises(InputError, match=r"ammonia_gfn1.safetensors: has no statistics .*'rxmdnn fidelity fit"):
        choose(alarms, INPUT / "ammonia_gfn1.safetensors", 3)
    water = ase.build.molecule("H2O", vacuum=4.0)
    with pytest.raises(InputError, match=r"w:0: has O, which .*poor.safetensors does not have; it has"):
        choose([alarm("w", water, 0, (0.0,))], MODEL, 3)
