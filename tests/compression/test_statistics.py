"""Statistics of `.places` files, against counts by hand and against the loaded network."""

from __future__ import annotations

import dataclasses
import json
import math
import tracemalloc
from pathlib import Path

import keras
import numpy as np
import pytest

from tfplaces import coding
from tfplaces.coding.statistics import entropy, histogram, places_statistics
from tfplaces.compression import Compressed, Recipe, compress, load_compressed, save_places
from tfplaces.models import PlaceNet


def test_a_layer_counted_by_hand(compressed: Compressed, tmp_path: Path) -> None:
    """conv1 is 7x7x3x96 + 96 biases: half of the kernel zero, a quarter each of two levels, one level not in use."""
    first = compressed.shared["conv1/kernel"]
    indices = np.resize(np.array([1, 0, 1, 3], np.uint8), first.indices.shape)
    levels = np.array([-3, 0, 5, 7], np.float32)
    shared = {**compressed.shared, "conv1/kernel": dataclasses.replace(first, levels=levels, indices=indices)}
    size = save_places(tmp_path / "a.places", dataclasses.replace(compressed, shared=shared))
    row = places_statistics(tmp_path / "a.places").layers[0]
    weights = 7 * 7 * 3 * 96
    assert row.name == "conv1" and row.parameters == weights + 96
    assert row.pruned == pytest.approx(100 * weights / 2 / (weights + 96))
    assert row.bits == pytest.approx(math.log2(3))
    beside = 4 + 4 * 96 + 4 * 96  # four levels in int8, scales and biases in float32
    assert row.entropy_bytes == weights * 1.5 / 8 + beside
    with coding.read(tmp_path / "a.places", "places") as container:
        assert row.file_bytes == container.payload_bytes("conv1/kernel/indices") + beside
    assert row.bits_per_parameter == 8 * row.file_bytes / row.parameters and row.share == 100 * row.file_bytes / size


def test_the_file_as_a_whole(places_file: Path) -> None:
    statistics, loaded = places_statistics(places_file), load_compressed(places_file)
    total, layers = statistics.total, statistics.layers
    names = dict.fromkeys(variable.path.split("/")[0] for variable in loaded.model.weights)
    assert [row.name for row in layers] == list(names)
    assert total.parameters == loaded.model.count_params() == sum(row.parameters for row in layers)
    assert total.pruned == pytest.approx(loaded.pruned) and total.pruned > 49
    assert total.file_bytes == places_file.stat().st_size
    assert total.file_bytes == statistics.container_bytes + sum(row.file_bytes for row in layers)
    assert total.share == 100 and total.bits == max(row.bits for row in layers) <= 5
    assert sum(row.entropy_bytes for row in layers) - len(layers) <= total.entropy_bytes <= total.file_bytes
    assert all(0.9 * row.file_bytes < row.entropy_bytes <= row.file_bytes for row in layers)
    assert statistics.ratio == pytest.approx(32 / total.bits_per_parameter)
    data = json.loads(json.dumps(statistics.to_json(), allow_nan=False))
    keys = {"parameters", "pruned", "bits", "bits_per_parameter", "file_bytes", "entropy_bytes"}
    beside = {"float32_bytes", "ratio", "container_bytes", "place_net", "provenance", "layers"}
    assert set(data) == keys | beside and data["provenance"] == loaded.provenance
    assert len(data["layers"]) == len(layers) and set(data["layers"][0]) == keys | {"name", "share"}
    assert data["file_bytes"] == total.file_bytes and data["layers"][3]["pruned"] == layers[3].pruned


def test_kernels_that_are_not_shared(compressed: Compressed, tmp_path: Path) -> None:
    shared = {name: kernel for name, kernel in compressed.shared.items() if name != "fire3_expand3x3/kernel"}
    save_places(tmp_path / "a.places", dataclasses.replace(compressed, shared=shared))
    statistics = places_statistics(tmp_path / "a.places")
    row = next(row for row in statistics.layers if row.name == "fire3_expand3x3")
    before = 3 * 3 * 16 * 64 + 64
    assert (row.parameters, row.file_bytes, row.entropy_bytes, row.bits) == (before, 4 * before, 4 * before, 32)
    assert statistics.total.pruned == pytest.approx(compressed.pruned) and row.pruned > 20


def test_entropy_is_that_of_the_indices() -> None:
    assert entropy(np.array([4, 0, 2, 2])) == 12  # 8 symbols of 1.5 bits
    assert entropy(np.array([9, 0])) == 0 and entropy(np.zeros(3, np.int64)) == 0
    indices = np.random.default_rng(0).integers(0, 5, (1100, 1000)).astype(np.uint8)  # more than one block
    np.testing.assert_array_equal(histogram(indices, 7), [np.sum(indices == k) for k in range(7)])


def test_large_kernels_are_counted_in_blocks(places_file: Path, tmp_path: Path) -> None:
    """32 MB of indices; as 64-bit integers they would be 256 MB."""
    with coding.read(places_file, "places") as container:
        header = container.header
    name, shape = "whitening/kernel", (2**15, 1000)
    tensors = {f"{name}/levels": np.zeros(1, np.int8), f"{name}/indices": np.zeros(shape, np.uint8)}
    header["kernels"] = {name: 1}
    coding.write(
        tmp_path / "a.places", "places", header, {**tensors, f"{name}/scales": np.ones(1000, np.float32)}
    )  # fmt: skip
    del tensors
    tracemalloc.start()
    assert places_statistics(tmp_path / "a.places").total.pruned == 100
    assert tracemalloc.get_traced_memory()[1] < 1.5 * math.prod(shape)
    tracemalloc.stop()


def test_a_small_network_is_within_a_percent_of_its_parts(tmp_path: Path) -> None:
    """SqueezeNet, 0.8 M weights in 27 kernels: 106 tensors, of which the header says name, shape, size and checksum."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("squeezenet", clusters=64)
    save_places(tmp_path / "a.places", compress(model, Recipe(bits=5, sparsity=0.5)))
    statistics = places_statistics(tmp_path / "a.places")
    assert statistics.container_bytes < 0.01 * sum(row.file_bytes for row in statistics.layers)
    assert statistics.total.file_bytes < 1.02 * statistics.total.entropy_bytes


def test_damaged_files(places_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.places"
    path.write_bytes(places_file.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"damaged\.places: .*copy or download it again"):
        places_statistics(path)
    with pytest.raises(ValueError, match="max_bytes"):
        places_statistics(places_file, max_bytes=1000)
