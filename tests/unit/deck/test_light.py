"""Lines of the deck for light: faults by text, tables of pulses."""

import numpy as np
import pytest

from rxmdnn.deck.light import NAMES, has_light, read_pulse_table
from rxmdnn.deck.run import read_run
from rxmdnn.errors import InputError
from rxmdnn.excitation.light_plan import plan_of, pulse_notes


def test_a_table_is_read(tmp_path):
    path = tmp_path / "pulse.csv"
    path.write_text("# t_fs, height\n0, 0\n10, 2  # peak\n\n30, 0\n")
    np.testing.assert_array_equal(read_pulse_table(path), [[0, 10, 30], [0, 2, 0]])


@pytest.mark.parametrize(("text", "message"), [
    ("0 0\n1 one\n", r"pulse.csv:2: expected two finite numbers, t \(fs\) and the height of the pulse, found '1 one'"),
    ("0 0\n1 2 3\n", ":2: expected two finite numbers"), ("0 nan\n1 0\n", ":1: expected two finite"),
    ("0 0\n5 1\n5 0\n", r":3: t \(fs\) must ascend, but 5 follows 5"),
    ("0 -1\n1 0\n", ":1: heights must not be negative"), ("0 1\n", r"1 row\(s\); at least two"),
    ("0 0\n1 0\n", "no height is above zero"),
])
def test_faults_of_a_table_name_the_line(tmp_path, text, message):
    (tmp_path / "pulse.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_pulse_table(tmp_path / "pulse.csv")


def test_a_missing_table_is_one_message(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_pulse_table(tmp_path / "none.csv")


# ---------------------------------------------------------------------- lines
LJ = "lj 0.0104 3.4 6.0 1 Ar 39.95\n"
START = '1\nLattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3 pbc="T T T"\nAr 1 1 1\n'


def read(folder, lines, models=2 * LJ):
    (folder / "start.xyz").write_text(START)
    (folder / "pulse.csv").write_text("0 0\n10 2\n20 0\n")
    (folder / "rxmdnn.in").write_text(models)
    (folder / "rxmd.in").write_text(f"mdmode 1\ntime 1 10\ntemperature 60 1 1\nstructure start.xyz\n{lines}\n")
    return read_run(["--rxmdin", str(folder / "rxmd.in")])


def test_a_whole_deck_is_read_and_its_echo_too(tmp_path):
    lines = """excite 2 1
excite_start 0.1
excite_slab a 0.5 2 0
excite_decay 300
excite_density 0.001
excite_least 0.01
pulse flat 50 20 0.3 weight 5
pulse gauss -10 5 2.5 fluence
pulse_table pulse.csv 0.2 rate
pulse_direction 0 0 -2 3.7
pulse_absorption 100
pulse_spot 500 0.5 0.5 0
pulse_photon 1.55 0.3"""
    run = read(tmp_path, lines)
    plan = plan_of(run.deck)
    assert (plan.by_place, plan.start, plan.lifetime, plan.heat_to, plan.least) == (False, 0.1, 300.0, "lattice", 0.01)
    assert len(plan.regions) == 1 and [p.is_rate for p in plan.pulses] == [False, False, True]
    carriers = 0.7 * 2.5 * 0.6241509074 / (100 * 1.55) / 0.001
    assert plan.pulses[1].amount == pytest.approx(carriers, rel=1e-12) and carriers > 7
    notes = "\n".join(pulse_notes(run.deck, 40.0, 60.0))
    assert f"makes {carriers:.3g} times the carriers" in notes and f"down to {100 * np.log(carriers):.3g} Å" in notes
    assert "pulse: the run begins at 40 fs, within this pulse, which begins at 37.5 fs" in notes
    assert "the run begins" not in "".join(pulse_notes(run.deck, 37.6, 60.0))  # next to nothing of it is lost
    assert "pulse: the run ends at 60 fs, before this pulse does, at 62.5 fs" in notes
    assert plan.beam.direction.tolist() == [0, 0, -1] and plan.beam.index == 3.7 and plan.beam.spot[0] == 500
    again = read(tmp_path, "\n".join(line for line in run.deck.echo().splitlines()
                                     if line.split()[0] in ("excite", *NAMES)))
    for name in NAMES:
        first, second = run.deck[name], again.deck[name]
        for a, b in zip(first, second) if isinstance(first, list) else [(first, second)]:
            assert [*a] == [*b], name


def test_a_weight_by_place_begins_within_its_pulse(tmp_path):
    deck = read(tmp_path, "excite 1 2 place\nexcite_slab a 0.5 2 1\npulse gauss 5 10 0.5\n").deck
    (note,) = pulse_notes(deck, 0.0, 10.0)
    assert "the run ends at 10 fs, before this pulse does, at 35 fs" in note


def test_notes_on_light_that_electrons_absorb(tmp_path):
    electrons = "electrons 1 1 2\nelectrons_capacity linear 70\nelectrons_coupling 1e16\n"
    light = "pulse gauss 30 20 9 fluence\npulse_direction 0 0 1\npulse_absorption 20\n"
    for lines in ("", "excite 1 2 electrons\nexcite_electrons 300 900\n"):
        deck = read(tmp_path, electrons + light + lines, 2 * LJ if lines else LJ).deck
        early, late = pulse_notes(deck, 25.0, 50.0)
        assert "the run begins at 25 fs, within this pulse, which begins at -30 fs" in early
        assert "the run ends at 50 fs, before this pulse does, at 90 fs" in late


def test_a_place_without_pulse_is_excited(tmp_path):
    assert plan_of(read(tmp_path, "excite 1 2 place\nexcite_slab a 0.5 2 1").deck).start == 1.0
    assert plan_of(read(tmp_path, "excite 1 2 place\npulse gauss 5 1 0.5").deck).start == 0.0
    assert plan_of(read(tmp_path, "excite 1 2").deck).start == 0.0
    assert not has_light(read(tmp_path, "").deck)


@pytest.mark.parametrize(("lines", "message"), [
    ("excite 1 2 forces", "forces are not mixed atom by atom: .* sum would not be zero"),
    ("excite 1 2 plac", "must be one of bound, electrons, place; did you mean 'place'"),
    ("excite 1 3", "models 1 and 3: the two models of the model deck are 1 and 2"),
    ("excite 1 1", "models 1 and 1: the two models"),
    ("excite 1 2\nexcite_start -0.1", "excite_start: weight = -0.1: a weight must be from 0"),
    ("excite 1 2\npulse gauss 5 1 1.5", "pulse: a weight of 1.5: must be from 0 to 1"),
    ("excite 1 2\npulse gauss 5 0 0.5", "fwhm = 0: must be above zero"),
    ("excite 1 2\npulse gauss 5 1 0.5\npulse_absorption 100", "pulse_absorption: needs the direction of the light"),
    ("excite 1 2\npulse gauss 5 1 0.5\npulse_spot 100 0 0 0", "pulse_spot: needs the direction of the light"),
    ("excite 1 2\npulse gauss 5 1 0.5\npulse_direction 0 0 0", "the direction has no length"),
    ("excite 1 2\npulse_direction 0 0 1", "pulse_direction: without effect: there is no pulse"),
    ("excite 1 2\npulse gauss 5 1 0.5 fluence", "a fluence needs a line pulse_absorption"),
    ("excite 1 2\npulse gauss 5 1 0.5\npulse_photon 1.5", "pulse_photon: without effect: no pulse is given by its flu"),
    ("excite 1 2\npulse gauss 5 1 0.5 weight 3", "rise 3 is for the shape flat"),
    ("excite 1 2\npulse flat 5 1 0.5 weight 3", "rise 3 is longer than fwhm 1"),
    ("excite 1 2\npulse_table rxmd.in 0.5", "pulse_table: .*rxmd.in:1: expected two finite numbers"),
    ("excite 1 2 place\npulse_table pulse.csv 0.6", "a weight of 1.2 at the highest row"),
    ("excite 1 2 place\npulse gauss 5 1 0.1 rate", "'rate' excites atoms; a weight by place follows the pulse"),
    ("excite 1 2 place\nexcite_sphere 0 0 0 1 0", "at a sharp edge the force would be infinite"),
    ("excite 1 2 place\nexcite_decay 100", "excite_decay: acts on weights that are bound to atoms"),
    ("excite 1 2\nexcite_decay 100 electrons", "there are no electrons that take the energy"),
    ("excite 1 2\npimd 4\nensemble langevin 0.1", "pimd: the weights of excite are those of atoms, not of beads"),
    ("excite 1 2\nmodel_weights 0.5 0.5", "model_weights: the weights of the models are those of the line excite"),
    ("excite 1 2\ngraphs T\nbackend cuda", "graphs: with 'excite' the number of evaluated edges changes"),
    ("excite 1 2\nfidelity heal\nfidelity_heal 4 100 4 500 T", "the repulsion of healing is not available with excite"),
    ("mdmode 10\nexcite 1 2\npulse gauss 5 1 0.5", "pulse: a minimization has no time"),
    ("excite_start 0.5", "excite_start: without effect; also write 'excite <ground> <excited>'"),
    ("pulse gauss 5 1 0.5", "pulse: without effect; also write 'excite"),
])
def test_faults_of_lines(tmp_path, lines, message):
    models = 2 * LJ
    if lines.startswith("mdmode"):
        lines = lines.partition("\n")[2]
        with pytest.raises(InputError, match=message):
            read(tmp_path, lines)
            read_run(["--rxmdin", str(tmp_path / "rxmd.in"), "--mdmode", "10"])
        return
    with pytest.raises(InputError, match=message):
        read(tmp_path, lines, models)


def test_models_that_cannot_be_mixed(tmp_path):
    for models, message in ((3 * LJ, "mixes the two models of a model deck, but it has 3"),
                            (LJ, "mixes the two models of a model deck, but it has 1"),
                            (LJ + "zbl 0.8 1 Ar 39.95\n", "but it has 1 besides the line zbl"),
                            (LJ + LJ.replace("Ar", "Ne"), "elements and masses differ"),
                            ("ase ase.calculators.emt:EMT 1 Ar 39.95\n", "sees all atoms at once; energies of atoms")):
        with pytest.raises(InputError, match=message):
            read(tmp_path, "excite 1 2", models)
    assert read(tmp_path, "excite 1 2", 2 * LJ + "zbl 0.8 1 Ar 39.95\n").repulsion is not None
