"""Backbones of PyTorch files: what they compute against numpy, batch norm not folded there; names; and what is refused.

The forward passes here are written from torchvision's and EfficientNet-Lite's definitions, in float64, for maps
`[channels, height, width]`, and share nothing with the package.
"""

import itertools
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from tfplaces.common.errors import DataWarning, UserError
from tfplaces.models import BACKBONES, PlaceNet
from tfplaces.models.backbones import resnet
from tfplaces.pretrained.backbone_weights import load_backbone_weights, set_backbone_weights
from tfplaces.pretrained.torch_backbones import (
    backbone_arrays,
    folded_arrays,
    resnet_convolutions,
    torch_preprocessing,
)
from tfplaces.pretrained.torch_names import find_backbone

Tensors = dict[str, np.ndarray]
RESNETS = {18: (False, (2, 2, 2, 2)), 34: (False, (3, 4, 6, 3)), 50: (True, (3, 4, 6, 3)), 101: (True, (3, 4, 23, 3))}
# Kernel, stride and expansion, channels in and out of each block of EfficientNet-Lite0.
LITE0 = [
    (size, stride if first else 1, expansion, before if first else after, after)
    for count, size, stride, expansion, before, after in [
        (1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80), (3, 5, 1, 6, 80, 112),
        (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320),
    ]
    for first in [True] + [False] * (count - 1)
]  # fmt: skip
VGG16 = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
VGG16_WIDTHS = [64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]


class Random:
    """Tensors that let a signal through; biases and means are large enough that leaving one out shows."""

    def __init__(self, seed: int = 0):
        self.rng, self.tensors = np.random.default_rng(seed), {}

    def kernel(self, name: str, *shape: int) -> None:
        kernel = self.rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
        self.tensors[f"{name}.weight"] = kernel.astype(np.float32)

    def norm(self, name: str, channels: int, gain: float = 1.0) -> None:
        for part, values in (
            ("weight", gain * self.rng.uniform(0.5, 1.5, channels)),
            ("bias", 0.3 * self.rng.standard_normal(channels)),
            ("running_mean", 0.3 * self.rng.standard_normal(channels)),
            ("running_var", self.rng.uniform(0.5, 2, channels)),
        ):
            self.tensors[f"{name}.{part}"] = values.astype(np.float32)
        self.tensors[f"{name}.num_batches_tracked"] = np.array(7, np.int64)


def resnet_tensors(blocks: tuple[int, ...], bottleneck: bool, widths: tuple[int, ...]) -> Tensors:
    made = Random()
    made.kernel("conv1", widths[0], 3, 7, 7)
    made.norm("bn1", widths[0])
    before = widths[0]
    for stage, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
        after = width * (4 if bottleneck else 1)
        for k in range(count):
            name = f"layer{stage}.{k}"
            shapes = [(width, before, 1), (width, width, 3), (after, width, 1)]
            for i, shape in enumerate(shapes if bottleneck else [(width, before, 3), (width, width, 3)], 1):
                made.kernel(f"{name}.conv{i}", *shape, shape[-1])
                made.norm(f"{name}.bn{i}", shape[0], 0.4 if i == 3 - (not bottleneck) else 1.0)
            if k == 0 and (stage > 1 or before != after):
                made.kernel(f"{name}.downsample.0", after, before, 1, 1)
                made.norm(f"{name}.downsample.1", after)
            before = after
    return made.tensors


def lite0_tensors(blocks: int) -> Tensors:
    made = Random()
    made.kernel("_conv_stem", 32, 3, 3, 3)
    made.norm("_bn0", 32)
    for k, (size, _, expansion, before, after) in enumerate(LITE0[:blocks]):
        name, wide = f"_blocks.{k}", before * expansion
        if expansion > 1:
            made.kernel(f"{name}._expand_conv", wide, before, 1, 1)
            made.norm(f"{name}._bn0", wide)
        made.kernel(f"{name}._depthwise_conv", wide, 1, size, size)
        made.norm(f"{name}._bn1", wide)
        made.kernel(f"{name}._project_conv", after, wide, 1, 1)
        made.norm(f"{name}._bn2", after, 0.5)
    return made.tensors


def vgg16_tensors() -> Tensors:
    made = Random()
    for place, (before, after) in zip(VGG16, itertools.pairwise([3, *VGG16_WIDTHS]), strict=True):
        made.kernel(str(place), after, before, 3, 3)
        made.tensors[f"{place}.bias"] = (0.1 * made.rng.standard_normal(after)).astype(np.float32)
    return made.tensors


def conv(x: np.ndarray, kernel: np.ndarray, stride: int, pads: tuple[tuple[int, int], tuple[int, int]]) -> np.ndarray:
    """Correlation; a kernel of one input channel is depthwise."""
    x = np.pad(x, ((0, 0), *pads))
    windows = sliding_window_view(x, kernel.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    kernel = kernel.astype(np.float64)
    if kernel.shape[1] == 1:
        return np.einsum("chwkl,ckl->chw", windows, kernel[:, 0], optimize=True)
    return np.tensordot(kernel, windows, ((1, 2, 3), (0, 3, 4)))


def norm(x: np.ndarray, tensors: Tensors, name: str, epsilon: float) -> np.ndarray:
    mean, variance, weight, bias = (
        tensors[f"{name}.{part}"].astype(np.float64)[:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(variance + epsilon) * weight + bias


def max_pool(x: np.ndarray, size: int, pad: int) -> np.ndarray:
    """Of stride 2; the padding never wins."""
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad)), constant_values=-np.inf)
    return sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2].max((3, 4))


def resnet_stages(x: np.ndarray, tensors: Tensors, blocks: tuple[int, ...], bottleneck: bool) -> list[np.ndarray]:
    """What each stage gives."""

    def convolved(x: np.ndarray, name: str, bn: str, stride: int) -> np.ndarray:
        pad = tensors[f"{name}.weight"].shape[2] // 2
        return norm(conv(x, tensors[f"{name}.weight"], stride, ((pad, pad),) * 2), tensors, bn, 1e-5)

    x = max_pool(np.maximum(convolved(x, "conv1", "bn1", 2), 0), 3, 1)
    stages = []
    for stage, count in enumerate(blocks, 1):
        for k in range(count):
            name, stride = f"layer{stage}.{k}", 2 if stage > 1 and k == 0 else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y = x
            for i, step in enumerate(strides, 1):
                y = convolved(y, f"{name}.conv{i}", f"{name}.bn{i}", step)
                y = np.maximum(y, 0) if i < len(strides) else y
            if f"{name}.downsample.0.weight" in tensors:
                x = convolved(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = np.maximum(x + y, 0)
        stages.append(x)
    return stages


def lite0_layers(x: np.ndarray, tensors: Tensors, blocks: int) -> dict[str, np.ndarray]:
    """What each block gives, by the name of our layer, and what its expansion does."""

    def convolved(x: np.ndarray, name: str, bn: str, stride: int = 1) -> np.ndarray:
        kernel = tensors[f"{name}.weight"]
        pads = []
        for side in x.shape[1:]:  # TensorFlow's "same": the odd pixel comes behind
            total = max((-(-side // stride) - 1) * stride + kernel.shape[2] - side, 0)
            pads.append((total // 2, total - total // 2))
        return norm(conv(x, kernel, stride, (pads[0], pads[1])), tensors, bn, 1e-3)

    def relu6(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)

    x = relu6(convolved(x, "_conv_stem", "_bn0", 2))
    out = {"stem_relu": x}
    for k, (_, stride, expansion, before, after) in enumerate(LITE0[:blocks]):
        name, y = f"_blocks.{k}", x
        if expansion > 1:
            y = out[f"block_{k}_expand"] = convolved(y, f"{name}._expand_conv", f"{name}._bn0")
            y = relu6(y)
        y = relu6(convolved(y, f"{name}._depthwise_conv", f"{name}._bn1", stride))
        y = convolved(y, f"{name}._project_conv", f"{name}._bn2")
        shortcut = stride == 1 and before == after
        x = out[f"block_{k}" if shortcut else f"block_{k}_project"] = x + y if shortcut else y
    return out


def vgg16_conv5_3(x: np.ndarray, tensors: Tensors) -> np.ndarray:
    """Before its ReLU."""
    for place, following in itertools.pairwise([*VGG16, 30]):
        x = conv(x, tensors[f"{place}.weight"], 1, ((1, 1), (1, 1))) + tensors[f"{place}.bias"][:, None, None]
        if place < 28:
            x = np.maximum(x, 0)
            if following == place + 3:
                height, width = (side // 2 * 2 for side in x.shape[1:])
                x = x[:, :height, :width].reshape(len(x), height // 2, 2, width // 2, 2).max((2, 4))
    return x


def image(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.float32)


def normalised(image: np.ndarray) -> np.ndarray:
    """torchvision's preprocessing, `[3, height, width]`."""
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return ((image / 255.0 - mean) / deviation).transpose(2, 0, 1)


def assert_same(ours: object, theirs: np.ndarray) -> None:
    """Of `[1, height, width, channels]` and `[channels, height, width]`, to 1e-4 of the largest value."""
    actual = np.asarray(ours)[0].transpose(2, 0, 1)
    assert actual.shape == theirs.shape and theirs.std() > 1e-2
    np.testing.assert_allclose(actual, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


SIZES = [(64, 64), (63, 65), (33, 66), (50, 47)]


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_narrow_resnets_stage_by_stage(bottleneck: bool, size: tuple[int, int]) -> None:
    """Widths of 4 to 12, two blocks a stage; padding shows at the edges of even sizes, where "same" would shift."""
    blocks, widths = (2, 1, 2), (4, 6, 12)
    tensors = resnet_tensors(blocks, bottleneck, widths)
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, list(resnet.build(inputs, blocks, bottleneck, widths)))
    made = folded_arrays(tensors, resnet_convolutions(blocks, bottleneck, widths), lambda name: name)
    for layer in model.layers:
        if layer.weights:
            layer.set_weights([made.arrays[f"{layer.name}/kernel"], made.arrays[f"{layer.name}/bias"]])
    x = normalised(image(size))
    for ours, theirs in zip(
        model(x.transpose(1, 2, 0)[None]), resnet_stages(x, tensors, blocks, bottleneck), strict=True
    ):
        assert_same(ours, theirs)
    used = {name for names in made.made_of.values() for name in names}
    assert used.isdisjoint(made.ignored) and used | set(made.ignored) == set(tensors)


@pytest.mark.parametrize(("depth", "cut", "size"), [(18, "layer4", (64, 70)), (50, "layer3", (47, 64))])
def test_resnets_with_their_preprocessing(depth: int, cut: str, size: tuple[int, int]) -> None:
    bottleneck, blocks = RESNETS[depth]
    blocks = blocks[: int(cut[-1])]
    tensors = resnet_tensors(blocks, bottleneck, (64, 128, 256, 512)[: len(blocks)])
    model = PlaceNet(f"resnet{depth}", cut=cut, clusters=1)
    set_backbone_weights(model, backbone_arrays(tensors, f"resnet{depth}", cut).arrays, "test", rgb=True)
    pixels = image(size)
    ours = keras.Model(model.inputs[0], model.feature_layer.output)(pixels[None])
    assert_same(ours, resnet_stages(normalised(pixels), tensors, blocks, bottleneck)[-1])


@pytest.mark.parametrize("size", SIZES)
def test_efficientnet_block_by_block(size: tuple[int, int]) -> None:
    tensors = lite0_tensors(12)
    model = PlaceNet("efficientnet_lite0", cut="block_11_project", clusters=1)
    made = backbone_arrays(tensors, "efficientnet_lite0", "block_11_project")
    set_backbone_weights(model, made.arrays, "test", rgb=True)
    pixels = image(size)
    expected = lite0_layers(((pixels - 127.0) / 128.0).transpose(2, 0, 1), tensors, 12)
    outputs = keras.Model(model.inputs[0], {name: model.get_layer(name).output for name in expected})(pixels[None])
    assert len(expected) == 1 + 12 + 11
    for name, theirs in expected.items():
        assert_same(outputs[name], theirs)


def test_real_weights_of_efficientnet(tfplaces_data: Path) -> None:
    """The published file, whole, on an image that makes no network saturate."""
    path = tfplaces_data / "weights" / "efficientnet_lite0_fp16.npz"
    with np.load(path) as file:
        tensors = dict(file)
    model = PlaceNet("efficientnet_lite0", cut="block_15_project", clusters=1)
    with pytest.warns(DataWarning, match=r"5 of 245 arrays are left out, .*: _conv_head\.weight, _bn1\.weight, "):
        load_backbone_weights(model, str(path))
    pixels = np.clip(image((97, 128)) * 0.1 + np.linspace(0, 230, 128)[:, None], 0, 255).astype(np.float32)
    expected = lite0_layers(((pixels - 127.0) / 128.0).transpose(2, 0, 1), tensors, 16)
    outputs = keras.Model(model.inputs[0], {name: model.get_layer(name).output for name in expected})(pixels[None])
    for name, theirs in expected.items():
        assert_same(outputs[name], theirs)


def test_vgg16_takes_rgb_and_pytorchs_preprocessing() -> None:
    tensors = vgg16_tensors()
    model = PlaceNet("vgg16", clusters=1, **torch_preprocessing("vgg16"))
    made = backbone_arrays({f"features.{name}": array for name, array in tensors.items()}, "vgg16")
    set_backbone_weights(model, made.arrays, "test", rgb=True)
    pixels = image((34, 49))
    ours = keras.Model(model.inputs[0], model.feature_layer.output)(pixels[None])
    assert_same(ours, vgg16_conv5_3(normalised(pixels), tensors))
    assert made.made_of["conv5_3/kernel"] == ("features.28.weight",)
    assert made.made_of["conv5_3/bias"] == ("features.28.bias",)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "efficientnet_lite0"])
def test_preprocessing_of_the_others_is_the_usual_one(backbone: str) -> None:
    spec = BACKBONES[backbone]
    assert torch_preprocessing(backbone) == {"scale": spec.scale, "offset": spec.offset}
    if backbone != "efficientnet_lite0":
        pixels = image((2, 2))
        ours = keras.layers.Rescaling(list(spec.scale), list(spec.offset))(pixels[None])
        np.testing.assert_allclose(np.asarray(ours)[0].transpose(2, 0, 1), normalised(pixels), atol=1e-5)


def sequential(name: str) -> str:
    """As CosPlace has them: `Sequential(*children)`."""
    first, rest = name.split(".", 1)
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return f"backbone.{numbers[first]}.{rest}"


def lab(frozen: int) -> Callable[[str], str]:
    """As OpenVPRLab has them, with so many children frozen of the stem and the stages."""

    def rename(name: str) -> str:
        first, rest = name.split(".", 1)
        place = {"conv1": 0, "bn1": 0}.get(first) if first in ("conv1", "bn1") else int(first[5:])
        rest = {"conv1": f"0.{rest}", "bn1": f"1.{rest}"}.get(first, rest)
        part = f"frozen_layers.{place}" if place < frozen else f"unfrozen_layers.{place - frozen}"
        return f"backbone.{part}.{rest}"

    return rename


@pytest.fixture(scope="module")
def resnet18() -> Tensors:
    return resnet_tensors((2, 2, 2), False, (64, 128, 256))


@pytest.mark.parametrize(
    ("rename", "prefix"),
    [
        (lambda name: name, ""),
        (lambda name: f"backbone.model.{name}", "backbone.model."),
        (sequential, "backbone."),
        (lab(3), "backbone."),
        (lab(1), "backbone."),
        (lab(0), "backbone."),
    ],
)
def test_names_of_resnets(rename: Callable[[str], str], prefix: str, resnet18: Tensors) -> None:
    """The same weights come out, and they are said to be of the tensors as they are called in the file."""
    plain = backbone_arrays(resnet18, "resnet18")
    others = {"aggregation.1.p": np.ones(1), "fc.weight": np.zeros((7, 5)), "other.0.weight": np.zeros((64, 3, 3, 3))}
    named = {rename(name): array for name, array in resnet18.items()} | others
    for known in (None, prefix):
        made = backbone_arrays(named, "resnet18", prefix=known)
        assert made.arrays.keys() == plain.arrays.keys() and len(plain.arrays) == 2 * 15
        for key, array in plain.arrays.items():
            np.testing.assert_array_equal(made.arrays[key], array)
            assert made.made_of[key] == tuple(map(rename, plain.made_of[key]))
    found = find_backbone(named)
    assert (found.network, found.prefix) == ("resnet18", prefix)
    assert found.name("layer2.0.downsample.1.bias") == rename("layer2.0.downsample.1.bias")


@pytest.mark.parametrize("depth", RESNETS)
@pytest.mark.parametrize("stages", [3, 4])
def test_resnets_are_told_apart(depth: int, stages: int) -> None:
    bottleneck, blocks = RESNETS[depth]
    names = {f"layer{s}.{k}.conv{i}.weight": 0 for s in range(1, stages + 1) for k in range(blocks[s - 1])
             for i in range(1, 3 + bottleneck)}  # fmt: skip
    tensors = {name: np.empty(0) for name in names}
    tensors |= {"conv1.weight": np.empty((64, 3, 7, 7)), "bn1.weight": np.empty(64)}
    assert find_backbone(tensors).network == f"resnet{depth}"
    if depth in (34, 101):
        with pytest.raises(UserError, match=rf"^x: holds the tensors of resnet{depth}, and resnet50 is wanted"):
            backbone_arrays(tensors, "resnet50", source="x")


class Entry:
    """A tensor that says when it is read."""

    def __init__(self, name: str, array: np.ndarray, read: list[str]):
        self.shape, self._name, self._array, self._read = array.shape, name, array, read

    def read(self) -> np.ndarray:
        self._read.append(self._name)
        return self._array


def test_only_what_is_needed_is_read_and_only_in_the_right_shape(resnet18: Tensors) -> None:
    read: list[str] = []
    entries = {name: Entry(name, array, read) for name, array in resnet18.items()}
    made = backbone_arrays(entries, "resnet18", "layer1")
    np.testing.assert_array_equal(made.arrays["conv1/bias"], backbone_arrays(resnet18, "resnet18").arrays["conv1/bias"])
    assert set(read) == {name for name in resnet18 if name[:6] in ("conv1.", "bn1.we", "bn1.bi", "bn1.ru", "layer1")
                         and "tracked" not in name}  # fmt: skip
    read.clear()
    entries["layer1.0.bn1.weight"] = Entry("wrong", np.empty((64, 10_000)), read)
    with pytest.raises(UserError, match=r"layer1\.0\.bn1\.weight has shape \(64, 10000\), expected \(64,\)"):
        backbone_arrays(entries, "resnet18")
    assert "wrong" not in read


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "layer2.0.conv2.weight",
            None,
            "no tensor 'layer2.0.conv2.weight', which resnet18 needs for its layer layer2_0_c",
        ),
        (
            "layer3.1.bn2.running_var",
            None,
            "no tensor 'layer3.1.bn2.running_var', which resnet18 needs for .*layer3_1_",
        ),
        ("conv1.weight", None, "no tensor 'conv1.weight', the first of resnet18"),
        (
            "layer1.0.conv1.weight",
            np.zeros((64, 64, 1, 1)),
            r"conv1.weight has shape \(64, 64, 1, 1\), expected \(64, ",
        ),
        ("bn1.weight", np.zeros(64, np.int64), "bn1.weight holds int64, not real numbers"),
        ("bn1.bias", np.full(64, np.nan), "bn1.bias has values that are not finite"),
        ("bn1.running_var", np.full(64, -1.0), "bn1.running_var has negative values"),
    ],
)
def test_broken_tensors(name: str, value: np.ndarray | None, message: str, resnet18: Tensors) -> None:
    tensors = {key: array for key, array in {**resnet18, name: value}.items() if array is not None}
    with pytest.raises(UserError, match=f"^file: .*{message}"):
        backbone_arrays(tensors, "resnet18", source="file")


@pytest.mark.parametrize(
    ("backbone", "tensors", "message"),
    [
        ("vgg16", {"features.0.weight": (64, 3, 11, 11), "features.3.weight": ()},
         "holds the tensors of torchvision's AlexNet, and vgg16 is wanted; .* is another network than Caffe's"),
        ("alexnet", {"features.0.weight": (64, 3, 11, 11), "features.3.weight": ()},
         "torchvision's AlexNet .*no groups.* is another network than Caffe's"),
        ("mobilenet_v2", {}, "no PyTorch weights of mobilenet_v2 are known; there is efficientnet_lite0, resnet18, "),
        ("vgg16", {"a.0.weight": (64, 3, 3, 3), "a.2.weight": (), "b.0.weight": (64, 3, 3, 3), "b.2.weight": ()},
         "there are several backbones, vgg16 below 'a.' and vgg16 below 'b.'"),
        ("efficientnet_lite0", {}, "no tensor '_conv_stem.weight', the first of efficientnet_lite0"),
    ],
)  # fmt: skip
def test_other_networks(backbone: str, tensors: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(UserError, match=f"^file: {message}") as error:
        backbone_arrays({name: np.empty(shape) for name, shape in tensors.items()}, backbone, source="file")
    assert "\n" not in str(error.value)
