"""rxmdnn tfail report and forecast: tables of a synthetic study, faults, a fit in a model file."""

import io
import json
from contextlib import redirect_stdout
from types import SimpleNamespace

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.tfail_forecast import main as forecast_main
from rxmdnn.commands.tfail_report import main as report_main
from rxmdnn.deck.tfail import WATCHED
from rxmdnn.dynamics.simulation import Schedule
from rxmdnn.errors import InputError
from rxmdnn.files import append
from rxmdnn.run.outputs import Outputs
from rxmdnn.survival import forecast, results
from rxmdnn.survival import report as tfail_report
from tests.unit.survival.test_statistics import synthetic

REPORT = ["report.json", "cells.csv", "models.csv", "km.png", "scaling.png", "exponents.png", "goodness.png"]


def write_study(folder, times, cap=25e3):
    """results.csv of given times; checks every 25 steps of 1 fs."""
    folder.mkdir()
    rows = []
    for k in range(len(times)):
        at = int(times.upper[k]) if times.failed[k] else -1
        end = int(times.time[k])
        rows.append([f"run{k}", times.model[k], times.arm[k], times.seed[k], int(times.n[k]),
                     float(times.temperature[k]), k, 1.0, 25, int(cap), end, float(end), int(times.failed[k]),
                     "bond" if times.failed[k] else "", at, 0, 1.0, 1.0,
                     *(at if w == "bond" else -1 for w in WATCHED)])
    append(folder / results.CSV, results.line(list(results.COLUMNS)) + "".join(map(results.line, rows)))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "s"
    times = synthetic({"adam": -0.29, "sam": -0.14}, cap=25e3, seeds=5, replicas=20, seed=7)
    times = times[np.isin(times.n, (32, 512))]
    write_study(folder, times)
    return folder, times


def test_rows_give_back_the_lives(study):
    folder, times = study
    for by in ("failed", "bond"):
        read = results.failure_times(results.read(folder), by)
        assert (read.lower == times.lower).all() and (read.upper == times.upper).all() and (read.n == times.n).all()
    assert not results.failure_times(results.read(folder), "published").failed.any()


@pytest.fixture(scope="module")
def reported(study, tmp_path_factory):
    """The report of the study, with sharpness and other properties of its models; the printed text."""
    folder, times = study
    tmp_path = tmp_path_factory.mktemp("report")
    sharp, table = [], tmp_path / "p.csv"
    names = np.unique(times.model)
    mean = {m: times.time[times.model == m].mean() for m in names}
    for m in names:
        sharp.append(tmp_path / f"{m}.json")
        sharp[-1].write_text(json.dumps({"model": f"x/{m}.safetensors", "parameters": 10, "norm": 2.0, "noise": {
            "mean": 1e6 / mean[m]}, "hessian": {"largest": [{"value": mean[m]}], "trace": {"mean": 1.0}}}))
    table.write_text("model,odd\n" + "".join(f"{m},{k % 2}\n" for k, m in enumerate(names)))
    said = io.StringIO()
    with redirect_stdout(said):
        report_main([str(folder), "--resamples", "60", "--out", str(tmp_path / "r"), "--sharpness",
                           *map(str, sharp), "--properties", str(table)])
    return tmp_path / "r", said.getvalue()


def test_the_report(study, reported):
    _, times = study
    folder, out = reported
    assert "censored" in out and "naive exponents" in out and "sam against adam: ratio of times to failure" in out
    for name in [*REPORT, "correlation.png"]:
        assert (folder / name).stat().st_size > 200, name
    report = json.loads((folder / "report.json").read_text())
    for arm, b in (("adam", -0.29), ("sam", -0.14)):
        _, low, high = report["quantities"][arm]["b"]
        assert low < b < high and abs(report["arms"][arm]["naive_b"]) < 0.75 * abs(b)
        assert report["arms"][arm]["models_apart"] and report["arms"][arm]["seeds"] == 5
    assert sum(c["failures"] for c in report["cells"]) == report["failures"] == int(times.failed.sum())
    found = {c["property"]: c["pearson"] for c in report["correlations"]}
    assert found["lambda_max"] > 0.8 and found["noise_rise"] < -0.8 and abs(found["odd"]) < 0.8
    assert any("parameters" in n for n in report["notes"])  # all alike: no correlation

    given = report["fits"]["adam"]
    for n, t, ps in ((64, 500.0, 5.0), (512, 600.0, 20.0)):
        p, low, high = forecast.probability(given, n, 1000 * ps, t)
        truth = np.mean([np.exp(-((1000 * ps / (3e4 * np.exp(e - 0.29 * np.log(n / 128) + 3000 * (1 / t - 1 / 550)))
                                   ) ** 1.3)) for e in 0.3 * np.random.default_rng(7).normal(size=5)])
        assert low < truth < high and low < p < high
    assert "extrapolated" in forecast.outside(given, 4096, 550.0)[0] and not forecast.outside(given, 128, 550.0)


def test_a_partial_correlation_takes_off_what_both_have_from_a_third():
    given, own, other = np.random.default_rng(2).normal(size=(3, 4000))
    x, y = given + own, given + other
    assert np.corrcoef(x, y)[0, 1] == pytest.approx(0.5, abs=0.03)
    r, low, high = tfail_report.partial_correlation(x, y, given)
    assert low < 0.0 < high and high - low == pytest.approx(2 * 1.96 / np.sqrt(4000 - 4), rel=1e-3)
    a, b, c = (np.corrcoef(*pair)[0, 1] for pair in ((x, y - x), (x, given), (y - x, given)))
    r, *_ = tfail_report.partial_correlation(x, y - x, given)
    assert r == pytest.approx((a - b * c) / np.sqrt((1 - b**2) * (1 - c**2)), rel=1e-9)


def test_arms_apart_are_in_the_correlations_alone(study, tmp_path, capsys):
    folder, times = study
    errors = []
    for k, m in enumerate(np.unique(times.model)):
        errors.append(tmp_path / f"{m}.json")
        errors[-1].write_text(json.dumps({"model": f"{m}.safetensors", "weights": 10 + (times.arm[times.model == m][0]
                                          == "sam"), "test": {"all": {"force_mae": 0.1 + 0.01 * k}}}))
    report_main([str(folder), "--resamples", "20", "--out", str(tmp_path / "r"), "--evaluate", *map(str, errors),
                       "--apart", "sam"])
    report = json.loads((tmp_path / "r/report.json").read_text())
    assert list(report["arms"]) == ["adam"] and {c["arm"] for c in report["cells"]} == {"adam"}
    assert "against" not in capsys.readouterr().out and report["runs"] == (times.arm == "adam").sum()
    assert {m["arm"] for m in report["models"]} == {"adam", "sam"}
    assert {c["property"]: c["models"] for c in report["correlations"]} == {"force_mae": 10, "parameters": 10}
    assert {c["property"] for c in report["correlations"] if "partial" in c} == {"parameters"}
    table = (tmp_path / "r/quantities.csv").read_text().splitlines()
    assert table[0] == "of,quantity,estimate,low,high" and table[1].startswith("adam,ln_life,")
    for arms, text in ((["sam", "adam"], "there is no other arm than sam, adam"), (["sma"], "there is no arm sma")):
        with pytest.raises(InputError, match=text):
            report_main([str(folder), "--apart", *arms])


def test_a_model_file_carries_the_fit(reported, tmp_path, capsys):
    from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
    from rxmdnn.models.model_file import load_model, read_metadata, save_model

    folder, _ = reported
    model = tmp_path / "m.safetensors"
    network = AllegroNetwork(AllegroConfig(("N", "H"), 4.0, n_scalar=8, n_tensor=4, average_neighbors=10.0))
    save_model(model, network)
    before = read_metadata(model)
    assert forecast.lines(model, 128, 5000.0, 550.0) == []
    with pytest.raises(InputError, match="contains no fit"):
        forecast_main([str(model), "--atoms", "128", "--ps", "5", "--temperature", "550"])
    with pytest.raises(InputError, match="several arms; choose one: --arm adam or sam"):
        forecast_main([str(folder), "--store", str(model)])
    forecast_main([str(folder), "--arm", "sam", "--store", str(model), "--atoms", "128", "--ps", "5",
                   "--temperature", "550"])
    said = capsys.readouterr().out
    assert "probability of completing 5 ps of 128 atoms at 550 K" in said
    shown = forecast.lines(model, 128, 5000.0, 550.0)
    assert shown[0].removeprefix("forecast     : ") in said and "with dt 1 fs" in shown[-1]
    assert {**read_metadata(model), forecast.KEY: 0} == {**before, forecast.KEY: 0}
    a_run = SimpleNamespace(
        run=SimpleNamespace(models=[SimpleNamespace(parameters={"file": model})]), comm=MPI.COMM_SELF,
        simulation=SimpleNamespace(schedule=Schedule(1.0, 6000, 1, (500.0, 550.0), 1.0, 0, 0, 1), step=1000,
                                   n_global=128, ensemble=None, drives=[]))
    assert Outputs.forecast(a_run) == shown  # the forecast in the log of a run
    old, new = network.state_dict(), load_model(model).state_dict()
    assert all((old[k] == new[k]).all() for k in old)


def test_faults(study, tmp_path):
    folder, times = study
    quiet = tmp_path / "quiet"
    write_study(quiet, times[~times.failed])
    with pytest.raises(InputError, match=r"none of .* runs failed by 'failed'"):
        report_main([str(quiet)])
    with pytest.raises(InputError, match=r"none of .* runs failed by 'published'"):
        report_main([str(folder), "--by", "published"])
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        report_main([str(tmp_path / "nowhere")])
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match=r"x.json: not a file of rxmdnn sharpness"):
        report_main([str(folder), "--sharpness", str(tmp_path / "x.json")])
    with pytest.raises(InputError, match=r"x.json: fits: is missing"):
        forecast_main([str(tmp_path / "x.json"), "--atoms", "1", "--ps", "1", "--temperature", "1"])
    with pytest.raises(InputError, match="--atoms, --ps and --temperature are all needed"):
        forecast_main([str(tmp_path / "x.json"), "--atoms", "1"])
    bad = tmp_path / "bad"
    write_study(bad, times[:3])
    append(bad / results.CSV, "run9,half")  # a row truncated by a kill
    assert len(results.read(bad)) == 3
    append(bad / results.CSV, "\n")
    with pytest.raises(InputError, match=r"results.csv:5: 2 values for"):
        results.read(bad)
