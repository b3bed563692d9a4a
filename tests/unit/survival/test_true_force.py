"""rxmdnn tfail relabel: force errors against an engine with a known answer; resumption; faults."""

import ase.io
import numpy as np
import pytest
from ase.calculators.lj import LennardJones as Engine

from rxmdnn import files
from rxmdnn.commands import tfail_relabel as tfail_relabel_command
from rxmdnn.errors import InputError
from rxmdnn.labelling import engines
from rxmdnn.survival import true_force
from tests.unit.survival.test_study import DECK, run, workplace


def engine():
    """The potential of the runs with a well that is 10 % deeper: every force differs by a tenth."""
    return Engine(sigma=1.2, epsilon=0.0104 * 1.1, rc=5.0, smooth=False)


@pytest.fixture
def frames(tmp_path, monkeypatch):
    run(workplace(tmp_path, DECK + "samples 20\n"))
    monkeypatch.setitem(engines.ENGINES, "gfn1", engines.Engine("test", "ase", "none", engine))
    return tmp_path / "out/failures.xyz"


def test_errors_are_those_of_the_engine(frames, capsys):
    tfail_relabel_command.main([str(frames), "--workers", "1"])
    folder = frames.parent / "relabel_gfn1"
    rows, given = true_force.read_rows(folder / "true_forces.csv"), ase.io.read(frames, ":")
    assert len(rows) == len(given) == len(ase.io.read(folder / "relabelled.xyz", ":"))
    for row, atoms in zip(rows, given):
        off = 0.1 * np.linalg.norm(atoms.arrays["model_forces"], axis=1)
        assert float(row["max_eV_A"]) == pytest.approx(off.max(), rel=1e-3, abs=2e-4)
        assert int(row["above_0.5"]) == pytest.approx((off > 0.5).sum(), abs=0)
        assert float(row["atom_ps"]) == pytest.approx(len(atoms) * atoms.info["time_fs"] / 1000)
        assert row["kind"] in ("sample", "before", "failure")
    assert "P(|dF| > x)" in capsys.readouterr().out and (folder / "true_forces.png").stat().st_size > 1000
    at, p, _ = true_force.binned(rows, 3)
    above = sum(int(r["above_0.1"]) for r in rows) / sum(int(r["atoms"]) for r in rows)
    assert (np.diff(at) > 0).all() and min(p[:, 0]) <= above <= max(p[:, 0])


def test_a_killed_job_goes_on(frames, monkeypatch):
    folder, count = frames.parent / "relabel_gfn1", []
    append = files.append

    def dying(path, text):
        if len(count) == 7:  # the frame is written, its row is not
            raise KeyboardInterrupt
        count.append(path)
        append(path, text)

    monkeypatch.setattr(files, "append", dying)
    with pytest.raises(KeyboardInterrupt):
        tfail_relabel_command.main([str(frames), "--workers", "1", "--most", "3"])
    monkeypatch.setattr(files, "append", append)
    assert len(true_force.read_rows(folder / "true_forces.csv")) == 3
    tfail_relabel_command.main([str(frames), "--workers", "1", "--most", "3"])
    rows = true_force.read_rows(folder / "true_forces.csv")
    assert len({(r["run"], r["step"], r["kind"]) for r in rows}) == len(rows) == 9
    assert [a.info["run"] for a in ase.io.read(folder / "relabelled.xyz", ":")] == [r["run"] for r in rows]


def test_frames_of_one_size(frames):
    tfail_relabel_command.main([str(frames), "--workers", "1", "--most", "2", "--atoms", "8"])
    assert {r["atoms"] for r in true_force.read_rows(frames.parent / "relabel_gfn1/true_forces.csv")} == {"8"}
    with pytest.raises(InputError, match="--atoms 6: no frame has this size; they have 4, 8"):
        tfail_relabel_command.main([str(frames), "--atoms", "6"])


def test_frames_that_no_engine_can_label_are_a_message(frames, tmp_path, monkeypatch):
    def broken():
        raise RuntimeError("no convergence")

    calculator = engine()
    monkeypatch.setattr(calculator, "calculate", lambda *a, **k: broken())
    monkeypatch.setitem(engines.ENGINES, "gfn1", engines.Engine("test", "ase", "none", lambda: calculator))
    with pytest.raises(InputError, match="test could label none of"):
        tfail_relabel_command.main([str(frames), "--workers", "1", "--most", "1"])
    other = tmp_path / "other.xyz"
    ase.io.write(other, ase.io.read(tmp_path / "argon.xyz"), format="extxyz")
    with pytest.raises(InputError, match="not frames of `rxmdnn tfail`, which name their run"):
        tfail_relabel_command.main([str(other)])


def test_frames_of_one_kind(frames):
    tfail_relabel_command.main([str(frames), "--workers", "1", "--kind", "sample", "--most", "2"])
    rows = true_force.read_rows(frames.parent / "relabel_gfn1/true_forces.csv")
    assert [r["kind"] for r in rows] == ["sample", "sample"]
    plain = frames.with_name("plain.xyz")
    ase.io.write(plain, [a for a in ase.io.read(frames, ":") if a.info["kind"] != "sample"])
    with pytest.raises(InputError, match="relabel: --kind sample: no such frame"):
        tfail_relabel_command.main([str(plain), "--kind", "sample"])
