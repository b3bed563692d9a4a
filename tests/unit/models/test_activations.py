"""Nonlinearities: what is written into buffers is the function and its derivative; zero at zero."""

import pytest
import torch

from rxmdnn.models.activations import ACTIVATIONS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_buffers_hold_function_and_derivative(name, dtype):
    activation = ACTIVATIONS[name]
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(160, 24, generator=generator, dtype=dtype)
    wide, d = (torch.randn(160, 50, generator=generator, dtype=dtype) for _ in range(2))
    kept = wide.clone()
    activation.forward(x, wide[:, 7:31])  # hidden layers are columns of one array
    at = x.clone().requires_grad_()
    expected = activation.function(at)
    (slope,) = torch.autograd.grad(expected, at, d[:, 3:27].contiguous())
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    torch.testing.assert_close(wide[:, 7:31], expected.detach(), rtol=tolerance, atol=tolerance)
    assert torch.equal(wide[:, :7], kept[:, :7]) and torch.equal(wide[:, 31:], kept[:, 31:])
    found = torch.empty_like(x)
    activation.backward(d[:, 3:27], x, found)
    torch.testing.assert_close(found, slope, rtol=10 * tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_zero_at_zero_and_twice_differentiable(name):
    function = ACTIVATIONS[name].function
    zero = torch.zeros(1, dtype=torch.float64)
    assert function(zero).abs().item() < 1e-16
    x = torch.linspace(-2, 2, 7, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradgradcheck(function, x)
