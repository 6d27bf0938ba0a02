"""What each client refuses is said before any work; the form for GPUs is the network in operators that they take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tfplaces.common.errors import UserError
from tfplaces.datasets import PlaceDataset
from tfplaces.describers.litert import LiteRTDescriber, operators
from tfplaces.lite import TARGETS, convert, targets
from tfplaces.lite.conversion import run_conversion
from tfplaces.models import PlaceNet

SIZE = (48, 64)
GEM = {"aggregation": "gem", "linear": 12, "l2_first": True}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "netvlad": {"backbone": "squeezenet", "cut": "fire2", "clusters": 19, "whitening": 32},
    "biased": {"backbone": "squeezenet", "cut": "fire2", "clusters": 3, "assignment_bias": True, "norm": "torch"},
    "lrn": {"backbone": "alexnet", "cut": "conv3", "clusters": 2},
    "gem": {"backbone": "mobilenet_v2", "cut": "block_1_expand_relu", **GEM},
    "convap": {"backbone": "squeezenet", "cut": "fire2", "aggregation": "convap", "channels": 8},
    "resnet": {"backbone": "resnet18", "cut": "layer1", "aggregation": "gem"},
}


def network(name: str) -> PlaceNet:
    keras.utils.set_random_seed(0)
    return PlaceNet(input_size=SIZE, **NETWORKS[name])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Noise, and one image without any light, whose local features are all alike."""
    images = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3)).astype(np.uint8)
    images[2] = 0
    return images


# Converting takes seconds: the networks whose parts the first three have as well are for the slow tests.
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in ("convap", "resnet") else ()) for name in NETWORKS]
)
def test_the_form_for_gpus_is_the_network(name: str, images: np.ndarray, tmp_path: Path) -> None:
    net, path = network(name), tmp_path / "a.tflite"
    errors = convert(net, path, "float32", target="gpu")
    assert set(errors.values()) == {0.0}  # every kernel is in the file as it is
    assert not {"L2_NORMALIZATION", "BATCH_MATMUL", "LOCAL_RESPONSE_NORMALIZATION", "CAST"} & set(operators(path))
    ours = LiteRTDescriber(path).describe(images)
    theirs = net(images.astype(np.float32), training=False).numpy()
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    assert np.sum(ours * theirs, axis=1).min() > 0.99999


def test_half_of_the_size(images: np.ndarray, tmp_path: Path) -> None:
    net, path = network("netvlad"), tmp_path / "a.tflite"
    convert(net, path, "float16", target="gpu")
    theirs = net(images.astype(np.float32), training=False).numpy()
    assert np.sum(LiteRTDescriber(path).describe(images) * theirs, axis=1).min() > 0.999


REFUSED = [
    ("gpu", {"input_size": "any"}, "target=gpu takes images of one size"),
    ("gpu", {"batch": 2}, "target=gpu takes one image at once: leave batch=2 out"),
    ("gpu", {"int8_output": True}, "target=gpu takes no int8 output"),
    ("gpu", {"float_input": False}, "target=gpu takes float32 images"),
    ("gpu", {"precision": "mixed_int8"}, "target=gpu computes in float, and mixed_int8 gains nothing there"),
    ("mediapipe", {"input_size": "any"}, "target=mediapipe takes images of one size"),
    ("mediapipe", {"batch": 8}, "target=mediapipe takes one image at once"),
    ("mediapipe", {"int8_output": True}, "target=mediapipe takes no int8 output"),
    ("web", {"input_size": "any"}, "target=web takes images of one size"),
    ("web", {"int8_output": True}, "target=web takes no int8 output"),
    ("web", {"precision": "full_int8"}, "target=web: WebGPU does not take full_int8's normalisations"),
    ("web", {"precision": "mixed_int4"}, "target=web: LiteRT.js crashes on WebGPU over weights of 4 bits"),
    ("web", {"precision": "float16"}, "target=web: .* computes float16 five times slower"),
    ("npu", {"precision": "mixed_int8"}, "target=npu computes in integers only, and mixed_int8 does not"),
    ("npu", {"precision": "full_int8", "input_size": "any"}, "full_int8 is of one input size"),
    ("phone", {}, "target=phone: one of litert, gpu, mediapipe, web, npu"),
]


@pytest.mark.parametrize(("target", "options", "message"), REFUSED)
def test_what_is_refused(
    target: str, options: dict, message: str, town: PlaceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one line, before any work, by `convert` and by the whole conversion alike."""
    monkeypatch.setattr("tfplaces.lite.converter.float32_network", lambda *_: pytest.fail("work was begun"))
    monkeypatch.setattr("tfplaces.lite.conversion.compress", lambda *_: pytest.fail("work was begun"))
    net = network("netvlad")
    options = {"precision": "float32", "calibration": [town.database], **options}
    for call in (lambda path: convert(net, path, target=target, **options),
                 lambda path: run_conversion(lambda: net, path, target=target, **options)):  # fmt: skip
        with pytest.raises(UserError, match=message) as error:
            call(str(tmp_path / "a.tflite"))
        assert "\n" not in str(error.value)
    assert not any(tmp_path.iterdir())


def test_networks_that_are_refused() -> None:
    with pytest.raises(UserError, match=r"WebGPU does not take norm1 of alexnet.*take gpu"):
        targets.check_target(network("lrn"), "web", "float32")
    mixing = PlaceNet("squeezenet", cut="fire2", input_size=SIZE, aggregation="mixvpr", channels=4, depth=1)
    with pytest.raises(UserError, match="computes MixVPR wrongly"):
        targets.check_target(mixing, "gpu", "float32")
    for target in ("litert", "mediapipe", "web"):
        targets.check_target(mixing, target, "float32")


@pytest.mark.parametrize("target", TARGETS)
def test_a_finished_file_is_checked(target: str, town: PlaceDataset, tmp_path: Path) -> None:
    """The usual NetVLAD has a matrix product, which MediaPipe does not compute; full_int8 has L2_NORMALIZATION."""
    net, path = network("netvlad"), tmp_path / "a.tflite"
    convert(net, path, "full_int8" if target == "npu" else "float32", calibration=town.database, target="litert")
    data = path.read_bytes()
    if target == "gpu":
        with pytest.raises(RuntimeError, match=r"^CAST, which computes .*, is not for target=gpu"):
            targets.check_file(data, target)
        convert(net, path, "float32", float_input=True)
        with pytest.raises(RuntimeError, match=r"^BATCH_MATMUL|^MUL, which computes .*netvlad"):
            targets.check_file(path.read_bytes(), target)
    else:
        targets.check_file(data, target)
    if target == "npu":
        with pytest.raises(RuntimeError, match=r"^L2_NORMALIZATION, which computes .*, is not for target=web"):
            targets.check_file(data, "web")


def test_the_report_names_the_target(tmp_path: Path) -> None:
    """And the form of the norms, which is another than the network's on GPUs."""
    made = run_conversion(lambda: network("biased"), str(tmp_path / "a.tflite"), "float32", target="gpu")
    facts = json.loads((tmp_path / "a.json").read_text())
    assert facts == made.report and (facts["target"], facts["norm"]) == ("gpu", "tflite")
    assert facts["input"]["type"] == "float32"
