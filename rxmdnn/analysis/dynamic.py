"""Dynamic structure factor S(q, ω), computed by `dynasor` from any trajectory that this package reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
from mpi4py import MPI

from rxmdnn.analysis.diffraction import wave_vectors
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series
from rxmdnn.parallel import together
from rxmdnn.units import HBAR


class Feed:
    """A Series with the interface of a trajectory in `dynasor`: frames of positions, one at a time."""

    has_positions, has_velocities, has_forces, frame_step = True, False, False, 1

    def __init__(self, series: Series, kinds: tuple[str, ...], index: np.ndarray) -> None:
        self.series, self.n_atoms = series, len(series.names)
        self.atomic_indices = {k: np.flatnonzero(index == i) for i, k in enumerate(kinds)}
        self.atom_types = list(kinds)
        self.cell = series.cell(0).h
        self.number_of_frames_read = 0

    def __iter__(self) -> Iterator[Any]:
        from dynasor.trajectory.trajectory_frame import TrajectoryFrame

        for k in range(len(self.series.time)):
            self.number_of_frames_read += 1
            yield TrajectoryFrame(self.atomic_indices, k, self.series.read("x", [k])[0].astype(float))


def dynamic_structure(comm: MPI.Comm, series: Series, kinds: tuple[str, ...], index: np.ndarray, dt: float,
                      q_max: float, window: int, per_shell: int = 12) -> dict[str, np.ndarray]:
    """S(q, ω) of a trajectory in a constant cell; wave vectors are divided among the ranks.

    Parameters
    ----------
    dt : fs between frames; q_max : 1/Å; window : frames of the longest time difference

    Returns
    -------
    q (shells,) 1/Å; energy (m,) meV; time (m,) fs; and for all atoms, and for each pair of kinds A_B:
    F, F_A_B (shells, m): in the normalization of dynasor (per atom of all kinds; unlike pairs count twice)
    elastic, elastic_A_B (shells,): mean of F over the later half of the times
    S, S_A_B (shells, m) fs: 2 ∫ (F - elastic) cos(ωt) dt under half a Hann window

    Raises InputError without dynasor, for a cell that changes, and without wave vectors below q_max.
    """
    with together(comm):
        try:
            import dynasor
        except ImportError:
            raise InputError("structure: --dynamic needs the package dynasor: pip install 'rxmdnn[analysis]'") from None
        first, last = series.cell(0), series.cell(len(series.time) - 1)
        if not np.allclose(first.h, last.h):
            raise InputError(f"{series.path}: --dynamic needs a constant cell, but the cell changes; run at constant "
                             "volume")
        hkl, q = wave_vectors(first, q_max, per_shell)
        if not len(q):
            raise InputError(f"structure: no wave vector of this cell is below --qmax {q_max:g} 1/Å")
        mine = slice(*block(len(q), comm.size, comm.rank))
        vectors = hkl[mine] @ (2 * np.pi * first.inverse.T)
        out: dict[str, np.ndarray] = {}
        if len(vectors):
            dynasor.logging_tools.set_logging_level("ERROR")
            sample = dynasor.compute_dynamic_structure_factors(
                Feed(series, kinds, index), vectors, dt, window, window_step=max(1, window // 4))  # type: ignore[arg-type]
            out = {"time": sample.time} | {k: sample[k] for k in sample.available_correlation_functions if k[0] == "F"}
    parts = comm.allgather(out)
    first_part = next(p for p in parts if p)
    shell = np.unique((q / 0.1).astype(int), return_inverse=True)[1]
    n = np.bincount(shell)
    time = first_part["time"]
    energy = np.arange(len(time)) * np.pi * 1000 * HBAR / time[-1]
    result = {"q": np.bincount(shell, q) / n, "time": time, "energy": energy}
    window_of = 0.5 + 0.5 * np.cos(np.pi * time / time[-1])
    for name in (k for k in first_part if k != "time"):
        rows = np.concatenate([p[name] for p in parts if p])
        f = np.array([rows[shell == k].mean(axis=0) for k in range(len(n))])
        pair = name.removeprefix("Fqt_coh")
        elastic = f[:, len(time) // 2:].mean(axis=1)
        s = scipy.fft.dct((f - elastic[:, None]) * window_of, type=1, axis=1) * (time[1] - time[0])
        result |= {f"F{pair}": f, f"elastic{pair}": elastic, f"S{pair}": s}
    return result
