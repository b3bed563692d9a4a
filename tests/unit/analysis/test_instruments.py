"""Spectrometers: published widths, Q(E) by hand, files of one's own and their faults."""

import numpy as np
import pytest

from rxmdnn.analysis import instruments
from rxmdnn.analysis.instruments import DIRECT, NAMES, instrument_of, of_range, read_instrument
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.errors import InputError

FWHM = 2.354820045


def widths(instrument, *energies):
    return FWHM * instrument.sigma(np.array(energies, float))


def test_tosca_and_vision_have_their_published_widths():
    seen = widths(instruments.TOSCA, *(MEV_PER_CM * np.array([100, 400, 1060, 3400]))) / MEV_PER_CM
    assert seen == pytest.approx([7.1, 10.6, 18.6, 48.6], rel=0.01)
    assert seen == pytest.approx(FWHM * np.array([3.001, 4.516, 7.91236, 20.656]), rel=1e-6)
    assert widths(instruments.VISION, 100.0, 300.0) == pytest.approx([1.5, 4.5], rel=1e-6)
    assert widths(instruments.VISION, 5.0) == pytest.approx([7.5 * MEV_PER_CM], rel=1e-6)


def test_lagrange_has_its_published_widths():
    """2σ of the polynomials of Abins, and 0.8 meV where that of Cu(220) is less."""
    e = np.array([70.0, 200.0, 480.0])
    want = 0.658362118 + 5.15925386e-4 * e + 1.11911095e-4 * e**2 - 8.60511597e-8 * e**3
    assert 2 * instruments.LAGRANGE.sigma(e) == pytest.approx(want, rel=1e-6)
    assert 2 * instruments.LAGRANGE_CU220.sigma(np.array([25.0, 300.0])) == pytest.approx(
        [0.8, -3.5961e-2 + 2.156e-2 * 300 + 7.6987e-5 * 9e4], rel=1e-6)


def test_chopper_spectrometers_have_the_widths_of_pychop():
    sequoia = instrument_of("sequoia", 600.0)
    assert widths(sequoia, 30, 180, 420, 540) == pytest.approx([16.6, 13.7, 10.4, 9.5], rel=0.01)
    assert widths(sequoia, 100, 480) == pytest.approx([15.140, 9.890], rel=0.005)
    assert widths(instrument_of("MAPS", 500.0), 30, 180, 480) == pytest.approx([14.774, 11.300, 7.556], rel=0.005)
    slow = instrument_of("sequoia", 600.0, 420.0)
    assert widths(slow, 100)[0] > widths(sequoia, 100)[0]


def test_q_of_indirect_and_direct_geometry_by_hand():
    """Q² = [E_i + E_f - 2 √(E_i E_f) cos θ]/2.0721."""
    tosca = instruments.TOSCA
    assert tosca.fixed == pytest.approx(3.9675, rel=1e-4)
    assert tosca.q_squared(np.array([100.0]), 45.0)[0] == pytest.approx(38.23, rel=5e-4)
    assert tosca.q_squared(np.array([0.0]), 135.0)[0] == pytest.approx(2 * 3.9675 * (1 + 0.70711) / 2.0721, rel=5e-4)
    sequoia = instrument_of("sequoia", 600.0)
    assert sequoia.q_squared(np.array([200.0]), 30.0)[0] == pytest.approx(73.10, rel=5e-4)
    assert sequoia.q_squared(np.array([0.0]), 60.0)[0] == pytest.approx(600 / 2.0721, rel=5e-4)


def test_a_range_of_angles_is_weighted_by_its_solid_angle():
    angles, weights = of_range(3.0, 60.0)
    assert sum(weights) == pytest.approx(1.0)
    mean = np.dot(weights, np.cos(np.radians(angles)))  # ∫ cos θ sin θ dθ/∫ sin θ dθ
    lo, hi = np.radians([3.0, 60.0])
    assert mean == pytest.approx((np.cos(lo) + np.cos(hi)) / 2, rel=2e-3)
    assert instrument_of("sequoia", 300.0, None, [10.0, 20.0]).angles[0] == pytest.approx(10 + 10 / 24)
    assert instrument_of("tosca", angles=[90.0]).angles == (90.0,)


def test_a_broadened_line_has_the_width_and_keeps_its_sum():
    e = np.arange(0, 300, 0.05)
    line = np.zeros_like(e)
    line[4000] = 1.0
    seen = instruments.TOSCA.broadened(e, line)
    above = e[seen > seen.max() / 2]
    assert seen.sum() == pytest.approx(1.0)
    assert above[-1] - above[0] == pytest.approx(widths(instruments.TOSCA, 200)[0], abs=0.11)


def test_a_table_and_a_polynomial_of_ones_own(tmp_path):
    mine = tmp_path / "mine.instrument"
    mine.write_text("# ours\ngeometry indirect 4.0 <meV>\nunit 1/cm\nangles 30 90 150\nfwhm 100 8\nfwhm 300 10\n"
                    "fwhm 4000 60\n")
    read = instrument_of(str(mine))
    assert read.name == "mine" and read.angles == (30.0, 90.0, 150.0) and not read.direct
    assert widths(read, 200 * MEV_PER_CM) == pytest.approx([9 * MEV_PER_CM])
    assert (read.low, read.high) == pytest.approx((100 * MEV_PER_CM, 4000 * MEV_PER_CM))
    mine.write_text("geometry direct 300\nangles 20\nrange 10 250\nsigma 2.0 -0.004\n")
    read = instrument_of(str(mine))
    assert read.direct and read.sigma(np.array([100.0]))[0] == pytest.approx(1.6)


@pytest.mark.parametrize(("text", "words"), [
    ("geometry indirect 4\nangles 45\n", "give its widths by 'sigma' or by at least two lines 'fwhm'"),
    ("geometry indirect 4\nangles 45\nfwhm 10 1\n", r"mine:3: fwhm: a table needs two rows"),
    ("geometry indirect 4\nangles 45\nsigma 1\n", "range: missing"),
    ("geometry sideways 4\nangles 45\n", r"mine:1: geometry: kind must be one of indirect, direct"),
    ("geometry direct 100\nangles 45\nfwhm 1 1\nfwhm 120 1\n", "but the incident energy is 100 meV"),
    ("geometry direct 100\nangels 45\n", r"mine:2: angels: unknown keyword; did you mean 'angles'"),
    ("geometry indirect 4\nangles 190\nfwhm 1 1\nfwhm 2 1\n", "must be between 0 and 180"),
    ("geometry indirect 4\nangles 45\nrange 1 90\nsigma 1 -0.1\n", "σ is not above zero everywhere")])
def test_faults_of_a_file(tmp_path, text, words):
    (tmp_path / "mine").write_text(text)
    with pytest.raises(InputError, match=words):
        read_instrument(tmp_path / "mine")


def test_settings_that_an_instrument_lacks():
    for argv, words in ((("tosca", 100.0), "--incident: only sequoia and maps have it"),
                        (("sequoia", 9000.0), "incident energies from 8 to 4000 meV"),
                        (("sequoia", 20.0, 600.0), "passes no neutrons of 20 meV"),
                        (("visionn",), "did you mean 'vision'"), (("tosca", None, None, [200.0]), "between 0 and 180")):
        with pytest.raises(InputError, match=words):
            instrument_of(*argv)
    assert set(DIRECT) < set(NAMES)
