"""Lines for electrons: their faults and notes."""

import pytest

from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError

LINES = "electrons 1 1 8\nelectrons_capacity linear 70\nelectrons_coupling 2.5e16\n"


def read(tmp_path, lines):
    (tmp_path / "start.xyz").write_text("1\n10 10 10 90 90 90\nAr 0 0 0\n")
    (tmp_path / "rxmdnn.in").write_text("lj 0.0104 3.4 6.0 1 Ar 39.95\n")
    (tmp_path / "rxmd.in").write_text(f"time 1 1\nstructure start.xyz\noutDir {tmp_path / 'out'}\n" + lines)
    return read_run(["--rxmdin", str(tmp_path / "rxmd.in")])


@pytest.mark.parametrize(("lines", "message"), [
    ("electrons_coupling 1e16\n", "rxmd.in:4: electrons_coupling: needs a line 'electrons <nx> <ny> <nz>'"),
    (LINES.replace("linear 70", "linear -70"), "electrons_capacity: value = -70: must be above zero"),
    (LINES.replace("1 1 8", "1 0 8"), "electrons: ny = 0: must be above zero"),
    (LINES.replace("1 1 8", "1000 1000 8"), "8000000 cells; every rank holds all"),
    (LINES.replace("electrons_capacity linear 70\n", ""), "electrons: needs the heat capacity"),
    (LINES.replace("electrons_coupling 2.5e16\n", ""), "electrons: needs the coupling"),
    (LINES.replace("2.5e16", "-1"), "electrons_coupling: g = -1: must not be negative"),
    (LINES + "electrons_conductivity linear 300\n", "form must be one of constant, scaled, not 'linear'"),
    (LINES + "electrons_temperature 0\n", "electrons_temperature: start = 0: must be above zero"),
    (LINES + "temperature 0 1 1\n", "T_e at the start is 0 K; write 'electrons_temperature <T_e>'"),
    (LINES + "pimd 8 trpmd\n", "not on ring polymers"),
    (LINES + "mdmode 10\n", "a minimization has no temperature"),
    (LINES + "electrons_table start.xyz\n", "electrons_capacity gives the heat capacity too; keep one"),
    ("profile 10\n", "profile: needs the numbers of cells"),
    (LINES + "profile 10\nmdmode 10\n", "profile: a minimization has no temperature"),
    ("profile 10 1 1 4\npimd 8 trpmd\n", "profile: temperatures of centroids"),
    (LINES + "electrons_table none.txt\n", "electrons_table: file: no file"),
])
def test_faults(tmp_path, lines, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, lines)
    assert message in str(error.value)


def test_notes(tmp_path):
    assert read(tmp_path, LINES).notes == []
    assert "the thermostat svr also acts" in " ".join(read(tmp_path, LINES + "ensemble svr 0.1\n").notes)
    assert "mdmode 4 also changes" in " ".join(read(tmp_path, LINES + "mdmode 4\n").notes)


def test_units(tmp_path):
    """C_e in J/(m^3 K), g in W/(m^3 K), κ in W/(m K), from the SI."""
    from rxmdnn.excitation.electron_plan import electron_plan

    deck = read(tmp_path, LINES + "electrons_conductivity scaled 318\ntramp 250 600\n").deck
    plan = electron_plan(deck)
    assert plan.model.capacity.gamma == pytest.approx(70 * 6.241509e-12, rel=1e-6)
    assert plan.model.coupling == pytest.approx(2.5e16 * 6.241509e-27, rel=1e-6)
    assert plan.model.conductivity == pytest.approx(318 * 6.241509e-7, rel=1e-6) and plan.model.scaled
    assert plan.temperature == 250 and plan.shape == (1, 1, 8)


@pytest.mark.parametrize(("lines", "message"), [
    ("excite 1 2 electrons\n", "excite: the weights follow electrons, but there is no line electrons"),
    (LINES + "excite 1 2 electrons\n", "excite: needs a line 'excite_electrons <t0> <t1>'"),
    (LINES + "excite 1 2 electrons\nexcite_electrons 900 300\n", "t1 = 300 must be above t0 = 900"),
    (LINES + "excite 1 2 electrons\nexcite_electrons 300 900\nexcite_decay 100\n", "excite_decay: the weights follow"),
    (LINES + "excite 1 2 bound\nexcite_electrons 300 900\n", "excite_electrons: is for weights of the line"),
    (LINES + "excite 1 2 electrons\nexcite_electrons 300 900\npulse gauss 9 9 0.5\n", "electrons absorb energy"),
])
def test_faults_of_weights_that_follow_electrons(tmp_path, lines, message):
    with pytest.raises(InputError) as error:
        read(tmp_path, lines)
    assert message in str(error.value)
