"""Fine-tuning: a trained model made the start of another training, whose labels may have another zero of energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroNetwork
from rxmdnn.train import dataset, metrics

SHAPE = {"r_max": ("r_max",), "network": ("l_max", "n_layers", "n_scalar", "n_tensor"),
         "mlp": ("latent_width", "latent_depth", "readout_width"),
         "zbl": ("zbl", "zbl_fraction")}  # lines, and what they set


def adapt(model: Any, deck: Deck, data: dataset.Dataset, train: Sequence[int],
          shift: Sequence[float] | None) -> tuple[AllegroNetwork, dataset.Statistics]:
    """The model with energies of atoms for the deck's labels: those given, or what fits the training frames best.

    Its weights, scale and average neighbors stay; lines of the deck that give another shape are faults.
    """
    c, elements = model.config, tuple(deck["elements"].element)
    if c.elements != elements:
        raise InputError(deck["elements"].fault(f"{deck['from_model'].file} has {' '.join(c.elements)}; write these"))
    faults = []
    for keyword, names in SHAPE.items():
        values = [getattr(c, name, None) for name in names]  # the older form of Allegro has not all of them
        wanted = list(deck[keyword])
        if keyword == "zbl" and not deck["zbl"].on:
            wanted, values = wanted[:1], values[:1]
        if deck[keyword].given and wanted != values:
            faults.append(deck[keyword].fault(f"the model of 'from_model' has {' '.join(map(str, values))}; "
                                              "write that, or leave the line out"))
    if faults:
        raise InputError(*faults)
    state = model.state_dict()
    new = state["shift"].numpy().copy()
    if shift is None:
        cut = dataset.batches(train, [len(f.x) for f in data.frames], 512, True)
        known = metrics.predict(model, data, train, cut)
        new += dataset.statistics(data, train, len(elements), known=known).shift
    else:
        new[:] = shift
    network: AllegroNetwork = type(model)(replace(c, shift=tuple(new.tolist())), getattr(torch, deck["dtype"].dtype))
    network.load_state_dict({**state, "shift": torch.from_numpy(new)})
    return network, dataset.Statistics(c.per_species("average_neighbors"), state["scale"].numpy(), new)
