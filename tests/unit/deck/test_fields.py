"""Lines field, efield and charges: what they mean, and every fault by its text."""

import numpy as np
import pytest

from rxmdnn.deck.fields import charge_lines, field_lines
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError

GOOD = "time 1.0 10\nstructure start.xyz\n"
CHARGES = "charges Ne 0.5\ncharges Ar -0.5\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n")
    (tmp_path / "start.xyz").write_text("1\nLattice=\"9 0 0 0 9 0 0 0 9\"\nAr 0 0 0\n")
    (tmp_path / "e.txt").write_text("# t E\n0 0\n10 0.5\n20 0\n")
    (tmp_path / "one.txt").write_text("ten 0.5\n")
    (tmp_path / "back.txt").write_text("10 0.5\n9 0.5\n")
    (tmp_path / "q.txt").write_text("Ne 0.5\nAr -0.5 0 0  0 -0.5 0.1  0 0 -0.5\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def deck_of(folder, text, *flags):
    (folder / "rxmd.in").write_text(GOOD + text)
    return read_run(["--rxmdin", str(folder / "rxmd.in"), *flags], 1)


def test_lines_of_every_shape(folder):
    run = deck_of(folder, CHARGES + "field constant x 0.1\nfield ramp 0 3 4 0.5 10 20\nfield sine z 0.2 1.5\n"
                  "field pulse y -0.3 100 40 2 90\nfield table z 2 e.txt\nefield 2 0.01\nfield constant z 0\n")
    lines = field_lines(run.deck)
    assert [line.shape for line in lines] == ["constant", "ramp", "sine", "pulse", "table", "constant"]
    np.testing.assert_allclose([line.strength for line in lines], [
        [0.1, 0, 0], [0, 0.3, 0.4], [0, 0, 0.2], [0, -0.3, 0], [0, 0, 2.0], [0, 0.01, 0]])
    assert lines[2].parameters == {"frequency": 1.5, "phase": 0.0}
    assert lines[3].parameters == {"t0": 100.0, "FWHM": 40.0, "frequency": 2.0, "phase": 90.0}
    np.testing.assert_array_equal(lines[4].table, [[0, 10, 20], [0, 0.5, 0]])
    again = deck_of(folder, "\n".join(line for line in run.deck.echo().splitlines()
                                      if line.split()[0] in ("field", "charges", "efield")))
    assert [line.strength.tolist() for line in field_lines(again.deck)] == [line.strength.tolist() for line in lines]


def test_charges_of_elements_and_of_a_file(folder):
    said = charge_lines(deck_of(folder, "charges file q.txt\n").deck, ("Ar", "Ne"))
    np.testing.assert_array_equal(said.by_element["Ne"], 0.5 * np.eye(3))
    np.testing.assert_array_equal(said.by_element["Ar"], [[-0.5, 0, 0], [0, -0.5, 0.1], [0, 0, -0.5]])
    said = charge_lines(deck_of(folder, "charges structure\ncharges neutral 0.01\n").deck, ("Ar", "Ne"))
    assert said.of_structure and said.neutral == 0.01 and not said.by_element


def test_flags_of_the_command_line(folder):
    run = deck_of(folder, CHARGES, "--field", "constant", "z", "-0.1", "--efield", "1", "0.2")
    np.testing.assert_allclose([line.strength for line in field_lines(run.deck)], [[0, 0, -0.1], [0.2, 0, 0]])


@pytest.mark.parametrize(("text", "said"), [
    ("field constant z 0.1", "rxmd.in:3: field: a field needs charges; write 'charges <element> <q>'"),
    ("efield 3 0.1", "rxmd.in:3: efield: a field needs charges"),
    (CHARGES + "efield 4 0.1", "efield: direction = 4: must be 1, 2 or 3"),
    (CHARGES + "field wave z 0.1", "field: shape must be one of constant, ramp, sine, pulse, table, not 'wave'"),
    (CHARGES + "field constant up 0.1", "the direction must be x, y, z or three numbers, not 'up 0.1'"),
    (CHARGES + "field constant 0 0 0 0.1", "the direction has no length"),
    (CHARGES + "field constant z", "0 value(s) after the direction; write 'field constant <direction> <strength>'"),
    (CHARGES + "field sine z 0.1", "write 'field sine <direction> <strength> <frequency> <phase>'"),
    (CHARGES + "field sine z strong 1", "strength must be a number, not 'strong'"),
    (CHARGES + "field sine z 0.1 0", "frequency must be above zero"),
    (CHARGES + "field ramp z 0.1 20 10", "t1 = 10 fs must be after t0 = 20 fs"),
    (CHARGES + "field pulse z 0.1 20 -3", "FWHM must be above zero"),
    (CHARGES + "field table z 1 none.txt", "none.txt: cannot be read: No such file"),
    (CHARGES + "field table z 1 q.txt", "q.txt:1: expected two finite numbers, t (fs) and E (V/Å), found"),
    (CHARGES + "field table z 1 start.xyz", "start.xyz:1: expected two finite numbers, t (fs) and E (V/Å), found '1'"),
    (CHARGES + "field table z 1 one.txt", "one.txt:1: expected two finite numbers, t (fs) and E (V/Å), found 'ten 0"),
    (CHARGES + "field table z 1 back.txt", "back.txt:2: t (fs) must ascend, but"),
    (CHARGES + "mdmode 10\nfield sine z 0.1 2", "a minimization has no time; 'sine' changes with it"),
    (CHARGES + "pimd 4 suzuki-chin\nensemble langevin 0.1\nfield constant z 0.1",
     "not available with suzuki-chin"),
    ("charges Ne 0.5", "rxmd.in:3: charges: no charge of Ar; write 'charges Ar <q>'"),
    ("charges ne 0.5\ncharges Ar 1", "ne: not an element of the models (Ar Ne); did you mean 'Ne'?"),
    ("charges Ne 0.5 0.5\ncharges Ar 1", "Ne: one number or nine (xx xy xz yx ... zz) are needed, not 2"),
    ("charges Ne q\ncharges Ar 1", "Ne: the charge must be a number, not 'q'"),
    (CHARGES + "charges Ne 0.1", "rxmd.in:5: charges: Ne: its charge is given before; keep one"),
    (CHARGES + "charges structure", "charges of the structure and of elements; keep one kind"),
    (CHARGES + "charges neutral -1", "the largest mean charge must be above zero"),
    ("charges neutral 0.1", "no charge of Ar, Ne"),
    ("charges file e.txt", "e.txt:2: 0: not an element of the models"),
])
def test_faults_are_told_with_file_and_line(folder, text, said):
    with pytest.raises(InputError) as error:
        deck_of(folder, text + "\n")
    assert said in str(error.value)
