"""Names of isotopes: D and T are hydrogen of another mass, in files, decks and models."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# name: (element, mass in amu, lowest and highest mass that is taken for it)
ISOTOPES = {"D": ("H", 2.014101778, 1.9, 2.2), "T": ("H", 3.016049281, 2.9, 3.2)}


def element_of(name: str) -> str:
    """The element of a name: H for D and T, every other name itself.

    >>> element_of("D"), element_of("N")
    ('H', 'N')
    """
    return ISOTOPES[name][0] if name in ISOTOPES else name


def standard_mass(name: str) -> float:
    """The mass of an element, D or T, amu; 1 for any other name."""
    from ase.data import atomic_masses, atomic_numbers  # ASE, only where it is used

    return ISOTOPES[name][1] if name in ISOTOPES else float(atomic_masses[atomic_numbers.get(name, 0)])


def with_heavy_hydrogen(masses: np.ndarray, names: np.ndarray) -> np.ndarray:
    """(n,) masses, amu, in which the atoms named D or T have theirs; names (n,)."""
    masses = masses.copy()
    for name, (_, mass, *_) in ISOTOPES.items():
        masses[names == name] = mass
    return masses


def named_by_mass(symbols: Sequence[str], masses: np.ndarray) -> np.ndarray:
    """(n,) symbols of elements and (n,) masses, amu -> (n,) names, in which heavy hydrogen is D or T."""
    names = np.array(symbols, dtype=object)
    for name, (element, _, low, high) in ISOTOPES.items():
        names[(names == element) & (masses > low) & (masses < high)] = name
    return names.astype(str)
