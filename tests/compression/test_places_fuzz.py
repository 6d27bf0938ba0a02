"""The reader of `.places` files against damage and malice: one line of ValueError, or exactly what the file holds.

TFPLACES_FUZZ=n tries n times as many inputs (the default run is a few seconds).
"""

from __future__ import annotations

import contextlib
import copy
import json
import math
import os
import resource
import struct
import zlib
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfplaces import coding
from tfplaces.coding.statistics import places_statistics
from tfplaces.compression import Compressed, Recipe, compress, load_compressed, save_places
from tfplaces.models import PlaceNet

FUZZ = int(os.environ.get("TFPLACES_FUZZ", "1"))
# A little more than the file needs, so that the limit is reached too.
MAX_BYTES = 50_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def data(folder: Path) -> bytes:
    """A file of 2 kB: one convolution, NetVLAD and a whitening, one of four kernels not shared."""
    keras.utils.set_random_seed(0)
    model = PlaceNet("vgg16", cut="conv1_1", clusters=2, whitening=2, input_size=(16, 16))
    compressed = compress(model, Recipe(bits=3, sparsity=0.3, sparsity_scope="layer"))
    del compressed.shared["netvlad/centroids"]
    save_places(folder / "model.places", compressed)
    return (folder / "model.places").read_bytes()


def load(path: Path, data: bytes) -> Compressed | str:
    """The network, or the message of the ValueError; any other exception is a failure."""
    path.write_bytes(data)
    try:
        statistics = places_statistics(path, MAX_BYTES)
        json.dumps(statistics.to_json(), allow_nan=False)
    except ValueError as error:
        check_message(path, str(error))
    try:
        loaded = load_compressed(path, MAX_BYTES)
    except ValueError as error:
        return check_message(path, str(error))
    # What loads has statistics, and they are of the same network.
    assert statistics.total.parameters == loaded.model.count_params()
    assert statistics.total.file_bytes == len(data)
    assert 4 * loaded.model.count_params() <= MAX_BYTES
    return loaded


def check_message(path: Path, message: str) -> str:
    assert message.startswith(f"{path}: ") and message.isprintable() and len(message) < 1500, message[:2000]
    return message


def test_every_truncation(folder: Path, data: bytes) -> None:
    for size in range(len(data)):
        assert isinstance(load(folder / "cut.places", data[:size]), str)


def test_changed_bytes(folder: Path, data: bytes) -> None:
    """Some values of some bytes; from TFPLACES_FUZZ=100 all values of all."""
    everything = np.arange(255 * len(data))
    sample = np.random.default_rng(0).permutation(everything)[: 3000 * FUZZ if FUZZ < 100 else len(everything)]
    changed = bytearray(data)
    for position, flip in zip(sample % len(data), 1 + sample // len(data), strict=True):
        changed[position] ^= flip
        assert isinstance(load(folder / "changed.places", changed), str)
        changed[position] ^= flip


def opened(data: bytes) -> tuple[dict[str, Any], list[bytes]]:
    """The header's document, and the payload of each tensor."""
    (size,) = struct.unpack_from("<I", data, 12)
    document, payloads, start = json.loads(zlib.decompress(data[28 : 28 + size])), [], 28 + size
    for tensor in document["tensors"]:
        payloads.append(data[start : start + tensor["bytes"]])
        start += tensor["bytes"]
    return document, payloads


def sealed(document: dict[str, Any], payloads: list[bytes]) -> bytes:
    """A file with the sizes and checksums that are the container's in order."""
    header = zlib.compress(json.dumps(document).encode())
    size = 32 + len(header) + sum(map(len, payloads))
    body = b"".join([struct.pack("<8sIIQI", b"TFPLACES", 1, len(header), size, zlib.crc32(header)), header, *payloads])
    return body + struct.pack("<I", zlib.crc32(body))


numbers = st.sampled_from([0, 1, 2, 3, 64, -1, 255, 256, 2**16, 2**31, 2**40, 2**63, 0.5, -0.0, 1e38, 1e300])
words = st.sampled_from(
    ["", "conv1_1", "conv1_1/kernel", "conv5_3", "netvlad/centroids", "vgg16", "alexnet", "squeezenet", "Lambda", "/"]
)  # fmt: skip
values = st.recursive(
    st.none() | st.booleans() | numbers | words | st.text(max_size=3) | st.integers(-4, 300),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def change_header(draw: st.DataObject, document: dict[str, Any], payloads: list[bytes]) -> None:
    """Replaces, drops or adds a value somewhere in the writer's header."""
    place = document["header"]
    while True:
        key = draw.draw(st.sampled_from(list(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw.draw(st.integers(0, 3)) == 0:
            break
        place = place[key]
    action = draw.draw(st.sampled_from(["replace", "replace", "drop", "add"]))
    if action == "replace":
        place[key] = draw.draw(values)
    elif action == "drop":
        del place[key]
    elif isinstance(place, dict):
        place[draw.draw(words | st.text(max_size=3))] = draw.draw(values)
    else:
        place.append(draw.draw(values))


def change_table(draw: st.DataObject, document: dict[str, Any], payloads: list[bytes]) -> None:
    """Changes a tensor's line, drops the tensor, has it twice or swaps two names."""
    k, other = (draw.draw(st.integers(0, len(payloads) - 1)) for _ in range(2))
    table = document["tensors"]
    action = draw.draw(st.sampled_from(["shape", "value", "drop", "twice", "swap"]))
    if action == "shape":
        size = draw.draw(st.integers(0, 70) | st.sampled_from([2**16, 2**20, 2**31, 2**62]))
        kept = table[k]["shape"] if isinstance(table[k]["shape"], list) else []
        table[k]["shape"] = [*kept[: draw.draw(st.integers(0, len(kept)))], size]
    elif action == "value":
        table[k][draw.draw(st.sampled_from(list(table[k])))] = draw.draw(values | st.sampled_from(["int8", "raw"]))
    elif action == "drop" and len(payloads) > 1:
        del table[k], payloads[k]
    elif action == "twice":
        table.append({**table[k], "name": draw.draw(words)})
        payloads.append(payloads[k])
    elif action == "swap":
        table[k]["name"], table[other]["name"] = table[other]["name"], table[k]["name"]


def change_stream(draw: st.DataObject, document: dict[str, Any], payloads: list[bytes]) -> None:
    """Damages a payload; if it still decodes, the checksum of its values is made right."""
    k = draw.draw(st.integers(0, len(payloads) - 1))
    payload, entry = bytearray(payloads[k]), document["tensors"][k]
    position = draw.draw(st.integers(0, len(payload)))
    payload[position : position + draw.draw(st.integers(0, 4))] = draw.draw(st.binary(max_size=4))
    payloads[k] = bytes(payload)
    entry["bytes"] = len(payload)
    seal_tensor(entry, payloads[k])


def change_tensor(draw: st.DataObject, document: dict[str, Any], payloads: list[bytes]) -> None:
    """Replaces a tensor by one of any dtype, shape and content, sound in itself."""
    k = draw.draw(st.integers(0, len(payloads) - 1))
    entry = document["tensors"][k]
    dtype = draw.draw(st.sampled_from(["uint8", "int8", "float32", "float32", "float16", "int64"]))
    shapes = st.lists(st.integers(0, 9), max_size=4) | st.just([2**15])
    shape = draw.draw((st.just(entry["shape"]) if has_small_shape(entry) else st.nothing()) | shapes)
    count = math.prod(shape)
    kind = draw.draw(st.sampled_from(["same", "special", "random"]))
    if kind == "same":
        array = np.full(count, draw.draw(st.integers(0, 9)), dtype)
    elif kind == "special":
        array = np.resize(np.array([0, 3e38, -3e38, np.nan, np.inf, -0.0, 1e-45], np.float32), count)
    else:
        array = np.random.default_rng(draw.draw(st.integers(0, 99))).normal(0, 50, count)
    with np.errstate(all="ignore"):
        raw = array.astype(dtype).tobytes()
    coded = coding.encode(np.frombuffer(raw, np.uint8)) if dtype in ("uint8", "int8") else raw
    payloads[k] = coded
    coding_name = "rans" if dtype in ("uint8", "int8") else "raw"
    entry.update(dtype=dtype, shape=list(shape), coding=coding_name, bytes=len(coded), crc32=zlib.crc32(raw))


def seal_tensor(entry: dict[str, Any], payload: bytes) -> None:
    if not has_small_shape(entry):
        return
    with contextlib.suppress(ValueError):
        decoded = coding.decode(payload, math.prod(entry["shape"])) if entry["coding"] == "rans" else payload
        entry["crc32"] = zlib.crc32(decoded)


def has_small_shape(entry: dict[str, Any]) -> bool:
    """Another change may have left no shape, or one of gigabytes: the reader's to refuse."""
    shape = entry["shape"]
    sound = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    return sound and math.prod(shape) <= 2**16


CHANGES = (change_header, change_table, change_stream, change_tensor)


@settings(max_examples=100 * FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_structural_damage_with_checksums_in_order(folder: Path, data: bytes, draw: st.DataObject) -> None:
    document, payloads = opened(data)
    for change in draw.draw(st.lists(st.sampled_from(CHANGES), min_size=1, max_size=3)):
        if not payloads or not isinstance(document["header"], dict) or not document["header"]:
            break
        change(draw, document, payloads)
    path = folder / "lie.places"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    loaded = load(path, sealed(document, payloads))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB; a VGG16 is 60 MB
    if isinstance(loaded, Compressed):
        check_weights(path, loaded)


def check_weights(path: Path, loaded: Compressed) -> None:
    """By a reading of the file of its own."""
    with coding.read(path, "places") as container:
        tensors = {name: container.tensor(name) for name in container.names}
        axes = container.header["kernels"]
    assert set(axes) == set(loaded.shared)
    for variable in loaded.model.weights:
        name = variable.path
        if name in axes:
            levels, indices, scales = (tensors.pop(f"{name}/{part}") for part in ("levels", "indices", "scales"))
            scales = scales.reshape([-1 if axis == axes[name] else 1 for axis in range(indices.ndim)])
            expected = levels.astype(np.float32)[indices] * scales
        else:
            expected = tensors.pop(name)
        assert variable.numpy().tobytes() == expected.tobytes() and np.all(np.isfinite(expected))
    assert not tensors


def test_the_undamaged_file_loads(folder: Path, data: bytes) -> None:
    """Or all of the above would prove nothing."""
    document, payloads = opened(data)
    loaded = load(folder / "sound.places", sealed(copy.deepcopy(document), payloads))
    assert isinstance(loaded, Compressed) and len(loaded.shared) == 3
    check_weights(folder / "sound.places", loaded)
