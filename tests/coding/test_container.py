"""The container: round trips, and every way in which a file can be damaged, lie or be cut short.

TFPLACES_FUZZ=n makes the hypothesis tests try n times as many inputs (the default run is a few seconds).
"""

import io
import json
import os
import re
import struct
import subprocess
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfplaces import coding
from tfplaces.coding import container

FUZZ = int(os.environ.get("TFPLACES_FUZZ", "1"))
RANDOM = np.random.default_rng(0)
TENSORS = {
    "kernel": RANDOM.choice(8, (30, 11), p=[0.6, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01]).astype(np.uint8),
    "scales/0": RANDOM.normal(size=7).astype(np.float32),
    "steps": np.array(-3, np.int64),
    "ünï": np.arange(-4, 4, dtype=np.int8),
    "nothing": np.zeros((0, 3), np.float16),
    "same": np.full(100, 9, np.uint8),
}


def fuzz(examples):
    return settings(max_examples=examples * FUZZ, deadline=None, suppress_health_check=list(HealthCheck))


def saved(tmp_path, tensors=TENSORS, header=None, kind="places"):
    path = tmp_path / f"model.{kind}"
    coding.write(path, kind, {"description": "Füße"} if header is None else header, tensors)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("container")).read_bytes()


def sealed(document, payloads=b"", magic=b"TFPLACES", version=1):
    """A file of any header, object or text, with sizes and checksums in order."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    return sealed_as_is(zlib.compress(text), payloads, magic, version)


def sealed_as_is(header, payloads=b"", magic=b"TFPLACES", version=1):
    """A file of any bytes in the place of the deflated header."""
    body = struct.pack("<8sIIQI", magic, version, len(header), 32 + len(header) + len(payloads), zlib.crc32(header))
    body += header + payloads
    return body + struct.pack("<I", zlib.crc32(body))


def entry(**changes):
    payload = {"name": "a", "dtype": "uint8", "shape": [4], "coding": "raw", "bytes": 4, "crc32": zlib.crc32(b"abcd")}
    return {**payload, **changes}


def document(*tensors, **changes):
    return {"header": {}, "tensors": list(tensors), **changes}


def read_all(data, **options):
    """Header and tensors, or the message of the ValueError; any other exception is a failure."""
    try:
        with coding.read(data, "places", **options) as opened:
            return opened.header, {name: opened.tensor(name) for name in opened.names}
    except ValueError as error:
        assert "\n" not in str(error)
        assert str(error).startswith("places data: ")
        return str(error)


def assert_same(tensors, others):
    assert list(tensors) == list(others)
    for name, tensor in tensors.items():
        assert others[name].dtype == tensor.dtype
        assert others[name].shape == tensor.shape
        assert others[name].tobytes() == tensor.tobytes()


def test_round_trip(tmp_path):
    path = saved(tmp_path)
    with coding.read(path, "places") as opened:
        assert opened.header == {"description": "Füße"}
        assert opened.names == tuple(TENSORS)
        assert opened.file_bytes == path.stat().st_size
        assert_same(TENSORS, {name: opened.tensor(name) for name in opened.names})
        assert opened.shape("kernel") == (30, 11)
        assert opened.dtype("scales/0") == np.float32
        assert opened.payload_bytes("scales/0") == 28
        assert opened.payload_bytes("same") == 2
        assert opened.payload_bytes("kernel") < 330 / 3
        opened.tensor("kernel")[:] = 0  # the caller's own
        assert opened.tensor("kernel").any()
        with pytest.raises(KeyError):
            opened.tensor("kernels")
    with pytest.raises(ValueError, match=r"model\.places"):
        opened.tensor("kernel")


def test_sources(tmp_path, data):
    path = saved(tmp_path)
    assert path.read_bytes() == data  # equal input, equal bytes
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    for source in (path, str(path), data, bytearray(data), memoryview(data), file):
        assert_same(TENSORS, read_all(source)[1])
    assert not file.closed
    with open(path, "rb") as file:
        assert_same(TENSORS, read_all(file)[1])
    with pytest.raises(FileNotFoundError):
        coding.read(tmp_path / "none", "places")


def test_arrays_of_any_layout(tmp_path):
    square = np.arange(12, dtype=">f4").reshape(3, 4)
    path = saved(tmp_path, {"big-endian": square, "transposed": square.T, "strided": square[::2, ::-1]})
    with coding.read(path, "places") as opened:
        for name, expected in {"big-endian": square, "transposed": square.T, "strided": square[::2, ::-1]}.items():
            np.testing.assert_array_equal(opened.tensor(name), expected)
            assert opened.tensor(name).dtype == np.float32


@fuzz(50)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8),
        st.tuples(st.sampled_from(list(container.DTYPES)), st.lists(st.integers(0, 5), max_size=4), st.integers(0, 99)),
        max_size=5,
    )
)
def test_any_tensors_come_back(tmp_path_factory, specifications):
    tensors = {
        name: np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)
        for name, (dtype, shape, seed) in specifications.items()
    }
    path = saved(tmp_path_factory.mktemp("any"), tensors, {"n": len(tensors)}, "tflpack")
    with coding.read(path, "tflpack") as opened:
        assert opened.header == {"n": len(tensors)}
        assert_same(tensors, {name: opened.tensor(name) for name in opened.names})


def test_every_truncation_is_found(data):
    for size in range(len(data)):
        assert isinstance(read_all(data[:size]), str)
    assert isinstance(read_all(data + b"\0"), str)


def test_every_changed_byte_is_found(data):
    changed = bytearray(data)
    for position in range(len(data)):
        for flip in range(1, 256):
            changed[position] = data[position] ^ flip
            assert isinstance(read_all(changed), str)
        changed[position] = data[position]


def split(data):
    (size,) = struct.unpack_from("<I", data, 12)
    return zlib.decompress(data[28 : 28 + size]), data[28 + size : -4]


def test_payloads_changed_with_their_checksums_in_order(data):
    """The file's checksum does not help against a liar; the tensors' own and the decoder do."""
    text, payloads = split(data)
    for position in range(len(payloads)):
        for flip in (1, 2, 16, 128, 255):
            changed = bytearray(payloads)
            changed[position] ^= flip
            assert "tensor '" in read_all(sealed(text, bytes(changed)))


@fuzz(300)
@given(st.data())
def test_any_header_is_harmless(data, draw):
    text, payloads = split(data)
    text = bytearray(text)
    for _ in range(draw.draw(st.integers(1, 4))):
        position = draw.draw(st.integers(0, len(text)))
        snippet = st.sampled_from([b"", b"[", b"}", b"0", b"9", b"-1", b'"', b"\\", b"null", b"1e9", b"\xff", b","])
        text[position : position + draw.draw(st.integers(0, 3))] = draw.draw(snippet | st.binary(max_size=3))
    read_all(sealed(bytes(text), payloads), max_bytes=10**6)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 2**65)
    | st.floats()
    | st.sampled_from(["raw", "rans", "uint8", "a", ""]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=2), values, max_size=2),
    max_leaves=5,
)


@fuzz(300)
@given(st.dictionaries(st.sampled_from(list(entry())), json_values, max_size=3), st.binary(max_size=20))
def test_any_table_is_harmless(changes, payload):
    result = read_all(sealed(document(entry(**{"bytes": len(payload), **changes})), payload), max_bytes=10**6)
    if not isinstance(result, str):
        assert sum(tensor.nbytes for tensor in result[1].values()) <= 10**6


LIES = {
    "needs name, dtype, shape": [{}, {**entry(), "offset": 0}, {"name": "a"}, 7, None, []],
    "printable characters": [entry(name=name) for name in ("", "a\n", "x" * 1025, 7, None, "\x1b[2J")],
    "dtype is not one of": [entry(dtype=dtype) for dtype in ("float64", "object", "<f4", "", None, [], {"a": 1})],
    "shape is not a list": [
        entry(shape=shape)
        for shape in (4, "4", None, [-1], [4.0], [True], ["4"], [[4]], [None], [1] * 17, {"a": 4}, [1, -4])
    ],
    "unsigned integers": [entry(bytes=-4), entry(bytes=4.0), entry(crc32=None), entry(crc32="1"), entry(bytes=True)],
    "more than the 4294967296 bytes": [
        entry(shape=[2**32 + 1]), entry(shape=[2**32, 2**32]), entry(shape=[2**63, 2]), entry(shape=[0, 2**60]),
        entry(shape=[2**16] * 16), entry(shape=[2**32 + 1], coding="rans"),
    ],
    "raise it": [entry(shape=[2**31, 2], dtype="int16", bytes=2**33)],
    "do not fill": [entry(shape=[5]), entry(bytes=3), entry(dtype="int64"), entry(shape=[10**9], bytes=4)],
    "is unknown; upgrade": [
        entry(coding="zip"), entry(coding=None), entry(coding=[1]), entry(coding="x" * 9999),
        entry(coding="rans", dtype="int16", shape=[2]),
    ],
    "do not add up": [entry(shape=[3], bytes=3), entry(shape=[5], bytes=5), entry(coding="rans", bytes=2**40)],
    "wrong checksum": [entry(crc32=0), entry(crc32=2**60)],
    "corrupt stream": [entry(coding="rans"), entry(coding="rans", shape=[4, 10**9]), entry(coding="rans", shape=[0])],
}  # fmt: skip


@pytest.mark.parametrize("message", LIES)
def test_lies_of_the_table(message):
    for lie in LIES[message]:
        assert message in read_all(sealed(document(lie), b"abcd")), lie
        assert len(read_all(sealed(document(lie), b"abcd"))) < 1400
    assert read_all(sealed(document(entry()), b"abcd"))[1]["a"].tobytes() == b"abcd"


def nested(depth):
    return [nested(depth - 1)] if depth else 0


def test_the_deepest_header():
    """Two levels are the container's, one is the header's own."""
    assert read_all(sealed(document(header={"a": nested(97)})))[0] == {"a": nested(97)}


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "not plain JSON"),
        (b"{", "not plain JSON"),
        (b"\xff\xfe", "not plain JSON"),
        (b'{"header":{"a":NaN},"tensors":[]}', "not finite"),
        (b'{"header":{"a":-Infinity},"tensors":[]}', "not finite"),
        (b'{"header":{"a":1e999},"tensors":[]}', "not finite"),
        (b'{"header":{"a":' + b"9" * 10**6 + b'},"tensors":[]}', "an integer of 1000000 digits"),
        (b'{"header":{"a":1,"a":2},"tensors":[]}', "occurs twice"),
        (b'{"header":{"a":"\\ud800"},"tensors":[]}', "surrogates not allowed"),
        (b"[" * 10**6, "nested too deep"),
        (b'{"header":' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b',"tensors":[]}', "nested too deep"),
        (json.dumps(document(header={"a": nested(98)})).encode(), "nested too deep, more than 100 levels"),
        (b"[]", "object of 'header' and 'tensors'"),
        (b'{"header":{},"tensors":[],"more":1}', "object of 'header' and 'tensors'"),
        (b'{"header":[],"tensors":[]}', "has to be an object"),
        (b'{"header":{},"tensors":{}}', "has to be an object"),
        (b" " * (container.MAX_HEADER_BYTES + 1), "inflates to more than 1048576 bytes"),
        (b" " * container.MAX_HEADER_BYTES, "not plain JSON"),
    ],
)  # fmt: skip
def test_headers_that_are_not_headers(text, message):
    assert message in read_all(sealed(text))


def test_headers_that_are_not_deflated():
    text = json.dumps(document(entry())).encode()
    good = zlib.compress(text)
    assert read_all(sealed_as_is(good, b"abcd"))[1]["a"].tobytes() == b"abcd"
    for header in (text, good[2:], zlib.compress(text, wbits=31), good[:2] + bytes(9)):
        assert "cannot be inflated" in read_all(sealed_as_is(header, b"abcd"))
    for header in (b"", good[:-1], good[:20], good + b"\0", good + good):
        assert "not one whole zlib stream" in read_all(sealed_as_is(header, b"abcd"))
    noise = np.random.default_rng(0).bytes(container.MAX_HEADER_BYTES + 1)
    assert "header of 1048577 bytes is larger than 1048576" in read_all(sealed_as_is(noise))


def test_a_header_that_inflates_to_a_gigabyte_costs_little():
    deflater = zlib.compressobj(9)
    bomb = b"".join(deflater.compress(bytes(2**20)) for _ in range(1000)) + deflater.flush()
    tracemalloc.start()
    assert "inflates to more than" in read_all(sealed_as_is(bomb))
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


def test_a_stream_of_no_bytes():
    assert "ends too early" in read_all(sealed(document(entry(coding="rans", bytes=0))))


def test_two_tensors_of_one_name():
    assert "same name" in read_all(sealed(document(entry(), entry()), b"abcdabcd"))


def test_other_files(tmp_path, data):
    assert "only 0 bytes long" in read_all(b"")
    assert "not a .places file but something else" in read_all(b"PK\3\4" + bytes(100))
    assert "not a .places file but a .tflpack file" in read_all(sealed(document(), magic=b"TFLPACK\n"))
    newer = "written by a newer tfplaces: version 3, this reads up to 1; upgrade tfplaces"
    assert newer in read_all(sealed(b"anything", version=3))
    assert "version 0" in read_all(sealed(document(), version=0))
    assert "damaged; copy or download it again" in read_all(data[:-1])
    path = tmp_path / "broken.places"
    path.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"^{re.escape(str(path))}: .*damaged"):
        coding.read(path, "places")
    with pytest.raises(ValueError, match="unknown kind of file 'zip'"):
        coding.read(data, "zip")


def test_memory_is_bounded_by_what_is_there_and_allowed():
    lies = [
        entry(shape=[2**31], bytes=2**31),
        entry(shape=[2**31], coding="rans", bytes=2**31),
        entry(shape=[2**36], coding="rans"),
        entry(shape=[2**20, 2**20], dtype="float32"),
    ]
    tracemalloc.start()
    for lie in lies:
        assert isinstance(read_all(sealed(document(lie), b"\2\1\1\2")), str)
    assert isinstance(read_all(struct.pack("<8sIIQI", b"TFPLACES", 1, 2**32 - 1, 36, 0) + bytes(8)), str)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_max_bytes_is_the_callers():
    bomb = sealed(
        document(entry(shape=[5 * 2**20], coding="rans", bytes=2, crc32=zlib.crc32(bytes(5 * 2**20)))), b"\0\0"
    )
    assert "more than the 1048576 bytes" in read_all(bomb, max_bytes=2**20)
    assert read_all(bomb, max_bytes=5 * 2**20)[1]["a"].nbytes == 5 * 2**20


def test_out_of_memory_is_a_value_error(data, monkeypatch):
    def fail(*_):
        raise MemoryError

    with coding.read(data, "places") as opened:
        monkeypatch.setattr(container.rans, "decode", fail)
        with pytest.raises(ValueError, match="tensor 'kernel': it takes more memory than is free"):
            opened.tensor("kernel")


def test_a_file_that_shrinks_after_it_was_opened(tmp_path):
    path = saved(tmp_path, {"a": np.arange(10**5, dtype=np.float32)})
    with coding.read(path, "places") as opened:
        with open(path, "r+b") as file:
            file.truncate(1000)
        with pytest.raises(ValueError, match="the file got shorter"):
            opened.tensor("a")


def test_tensors_may_be_read_from_several_threads(tmp_path):
    tensors = {str(i): np.full(5000, i, np.uint16) for i in range(20)}
    wrong = []
    with coding.read(saved(tmp_path, tensors), "places") as opened:

        def check():
            wrong.extend(name for name in tensors if (opened.tensor(name) != tensors[name]).any())

        threads = [threading.Thread(target=check) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "header, tensors, message",
    [
        ({"a": float("nan")}, {}, "not JSON compliant"),
        ({"a": np.float32(1)}, {}, "not JSON serializable"),
        ({"a": 10**30}, {}, "an integer of 31 digits"),
        ({1: 1, "1": 2}, {}, "occurs twice"),
        ({"a": "x" * 2**23}, {}, "larger than"),
        ({}, {"a": np.zeros(3)}, "tensor 'a' is float64; convert it to one of int8"),
        ({}, {"a": np.array([None])}, "tensor 'a' is object"),
        ({}, {"a\n": np.zeros(3, np.uint8)}, "printable characters"),
        ({}, {"a": np.zeros([1] * 17, np.uint8)}, "at most 16 sizes"),
    ],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, header, tensors, message):
    path = saved(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}: .*{message}"):
        coding.write(path, "places", header, tensors)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.places"]


def test_a_failing_disk_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    with pytest.raises(FileNotFoundError):
        coding.write(tmp_path / "none" / "a.places", "places", {}, {})
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        saved(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_example_of_the_specification(tmp_path):
    text = Path(container.__file__).with_name("FORMAT.md").read_text(encoding="utf-8")
    example = bytes.fromhex(re.search(r"```hex places\n(.*?)```", text, re.S)[1])
    tensors = {"a": np.array([1, 0, 0, 1, 1, 0, 0, 0, 0], np.uint8), "b": np.array([1.5], np.float16)}
    assert_same(tensors, read_all(example)[1])
    # Deflate leaves a writer free: what is inside the header counts.
    assert split(saved(tmp_path, tensors, {}).read_bytes()) == split(example)


def test_coding_needs_numpy_only():
    code = "import sys, tfplaces.coding; print(*{name.partition('.')[0] for name in sys.modules})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    foreign = set(run.stdout.split()) - set(sys.stdlib_module_names) - {"__main__"}
    assert {name for name in foreign if "cython" not in name} == {"numpy", "tfplaces"}
