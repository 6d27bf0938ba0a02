"""What a file says of the runtimes that compute it right; make test-runtimes runs it in those runtimes themselves."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces.datasets import PlaceDataset
from tfplaces.lite import convert
from tfplaces.lite.runtimes import limits, min_runtime_version, runtimes_report
from tfplaces.models import PlaceNet

SIZE = (48, 64)
PROGRAM = Path(__file__).with_name("describe_with_runtime.py")
# What docs/runtimes.md says of each precision: the oldest release of LiteRT from which on all are right.
OLDEST = {
    "float32": "1.0.0",
    "float16": "1.0.0",
    "dynamic_int8": "1.0.0",
    "mixed_int8": "1.0.0",
    "mixed_int4": "2.1.0",
    "full_int8": "2.1.3",
}


@pytest.fixture(scope="module")
def network(town: PlaceDataset) -> PlaceNet:
    """With depthwise convolutions, NetVLAD, and a whitening whose 4 bits are in blocks."""
    keras.utils.set_random_seed(0)
    return PlaceNet("mobilenet_v2", clusters=2, whitening=8, input_size=SIZE, cut="block_3_expand_relu")


def test_four_bits_in_blocks_need_a_new_runtime(network: PlaceNet, town: PlaceDataset, tmp_path: Path) -> None:
    path = tmp_path / "a.tflite"
    convert(network, path, "mixed_int4", calibration=town.database)
    data = path.read_bytes()
    assert [limit.cause for limit in limits(data)] == ["4-bit weights in blocks"]
    assert min_runtime_version(data) == "2.21.0"
    report = runtimes_report(data)
    assert (report["min_runtime_version"], report["litert"]) == ("2.21.0", "2.1.0")
    assert all("\n" not in line for line in report["wrong"]) and len(report["wrong"]) == 1


def test_depthwise_weights_stay_float32_in_float16(network: PlaceNet, tmp_path: Path) -> None:
    """LiteRT 1.1 to 1.3 refuse files whose depthwise convolutions have weights of 16 bits."""
    errors = convert(network, tmp_path / "a.tflite", "float16")
    depthwise = {name for name in errors if "depthwise" in name}
    assert depthwise and {errors[name] for name in depthwise} == {0.0} and errors["whitening/kernel"] > 0
    assert runtimes_report((tmp_path / "a.tflite").read_bytes())["wrong"] == []


@pytest.mark.slow
@pytest.mark.parametrize("precision", OLDEST)
def test_every_release_from_the_oldest_on(
    precision: str, network: PlaceNet, town: PlaceDataset, tmp_path: Path
) -> None:
    """In the environments of make test-runtimes: the descriptors are those of the newest release, or it is told."""
    folder = os.environ.get("TFPLACES_RUNTIMES")
    if not folder:
        pytest.skip("TFPLACES_RUNTIMES is not set: no other runtimes; make test-runtimes installs them")
    images = np.stack([town.database.read(i, SIZE) for i in range(4)])
    np.save(tmp_path / "images.npy", images)
    path = tmp_path / "a.tflite"
    convert(network, path, precision, calibration=town.database)
    assert runtimes_report(path.read_bytes())["litert"] == OLDEST[precision]
    theirs = network(images.astype(np.float32), training=False).numpy()
    found = {}
    for python in sorted(Path(folder).glob("*/bin/python")):
        version, out = python.parts[-3], tmp_path / "out.npy"
        out.unlink(missing_ok=True)
        command = [python, PROGRAM, path, tmp_path / "images.npy", out]
        # A release that does not end, as was seen, fails the test as one that crashes.
        done = subprocess.run(command, capture_output=True, env={"PATH": os.environ["PATH"]}, timeout=600)
        ours = np.load(out) if done.returncode == 0 and out.exists() else np.full_like(theirs, np.nan)
        cosines = np.sum(ours * theirs, axis=1) / np.maximum(np.linalg.norm(ours, axis=1), 1e-6)
        found[version] = float(np.min(cosines))
    print(json.dumps({precision: found}))
    newest = max(found, key=_numbers)
    right = {version for version, cosine in found.items() if cosine > found[newest] - 0.02}
    assert right >= {version for version in found if _numbers(version) >= _numbers(OLDEST[precision])}


def _numbers(version: str) -> tuple[int, ...]:
    """Of LiteRT; tflite-runtime 2.14 is older than all of it."""
    name, _, number = version.rpartition("-")
    return (int(name != "tflite_runtime"), *map(int, number.split("."))) if name else (1, *map(int, number.split(".")))
