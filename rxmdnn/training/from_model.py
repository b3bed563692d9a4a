"""Fine-tuning: a trained model as the start of another training, whose labels may have another zero of energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from rxmdnn.deck.language import Deck
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroNetwork
from rxmdnn.training import dataset, metrics

SHAPE = {"r_max": ("r_max",), "network": ("l_max", "n_layers", "n_scalar", "n_tensor"),
         "mlp": ("latent_width", "latent_depth", "readout_width"),
         "zbl": ("zbl", "zbl_fraction")}  # lines of the deck: what they set in a model


def adapt(model: Any, deck: Deck, data: dataset.Dataset, train: Sequence[int],
          shift: Sequence[float] | None) -> tuple[AllegroNetwork, dataset.Statistics]:
    """The model with ``shift`` (eV) as energies of atoms, or with those that fit the training frames best.

    Its weights, scale and average neighbors do not change; raises InputError for a line that sets another shape.
    """
    c, elements = model.config, tuple(deck["elements"].element)
    if c.elements != elements:
        raise InputError(deck["elements"].fault(f"{deck['from_model'].file} has {' '.join(c.elements)}; write these"))
    faults = []
    for keyword, names in SHAPE.items():
        values = [getattr(c, name, None) for name in names]  # the older form of Allegro does not have all
        wanted = list(deck[keyword])
        if keyword == "zbl" and not deck["zbl"].on:
            wanted, values = wanted[:1], values[:1]
        if deck[keyword].given and wanted != values:
            faults.append(deck[keyword].fault(f"the model of 'from_model' has {' '.join(map(str, values))}; "
                                              "write these, or remove the line"))
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
