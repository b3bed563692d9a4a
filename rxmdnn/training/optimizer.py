"""The optimizer of a deck: Adam or AdamW of torch, or any optimizer of the package pytorch_optimizer."""

from __future__ import annotations

import ast
from typing import Any

import torch

from rxmdnn.deck.language import Deck
from rxmdnn.parallel import AgreedError


def make_optimizer(deck: Deck, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the lines 'adam', 'optimizer' and 'weight_decay'.

    Raises InputError for an unknown name or option.
    """
    adam, line = deck["adam"], deck["optimizer"]
    weights: list[Any] = [w for w in network.parameters() if w.requires_grad]
    if deck["weight_decay"].rate is not None:
        if line.given:
            raise AgreedError(deck["weight_decay"].fault("is AdamW; remove the line 'optimizer', or give its option "
                                                         "weight_decay=... instead"))
        return torch.optim.AdamW(decaying(network, deck["weight_decay"].rate), lr=adam.learning_rate,
                                 betas=(adam.beta1, adam.beta2))
    name, *words = line.word or ("adam",)
    options: dict[str, Any] = {"lr": adam.learning_rate}
    for word in words:
        key, equals, value = word.partition("=")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
        if not equals or not key or not value:
            raise AgreedError(line.fault(f"'{word}': write options as name=value"))
        if key in ("lr", "betas") and (key == "lr" or name in ("adam", "adamw")):
            raise AgreedError(line.fault(f"{key} comes from the line 'adam'"))
    if name in ("adam", "adamw"):
        make: Any = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
        options["betas"] = (adam.beta1, adam.beta2)
    else:
        try:
            from pytorch_optimizer import load_optimizer
        except ImportError:
            raise AgreedError(line.fault(f"{name}: 'adam' and 'adamw' are built in; others need the package "
                                         "pytorch_optimizer")) from None
        try:
            make = load_optimizer(name)
        except Exception as error:
            raise AgreedError(line.fault(f"{name}: not an optimizer of pytorch_optimizer: {error}")) from None
    try:
        return make(weights, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise AgreedError(line.fault(f"{name}: {error}")) from None


def decaying(network: torch.nn.Module, rate: float) -> list[dict[str, Any]]:
    """Groups of weights for AdamW: the matrices decay with ``rate``; the others not at all.

    The others are embeddings of species, weights of paths, scales, shifts and roots of the radial basis. A step
    multiplies the matrices by 1 - (learning rate) × rate: I. Loshchilov and F. Hutter, arXiv:1711.05101.
    """
    named = [(name, w) for name, w in network.named_parameters() if w.requires_grad]
    matrices = [w for name, w in named if name.endswith(".weight")]
    others = [w for name, w in named if not name.endswith(".weight")]
    return [{"params": matrices, "weight_decay": rate}, {"params": others, "weight_decay": 0.0}]
