"""Export of a native Allegro model as a file that the tools of nequip load.

A checkpoint is written without nequip and nequip-allegro. A package holds the code of the model beside its weights, so
nequip makes it, from the checkpoint, in a process of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from rxmdnn import __version__
from rxmdnn.errors import InputError
from rxmdnn.files import atomic, writing
from rxmdnn.models.model_file import load_model, write_bytes
from rxmdnn.models.nequip_checkpoint import PARTS, checkpoint

CHECKPOINT, PACKAGE = ".ckpt", ".nequip.zip"
NEEDS = "nequip-allegro 0.8.2 or later"  # tried: 0.8.2 with nequip 0.17.1, 0.8.3 with 0.18.0 and 0.19.1

PACKAGER = f"""
import sys
from nequip.scripts import _package_utils, package
_package_utils._INTERNAL_MODULES.add("{PARTS}")
package.main(sys.argv[1:])
"""


def export_nequip(path_in: str | Path, path_out: str | Path, precision: str | None = None,
                  python: str | None = None) -> dict[str, Any]:
    """Write a native model file as a checkpoint or package that the tools of nequip load.

    Parameters
    ----------
    path_in : the native model file
    path_out : a name that ends in ``.ckpt``, or in ``.nequip.zip``: a package, which ``nequip-package`` makes of the
        checkpoint
    precision : "float32" or "float64", in which nequip computes; default: that of the model file
    python : of a package: a Python that has nequip and nequip-allegro; default: this one

    Returns
    -------
    summary : properties of the model, by name: elements (in the order of the types), cutoff (Å), precision, ...

    Raises
    ------
    InputError : not a native model, path_out exists or cannot be written, or nequip-allegro has no such model.
    """
    path_in, path_out = Path(path_in), Path(path_out)
    _check_output(path_out)
    packed = path_out.name.endswith(PACKAGE)
    # another folder is the working one of nequip-package; a link must stay, since it tells an environment
    python = sys.executable if python is None else os.path.abspath(python) if os.sep in python else python
    if packed:
        _check_python(path_out, python)
    network = load_model(path_in)
    try:
        content = checkpoint(network, precision)
    except InputError as error:
        raise InputError(*(f"{path_in}: {fault}" for fault in error.faults)) from None
    content["rxmdnn"] = {"version": __version__, "exported from": path_in.name}
    if packed:
        _package(python, content, path_out)
    else:
        data = BytesIO()
        torch.save(content, data)
        write_bytes(path_out, data.getvalue())
    c = network.config
    return {"model": str(path_out), "elements": list(c.elements), "r_max": float(c.cutoff.max()), "l_max": c.l_max,
            "layers": c.n_layers, "form": network.form, "tensor features": c.n_tensor, "ZBL": c.zbl,
            "trainable numbers": sum(p.numel() for p in network.parameters()),
            "precision": content["hyper_parameters"]["model"]["model_dtype"],
            "loads with": NEEDS + (" and rxmdnn" if _has_own_parts(content) and not packed else "")}


def _has_own_parts(content: dict[str, Any]) -> bool:
    """Whether the model of a checkpoint has modules that nequip does not have."""
    model = content["hyper_parameters"]["model"]
    return any(str(part.get("_target_")).startswith("rxmdnn.") for part in (model, model.get("pair_potential", {})))


def _check_output(path: Path) -> None:
    """Raise InputError unless the file can be made under this name."""
    if not path.name.endswith((CHECKPOINT, PACKAGE)):
        raise InputError(f"{path}: the name must end in {CHECKPOINT} (checkpoint of nequip) or {PACKAGE} (package)")
    if path.exists():
        raise InputError(f"{path}: exists already; remove it or choose another name")
    if not path.parent.is_dir():
        raise InputError(f"{path}: cannot be written: no folder {path.parent}")


def _package(python: str, content: dict[str, Any], path: Path) -> None:
    """Have nequip make a package of a checkpoint. Raises InputError with the last line of what it says if it fails."""
    with TemporaryDirectory(prefix="rxmdnn_export_") as folder, writing(path), atomic(path) as new:
        source, packed = Path(folder) / f"model{CHECKPOINT}", Path(folder) / f"model{PACKAGE}"
        torch.save(content, source)
        _provide_parts(Path(folder))
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        done = subprocess.run([python, "-c", PACKAGER, "build", str(source), str(packed)], cwd=folder,
                              env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
        if done.returncode or not packed.is_file():
            lines = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
            raise InputError(f"{path}: nequip-package failed: {lines[-1][:300]}")
        shutil.copyfile(packed, new)


def _provide_parts(folder: Path) -> None:
    """Copy the modules that nequip does not have: rxmdnn need not be installed where nequip is."""
    for package in PARTS.split(".")[:-1]:
        folder = folder / package
        folder.mkdir()
        (folder / "__init__.py").touch()
    for name in ("nequip_parts.py", "nequip_builders.py"):
        shutil.copyfile(Path(__file__).with_name(name), folder / name)


def _check_python(path: Path, python: str) -> None:
    """Raise InputError unless that Python has nequip and nequip-allegro."""
    try:
        done = subprocess.run([python, "-c", "import allegro, nequip"], capture_output=True,
                              text=True, check=False)
        reason = "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["it failed"])[-1]
    except OSError as error:
        reason = f"{python}: {error.strerror}"
    if reason:
        name = path.name.removesuffix(PACKAGE)
        raise InputError(f"{path}: a package needs a Python with nequip and nequip-allegro ({reason[:200]}); name one "
                         f"by --python, or write {name}{CHECKPOINT}, which needs neither")
