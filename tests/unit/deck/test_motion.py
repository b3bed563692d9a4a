"""The words by which frames say what moves the atoms."""

from types import SimpleNamespace

from rxmdnn.deck.language import Deck
from rxmdnn.deck.run import motion_of, read_run


def test_frames_name_the_first_pulse_of_light(tmp_path):
    (tmp_path / "rxmdnn.in").write_text("lj 0.01 3.4 8.0 1 Ar 39.948\n")
    (tmp_path / "start.xyz").write_text('1\nLattice="9 0 0 0 9 0 0 0 9"\nAr 0 0 0\n')
    (tmp_path / "rxmd.in").write_text("time 1.0 5\nstructure start.xyz\n")
    deck = read_run(["--rxmdin", str(tmp_path / "rxmd.in")]).deck
    assert motion_of(deck) == {"motion": "nve"}
    pulses = [SimpleNamespace(t0=800.0), SimpleNamespace(t0=300.5)]
    pumped = Deck(deck.file, {**deck.entries, "pulse": pulses}, deck.notes)
    assert motion_of(pumped) == {"motion": "nve", "pulse_fs": "300.5"}
