"""Spectra and structure do not depend on the rank count; `observe` sums up what the trajectory gives, over restarts."""


import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.analysis import observe
from rxmdnn.analysis import spectra as sp
from rxmdnn.analysis.displacements import Displacements
from rxmdnn.analysis.pump_probe import DelayAxis
from rxmdnn.analysis.pump_probe_experiment import Experiment, Options
from rxmdnn.analysis.pump_probe_frames import open_replicas
from rxmdnn.analysis.structure_averages import StructureAverages
from rxmdnn.commands.spectra import main as spectra
from rxmdnn.errors import InputError
from rxmdnn.io.series import open_series
from tests.runs import killed_at, run_text, shared_folder
from tests.systems import TRICLINIC, spread_atoms
from tests.trajectories import write

COMM = MPI.COMM_WORLD
DECK = """time 2.0 {steps}
temperature 60.0 1.0 100
io_step 0 20
structure start.xyz
checkpoint 25
h5md 2
observe vdos 2 200
observe gr 10 5.0
skin 0.3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with shared_folder(COMM, tmp_path_factory) as shared:
        go(shared, "whole", 250)
        yield shared


def go(folder, out, steps, *flags):
    return run_text(COMM, folder, out, DECK.format(steps=steps), *flags)[1]


def test_a_killed_run_sums_up_the_same_bits(folder, monkeypatch):
    with killed_at(monkeypatch, 117):
        go(folder, "killed", 250)
    go(folder, "killed", 250)
    with h5py.File(folder / "whole/observe.h5") as a, h5py.File(folder / "killed/observe.h5") as b:
        for name in ("vdos/power", "vdos/correlation", "vdos/buffer", "vdos/filled", "gr/frames"):
            assert np.array_equal(a[name][()], b[name][()]), name
        assert np.allclose(a["gr/sums"][:], b["gr/sums"][:], rtol=1e-12) and len(a["vdos/power"]) > 1


def test_observing_is_what_the_trajectory_gives(folder):
    series = open_series(folder / "whole")
    seen, step = observe.read_spectrum(folder / "whole/observe.h5")
    assert step == 2.0 and series.interval() == 4.0
    want = sp.measure(COMM, [series], seen.length, 4.0)
    assert want.kinds == seen.kinds and (want.count == seen.count).all() and len(want.power) == len(seen.power)
    assert np.allclose(want.power, seen.power, rtol=1e-4, atol=1e-7 * want.power.max())
    assert np.allclose(want.vacf[1], seen.vacf[1], atol=1e-4)
    if COMM.rank == 0:
        spectra([str(folder / "whole/observe.h5"), "-o", str(folder / "out")])
        assert (folder / "out/vdos.png").is_file()
        kinds, index, _ = sp.kinds_of(series.names, series.mass)
        found = StructureAverages.of(series, kinds, index, 5.0)
        series._keep(np.flatnonzero(series.step % 10 == 0))
        found.accumulate(MPI.COMM_SELF, [series], 10**6, True)
        with h5py.File(folder / "whole/observe.h5") as file:
            assert file["gr/frames"][()] == found.radial.frames == 26
            assert np.allclose(file["gr/sums"][:], found.radial.sums, rtol=1e-9, atol=1e-9)
    series.file.close()


def test_results_do_not_depend_on_the_rank_count(folder):
    series = open_series(folder / "whole")
    dt = series.interval()
    kinds, index, _ = sp.kinds_of(series.names, series.mass)
    both = []
    for comm in (COMM, MPI.COMM_SELF):
        found = StructureAverages.of(series, kinds, index, 5.0, 3.0, (1, 1, 1))
        found.accumulate(comm, [series], 11, True)
        moved = Displacements(comm, series, index, 2, dt)
        p = sp.measure(comm, [series], 30, dt)
        both.append([found.radial.sums, found.static.sums, found.bragg[0], moved.mean, moved.msd, moved.u_sq_time,
                     moved.diffusion, p.power, p.correlation])
    for x, y in zip(*both):
        assert np.allclose(x, y, rtol=1e-9, atol=1e-9 * np.abs(y).max())
    series.file.close()


def test_delays_do_not_depend_on_the_rank_count(folder):
    if COMM.rank == 0:
        shifts = 0.1 * np.random.default_rng(1).normal(size=(5, 20, 3))
        write(folder / "replica", ["Ar", "Ne"] * 10, np.array([39.95, 20.18] * 10),
              spread_atoms(TRICLINIC, 20, 2.0) + shifts, v=1e-2 * shifts, cell=TRICLINIC)
    COMM.Barrier()
    options = Options(cells=(1, 1, 1), hkl=["100,210"], planes=[["000", "200", "020"]], q_max=3.0, r_max=5.0, slabs=2)
    both = []
    for comm in (COMM, MPI.COMM_SELF):
        replicas = open_replicas([folder / "replica"] * 2)
        found = Experiment.of(replicas, options, DelayAxis.of(replicas[0].series.time, 1.5))
        found.measure(comm, replicas)
        both.append([a for m in (found.peaks.measured, found.planes["000_200_020"].measured, found.powder,
                                 found.displaced, found.temperatures) for a in m.arrays()])
    for x, y in zip(*both, strict=True):
        assert np.allclose(x, y, rtol=1e-12, atol=1e-12 * np.abs(y).max()) and np.abs(y).max() > 0


def test_messages(folder):
    def refused(words, *flags):
        with pytest.raises(InputError, match=words):
            go(folder, "whole", 250, *flags)

    refused("vdos is given before; keep one", "--observe", "vdos", "2", "--observe", "vdos", "4")
    refused("segments of .* frames 4 fs apart, the deck asks for", "--observe", "vdos", "2", "20")
    refused("another r_max; use the same line", "--observe", "gr", "10", "4")
    if COMM.rank == 0:
        with pytest.raises(InputError, match="analyze it alone, without --start"):
            spectra([str(folder / "whole/observe.h5"), "--resolution", "3"])


def test_directions_of_vibrations_do_not_depend_on_the_rank_count(folder):
    series = open_series(folder / "whole")
    seen = [sp.measure(comm, [series], 40, series.interval(), True, True).sites for comm in (COMM, MPI.COMM_SELF)]
    assert seen[0].keys() == seen[1].keys() and seen[0]
    for k, sites in seen[0].items():
        assert np.allclose(sites.shape, seen[1][k].shape, rtol=1e-6, atol=1e-9)
