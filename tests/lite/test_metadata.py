"""Metadata in a `.tflite`: decoded by hand they say what they should, and nothing else of the file has changed."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from tflite_files import tflite

import tfplaces
from tfplaces.common.errors import UserError
from tfplaces.lite import PRECISIONS, convert
from tfplaces.lite.metadata import with_metadata

SIZE = (48, 64)


@pytest.fixture(scope="module")
def net() -> tfplaces.PlaceNet:
    """Large enough for the quantizer to put constants behind the flatbuffer."""
    keras.utils.set_random_seed(0)
    return tfplaces.PlaceNet("squeezenet", cut="fire4", clusters=4, whitening=400, input_size=SIZE)


@pytest.fixture(scope="module")
def plain(net: tfplaces.PlaceNet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the converter of TensorFlow makes, without metadata of ours."""
    saved = str(tmp_path_factory.mktemp("saved"))
    archive = keras.export.ExportArchive()
    archive.track(net)
    image = tf.TensorSpec((1, *SIZE, 3), tf.float32, name="image")
    archive.add_endpoint("serve", lambda image: {"descriptor": net(image, training=False)}, input_signature=[image])
    archive.write_out(saved, verbose=False)
    return tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=["serve"]).convert()


class Table:
    """A table of a flatbuffer, after https://flatbuffers.dev/internals; a field by the number it has in the schema."""

    def __init__(self, data: bytes, position: int):
        self.data, self.position = data, position

    def number(self, form: str, position: int) -> Any:
        return struct.unpack_from("<" + form, self.data, position)[0]

    def at(self, field: int) -> int:
        fields = self.position - self.number("i", self.position)
        known = 4 + 2 * field < self.number("H", fields)
        offset = self.number("H", fields + 4 + 2 * field) if known else 0
        return self.position + offset if offset else 0

    def follow(self, position: int) -> int:
        return position + self.number("I", position)

    def has(self, field: int) -> bool:
        return bool(self.at(field))

    def byte(self, field: int) -> int:
        return self.number("B", self.at(field))

    def table(self, field: int) -> Table:
        return Table(self.data, self.follow(self.at(field)))

    def text(self, field: int) -> str:
        start = self.follow(self.at(field))
        return self.data[start + 4 : start + 4 + self.number("I", start)].decode()

    def floats(self, field: int) -> list[float]:
        start = self.follow(self.at(field))
        return list(struct.unpack_from(f"<{self.number('I', start)}f", self.data, start + 4))

    def tables(self, field: int) -> list[Table]:
        start = self.follow(self.at(field))
        items = range(start + 4, start + 4 + 4 * self.number("I", start), 4)
        return [Table(self.data, self.follow(item)) for item in items]


def metadata_of(data: bytes) -> bytes:
    """The bytes that the entry leads to, inside the flatbuffer, where MediaPipe looks for them."""
    model = schema.ModelT.InitFromPackedBuf(data)
    (index,) = [entry.buffer for entry in model.metadata if entry.name == b"TFLITE_METADATA"]
    assert model.buffers[index].data is not None
    return model.buffers[index].data.tobytes()


def check_metadata(data: bytes, description: str, float_input: bool) -> None:
    metadata = metadata_of(data)
    assert metadata[4:8] == b"M001"
    model = Table(metadata, struct.unpack_from("<I", metadata)[0])
    assert (model.text(0), model.text(1), model.text(2)) == ("tfplaces", description, tfplaces.__version__)
    assert model.text(7) == "1.0.0"
    (subgraph,) = model.tables(3)
    (image,), (descriptor,) = subgraph.tables(2), subgraph.tables(3)
    assert image.text(0) == "image" and "RGB, 0 to 255" in image.text(1)
    assert image.table(3).byte(0) == 2 and image.table(3).table(1).byte(0) == 1  # ImageProperties, RGB
    assert image.has(4) == float_input
    if float_input:
        (unit,) = image.tables(4)
        assert unit.byte(0) == 1  # NormalizationOptions
        assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0.0], [1.0])  # mean, std
    assert (image.table(5).floats(0), image.table(5).floats(1)) == ([255.0], [0.0])  # max, min
    assert descriptor.text(0) == "descriptor" and "unit length" in descriptor.text(1)
    assert descriptor.table(3).byte(0) == 1 and descriptor.table(3).has(1)  # FeatureProperties
    assert not descriptor.has(4)


def contents(value: Any) -> Any:
    """An unpacked flatbuffer as plain values, to compare."""
    if isinstance(value, list):
        return [contents(item) for item in value]
    if isinstance(value, np.ndarray):
        return value.tolist()
    return {key: contents(item) for key, item in vars(value).items()} if hasattr(value, "__dict__") else value


@pytest.mark.parametrize("float_input", [False, True])
def test_metadata(plain: bytes, float_input: bool) -> None:
    check_metadata(with_metadata(plain, description="Où?", float_input=float_input), "Où?", float_input)


def test_nothing_else_changes(plain: bytes) -> None:
    data = with_metadata(plain, description="", float_input=False)
    before, after = (schema.ModelT.InitFromPackedBuf(d) for d in (plain, data))
    entry = after.metadata.pop()
    assert (entry.name, entry.buffer) == (b"TFLITE_METADATA", len(before.buffers))
    after.buffers.pop()
    assert {e.name for e in before.metadata} >= {b"min_runtime_version", b"CONVERSION_METADATA"}
    assert contents(before) == contents(after)
    assert data.endswith(plain) and (len(data) - len(plain)) % 16 == 0  # so constants are aligned as before


def test_the_model_runs_as_before(plain: bytes) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3)).astype(np.float32)
    descriptors = []
    for data in (plain, with_metadata(plain, description="", float_input=False)):
        run = Interpreter(model_content=data).get_signature_runner("serve")
        descriptors.append(run(image=image)["descriptor"])
    np.testing.assert_array_equal(*descriptors)


def test_metadata_are_replaced(plain: bytes) -> None:
    once = with_metadata(plain, description="first", float_input=False)
    twice = with_metadata(once, description="second", float_input=True)
    check_metadata(twice, "second", True)
    before, after = (schema.ModelT.InitFromPackedBuf(d) for d in (once, twice))
    assert [e.name for e in after.metadata] == [e.name for e in before.metadata]
    index = after.metadata[-1].buffer
    assert after.buffers.pop(index).data.tobytes() != before.buffers.pop(index).data.tobytes()
    assert contents(before) == contents(after)


def test_a_file_without_any_entry() -> None:
    constants = {"a": np.arange(6, dtype=np.float32)}
    data = with_metadata(tflite(constants), description="few", float_input=True)
    check_metadata(data, "few", True)
    after = schema.ModelT.InitFromPackedBuf(data)
    assert after.description == b"made by a test" and len(after.metadata) == 1
    assert after.buffers[after.subgraphs[0].tensors[0].buffer].data.tobytes() == constants["a"].tobytes()


def test_a_large_model_is_copied_once() -> None:
    data = tflite({"a": np.zeros(20_000_000, np.uint8)})
    tracemalloc.start()
    try:
        with_metadata(data, description="large", float_input=False)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.05 * len(data)


def test_what_cannot_be_told(plain: bytes) -> None:
    outside = tflite({"a": np.zeros(100, np.float32)}, outside=True)
    with pytest.raises(ValueError, match="before it is quantized"):
        with_metadata(outside, description="", float_input=False)


LONG = "Я" * 160  # as long as a licence may be, two bytes a character


@pytest.mark.parametrize("licence", ["", "MIT", LONG])
@pytest.mark.parametrize("description", ["", "few", "words and ünlaut " * 60, "𝔸" * 900])
@pytest.mark.parametrize("float_input", [False, True])
def test_the_description_gives_way(plain: bytes, description: str, licence: str, float_input: bool) -> None:
    """MediaPipe reads 1023 bytes at most: the end of the description is left out, the licence never."""
    data = with_metadata(plain, description=description, float_input=float_input, licence=licence)
    metadata = metadata_of(data)
    assert len(metadata) <= 1023
    model = Table(metadata, struct.unpack_from("<I", metadata)[0])
    assert model.has(5) == bool(licence)
    if licence:
        assert model.text(5) == licence
    found = model.text(1)
    if len(description) < 10:
        assert found == description
    else:
        assert found.endswith("…") and description.startswith(found[:-1]) and len(metadata) > 1023 - 80


def test_a_licence_that_does_not_fit(plain: bytes) -> None:
    with pytest.raises(UserError, match=r"^a licence \d+ bytes too long for a \.tflite that MediaPipe takes: xxx"):
        with_metadata(plain, description="few", float_input=False, licence="x" * 900)


def test_where_the_weights_come_from(tmp_path: Path) -> None:
    """The source of an imported network and its licence are in the file that is converted from it."""
    keras.utils.set_random_seed(0)
    source = {
        "file": "resnet18_512.pth", "sha256": "0123456789abcdef" * 4, "kind": "cosplace", "licence": "MIT",
        "note": "trained at 512 x 512",
    }  # fmt: skip
    net = tfplaces.PlaceNet("squeezenet", cut="fire2", clusters=2, input_size=SIZE, source=source)
    convert(net, tmp_path / "a.tflite", "float32")
    metadata = metadata_of((tmp_path / "a.tflite").read_bytes())
    model = Table(metadata, struct.unpack_from("<I", metadata)[0])
    assert model.text(5) == "MIT"
    assert model.text(1) == (
        "squeezenet, NetVLAD2, 256-D descriptor; weights of resnet18_512.pth; cosplace; SHA-256 "
        + "0123456789abcdef" * 4 + "; trained at 512 x 512"
    )  # fmt: skip


@pytest.mark.parametrize(
    "precision, options",
    [*((precision, {}) for precision in PRECISIONS), ("mixed_int8", {"float_input": True, "int8_output": True})],
)
def test_converted_models_have_metadata(net: tfplaces.PlaceNet, tmp_path: Path, precision: str, options: dict) -> None:
    town = tfplaces.load_dataset("toytown?places=2").database
    convert(net, tmp_path / "a.tflite", precision, calibration=town, **options)
    data = (tmp_path / "a.tflite").read_bytes()
    check_metadata(data, "squeezenet, NetVLAD4, 400-D descriptor", "float_input" in options)
    behind = sum(buffer.offset > 1 for buffer in schema.ModelT.InitFromPackedBuf(data).buffers)
    assert (behind > 0) == (precision not in ("float32", "full_int8"))  # there, and yet the metadata are inside
