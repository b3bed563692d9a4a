"""The words of decks and the tables of the engine have the same keys."""

from dataclasses import fields

import pytest

from rxmdnn.deck import words
from rxmdnn.dynamics.ensembles import BAROSTAT_MAKERS, ENSEMBLE_CLASSES
from rxmdnn.dynamics.ensembles.cell_rescaling import STRAIN_PROJECTIONS
from rxmdnn.dynamics.ensembles.nose_hoover import CELL_DEGREES_OF_FREEDOM
from rxmdnn.dynamics.thermostat import MDMODE_FUNCTIONS
from rxmdnn.fidelity.calibration import OF_ATOMS, OF_PAIRS
from rxmdnn.fidelity.criteria import Limits
from rxmdnn.fidelity.rings import UNWATCHED
from rxmdnn.ring_polymer.ensemble import METHOD_SETTINGS
from rxmdnn.ring_polymer.splitting import OPERATOR_SEQUENCES
from rxmdnn.survival.replicas import THERMOSTATS


@pytest.mark.parametrize(("of_decks", "of_the_engine"), [
    ([mode for mode in words.MDMODES if mode != words.MINIMIZATION], MDMODE_FUNCTIONS),
    (words.ENSEMBLES, ENSEMBLE_CLASSES),
    (words.ENSEMBLES, THERMOSTATS),
    (words.BAROSTATS, BAROSTAT_MAKERS),
    (words.SHAPES, STRAIN_PROJECTIONS),
    (words.SHAPES, CELL_DEGREES_OF_FREEDOM),
    (words.RING_METHODS, METHOD_SETTINGS),
    (words.RING_INTEGRATORS, OPERATOR_SEQUENCES),
], ids=lambda table: "" if isinstance(table, list) else ", ".join(map(str, table)))
def test_each_word_has_its_row_in_the_engine(of_decks, of_the_engine):
    assert list(of_decks) == list(of_the_engine)


def test_the_engine_names_criteria_as_decks_do():
    of_atoms = set(OF_ATOMS)
    assert {*OF_PAIRS, *of_atoms} < set(words.LIMITS) < set(words.CRITERIA)
    assert of_atoms < {f.name for f in fields(Limits)}
    assert set(UNWATCHED) < set(words.CRITERIA)


def test_sampling_methods_and_minimization_are_words():
    assert set(words.SAMPLING) < set(words.RING_METHODS)
    assert words.MINIMIZATION in words.MDMODES
