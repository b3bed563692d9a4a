"""Tables, files and numbers of ``rxmdnn phonons``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rxmdnn.analysis import scatterers
from rxmdnn.analysis.coherent import coherent_one_phonon
from rxmdnn.analysis.inelastic import FWHM, broadened
from rxmdnn.analysis.instruments import Spectrometer
from rxmdnn.analysis.neutron import NeutronSpectrum, Vibrations, neutron_spectrum
from rxmdnn.analysis.phonons import Bands, HarmonicCrystal, LatticeModes
from rxmdnn.analysis.spectra import MEV_PER_CM
from rxmdnn.analysis.spectra_tables import neutron_groups, neutron_numbers
from rxmdnn.analysis.tables import write_csv, write_h5

BIN = 0.1  # meV, of the densities of states
LOW = 0.5  # meV, below which the density is the parabola of Debye


@dataclass
class PhononTables:
    """Results of a harmonic crystal.

    Attributes
    ----------
    bands : along the path; modes : on the mesh; gamma (modes,) : wavenumbers at Γ, 1/cm
    dos : {column: array}: wavenumber_cm, energy_meV, <kind>_modes_per_cm, total_modes_per_cm (per primitive cell)
    neutron : as an instrument sees it, or None
    numbers, notes : as of ``SpectraTables``
    """

    bands: Bands
    modes: LatticeModes
    gamma: np.ndarray
    dos: dict[str, np.ndarray]
    neutron: NeutronSpectrum | None
    numbers: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> list[Path]:
        """Write bands.csv, dos.csv, neutron.csv (with an instrument) and phonons.h5; their paths."""
        x = np.concatenate([d for d, _ in self.bands.segments])
        y = np.concatenate([w for _, w in self.bands.segments])
        made = [write_csv(folder / "bands.csv", {"distance_1_A": x, **{f"mode_{k + 1}_cm": y[:, k]
                                                                       for k in range(y.shape[1])}}),
                write_csv(folder / "dos.csv", self.dos)]
        groups: dict[str, Any] = {
            "mesh": {"q": (self.modes.q, ""), "weight": (self.modes.weight, ""),
                     "wavenumber": (self.modes.wavenumber, "cm-1"), "vectors": (self.modes.vectors, "")},
            "dos": {k: (v, "cm-1" if k == "wavenumber_cm" else "meV" if k == "energy_meV" else "modes cm")
                    for k, v in self.dos.items()}}
        if self.neutron is not None:
            made.append(write_csv(folder / "neutron.csv", self.neutron.columns))
            groups |= neutron_groups(self.neutron)
        made.append(write_h5(folder / "phonons.h5", groups, {"path": self.bands.path, "notes": "\n".join(self.notes)}))
        return made


def conclude_phonons(crystal: HarmonicCrystal, modes: LatticeModes, isotopes: Mapping[str, str], temperature: float,
                     instrument: Spectrometer | None, most: float | None, width: float, coherent: bool
                     ) -> PhononTables:
    """The tables of a crystal.

    Parameters
    ----------
    isotopes : {kind: what scatters in its place}; temperature : K, of the neutron spectrum
    most : 1/cm, the largest energy transfer, or None for what the instrument measures and the modes reach
    width : 1/cm, full width at half maximum of the density of states; coherent : with interference between atoms
    """
    found = crystal.vibrations(modes, BIN)
    gamma = crystal.at(np.zeros((1, 3))).wavenumber[0]
    numbers: dict[str, Any] = {"atoms_in_primitive_cell": len(crystal.mass), "wave_vectors": len(modes.q),
                               "gamma_cm": [round(float(w), 2) for w in gamma],
                               "highest_cm": float(modes.wavenumber.max()), "imaginary_modes": len(modes.imaginary)}
    notes = imaginary_notes(modes)
    neutron = None
    if instrument is not None:
        kinds = [Vibrations(name, isotopes.get(name, name), count, mass, energy, g, sites)
                 for name, (count, mass, energy, g, sites) in found.items()]
        top = most * MEV_PER_CM if most is not None else min(instrument.high, 4000.0 * MEV_PER_CM)
        neutron = neutron_spectrum(kinds, temperature, instrument, top, LOW)
        share = float(neutron.columns["coherent"].sum() / max(neutron.columns["all"].sum(), 1e-300))
        if coherent:
            with_interference(neutron, crystal, isotopes, temperature)
        elif share > 0.2:
            notes.append(f"{100 * share:.0f} % of the intensity is coherent scattering, here without interference "
                         "between atoms; --coherent computes it for one phonon")
        numbers |= {"temperature_K": temperature, **neutron_numbers(neutron)}
    return PhononTables(crystal.bands(), modes, gamma, density_table(found, width), neutron,
                        numbers | {"notes": notes}, notes)


def with_interference(spectrum: NeutronSpectrum, crystal: HarmonicCrystal, isotopes: Mapping[str, str],
                      temperature: float) -> None:
    """Add the column coherent_one_phonon; ``all``, ``coherent`` and ``one_phonon`` take it for one_phonon_coherent."""
    c, names = spectrum.columns, crystal.names.tolist()
    b = np.array([scatterers.nucleus(isotopes.get(n, n)).neutron.b_c for n in names])
    rows = {name: iter(t) for name, t in spectrum.tensors.items()}
    tensors = np.array([next(rows[n]) for n in names])
    step = c["energy_meV"][1] - c["energy_meV"][0]
    grid = np.arange(round(spectrum.instrument.reach / step) + 1) * step
    seen = np.interp(c["energy_meV"], grid, coherent_one_phonon(crystal, b, tensors, temperature, spectrum.instrument,
                                                               grid))
    c["coherent_one_phonon"] = seen
    for name in ("all", "coherent", "one_phonon"):
        c[name] = c[name] + seen - c["one_phonon_coherent"]


def density_table(found: Mapping[str, Any], width: float) -> dict[str, np.ndarray]:
    """Columns of dos.csv. width : 1/cm, full width at half maximum."""
    energy = next(iter(found.values()))[2]
    grid = np.arange(len(energy) + int(3 * width * MEV_PER_CM / BIN)) * BIN
    columns = {"wavenumber_cm": grid / MEV_PER_CM, "energy_meV": grid}
    total = np.zeros_like(grid)
    for name, (count, _, _, g, _) in found.items():
        padded = np.concatenate([g, np.zeros(len(grid) - len(g))])
        seen = 3 * count * MEV_PER_CM * broadened(grid, padded, np.full_like(grid, width * MEV_PER_CM / FWHM))
        columns[f"{name}_modes_per_cm"] = seen
        total += seen
    columns["total_modes_per_cm"] = total
    return columns


def imaginary_notes(modes: LatticeModes) -> list[str]:
    """A warning where modes are imaginary."""
    found = modes.imaginary
    if not found:
        return []
    q, value = found[0]
    where = " ".join(f"{x:.3g}" for x in q)
    return [f"{len(found)} of {modes.wavenumber.size} modes of the mesh are imaginary, the worst {-value:.0f}i 1/cm at "
            f"q = ({where}); they are left out of densities and spectra. Relax the structure, or use a larger "
            "--supercell; if neither helps, the crystal is unstable in this model"]
