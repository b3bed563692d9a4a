"""The electric field of a run and the charges on which it acts, from their lines of the deck."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rxmdnn.atoms import CHARGES
from rxmdnn.deck.fields import ChargeLines, FieldLine, charge_lines, field_lines
from rxmdnn.deck.run import RunDeck
from rxmdnn.dynamics.simulation import Simulation
from rxmdnn.errors import InputError
from rxmdnn.excitation.charges import ROUNDING, Charges
from rxmdnn.excitation.field import ElectricField
from rxmdnn.excitation.field_shapes import EXTENTS
from rxmdnn.excitation.pulses import cut_by_run
from rxmdnn.io.start import Start
from rxmdnn.io.structure import read_charges
from rxmdnn.parallel import AgreedError, on_root


def make_field(run: RunDeck, simulation: Simulation, start: Start, span: tuple[float, float]) -> ElectricField:
    """The field of the deck. All ranks call it. Raises AgreedError where the charges do not sum to zero.

    span : fs, when the run begins (minus infinity for one that goes on) and ends
    """
    said = charge_lines(run.deck, run.elements)
    atoms = simulation.atoms
    if said.of_structure:
        charges = Charges()
        if not simulation.comm.allreduce(CHARGES in atoms.extra):
            atoms.extra[CHARGES] = simulation.backend.from_host(_of_structure(run, simulation, said))
    else:
        charges = Charges(np.array([said.by_element[e] for e in run.elements]))
        atoms.extra.pop(CHARGES, None)
    start.notes += _neutralized(charges, simulation, said)
    lines = field_lines(run.deck)
    start.notes += [f"{line.where}: field: {described(line)}" for line in lines]
    start.notes += [f"{line.where}: field: {text}" for line in lines if line.shape in EXTENTS
                    for text in cut_by_run(line.shape, *EXTENTS[line.shape](line), *span)]
    return ElectricField(charges, lines)


def _of_structure(run: RunDeck, simulation: Simulation, said: ChargeLines) -> np.ndarray:
    """(n_owned,) or (n_owned, 9) charges of the owned atoms, e, by the structure file and its copies."""
    deck = run.deck
    other = deck["run_from_xyz"].file
    file: Path | None = other or deck["structure"].file

    def read() -> np.ndarray:
        if file is None:
            raise InputError(f"{said.where}: charges: structure: no line 'structure <file>' that names the file")
        charges = read_charges(file, -1 if other else deck["structure"].frame, run.elements)
        if charges.ndim == 2 and any(deck["shear"]):
            raise InputError(f"{said.where}: charges: the Born tensors of {file} are of its own cell, which 'shear' "
                             "turns; shear the structure before")
        if simulation.n_global % len(charges):
            raise InputError(f"{said.where}: charges: {file} has charges of {len(charges)} atoms, and the start "
                             f"{simulation.n_global} atoms")
        return charges

    charges = on_root(simulation.comm, read)
    gid = simulation.backend.to_host(simulation.atoms.gid[: simulation.atoms.n_owned])
    return charges[gid % len(charges)]


def _neutralized(charges: Charges, simulation: Simulation, said: ChargeLines) -> list[str]:
    """Let the charges sum to zero, or raise AgreedError naming the sum; a note for the log where that changed them."""
    mine, size = charges.total(simulation.atoms)
    z, size = simulation.comm.allreduce(mine), simulation.comm.allreduce(size)
    if np.abs(z).max() <= ROUNDING * size:
        return []
    mean = z / simulation.n_global
    text = _tensor(z)
    if said.neutral is None:
        raise AgreedError(f"{said.where}: charges: their sum over the {simulation.n_global} atoms is {text} e, not "
                          f"zero ({_tensor(mean)} e per atom): a field would push the whole system; change them, or "
                          "write 'charges neutral <largest mean charge>' to subtract the mean of rounded values from "
                          "every atom")
    if np.abs(mean).max() > said.neutral:
        raise AgreedError(f"{said.where}: charges: their mean is {_tensor(mean)} e per atom, above the "
                          f"{said.neutral:g} of 'charges neutral'; change them")
    charges.subtract(simulation.atoms, mean)
    return [f"{said.where}: charges: {_tensor(mean)} e was subtracted from the charge of every atom, so that they sum "
            "to zero"]


def _tensor(z: np.ndarray) -> str:
    """A tensor as text: one number where it is a multiple of the unit matrix."""
    one = np.allclose(z, z[0, 0] * np.eye(3), atol=1e-12)
    return f"{z[0, 0]:.6g}" if one else "(" + " ".join(f"{x:.6g}" for x in z.ravel()) + ")"


def described(line: FieldLine) -> str:
    """A term of the field, for the log."""
    strength = float(np.linalg.norm(line.strength))
    direction = " ".join(f"{x:.4g}" for x in line.strength / strength)
    more = "".join(f", {name} {value:g}" for name, value in line.parameters.items())
    return f"{line.shape}, {strength:g} V/A along ({direction}){more}"
