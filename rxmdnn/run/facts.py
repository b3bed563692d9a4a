"""What a checkpoint says of the run that wrote it, so that another run can be compared with it: the table FACTS."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rxmdnn.deck.electrons import exchange, has_electrons
from rxmdnn.deck.fields import charge_lines, field_lines
from rxmdnn.deck.light import NAMES as LIGHT_NAMES
from rxmdnn.deck.light import has_light
from rxmdnn.deck.models import ModelLine
from rxmdnn.deck.motion import has_ring
from rxmdnn.deck.run import RunDeck
from rxmdnn.deck.words import MINIMIZATION
from rxmdnn.errors import InputError
from rxmdnn.files import sha256_of
from rxmdnn.models import model_file

FIXED = "fixed"  # no run that goes on may change it: it acts on structures alone
ASKED = "asked"  # only where the deck says 'start changed'
NOTED = "noted"  # it may change, and the log says so
FREE = "free"  # it may change
USES_VSFACT = (4, 9)  # mdmodes


@dataclass(frozen=True)
class Fact:
    """One row of FACTS.

    Parameters
    ----------
    name : its key in checkpoints
    keyword : the line of the deck, for messages; "" : the model deck
    of : the value of a run, of numbers, texts, lists and dicts
    rule : FIXED, ASKED, NOTED or FREE
    forces : a change makes other forces, which are computed before the first step
    stage : a change begins a new stage: conserved quantity and state of the ensemble begin anew
    hashed : its value is not for readers
    """

    name: str
    keyword: str
    of: Callable[[RunDeck], Any]
    rule: str
    forces: bool = False
    stage: bool = False
    hashed: bool = False

    def where(self, run: RunDeck) -> str:
        """Where a run says it, for messages."""
        if not self.keyword:
            return f"{run.models[0].where}: {self.name.replace('_', ' ')}"
        entry = run.deck[self.keyword]
        if isinstance(entry, list):  # of a line that repeats, the first
            return entry[0].fault("").removesuffix(": ") if entry else f"{run.deck.file}: {self.keyword}"
        return entry.fault("").removesuffix(": ")


def models_of(run: RunDeck) -> list[str]:
    """Each model and pair term as text: its kind and parameters; a file by its content, wherever it lies."""
    lines = [*run.models, *([run.repulsion] if run.repulsion else [])]
    terms = [f"{t.kind} sha256 {hashlib.sha256(t.listed.tobytes() + t.parameters.tobytes()).hexdigest()[:16]}"
             for t in run.pair_terms]
    return [" ".join([line.kind, *(f"{name} {_value(line, value)}" for name, value in line.parameters.items())])
            for line in lines] + terms


def _value(line: ModelLine, value: Any) -> str:
    if isinstance(value, str) and (parts := value.rpartition(":"))[0].endswith(".py"):  # of a line ase
        return f"{parts[2]} of {_value(line, Path(parts[0]))}"
    if not isinstance(value, Path):
        return f"{value:g}" if isinstance(value, float) else str(value)
    try:
        return f"sha256 {digest(value)[:16]}"
    except OSError as error:
        raise InputError(line.fault(f"{value}: cannot be read: {error.strerror or error}")) from None


def digest(path: Path) -> str:
    """SHA-256, in hexadecimal, of a model: of network and configuration where it is a native file, else of the file.

    What monitoring and studies of times to failure add to a native file does not change the model.
    """
    try:
        metadata, total = model_file.read_metadata(path), hashlib.sha256()
        for name, array in sorted(model_file.read_arrays(path, "").items()):
            if not name.startswith(model_file.EXTRA):
                total.update(f"{name} {array.dtype} {array.shape} ".encode() + array.tobytes())
        total.update("".join(metadata.get(key, "") for key in ("form", "dtype", "config")).encode())
        return total.hexdigest()
    except InputError:
        return sha256_of(path)


def structure_of(run: RunDeck, name: str) -> list[Any]:
    """The content of the file of a structure line, and its numbers of copies; empty without the line."""
    file, *copies = run.deck[name]
    try:
        return [sha256_of(file)[:16], *copies] if file else []
    except OSError:
        return []


def mdmode_of(run: RunDeck) -> list[Any]:
    """The mdmode with what it uses of the deck."""
    mode, line = run.deck["mdmode"].mode, run.deck["temperature"]
    if mode == MINIMIZATION:
        return [mode, *run.deck["minimizer"], run.deck["CG_tol"].ftol]
    return [mode, *([line.sstep] if mode != 1 else []), *([line.vsfact] if mode in USES_VSFACT else [])]


def temperatures_of(run: RunDeck) -> list[float]:
    """Targets at the first and the last step, K."""
    ramp, treq = run.deck["tramp"], run.deck["temperature"].treq
    return [treq, treq] if ramp.t0 is None else [*ramp]


def barostat_of(run: RunDeck) -> list[Any]:
    """The line of the barostat; empty without one."""
    return [*run.deck["barostat"]] if run.deck["barostat"].kind else []


def electrons_of(run: RunDeck) -> list[Any]:
    """The grid of electrons and their properties; a table by its content. Empty without electrons."""
    deck = run.deck
    if not has_electrons(deck):
        return []
    form, value = deck["electrons_capacity"]
    try:
        capacity = [form, value] if form else ["sha256", sha256_of(deck["electrons_table"].file)[:16]]
    except OSError as error:
        raise InputError(deck["electrons_table"].fault(f"cannot be read: {error.strerror or error}")) from None
    return [*deck["electrons"], *capacity, deck["electrons_coupling"].g, *deck["electrons_conductivity"],
            exchange(run.deck)]


def pimd_of(run: RunDeck) -> list[Any]:
    """The line of ring polymers, with their integrator; empty for atoms."""
    if not has_ring(run.deck):
        return []
    friction = [run.deck["pimd_eco"].friction] if run.deck["pimd"].method == "eco" else []
    return [*run.deck["pimd"], run.deck["pimd_integrator"].name, *friction]


def rings_of(run: RunDeck) -> list[Any]:
    """What makes the forces of ring polymers; empty for atoms."""
    line = run.deck["pimd"]
    if not has_ring(run.deck):
        return []
    fourth = line.method == "suzuki-chin" and run.deck["temperature"].treq
    return [line.beads, fourth, list(run.deck["pimd_contraction"].beads)]


def light_of(run: RunDeck) -> list[Any]:
    """The lines that change weights of excited atoms; a table by its content. Empty without a line excite."""
    found = [run.deck[name] for name in LIGHT_NAMES if name != "excite"]
    lines = [e for item in found for e in (item if isinstance(item, list) else [item]) if e.given]
    return [[sha256_of(x)[:16] if isinstance(x, Path) else x for x in (e.keyword.name, *e)] for e in lines]
def charges_of(run: RunDeck) -> list[str]:
    """The charges on which a field acts, each as text; empty without any."""
    said = charge_lines(run.deck, run.elements)
    return (["structure"] if said.of_structure else []) + [
        " ".join([element, *(f"{x:.12g}" for x in z.ravel())]) for element, z in said.by_element.items()]


def field_of(run: RunDeck) -> list[str]:
    """The terms of the field, each as text."""
    return [" ".join([line.shape, *(f"{x:.12g}" for x in (*line.strength, *line.parameters.values())),
                      *([hashlib.sha256(line.table.tobytes()).hexdigest()[:16]] if line.table is not None else [])])
            for line in field_lines(run.deck)]


FACTS = (
    Fact("models", "", models_of, ASKED, forces=True, stage=True),
    Fact("model_weights", "model_weights", lambda run: list(run.weights), ASKED, forces=True, stage=True),
    Fact("masses", "", lambda run: dict(zip(run.elements, run.masses)), ASKED, forces=True, stage=True),
    Fact("seed", "seed", lambda run: run.deck["seed"].number, ASKED),
    Fact("strain", "strain", lambda run: [*run.deck["strain"]], FIXED),
    Fact("shear", "shear", lambda run: [*run.deck["shear"]], FIXED),
    Fact("structure", "structure", lambda run: structure_of(run, "structure"), NOTED, hashed=True),
    Fact("run_from_xyz", "run_from_xyz", lambda run: structure_of(run, "run_from_xyz"), NOTED, hashed=True),
    Fact("precision", "precision", lambda run: run.deck["precision"].network, NOTED, forces=True, stage=True),
    Fact("table", "table", lambda run: run.deck["table"].force_error, NOTED, forces=True, stage=True),
    Fact("time_step", "time", lambda run: run.deck["time"].dt, NOTED, stage=True),
    Fact("mdmode", "mdmode", mdmode_of, NOTED, stage=True),
    Fact("ensemble", "ensemble", lambda run: [run.deck["ensemble"].kind or "nve", run.deck["ensemble"].tau], NOTED,
         stage=True),
    Fact("barostat", "barostat", barostat_of, NOTED, stage=True),
    Fact("strain_ramp", "strain_ramp", lambda run: [*run.deck["strain_ramp"]], NOTED, stage=True),
    Fact("shear_ramp", "shear_ramp", lambda run: [*run.deck["shear_ramp"]], NOTED, stage=True),
    Fact("temperature", "temperature", temperatures_of, FREE, stage=True),
    Fact("vsfact", "temperature", lambda run: run.deck["temperature"].vsfact, FREE),
    Fact("pramp", "pramp", lambda run: [*run.deck["pramp"]], FREE, stage=True),
    Fact("electrons", "electrons", electrons_of, NOTED, stage=True),
    Fact("pimd", "pimd", pimd_of, NOTED, stage=True),
    Fact("rings", "pimd", rings_of, FREE, forces=True),
    Fact("excite", "excite", lambda run: [x for x in run.deck["excite"] if has_light(run.deck)], NOTED, forces=True,
         stage=True),
    Fact("light", "excite", light_of, NOTED),
    Fact("charges", "charges", charges_of, NOTED, forces=True, stage=True),
    Fact("field", "field", field_of, NOTED, forces=True),
    Fact("random_velocity", "random_velocity", lambda run: run.deck["random_velocity"].draw, FREE),
)


def facts_of(run: RunDeck) -> dict[str, Any]:
    """{name: value} of all FACTS, as JSON has them. It reads the models' files. Raises InputError."""
    return {fact.name: fact.of(run) for fact in FACTS}
