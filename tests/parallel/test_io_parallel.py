"""Files across ranks: run it under mpirun -np 1, 2, 3, 4, 8; every rank runs every test."""

import tempfile
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.atoms import Atoms
from rxmdnn.cell import Cell
from rxmdnn.errors import InputError
from rxmdnn.files import write_at
from rxmdnn.io import h5md, ordered
from rxmdnn.io.checkpoint import read_checkpoint, write_checkpoint
from rxmdnn.io.frame import FRAME_WRITERS, Frame
from rxmdnn.io.h5md import H5MD
from rxmdnn.io.log import Log, read_energies
from rxmdnn.io.ordered import block, in_gid_order, send_rows, write_blocks
from rxmdnn.io.rxff import read_rxff, write_rxff
from rxmdnn.io.series import open_series
from rxmdnn.io.structure import start_from_file
from rxmdnn.io.xyz_trajectory import XYZTrajectory

COMM = MPI.COMM_WORLD
ELEMENTS, MASSES = ("H", "N"), (1.008, 14.007)
VIRIAL = np.array([[1.5, 0.25, 0.0], [0.25, -2.0, 0.125], [0.0, 0.125, 3.0]])
CELL = Cell.from_parameters(9.0, 10.0, 11.0, 80.0, 95.0, 100.0)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as made:
        yield Path(COMM.bcast(made))
        COMM.Barrier()


def whole(n, seed=7):
    """All atoms, the same on every rank: species, x, v, image, f."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(n ** (1 / 3)))
    corners = np.stack(np.meshgrid(*[np.arange(side)] * 3), axis=-1).reshape(-1, 3)
    s = (rng.permutation(corners)[:n] + 0.2 + 0.6 * rng.random((n, 3))) / side
    return SimpleNamespace(species=rng.integers(0, 2, n).astype(np.int32), x=CELL.cartesian(s),
                           v=rng.normal(0, 0.01, (n, 3)), image=rng.integers(-3, 3, (n, 3)).astype(np.int32),
                           f=rng.normal(0, 1, (n, 3)), q=rng.random((n, 2)))


def frame_of(all_atoms, step=12, comm=COMM, cell=CELL):
    """This rank's atoms: dealt at random, in random order, the last rank empty where there are several."""
    n = len(all_atoms.species)
    rng = np.random.default_rng(3)
    owner, order = rng.integers(0, max(comm.size - 1, 1), n), rng.permutation(n)
    gid = order[owner[order] == comm.rank]
    a = all_atoms
    atoms = Atoms.of(gid, a.species[gid], a.x[gid], a.v[gid], a.image[gid], a.f[gid])
    atoms.extra["q"] = a.q[gid]
    return Frame(comm, atoms, cell, n, ELEMENTS, MASSES, step, step * 0.5, -123.456, 4.5, 200.0,
                 np.diag([1.0, 2.0, 3.0]), virial=VIRIAL)


def gathered(start, *names):
    """Arrays of a Start over all ranks, in order of gid."""
    gid = np.concatenate(COMM.allgather(start.gid))
    order = np.argsort(gid)
    assert np.array_equal(gid[order], np.arange(start.n_global))
    return [np.concatenate(COMM.allgather(getattr(start, name)))[order] for name in names]


@pytest.mark.parametrize("n", [1, 2, 5, 1000])
def test_rows_come_in_gid_order(n):
    rng = np.random.default_rng(1)
    gid = rng.permutation(n)[rng.integers(0, COMM.size, n) == COMM.rank]
    x, twice = in_gid_order(COMM, n, gid, [gid * 1.5, np.stack([gid, gid], 1)])
    lo, hi = block(n, COMM.size, COMM.rank)
    assert np.array_equal(x, np.arange(lo, hi) * 1.5) and np.array_equal(twice[:, 1], np.arange(lo, hi))


def test_sent_rows_stand_in_source_order():
    (got,) = send_rows(COMM, np.arange(3 * COMM.size) % COMM.size, [np.arange(3 * COMM.size) + 100 * COMM.rank])
    mine = COMM.rank + COMM.size * np.arange(3)
    assert np.array_equal(got, np.concatenate([100 * r + mine for r in range(COMM.size)]))


@pytest.mark.parametrize("n", [1, 3, 500])
def test_xyz_is_read_atoms(folder, n):
    import ase.io
    a = whole(n)
    path = FRAME_WRITERS["isXYZ"](frame_of(a), folder)
    read = ase.io.read(path)
    assert path.name == "000000012.xyz" and read.get_chemical_symbols() == [ELEMENTS[s] for s in a.species]
    assert np.allclose(read.positions, a.x, atol=1e-8) and np.allclose(read.cell, CELL.h) and read.pbc.all()
    assert np.allclose(read.arrays["velo"], a.v, atol=1e-10)
    assert np.allclose(read.get_velocities() * ase.units.fs, a.v, rtol=1e-7, atol=1e-9)
    assert np.array_equal(read.get_masses(), np.array(MASSES)[a.species])
    assert np.array_equal(read.arrays["id"], np.arange(n))
    assert read.info["step"] == 12 and read.info["time"] == pytest.approx(6.0)
    # what the model says is no label of ASE's
    assert read.calc is None and read.info["model_energy"] == pytest.approx(-123.456)
    assert np.allclose(read.arrays["model_forces"], a.f, atol=1e-8)
    assert read.info["total_stress"].reshape(3, 3)[1, 1] == pytest.approx(2.0 / 160.2176634)
    assert np.allclose(read.info["model_virial"].reshape(3, 3), VIRIAL, rtol=1e-9)
    start = start_from_file(COMM, path, ELEMENTS)
    x, v = gathered(start, "x", "v")
    assert np.allclose(x, a.x, atol=1e-8) and np.allclose(v, a.v, atol=1e-10)


def test_pdb_is_read_atoms(folder):
    import ase.io
    a, cubic = whole(50), Cell.from_parameters(12.0, 12.0, 12.0, 90.0, 90.0, 90.0)
    a.x = np.abs(a.x) % 12
    read = ase.io.read(FRAME_WRITERS["isPDB"](frame_of(a, cell=cubic), folder))
    assert read.get_chemical_symbols() == [ELEMENTS[s] for s in a.species]
    assert np.allclose(read.positions, a.x, atol=6e-4) and np.allclose(read.cell, cubic.h)


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 1, 1), (2, 3, 1), (3, 1, 2)])
def test_rxff_from_any_grid_onto_any_rank_count(folder, grid):
    a = whole(301)
    write_rxff(COMM, folder / "rxff.bin", frame_of(a).atoms, CELL, 77, grid)
    start = read_rxff(COMM, folder / "rxff.bin", ELEMENTS)
    species, x, v = gathered(start, "species", "x", "v")
    assert start.step == 77 and start.n_global == 301 and np.array_equal(species, a.species)
    assert np.allclose(x, a.x, atol=1e-12) and np.allclose(v, a.v, atol=1e-15) and np.allclose(start.cell.h, CELL.h)
    raw = (folder / "rxff.bin").read_bytes()
    ranks = int(np.prod(grid))
    assert len(raw) == 4 * (5 + ranks) + 48 + 80 * 301
    local = np.frombuffer(raw, "<f8", offset=4 * (5 + ranks) + 48).reshape(-1, 10)[:, :3]
    assert (local >= 0).all() and (local < 1 / np.array(grid)).all()


def test_a_turned_cell_keeps_its_metric_in_rxff(folder):
    a, turn = whole(20), np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    frame = frame_of(a, cell=Cell(CELL.h @ turn))
    frame.atoms.x, frame.atoms.v = frame.atoms.x @ turn, frame.atoms.v @ turn
    write_rxff(COMM, folder / "rxff.bin", frame.atoms, frame.cell, 0)
    x, v = gathered(read_rxff(COMM, folder / "rxff.bin", ELEMENTS), "x", "v")
    assert np.allclose(x, a.x, atol=1e-11) and np.allclose(v, a.v, atol=1e-13)


STATE = {"xi": 0.1 + 0.2, "n": 2**60, "chain": np.array([1e-300, np.pi]), "words": {"a": [1, 2.5, None, True]}}


def test_checkpoint_continues_with_the_same_bits(folder):
    frame = frame_of(whole(333))
    write_checkpoint(frame, folder, STATE, "time 0.5 10\n")
    start = read_checkpoint(COMM, folder / "checkpoint.h5", ELEMENTS)
    atoms = start.atoms()
    assert start.exact and start.step == 12 and start.time == 6.0 and atoms.n_owned == frame.atoms.n_owned
    for name in ("gid", "species", "x", "v", "image", "f"):
        assert np.array_equal(getattr(atoms, name), getattr(frame.atoms, name)), name
    assert np.array_equal(atoms.extra["q"], frame.atoms.extra["q"]) and np.array_equal(start.cell.h, CELL.h)
    assert start.state["xi"] == STATE["xi"] and start.state["n"] == 2**60 and start.state["words"] == STATE["words"]
    assert np.array_equal(start.state["chain"], STATE["chain"])


@pytest.mark.parametrize("writers", [1, 2, 3])
def test_checkpoint_on_another_rank_count(folder, writers):
    if writers > COMM.size:
        pytest.skip(f"needs {writers} ranks")
    part = COMM.Split(0 if COMM.rank < writers else 1)
    a = whole(100)
    if COMM.rank < writers:
        write_checkpoint(frame_of(a, comm=part), folder)
    COMM.Barrier()
    start = read_checkpoint(COMM, folder / "checkpoint.h5", ("N", "H"))
    x, species, f = gathered(start, "x", "species", "f")
    assert start.exact == (writers == COMM.size)
    assert np.array_equal(x, a.x) and np.array_equal(species, 1 - a.species) and np.array_equal(f, a.f)
    part.Free()


def test_the_checkpoint_before_is_kept_and_a_failed_one_changes_nothing(folder, monkeypatch):
    a = whole(40)
    for step in (1, 2):
        write_checkpoint(frame_of(a, step), folder)
    assert read_checkpoint(COMM, folder / "checkpoint.prev.h5").step == 1
    import rxmdnn.io.checkpoint as module

    def full(comm, path, blocks):
        raise InputError(f"{path}: cannot be written: no space left on device")
    monkeypatch.setattr(module, "write_blocks", full)
    with pytest.raises(InputError, match="no space left"):
        write_checkpoint(frame_of(a, 3), folder)
    assert read_checkpoint(COMM, folder / "checkpoint.h5").step == 2
    COMM.Barrier()
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint.h5", "checkpoint.prev.h5"]


@pytest.mark.parametrize("harm", ["truncated", "flipped", "header", "elements", "text"])
def test_a_damaged_or_foreign_checkpoint_is_refused_by_every_rank(folder, harm):
    path = write_checkpoint(frame_of(whole(400)), folder)
    if COMM.rank == 0:
        raw = bytearray(path.read_bytes())
        with h5py.File(path) as file:
            at = file["x"].id.get_offset()
        if harm == "flipped":
            raw[at + 5] ^= 1
        elif harm == "header":
            raw[raw.find(b'"step": 12') + 8] ^= 1
        path.write_bytes(b"not HDF5" if harm == "text" else raw[:len(raw) // 2] if harm == "truncated" else raw)
    COMM.Barrier()
    said = {"truncated": "not a complete checkpoint", "text": "not a complete checkpoint",
            "flipped": r"atoms of rank \d+: damaged: wrong checksum", "header": "header: damaged: wrong checksum",
            "elements": "another system.*H N.*C O"}
    with pytest.raises(InputError, match=said[harm]):
        read_checkpoint(COMM, path, ("C", "O") if harm == "elements" else ELEMENTS)


@pytest.mark.parametrize("writers", [1, 2])
def test_ranks_that_write_for_their_neighbors_write_the_same_file(folder, writers, monkeypatch):
    every = write_checkpoint(frame_of(whole(300)), folder / "every").read_bytes()
    opened = []
    with monkeypatch.context() as patch:
        patch.setattr(ordered, "WRITERS", writers)
        patch.setattr(ordered, "write_at", lambda *a: (opened.append(COMM.rank), write_at(*a)))
        some = write_checkpoint(frame_of(whole(300)), folder / "some").read_bytes()
        assert some == every
        each = -(-COMM.size // writers)
        assert bool(opened) == (COMM.rank % each == 0)
        with pytest.raises(InputError, match=r"/dev/full: cannot be written"):
            write_blocks(COMM, "/dev/full", [(0, np.zeros(100))])


def test_a_full_disk_is_one_message_on_every_rank():
    with pytest.raises(InputError, match=r"/dev/full: cannot be written"):
        write_blocks(COMM, "/dev/full", [(0, np.zeros(100))])


@pytest.mark.parametrize(("n", "chunk"), [(1, 100), (30, 100), (500, 100), (601, 50)])
def test_h5md_is_read_by_mdanalysis_and_continues(folder, monkeypatch, n, chunk):
    monkeypatch.setattr(h5md, "CHUNK", chunk)
    path, a = folder / "trajectory.h5md", whole(n)
    out = H5MD(COMM, path)
    for step in (0, 10, 20, 30):
        a.x = CELL.cartesian(CELL.fractional(a.x) % 1.0)
        out.write(frame_of(a, step))
        a.x = a.x + 0.01
    again = H5MD(COMM, path, restart=20)
    b = whole(n, 8)
    again.write(frame_of(b, 25))
    if COMM.rank == 0:
        with h5py.File(path) as file:
            assert file["particles/all/position/step"][:].tolist() == [0, 10, 20, 25]
            assert np.allclose(file["particles/all/position/value"][3], b.x, atol=1e-12)
            assert np.array_equal(file["particles/all/image/value"][3], b.image)
            assert np.allclose(file["particles/all/force/value"][3] / 96.48533, b.f, rtol=1e-5)
            assert file["particles/all/id"][:].tolist() == list(range(n))
            energy = file["observables/total_energy/value"]
            assert energy.attrs["unit"] == "kJ mol-1" and np.allclose(energy[:] / 96.4853321, -123.456 + 4.5, rtol=1e-9)
        import MDAnalysis
        universe = MDAnalysis.Universe.empty(n, trajectory=False)
        universe.load_new(str(path))
        assert len(universe.trajectory) == 4
        frame = universe.trajectory[3]
        assert np.allclose(frame.positions, b.x, atol=1e-5) and frame.time == pytest.approx(0.0125)
        assert np.allclose(frame.velocities, b.v * 1000, atol=1e-3)
        assert np.allclose(frame.dimensions, CELL.parameters, atol=1e-4)
    COMM.Barrier()


@pytest.mark.parametrize("h", [CELL.h, -CELL.h[[1, 0, 2]], CELL.h * [1, 1, -1]])
def test_trajectories_are_the_same_on_any_rank_count(folder, h):
    a, cell = whole(101), Cell(h)
    for name, comm in (("all", COMM), ("alone", MPI.COMM_SELF)):
        (folder / name).mkdir(exist_ok=True)
        if comm is COMM or COMM.rank == 0:
            xyz, trajectory = XYZTrajectory(comm, folder / name / "t.xyz"), H5MD(comm, folder / name / "t.h5md")
            for step in (0, 4, 4, 8):
                xyz.write(frame_of(a, step, comm, cell))
                trajectory.write(frame_of(a, step, comm, cell))
            XYZTrajectory(comm, folder / name / "t.xyz", restart=5).write(frame_of(a, 6, comm, cell))
        COMM.Barrier()
    assert (folder / "all/t.xyz").read_bytes() == (folder / "alone/t.xyz").read_bytes()
    one, other = (open_series(folder / name / "t.h5md") for name in ("all", "alone"))
    assert open_series(folder / "all/t.xyz").step.tolist() == [0, 4, 6]
    for what in ("x", "v", "image"):
        assert np.array_equal(one.read(what, [0, 3]), other.read(what, [0, 3]))
    assert np.allclose(one.unwrapped([3])[0], a.x + a.image @ h, atol=1e-10)
    COMM.Barrier()


def test_an_unfinished_h5md_frame_is_dropped(folder):
    path, a = folder / "t.h5", whole(20)
    out = H5MD(COMM, path)
    for step in (0, 1):
        out.write(frame_of(a, step))
    frame = frame_of(a, 2)
    if COMM.rank == 0:
        out._grow(frame)  # killed here
    COMM.Barrier()
    H5MD(COMM, path, restart=5).write(frame_of(a, 6))
    with h5py.File(path, locking=False) as file:
        assert file["particles/all/position/step"][:].tolist() == [0, 1, 6]
    COMM.Barrier()


def thermo(step, total=-1.0):
    return SimpleNamespace(step=step, time=0.5 * step, total=total, kinetic=1.0, potential=total - 1.0,
                           temperature=300.0, pressure=0.1, stress=np.eye(3), spread=None, seconds=0.25,
                           volume=512.0, conserved=total, driven={})


def test_log_lines_and_restart(folder, capsys):
    log = Log(COMM, folder, "kcal")
    log.write("a header")
    for step in (0, 10, 20):
        log.thermo(thermo(step, -43.3641043e-3))
    log.close()
    out = capsys.readouterr().out
    again = Log(COMM, folder, restart=10)
    again.thermo(thermo(15))
    again.close()
    COMM.Barrier()
    columns = read_energies(folder)
    assert columns["step"].tolist() == [0, 10, 15] and columns["etotal_eV"][0] == -43.3641043e-3
    text = (folder / "run.log").read_text()
    assert "a header" in text and "Etotal(kcal/mol),KE(kcal/mol)" in text and "Etotal(eV)" in text
    if COMM.rank == 0:
        assert "MDstep,Etotal(kcal/mol),KE(kcal/mol),PE(kcal/mol),T(K),time(s):" in out and "-1.000000" in out
    else:
        assert out == ""


def test_the_log_shows_works_and_few_columns_of_a_driven_run(folder):
    driven = {"work_light_eV": 0.0433641043, "excited_atoms": 3.25, "Te_min_K": 77.0}
    log = Log(COMM, folder, "kcal", driven=list(driven), shown=["work_light_eV", "excited_atoms"])
    log.thermo(SimpleNamespace(**{**vars(thermo(0)), "driven": driven}))
    log.close()
    COMM.Barrier()
    assert (folder / "run.log").read_text().splitlines()[-1] == "work(kcal/mol):  light 1.000000  excited_atoms 3.25"
    assert read_energies(folder)["Te_min_K"].tolist() == [77.0]


def test_an_unwritable_folder_is_one_message(folder):
    if COMM.rank == 0:
        (folder / "file").write_text("in the way")
    COMM.Barrier()
    for attempt in (lambda: Log(COMM, folder / "file"), lambda: write_checkpoint(frame_of(whole(3)), folder / "file"),
                    lambda: FRAME_WRITERS["isXYZ"](frame_of(whole(3)), folder / "file")):
        with pytest.raises(InputError, match="cannot be written"):
            attempt()


def test_replicas_are_dealt_without_a_gather(folder):
    if COMM.rank == 0:
        (folder / "input.xyz").write_text('2 "two"\n4 5 6 90 90 90\nN 0.1 0.2 0.3\nH 0.5 0.5 0.5\n')
    COMM.Barrier()
    start = start_from_file(COMM, folder / "input.xyz", ELEMENTS, (2, 3, 4))
    x, species = gathered(start, "x", "species")
    assert start.n_global == 48 and abs(len(start.gid) - 48 / COMM.size) < 1
    assert np.allclose(start.cell.widths, (8, 15, 24))
    assert np.array_equal(species, np.tile([1, 0], 24)) and len(np.unique(np.round(x, 6), axis=0)) == 48
    assert np.allclose(x[0], (0.4, 1.0, 1.8)) and np.allclose(x[-1], (6, 12.5, 21))
