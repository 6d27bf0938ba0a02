"""Packing: the same bytes come back whatever is in a model, small where they can be, and liars are found."""

import hashlib
import io
import os
import re
import struct
import subprocess
import sys
import tracemalloc
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tflite_files import tflite

from tfplaces import coding
from tfplaces.coding import tflpack_encoder
from tfplaces.coding.grid_scales import find_scale, products
from tfplaces.coding.tflite_constants import find_constants

# Each example packs or unpacks a model; more are tried with TFPLACES_FUZZ=50.
FUZZ = int(os.environ.get("TFPLACES_FUZZ", "1"))
RANDOM = np.random.default_rng(0)
LEVELS = np.array([-127, -80, -33, -9, 0, 9, 33, 80, 127], np.int8)
INDICES = RANDOM.choice(9, (64, 3, 3, 40), p=[0.01, 0.02, 0.04, 0.08, 0.7, 0.08, 0.04, 0.02, 0.01])
SCALES = RANDOM.uniform(0.001, 1, (64, 1, 1, 1)).astype(np.float32)
SHARED = LEVELS[INDICES]
ANY_LEVELS = np.cumsum(RANDOM.uniform(0.1, 1, (64, 9)), axis=1, dtype=np.float32)
ANY_LEVELS -= ANY_LEVELS[:, 4:5]  # zero is among them
ENTROPY = float(-np.sum((p := np.bincount(INDICES.reshape(-1)) / INDICES.size) * np.log2(p))) / 8  # bytes a value
CONSTANTS = {
    "ordinary int8": np.clip(RANDOM.normal(0, 30, (128, 2000)), -127, 127).astype(np.int8),
    "shared int8": SHARED,
    "requantized int8": np.rint(SHARED * RANDOM.uniform(0.2, 1, (64, 1, 1, 1))).astype(np.int8),
    "shared float32": SHARED * SCALES,
    "shared float16": (SHARED * SCALES).astype(np.float16),
    "negated columns": -(SHARED.reshape(-1, 40) * SCALES.reshape(-1)[:40]),
    "any levels": ANY_LEVELS[np.arange(64)[:, None, None, None], INDICES],
    "random float32": RANDOM.normal(size=(100, 40)).astype(np.float32),
    "random float16": RANDOM.normal(size=(100, 40)).astype(np.float16),
    "odd floats": np.tile(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, -1e38], np.float32), (40, 30)),
    "zeros": np.zeros((64, 64), np.float32),
    "minus zeros": -np.zeros((64, 64), np.float32),
    "int32": RANDOM.integers(-9, 9, 500).astype(np.int32),
    "int64": RANDOM.integers(-9, 9, (1, 300)),
    "int4": RANDOM.integers(0, 256, (50, 50)).astype(np.uint8),
    "letters": np.frombuffer(b"the same again and " * 100, np.uint8),
    "small": np.arange(5, dtype=np.float32),
    "scalar": np.array(7, np.int32),
    "empty": np.zeros((0, 4), np.float32),
}  # fmt: skip


class Packed(bytes):
    def __repr__(self) -> str:
        return f"{len(self)} bytes"


def packed(data: bytes) -> Packed:
    path = Path("packed.tflpack")
    Path("model.tflite").write_bytes(data)
    coding.pack("model.tflite", path)
    return Packed(path.read_bytes())


def parts_of(data: bytes) -> dict:
    """Header entries of the parts by their offset, with the bytes of their tensors."""
    with coding.read(data, "tflpack") as container:
        sizes = {name: container.payload_bytes(name) for name in container.names}
        return {
            part["offset"]: (part, sum(size for name, size in sizes.items() if name.startswith(f"{n}/")))
            for n, part in enumerate(container.header["parts"])
        }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A packed model with a part of each coding."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("small"))
    data = packed(tflite({
        "a": CONSTANTS["shared float32"][:16], "b": CONSTANTS["any levels"][:16], "c": CONSTANTS["random float16"],
        "d": CONSTANTS["small"], "e": CONSTANTS["shared float16"][:16],
    }))  # fmt: skip
    os.chdir(before)
    assert len(data) < 20_000
    assert {part["coding"] for part, _ in parts_of(data).values()} == {"planes", "palettes", "multiples"}
    return data


@pytest.mark.parametrize("outside", [False, True])
def test_every_constant_is_found_and_comes_back(outside: bool) -> None:
    data = tflite(CONSTANTS, outside, int4=("int4",))
    found = find_constants(data)
    assert sorted(c.bytes for c in found) == sorted(v.nbytes for v in CONSTANTS.values() if v.nbytes)
    for name, values in CONSTANTS.items():
        same = [c for c in found if data[c.offset : c.offset + c.bytes] == values.tobytes()]
        shape = () if name in ("int4", "scalar") else values.shape
        assert not values.nbytes or any(c.shape == shape for c in same), name
        assert not values.nbytes or any(c.value_bytes == values.itemsize for c in same)
    assert coding.unpack_bytes(packed(data)) == data


def test_codings() -> None:
    """Each constant is coded as it should be, near its entropy; packing is the same each time."""
    data = tflite(CONSTANTS, int4=("int4",))
    file = packed(data)
    assert packed(data) == file
    parts = parts_of(file)
    coded = {}
    for constant in find_constants(data):
        content = data[constant.offset : constant.offset + constant.bytes]
        name = next(name for name, values in CONSTANTS.items() if values.tobytes() == content)
        part, size = parts.get(constant.offset, ({"coding": "rest", "lines": None}, 0))
        coded[name] = (part["coding"], part["lines"])
        if name.startswith(("shared", "any", "negated")):
            assert size < 1.02 * ENTROPY * INDICES.size, name
    assert coded == {
        **dict.fromkeys(coded, ("rest", None)),
        **dict.fromkeys(("ordinary int8", "random float32", "random float16"), ("planes", None)),
        **dict.fromkeys(("shared float32", "shared float16"), ("multiples", "rows")),
        "shared int8": ("planes", None),
        "requantized int8": ("palettes", "rows"),
        "negated columns": ("multiples", "columns"),
        "any levels": ("palettes", "rows"),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("sign", [1, -1])
def test_scales_are_found(dtype: type, sign: int) -> None:
    """Whatever the scale and whichever multiples, products come back bit for bit."""
    for seed in range(300):
        random = np.random.default_rng(seed)
        scale = np.float32(sign * random.uniform(0.5, 1) * 2.0 ** random.integers(-6, 6))
        multiples = np.unique(random.integers(-127, 128, random.integers(1, 60))).astype(np.int8)
        values = (multiples.astype(np.float32) * scale).astype(dtype)
        found, restored = find_scale(values)
        assert products(restored, found, values.dtype).tobytes() == values.tobytes()
        assert np.abs(restored.astype(int)).max() <= np.abs(multiples.astype(int)).max()
    noise = np.random.default_rng(0).normal(size=20).astype(np.float32)
    assert find_scale(noise) is None


def test_large_constants_are_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tflite({
        "rows": SHARED * SCALES, "one": SHARED.reshape(1, -1), "flat": SHARED.reshape(-1) * np.float32(0.5),
    })  # fmt: skip
    monkeypatch.setattr(tflpack_encoder, "MAX_PART_BYTES", 5000)
    file = packed(data)
    parts = [part for part, _ in parts_of(file).values()]
    assert len(parts) > 3 * INDICES.size // 5000 and max(part["bytes"] for part in parts) <= 5000
    assert coding.unpack_bytes(file) == data


def test_files_and_progress(tmp_path: Path) -> None:
    data = tflite(CONSTANTS)
    Path("a.tflite").write_bytes(data)
    seen = []
    size = coding.pack("a.tflite", "a.tflpack", lambda done, of: seen.append((done, of)))
    assert size == os.path.getsize("a.tflpack") < 0.4 * len(data)
    assert seen == sorted(seen) and seen[-1] == (len(data), len(data))
    seen.clear()
    assert coding.unpack("a.tflpack", "b.tflite", progress=lambda done, of: seen.append((done, of))) == len(data)
    assert seen == sorted(seen) and seen[-1] == (len(data), len(data))
    assert Path("b.tflite").read_bytes() == data
    for source in ("a.tflpack", Path("a.tflpack"), Path("a.tflpack").read_bytes()):
        assert coding.unpack_bytes(source) == data
    with open("a.tflpack", "rb") as file:
        assert coding.unpack_bytes(file) == data
    assert sorted(os.listdir()) == ["a.tflite", "a.tflpack", "b.tflite"]


def test_what_is_no_model_is_refused_and_nothing_written() -> None:
    data = tflite({"a": SHARED})
    for content, message in (
        (b"", "not a TFLite model"),
        (b"PK\3\4" + bytes(100), "not a TFLite model"),
        (b"\xff\xff\xff\xffTFL3", "cut short or damaged"),
        (data[: len(data) // 2], "cut short or damaged"),
        (tflite({"a": SHARED}, outside=True)[:-1], "a buffer lies outside of the file"),
    ):
        Path("a.tflite").write_bytes(content)
        with pytest.raises(ValueError, match=f"^a.tflite: .*{message}"):
            coding.pack("a.tflite", "a.tflpack")
        assert os.listdir() == ["a.tflite"]
    with pytest.raises(FileNotFoundError):
        coding.pack("none.tflite", "a.tflpack")


@settings(max_examples=25 * FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_changed_model_is_refused_or_comes_back(draw: st.DataObject) -> None:
    data = bytearray(tflite({"a": SHARED[:8], "b": SCALES}, draw.draw(st.booleans())))
    for _ in range(draw.draw(st.integers(1, 3))):
        position = draw.draw(st.integers(0, min(600, len(data) - 5)))
        data[position : position + 4] = draw.draw(st.binary(min_size=4, max_size=4))
    try:
        file = packed(bytes(data))
    except ValueError as error:
        assert str(error).startswith("model.tflite: ") and "\n" not in str(error)
    else:
        assert coding.unpack_bytes(file) == data


def rewritten(data: bytes, header=lambda header: None, tensors=lambda tensors: None) -> bytes:
    """A `.tflpack` with other content, its checksums in order."""
    with coding.read(data, "tflpack") as container:
        content = {name: container.tensor(name) for name in container.names}
        document = container.header
    header(document)
    tensors(content)
    coding.write("lie.tflpack", "tflpack", document, content)
    return Packed(Path("lie.tflpack").read_bytes())


def message(data: bytes, **options) -> str:
    """What unpacking says; it has to be one line of a ValueError."""
    with pytest.raises(ValueError) as error:
        coding.unpack_bytes(data, **options)
    assert str(error.value).count("tflpack data: ") == 1 and "\n" not in str(error.value)
    return str(error.value)


def test_truncated_and_changed_files(small: bytes) -> None:
    for size in (*range(0, len(small), 97), len(small) - 1):
        message(small[:size])
    changed = bytearray(small)
    for position in range(0, len(small), 31):
        changed[position] ^= 1 << position % 8
        message(changed)
        changed[position] = small[position]
    assert coding.unpack_bytes(changed)


LIES = {
    "bytes, sha256 and parts": [{"more": 1}, {"parts": {}}],
    "max_bytes is": [{"bytes": -1}, {"bytes": None}, {"bytes": 1.5}, {"bytes": 2**40}],
    "not what was packed": [{"sha256": "0" * 64}, {"sha256": 7}],
    "larger than the model": [{"bytes": 100}],
    "ends too early": [{"bytes": 10**9}],
    "does not end where it should": [],
    "needs offset, bytes": [{"parts": [7]}, {"parts": [{}]}],
    "tensors are not those": [{"parts": []}],
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_of_the_header(lie: str, small: bytes) -> None:
    for changes in LIES[lie]:
        assert lie in message(rewritten(small, lambda header, changes=changes: header.update(changes)))


PART_LIES = {
    "positive integers": [
        {"bytes": 0}, {"bytes": -4}, {"bytes": "4"}, {"rows": 0}, {"rows": True}, {"value_bytes": 0}, {"rows": 1.0},
    ],
    "parts overlap": [{"offset": -1}, {"offset": None}, {"bytes": 2**24 + 4}],
    "not a matrix": [{"value_bytes": 3}, {"value_bytes": 16}, {"rows": 7}],
    "in an unknown way": [
        {"coding": "zip"}, {"coding": None}, {"lines": None}, {"lines": "diagonals"}, {"transposed": 1},
        {"coding": ["planes"]}, {"coding": "planes", "lines": "rows"},
    ],
    "lines of less than 32": [{"rows": 16 * 360, "lines": "rows"}],
    "has to be|have to be": [{"value_bytes": 8}],
    "cannot be transposed": [{"coding": "planes", "lines": None, "transposed": True}],
    "tensors are not those": [{"coding": "planes", "lines": None, "transposed": False}],
    "is not the bytes of its part": [{"bytes": 2048}, {"value_bytes": 2}],
}  # fmt: skip


@pytest.mark.parametrize("lie", PART_LIES)
def test_lies_of_a_part(lie: str, small: bytes) -> None:
    with coding.read(small, "tflpack") as container:
        number = [(p["coding"], p["value_bytes"]) for p in container.header["parts"]].index(("multiples", 4))
    for changes in PART_LIES[lie]:
        said = message(rewritten(small, lambda header, changes=changes: header["parts"][number].update(changes)))
        assert re.search(lie, said), (changes, said)


@settings(max_examples=8 * FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_header_and_any_tensor_are_harmless(small: bytes, draw: st.DataObject) -> None:
    """The right bytes or a ValueError, whatever a writer of sound containers makes up."""
    right = coding.unpack_bytes(small)
    values = st.sampled_from([0, 1, 2, 4, 8, 16, 360, 5760, 2**24, 2**62, -1, "rows", "columns", None, True, "planes",
                              "palettes", "multiples", []])  # fmt: skip

    def change_header(header: dict) -> None:
        for _ in range(draw.draw(st.integers(0, 2))):
            part = draw.draw(st.sampled_from(header["parts"]))
            part[draw.draw(st.sampled_from(sorted(part)))] = draw.draw(values)

    def change_tensors(tensors: dict) -> None:
        name = draw.draw(st.sampled_from(sorted(tensors)))
        kind = draw.draw(st.integers(0, 3))
        if kind == 1 and name == "rest":
            rest = bytearray(zlib.decompress(tensors["rest"].tobytes()))
            position = draw.draw(st.integers(0, len(rest) - 1))
            rest[position : position + 2] = draw.draw(st.binary(max_size=4))
            tensors["rest"] = np.frombuffer(zlib.compress(bytes(rest)), np.uint8)
        elif kind == 2 and tensors[name].size:
            tensors[name][draw.draw(st.integers(0, tensors[name].size - 1))] ^= draw.draw(st.integers(0, 255))
        elif kind == 3:
            tensors[name] = tensors[name][: draw.draw(st.integers(0, tensors[name].size))]

    try:
        unpacked = coding.unpack_bytes(rewritten(small, change_header, change_tensors), max_bytes=10**6)
    except ValueError as error:
        assert str(error).count("tflpack data: ") == 1 and "\n" not in str(error)
    else:
        assert unpacked == right


def test_a_rest_that_lies(small: bytes) -> None:
    def replace(change):
        def tensors(content):
            rest = zlib.decompress(content["rest"].tobytes())
            content["rest"] = np.frombuffer(change(rest, content["rest"].tobytes()), np.uint8)

        return rewritten(small, tensors=tensors)

    assert "ends too early" in message(replace(lambda rest, deflated: zlib.compress(rest[:-1])))
    assert "ends too early" in message(replace(lambda rest, deflated: b""))
    assert "cannot be inflated" in message(replace(lambda rest, deflated: rest))
    for change in (
        lambda rest, deflated: zlib.compress(rest + b"\0"),
        lambda rest, deflated: deflated + b"\0",
        lambda rest, deflated: deflated + deflated,
        lambda rest, deflated: deflated[:-4],
        lambda rest, deflated: zlib.compress(rest + bytes(10**6)),
    ):
        assert "does not end where it should" in message(replace(change))


def test_max_bytes_and_memory() -> None:
    """A small file that says that it is large is refused, or costs no more than what it makes."""
    data = tflite({"a": np.zeros((2000, 1000), np.int8)})
    file = packed(data)
    assert len(file) < 5000
    assert "more than the 1000000 bytes of max_bytes" in message(file, max_bytes=10**6)
    assert coding.unpack_bytes(file, max_bytes=len(data)) == data
    Path("a.tflpack").write_bytes(rewritten(file, lambda header: header.update(bytes=2**32)))
    tracemalloc.start()
    with pytest.raises(ValueError, match="ends too early"):
        coding.unpack("a.tflpack", "a.tflite")
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()
    assert not os.path.exists("a.tflite")


def test_a_failure_keeps_what_was_there(small: bytes) -> None:
    Path("a.tflpack").write_bytes(small[:-1])
    Path("a.tflite").write_bytes(b"before")
    with pytest.raises(ValueError, match=r"^a\.tflpack: "):
        coding.unpack("a.tflpack", "a.tflite")
    Path("a.tflpack").write_bytes(rewritten(small, lambda header: header.update(sha256="")))
    with pytest.raises(ValueError, match="not what was packed"):
        coding.unpack("a.tflpack", "a.tflite")
    assert Path("a.tflite").read_bytes() == b"before"
    assert sorted(os.listdir()) == ["a.tflite", "a.tflpack", "lie.tflpack"]


def unpack_by_the_book(file: bytes) -> bytearray:
    """A second decoder, value by value, that follows FORMAT.md and shares nothing with the first but the container."""
    with coding.read(file, "tflpack") as container:
        header = container.header
        tensors = {name: container.tensor(name).tolist() for name in container.names}
    rest = io.BytesIO(zlib.decompress(bytes(tensors["rest"])))
    model = bytearray()

    def numbers(count: int, size: int) -> list[bytes]:
        planes = [rest.read(count) for _ in range(size)]
        return [bytes(plane[i] for plane in planes) for i in range(count)]

    for n, part in enumerate(header["parts"]):
        model += rest.read(part["offset"] - len(model))
        size, rows = part["value_bytes"], part["rows"]
        count = part["bytes"] // size
        columns = count // rows
        if part["coding"] == "planes":
            for i in range(count):
                model += bytes(tensors[f"{n}/{plane}"][i] for plane in range(size))
            continue
        lines = rows if part["lines"] == "rows" else columns
        if part["coding"] == "palettes":
            above, below = rest.read(lines), rest.read(lines)
            words = iter(numbers(sum(above) + sum(below), size))
            tables = [
                {**{2 * j: next(words) for j in range(a)}, **{2 * j + 1: next(words) for j in range(b)}}
                for a, b in zip(above, below, strict=True)
            ]
        else:
            levels = struct.unpack(f"<{(used := rest.read(1)[0])}b", rest.read(used))
            scales = [np.frombuffer(number, "<f4")[0] for number in numbers(lines, 4)]
            to_bytes = {2: lambda x: np.float16(x).tobytes(), 4: lambda x: np.float32(x).tobytes()}[size]
            tables = [{r: to_bytes(np.float32(k) * scale) for r, k in enumerate(levels)} for scale in scales]
        for row in range(rows):
            for column in range(columns):
                at = column * rows + row if part["transposed"] else row * columns + column
                model += tables[row if part["lines"] == "rows" else column][tensors[f"{n}/0"][at]]
    model += rest.read(header["bytes"] - len(model))
    assert not rest.read()
    return model


def test_by_the_book(small: bytes) -> None:
    assert unpack_by_the_book(small) == coding.unpack_bytes(small)


@pytest.mark.parametrize("name", ["requantized int8", "shared float16", "negated columns", "any levels", "int64"])
def test_every_coding(name: str) -> None:
    """Whether it is the shortest or not."""
    data = tflite({name: CONSTANTS[name][:32]})
    (piece,) = find_constants(data)
    seen = set()
    for coded in tflpack_encoder._codings(piece, np.frombuffer(data, np.uint8, piece.bytes, piece.offset)):
        part = coded.part
        seen.add((part.coding, part.lines, part.transposed))
        rest = data[: piece.offset] + coded.palettes + data[piece.offset + piece.bytes :]
        tensors = {f"0/{number}": plane for number, plane in enumerate(coded.planes)}
        tensors["rest"] = np.frombuffer(zlib.compress(rest), np.uint8)
        header = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "parts": [asdict(part)]}
        coding.write("a.tflpack", "tflpack", header, tensors)
        assert coding.unpack_bytes("a.tflpack") == data == unpack_by_the_book(Path("a.tflpack").read_bytes())
    assert len(seen) == (2 if name == "int64" else 5), seen


def test_unpacking_needs_numpy_alone(small: bytes) -> None:
    Path("a.tflpack").write_bytes(small)
    code = """
import sys
class Only:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in (*sys.stdlib_module_names, "numpy", "tfplaces"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Only())
from tfplaces import coding
print(coding.unpack("a.tflpack", "a.tflite"))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(coding.__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == str(os.path.getsize("a.tflite")), done.stderr
