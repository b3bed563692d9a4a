"""rxmdnn doctor: facts, and a self-test that fails where it should."""

import subprocess
import sys

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands import doctor
from rxmdnn.errors import InputError
from rxmdnn.run import diagnosis


def test_a_fact_that_cannot_be_read_hides_no_other(monkeypatch):
    def broken():
        raise OSError("no such thing\nmore")

    monkeypatch.setattr(diagnosis, "_memory", broken)
    found = diagnosis.facts(MPI.COMM_SELF)
    assert found["memory"] == "FAILED: OSError: no such thing"
    assert found["rxmdnn"].startswith("0.1.0 in ") and "numpy" in found["packages"]


def test_the_command():
    done = subprocess.run([sys.executable, "-m", "rxmdnn", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "self-test   : passed: 20 steps of 16 atoms" in done.stdout
    done = subprocess.run([sys.executable, "-m", "rxmdnn", "doctor", "--nothing"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_a_wrong_energy_fails(monkeypatch, capsys):
    class Atoms:
        def __len__(self):
            return 16

        def get_forces(self):
            return np.zeros((16, 3))

    monkeypatch.setattr(doctor, "simulate", lambda *a, **k: (Atoms(), {"etotal_eV": np.array([0.0, 1.0])}))
    assert doctor.main([]) == 4
    assert "self-test   : FAILED" in capsys.readouterr().out


def test_a_missing_model_fails(monkeypatch):
    def missing(*a, **k):
        raise InputError("no such file")

    monkeypatch.setattr(doctor, "simulate", missing)
    assert doctor.self_test(MPI.COMM_SELF) == "FAILED: no such file"


@pytest.mark.parametrize("text", ["FAILED: x", "fine"])
def test_the_exit_code_is_that_of_the_facts(text, monkeypatch):
    monkeypatch.setattr(doctor, "facts", lambda comm: {"GPU": text})
    assert doctor.main(["--no-test"]) == (4 if text.startswith("FAILED") else 0)
