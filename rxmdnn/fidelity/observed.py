"""The numbers of a frame whose tails are calibrated: one per atom, for each kind and species, or pair of species."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rxmdnn.fidelity.criteria import Close


def observed(elements: tuple[str, ...], close: Close, species: np.ndarray, bonded: np.ndarray, f: np.ndarray,
             latent: np.ndarray | None, spread: np.ndarray | None) -> Iterator[tuple[str, str, np.ndarray]]:
    """(kind, species, values of the owned atoms) of one frame; see Samples.

    close : edges; species (n_all,); bonded (T, T) Å; f (n, 3) eV/Å; latent, spread (n,) or None
    """
    n, t = len(f), len(elements)
    own = species[:n]
    slot = close.center.astype(np.int64) * t + species[close.neighbor]
    nearest, longest = np.full(n * t, np.inf), np.zeros(n * t)
    np.minimum.at(nearest, slot, close.r)
    bonds = close.r < bonded[species[close.center], species[close.neighbor]]
    np.maximum.at(longest, slot[bonds], close.r[bonds])
    for a in range(t):
        for b in range(t):
            name = f"{elements[a]}-{elements[b]}"
            near = nearest.reshape(n, t)[own == a, b]
            yield "pair", name, -np.log(near[np.isfinite(near)])
            far = longest.reshape(n, t)[own == a, b]
            yield "bond", name, far[far > 0]
        for kind, value in (("force", np.sqrt((f**2).sum(axis=1))), ("latent", latent), ("spread", spread)):
            if value is not None:
                yield kind, elements[a], value[own == a]
