"""Further output of a ring-polymer run: ring_polymer.csv, its averages at the end, and one trajectory per bead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.io.frame import Frame
from rxmdnn.io.h5md import H5MD
from rxmdnn.ring_polymer.ensemble import RingPolymer
from rxmdnn.ring_polymer.estimators import estimate, heat_capacity, jackknife, mean_and_error
from rxmdnn.ring_polymer.forces import F, U, V
from rxmdnn.ring_polymer.series import SETTLING, RingSeries
from rxmdnn.units import KB

NAME = "ring_polymer.csv"
CONJUGATE = "potential_thermodynamic_eV"  # of Suzuki-Chin rings
UNITS = {"kinetic_virial_eV": "eV", "kinetic_primitive_eV": "eV", "potential_eV": "eV", "pressure_GPa": "GPa",
         "ring_temperature_K": "K"}


class RingLog:
    """Estimators of every log line, in <folder>/ring_polymer.csv; rank 0 writes, every rank calls.

    Parameters
    ----------
    comm, folder
    ring : RingPolymer
    elements : tuple of str
    write : writes lines of text to the log
    restart : step from which a run continues: later rows are dropped; None: a new file
    """

    def __init__(self, comm: MPI.Comm, folder: Path, ring: RingPolymer, elements: tuple[str, ...],
                 write: Callable[..., None], restart: int | None) -> None:
        self.ring, self.elements, self.tell = ring, elements, write
        self.more = (CONJUGATE,) if getattr(ring.motion.forces, "fourth", None) is not None else ()
        of_each = (("kinetic_virial", "eV_per_atom"), ("kinetic_primitive", "eV_per_atom"), ("gyration", "A"))
        self.series = RingSeries(comm, folder / NAME, (*UNITS, *self.more, *(
            f"{name}_{e}_{unit}" for e in elements for name, unit in of_each)), restart)

    def write(self, thermo: Any) -> None:
        """Write a row and a line of the log. thermo : has step and time (fs)."""
        e = estimate(self.ring)
        count = np.maximum(e.count, 1)
        row = [float(e.virial.sum()), float(e.primitive.sum()), e.potential, e.pressure, e.temperature,
               *([e.conjugate] if self.more else [])]
        for k in range(len(self.elements)):
            row += [e.virial[k] / count[k], e.primitive[k] / count[k], e.gyration[k]]
        self.series.add(thermo.step, thermo.time, row)
        sizes = " ".join(f"{x:.4f} {name}" for name, x in zip(self.elements, e.gyration, strict=True))
        self.tell(f"ring polymer: kinetic(eV): {row[0]:16.6f} virial {row[1]:16.6f} primitive  potential(eV): "
                  f"{e.potential:18.6f}  gyration(A): {sizes}")

    def averages(self, first: int) -> None:
        """Write to the log the means, with errors, over the rows from step ``first`` on, without the first SETTLING."""
        self.tell(*self.series.summarized(first, self._averages), "ring polymer: skin of the last neighbor list, "
                  f"widened for the beads: {self.ring.motion.forces.neighbors.skin:.2f} A")

    def _averages(self, series: dict[str, np.ndarray]) -> list[str]:
        step = series["step"]
        series["energy_eV"] = series["kinetic_virial_eV"] + series["potential_eV"]
        lines = [f"ring polymer: averages of {len(step)} rows, steps {step[0]:.0f} to {step[-1]:.0f} "
                 f"(the first {100 * SETTLING:.0f} % left out), errors by blocking:"]
        for name, x in series.items():
            if name not in ("step", "time_fs") and np.isfinite(x).all():
                mean, error = mean_and_error(x)
                lines.append(f"    {name:<40s} {mean:16.8g} +- {error:.2g}")
        n, t = self.ring.motion.kinetics.n_global, self.ring.temperature
        energies = [series["kinetic_primitive_eV"] + series[self.more[0] if self.more else "potential_eV"],
                    series["energy_eV"]]
        if self.ring.centroid.barostat is None and self.ring.centroid.thermostatted:
            value, error = jackknife(lambda a, b: heat_capacity(a, b, n, t) / (n * KB), *energies)
            lines.append(f"    {'heat_capacity_k_B_per_atom':<40s} {value:16.8g} +- {error:.2g}")
        return lines


class BeadTrajectories:
    """<folder>/bead_%d.h5md, one H5MD file per bead, with its forces; PACMD velocities are not physical."""

    def __init__(self, comm: MPI.Comm, folder: Path, ring: RingPolymer, restart: int | None) -> None:
        p = ring.modes.beads
        self.ring = ring
        self.files = [H5MD(comm, folder / f"bead_{j:0{len(str(p - 1))}d}.h5md", restart) for j in range(p)]

    def write(self, frame: Frame) -> None:
        """Write a frame of every bead. frame : of the centroids."""
        centroid = frame.atoms
        n = centroid.n_owned
        around = [np.matmul(self.ring.modes.to_beads[:, 1:], centroid.extra[name]) for name in (U, V, F)]
        for j, file in enumerate(self.files):
            x, v, f = (a[:n] + b[:, j] for a, b in zip((centroid.x, centroid.v, centroid.f), around, strict=True))
            bead = Atoms.of(centroid.gid[:n], centroid.species[:n], x, v, centroid.image, f)
            file.write(replace(frame, atoms=bead, motion=frame.motion | {"positions": f"bead {j}"}))
