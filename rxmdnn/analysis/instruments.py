"""Neutron spectrometers: their kinematics Q(E), their resolution as a function of energy transfer, and a file format.

Indirect geometry fixes the final energy, direct geometry the incident one; in both
Q² = [E_i + E_f - 2 √(E_i E_f) cos θ]/2.0721 meV Å². Resolutions are Gaussian, of standard deviation σ(E).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.analysis.chopper import MAPS, SEQUOIA, FermiChopper
from rxmdnn.analysis.inelastic import E_OF_Q2, FWHM, broadened
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.deck import language as decks
from rxmdnn.deck.language import Keyword, Value, near, not_negative, positive
from rxmdnn.errors import InputError

SHARE = 0.95  # of the incident energy, up to which energy transfers are measured
SAMPLES = 12  # angles that stand for a range of them
Width = Callable[[np.ndarray], np.ndarray]  # (energies,) meV -> (energies,) σ, meV


@dataclass(frozen=True)
class Spectrometer:
    """A spectrometer at one setting.

    Attributes
    ----------
    name, source : of the instrument, of its resolution
    direct : the incident energy is fixed, otherwise the final one
    fixed : meV, that energy
    angles, weights : scattering angles, degrees, and their shares, which sum to 1
    low, high : meV, energy transfers that it measures
    width : σ of an energy transfer
    """

    name: str
    source: str
    direct: bool
    fixed: float
    angles: tuple[float, ...]
    weights: tuple[float, ...]
    low: float
    high: float
    width: Width

    def q_squared(self, energy: np.ndarray, angle: float) -> np.ndarray:
        """(energies,) Q², Å^-2, at energy transfers in meV. angle : degrees."""
        one = np.full_like(np.asarray(energy, float), self.fixed)
        other = np.maximum(one - energy if self.direct else one + energy, 0.0)
        return (one + other - 2 * np.sqrt(one * other) * np.cos(np.radians(angle))) / E_OF_Q2

    def sigma(self, energy: np.ndarray) -> np.ndarray:
        """(energies,) standard deviation of the resolution, meV; outside of ``low`` to ``high`` that of the end."""
        return self.width(np.clip(np.asarray(energy, float), self.low, self.high))

    def broadened(self, energy: np.ndarray, s: np.ndarray) -> np.ndarray:
        """s (..., energies) on the uniform grid `energy` from zero, meV, as this instrument sees it."""
        return broadened(energy, s, self.sigma(energy))

    @property
    def reach(self) -> float:
        """The largest energy transfer that brings intensity to ``high``, meV."""
        spread = self.high + 4 * float(self.sigma(np.array([self.high]))[0])
        return min(spread, 0.999 * self.fixed) if self.direct else spread

    @property
    def title(self) -> str:
        """Name and setting in words."""
        kind = "incident" if self.direct else "final"
        ends = f"{self.angles[0]:.3g}° to {self.angles[-1]:.3g}°" if len(self.angles) > 4 else \
            ", ".join(f"{a:.4g}°" for a in self.angles)
        return f"{self.name}, {kind} energy {self.fixed:.4g} meV, {ends}"


def polynomial(*coefficients: float, unit: float = 1.0, least: float = 0.0) -> Width:
    """σ(E) = c_0 + c_1 E + c_2 E² + ..., with σ and E in units of `unit` meV, and at least `least` meV."""
    return lambda e: np.maximum(np.polynomial.polynomial.polyval(e / unit, coefficients) * unit, least)


def tabulated(energy: Sequence[float], fwhm: Sequence[float]) -> Width:
    """σ(E) between the rows of a table of full widths at half maximum, both in meV."""
    rows = np.array(sorted(zip(energy, fwhm)))
    return lambda e: np.interp(e, rows[:, 0], rows[:, 1]) / FWHM


def of_range(lo: float, hi: float, n: int = SAMPLES) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Midpoints of `n` parts of a range of angles, degrees, and their shares of the solid angle, ~ sin θ."""
    angles = lo + (hi - lo) * (np.arange(n) + 0.5) / n
    share = np.sin(np.radians(angles))
    return tuple(angles.tolist()), tuple((share / share.sum()).tolist())


def evenly(angles: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Angles with equal weights."""
    return tuple(angles), (1.0 / len(angles),) * len(angles)


def _indirect(name: str, source: str, final: float, angles: tuple[tuple[float, ...], tuple[float, ...]],
              low: float, high: float, width: Width) -> Spectrometer:
    return Spectrometer(name, source, False, final, *angles, low, high, width)


TOSCA = _indirect(
    "TOSCA", "K. Dymkowski et al., Physica B 551, 443 (2018); Abins", 32.0 * MEV_PER_CM, evenly((45.0, 135.0)),
    0.0, 4100.0 * MEV_PER_CM, polynomial(2.5, 0.005, 1e-7, unit=MEV_PER_CM))
VISION = _indirect(
    "VISION", "P. A. Seeger et al., Nucl. Instrum. Meth. A 604, 719 (2009): ΔE/E = 1.5 % above 500 1/cm; constant "
    "below", 32.0 * MEV_PER_CM, evenly((45.0, 135.0)), 0.0, 1000.0, polynomial(0.0, 0.015 / FWHM,
                                                                              least=7.5 * MEV_PER_CM / FWHM))
LAGRANGE = _indirect(
    "IN1-Lagrange, Cu(331)", "Mantid/Abins: 2σ = 0.658 + 5.16e-4 E + 1.119e-4 E² - 8.6e-8 E³ meV", 4.5,
    of_range(10.0, 90.0, 5), 67.0 - 4.5, 500.0 - 4.5,
    polynomial(0.329181059, 2.579626925e-4, 5.595554750e-5, -4.302557985e-8))
LAGRANGE_CU220 = _indirect(
    "IN1-Lagrange, Cu(220)", "Mantid/Abins: 2σ = -0.036 + 0.02156 E + 7.70e-5 E² meV, at least 0.8", 4.5,
    of_range(10.0, 90.0, 5), 26.0 - 4.5, 500.0 - 4.5,
    polynomial(-0.0179805, 0.01078, 3.849350e-5, least=0.4))
FIXED = {"tosca": TOSCA, "vision": VISION, "lagrange": LAGRANGE, "lagrange-cu220": LAGRANGE_CU220}


@dataclass(frozen=True)
class Choppers:
    """A direct-geometry instrument, for any incident energy and frequency of its chopper.

    incident, frequency : defaults, meV and Hz; least, most : incident energies, meV
    angles : range, degrees, of all detectors together (PyChop: tthlims); gaps between their banks are not left out
    """

    name: str
    source: str
    chopper: FermiChopper
    incident: float
    frequency: float
    least: float
    most: float
    angles: tuple[float, float]

    def at(self, incident: float | None, frequency: float | None) -> Spectrometer:
        """The instrument at an incident energy, meV, and a frequency, Hz. Raises InputError where it has none."""
        e, f = incident or self.incident, frequency or self.frequency
        if not self.least <= e <= self.most:
            raise InputError(f"--incident {e:g}: {self.name} has incident energies from {self.least:g} to "
                             f"{self.most:g} meV here")
        self.chopper.sigma(e, f, np.zeros(1))  # its message, where nothing passes
        return Spectrometer(f"{self.name}, {f:g} Hz", self.source, True, e, *of_range(*self.angles), 0.0, SHARE * e,
                            partial(self.chopper.sigma, e, f))


DIRECT = {
    "sequoia": Choppers("SEQUOIA, high-resolution chopper", "G. E. Granroth et al., J. Phys.: Conference Series 251, "
                        "012058 (2010); PyChop", SEQUOIA, 600.0, 600.0, 8.0, 4000.0, (2.0, 61.9)),
    "maps": Choppers("MAPS, chopper A", "R. A. Ewings et al., Rev. Sci. Instrum. 90, 035110 (2019); PyChop", MAPS,
                     500.0, 400.0, 300.0, 2000.0, (3.0, 59.8)),
}
NAMES = (*FIXED, *DIRECT)

TABLE = (
    Keyword("geometry", (Value("kind", ("indirect", "direct")), Value("energy", "float", unit="meV", check=positive)),
            "fixed final (indirect) or incident (direct) energy"),
    Keyword("unit", (Value("name", ("meV", "1/cm"), "meV"),), "of energies and widths in the lines below"),
    Keyword("angles", (Value("angle", "float", unit="degrees", check=lambda a: None if 0 < a < 180 else
                             "must be between 0 and 180"),), "scattering angles, with equal weights", rest=1),
    Keyword("range", (Value("low", "float", None, check=not_negative), Value("high", "float", None, check=positive)),
            "energy transfers that are measured; default: those of the table of widths"),
    Keyword("sigma", (Value("c", "float", None),), "σ(E) = c_0 + c_1 E + c_2 E² + ...", rest=1),
    Keyword("fwhm", (Value("energy", "float", check=not_negative), Value("width", "float", check=positive)),
            "a row of a table of full widths at half maximum", repeats=True),
)


def read_instrument(path: Path) -> Spectrometer:
    """The spectrometer of a file, whose lines are those of ``TABLE``. Raises InputError with all faults."""
    deck = decks.read(path, TABLE)
    unit = MEV_PER_CM if deck["unit"].name == "1/cm" else 1.0
    rows, curve, limits = deck["fwhm"], deck["sigma"].c, deck["range"]
    faults = []
    if bool(rows) == bool(curve):
        faults.append(f"{path}: give its widths by 'sigma' or by at least two lines 'fwhm', not both")
    if len(rows) == 1:
        faults.append(rows[0].fault("a table needs two rows or more"))
    if curve and limits.high is None:
        faults.append(f"{path}: range: missing; the line sigma needs the energies that it is valid for")
    if limits.high is not None and not limits.low < limits.high:
        faults.append(limits.fault("low must be below high"))
    if faults:
        raise InputError(*faults)
    table = sorted(r.energy * unit for r in rows)
    low, high = (limits.low * unit, limits.high * unit) if limits.high is not None else (table[0], table[-1])
    direct, fixed = deck["geometry"].kind == "direct", deck["geometry"].energy
    if direct and high >= fixed:
        raise InputError(f"{path}: range: energy transfers up to {high:g} meV, but the incident energy is "
                         f"{fixed:g} meV")
    width = polynomial(*curve, unit=unit) if curve else tabulated([r.energy * unit for r in rows],
                                                                 [r.width * unit for r in rows])
    if (width(np.linspace(low, high, 200)) <= 0).any():
        raise InputError(deck["sigma"].fault(f"σ is not above zero everywhere from {low:g} to {high:g} meV"))
    return Spectrometer(path.stem, str(path), direct, fixed, *evenly(deck["angles"].angle), low, high, width)


def instrument_of(word: str, incident: float | None = None, frequency: float | None = None,
                  angles: Sequence[float] | None = None) -> Spectrometer:
    """The instrument of a name of NAMES, or of a file.

    Parameters
    ----------
    incident : meV, frequency : Hz: settings of direct-geometry instruments
    angles : degrees, instead of its own; of a named direct-geometry instrument the two ends of a range

    Raises InputError for an unknown name, and for settings that the instrument lacks.
    """
    settings: dict[str, Any] = {"--incident": incident, "--chopper": frequency}
    name = word.lower()
    if name in DIRECT:
        found = DIRECT[name].at(incident, frequency)
    else:
        given = [flag for flag, value in settings.items() if value is not None]
        if given:
            raise InputError(f"{' '.join(given)}: only {' and '.join(DIRECT)} have it; {word} is given whole")
        if name in FIXED:
            found = FIXED[name]
        elif Path(word).is_file():
            found = read_instrument(Path(word))
        else:
            raise InputError(f"--instrument {word}: no such instrument or file{near(word, NAMES)}; known are "
                             f"{', '.join(NAMES)}")
    if angles is None:
        return found
    bad = [a for a in angles if not 0 < a < 180]
    if bad or (name in DIRECT and (len(angles) != 2 or not angles[0] < angles[1])):
        raise InputError("--angles: expected the two ends of a range of scattering angles, between 0 and 180 degrees"
                         if name in DIRECT else "--angles: must be between 0 and 180 degrees")
    own = of_range(angles[0], angles[1]) if name in DIRECT else evenly(angles)
    return replace(found, angles=own[0], weights=own[1])
