"""Outputs that a user names are checked before the work: the inputs of these commands do not even exist."""

import pytest
from mpi4py import MPI

from rxmdnn.commands import (
    convert,
    evaluate,
    export_model,
    fidelity,
    geninit,
    import_model,
    label,
    phonons,
    plot,
    run,
    sharpness,
    spectra,
    structure,
    train,
)
from rxmdnn.errors import InputError

JSON = {  # command: arguments before --json
    "evaluate": (evaluate.main, ["m.safetensors", "d.xyz"]), "plot": (plot.main, ["DAT"]),
    "spectra": (spectra.main, ["DAT"]), "structure": (structure.main, ["DAT"]),
    "phonons": (phonons.main, ["m.safetensors", "a.cif"]),
    "sharpness": (sharpness.main, ["m.safetensors", "d.xyz"]), "import-model": (import_model.main, ["in.pth", "out"]),
    "export-model": (export_model.main, ["m.safetensors", "out.ckpt"])}
FILES = {
    "label": (label.main, ["none/x.xyz"]), "select": (label.main, ["none/x.xyz", "--select", "m", "--from", "f"]),
    "import-model": (import_model.main, ["in.pth", "none/x.safetensors"]),
    "export-model": (export_model.main, ["m.safetensors", "none/x.ckpt"]),
    "fit": (fidelity.main, ["fit", "m.safetensors", "d.xyz", "-o", "none/x.safetensors"])}
FOLDERS = {
    "evaluate": (evaluate.main, ["m.safetensors", "d.xyz", "--out", "file/x"]),
    "spectra": (spectra.main, ["DAT", "--out", "file/x"]), "structure": (structure.main, ["DAT", "--out", "file/x"]),
    "sharpness": (sharpness.main, ["m.safetensors", "d.xyz", "--out", "file"]),
    "phonons": (phonons.main, ["m.safetensors", "a.cif", "--out", "file/x"]),
    "geninit": (geninit.main, ["-i", "a.xyz", "-o", "file/x"]), "convert": (convert.main, ["a.xyz", "file/x/b.xyz"])}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    yield
    assert {p.name for p in tmp_path.iterdir()} <= {"file", "rxmd.in", "rxmdnn.in", "train.in"}  # nothing was begun


@pytest.mark.parametrize("name", JSON)
def test_json_in_a_folder_that_does_not_exist(name):
    command, argv = JSON[name]
    for path, why in (("none/x.json", "the folder none does not exist"), ("file/x.json", "file is not a folder"),
                      (".", "it is a folder; name a file")):
        with pytest.raises(InputError, match=rf"^{path}: cannot be written: {why}"):
            command([*argv, "--json", path])


@pytest.mark.parametrize("name", FILES)
def test_a_file_in_a_folder_that_does_not_exist(name):
    command, argv = FILES[name]
    with pytest.raises(InputError, match=r"^none/x.*: cannot be written: the folder none does not exist; make it"):
        command(argv)


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_below_a_file(name):
    command, argv = FOLDERS[name]
    with pytest.raises(InputError, match=r"^file(/x)?: cannot be written: .*is not a folder"):
        command(argv)


def test_a_run_and_a_training(tmp_path):
    (tmp_path / "rxmdnn.in").write_text("lj 0.01 3.4 8.0 1 Ar 39.948\n")
    (tmp_path / "rxmd.in").write_text("time 1.0 5\nstructure file\njson none/x.json\n")
    with pytest.raises(InputError, match=r"rxmd.in:3: json: none/x.json: cannot be written: the folder none does"):
        run.main([], MPI.COMM_SELF)
    with pytest.raises(InputError, match=r"json: none/y.json: cannot be written: the folder none does not exist"):
        run.main(["--json", "none/y.json"], MPI.COMM_SELF)
    (tmp_path / "train.in").write_text("data file\nelements Ar\noutput .\nmodel m.safetensors\njson none/x.json\n")
    with pytest.raises(InputError, match=r"^none/x.json: cannot be written: the folder none does not exist"):
        train.main(["train.in"])
