"""Settings of GPAW as the words after ``gpaw:`` in ``--engine``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from ase.units import kB

from rxmdnn.errors import InputError

PREFIX = "gpaw:"
USAGE = ("write gpaw:functional=NAME,cutoff=EV,reach=ANGSTROM and, if wanted, temperature=20000K (or 0.1eV), "
         "dispersion=none|d3bj, bands=1e-6")
FUNCTIONALS = ("LDA", "PBE", "RPBE", "revPBE")  # of the PAW setups
CUTOFF = 700.0  # eV
REACH = 9.5  # Å: least length of a cell axis times its number of k-points
DENSE = 25.0  # Å^3 per atom: a larger volume means isolated molecules in a box, at the Γ point
EMPTY = 1e-6  # occupation of the highest band, of 1


def kpoints(cell: np.ndarray, atoms: int = 0, reach: float = REACH) -> list[int]:
    """Monkhorst-Pack numbers of k-points for a cell (3, 3), Å; of more than DENSE Å^3 per atom: the Γ point."""
    if atoms and abs(np.linalg.det(cell)) / atoms > DENSE:
        return [1, 1, 1]
    return [int(np.ceil(reach / length - 1e-9)) for length in np.linalg.norm(cell, axis=1)]


@dataclass(frozen=True)
class Settings:
    """Settings of one engine; the defaults are those of ``gpaw-revpbe-d3bj``.

    Parameters
    ----------
    functional : one of FUNCTIONALS
    cutoff : eV, of the plane waves
    reach : Å; an axis of a cell has the least number of k-points whose product with its length is at least ``reach``
    width : eV, k_B times the electronic temperature of the Fermi-Dirac occupation
    dispersion : D3 with Becke-Johnson damping, pairs only, is added
    empty : the bands go up to an occupation (of 1) below this; None: two bands more than are occupied at 0 K (elements
        H and N only)
    molecules : a cell of more than DENSE Å^3 per atom is taken at the Γ point
    """

    functional: str = "revPBE"
    cutoff: float = CUTOFF
    reach: float = REACH
    width: float = 0.1
    dispersion: bool = True
    empty: float | None = None
    molecules: bool = True

    def kpoints(self, cell: np.ndarray, atoms: int) -> list[int]:
        """Monkhorst-Pack numbers of k-points for a cell (3, 3), Å, with this number of atoms."""
        return kpoints(cell, atoms if self.molecules else 0, self.reach)

    def request(self) -> dict[str, object]:
        """What a request to ``gpaw_worker.py`` says of the settings."""
        return {"cutoff": self.cutoff, "functional": self.functional, "width": self.width,
                "dispersion": self.dispersion, "empty": self.empty}

    @property
    def text(self) -> str:
        """The settings as labelled frames record them."""
        bands = f"to an occupation of {self.empty:g}" if self.empty else "occupied and two more"
        return (f"{self.functional}, {'D3(BJ) pairs' if self.dispersion else 'no dispersion'}, PAW setups 0.9.20000, "
                f"plane waves {self.cutoff:g} eV, Monkhorst-Pack k-points (number times axis at least {self.reach:g} "
                f"Angstrom), Fermi-Dirac {self.width / kB:.0f} K ({self.width:.4g} eV), bands {bands}, "
                "free energy, mean force subtracted")


def settings_of(name: str) -> Settings:
    """The settings that ``gpaw:key=value,...`` names.

    ``functional``, ``cutoff`` (eV) and ``reach`` (Å) must be given; ``temperature`` (0.1eV), ``dispersion`` (none) and
    ``bands`` (the occupation of the highest band, 1e-6) may be.

    Raises
    ------
    InputError
        A key or value that is not known, out of range, given twice or missing.
    """
    words: dict[str, str] = {}
    for word in filter(None, name.removeprefix(PREFIX).replace(" ", "").split(",")):
        key, equals, value = word.partition("=")
        if not equals or key not in ("functional", "cutoff", "reach", "temperature", "dispersion", "bands"):
            raise InputError(f"--engine {name}: '{word}' is not known; {USAGE}")
        if key in words:
            raise InputError(f"--engine {name}: '{key}' is given twice; {USAGE}")
        words[key] = value
    missing = [key for key in ("functional", "cutoff", "reach") if key not in words]
    if missing:
        raise InputError(f"--engine {name}: {', '.join(missing)} missing; {USAGE}")
    if words["functional"] not in FUNCTIONALS:
        raise InputError(f"--engine {name}: functional={words['functional']}: GPAW has PAW setups for "
                         f"{', '.join(FUNCTIONALS)}")
    dispersion = words.get("dispersion", "none")
    if dispersion not in ("none", "d3bj"):
        raise InputError(f"--engine {name}: dispersion={dispersion}: give none or d3bj")
    if dispersion == "d3bj" and words["functional"] == "LDA":
        raise InputError(f"--engine {name}: D3(BJ) has no parameters for LDA; give dispersion=none")
    cutoff, reach = (_number(words[key], name, key) for key in ("cutoff", "reach"))
    width = _width(words.get("temperature", "0.1eV"), name)
    empty = _number(words.get("bands", f"{EMPTY:g}"), name, "bands", 0.1)
    return Settings(words["functional"], cutoff, reach, width, dispersion == "d3bj", empty, molecules=False)


def _width(value: str, name: str) -> float:
    """k_B T in eV of a temperature with its unit."""
    found = re.fullmatch(r"(.+?)(K|eV)", value)
    if not found:
        raise InputError(f"--engine {name}: temperature={value}: give it with its unit, for example 20000K or 0.1eV")
    return _number(found[1], name, "temperature") * (kB if found[2] == "K" else 1.0)


def _number(value: str, name: str, key: str, largest: float = math.inf) -> float:
    """A number above 0 and below ``largest``."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < largest:
        limit = "" if largest == math.inf else f" and below {largest:g}"
        raise InputError(f"--engine {name}: {key}={value}: it must be a number above 0{limit}")
    return number
