"""rxmdnn sharpness: quadratics in closed form, Hessian products against finite differences, the training."""

import json

import numpy as np
import pytest
import torch

from rxmdnn.commands import sharpness as sharpness_command
from rxmdnn.deck import language as decks
from rxmdnn.deck.train import TABLE
from rxmdnn.errors import InputError
from rxmdnn.models.allegro_network import AllegroConfig, AllegroNetwork
from rxmdnn.training import dataset, training
from rxmdnn.training import loss_surface as sharpness
from tests.unit.training.test_training import DECK, SMALL, same_threads, structures, to_frame, workplace  # noqa: F401


class Quadratic:
    """L = ½ (w - w0)ᵀ H (w - w0) + 1 around its minimum w0."""

    def __init__(self, eigenvalues, seed=0):
        rng = np.random.default_rng(seed)
        n = len(eigenvalues)
        turn = np.linalg.qr(rng.normal(size=(n, n)))[0]
        self.h = torch.from_numpy(turn @ np.diag(eigenvalues) @ turn.T)
        self.origin = torch.from_numpy(rng.normal(size=n))
        self.shapes = [torch.Size((n // 4, 3)), torch.Size((n - 3 * (n // 4),))]

    def loss(self, w):
        return float(0.5 * (w - self.origin) @ self.h @ (w - self.origin)) + 1.0

    def gradient(self, w):
        return self.h @ (w - self.origin)

    def product(self, v):
        return self.h @ v


EIGENVALUES = np.concatenate([[30.0, 12.0, 5.0, -0.5], np.linspace(0.0, 1.0, 36)])


def quadratic():
    return Quadratic(EIGENVALUES), np.random.default_rng(7)


def nothing():
    """No progress bar."""


def test_entropy_of_a_quadratic():
    surface, rng = quadratic()
    found = sharpness.entropy(surface, 0.1, 4000, rng, nothing)
    assert abs(found["value"] + 0.5 * np.log1p(0.1**2 * EIGENVALUES).sum()) < 3 * found["error"] < 0.02
    assert found["effective"] > 3000
    wide = sharpness.entropy(surface, 3.0, 200, rng, nothing)
    assert wide["value"] < found["value"] and wide["effective"] < 50


def test_noise_of_a_quadratic():
    surface, rng = quadratic()
    found = sharpness.noise(surface, 0.05, 4000, rng, nothing)
    exact = 0.5 * 0.05**2 * EIGENVALUES.sum()
    spread = np.sqrt(0.5 * 0.05**4 * (EIGENVALUES**2).sum() / 4000)  # of ½ε² zᵀHz over the draws
    assert found["error"] == pytest.approx(spread, rel=0.1)
    assert abs(found["mean"] - exact) < 3 * spread
    assert found["per_parameter"] == found["mean"] / 40 and found["loss"] == 1.0
    again = sharpness.noise(surface, 0.05, 4000, quadratic()[1], nothing)
    assert again == found  # seeded


def test_climb_in_a_ball_of_a_quadratic():
    surface, rng = quadratic()
    found = sharpness.climb(surface, 0.1, 30, 3, rng, nothing)
    exact = 0.5 * 0.1**2 * 30.0
    assert found["max"] == pytest.approx(exact, rel=1e-6) and found["one_step"] == 0  # the gradient vanishes there
    assert found["mean"] == pytest.approx(exact * 2 / 3, rel=1e-6)  # two random starts find it


def test_spectrum_of_a_quadratic():
    surface, rng = quadratic()
    found = sharpness.spectrum(surface, 3, 20, 25, 200, rng, nothing)
    for row, exact in zip(found["largest"], (30.0, 12.0, 5.0)):
        assert abs(row["value"] - exact) <= row["residual"] + 1e-9 and row["value"] == pytest.approx(exact, rel=1e-8)
    assert found["smallest"]["value"] == pytest.approx(-0.5, rel=1e-6)
    assert found["largest_over_runs"]["mean"] == pytest.approx(30.0, rel=1e-8)
    trace = found["trace"]
    assert abs(trace["mean"] - EIGENVALUES.sum()) < 4 * trace["error"] and trace["probes"] == 220
    # the density's second moment is the mean square of the eigenvalues
    second = np.mean([np.dot(w, np.square(v)) for v, w in zip(found["nodes"], found["weights"])])
    assert second == pytest.approx((EIGENVALUES**2).mean(), rel=0.2)
    assert all(sum(w) == pytest.approx(1.0) for w in found["weights"])


def test_lanczos_ends_where_the_space_does():
    h = torch.diag(torch.tensor([3.0, 3.0, 1.0], dtype=torch.float64))
    values, weights, residuals = sharpness.lanczos(lambda v: h @ v, torch.ones(3, dtype=torch.float64), 10)
    np.testing.assert_allclose(values, [1.0, 3.0])
    np.testing.assert_allclose(weights, [1 / 3, 2 / 3])
    assert residuals.max() < 1e-12


def test_directions_have_the_columns_norms_and_landscapes_their_shape():
    surface, rng = quadratic()
    d = sharpness.direction(surface, rng)
    np.testing.assert_allclose(d[:30].view(10, 3).norm(dim=0), surface.origin[:30].view(10, 3).norm(dim=0))
    assert not d[30:].any()
    found = sharpness.landscape(surface, 5, 2, 3, 0.5, np.random.default_rng(1), nothing)
    d = sharpness.direction(surface, np.random.default_rng(1))
    curve = 1 + 0.5 * np.linspace(-0.5, 0.5, 5) ** 2 * float(d @ surface.h @ d)
    np.testing.assert_allclose(found["lines"][0], curve)
    assert np.shape(found["lines"]) == (2, 5) and np.shape(found["square"]) == (3, 3) and found["square"][1][1] == 1.0


@pytest.fixture(scope="module")
def surface():
    config = AllegroConfig(("N", "H"), 3.5, average_neighbors=5.0, bessel_trainable=True, zbl=True, **SMALL)
    data = dataset.Dataset([to_frame(a) for a in structures(5)], 3.5)
    sharpness.HESSIAN_ATOMS, kept = 15, sharpness.HESSIAN_ATOMS  # several batches
    made = sharpness.NetworkSurface(AllegroNetwork(config, torch.float64), data, (1.0, 0.7))
    sharpness.HESSIAN_ATOMS = kept
    assert len(made.batches) > 1
    return made


def test_hessian_product_is_the_difference_of_gradients(surface):
    w, rng = surface.origin, np.random.default_rng(3)
    v = torch.from_numpy(rng.normal(size=len(w)))
    v /= v.norm()
    step = 2e-4
    g = {k: surface.gradient(w + k * step * v) for k in (-2, -1, 1, 2)}
    slope = (8 * (g[1] - g[-1]) - (g[2] - g[-2])) / (12 * step)
    product = surface.product(v)
    assert float((product - slope).norm() / slope.norm()) < 1e-6
    u = torch.from_numpy(rng.normal(size=len(w)))
    assert float(u @ product) == pytest.approx(float(v @ surface.product(u)), rel=1e-9)  # symmetric


def test_gradient_and_loss_of_the_surface_agree_and_leave_the_weights(surface):
    w = surface.origin.clone()
    v = torch.from_numpy(np.random.default_rng(5).normal(size=len(w)))
    slope = (surface.loss(w + 1e-5 * v) - surface.loss(w - 1e-5 * v)) / 2e-5
    assert slope == pytest.approx(float(surface.gradient(w) @ v), rel=1e-6)
    assert torch.equal(torch.cat([p.detach().reshape(-1) for p in surface.parameters]), w)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("model")
    training.train(decks.read(workplace(place, DECK + "epochs 1\n"), TABLE))
    return place


FLAGS = ["--frames", "3", "--draws", "4", "--starts", "2", "--climb-steps", "2", "--runs", "1", "--steps", "4",
         "--probes", "2", "--landscape", "5", "3"]


def test_the_command(model, tmp_path, capsys):
    args = [str(model / "model.safetensors"), str(model / "set.xyz"), "--part", "training", *FLAGS]
    for name in ("a", "b"):
        sharpness_command.main([*args, "--out", str(tmp_path / name), "--json", str(tmp_path / f"{name}.json")])
    report = json.loads((tmp_path / "a.json").read_text())
    assert report == json.loads((tmp_path / "b.json").read_text())  # seeded
    assert report["frames"] == 3 and report["climb"]["max"] >= report["climb"]["one_step"] > 0
    assert report["hessian"]["largest"][0]["value"] > 0
    text = capsys.readouterr().out
    assert f"‖w‖ {report['norm']:.4f}" in text and "±" in text
    for name in ("landscape_1d.png", "landscape_2d.png", "spectrum.png"):
        assert (tmp_path / "a" / name).read_bytes()[:4] == b"\x89PNG"


def test_faults_are_named(model, tmp_path):
    with pytest.raises(InputError, match=r"--steps: must be at least 2\nsharpness: --rho: must be above zero"):
        sharpness_command.main([str(model / "model.safetensors"), str(model / "set.xyz"), "--steps", "1", "--rho", "0"])
    with pytest.raises(InputError, match=r"gone.xyz: no such file"):
        sharpness_command.main([str(model / "model.safetensors"), "gone.xyz", *FLAGS])
