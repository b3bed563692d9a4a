"""Labels whose forces contradict their energies: found in a sample, then in all; an error that is NaN is one."""

from contextlib import closing

import ase
import numpy as np
import pytest

from rxmdnn.labelling.executor import LostError
from rxmdnn.learning import labels

ERRORS = {"good": 0.01, "bad": 0.06, "nan": float("nan")}


class Here:
    """Calls in this process."""

    cpu_s = 0.0

    def __init__(self):
        self.calls = 0

    def unordered(self, call, items):
        self.calls += len(items)
        for k, atoms in reversed(list(enumerate(items))):
            word = atoms.info["is"]
            yield k, LostError("no convergence") if word == "lost" else ERRORS[word]

    def close(self):
        pass


def frames(*words):
    return [ase.Atoms("Ar", np.zeros((1, 3)), info={"is": word}) for word in words]


@pytest.mark.parametrize(("words", "bad", "calls"), [
    (["good", "bad", "good"], [], 1),  # not in the sample of one
    (["bad", "good", "nan", "lost"], [0, 2, 3], 4), (["nan", "good"], [0], 2), (["lost", "bad"], [0, 1], 2)])
def test_labels_that_contradict_their_energies(words, bad, calls):
    with closing(Here()) as executor:
        assert labels._inconsistent(frames(*words), "an engine", executor) == bad
        assert executor.calls == calls
