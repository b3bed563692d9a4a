"""TorchScript files as nequip since 0.7 writes them: read into plain objects, and imported without their code."""

import numpy as np
import pytest
import torch

from rxmdnn.errors import InputError
from rxmdnn.models.model_file import load_model
from rxmdnn.models.scripted import Part, class_name, parts_of
from rxmdnn.models.torchscript import read_torchscript
from tests.unit.models.test_allegro import network
from tests.unit.models.test_torchscript import Node


class ScalarLinearLayer(Node):
    pass


class SiLU(Node):
    pass


class Softplus(Node):
    pass


def arrays_of(net):
    """The state dict of nequip-allegro for the weights of a network, by name."""
    c, state = net.config, {}
    u_major = np.arange((c.l_max + 1) * c.n_tensor).reshape(c.l_max + 1, c.n_tensor).T.reshape(-1)

    def put(name, linear, tail=None):
        weight = linear.weight.detach()
        if tail is not None and weight.shape[1] > tail:
            weight = torch.cat([weight[:, :tail], weight[:, tail:][:, u_major]], dim=1)
        state[f"{name}.weight"], state[f"{name}.alpha"] = weight, torch.tensor(linear.alpha)

    embed = "radial_chemical_embed."
    state["edge_norm._rmax_recip"] = torch.tensor(1 / c.r_max, dtype=torch.float64)
    state[f"{embed}bessel_encode.bessel_weights"] = net.bessel
    state[f"{embed}type_embed.center_embed.weight"] = net.center_embed.detach()
    state[f"{embed}type_embed.neighbor_embed.weight"] = net.neighbor_embed.detach()
    put(f"{embed}type_embed.basis_linear.mlp.0", net.basis)
    for k, linear in enumerate(net.embed.linears):
        put(f"scalar_embed_mlp.mlp_module.mlp.{2 * k}", linear)
    put("tensor_embed.env_embed_linear.mlp.0", net.tensor_embed, 0)
    put("allegro.first_layer_env_embed_projection.mlp.0", net.project, c.n_scalar)
    state["allegro.avg_num_neighbors_norm.norm_const"] = torch.tensor(c.average_neighbors**-0.5)
    for layer, mlp in enumerate(net.latents):
        for k, linear in enumerate(mlp.linears):
            put(f"allegro.latents.{layer}.mlp.{2 * k}", linear, c.n_scalar if k == len(mlp.linears) - 1 else None)
    for k, weights in enumerate(net.path_weights):
        state[f"allegro.tps.{k}.weights"] = weights.detach().T.contiguous()
    for k, linear in enumerate(net.readout.linears):
        put(f"edge_readout.mlp_module.mlp.{2 * k}", linear)
    state["edge_eng_sum.norm_module.norm_const"] = torch.tensor(c.average_neighbors**-0.5)
    state["per_type_energy_scale_shift.scales"] = net.scale
    state["per_type_energy_scale_shift.shifts"] = net.shift
    state["total_energy_sum.one"] = torch.ones(1)
    return state


def write(path, net, nonlinearity=SiLU, **changes):
    """A TorchScript file of these arrays with the attributes that the import reads."""
    c, model = net.config, Node()
    attributes = {
        "radial_chemical_embed.bessel_encode": {"num_bessels": c.n_bessel, "trainable": False},
        "radial_chemical_embed.bessel_encode.cutoff": {"p": c.envelope_p}, "edge_eng_sum": {"reduce": "sum"},
        "allegro": {"num_scalar_features": c.n_scalar, "num_tensor_features": c.n_tensor},
        "allegro._env_weighter": {"weight_individual_irreps": True},
        "tensor_embed._edge_weighter": {"weight_individual_irreps": True},
        "per_type_energy_scale_shift": dict.fromkeys(("has_scales", "has_shifts"), True)
        | dict.fromkeys(("scales_trainable", "shifts_trainable"), False)}
    for k, (table, d_in) in enumerate(zip(net.tables, [(c.l_max + 1) ** 2, *(t.d_out for t in net.tables)])):
        attributes[f"allegro.tps.{k}"] = {"base_dim1": d_in, "base_dim2": (c.l_max + 1) ** 2,
                                          "num_paths": table.n_paths, "path_channel_coupling": True}

    def node(name, kind=Node):
        at, done = model, []
        for part in ["model", "func", *name.split(".")]:
            done.append(part)
            if part not in dict(at.named_children()):
                at.add_module(part, (kind if done[2:] == name.split(".") else Node)())
            at = at.get_submodule(part)
        return at

    for name, value in arrays_of(net).items():
        parent, _, last = name.rpartition(".")
        made = node(parent, ScalarLinearLayer if ".mlp." in parent else Node)
        made.register_buffer(last, value)
        if isinstance(made, ScalarLinearLayer):
            made.bias = None
            number = int(parent.rpartition(".")[2])
            if number and last == "weight":  # in the order of the file: before this layer
                layers = node(parent.rpartition(".")[0])
                del layers._modules[str(number)]
                layers.add_module(str(number - 1), nonlinearity())
                layers.add_module(str(number), made)
    attributes["allegro"].update(changes)
    for name, values in attributes.items():
        for key, value in values.items():
            setattr(node(name), key, value)
    torch.jit.script(model).save(str(path), _extra_files={"type_names": " ".join(c.elements), "r_max": str(c.r_max)})


@pytest.mark.parametrize("settings", [{}, {"l_max": 2, "n_layers": 3}, {"parity": False, "l_max": 2, "n_layers": 3},
                                      {"embed_depth": 2, "latent_depth": 2, "readout_depth": 2}], ids=str)
def test_import_gives_back_the_network(tmp_path, settings):
    net = network(**settings)
    write(tmp_path / "model.nequip.pth", net)
    again = load_model(tmp_path / "model.nequip.pth")
    assert again.config.elements == net.config.elements and again.config.parity == net.config.parity
    for name, value in net.state_dict().items():
        assert torch.allclose(again.state_dict()[name].double(), value.double(), rtol=1e-6, atol=1e-7), name


def test_what_is_not_computed_is_refused(tmp_path):
    write(tmp_path / "m", network(), Softplus)
    with pytest.raises(InputError, match=r"m: the model has the nonlinearity Softplus \(only") as caught:
        load_model(tmp_path / "m")
    assert "\n" not in str(caught.value)


def test_parts_hold_what_the_file_holds(tmp_path):
    write(tmp_path / "m", network())
    top = parts_of(read_torchscript(tmp_path / "m"))
    mlp = top.model.func.scalar_embed_mlp.mlp_module.mlp
    assert isinstance(mlp, Part) and [class_name(part) for part in mlp] == ["ScalarLinearLayer", "SiLU",
                                                                           "ScalarLinearLayer"]
    assert len(mlp) == 3 and mlp[0].bias is None and mlp[2].weight.dtype == torch.float64
    assert [name for name, _ in top.model.func.named_children()][:2] == ["edge_norm", "radial_chemical_embed"]
    assert class_name(network()) == "AllegroNetwork"


@pytest.mark.parametrize("changes, message", [
    ({"num_scalar_features": 4096, "num_tensor_features": 4096}, "sizes that its arrays do not have"),
    ({"num_scalar_features": 10}, "not an Allegro model as|unexpected shape"),
    ({"num_scalar_features": -2}, "n_scalar"), ({"num_tensor_features": "x"}, "n_tensor"), ({"class_name": 7}, "")],
    ids=str)
def test_wrong_attributes(tmp_path, changes, message):
    write(tmp_path / "m", network(), **changes)
    if not message:  # attributes that mean nothing here
        assert load_model(tmp_path / "m").config.elements == network().config.elements
        return
    with pytest.raises(InputError, match=message) as caught:
        load_model(tmp_path / "m")
    assert "\n" not in str(caught.value)
