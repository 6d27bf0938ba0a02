"""What every backbone has to do; a new one is tested by being in `BACKBONES`. Then what is special in some."""

from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.models import BACKBONES, PlaceNet
from tfplaces.models.summary import summarize
from tfplaces.opening import load_model

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 96, 80, 3)).astype(np.float32)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone(backbone: str, tmp_path: Path) -> None:
    """The shapes that `summarize` computes are those that come out."""
    model = PlaceNet(backbone, clusters=2)
    first = model.get_layer(BACKBONES[backbone].first)
    assert first is next(layer for layer in model.layers if layer.weights)
    channels = model.feature_layer.output.shape[-1]
    rows = {row.name: row.output_shape for row in summarize(model, IMAGES.shape[1:3])}
    features = keras.Model(model.inputs[0], model.feature_layer.output)(IMAGES)
    assert rows[model.feature_layer.name] == features.shape[1:]
    assert model.input_size == BACKBONES[backbone].input_size
    assert model.descriptor_dim == 2 * channels
    output = np.asarray(model(IMAGES))
    assert output.shape == (2, 2 * channels)
    np.testing.assert_allclose(np.linalg.norm(output, axis=1), 1, atol=1e-5)
    assert np.abs(output[0] - output[1]).max() > 1e-6
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(load_model(tmp_path / "model.keras")(IMAGES), output, atol=1e-6)


def parameters(model: PlaceNet) -> int:
    """Of the backbone alone."""
    return model.count_params() - model.get_layer("netvlad").count_params()


@pytest.mark.parametrize(
    ("backbone", "cut", "trainable", "normalised"),
    [
        ("resnet18", "layer4", 11_176_512, 4800),
        ("resnet18", "layer3", 2_782_784, 2240),
        ("resnet50", "layer4", 23_508_032, 26_560),
        ("resnet50", "layer3", 8_543_296, 15_296),
    ],
)
def test_parameters_of_resnets(backbone: str, cut: str, trainable: int, normalised: int) -> None:
    """Torchvision's trainable parameters without the classifier, less one for each channel that is normalised.

    A batch norm has two for each channel, which folding makes one bias. Channels by hand: the stem 64, then in each
    stage blocks · (channels of the block's convolutions) + channels of the shortcut's convolution.
    """
    blocks, bottleneck = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}[backbone]
    channels = 64
    for stage, count in enumerate(blocks[: int(cut[-1])]):
        width = 64 * 2**stage
        channels += count * (6 if bottleneck else 2) * width
        channels += (4 if bottleneck else bool(stage)) * width
    assert channels == normalised
    assert parameters(PlaceNet(backbone, cut=cut, clusters=1)) == trainable - normalised


def test_parameters_of_efficientnet() -> None:
    """3,350,000: the 3,371,008 of its convolutions and batch norms, less one for each of 21,008 normalised channels.

    The channels by hand, for each block expand (but in the first), depthwise and project: see the table of stages of
    the published network.
    """
    convolutions = channels = 32 * 27
    channels, before = 32, 32
    for count, size, expand, after in [
        (1, 3, 1, 16), (2, 3, 6, 24), (2, 5, 6, 40), (3, 3, 6, 80), (3, 5, 6, 112), (4, 5, 6, 192), (1, 3, 6, 320)
    ]:  # fmt: skip
        for _ in range(count):
            wide = expand * before
            convolutions += (before * wide if expand > 1 else 0) + size * size * wide + wide * after
            channels += (wide if expand > 1 else 0) + wide + after
            before = after
    convolutions, channels = convolutions + 320 * 1280, channels + 1280
    model = PlaceNet("efficientnet_lite0", cut="head_relu", clusters=1)
    assert parameters(model) == convolutions + channels == 3_350_000


def test_layers_behind_the_cut_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer4 of ResNet50 alone has 15 million weights."""
    made = []
    convolution = keras.layers.Conv2D

    def conv2d(*args: object, **kwargs: object) -> keras.layers.Conv2D:
        made.append(kwargs["name"])
        return convolution(*args, **kwargs)

    monkeypatch.setattr("tfplaces.models.backbones.resnet.layers.Conv2D", conv2d)
    PlaceNet("resnet18", cut="layer1", clusters=1)
    assert made == ["conv1"] + [f"layer1_{block}_conv{k}" for block in (0, 1) for k in (1, 2)]


@pytest.mark.parametrize(
    ("backbone", "first", "last"),
    [
        ("resnet18", "maxpool", "layer4"),
        ("resnet50", "maxpool", "layer4"),
        ("efficientnet_lite0", "stem_relu", "head_relu"),
    ],
)
def test_the_signal_keeps_its_scale_through_random_weights(backbone: str, first: str, last: str) -> None:
    """Without batch norm the root mean square of features stays within a factor of two from beginning to end."""
    keras.utils.set_random_seed(0)
    model = PlaceNet(backbone, cut=last, clusters=1)
    outputs = [model.get_layer(name).output for name in (first, last)]
    begin, end = (np.sqrt(np.mean(np.square(x))) for x in keras.Model(model.inputs[0], outputs)(IMAGES))
    assert 0.5 < end / begin < 2
