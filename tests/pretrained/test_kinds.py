"""Kinds of checkpoints are told apart, and what is not supported is refused in one line that says why."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import matlab_networks, weights
from reference.checkpoints import CASES
from reference.torch_files import write_zip

from tfplaces.common.errors import UserError
from tfplaces.models import PlaceNet
from tfplaces.pretrained.importing import import_network
from tfplaces.pretrained.kinds import KINDS

Change = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def with_shapes(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}


NETVLAD = with_shapes({"conv.weight": (6, 512, 1, 1), "centroids": (6, 512)})
GEM_FC = with_shapes({"aggregation.1.p": (1,), "aggregation.3.weight": (8, 512), "aggregation.3.bias": (8,)})


def cosplace() -> dict[str, np.ndarray]:
    return weights.renamed(weights.resnet(18), "backbone.", sequential=True) | GEM_FC


def mixvpr(positions: int = 15, hidden: int = 15) -> dict[str, np.ndarray]:
    name = "aggregator.mix.0.mix"
    shapes = {f"{name}.0.weight": (positions,), f"{name}.0.bias": (positions,), f"{name}.1.bias": (hidden,)}
    shapes |= {f"{name}.1.weight": (hidden, positions), f"{name}.3.weight": (positions, hidden)}
    shapes |= {f"{name}.3.bias": (positions,), "aggregator.channel_proj.weight": (8, 256)}
    shapes |= {"aggregator.channel_proj.bias": (8,), "aggregator.row_proj.bias": (2,)}
    shapes["aggregator.row_proj.weight"] = (2, positions)
    return weights.renamed(weights.resnet(18, 3), "backbone.model.") | with_shapes(shapes)


def refusal(tmp_path: Path, content: Any, **options: Any) -> str:
    """The one line that a file is refused with, without the path that it begins with."""
    path = write_zip(tmp_path / "a.pth", content)
    with pytest.raises(UserError) as error:
        import_network(path, **options)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text and len(text) < 600
    return text.removeprefix(f"{path}: ")


def test_every_kind_has_a_case_or_is_the_backbones_own() -> None:
    assert {make().kind for make in CASES.values()} == KINDS.keys() - {"npz"}


def test_nothing_that_is_known(tmp_path: Path) -> None:
    text = refusal(tmp_path, with_shapes({f"net.{k}.weight": (k + 1, 2) for k in range(9)}))
    assert text == (
        "is of no kind that is known; it holds net.0.weight [1, 2], net.1.weight [2, 2], net.2.weight [3, 2], "
        f"net.3.weight [4, 2] and 5 more; the kinds are {', '.join(KINDS)}"
    )


def test_two_kinds_at_once(tmp_path: Path) -> None:
    both = with_shapes({"conv1.weight": (1,), "layer1.0.conv1.weight": (1,), "encoder.0.weight": (1,)})
    both |= {f"pool.{name}": tensor for name, tensor in NETVLAD.items()}
    assert refusal(tmp_path, both).startswith("may be pytorch_netvlad or torchvision: say which with --kind; it holds")


def test_a_kind_that_does_not_fit(tmp_path: Path) -> None:
    text = refusal(tmp_path, cosplace(), kind="mixvpr")
    assert text == "not a checkpoint of the kind mixvpr (amaralibey/MixVPR); it looks like cosplace"
    with pytest.raises(UserError, match=r"^kind 'resnet' is not known; there are cosplace, "):
        import_network(tmp_path / "a.pth", kind="resnet")


@pytest.mark.parametrize(
    "name",
    ["backbone.model.blocks.0.attn.qkv.weight", "backbone.cls_token", "aggregator.encs.0.self_attn.in_proj_bias"],
)
def test_transformers(name: str, tmp_path: Path) -> None:
    text = refusal(tmp_path, with_shapes({"aggregator.p": (1,), name: (8, 4)}))
    assert (
        text.startswith(f"a network with attention ({name}), such as a vision transformer") and "not supported" in text
    )


@pytest.mark.parametrize(("depth", "network"), [(34, "resnet34"), (101, "resnet101"), (152, "resnet152")])
def test_other_depths(depth: int, network: str, tmp_path: Path) -> None:
    names = {name: (1,) for name in weights.resnet(depth, 4)} if depth < 100 else {}
    if not names:
        for layer, blocks in enumerate(weights.RESNET_BLOCKS[depth], 1):
            names |= {f"layer{layer}.{k}.conv{c}.weight": (1,) for k in range(blocks) for c in (1, 2, 3)}
        names["bn1.weight"] = (64,)
    content = with_shapes({**names, "conv1.weight": (64, 3, 7, 7)})
    text = refusal(tmp_path, weights.renamed(content, "backbone.", sequential=True) | GEM_FC)
    assert f"its backbone, below 'backbone.', is {network}; " in text and "resnet18, resnet50, vgg16 can be" in text


def test_torchvisions_alexnet(tmp_path: Path) -> None:
    state = with_shapes({"encoder.0.weight": (64, 3, 11, 11), "encoder.3.weight": (192, 64, 5, 5)})
    state |= {f"pool.{name}": tensor for name, tensor in NETVLAD.items()}
    assert "is torchvision's AlexNet; " in refusal(tmp_path, state)


def without(name: str) -> Change:
    return lambda state: {key: tensor for key, tensor in state.items() if key != name}


def changed(name: str, tensor: np.ndarray) -> Change:
    return lambda state: {**state, name: tensor}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("backbone.6.1.bn2.running_var"), "no tensor 'backbone.6.1.bn2.running_var'"),
        (without("aggregation.3.bias"), "no tensor 'aggregation.3.bias', which a network of this kind has"),
        (
            changed("aggregation.3.weight", np.zeros((8, 2048), np.float32)),
            "aggregation.3.weight has shape [8, 2048], expected [any, 512]",
        ),
        (changed("aggregation.3.bias", np.zeros(8, np.int64)), "aggregation.3.bias holds int64, not floating-point"),
        (changed("aggregation.3.bias", np.full(8, np.nan, np.float32)), "aggregation.3.bias has values that are not"),
        (changed("aggregation.3.bias", np.full(8, 1e300)), "aggregation.3.bias has values that are not finite"),
        (changed("aggregation.1.p", np.zeros(2, np.float32)), "aggregation.1.p has shape [2], expected [1]"),
        (changed("aggregation.1.p", np.zeros(1, np.float32)), "aggregation.1.p is 0.0, and GeM has a power above 0"),
        (changed("backbone.0.weight", np.zeros((64, 1, 7, 7), np.float32)), "its backbone, below 'backbone.', is none"),
    ],
)
def test_damaged_ones(change: Change, message: str, tmp_path: Path) -> None:
    assert message in refusal(tmp_path, change(cosplace()))


def test_mixvpr_belongs_to_its_size(tmp_path: Path) -> None:
    """15 positions are no square; 48x80 images have 3 x 5, 80x48 as well, 64x64 have 16."""
    assert "weights for 15 positions, which are no square; say with --input_size" in refusal(tmp_path, mixvpr())
    text = refusal(tmp_path, mixvpr(), input_size=(64, 64))
    assert text == "its MixVPR has weights for 15 positions, and images of 64x64 have 4x4 = 16"
    made = import_network(write_zip(tmp_path / "a.pth", mixvpr()), input_size=(48, 80))
    assert made.model.input_size == (48, 80) and made.model.descriptor_dim == 16
    square = import_network(write_zip(tmp_path / "a.pth", mixvpr(positions=9, hidden=9)))
    assert square.model.input_size == (48, 48)
    text = refusal(tmp_path, mixvpr(hidden=30), input_size=(48, 80))
    assert text == "aggregator.mix.0.mix.1.weight has shape [30, 15], expected [15, 15]"


def deep_vg(names: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    return weights.renamed(weights.resnet(18, 3), "backbone.", sequential=True) | with_shapes(names)


def test_what_the_names_of_deep_vg_do_not_say(tmp_path: Path) -> None:
    linear = {"aggregation.1.weight": (4, 256), "aggregation.1.bias": (4,)}
    text = refusal(tmp_path, deep_vg({"aggregation.0.0.p": (1,), **linear}))
    assert text.startswith("its names do not say whether the pooled vector is normalised before the linear layer")
    crn = {"aggregation.conv.weight": (6, 256, 1, 1), "aggregation.centroids": (6, 256)}
    assert refusal(tmp_path, deep_vg({**crn, "aggregation.crn.accumulate.weight": (1,)})).startswith("a CRN ")
    assert "no kind that is known" in refusal(tmp_path, deep_vg({}))


def saved_npz(path: Path, backbone: str, int8: bool = False) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for layer in PlaceNet(backbone).backbone_layers:
        for variable in layer.weights:
            values = np.random.default_rng(len(arrays)).integers(-99, 99, tuple(variable.shape))
            arrays[f"{layer.name}/{variable.name}"] = values.astype(np.int8 if int8 and values.ndim > 1 else np.float16)
        if int8 and layer.weights:
            channels = layer.kernel.shape[2 if hasattr(layer, "depth_multiplier") else 3]
            arrays[f"{layer.name}/scale"] = np.linspace(0.1, 0.2, channels, dtype=np.float32)
    np.savez(path, **arrays)
    return arrays


def test_npz_files_with_our_names(tmp_path: Path) -> None:
    """SqueezeNet's first kernel is published for BGR; MobileNet's depthwise kernels have a scale for each channel."""
    path = tmp_path / "a.npz"
    arrays = saved_npz(path, "squeezenet")
    made = import_network(path)
    assert (made.kind, made.model.config["backbone"], made.model.config["aggregation"]) == ("npz", "squeezenet", "gem")
    np.testing.assert_array_equal(made.model.get_layer("conv1").kernel, arrays["conv1/kernel"][:, :, ::-1])
    assert any("for BGR" in note for note in made.notes) and any("--backbone=squeezenet" in note for note in made.notes)

    arrays = saved_npz(path, "mobilenet_v1", int8=True)
    made = import_network(path)
    assert made.left_out == []
    expected = arrays["conv_dw_1/kernel"] * arrays["conv_dw_1/scale"][:, None]
    np.testing.assert_allclose(made.model.get_layer("conv_dw_1").kernel, expected, rtol=1e-6)


def test_npz_files_that_fit_several_backbones_or_none(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    arrays = saved_npz(path, "alexnet")
    with pytest.raises(UserError, match=r"fits alexnet and caffenet, .*tfplaces-train --backbone=NAME"):
        import_network(path)
    np.savez(path, **{name: array for name, array in arrays.items() if name != "conv3/bias"})
    with pytest.raises(UserError, match="its arrays are those of no backbone that there is: conv1/kernel"):
        import_network(path)


def test_refusals_are_safe_to_print(tmp_path: Path) -> None:
    name = "backbone.\x1b[31m.attn.\u202e.weight"
    text = refusal(tmp_path, with_shapes({name: (2,)}))
    assert not re.search(r"[\x00-\x1f\u202a-\u202e]", text)


def matlab_refusal(tmp_path: Path, change: Callable[[list[dict[str, Any]]], Any], caffenet: bool = False) -> str:
    """The line that a network of MatConvNet is refused with once its list of layers is changed."""
    rng = np.random.default_rng(0)
    layers = matlab_networks.caffenet_layers() if caffenet else matlab_networks.vgg16_layers()
    channels = 256 if caffenet else 512
    vlad = [rng.standard_normal((1, 1, channels, 6), np.float32) for _ in range(2)]
    pca = (rng.standard_normal((6 * channels, 4), np.float32), np.zeros(4, np.float32))
    layers += matlab_networks.netvlad_layers(vlad, pca)
    layers = [dict(layer) for layer in layers]
    change(layers)
    path = matlab_networks.write_network(tmp_path / "a.mat", layers)
    with pytest.raises(UserError) as error:
        import_network(path)
    text = str(error.value)
    assert text.startswith(f"{path}: ") and "\n" not in text
    return text.removeprefix(f"{path}: ")


def named(layers: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(layer for layer in layers if layer["name"] == name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda layers: layers.pop(), "its last layers are conv5_3, preL2, "),
        (lambda layers: layers.remove(named(layers, "relu3_2")), "a backbone of the layers conv1_1 (conv), relu1_1"),
        (
            lambda layers: layers.insert(-6, {"name": "pool5", "type": "pool"}),
            "a backbone of the layers conv1_1 (conv)",
        ),
        (lambda layers: named(layers, "conv3_2").update(pad=np.zeros(4)), "its layer conv3_2 is of type conv with"),
        (lambda layers: named(layers, "pool2").update(method="avg"), "its layer pool2 is of type pool with"),
        (lambda layers: named(layers, "preL2").update(param=np.array([5, 1, 1e-4, 0.75])), "preL2 has parameters"),
        (lambda layers: named(layers, "WPCA").update(weights=[np.zeros((1, 1, 9, 4)), np.zeros(4)]), "WPCA takes 9"),
        (
            lambda layers: named(layers, "vlad:core").update(weights=[np.ones((1, 1, 512, 6))]),
            "vlad:core has no weights",
        ),
        (
            lambda layers: named(layers, "vlad:core").update(weights=[np.ones((1, 1, 512, 6), np.uint8)] * 2),
            "vlad:core/0 holds uint8, not floating-point numbers",
        ),
        (
            lambda layers: named(layers, "WPCA").update(weights=[np.ones((2, 1, 3072, 4)), np.zeros(4)]),
            "expected [1, 1, ",
        ),
        (lambda layers: layers.remove(named(layers, "conv4_2")), "a backbone of the layers conv1_1 (conv), relu1_1"),
        (lambda layers: named(layers, "relu1_1").update(type="sigmoid"), "conv1_1 (conv), relu1_1 (sigmoid)"),
    ],
)
def test_networks_of_matconvnet_that_are_not_ours(change: Callable, message: str, tmp_path: Path) -> None:
    assert message in matlab_refusal(tmp_path, change)


def test_response_normalisation_of_another_strength(tmp_path: Path) -> None:
    """1e-4 is Caffe's number, of which MatConvNet writes a fifth."""
    text = matlab_refusal(
        tmp_path, lambda layers: named(layers, "norm1").update(param=np.array([5, 1, 1e-4, 0.75])), caffenet=True
    )
    assert text.startswith("its layer norm1 is of type normalize with param")


def test_a_network_with_the_last_relu(tmp_path: Path) -> None:
    layers = [*matlab_networks.vgg16_layers(), {"name": "relu5_3", "type": "relu"}]
    vlad = [np.random.default_rng(0).standard_normal((1, 1, 512, 6), np.float32) for _ in range(2)]
    path = matlab_networks.write_network(tmp_path / "a.mat", layers + matlab_networks.netvlad_layers(vlad, None))
    assert import_network(path, input_size=(64, 64)).model.config["cut"] == "relu5_3"


def test_padding_behind_that_changes_nothing(tmp_path: Path) -> None:
    """As in networks that were converted from Caffe: at sides that are multiples of 16 the poolings see none of it."""
    layers = [dict(layer) for layer in matlab_networks.vgg16_layers()]
    for layer in layers:
        if layer["type"] == "pool":
            layer["pad"] = np.array([0.0, 1, 0, 1])
    vlad = [np.random.default_rng(0).standard_normal((1, 1, 512, 6), np.float32) for _ in range(2)]
    path = matlab_networks.write_network(tmp_path / "a.mat", layers + matlab_networks.netvlad_layers(vlad, None))
    made = import_network(path)
    assert (made.model.input_size, made.model.config["cut"]) == ((480, 640), "conv5_3")
    with pytest.raises(UserError, match="its layer pool1 is of type pool"):
        import_network(path, input_size=(100, 96))
