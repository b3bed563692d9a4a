"""Fine-tuning: a trained model as the start of another training, whose labels may have another zero of energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroNetwork
from rxmdnn.training import dataset, metrics

SHAPE = {"r_max": ("r_max",), "network": ("l_max", "n_layers", "n_scalar", "n_tensor"),
         "mlp": ("latent_width", "latent_depth", "readout_width"),
         "zbl": ("zbl", "zbl_fraction")}  # lines of the deck: what they set in a model
BY_SPECIES = ("center_embed", "neighbor_embed")  # arrays with a row per element
ONE_HOT = "embed.linears.0.weight"  # of the older form, which tells elements by one-hot vectors


def adapt(model: Any, deck: Deck, data: dataset.Dataset, train: Sequence[int],
          shift: Sequence[float] | None) -> tuple[AllegroNetwork, dataset.Statistics]:
    """The model with ``shift`` (eV) as energies of atoms, or with those that fit the training frames best.

    Its weights, scale and average neighbors do not change. The deck may name further elements after those of the
    model: they begin as in a new training, with random weights. Raises InputError for a line that sets another shape.
    """
    faults = _faults(model.config, deck)
    if faults:
        raise InputError(*faults)
    elements = tuple(deck["elements"].element)
    if len(elements) > len(model.config.elements):
        model = extend(model, elements, dataset.statistics(data, train, len(elements)), deck)
    state = model.state_dict()
    new = state["shift"].numpy().copy()
    if shift is None:
        cut = dataset.batches(train, [len(f.x) for f in data.frames], 512, True)
        known = metrics.predict(model, data, train, cut)
        new += dataset.statistics(data, train, len(elements), known=known).shift
    else:
        new[:] = shift
    config = replace(model.config, shift=tuple(new.tolist()))
    network: AllegroNetwork = type(model)(config, getattr(torch, deck["dtype"].dtype))
    network.load_state_dict({**state, "shift": torch.from_numpy(new)})
    return network, dataset.Statistics(config.per_species("average_neighbors"), state["scale"].numpy(), new)


def _faults(config: Any, deck: Deck) -> list[str]:
    """Lines of the deck that set another shape than the model has."""
    elements = tuple(deck["elements"].element)
    if elements[:len(config.elements)] != config.elements:
        return [deck["elements"].fault(f"{deck['from_model'].file} has {' '.join(config.elements)}; write these, in "
                                       "this order, and new elements after them")]
    faults = []
    for keyword, names in SHAPE.items():
        values = [getattr(config, name, None) for name in names]  # the older form of Allegro does not have all
        wanted = list(deck[keyword])
        if keyword == "zbl" and not deck["zbl"].on:
            wanted, values = wanted[:1], values[:1]
        if deck[keyword].given and wanted != values:
            faults.append(deck[keyword].fault(f"the model of 'from_model' has {' '.join(map(str, values))}; "
                                              "write these, or remove the line"))
    return faults


def extend(model: Any, elements: tuple[str, ...], found: dataset.Statistics, deck: Deck) -> Any:
    """The model with further elements after its own, whose energies it does not change.

    Rows of the new elements are random, by the seed of the deck; their scale and neighbors are those of the training
    frames. Raises InputError for a network in which elements are held in a way that is not known here.
    """
    c, old = model.config, len(model.config.elements)
    t, r_max = len(elements), c.r_max
    if not isinstance(r_max, float):
        wide = np.full((t, t), c.cutoff.max())
        wide[:old, :old] = c.cutoff
        r_max = tuple(map(tuple, wide.tolist()))
    own = {"average_neighbors": c.per_species("average_neighbors"), "scale": model.scale.detach().numpy(),
           "shift": model.shift.detach().numpy()}
    new = {"average_neighbors": found.neighbors, "scale": found.scale, "shift": np.zeros(t)}
    config = replace(c, elements=elements, r_max=r_max, seed=deck["seed"].seed, **{
        name: tuple(np.concatenate([own[name], new[name][old:]]).tolist()) for name in own})
    network = type(model)(config, model.dtype)
    state, fresh = model.state_dict(), network.state_dict()
    for name, value in state.items():
        if name in own:
            continue  # set by the configuration
        if value.shape == fresh[name].shape:
            fresh[name] = value
        elif name in BY_SPECIES:
            fresh[name][:old] = value
        elif name == ONE_HOT:  # rows: center, neighbor, radial basis; the layer divides by the root of their number
            value = value * np.sqrt(len(fresh[name]) / len(value))
            fresh[name][:old], fresh[name][t:t + old] = value[:old], value[old:2 * old]
            fresh[name][2 * t:] = value[2 * old:]
        else:
            raise InputError(deck["elements"].fault(f"no element can be added to {deck['from_model'].file}: its "
                                                    f"'{name}' does not allow it; train a new model"))
    network.load_state_dict(fresh)
    return network
