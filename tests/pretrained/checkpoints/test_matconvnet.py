"""Networks of MatConvNet, in `.mat` files of both versions, as scipy and h5py write them and as MATLAB does."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.common.matlab_files import write_mat, write_mat73
from tests.common.test_matlab import HEAD, element, matrix
from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import Checkpoint, open_checkpoint

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


CONV, BIAS, VLAD, CENTRES, WPCA = (
    values(3, 3, 3, 8),
    values(1, 8),
    values(1, 1, 8, 4),
    values(1, 1, 8, 4),
    values(1, 1, 32, 5),
)
AVERAGE = np.array([123, 117, 104], np.float32).reshape(1, 1, 3)


def network(**more: Any) -> dict[str, Any]:
    """The parts of NetVLAD's network that differ, with what MatConvNet writes beside them."""
    layers = [
        {"name": "conv1_1", "type": "conv", "weights": [CONV, BIAS], "pad": np.ones((1, 4)), "stride": np.ones((1, 2)),
         "learningRate": np.ones((1, 2))},
        {"name": "relu1_1", "type": "relu"},
        {"name": "pool1", "type": "pool", "method": "max", "pool": np.array([[2, 2]]), "pad": 0, "stride": 2},
        {"name": "preL2", "type": "normalize", "param": np.array([[16, 1e-12, 1, 0.5]]), "weights": []},
        {"name": "vlad:core", "type": "custom", "weights": [VLAD, CENTRES]},
        {"name": "WPCA", "type": "conv", "weights": [WPCA, np.zeros((0, 0), np.float32)]},
    ]  # fmt: skip
    meta = {"normalization": {"averageImage": AVERAGE, "imageSize": np.array([[224, 224, 3]])}, "classes": ["a"]}
    return {"layers": layers, "meta": meta, **more}


WRITERS = {
    "version 5": lambda path, net: write_mat(path, net, "net", compress=False),
    "version 7": lambda path, net: write_mat(path, net, "net", compress=True),
    "version 7.3": lambda path, net: write_mat73(path, net, "net"),
}


def check(checkpoint: Checkpoint) -> None:
    assert checkpoint.format == "MatConvNet"
    expected = {
        "conv1_1/0": CONV, "conv1_1/1": BIAS, "vlad:core/0": VLAD, "vlad:core/1": CENTRES, "WPCA/0": WPCA,
    }  # fmt: skip
    assert list(checkpoint.tensors) == list(expected)
    for name in reversed(expected):  # backwards in the file
        entry = checkpoint.tensors[name]
        assert (entry.shape, entry.dtype) == (expected[name].shape, np.float32)
        np.testing.assert_array_equal(entry.read(), expected[name])
        read = entry.read()
        read += 1
        np.testing.assert_array_equal(entry.read(), expected[name])
    layers = checkpoint.facts["layers"]
    none = dict.fromkeys(("name", "type", "method", "pad", "stride", "pool", "param"))
    assert layers[0] == {**none, "name": "conv1_1", "type": "conv", "pad": (1, 1, 1, 1), "stride": (1, 1)}
    assert layers[2] == {
        **none, "name": "pool1", "type": "pool", "method": "max", "pool": (2, 2), "pad": (0,), "stride": (2,),
    }  # fmt: skip
    assert layers[3] == {**none, "name": "preL2", "type": "normalize", "param": (16, 1e-12, 1, 0.5)}
    assert [layer["type"] for layer in layers] == ["conv", "relu", "pool", "normalize", "custom", "conv"]
    assert checkpoint.facts["average_image"].tolist() == [123, 117, 104]
    assert set(checkpoint.left_out) == {
        "net.meta.classes", "net.meta.normalization.imageSize", "learningRate of the layers",
    }  # fmt: skip


@pytest.mark.parametrize("version", WRITERS)
def test_every_version(version: str, tmp_path: Path) -> None:
    with open_checkpoint(WRITERS[version](tmp_path / "net.pth", network())) as checkpoint:
        check(checkpoint)


def test_the_inflater_goes_back_and_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading backwards starts from states that are remembered; here every 500 bytes."""
    monkeypatch.setattr("tfplaces.common.stretches._BETWEEN_STATES", 500)
    monkeypatch.setattr("tfplaces.common.stretches._BLOCK", 64)
    monkeypatch.setattr("tfplaces.common.stretches._PIECE", 100)
    with open_checkpoint(WRITERS["version 7"](tmp_path / "a", network())) as checkpoint:
        check(checkpoint)


def test_three_weights_of_the_later_layer(tmp_path: Path) -> None:
    """layerVLADv2 stores 2 α c, -α ‖c‖² and -c."""
    net = network()
    net["layers"][4]["weights"] = [VLAD, values(1, 4), CENTRES]
    for write in WRITERS.values():
        with open_checkpoint(write(tmp_path / "a", net)) as checkpoint:
            found = {name: entry.shape for name, entry in checkpoint.tensors.items() if name.startswith("vlad")}
            assert found == {"vlad:core/0": (1, 1, 8, 4), "vlad:core/1": (1, 4), "vlad:core/2": (1, 1, 8, 4)}


@pytest.mark.parametrize("version", WRITERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda net: net.pop("layers"), "net has no layers, but meta"),
        (lambda net: net.update(layers=5.0), r"where a cell should be"),
        (lambda net: net.update(layers=["conv"]), "layer 1: .*where a single struct should be"),
        (lambda net: net.update(layers=net["layers"][1:3]), "net has no layer with weights"),
        (lambda net: net["layers"][5].update(name="conv1_1"), r"layer 6 \(conv1_1\): another layer has the same name"),
        (lambda net: net["layers"][4].update(weights="text"), r"layer 5 \(vlad:core\): .*where a cell should be"),
        (lambda net: net["layers"][4].update(weights=["text"]), r"layer 5 \(vlad:core\): .*class char"),
        (lambda net: net["meta"]["normalization"].update(averageImage=np.ones((4, 5))), "should be .1 x 1 x 3"),
    ],
)  # fmt: skip
def test_networks_that_are_none(change: Any, message: str, version: str, tmp_path: Path) -> None:
    net = network()
    change(net)
    with pytest.raises(UserError, match=rf"\A{tmp_path}/a: [^\n]*{message}[^\n]*\Z"):
        open_checkpoint(WRITERS[version](tmp_path / "a", net))


@pytest.mark.parametrize("version", WRITERS)
def test_what_may_be_missing(version: str, tmp_path: Path) -> None:
    net = network(meta=5.0)
    for layer in net["layers"]:
        del layer["type"]
    del net["layers"][0]["name"]
    with open_checkpoint(WRITERS[version](tmp_path / "a", net)) as checkpoint:
        assert checkpoint.facts["average_image"] is None
        assert checkpoint.facts["layers"][0]["type"] is None
        assert next(iter(checkpoint.tensors)) == "layer1/0"


def test_another_variable(tmp_path: Path) -> None:
    for write in (write_mat, write_mat73):
        with pytest.raises(UserError, match="no variable net, which a network of MatConvNet has, but dbStruct"):
            open_checkpoint(write(tmp_path / "a", {"x": 1.0}))


def a_struct(name: bytes, fields: dict[bytes, bytes]) -> bytes:
    names = element(5, struct.pack("<i", 16)) + element(1, b"".join(key.ljust(16, b"\0") for key in fields))
    return matrix(2, (1, 1), names, *fields.values(), name=name)


def a_cell(*members: bytes) -> bytes:
    return matrix(1, (1, len(members)), *members, name=b"")


def numbers(kind: int, stored: int, shape: tuple[int, ...], content: bytes) -> bytes:
    return matrix(kind, shape, element(stored, content), name=b"")


def test_objects_of_the_original_release(tmp_path: Path) -> None:
    """MATLAB writes an object of a class as an opaque array: flags, name, MCOS, the class, and a reference."""
    reference = numbers(13, 6, (2, 1), struct.pack("<2I", 0xDD000000, 2))
    flags, names = element(6, struct.pack("<II", 17, 0)), [b"", b"MCOS", b"layerVLAD"]
    opaque = element(14, flags + b"".join(element(1, name) for name in names) + reference)
    path = tmp_path / "a"
    path.write_bytes(HEAD + a_struct(b"net", {b"layers": a_cell(opaque)}))
    message = (
        r'layer 1 is an object of MATLAB.s .* take the copy .*"structed".* Pitts30K_struct\.mat .*\(class layerVLAD\)'
    )
    with pytest.raises(UserError, match=message):
        open_checkpoint(path)
    h5py = pytest.importorskip("h5py")
    write_mat73(path, network(), "net")
    with h5py.File(path, "r+") as file:
        made = file["#refs#"].create_dataset("object", data=np.zeros((6, 1), np.uint32))
        made.attrs["MATLAB_class"], made.attrs["MATLAB_object_decode"] = np.bytes_("layerVLAD"), np.int32(3)
        references = file["net/layers"][()]
        references[0, 4] = made.ref
        file["net/layers"][...] = references
    with pytest.raises(UserError, match=message.replace("layer 1", "layer 5")):
        open_checkpoint(path)


def test_whole_numbers_are_stored_in_fewer_bytes(tmp_path: Path) -> None:
    """MATLAB writes a single array of zeros as uint8; it is read as single."""
    bias = numbers(7, 2, (1, 3), bytes([0, 1, 2]))
    layer = a_struct(b"", {b"weights": a_cell(bias), b"name": matrix(4, (1, 1), element(16, b"a"), name=b"")})
    body = a_struct(b"net", {b"layers": a_cell(layer)})
    path = tmp_path / "a"
    for data in (body, struct.pack("<II", 15, len(zlib.compress(body))) + zlib.compress(body)):
        path.write_bytes(HEAD + data)
        with open_checkpoint(path) as checkpoint:
            assert checkpoint.tensors["a/0"].dtype == np.float32
            read = checkpoint.tensors["a/0"].read()
            assert (read.dtype, read.tolist()) == (np.float32, [[0, 1, 2]])


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (numbers(7, 7, (10**6, 10**6), bytes(8)), "8 bytes for 1,000,000,000,000 numbers"),
        (numbers(7, 7, (2, 1), bytes(4)), "4 bytes for 2 numbers"),
        (matrix(7 | 0x800, (2, 1), element(7, bytes(8)), name=b""), "complex"),
        (numbers(7, 16, (2, 1), bytes(8)), "unknown or complex"),
        (matrix(7, (-1, 2), element(7, bytes(8)), name=b""), "shape"),
        (matrix(5, (2, 1), element(7, bytes(8)), name=b""), "class sparse"),
        (matrix(1, (10**6, 10**6), name=b""), "class cell"),
        (matrix(7, (2, 1), struct.pack("<II", 7, 10**9), name=b""), "larger than what holds it"),
    ],
)
def test_weights_that_do_not_fit(weight: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(HEAD + a_struct(b"net", {b"layers": a_cell(a_struct(b"", {b"weights": a_cell(weight)}))}))
    with pytest.raises(UserError, match=rf"\A{path}: [^\n]*{message}[^\n]*\Z"), open_checkpoint(path) as checkpoint:
        checkpoint.tensors["layer1/0"].read()


def test_damage_in_compressed_weights_is_seen(tmp_path: Path) -> None:
    path = WRITERS["version 7"](tmp_path / "a", network())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # of the checksum
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged: Error -3 while decompressing"):
        open_checkpoint(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged"):
        open_checkpoint(path)


def test_what_inflates_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.pretrained.checkpoints.recognition.MAX_BYTES", 2**16)
    path = tmp_path / "a"
    layer = a_struct(b"", {b"weights": a_cell(numbers(7, 7, (2**15, 1), bytes(2**17)))})
    for body in (a_struct(b"net", {b"layers": a_cell(layer)}), a_struct(b"net", {b"layers": a_cell()}) + bytes(2**17)):
        data = zlib.compress(body)
        path.write_bytes(HEAD + struct.pack("<II", 15, len(data)) + data)
        with pytest.raises(UserError, match="inflates to more than 65,536 bytes"):
            open_checkpoint(path)
