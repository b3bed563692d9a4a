"""Scattering amplitudes and cross sections of atoms for neutrons, x-rays and electrons, from `periodictable`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rxmdnn.errors import InputError

BOHR = 0.529177210903  # Å
PROBES = ("neutron", "xray", "electron")


def nucleus(kind: str) -> Any:
    """The element or isotope of `periodictable`, e.g. of N, D, 15-N. Raises InputError."""
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
    """The kinds, with elements replaced by isotopes; `isotopes` are options such as H=D. Raises InputError."""
    table = {}
    for word in isotopes:
        old, equals, new = word.partition("=")
        if not equals or old not in kinds:
            raise InputError(f"--isotope: {word}: expected OLD=NEW, where OLD is one of {', '.join(kinds)}")
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

    Electrons are scattered by the nucleus and the electron cloud (Mott-Bethe): f_e = (2/a_0) (Z - f_x)/q²; q must be
    above zero.

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
        element = getattr(atom, "element", atom)  # the electrons of an isotope are those of its element
        f = np.asarray(element.xray.f0(q), float)
        row[:] = f if probe == "xray" else 2 / BOHR * (element.number - f) / q**2
    return out
