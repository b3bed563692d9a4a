"""Native copies of deployed models: a model is converted once, and its copy is named by the content of the original."""

from __future__ import annotations

from pathlib import Path

from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of, writing
from rxmdnn.models.content import DEPLOYED, kind_of
from rxmdnn.models.model_file import load_model, native_metadata, provenance, save_model

RULES = "1"  # of the conversion; a copy that was made by others is made again


def native_copy(path: str | Path, folder: str | Path) -> tuple[Path, str] | None:
    """The native copy of a deployed model in a folder and a note for the log, or None for a native file.

    A copy that is there is taken if it was made from a file of this content; otherwise it is replaced at once. No code
    in the deployed model is run.

    Raises
    ------
    InputError : the model cannot be read or converted, or the folder cannot be written
    """
    path, folder = Path(path), Path(folder)
    if kind_of(path) != DEPLOYED:
        return None
    digest = sha256_of(path)
    copy = folder / f"{path.stem}-{digest[:16]}.safetensors"
    if _is_copy(copy, digest):
        return copy, f"{path}: deployed TorchScript model; its native copy {copy} is used"
    network = load_model(path)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    save_model(copy, network, {"imported from": path.name, "sha256": digest, "conversion": RULES})
    return copy, f"{path}: deployed TorchScript model, converted to {copy}"


def _is_copy(copy: Path, digest: str) -> bool:
    """Whether a file is a whole native model made from a file of this SHA-256 by the present rules."""
    try:
        native_metadata(copy)
        origin = provenance(copy)
        load_model(copy)
        return (origin.get("sha256"), origin.get("conversion")) == (digest, RULES)
    except InputError:
        return False
