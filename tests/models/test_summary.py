"""What networks are made of, against the paper and arithmetic. Nothing is allocated."""

import pytest

from tfplaces.models import PlaceNet, outline
from tfplaces.models.summary import summarize


@pytest.mark.parametrize("backbone", ["alexnet", "caffenet"])
def test_alexnet_is_the_papers(backbone: str) -> None:
    """kernel height · width · channels in / groups · channels out + biases; the slides give millions of products."""
    rows = {row.name: row for row in summarize(outline(PlaceNet, backbone, whitening=4096))}
    convolutions = [rows[f"conv{k}"] for k in range(1, 6)]
    assert [row.parameters for row in convolutions] == [34_944, 307_456, 885_120, 663_936, 442_624]
    assert [row.parameters for row in convolutions] == [
        11 * 11 * 3 * 96 + 96,
        5 * 5 * 48 * 256 + 256,
        3 * 3 * 256 * 384 + 384,
        3 * 3 * 192 * 384 + 384,
        3 * 3 * 192 * 256 + 256,
    ]
    assert [row.multiply_adds // 10**6 for row in convolutions] == [105, 223, 149, 112, 74]
    assert convolutions[0].multiply_adds == 55 * 55 * 11 * 11 * 3 * 96
    assert convolutions[1].multiply_adds == 27 * 27 * 5 * 5 * 48 * 256
    assert rows["conv5"].output_shape == (13, 13, 256)
    assert rows["netvlad"].parameters == 2 * 64 * 256
    assert rows["netvlad"].multiply_adds == 2 * 13 * 13 * 64 * 256
    assert rows["whitening"].parameters == 16384 * 4096 + 4096
    assert rows["whitening"].multiply_adds == 16384 * 4096
    assert sum(row.parameters for row in rows.values()) == 69_479_808


def test_alexnet_normalises_then_pools_and_caffenet_pools_first() -> None:
    for backbone, expected in {
        "alexnet": ["norm1", "pool1", "norm2", "pool2"],
        "caffenet": ["pool1", "norm1", "pool2", "norm2"],
    }.items():
        names = [row.name for row in summarize(outline(PlaceNet, backbone))]
        assert [name for name in names if name.startswith(("norm", "pool"))] == expected


def test_vgg16_is_the_papers() -> None:
    rows = summarize(outline(PlaceNet, "vgg16", whitening=4096))
    total = sum(row.parameters for row in rows)
    assert total == 14_714_688 + 2 * 64 * 512 + 32768 * 4096 + 4096 == 149_002_048
    assert {row.name: row.output_shape for row in rows}["conv5_3"] == (14, 14, 512)


@pytest.mark.parametrize(
    ("backbone", "shape", "parameters"),
    [
        ("alexnet", (13, 13, 256), 2_334_080),
        # The 1,248,424 of SqueezeNet 1.0 (Iandola et al.) less the 512 · 1000 + 1000 of conv10.
        ("squeezenet", (13, 13, 512), 735_424),
        ("vgg16", (14, 14, 512), 14_714_688),
        # Convolutions without bias and one bias a channel: what batch norm becomes when folded.
        ("mobilenet_v1", (14, 14, 512), None),
        ("mobilenet_v2", (14, 14, 576), None),
    ],
)
def test_feature_maps_and_parameters(backbone: str, shape: tuple[int, ...], parameters: int | None) -> None:
    model = outline(PlaceNet, backbone)
    rows = {row.name: row for row in summarize(model)}
    assert rows[model.feature_layer.name].output_shape == shape
    if parameters:
        assert sum(row.parameters for row in rows.values()) - rows["netvlad"].parameters == parameters


def test_separable_convolutions() -> None:
    """MobileNetV1 at 224: 112 x 112 positions, 32 channels, then 64."""
    rows = {row.name: row for row in summarize(outline(PlaceNet, "mobilenet_v1"))}
    assert rows["conv_dw_1"].multiply_adds == 112 * 112 * 9 * 32
    assert rows["conv_dw_1"].parameters == 9 * 32 + 32
    assert rows["conv_pw_1"].multiply_adds == 112 * 112 * 32 * 64


def test_input_size() -> None:
    model = outline(PlaceNet, "vgg16", input_size=(64, 96))
    assert {row.name: row.output_shape for row in summarize(model)}["conv5_3"] == (4, 6, 512)
    assert {row.name: row.output_shape for row in summarize(model, (32, 48))}["conv5_3"] == (2, 3, 512)
    with pytest.raises(ValueError, match="8x300 is too small for vgg16: pool"):
        summarize(model, (8, 300))
