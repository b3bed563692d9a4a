"""Tables and numbers of ``rxmdnn spectra``, and the files that hold them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.analysis import scatterers
from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.hydrogen import HydrogenSpectrum, hydrogen_spectrum
from rxmdnn.analysis.inelastic import Instrument
from rxmdnn.analysis.tables import write_csv, write_h5
from rxmdnn.isotopes import element_of

ALIASED = 0.02  # fraction of the modes above 90 % of the highest frequency that frames can show


@dataclass
class SpectraOptions:
    """Choices of the user.

    Attributes
    ----------
    most : 1/cm, the largest wavenumber of tables and figures
    temperature : K, or None for that of the velocities
    quantum : also the quantum spectrum and harmonic kinetic energies
    verlet_step : fs, of the velocity-Verlet step whose shift of frequencies is undone; None: none is undone
    isotopes : "H=D" for an isotope that scatters in the place of an element
    low : meV, below which the density of hydrogen is that of Debye; None: the resolution
    """

    most: float = 4000.0
    temperature: float | None = None
    quantum: bool = False
    verlet_step: float | None = None
    isotopes: Sequence[str] = ()
    instrument: Instrument = field(default_factory=Instrument)
    low: float | None = None


@dataclass
class SpectraTables:
    """Results of a spectrum.

    Attributes
    ----------
    kinds : names; temperature : K; resolution : 1/cm
    windows : {band: (from, to, measured positions)}, 1/cm
    vdos, vacf : {column: array}; bands : one dict per band; hydrogen : None where there is no hydrogen
    numbers : what is printed and written as JSON, ``bands`` and ``notes`` among it
    notes : warnings for the user
    """

    kinds: list[str]
    temperature: float
    resolution: float
    windows: dict[str, Any]
    vdos: dict[str, np.ndarray]
    vacf: dict[str, np.ndarray]
    bands: list[dict[str, Any]]
    hydrogen: HydrogenSpectrum | None
    numbers: dict[str, Any]
    notes: list[str]

    def write(self, folder: Path) -> list[Path]:
        """Write vdos.csv, vacf.csv, bands.csv, neutron.csv (with hydrogen) and spectra.h5; their paths."""
        made = [write_csv(folder / "vdos.csv", self.vdos), write_csv(folder / "vacf.csv", self.vacf)]
        if self.bands:
            made.append(write_csv(folder / "bands.csv", {
                key: [r[key] if key != "peaks_cm" else " ".join(f"{f:.1f}" for f in r[key]) for r in self.bands]
                for key in self.bands[0]}))
        groups: dict[str, Any] = {
            "vdos": {k: (v, _vdos_unit(k)) for k, v in self.vdos.items()},
            "vacf": {k: (v, "fs" if k == "time_fs" else "") for k, v in self.vacf.items()}}
        if self.hydrogen is not None:
            h = self.hydrogen
            made.append(write_csv(folder / "neutron.csv", h.columns))
            groups["neutron"] = {k: (v, "meV" if k == "energy_meV" else "Å-1" if k.startswith("q_") else "1/meV")
                                 for k, v in h.columns.items()}
            groups["map"] = {"q": (h.q, "Å-1"), "energy": (h.energy, "meV"), "s": (h.s, "1/meV")}
        made.append(write_h5(folder / "spectra.h5", groups, {
            "temperature_K": self.temperature, "resolution_cm": self.resolution, "kinds": self.kinds,
            "bands": json.dumps(self.bands), "notes": "\n".join(self.notes)}))
        return made


def _vdos_unit(name: str) -> str:
    return "cm-1" if name == "wavenumber_cm" else "meV" if name == "energy_meV" else "modes cm"


def conclude(s: sp.Spectrum, options: SpectraOptions) -> SpectraTables:
    """The tables and numbers of a spectrum. Raises InputError for isotopes and energies that do not fit it."""
    isotopes = scatterers.replaced(s.kinds, options.isotopes)
    notes = []
    if options.verlet_step is not None:
        s = s.unshifted(options.verlet_step)
        notes.append(f"frequencies corrected for the shift by a velocity-Verlet step of {options.verlet_step:g} fs")
    temperature = options.temperature or s.temperature
    total = s.weighted(np.ones(len(s.kinds)))
    notes += doubts(s, total[0])
    numbers = _numbers(s, temperature, options.quantum)
    windows = sp.windows(s.kinds, s.count, s.wavenumber, total[0])
    bands = sp.bands(s.wavenumber, _segment_densities(s), windows)
    numbers |= {"bands": bands, "notes": notes}
    hydrogen = None
    k = next((k for k, n in enumerate(s.kinds) if element_of(n) == "H"), None)
    if k is None:
        notes.append("no hydrogen: no incoherent neutron spectrum")
    else:
        hydrogen = hydrogen_spectrum(s, k, temperature, options.instrument, options.most * sp.MEV_PER_CM, options.low)
        numbers |= {"hydrogen_u_squared_A2": 3 * hydrogen.u_squared, "orders": hydrogen.orders,
                    "debye_below_meV": hydrogen.low,
                    "incoherent_cross_section_barn": float(scatterers.incoherent([isotopes[k]])[0])}
        if hydrogen.below > 0.02:
            notes.append(f"{100 * hydrogen.below:.1f} % of the modes of {s.kinds[k]} lie below {hydrogen.low:.3g} meV "
                         "(--low): diffusion, in a liquid; the neutron spectrum assumes a solid")
    return SpectraTables(list(s.kinds), temperature, s.resolution, windows,
                         vdos_table(s, total, s.weighted(scatterers.cross_sections(isotopes) / s.mass), options.most,
                                    temperature if options.quantum else None),
                         vacf_table(s), bands, hydrogen, numbers, notes)


def doubts(s: sp.Spectrum, total: np.ndarray) -> list[str]:
    """Warnings: frames too far apart, kinds at different temperatures, too few segments. total : (frequencies,)."""
    nu, notes = s.wavenumber, []
    beyond = total[nu > 0.9 * nu[-1]].sum() / total.sum()
    if beyond > ALIASED:
        notes.append(f"{100 * beyond:.1f} % of the modes lie near the highest frequency that frames {s.dt:g} fs apart "
                     "resolve; faster modes are aliased to lower frequencies; write frames more often")
    spread = s.temperatures.max() - s.temperatures.min()
    if spread > 0.1 * s.temperature:
        notes.append(f"the temperatures of the kinds differ by {spread:.0f} K: not in equilibrium, or too short a run; "
                     "heights of bands are not comparable; equilibrate with a thermostat first")
    if len(s.power) < 4:
        notes.append(f"only {len(s.power)} segment(s): errors are inaccurate or missing; use a coarser --resolution or "
                     "a longer run")
    return notes


def _segment_densities(s: sp.Spectrum) -> np.ndarray:
    """(segments, frequencies) total density of each segment; the mean integrates to the number of modes."""
    density = s.power.sum(axis=1)
    density *= s.modes / (density.mean(axis=0).sum() * s.nu[1]) * sp.C_CM
    return density


def vdos_table(s: sp.Spectrum, total: tuple[np.ndarray, np.ndarray], neutron: tuple[np.ndarray, np.ndarray],
               most: float, quantum: float | None = None) -> dict[str, np.ndarray]:
    """Columns of vdos.csv up to ``most`` 1/cm.

    Parameters
    ----------
    total, neutron : (frequencies,) density of all modes and its error; the same, weighted for neutrons
    quantum : K, of the quantum spectrum; None: no such columns
    """
    nu, dos, dos_error = s.wavenumber, s.dos, s.dos_error
    shown = nu <= most
    columns: dict[str, np.ndarray] = {"wavenumber_cm": nu[shown], "energy_meV": nu[shown] * sp.MEV_PER_CM}
    for k, name in enumerate(s.kinds):
        columns |= {f"{name}_modes_per_cm": dos[k][shown], f"{name}_error": dos_error[k][shown]}
    columns |= {"total_modes_per_cm": total[0][shown], "total_error": total[1][shown],
                "neutron_modes_per_cm": neutron[0][shown], "neutron_error": neutron[1][shown]}
    if quantum is not None:
        factor = sp.kubo_factor(nu, quantum)
        factor /= (total[0] * factor).sum() / total[0].sum()
        columns |= {f"{name}_quantum": (dos[k] * factor)[shown] for k, name in enumerate(s.kinds)}
        columns["total_quantum"] = (total[0] * factor)[shown]
    return columns


def vacf_table(s: sp.Spectrum) -> dict[str, np.ndarray]:
    """Columns of vacf.csv: time, and of each kind the normalized autocorrelation and its error."""
    t, c, c_error = s.vacf
    columns = {"time_fs": t}
    for k, name in enumerate(s.kinds):
        columns |= {name: c[k], f"{name}_error": c_error[k]}
    return columns


def _numbers(s: sp.Spectrum, temperature: float, quantum: bool) -> dict[str, Any]:
    dos = s.dos
    out = {"atoms": int(s.count.sum()), "frame_interval_fs": s.dt, "modes": s.modes, "segments": len(s.power),
           "resolution_cm": s.resolution, "temperature_K": temperature,
           **{f"temperature_{n}_K": float(x) for n, x in zip(s.kinds, s.temperatures)},
           **{f"modes_{n}": float(dos[k].sum() * s.wavenumber[1]) for k, n in enumerate(s.kinds)}}
    if quantum:
        kinetic = sp.harmonic_kinetic(s.wavenumber, dos, s.count, temperature)
        out |= {f"harmonic_quantum_kinetic_{n}_meV": float(x) for n, x in zip(s.kinds, kinetic)}
    return out
