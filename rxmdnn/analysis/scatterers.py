"""How atoms scatter neutrons, x-rays and electrons: numbers of `periodictable` for the kinds of a trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rxmdnn.errors import InputError

BOHR = 0.529177210903  # Å
PROBES = ("neutron", "xray", "electron")


def nucleus(kind: str) -> Any:
    """The element or isotope, e.g. N, D, 15-N, as `periodictable` has it. Raises InputError."""
    import periodictable

    number, _, name = kind.rpartition("-")
    try:
        element = getattr(periodictable, name)
        found = element[int(number)] if number else element
    except (AttributeError, KeyError, ValueError):
        raise InputError(f"--isotope: {kind}: no such element or isotope; write for example H=D or N=15-N") from None
    if found.neutron is None or found.neutron.b_c is None:
        raise InputError(f"--isotope: {kind}: its neutron scattering length is not known")
    return found


def replaced(kinds: Sequence[str], isotopes: Sequence[str]) -> list[str]:
    """Kinds with the wanted isotopes in the place of elements; `isotopes` are words such as H=D. Raises InputError."""
    table = {}
    for word in isotopes:
        old, equals, new = word.partition("=")
        if not equals or old not in kinds:
            raise InputError(f"--isotope: {word}: write OLD=NEW, where OLD is one of {', '.join(kinds)}")
        nucleus(new)
        table[old] = new
    return [table.get(k, k) for k in kinds]


def cross_sections(kinds: Sequence[str]) -> np.ndarray:
    """(kinds,) bound-atom scattering cross section, barn: coherent and incoherent, of thermal neutrons."""
    return np.array([nucleus(k).neutron.total for k in kinds])


def incoherent(kinds: Sequence[str]) -> np.ndarray:
    """(kinds,) incoherent cross section, barn."""
    return np.array([nucleus(k).neutron.incoherent for k in kinds])


def amplitudes(probe: str, kinds: Sequence[str], q: np.ndarray) -> np.ndarray:
    """(kinds, q) scattering amplitude of an atom: neutron b (fm), xray f0 (electrons), electron f (Å).

    Electrons see the nucleus less the x-ray cloud (Mott-Bethe): f_e = (2/a_0) (Z - f_x)/q², so q must be above zero.

    Parameters
    ----------
    probe : of PROBES; q : (q,) float64, 1/Å
    """
    out = np.empty((len(kinds), len(q)))
    for row, kind in zip(out, kinds):
        atom = nucleus(kind)
        if probe == "neutron":
            row[:] = atom.neutron.b_c
            continue
        element = getattr(atom, "element", atom)  # an isotope's electrons are its element's
        f = np.asarray(element.xray.f0(q), float)
        row[:] = f if probe == "xray" else 2 / BOHR * (element.number - f) / q**2
    return out
