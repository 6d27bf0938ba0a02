"""The container of `.places` and `.tflpack` files: a JSON header and named tensors, safe to open from a stranger.

Nothing in a file is executed, nothing larger than the tensors' declared sizes is allocated (`max_bytes` bounds their
sum), and everything that is wrong is a `ValueError` of one line that names the file. FORMAT.md specifies the bytes:

    magic 8 | version u32 | header bytes u32 | file bytes u64 | header crc32 u32 | header | payloads | file crc32 u32

The header is deflated: as plain text it would be 4 % of a SqueezeNet of 5 bits a weight, so it is 0.5 %.
Files are read, not mapped: a mapped file that another program cuts short kills the process.
"""

import io
import json
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from tfplaces.coding import rans
from tfplaces.common.errors import UserError
from tfplaces.common.files import replacing

MAGIC = {"places": b"TFPLACES", "tflpack": b"TFLPACK\n"}  # by kind; the kind is also the file name's extension
VERSION = 1
DTYPES = {
    name: np.dtype(name).newbyteorder("<")
    for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float16", "float32")
}
MAX_BYTES = 4 << 30  # decoded, all tensors together, unless the caller says otherwise
MAX_HEADER_BYTES = 1 << 20  # as text; parsed, it takes up to 25 times as much
MAX_NESTING = 100  # of the header
MAX_DIMENSIONS = 16
MAX_NAME = 1024

_PREAMBLE = struct.Struct("<8sIIQI")
_CHECKSUM = struct.Struct("<I")
_CHUNK = 1 << 20
_DAMAGED = "the file is damaged; copy or download it again"


def write(
    path: str | os.PathLike,
    kind: str,
    header: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]],
) -> int:
    """Writes a container under a temporary name, then renames it: the file is complete or is not there.

    Tensors of one byte per value are entropy-coded where that makes them smaller, the others are stored as they are.

    Args:
        path: the file to make or replace.
        kind: "places" or "tflpack".
        header: what JSON can hold, without NaN and infinities; looked at after the last tensor.
        tensors: arrays of a dtype in `DTYPES` by name (1 to 1024 printable characters), written in this order; or
            pairs of name and array, of which one at a time is held in memory as it is.

    Returns:
        The bytes of the file.

    Raises:
        ValueError: an argument the format cannot hold.
        OSError: the file cannot be written.
    """
    path, magic = Path(path), _magic(kind)
    table: list[_Tensor] = []
    payloads: list[memoryview] = []
    for name, tensor in tensors.items() if isinstance(tensors, Mapping) else tensors:
        dtype = DTYPES.get(tensor.dtype.name)
        if dtype is None:
            raise UserError(f"{path}: tensor {name!r} is {tensor.dtype}; convert it to one of {', '.join(DTYPES)}")
        decoded = np.ascontiguousarray(tensor, dtype).reshape(-1).view(np.uint8)
        coding, payload = "raw", decoded.data
        if dtype.itemsize == 1 and len(coded := rans.encode(decoded)) < decoded.size:
            coding, payload = "rans", memoryview(coded)
        table.append(_Tensor(name, tensor.dtype.name, tensor.shape, coding, len(payload), zlib.crc32(decoded.data)))
        payloads.append(payload)
    try:
        document = {"header": dict(header), "tensors": [asdict(tensor) for tensor in table]}
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        _parse_header(text, max_bytes=None)
        if len(text) > MAX_HEADER_BYTES:
            raise UserError(f"the header of {len(text)} bytes is larger than {MAX_HEADER_BYTES}")
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: {error}") from error
    deflated = zlib.compress(text, 9)
    size = _PREAMBLE.size + len(deflated) + sum(map(len, payloads)) + _CHECKSUM.size
    preamble = _PREAMBLE.pack(magic, VERSION, len(deflated), size, zlib.crc32(deflated))
    with replacing(path) as temporary, open(temporary, "wb") as file:
        crc = 0
        parts: list[bytes | memoryview] = [preamble, deflated, *payloads]
        for part in parts:
            file.write(part)
            crc = zlib.crc32(part, crc)
        file.write(_CHECKSUM.pack(crc))
    return size


def read(source: str | os.PathLike | bytes | BinaryIO, kind: str, max_bytes: int = MAX_BYTES) -> "Container":
    """Opens a container and checks all of its bytes; tensors are decoded when they are asked for.

    Args:
        source: a path, the bytes of a file, or a seekable binary file that stands at the container's first byte and
            ends with its last; it is the caller's to close.
        kind: "places" or "tflpack".
        max_bytes: what all tensors together may take when decoded.

    Raises:
        ValueError: not a sound file of this kind.
        OSError: the file cannot be read.
    """
    return Container(source, kind, max_bytes)


class Container:
    """An open container; use it in a `with`, or call `close`.

    Attributes:
        label: what messages call the file.
        header: the writer's header.
        names: names of the tensors, in the file's order.
        file_bytes: the size of the file.
        decoded_bytes: what all tensors together take when decoded.
    """

    def __init__(self, source: str | os.PathLike | bytes | BinaryIO, kind: str, max_bytes: int = MAX_BYTES):
        """See `read`."""
        self._lock = threading.Lock()
        self._close: Callable[[], None] = lambda: None
        if isinstance(source, (bytes, bytearray, memoryview)):
            self.label = f"{kind} data"
            self._file: io.BufferedIOBase = io.BytesIO(source)
        elif isinstance(source, (str, os.PathLike)):
            self.label, self._file = os.fspath(source), open(source, "rb")  # noqa: SIM115, closed by close()
            self._close = self._file.close
        else:
            self.label, self._file = str(getattr(source, "name", f"{kind} data")), cast(io.BufferedIOBase, source)
        try:
            with self._naming():
                self._start = self._file.tell()
                self.file_bytes, deflated = self._check_file(kind)
                self.header, table = _parse_header(_inflate(deflated), max_bytes)
                ends = list(accumulate((tensor.bytes for tensor in table), initial=_PREAMBLE.size + len(deflated)))
                if ends[-1] + _CHECKSUM.size != self.file_bytes:
                    raise UserError("the tensors' sizes do not add up to the file's; its writer is at fault")
        except BaseException:
            self.close()
            raise
        self._tensors = {tensor.name: tensor for tensor in table}
        self._offsets = dict(zip(self._tensors, ends, strict=False))
        self.names = tuple(self._tensors)
        self.decoded_bytes = sum(tensor.decoded_bytes for tensor in table)

    def _check_file(self, kind: str) -> tuple[int, bytes]:
        """Checks everything but the header's content. Returns the file's size and the header as it is stored."""
        file, expected = self._file, _magic(kind)
        size = file.seek(0, os.SEEK_END) - self._start
        file.seek(self._start)
        preamble = file.read(_PREAMBLE.size)
        if size < _PREAMBLE.size + _CHECKSUM.size:
            raise UserError(f"only {size} bytes long: not a .{kind} file, or damaged; copy or download it again")
        magic, version, header_bytes, file_bytes, header_crc = _PREAMBLE.unpack(preamble)
        if magic != expected:
            found = next((f"a .{other} file" for other in MAGIC if MAGIC[other] == magic), "something else")
            raise UserError(f"not a .{kind} file but {found}")
        if version > VERSION:
            raise UserError(
                f"written by a newer tfplaces: version {version}, this reads up to {VERSION}; upgrade tfplaces"
            )
        if version == 0 or file_bytes != size or header_bytes > size - _PREAMBLE.size - _CHECKSUM.size:
            raise UserError(f"{size} bytes long instead of {file_bytes}, version {version}: {_DAMAGED}")
        if header_bytes > MAX_HEADER_BYTES:
            raise UserError(f"the header of {header_bytes} bytes is larger than {MAX_HEADER_BYTES}")
        deflated = file.read(header_bytes)
        if zlib.crc32(deflated) != header_crc:
            raise UserError(f"wrong header checksum: {_DAMAGED}")
        crc, left = zlib.crc32(deflated, zlib.crc32(preamble)), size - _PREAMBLE.size - header_bytes - _CHECKSUM.size
        while left and (chunk := file.read(min(left, _CHUNK))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
        if file.read(_CHECKSUM.size) != _CHECKSUM.pack(crc):
            raise UserError(f"wrong checksum: {_DAMAGED}")
        return size, deflated

    def tensor(self, name: str) -> np.ndarray:
        """Reads and decodes one tensor, a new array each time.

        Raises:
            KeyError: there is no tensor of this name.
            ValueError: its bytes are not what they should be.
            OSError: the file cannot be read.
        """
        entry = self._tensors[name]
        with self._naming(f"tensor {name!r}: "):
            payload = np.empty(entry.bytes, np.uint8)
            with self._lock:
                self._file.seek(self._start + self._offsets[name])
                if self._file.readinto(payload.data) != entry.bytes:
                    raise UserError(f"the file got shorter since it was opened: {_DAMAGED}")
            decoded = payload if entry.coding == "raw" else rans.decode(payload.data, entry.decoded_bytes)
            if zlib.crc32(decoded.data) != entry.crc32:
                raise UserError(f"wrong checksum: {_DAMAGED}")
            return decoded.view(DTYPES[entry.dtype]).reshape(entry.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors[name].shape

    def dtype(self, name: str) -> np.dtype:
        return DTYPES[self._tensors[name].dtype]

    def payload_bytes(self, name: str) -> int:
        """What a tensor takes in the file, without its line in the header."""
        return self._tensors[name].bytes

    def close(self) -> None:
        """Closes the file, where `read` opened it."""
        self._close()

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _naming(self, what: str = "") -> Iterator[None]:
        """Names the file in a ValueError's message; makes one of running out of memory."""
        try:
            yield
        except ValueError as error:
            raise UserError(f"{self.label}: {what}{error}") from error
        except MemoryError as error:
            raise UserError(f"{self.label}: {what}it takes more memory than is free") from error


@dataclass(frozen=True)
class _Tensor:
    """A line of the header's table. `crc32` is of the decoded bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    coding: str
    bytes: int
    crc32: int

    @property
    def decoded_bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @classmethod
    def from_json(cls, entry: object, max_bytes: int | None) -> "_Tensor":
        if not isinstance(entry, dict) or set(entry) != set(cls.__dataclass_fields__):
            raise UserError(f"every tensor needs {', '.join(cls.__dataclass_fields__)} and nothing else")
        name, shape = entry["name"], entry["shape"]
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
            raise UserError(f"a tensor's name has to be 1 to {MAX_NAME} printable characters")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in DTYPES:
            raise UserError(f"tensor {name!r}: its dtype is not one of {', '.join(DTYPES)}")
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_size, shape)):
            raise UserError(f"tensor {name!r}: its shape is not a list of at most {MAX_DIMENSIONS} sizes")
        if not _is_size(entry["bytes"]) or not _is_size(entry["crc32"]):
            raise UserError(f"tensor {name!r}: bytes and crc32 have to be unsigned integers")
        tensor = cls(**{**entry, "shape": tuple(shape)})
        if max_bytes is not None and math.prod(max(size, 1) for size in shape) > max_bytes:
            raise UserError(f"tensor {name!r}: the shape {shape} is more than the {max_bytes} bytes of max_bytes")
        if tensor.coding == "raw":
            if tensor.bytes != tensor.decoded_bytes:
                raise UserError(f"tensor {name!r}: {tensor.bytes} bytes do not fill the shape {shape}")
        elif tensor.coding != "rans" or DTYPES[tensor.dtype].itemsize != 1:
            raise UserError(
                f"tensor {name!r}: coding {tensor.coding!r:.40} of {tensor.dtype} is unknown; upgrade tfplaces"
            )
        return tensor


def _inflate(deflated: bytes) -> bytes:
    """The header's text, of which no more than `MAX_HEADER_BYTES` is ever made."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(deflated, MAX_HEADER_BYTES + 1)
    except zlib.error as error:
        raise UserError(f"the header cannot be inflated ({error}); its writer is at fault") from None
    if len(text) > MAX_HEADER_BYTES:
        raise UserError(f"the header inflates to more than {MAX_HEADER_BYTES} bytes")
    if not inflater.eof or inflater.unused_data:
        raise UserError("the header is not one whole zlib stream; its writer is at fault")
    return text


def _parse_header(text: bytes, max_bytes: int | None) -> tuple[dict[str, Any], list[_Tensor]]:
    """Parses and checks the header, without the file around it."""
    try:
        document = json.loads(
            text.decode(),
            object_pairs_hook=_unique,
            parse_int=_short_int,
            parse_float=_finite_float,
            parse_constant=_finite_float,
        )
        json.dumps(document, ensure_ascii=False).encode()  # fails where a string holds half a surrogate pair
    except RecursionError:
        raise UserError("the header is nested too deep") from None
    except ValueError as error:
        raise UserError(f"the header is not plain JSON: {error}") from error
    level = [document]
    for _ in range(MAX_NESTING):
        level = [inner for outer in level if isinstance(outer, (dict, list)) for inner in _members(outer)]
    if level:
        raise UserError(f"the header is nested too deep, more than {MAX_NESTING} levels")
    if not isinstance(document, dict) or set(document) != {"header", "tensors"}:
        raise UserError("the header has to be an object of 'header' and 'tensors'")
    header, entries = document["header"], document["tensors"]
    if not isinstance(header, dict) or not isinstance(entries, list):
        raise UserError("'header' has to be an object and 'tensors' a list")
    table = [_Tensor.from_json(entry, max_bytes) for entry in entries]
    names = {tensor.name for tensor in table}
    if len(names) != len(table):
        raise UserError("two tensors have the same name")
    total = sum(tensor.decoded_bytes for tensor in table)
    if max_bytes is not None and total > max_bytes:
        raise UserError(f"the tensors take {total} bytes when decoded, more than max_bytes, {max_bytes}; raise it")
    return header, table


def _members(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise UserError("a name occurs twice in one object")
    return dict(pairs)


def _short_int(digits: str) -> int:
    if len(digits) > 20:  # more than 64 bits; long ones are slow to convert
        raise UserError(f"an integer of {len(digits)} digits")
    return int(digits)


def _finite_float(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise UserError(f"the number {digits[:20]} is not finite")
    return value


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _magic(kind: str) -> bytes:
    if kind not in MAGIC:
        raise UserError(f"unknown kind of file {kind!r}; known are {', '.join(MAGIC)}")
    return MAGIC[kind]
