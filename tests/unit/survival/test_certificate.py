"""rxmdnn tfail certify: exact bounds, coverage of the truth in simulated studies, range, faults, model files."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.tfail_certify import main
from rxmdnn.dynamics.simulation import Schedule
from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.run.outputs import Outputs
from rxmdnn.survival import certificate, results, stored
from rxmdnn.survival.certificate import bound, certify, exposures
from rxmdnn.survival.statistics import FailureTimes
from tests.unit.survival.test_report import write_study

STUDIES = 1000


def study_of(life, cap, n, temperature, check=0.0):
    """Runs of one model with given times to failure (fs); a failure is found at the next check."""
    r = len(life)
    end = np.minimum(life, cap)
    failed = life < cap
    lower = np.floor(end / check) * check if check else end
    return FailureTimes(np.full(r, "a"), np.full(r, "m"), np.ones(r, int), np.broadcast_to(n, r) * 1.0,
                        np.broadcast_to(temperature, r) * 1.0, lower, np.where(failed, lower + check, np.inf))


def test_exact_bounds():
    """Without failures -ln α/X; with d failures the probability of at most d events of a Poisson law is α."""
    assert bound(0, 2.0, 0.05) == pytest.approx(-np.log(0.05) / 2)
    mean = bound(3, 1.0, 0.05)
    assert sum(np.exp(-mean) * mean**k / f for k, f in ((0, 1), (1, 1), (2, 2), (3, 6))) == pytest.approx(0.05)
    quiet = study_of(np.full(40, 1e9), 1e4, 100, 300.0)  # 40 runs of 10 ps
    got = certify(quiet, 100, 1e4, 300.0)
    assert got.lower == pytest.approx(0.05 ** (1 / 40)) and got.exposure == pytest.approx(40) and got.estimate == 1
    assert certify(quiet, 400, 5e3, 300.0).exposure == pytest.approx(20)  # atoms times time
    assert certify(quiet, 50, 1e4, 300.0).exposure == pytest.approx(40)  # a smaller run may fail as often
    assert certify(quiet, 100, 1e4, 300.0, confidence=0.5).lower == pytest.approx(0.5 ** (1 / 40))
    assert any("a bound of 0.95 needs an exposure of 58.4" in line for line in got.text())
    assert any("not tested" in line for line in got.text())


@pytest.mark.parametrize("mean", [0.02, 0.5, 2.996, 3.1, 12.0])
def test_the_bound_covers_the_truth(mean):
    """Memoryless, 1,000 studies of 20 runs of several sizes that expect this number of failures."""
    rng = np.random.default_rng(5)
    n, cap = np.tile([64.0, 128.0, 256.0, 512.0], 5), np.tile([1.0, 0.5, 2.0, 1.5, 1.0], 4)
    hazard = mean / (cap * n).sum()  # per atom
    life = rng.exponential(size=(STUDIES, 20)) / (hazard * n)
    end = np.minimum(life, cap)
    x = exposures(n, end, np.full(20, 300.0), (512.0, 1.0, 300.0)).sum(axis=1)
    failures = (life < cap).sum(axis=1)
    assert (bound(failures, x, 0.05) >= 512 * hazard).mean() >= 0.95
    assert mean > 1 or (failures == 0).mean() > 0.5  # studies without failures are among them


def covering(lives, cap, n, temperature, run, hazard, **more):
    """Share of studies whose certificate covers the truth, and the certificates."""
    found = [certify(study_of(life, cap, n, temperature, check=1.0), *run, **more) for life in lives]
    return np.mean([c.lower <= np.exp(-hazard) for c in found]), found


@pytest.mark.parametrize("k", [0.7, 1.0, 2.0])
@pytest.mark.parametrize("ratio", [0.1, 5.0])
def test_any_shape_is_covered(k, ratio):
    """A run shorter or longer than those of the study, where the hazard falls, stays or grows with time."""
    rng = np.random.default_rng(3)
    lives = 4000.0 * rng.exponential(size=(STUDIES // 5, 60)) ** (1 / k)
    share, found = covering(lives, 3000.0, 64, 500.0, (64, 4000 * ratio, 500.0), ratio**k)
    assert share >= 0.95 and all(c.conservative and c.power <= 1 for c in found)
    if k != 1 and (k > 1) == (ratio > 1):  # the memoryless estimate is too high
        assert np.mean([c.estimate > np.exp(-(ratio**k)) for c in found]) > 0.8


def test_the_memoryless_form_where_asked_for():
    rng = np.random.default_rng(3)
    run = (64, 2e4, 500.0)
    for k, said in ((1.0, "not contradicted by the shape"), (4.0, " contradicted by the shape")):
        times = study_of(4000.0 * rng.exponential(size=60) ** (1 / k), 3900.0, 64, 500.0, 1.0)
        found = certify(times, *run, memoryless=True)
        assert found.conservative == (k == 4.0) and any(said in line for line in found.text())
        assert found.lower >= certify(times, *run).lower


def test_a_ladder_covers_the_truth():
    """1,000 studies of 900 to 1200 K with a slope of 6000 K; the run at 800 K, three times as large."""
    rng = np.random.default_rng(4)
    t = np.repeat([900.0, 1000.0, 1100.0, 1200.0], 12)
    lives = 2000.0 * np.exp(6000 * (1 / t - 1 / 1100)) * rng.exponential(size=(STUDIES, 48))
    hazard = 3 * 2000 / (2000 * np.exp(6000 * (1 / 800 - 1 / 1100)))
    share, found = covering(lives, 4000.0, 128, t, (384, 2000.0, 800.0), hazard)
    assert share >= 0.95 and {c.method for c in found} == {"ladder"}
    assert np.mean([c.slope.low < 6000 < c.slope.high for c in found]) >= 0.95
    assert np.mean([c.lower > 0.02 for c in found]) > 0.5, np.exp(-hazard)  # bounds that say something
    c = found[0]
    assert (c.coldest, c.hottest) == (pytest.approx(0.99 * 800), pytest.approx(1.01 * 800))


def test_range():
    ladder = study_of(np.tile([100.0, 200.0, 400.0], 8), 1e3, 64, np.tile([1200.0, 1100.0, 1000.0], 8), 1.0)
    certify(ladder, 64, 100.0, 860.0)
    for run, text in (((64, 100.0, 840.0), "outside the range of the ladder, 857.1 to 1200 K"),
                      ((64, 100.0, 1300.0), "outside the range of the ladder"),
                      ((65000, 100.0, 1000.0), "more than 1000 times the largest system"),
                      ((64, 1e6, 1000.0), "more than 100 times the longest run")):
        with pytest.raises(InputError, match=text):
            certify(ladder, *run)
    quiet = study_of(np.full(40, 1e9), 1e4, 100, 300.0)
    with pytest.raises(InputError, match="needs 5 failures, at two temperatures or more; the study has 0; run hotter, "
                                         "or certify one of 300 K"):
        certify(quiet, 100, 1e4, 250.0)
    with pytest.raises(InputError, match="no run at 250 K; the study has 300 K"):
        certify(quiet, 100, 1e4, 250.0, method="direct")


def a_run(model, steps, n, ramp=(300.0, 300.0), dt=1.0, drives=()):
    """What the log of a run says of the certificate of its model."""
    schedule = Schedule(dt, steps, 1, ramp, 1.0, 0, 0, 1)
    return Outputs.forecast(SimpleNamespace(
        run=SimpleNamespace(models=[SimpleNamespace(parameters={"file": model})]), comm=MPI.COMM_SELF,
        simulation=SimpleNamespace(schedule=schedule, step=0, n_global=n, ensemble=None, drives=drives)))


def test_command_and_model_file(tmp_path, capsys):
    from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
    from rxmdnn.models.model_file import load_model, save_model

    model, folder = tmp_path / "m.safetensors", tmp_path / "s"
    network = AllegroNetwork(AllegroConfig(("N", "H"), 4.0, n_scalar=8, n_tensor=4, average_neighbors=10.0))
    save_model(model, network, {"remark": "Å, ρ"})
    before = sha256_of(model)
    write_study(folder, study_of(np.full(40, 1e9), 1e4, 100, 300.0, 25.0))
    asked = [str(folder), "--atoms", "200", "--ps", "5", "--temperature", "300"]
    main([*asked, "--json", str(tmp_path / "c.json")])
    said = capsys.readouterr().out
    assert f"at least {0.05 ** (1 / 40):.3g} (95 % confidence)" in said and "from 40 runs with 0 failures" in said
    assert json.loads((tmp_path / "c.json").read_text())["lower"] == pytest.approx(0.05 ** (1 / 40))
    with pytest.raises(InputError, match=r"study.json: needed to store a certificate"):
        main([*asked, "--store", str(model)])
    (folder / results.STUDY).write_text(json.dumps({"deck": {}, "models": {"m": "another"}}))
    with pytest.raises(InputError, match="not the file that the study ran as model m"):
        main([*asked, "--store", str(model)])
    assert sha256_of(model) == before
    (folder / results.STUDY).write_text(json.dumps({"deck": {}, "models": {"m": before}}))
    assert a_run(model, 1000, 200) == []
    for _ in range(2):  # again, over the certificate that is there
        main([*asked, "--store", str(model)])
        assert stored.digest(model) == before != sha256_of(model)
    assert certificate.read(model).lower == pytest.approx(0.05 ** (1 / 40))
    first, second = a_run(model, 5000, 200)
    assert f"completing 5 ps of 200 atoms without failure: at least {0.05 ** (1 / 40):.3g}" in first
    assert "from 40 runs (0 failures by failed, direct) with dt 1 fs" in second
    assert f"at least {0.05 ** (1 / 80):.3g}" in a_run(model, 2500, 200)[0]
    assert f"at least {0.05 ** (1 / 40):.3g}" in a_run(model, 2500, 400)[0]
    for text, lines in (("200 atoms for 6 ps exceed 200 atoms for 5 ps", a_run(model, 6000, 200)),
                        ("2000 atoms for 1 ps exceed", a_run(model, 1000, 2000)),
                        ("300 to 350 K is outside 297 to 303 K", a_run(model, 1000, 200, (300.0, 350.0))),
                        ("no target temperature", a_run(model, 1000, 200, (0.0, 0.0))),
                        ("dt 2 fs is longer than 1 fs", a_run(model, 1000, 200, dt=2.0)),
                        ("nothing acts from outside", a_run(model, 1000, 200, drives=[1]))):
        assert len(lines) == 1 and text in lines[0] and lines[0].startswith("certificate  : none for this run: ")
    old, new = network.state_dict(), load_model(model).state_dict()
    assert all((old[k] == new[k]).all() for k in old)
    stored.put(model, stored.CERTIFICATE, "{}")
    assert a_run(model, 1000, 200) == ["certificate  : the certificate in the model file is not valid; store it again"]


def test_faults(tmp_path):
    folder = tmp_path / "s"
    write_study(folder, study_of(np.full(4, 1e9), 1e4, 100, 300.0, 25.0))
    asked = ["--atoms", "200", "--ps", "5", "--temperature", "300"]
    with pytest.raises(InputError, match="--ps: must be positive"):
        main([str(folder), "--atoms", "200", "--ps", "-5", "--temperature", "300"])
    with pytest.raises(InputError, match=r"--confidence: must be at least 0.5 and less than 1"):
        main([str(folder), *asked, "--confidence", "1"])
    with pytest.raises(InputError, match="no runs of model b; it has m"):
        main([str(folder), *asked, "--model", "b"])
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        main([str(tmp_path / "nowhere"), *asked])
