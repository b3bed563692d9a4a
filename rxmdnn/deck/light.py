"""Lines of the run deck for excited atoms: `excite`, its weights, and the light that changes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rxmdnn.deck.columns import read_pairs
from rxmdnn.deck.electrons import has_electrons
from rxmdnn.deck.language import Deck, Entry, Keyword, Value, near, not_negative, positive
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.errors import InputError

GROUP = "excitation"
KINDS = {
    "bound": "of each atom: set by light as it passes, travels with the atom, adds no force",
    "electrons": "of T_e at each atom, by the line excite_electrons; adds no force",
    "place": "of each position, inside the lines excite_slab and excite_sphere; adds the force of its gradient",
}
PULSES = {
    "gauss": "exp(-4 ln 2 (t - t0)^2/fwhm^2)",
    "sech2": "sech^2, the pulse of a mode-locked laser",
    "flat": "1 between smooth ends, each of a length 'rise'",
}
AMOUNTS = {
    "weight": "bound: the weight of an atom after the pulse, without decay; place: the weight at its peak",
    "rate": "rate of excitation at the peak, 1/fs",
    "fluence": "mJ/cm^2; needs pulse_absorption, pulse_photon and excite_density",
}
HEATS = {"lattice": "the atoms around", "electrons": "the electrons of the line electrons"}


def _weight(x: float) -> str | None:
    return None if 0 <= x <= 1 else "a weight must be from 0, the ground state, to 1, the excited one"


def _small(x: float) -> str | None:
    return None if 0 <= x < 0.5 else "must be from 0 to below 0.5"


def _part(x: float) -> str | None:
    return None if 0 <= x < 1 else "must be from 0 to below 1"


def _kind(word: str) -> str | None:
    if word in KINDS:
        return None
    if "force" in word.lower():
        return ("forces are not mixed atom by atom: they would be the gradient of no energy and their sum would not be "
                "zero; the energies of atoms are mixed: write bound or place")
    return f"must be one of {', '.join(KINDS)}{near(word, list(KINDS))}"


def _amount(entry: Entry) -> str | None:
    return f"a weight of {entry.amount:g}: must be from 0 to 1" if entry.of == "weight" and entry.amount > 1 else None


def _rising(entry: Entry) -> str | None:
    return None if entry.t1 > entry.t0 else f"t1 = {entry.t1:g} must be above t0 = {entry.t0:g}"


def _direction(entry: Entry) -> str | None:
    return None if any((entry.nx, entry.ny, entry.nz)) else "the direction has no length"


_AMOUNT = (Value("amount", "float", None, check=positive),
           Value("of", tuple(AMOUNTS), "weight", optional=True, words=AMOUNTS))
_RIM = Value("rim", "float", None, "Å", not_negative, help="over which the weight then falls smoothly from 1 to 0")

LIGHT = (
    Keyword("excite", (Value("ground", "int", None, check=positive, help="number of its line in rxmdnn.in, from 1"),
                       Value("excited", "int", None, check=positive, help="likewise"),
                       Value("weights", "str", "bound", check=_kind, optional=True, words=KINDS)),
            "two models of a material, its ground and an excited state, with a weight w per atom: E = sum of "
            "(1 - w) e_ground + w e_excited; or a large and a small model of two regions", group=GROUP),
    Keyword("excite_electrons", (Value("t0", "float", None, "K", not_negative),
                                 Value("t1", "float", None, "K", positive)),
            "weights of 'excite ... electrons': 0 for T_e below t0, 1 above t1, x^2 (3 - 2x) between; what this "
            "changes of the potential energy the electrons give", check=_rising, group=GROUP),
    Keyword("excite_start", (Value("weight", "float", None, check=_weight),),
            "weight before any light, inside the lines excite_slab and excite_sphere where there are some (default: 0; "
            "place without a pulse: 1)", group=GROUP),
    Keyword("excite_slab", (Value("axis", ("a", "b", "c"), None, help="it lies between planes along the other two"),
                            Value("center", "float", None, help="fraction of the axis"),
                            Value("thickness", "float", None, "Å", positive), _RIM),
            "region where atoms are excited; several regions together: 1 - (1 - w1)(1 - w2)...", repeats=True,
            group=GROUP),
    Keyword("excite_sphere", (*(Value(f"center_{a}", "float", None, help="fraction of the cell vector") for a in "abc"),
                              Value("radius", "float", None, "Å", positive), _RIM),
            "region where atoms are excited", repeats=True, group=GROUP),
    Keyword("excite_decay", (Value("tau", "float", None, "fs", positive),
                             Value("to", tuple(HEATS), "lattice", optional=True, words=HEATS)),
            "lifetime of bound weights, dw/dt = G (1 - w) - w/tau, and where the energy goes", group=GROUP),
    Keyword("excite_density", (Value("carriers", "float", None, "1/Å^3", positive),),
            "density of excited carriers of the excited model (those of its labels), for fluences", group=GROUP),
    Keyword("excite_least", (Value("weight", "float", None, check=_small),),
            "a smaller weight counts as 0, and one that lacks less to 1 as 1 (default: 1e-6), so that one "
            "model is enough",
            group=GROUP),
    Keyword("pulse", (Value("shape", tuple(PULSES), None, words=PULSES),
                      Value("t0", "float", None, "fs", help="time of its middle, at the surface"),
                      Value("fwhm", "float", None, "fs", positive, help="full width at half maximum of the intensity"),
                      *_AMOUNT,
                      Value("rise", "float", None, "fs", positive, optional=True, help="flat: (fwhm/5)")),
            "light that excites atoms; without a line excite, a fluence that the line electrons absorbs", repeats=True,
            check=_amount, group=GROUP),
    Keyword("pulse_table", (Value("file", "file", None, help="rows of time, fs, and height"), *_AMOUNT),
            "a pulse of any shape, or a train of pulses, with straight lines between the rows; 'weight' and 'fluence' "
            "count for the whole table, whatever its heights; of place and 'rate', the amount multiplies the heights",
            repeats=True, check=_amount, group=GROUP),
    Keyword("pulse_direction", (*(Value(f"n{a}", "float", None) for a in "xyz"),
                                Value("index", "float", 1.0, check=not_negative, optional=True,
                                      help="refractive index, for the delay index d/c at depth d")),
            "direction in which the light of all pulses travels, Cartesian", check=_direction, group=GROUP),
    Keyword("pulse_absorption", (Value("depth", "float", None, "Å", positive, help="of 1/e"),
                                 Value("surface", "float", None, "Å", optional=True,
                                       help="position along the direction (the first atom at the start)")),
            "pulses weaken as exp(-d/depth) with the depth d below the surface", group=GROUP),
    Keyword("pulse_spot", (Value("radius", "float", None, "Å", positive, help="w0, of 1/e^2 of the intensity"),
                           *(Value(f"center_{a}", "float", None, help="fraction of the cell vector") for a in "abc")),
            "pulses weaken as exp(-2 rho^2/w0^2) with the distance rho from their axis", group=GROUP),
    Keyword("pulse_photon", (Value("energy", "float", None, "eV", positive),
                             Value("reflectivity", "float", 0.0, check=_part, optional=True)),
            "light of fluences: (1 - R) F/(depth energy) carriers per volume at the surface", group=GROUP),
)
NAMES = tuple(keyword.name for keyword in LIGHT)


def has_light(deck: Deck) -> bool:
    """Whether two models are mixed atom by atom."""
    return deck["excite"].given


def follows_electrons(deck: Deck) -> bool:
    """Whether the weights follow the temperature of the electrons."""
    return has_light(deck) and deck["excite"].weights == "electrons"


def pulses_of(deck: Deck) -> list[Entry]:
    """The lines pulse and pulse_table."""
    return [*deck["pulse"], *deck["pulse_table"]]


def first_pulse(deck: Deck) -> float:
    """Time of the middle of the first pulse at the surface, fs; of a table that of its highest row."""
    middles = [pulse.t0 for pulse in deck["pulse"]]
    for line in deck["pulse_table"]:
        t, f = read_pulse_table(line.file)
        middles.append(float(t[np.argmax(f)]))
    return min(middles)


def light_faults(deck: Deck, models: Sequence[ModelLine], repulsion: bool) -> list[str]:
    """Faults of the lines of LIGHT. repulsion : whether a line zbl is among the models' lines"""
    line = deck["excite"]
    if not line.given:
        return _faults_of_electrons(deck) if has_electrons(deck) else [
            e.fault("without effect; also write 'excite <ground> <excited>'") for e in _given(deck, NAMES)]
    faults = _faults_with_others(deck)
    faults += (_faults_of_following(deck) if follows_electrons(deck) else
               [*_faults_of_place(deck), *_faults_of_pulses(deck),
                *(e.fault("is for weights of the line 'excite ... electrons'") for e in
                  _given(deck, ("excite_electrons",)))])
    if models and models[0].is_whole:
        faults.append(line.fault(f"the model of {models[0].where} sees all atoms at once; energies of atoms are mixed, "
                                 "which needs models whose atoms depend on their own neighbors alone"))
    elif models and len(models) != 2:
        faults.append(line.fault(f"mixes the two models of a model deck, but it has {len(models)}"
                                 + (" besides the line zbl, which is added to both" if repulsion else "")))
    elif models and sorted((line.ground, line.excited)) != [1, 2]:
        faults.append(line.fault(f"models {line.ground} and {line.excited}: the two models of the model deck are 1 and "
                                 "2, numbered by their lines"))
    return faults


def _given(deck: Deck, names: Sequence[str]) -> list[Entry]:
    """The lines that stand in the deck."""
    found = [deck[name] for name in names]
    return [e for item in found for e in (item if isinstance(item, list) else [item]) if e.given]


def _faults_with_others(deck: Deck) -> list[str]:
    """Faults of excite with other lines of the deck."""
    faults = []
    if deck["model_weights"].weight:
        faults.append(deck["model_weights"].fault("the weights of the models are those of the line excite; omit one"))
    if deck["pimd"].beads is not None:
        faults.append(deck["pimd"].fault("the weights of excite are those of atoms, not of beads; omit one"))
    if deck["graphs"].on:
        faults.append(deck["graphs"].fault("with 'excite' the number of evaluated edges changes in each step, which a "
                                           "graph does not support; omit one"))
    if deck["fidelity"].action == "heal" and deck["fidelity_heal"].repulsion:
        faults.append(deck["fidelity_heal"].fault("the repulsion of healing is not available with excite; write a line "
                                                  "'zbl 0.8 ...' in the model deck, or F"))
    if deck["mdmode"].mode == MINIMIZATION:
        faults += [e.fault("a minimization has no time, in which weights change; omit this line") for e in
                   _given(deck, ("pulse", "pulse_table", "excite_decay"))]
    decay = deck["excite_decay"]
    if decay.given and decay.to == "electrons" and not has_electrons(deck):
        faults.append(decay.fault("there are no electrons that take the energy; write 'lattice', or a line electrons"))
    return faults


def _faults_of_electrons(deck: Deck) -> list[str]:
    """Faults of light that electrons absorb, without an excited model."""
    faults = [e.fault("without effect; also write 'excite <ground> <excited>'") for e in
              _given(deck, [name for name in NAMES if not name.startswith("pulse")])]
    return faults + _faults_of_absorbed(deck)


def _faults_of_following(deck: Deck) -> list[str]:
    """Faults of weights that follow the electrons, whose pulses the electrons absorb."""
    line = deck["excite"]
    faults = [e.fault("the weights follow T_e; omit this line, or write 'excite ... bound'") for e in
              _given(deck, ("excite_start", "excite_slab", "excite_sphere", "excite_decay", "excite_density"))]
    if not has_electrons(deck):
        faults.append(line.fault("the weights follow electrons, but there is no line electrons"))
    if not deck["excite_electrons"].given:
        faults.append(line.fault("needs a line 'excite_electrons <t0> <t1>', the temperatures where w rises"))
    return faults + _faults_of_absorbed(deck)


def _faults_of_absorbed(deck: Deck) -> list[str]:
    """Faults of pulses that electrons absorb."""
    faults = [e.fault(f"'{e.of}' is of an excited model; electrons absorb energy: write a 'fluence', or a line excite")
               for e in pulses_of(deck) if e.of != "fluence"]
    if pulses_of(deck) and not deck["pulse_absorption"].given:
        faults.append(pulses_of(deck)[0].fault("electrons absorb light in depth: write a line pulse_absorption"))
    return faults + _faults_of_beam(deck)


def _faults_of_place(deck: Deck) -> list[str]:
    """Faults of weights by position."""
    if deck["excite"].weights != "place":
        return []
    faults = [e.fault("at a sharp edge the force would be infinite; write a rim above zero, a few Å") for e in
              _given(deck, ("excite_slab", "excite_sphere")) if not e.rim]
    faults += [e.fault("acts on weights that are bound to atoms; write 'excite ... bound', or omit this line") for e in
               _given(deck, ("excite_decay", "excite_density", "pulse_direction", "pulse_absorption", "pulse_spot",
                             "pulse_photon"))]
    return faults + [e.fault(f"'{e.of}' excites atoms; a weight by place follows the pulse: write 'weight'") for e in
                     pulses_of(deck) if e.of != "weight"]


def _faults_of_pulses(deck: Deck) -> list[str]:
    """Faults of pulses that excite atoms."""
    faults, pulses, by_place = _faults_of_beam(deck), pulses_of(deck), deck["excite"].weights == "place"
    fluences = [e for e in pulses if e.of == "fluence"]
    faults += [e.fault(f"a fluence needs a line {name}") for e in fluences[:1]
               for name in ("pulse_absorption", "pulse_photon", "excite_density")
               if not deck[name].given and not by_place]
    if not fluences:
        faults += [e.fault("without effect: no pulse is given by its fluence") for e in
                   _given(deck, ("pulse_photon", "excite_density"))]
    for e in (e for e in deck["pulse_table"] if by_place and not _faults_of_table(e)):
        highest = e.amount * read_pulse_table(e.file)[1].max()
        if highest > 1:
            faults.append(e.fault(f"a weight of {highest:g} at the highest row: must be from 0 to 1"))
    return faults


def _faults_of_beam(deck: Deck) -> list[str]:
    """Faults of the shapes of pulses, and of where light comes from."""
    faults = []
    if not deck["pulse_direction"].given:
        faults += [e.fault("needs the direction of the light; write for example 'pulse_direction 0 0 -1'") for e in
                   _given(deck, ("pulse_absorption", "pulse_spot"))]
    if not pulses_of(deck):
        faults += [e.fault("without effect: there is no pulse") for e in
                   _given(deck, ("pulse_direction", "pulse_absorption", "pulse_spot"))]
    faults += [e.fault(f"rise {e.rise:g} is for the shape flat; omit it") for e in deck["pulse"]
               if e.rise is not None and e.shape != "flat"]
    faults += [e.fault(f"rise {e.rise:g} is longer than fwhm {e.fwhm:g}") for e in deck["pulse"]
               if e.rise is not None and e.shape == "flat" and e.rise > e.fwhm]
    return faults + [text for e in deck["pulse_table"] for text in _faults_of_table(e)]


def _faults_of_table(entry: Entry) -> list[str]:
    try:
        read_pulse_table(entry.file)
    except InputError as error:
        return [entry.fault(text) for text in error.faults]
    return []


def read_pulse_table(path: Path) -> np.ndarray:
    """(2, n) times, fs, and heights of a pulse: see ``read_pairs``. Raises InputError also for heights below or all
    zero."""
    table = read_pairs(path, "t (fs)", "the height of the pulse",
                       lambda t, f: "heights must not be negative" if f < 0 else None)
    if not table[1].any():
        raise InputError(f"{path}: no height is above zero")
    return table
