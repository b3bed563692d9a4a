"""The older form of the Allegro network (``allegro`` 0.2), used by the published Allegro-Legato models.

Equations: Musaelian et al., Nat. Commun. 14, 579 (2023), in the form allegro 0.2 with nequip 0.5 computes them.
The cutoff envelope multiplies the latent scalars of every layer, a residual update joins them, and a linear map
joins the products of tensors over channels and paths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from rxmdnn.models.activations import LINEAR
from rxmdnn.models.allegro_network import (
    MLP,
    Linear,
    NetworkConfig,
    PairNetwork,
    envelope,
    mlp_shapes,
    spherical_harmonics,
)
from rxmdnn.models.clebsch_gordan import path_tables

SILU_GAIN = 1.6791767923989418  # estimate of e3nn of <silu(z)²>^(-1/2), z ~ N(0, 1)
SAMPLES = 4000  # distances at which the radial basis is normalized


@dataclass(frozen=True)
class LegacyConfig(NetworkConfig):
    """The shape of a LegacyNetwork.

    Attributes
    ----------
    as NetworkConfig; r_max is one number
    embed_widths, latent_widths, readout_widths : sizes of the layers of the two-body, the latent and the edge-energy
        MLP; the last size of the first two is that of the latent scalars, the readout ends in one more layer of size 1
    embed_silu, latent_silu, readout_silu : whether SiLU stands between the layers of an MLP
    residual : the latent scalars of each layer add to those of the layer before, instead of replacing them
    residual_trainable : whether training changes the ratios of new to old
    """

    n_layers: int = 3
    bessel_trainable: bool = True
    embed_widths: tuple[int, ...] = (32, 64, 128)
    latent_widths: tuple[int, ...] = (128,)
    readout_widths: tuple[int, ...] = (32,)
    embed_silu: bool = True
    latent_silu: bool = True
    readout_silu: bool = False
    residual: bool = True
    residual_trainable: bool = False

    logicals: ClassVar = (*NetworkConfig.logicals, "embed_silu", "latent_silu", "readout_silu", "residual",
                          "residual_trainable")

    def _own_faults(self) -> list[str]:
        faults = [] if isinstance(self.r_max, (int, float)) else [f"r_max: {self.r_max!r}: must be one number"]
        good = True
        for name, least in (("embed_widths", 1), ("latent_widths", 1), ("readout_widths", 0)):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not least <= len(value) <= 16 or not all(
                    isinstance(w, int) and not isinstance(w, bool) and 1 <= w <= 8192 for w in value):
                good = False
                faults.append(f"{name}: {value!r}: must be {least} to 16 integers from 1 to 8192")
        if good and self.embed_widths[-1] != self.latent_widths[-1]:
            faults.append(f"latent_widths: {self.latent_widths}: must end in the size of the latent scalars, "
                          f"{self.embed_widths[-1]}, where embed_widths ends")
        return faults


class LegacyNetwork(PairNetwork):
    """E_i = shift + scale N̄^(-1/2) Σ_j e_ij, e_ij from the strictly local features of the edge i → j.

    With x = r/r_max, envelope f(x), one-hot species s and normalized Bessel functions b:
    z_0 = f MLP[s_i, s_j, f b]; V_0 and the environment A_k weigh harmonics linearly in z_0 and z_k; layer k forms all
    products P of V_k and A_k, V_{k+1} joins them linearly, and with P's scalars P^0 and the ratio ρ = sigmoid(residual)
    z_{k+1} = (z_k + ρ f MLP[z_k, P^0]) / √(1 + ρ²); e_ij = MLP[z_n].
    The linear map after the last layer is left out, since nothing depends on it.

    Tensor features are (edge, component, channel), channels last; a weight of irrep l and channel u has column l U + u.
    Use, parameters and attributes as PairNetwork.
    """

    form = "0.2"
    basis_mean: Tensor
    basis_inv_std: Tensor
    residual: Tensor

    def __init__(self, config: LegacyConfig, dtype: torch.dtype = torch.float32) -> None:
        c = config
        tables = path_tables(c.l_max, c.parity, c.n_layers)
        super().__init__(c, dtype, [table for table, _ in tables])
        self.all_mixes = [mixes for _, mixes in tables]
        generator = torch.Generator().manual_seed(c.seed)
        self._register("residual", torch.zeros(c.n_layers, dtype=torch.float64), c.residual_trainable)
        samples = torch.linspace(0, 1, SAMPLES + 1, dtype=torch.float64)[1:]
        std, mean = torch.std_mean(self._bessel(samples).detach(), dim=0)
        self.register_buffer("basis_mean", mean)
        self.register_buffer("basis_inv_std", 1 / std)

        def mlp(sizes: tuple[int, ...], silu: bool) -> MLP:
            return MLP(sizes, generator, dtype, SILU_GAIN, "silu" if silu else LINEAR)

        def linear(sizes: tuple[int, ...]) -> Linear:
            return Linear(sizes[0], sizes[1], 1.0, generator, dtype)

        sizes = self._sizes(c)
        self.embed = mlp(sizes["embed"], c.embed_silu)
        self.env = nn.ModuleList(linear(sizes[f"env.{k}"]) for k in range(c.n_layers))
        self.latents = nn.ModuleList(mlp(sizes[f"latents.{k}"], c.latent_silu) for k in range(c.n_layers))
        self.mixes = nn.ModuleList(
            nn.ModuleList(linear(sizes[f"mixes.{k}.{o}"]) for o in range(len(mixes)))
            for k, mixes in enumerate(self.all_mixes[:-1]))
        self.readout = mlp(sizes["readout"], c.readout_silu)

    @staticmethod
    def _sizes(config: LegacyConfig) -> dict[str, tuple[int, ...]]:
        """Sizes of the linear maps and MLPs, by name."""
        c, u, s = config, config.n_tensor, config.embed_widths[-1]
        out: dict[str, tuple[int, ...]] = {"embed": (2 * len(c.elements) + c.n_bessel, *c.embed_widths)}
        for k, (_, mixes) in enumerate(path_tables(c.l_max, c.parity, c.n_layers)):
            out[f"env.{k}"] = (s, (2 if k == 0 else 1) * (c.l_max + 1) * u)
            out[f"latents.{k}"] = (s + mixes[0].paths * u, *c.latent_widths)
            if k < c.n_layers - 1:
                out.update({f"mixes.{k}.{o}": (mix.paths * u, u) for o, mix in enumerate(mixes)})
        return out | {"readout": (s, *c.readout_widths, 1)}

    @staticmethod
    def shapes(config: LegacyConfig) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the state dict, without allocation; a file is checked against them."""
        c, t = config, len(config.elements)
        out: dict[str, tuple[int, ...]] = {
            "bessel": (c.n_bessel,), "scale": (t,), "shift": (t,), "residual": (c.n_layers,),
            "basis_mean": (c.n_bessel,), "basis_inv_std": (c.n_bessel,)}
        for name, sizes in LegacyNetwork._sizes(c).items():
            out |= {f"{name}.weight": sizes} if name.startswith(("env", "mixes")) else mlp_shapes(name, sizes)
        return out

    def _bessel(self, x: Tensor) -> Tensor:
        """2/r_max · sin(π β x)/r, (m, b) float64, 1/Å²."""
        return torch.sinc(x[:, None] * self.bessel) * self.bessel * (2 * math.pi / float(self.config.r_max) ** 2)

    def coefficients(self) -> list[tuple[Tensor, Tensor]]:
        """The coefficients of the old and of the new latent scalars in each update."""
        ratio = torch.sigmoid(self.residual)
        if not self.config.residual:
            return [(torch.zeros_like(r), torch.ones_like(r)) for r in ratio]
        return [((1 + r * r).rsqrt(), r * (1 + r * r).rsqrt()) for r in ratio]

    def mix_matrices(self, k: int) -> list[Tensor]:
        """The linear map of each irrep after layer k: (paths · U, U), rows in the order (path, channel)."""
        return [linear.matrix() for linear in cast(Any, self.mixes[k])]

    def forward(self, r_ij: Tensor, center: Tensor, species_center: Tensor, species_neighbor: Tensor) -> Tensor:
        """Energies of the centers; arguments and result as AllegroNetwork.forward."""
        c, n, m, u = self.config, len(species_center), len(r_ij), self.config.n_tensor
        t, of_edge = len(c.elements), species_center[center]
        r = r_ij.square().sum(-1).sqrt()
        x = r * self.inv_cutoff[of_edge, species_neighbor]
        cut = envelope(x, c.envelope_p)[:, None]
        radial = ((self._bessel(x) - self.basis_mean) * self.basis_inv_std * cut).to(self.dtype)
        cut = cut.to(self.dtype)
        y = spherical_harmonics(c.l_max, r_ij / r[:, None]).to(self.dtype)
        one_hot = torch.eye(t, dtype=self.dtype, device=y.device)
        (z,) = self.embed([one_hot[of_edge], one_hot[species_neighbor], radial], [c.embed_widths[-1]])
        z = cut * z
        v, norm = z, self.norm[species_center][:, None]
        for k, ((old, new), mlp) in enumerate(zip(self.coefficients(), self.latents)):
            w = (z @ cast(Linear, self.env[k]).matrix()).view(m, -1, u)
            if k == 0:
                own, w = w.split(c.l_max + 1, dim=1)
                v = self._weigh(own, y, torch.arange(m, device=y.device), m)
            a = self._weigh(w, y, center, n) * norm[:, :, None]
            products = self._product(k, v, a, center)
            scalars = products[:, : self.all_mixes[k][0].paths].reshape(m, -1)
            (update,) = mlp([z, scalars], [c.latent_widths[-1]])
            z = old.to(self.dtype) * z + new.to(self.dtype) * cut * update
            if k < c.n_layers - 1:
                v = torch.cat([products[:, mix.start_in : mix.start_in + (2 * mix.l + 1) * mix.paths].reshape(
                    m, 2 * mix.l + 1, mix.paths * u) @ matrix
                    for mix, matrix in zip(self.all_mixes[k], self.mix_matrices(k))], dim=1)
        (e_ij,) = self.readout([z], [1])
        return self._energies(e_ij, norm, r, center, species_center, species_neighbor)
