"""The words by which frames say what moves the atoms."""

from rxmdnn.deck.motion import motion_of
from rxmdnn.deck.run import read_run


def test_frames_name_the_first_pulse_of_light(tmp_path):
    lj = "lj 0.01 3.4 8.0 1 Ar 39.948\n"
    (tmp_path / "rxmdnn.in").write_text(2 * lj)
    (tmp_path / "start.xyz").write_text('1\nLattice="9 0 0 0 9 0 0 0 9"\nAr 0 0 0\n')
    (tmp_path / "train.csv").write_text("0 0\n200 1\n250 3\n400 0\n")
    for lines, pulse in (
            ("", {}), ("pulse gauss 800 50 0.1\npulse flat 300.5 50 0.1\n", {"pulse_fs": "300.5"}),
            ("pulse gauss 800 50 0.1\npulse_table train.csv 0.1\n", {"pulse_fs": "250"})):
        (tmp_path / "rxmd.in").write_text("time 1.0 5\nstructure start.xyz\nexcite 1 2\n" + lines)
        deck = read_run(["--rxmdin", str(tmp_path / "rxmd.in")]).deck
        assert motion_of(deck) == {"motion": "nve", **pulse}
