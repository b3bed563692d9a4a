"""Dynamic structure factor S(q, ω) by `dynasor`, fed from any trajectory this package reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from mpi4py import MPI

from rxmdnn.analysis.diffraction import wave_vectors
from rxmdnn.errors import InputError
from rxmdnn.io.ordered import block
from rxmdnn.io.series import Series
from rxmdnn.parallel import together


class Feed:
    """A Series as `dynasor` meets a trajectory: frames of positions, one at a time."""

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
                      q_max: float, window: int, a_shell: int = 12) -> dict[str, np.ndarray]:
    """S(q, ω) of a trajectory in a constant cell; wave vectors are shared out among the ranks.

    Parameters
    ----------
    dt : fs between frames; q_max : 1/Å; window : frames of the longest time difference

    Returns
    -------
    q (shells,) 1/Å; energy (m,) meV; time (m,) fs; and of each pair of kinds S_A_B (shells, m) fs, F_A_B (shells, m),
    in dynasor's norm (a particle of all; pairs of unlike kinds count twice).

    Raises InputError without dynasor, and where the cell changes.
    """
    with together(comm):
        try:
            import dynasor
        except ImportError:
            raise InputError("structure: --dynamic needs the package dynasor: pip install 'rxmdnn[analysis]'") from None
        first, last = series.cell(0), series.cell(len(series.time) - 1)
        if not np.allclose(first.h, last.h):
            raise InputError(f"{series.path}: --dynamic needs a constant cell, and this one changes; run at constant "
                             "volume")
        hkl, q = wave_vectors(first, q_max, a_shell)
        if not len(q):
            raise InputError(f"structure: no wave vector of this cell is below --qmax {q_max:g} 1/Å")
        mine = slice(*block(len(q), comm.size, comm.rank))
        vectors = hkl[mine] @ (2 * np.pi * first.inverse.T)
        out: dict[str, np.ndarray] = {}
        if len(vectors):
            dynasor.logging_tools.set_logging_level("ERROR")
            sample = dynasor.compute_dynamic_structure_factors(
                Feed(series, kinds, index), vectors, dt, window, window_step=max(1, window // 4))  # type: ignore[arg-type]
            out = {"time": sample.time, "energy": sample.omega * 658.2119569}
            for name in sample.available_correlation_functions:
                out[name] = sample[name]
    parts = comm.allgather(out)
    whole = next(p for p in parts if p)
    shell = np.unique((q / 0.1).astype(int), return_inverse=True)[1]
    n = np.bincount(shell)
    result = {"q": np.bincount(shell, q) / n, "time": whole["time"], "energy": whole["energy"]}
    for name in whole:
        if name[:3] in ("Sqw", "Fqt"):
            rows = np.concatenate([p[name] for p in parts if p])
            result[name.replace("qw_coh", "").replace("qt_coh", "")] = np.array(
                [rows[shell == k].mean(axis=0) for k in range(len(n))])
    return result
