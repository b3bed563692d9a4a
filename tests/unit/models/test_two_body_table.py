"""The functions of distance that are tabulated: their derivatives, the end at the cutoff, convergence."""

import numpy as np
import pytest
import torch

from rxmdnn.models.allegro_fold import fold
from rxmdnn.models.allegro_legacy import fold_legacy
from rxmdnn.models.two_body_table import BEGIN_RANGE, TwoBody, derivatives, spans, without_two_body
from tests.unit.models import test_allegro, test_allegro_legacy


def two_body(net, folded):
    with torch.no_grad():
        weights = folded(net, lambda x: x)
    return TwoBody(net.config, net.bessel.detach(), weights), weights


@pytest.mark.parametrize("settings", [{}, {"n_splines": 16}, {"embed_activation": "mish", "embed_depth": 2}], ids=str)
def test_the_hidden_layer_is_that_of_the_network(settings):
    net = test_allegro.network(**settings)
    body, _ = two_body(net, fold)
    x = torch.linspace(0.2, 1.0, 9, dtype=torch.float64)
    types = torch.full((9,), 2), torch.full((9,), 1)
    expected, = net.embed([net._two_body(x, *types)], [net.config.n_scalar])
    last = net.embed.matrices()[-1]
    assert ((body.hidden((2, 1), x)[0] @ last) - expected).abs().max() < 1e-13


def test_derivatives_equal_differences():
    body, _ = two_body(test_allegro_legacy.network(), fold_legacy)
    x, h = torch.linspace(0.2, 0.9, 8, dtype=torch.float64), 1e-4

    def function(at):
        return body.hidden((0, 1), at)[0]

    value, slope, curvature = derivatives(function, x)
    low, high = function(x - h).detach(), function(x + h).detach()
    assert torch.equal(value, function(x).detach())
    assert (slope - (high - low) / (2 * h)).abs().max() < 1e-6 * slope.abs().max()
    assert (curvature - (high - 2 * value + low) / h**2).abs().max() < 1e-5 * curvature.abs().max()


@pytest.mark.parametrize("form", [(test_allegro, fold, [0, None, None]),
                                  (test_allegro_legacy, fold_legacy, [1, 2, 3, 4])])
def test_the_last_point_is_zero_and_the_weights_lose_what_is_tabulated(form):
    module, folded, powers = form
    body, weights = two_body(module.network(), folded)
    rest, parts = without_two_body(weights, powers, lambda k: [k] if powers[1] is None else list(range(k + 1)))
    tables = body.tables(parts, 4)
    for table in tables.values():
        rows = table.view(9, 5, 3, -1)
        assert not rows[:, -1].any() and rows[:, 0].any()
    n_columns = sum(weights.latent_widths[0] for power in powers if power is not None)
    assert len(rest.to_readout) == len(weights.to_readout) - n_columns == sum(rest.latent_widths)
    assert torch.equal(rest.to_readout[-3:], weights.to_readout[-3:]) and rest.latent_widths[0] == 0


def test_a_table_begins_where_atoms_overlap():
    span = spans(test_allegro.AllegroConfig(("H", "N"), 5.0))
    np.testing.assert_allclose(5.0 * np.exp(-span), 0.5 * np.array([[0.62, 1.02], [1.02, 1.42]]))
    narrow, wide = (5.0 * np.exp(-spans(test_allegro.AllegroConfig(("H", "X"), r))[1, 0]) for r in (0.5, 500.0))
    assert narrow == pytest.approx(5 * BEGIN_RANGE[1]) and wide == pytest.approx(5 * BEGIN_RANGE[0])
