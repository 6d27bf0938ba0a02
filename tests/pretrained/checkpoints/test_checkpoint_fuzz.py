"""Valid checkpoints of every format with some bytes changed: each is read, or refused in one line.

TFPLACES_FUZZ=n tries n times as many inputs (the default run is a few seconds).
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pretrained.checkpoints.test_matconvnet import WRITERS as MAT_WRITERS
from tests.pretrained.checkpoints.test_matconvnet import network
from tests.pretrained.checkpoints.torch_files import write_torch_tar
from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import open_checkpoint

FUZZ = int(os.environ.get("TFPLACES_FUZZ", "1"))
FILES = Path(__file__).parent / "files"
RAMP = np.arange(6, dtype=np.float32).reshape(2, 3)
# Sizes, ends, and the instructions of pickles that push, memorize, call and build.
TELLING = [0, 1, 2, 4, 14, 15, 17, 40, 46, 48, 81, 82, 98, 99, 104, 113, 116, 117, 127, 128, 129, 255]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A valid file of each format."""
    path = tmp_path_factory.mktemp("whole") / "a.npz"
    found = {file.name: file.read_bytes() for file in sorted(FILES.iterdir())}
    found["tar"] = write_torch_tar(path, {"w": RAMP, "b": RAMP[0].copy()}).read_bytes()
    found |= {name: write(path, network()).read_bytes() for name, write in MAT_WRITERS.items()}
    np.savez_compressed(path, **{"a/kernel": RAMP, "b": RAMP[0]})
    return {**found, "npz": path.read_bytes()}


def with_changes(data: bytes, changes: list[tuple[float, int, int]]) -> bytes:
    """Each change is a place (0 to 1), a kind and a byte."""
    damaged = bytearray(data)
    for place, kind, value in changes:
        at = int(place * len(damaged))
        if kind == 0:
            del damaged[at : at + value % 16]
        elif kind == 1:
            damaged[at:at] = damaged[at : at + value]
        elif kind == 2:
            damaged[at : at + 8] = bytes([value] * 8)
        elif kind == 3:
            del damaged[at:]
        else:
            damaged[at : at + 1] = bytes([value])
    return bytes(damaged)


def inside_a_zip(data: bytes, change: Callable[[bytes], bytes], member: int) -> bytes:
    """Changes a member of an archive whose checksums are right again."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(written, "w") as made:
        for number, info in enumerate(archive.infolist()):
            content = _stored(data, info) if info.compress_type == zipfile.ZIP_STORED else archive.read(info)
            made.writestr(info.filename, change(content) if number == member else content)
    return written.getvalue()


def _stored(data: bytes, info: zipfile.ZipInfo) -> bytes:
    """A member of PyTorch's, which may have no checksum."""
    name, extra = struct.unpack_from("<HH", data, info.header_offset + 26)
    start = info.header_offset + 30 + name + extra
    return data[start : start + info.file_size]


def inside_what_is_deflated(data: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Changes the one variable of a compressed .mat file."""
    (size,) = struct.unpack_from("<I", data, 132)
    deflated = zlib.compress(change(zlib.decompress(data[136 : 136 + size])), 1)
    return data[:128] + struct.pack("<II", 15, len(deflated)) + deflated


@settings(max_examples=400 * FUZZ, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    number=st.integers(0, 99),
    changes=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 12), st.sampled_from(TELLING) | st.integers(0, 255)),
        min_size=1,
        max_size=4,
    ),
    member=st.integers(-1, 3),
)
def test_damage_is_read_or_refused_in_one_line(
    number: int, changes: list[tuple[float, int, int]], member: int, whole: dict[str, bytes], tmp_path: Path
) -> None:
    name = list(whole)[number % len(whole)]
    data = whole[name]
    if member >= 0 and data.startswith(b"PK"):
        data = inside_a_zip(data, lambda content: with_changes(content, changes), member)
    elif member >= 0 and name == "version 7":
        data = inside_what_is_deflated(data, lambda content: with_changes(content, changes))
    else:
        data = with_changes(data, changes)
    path = tmp_path / "a"
    path.write_bytes(data)
    try:
        with open_checkpoint(path) as checkpoint:
            for entry in checkpoint.tensors.values():
                read = entry.read()
                assert (read.shape, read.dtype) == (entry.shape, entry.dtype)
            assert not any("\n" in words for words in checkpoint.left_out)
    except UserError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1000


@given(data=st.binary(max_size=600))
def test_bytes_of_any_kind(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    mat = b"x" * 124 + b"\x00\x01IM"
    for head in (b"", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.", b"PK\3\4", mat):
        path.write_bytes(head + data)
        with pytest.raises(UserError, match=r"\A[^\n]+\Z"):
            open_checkpoint(path)
