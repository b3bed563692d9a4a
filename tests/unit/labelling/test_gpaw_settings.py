"""The words after gpaw: in --engine."""

import math

import numpy as np
import pytest
from ase.units import kB

from rxmdnn.errors import InputError
from rxmdnn.labelling.gpaw_settings import Settings, kpoints, settings_of

SILICON = "gpaw:functional=LDA,cutoff=220,reach=10,temperature=20000K"


def test_words():
    assert settings_of(SILICON + ",bands=1e-4") == Settings("LDA", 220.0, 10.0, 20000 * kB, False, 1e-4, False)
    found = settings_of("gpaw:reach=9, cutoff=500, functional=PBE, dispersion=d3bj, temperature=0.2eV")
    assert found == Settings("PBE", 500.0, 9.0, 0.2, True, 1e-6, False)
    assert settings_of("gpaw:functional=PBE,cutoff=500,reach=9").width == 0.1
    assert "LDA, no dispersion" in settings_of(SILICON).text and "20000 K (1.723 eV)" in settings_of(SILICON).text


@pytest.mark.parametrize(("name", "message"), [
    ("gpaw:cutoff=500,functional=PBE", "reach missing; write gpaw:functional="),
    ("gpaw:functional=PBE,cutoff=500,reach=9,spin=1", "'spin=1' is not known"),
    ("gpaw:functional=PBE,cutoff=500,reach=9,cutoff=600", "'cutoff' is given twice"),
    ("gpaw:functional=B3LYP,cutoff=500,reach=9", "functional=B3LYP: GPAW has PAW setups for LDA, PBE"),
    ("gpaw:functional=LDA,cutoff=500,reach=9,dispersion=d3bj", r"D3\(BJ\) has no parameters for LDA"),
    ("gpaw:functional=LDA,cutoff=500,reach=9,dispersion=ts", "dispersion=ts: give none or d3bj"),
    ("gpaw:functional=LDA,cutoff=500,reach=9,temperature=300", "temperature=300: give it with its unit"),
    ("gpaw:functional=LDA,cutoff=500,reach=9,temperature=-3K", "temperature=-3: it must be a number above 0"),
    ("gpaw:functional=LDA,cutoff=nan,reach=9", "cutoff=nan: it must be a number above 0"),
    ("gpaw:functional=LDA,cutoff=500,reach=9,bands=0.5", "bands=0.5: it must be a number above 0 and below 0.1"),
])
def test_a_wrong_word_is_named(name, message):
    with pytest.raises(InputError, match=message):
        settings_of(name)


def test_kpoints_of_a_film_and_of_a_molecule():
    """A film keeps its k-points along the plane; the engine of ammonia takes a cell that empty for a molecule."""
    film = np.diag([3.84, 7.68, 13.4])
    assert settings_of(SILICON).kpoints(film, 8) == [3, 2, 1]
    assert Settings(reach=10.0).kpoints(film, 8) == [1, 1, 1]
    assert kpoints(np.eye(3) * 5.0, reach=10.0) == [2, 2, 2]


def test_the_request_names_the_width():
    assert settings_of(SILICON).request()["width"] == pytest.approx(20000 * 8.617333262e-5, rel=1e-6)
    assert Settings().request() == {"cutoff": 700.0, "functional": "revPBE", "width": 0.1, "dispersion": True,
                                    "empty": None}
    assert math.isclose(settings_of(SILICON).request()["empty"], 1e-6)
