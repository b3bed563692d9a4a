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
from rxmdnn.analysis.instruments import Spectrometer
from rxmdnn.analysis.neutron import NeutronSpectrum, Vibrations, neutron_spectrum
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
    spectrometer : a real instrument, for the spectrum of all atoms; None: that of hydrogen with ``instrument``
    whole : ``most`` is not of the user: the instrument's range, where it is smaller
    """

    most: float = 4000.0
    temperature: float | None = None
    quantum: bool = False
    verlet_step: float | None = None
    isotopes: Sequence[str] = ()
    instrument: Instrument = field(default_factory=Instrument)
    low: float | None = None
    spectrometer: Spectrometer | None = None
    whole: bool = False


@dataclass
class SpectraTables:
    """Results of a spectrum.

    Attributes
    ----------
    kinds : names; temperature : K; resolution : 1/cm
    windows : {band: (from, to, measured positions)}, 1/cm
    vdos, vacf : {column: array}; bands : one dict per band; hydrogen : None where there is no hydrogen
    neutron : of all atoms, as a real instrument sees them, in the place of ``hydrogen``
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
    neutron: NeutronSpectrum | None = None

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
        if self.neutron is not None:
            made.append(write_csv(folder / "neutron.csv", self.neutron.columns))
            groups |= neutron_groups(self.neutron)
        made.append(write_h5(folder / "spectra.h5", groups, {
            "temperature_K": self.temperature, "resolution_cm": self.resolution, "kinds": self.kinds,
            "bands": json.dumps(self.bands), "notes": "\n".join(self.notes)}))
        return made


def neutron_groups(n: NeutronSpectrum) -> dict[str, dict[str, tuple[Any, str]]]:
    """Groups of an HDF5 file: {group: {name: (array, unit)}}."""
    units = {"energy_meV": "meV", "fwhm_meV": "meV", "wavenumber_cm": "cm-1"}
    return {"neutron": {k: (v, units.get(k, "Å-1" if k.startswith("q_") else "barn/meV"))
                        for k, v in n.columns.items()},
            "map": {"q": (n.q, "Å-1"), "energy": (n.energy, "meV"), "s": (n.s, "barn/meV")}}


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
    neutron = None
    k = next((k for k, n in enumerate(s.kinds) if element_of(n) == "H"), None)
    if options.spectrometer is not None:
        neutron = neutron_of(s, isotopes, temperature, options, options.spectrometer)
        numbers |= neutron_numbers(neutron)
        notes += neutron_doubts(neutron)
    elif k is None:
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
                         vacf_table(s), bands, hydrogen, numbers, notes, neutron)


def neutron_of(s: sp.Spectrum, isotopes: Sequence[str], temperature: float, options: SpectraOptions,
               spectrometer: Spectrometer) -> NeutronSpectrum:
    """The neutron spectrum of all kinds of atoms of ``s``."""
    low = options.low or s.resolution * sp.MEV_PER_CM
    energy, dos = s.wavenumber * sp.MEV_PER_CM, s.dos
    kinds = [Vibrations(name, isotopes[k], int(s.count[k]), float(s.mass[k]), energy, dos[k], s.sites.get(k))
             for k, name in enumerate(s.kinds)]
    most = options.most * sp.MEV_PER_CM
    if options.whole:
        most = min(most, spectrometer.high, float(energy[-1]))
    return neutron_spectrum(kinds, temperature, spectrometer, most, low)


def neutron_numbers(n: NeutronSpectrum) -> dict[str, Any]:
    """What is printed of a neutron spectrum."""
    out: dict[str, Any] = {"instrument": n.instrument.title, "resolution_from": n.instrument.source, "orders": n.orders,
                           "debye_below_meV": n.low}
    for name, u in n.u_squared.items():
        out[f"u_squared_{name}_A2"] = 3 * u
        if name in n.tensors:
            out[f"u_squared_axes_{name}_A2"] = [round(float(x), 6) for x in principal(n.tensors[name]).mean(axis=0)]
    return out


def principal(tensors: np.ndarray) -> np.ndarray:
    """(atoms, 3) principal values, ascending, of (atoms, 6) tensors xx yy zz xy xz yz."""
    return np.linalg.eigvalsh(tensors[:, [[0, 3, 4], [3, 1, 5], [4, 5, 2]]])


def neutron_doubts(n: NeutronSpectrum) -> list[str]:
    """Notes on what the neutron spectrum leaves out."""
    notes = [f"{100 * share:.1f} % of the modes of {name} lie below {n.low:.3g} meV (--low): diffusion, in a liquid; "
             "the neutron spectrum assumes a solid" for name, share in n.below.items() if share > 0.02]
    if not n.tensors:
        notes.append("displacements are taken as isotropic: directions need a trajectory with two segments or more")
    coherent = float(n.columns["coherent"].sum() / max(n.columns["all"].sum(), 1e-300))
    if coherent > 0.2:
        notes.append(f"{100 * coherent:.0f} % of the intensity is coherent scattering, here without interference "
                     "between atoms (incoherent approximation); 'rxmdnn phonons' computes it for one phonon, "
                     "'rxmdnn structure --dynamic' from the trajectory")
    return notes


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
