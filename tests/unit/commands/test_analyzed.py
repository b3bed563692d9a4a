"""The analysis commands name what they analyze, and compare with a measured spectrum."""

import json

import numpy as np
import pytest
from mpi4py import MPI

from rxmdnn.commands.run import main as run
from rxmdnn.commands.spectra import main as spectra
from rxmdnn.commands.structure import main as structure
from rxmdnn.errors import InputError
from rxmdnn.io.series import open_series
from tests import trajectories
from tests.runs import write_start

SELF = MPI.COMM_SELF


def go(place, name, lines):
    (place / "model.in").write_text("lj 0.0104 3.4 6.0 2 Ar 39.95 Ne 20.18\n")
    (place / "rxmd.in").write_text(f"time 2.0 60\nio_step 0 20\nh5md 2\ncheckpoint 0\nstructure start.xyz\n"
                                   f"model model.in\n{lines}\n")
    assert run(["--rxmdin", str(place / "rxmd.in"), "--outDir", str(place / name)], SELF) == 0
    return place / name


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("analyzed")
    write_start(place)
    return place


@pytest.fixture(scope="module")
def ring(place):
    return go(place, "ring", "temperature 30 1 1\npimd 4 pimd\nensemble langevin 0.1")


def numbers(command, *argv):
    command([*map(str, argv)])
    return json.loads(argv[argv.index("--json") + 1].read_text())


def test_beads_are_written_at_the_interval_of_the_trajectory(ring, place):
    steps = open_series(ring / "trajectory.h5md").step
    assert [open_series(f).step.tolist() for f in sorted(ring.glob("bead_*"))] == [steps.tolist()] * 4
    assert not list(go(place, "none", "temperature 30 1 1\npimd 2 trpmd\npimd_dump 0").glob("bead_*"))


def test_structure_averages_over_beads_and_says_so(ring, tmp_path):
    out = ["-o", tmp_path, "--qmax", "0", "--json", tmp_path / "n.json"]
    beads, centroids = numbers(structure, ring, *out), numbers(structure, ring / "trajectory.h5md", *out)
    assert beads["analyzed"] == "4 beads" and centroids["analyzed"] == "centroids of 4 beads"
    assert beads["u_squared_Ne_A2"] > 1.05 * centroids["u_squared_Ne_A2"]  # the quantum width
    assert any("lack the quantum width" in note for note in centroids["notes"])
    one = numbers(structure, ring / "bead_1.h5md", *out)
    assert one["analyzed"] == "bead 1 of 4"


def test_spectra_say_where_times_are_not_real(place, ring, tmp_path):
    out = ["-o", tmp_path, "--json", tmp_path / "n.json"]
    found = numbers(spectra, ring / "trajectory.h5md", *out)
    assert found["analyzed"] == "centroids of 4 beads"
    assert any("'pimd' samples averages" in note for note in found["notes"])
    nve = go(place, "nve", "temperature 30 1 1\nmdmode 1")
    found = numbers(spectra, nve, *out)
    assert found["analyzed"] == "atoms" and not any("times are not real" in note for note in found["notes"])
    langevin = go(place, "langevin", "temperature 30 1 1\nensemble langevin 0.5")
    assert any("Langevin thermostat of tau 0.5 ps" in note for note in numbers(spectra, langevin, *out)["notes"])
    with pytest.raises(InputError, match="classical dynamics and pimd with 4 beads"):
        spectra([str(nve), str(ring), "-o", str(tmp_path)])


@pytest.fixture
def vibrating(tmp_path):
    """A trajectory of an H2-like crystal with one line."""
    rng = np.random.default_rng(0)
    home, phase, t = rng.random((8, 3)) * 15, rng.random((8, 3)) * 6, np.arange(300)[:, None, None]
    x, v = home + 0.05 * np.sin(0.2 * t + phase), 0.01 * np.cos(0.2 * t + phase)
    return trajectories.write(tmp_path / "run", np.array(["H"] * 8), np.full(8, 1.008), x, v)


@pytest.mark.parametrize(("unit", "per_mev"), [("meV", 1.0), ("1/cm", 8.065544)])
def test_a_measured_spectrum_is_compared_with_a_fitted_scale(vibrating, tmp_path, unit, per_mev):
    out = tmp_path / "out"
    spectra([str(vibrating), "-o", str(out)])
    own = np.genfromtxt(out / "neutron.csv", delimiter=",", names=True)
    rows = [f"{e * per_mev:.9g}, {3.7 * s:.9g}" for e, s in zip(own["energy_meV"][1:], own["all"][1:])]
    (tmp_path / "seen.csv").write_text("# measured\nenergy, counts\n" + "\n".join(reversed(rows)) + "\n")
    found = numbers(spectra, vibrating, "-o", out, "--compare", tmp_path / "seen.csv", "--compare-unit", unit, "--json",
                    tmp_path / "n.json")
    assert found["compare_scale"] == pytest.approx(3.7, rel=1e-4) and found["compare_residual"] < 1e-4
    assert found["compare_correlation"] == pytest.approx(1.0) and (out / "compare.png").stat().st_size > 5000
    table = np.genfromtxt(out / "compare.csv", delimiter=",", names=True)
    assert np.allclose(table["measured"], table["computed"], rtol=1e-3, atol=1e-3 * table["measured"].max())


@pytest.mark.parametrize(("head", "per_mev"), [
    ("# energy (meV), intensity", 1.0), ("1/cm; counts", 8.065544), ("Wavenumber [cm^-1], S", 8.065544),
    ("energy_meV,all", 1.0)])
def test_the_header_of_a_measured_spectrum_names_its_unit(vibrating, tmp_path, head, per_mev):
    rows = "\n".join(f"{e * per_mev:.9g}, {1 + e % 3}" for e in range(2, 300))
    (tmp_path / "seen.csv").write_text(f"{head}\n{rows}")
    found = numbers(spectra, vibrating, "-o", tmp_path / "out", "--compare", tmp_path / "seen.csv", "--instrument",
                    "tosca", "--json", tmp_path / "n.json")
    table = np.genfromtxt(tmp_path / "out/compare.csv", delimiter=",", names=True)
    assert table["energy_meV"][:3] == pytest.approx([2, 3, 4], rel=1e-6) and found["compare_with"] == "TOSCA"
    assert np.allclose(table["wavenumber_cm"], table["energy_meV"] * 8.065544)


def test_a_spectrum_of_another_run_can_be_compared(vibrating, tmp_path):
    spectra([str(vibrating), "-o", str(tmp_path / "a"), "--instrument", "tosca"])
    found = numbers(spectra, vibrating, "-o", tmp_path / "b", "--instrument", "tosca", "--compare",
                    tmp_path / "a/neutron.csv", "--json", tmp_path / "n.json")
    assert found["compare_scale"] == pytest.approx(1.0, rel=1e-6) and found["compare_residual"] < 1e-6


@pytest.mark.parametrize("head", ["", "# energy, counts\n", "meV or 1/cm\n"])
def test_a_measured_spectrum_without_a_unit_is_refused(vibrating, tmp_path, head):
    (tmp_path / "seen.csv").write_text(head + "5, 1\n6, 2\n")
    with pytest.raises(InputError, match=r"seen\.csv: its header .*unit.* of the energies; write a first line such as"):
        spectra([str(vibrating), "-o", str(tmp_path / "out"), "--compare", str(tmp_path / "seen.csv")])


@pytest.mark.parametrize(("argv", "words"), [
    (["--instrument", "toska"], "--instrument toska: no such instrument or file; did you mean 'tosca'"),
    (["--instrument", "lagrange", "--max", "300"], r"--max 300 1/cm: IN1-Lagrange.* measures 62.5 to 495.5 meV"),
    (["--instrument", "sequoia", "--incident", "100", "--max", "3000"], "or a larger --incident"),
    (["--instrument", "tosca", "--broadening", "2"], "--broadening: an --instrument has its own"),
    (["--instrument", "tosca", "--incident", "100"], "--incident: only sequoia and maps have it"),
    (["--chopper", "100"], "--chopper: goes with --instrument sequoia or maps"),
    (["--instrument", "maps", "--angles", "20"], "two ends of a range")])
def test_what_an_instrument_lacks_is_refused(vibrating, tmp_path, argv, words):
    with pytest.raises(InputError, match=words):
        spectra([str(vibrating), "-o", str(tmp_path / "out"), *argv])


def test_an_instrument_sees_the_spectrum_at_its_own_resolution(vibrating, tmp_path):
    """One line at 1062 1/cm: TOSCA's width, and only the energies that Lagrange measures."""
    numbers(spectra, vibrating, "-o", tmp_path, "--instrument", "tosca", "--json", tmp_path / "n.json")
    c = np.genfromtxt(tmp_path / "neutron.csv", delimiter=",", names=True)
    assert c["fwhm_meV"][np.searchsorted(c["wavenumber_cm"], 1062)] * 8.065544 == pytest.approx(18.66, rel=0.01)
    assert np.allclose(c["all"], c["incoherent"] + c["coherent"]) and np.allclose(c["all"], c["all_H"])
    assert np.allclose(c["all"], (c["all_45deg"] + c["all_135deg"]) / 2)
    assert c["one_phonon"].max() > 0 and (c["all"] >= (c["one_phonon"] + c["two_phonons"]) * (1 - 1e-6)).all()
    assert (tmp_path / "neutron.png").stat().st_size > 20000
    numbers(spectra, vibrating, "-o", tmp_path, "--instrument", "lagrange", "--json", tmp_path / "n.json")
    seen = np.genfromtxt(tmp_path / "neutron.csv", delimiter=",", names=True)["energy_meV"]
    assert 62.5 <= seen[0] < 63 and 495 < seen[-1] <= 495.5


@pytest.mark.parametrize(("text", "words"), [
    ("", "no line with two numbers"), ("1, 2\n3, x\n", r"seen\.csv:2: expected energy and intensity, found '3, x'"),
    ("1 2\n3\n", r"seen\.csv:2"), ("# meV\n9000 1\n9001 2\n", "0 of its points lie in the computed spectrum"),
    (None, "cannot be read")])
def test_an_unusable_measured_spectrum_is_refused(vibrating, tmp_path, text, words):
    if text is not None:
        (tmp_path / "seen.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        spectra([str(vibrating), "-o", str(tmp_path / "out"), "--compare", str(tmp_path / "seen.csv")])
