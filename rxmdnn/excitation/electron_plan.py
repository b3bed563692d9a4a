"""What a deck says of electrons, in the units of the program."""

from __future__ import annotations

from rxmdnn.deck.electrons import exchange, start_temperature
from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.excitation.electron_gas import ElectronModel
from rxmdnn.excitation.electrons import ElectronPlan
from rxmdnn.excitation.heat_capacity import PER_J_M3, ConstantCapacity, HeatCapacity, LinearCapacity, read_capacity

FS_PER_S = 1e15
M_PER_A = 1e-10


def electron_plan(deck: Deck) -> ElectronPlan:
    """The plan of a deck that has a line electrons. Raises InputError for a table that cannot be read."""
    coupling = deck["electrons_coupling"].g * PER_J_M3 / FS_PER_S
    form, value = deck["electrons_conductivity"]
    # W/(m K) in eV/(fs Å K): per volume, as g, times an area
    conductivity = (value or 0.0) * PER_J_M3 / FS_PER_S / M_PER_A**2
    model = ElectronModel(_capacity(deck), coupling, conductivity, form == "scaled")
    nx, ny, nz = deck["electrons"]
    return ElectronPlan(model, (nx, ny, nz), start_temperature(deck), exchange(deck))


def _capacity(deck: Deck) -> HeatCapacity:
    form, value = deck["electrons_capacity"]
    if form is not None:
        return (ConstantCapacity if form == "constant" else LinearCapacity)(value * PER_J_M3)
    try:
        return read_capacity(deck["electrons_table"].file)
    except InputError as error:
        raise InputError(*(deck["electrons_table"].fault(text) for text in error.faults)) from None
