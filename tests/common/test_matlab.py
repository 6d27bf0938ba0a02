"""`.mat` files: both versions, real ones read as scipy reads them, and files that are damaged or mean harm."""

from __future__ import annotations

import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.common.matlab_files import dbstruct, write_mat, write_mat73
from tfplaces.common.errors import UserError
from tfplaces.common.matlab import read_struct

FIELDS = dbstruct(["a/1.jpg", "b/2.jpg", "ü/3.jpg"], ["q.jpg"])


def check(read: dict) -> None:
    assert list(read["dbImageFns"]) == FIELDS["dbImageFns"]
    assert read["qImageFns"] == ["q.jpg"]
    assert read["whichSet"] == "test"
    np.testing.assert_array_equal(read["utmDb"], [[0, 40, 80], [0, 0, 0]])
    assert read["posDistThr"].item() == 25


@pytest.mark.parametrize("compress", [True, False])
def test_version_5(compress: bool, tmp_path: Path) -> None:
    check(read_struct(write_mat(tmp_path / "a.mat", FIELDS, compress=compress), "dbStruct"))


def test_version_7_3(tmp_path: Path) -> None:
    check(read_struct(write_mat73(tmp_path / "a.mat", FIELDS), "dbStruct"))


@given(st.binary(max_size=64))
def test_bytes_of_any_kind_are_refused(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        for head in (b"", b"x" * 124 + b"\x00\x01IM", b"x" * 124 + b"\x01\x00MI", b"x" * 512 + b"\x89HDF\r\n\x1a\n"):
            Path(file.name).write_bytes(head + data)
            with pytest.raises(UserError, match=r"\A[^\n]+\Z"):
                read_struct(file.name, "dbStruct")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_refused_in_one_line_or_changes_a_value(data: st.DataObject, tmp_path: Path) -> None:
    whole = write_mat(tmp_path / "a.mat", FIELDS, compress=False).read_bytes()
    damaged = bytearray(whole[: data.draw(st.integers(128, len(whole)))])
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(124, len(damaged) - 1)) if len(damaged) > 124 else 0
        damaged[at] = data.draw(st.sampled_from([0, 1, 4, 14, 15, 127, 128, 255]))
    path = tmp_path / "b.mat"
    path.write_bytes(damaged)
    try:
        assert isinstance(read_struct(path, "dbStruct"), dict)
    except UserError as error:
        assert "\n" not in str(error)


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)


def matrix(kind: int, shape: tuple[int, ...], *parts: bytes, name: bytes = b"dbStruct") -> bytes:
    head = element(6, struct.pack("<II", kind, 0)), element(5, struct.pack(f"<{len(shape)}i", *shape)), element(1, name)
    return element(14, b"".join([*head, *parts]))


def one_field(field: bytes) -> bytes:
    names = element(5, struct.pack("<i", 8)) + element(1, b"field\0\0\0")
    return matrix(2, (1, 1), names, field)


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
NESTED = matrix(6, (0, 0), name=b"")
for _ in range(20):
    NESTED = matrix(1, (1, 1), NESTED, name=b"")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        # Sizes that would allocate gigabytes if they were believed.
        (one_field(matrix(1, (2**31 - 1, 2**31 - 1), name=b"")), "members announced, in 0 bytes"),
        (
            one_field(matrix(6, (2**31 - 1, 2**31 - 1), element(9, b"12345678"), name=b"")),
            "field: its content has more than",
        ),
        (one_field(matrix(6, (-1, 3), name=b"")), "shape"),
        (struct.pack("<II", 14, 2**32 - 1), "an element is larger than what holds it"),
        (one_field(NESTED), "nested too deeply"),
        # A function handle, an object, a sparse matrix.
        (one_field(matrix(16, (1, 1), name=b"")), "class function_handle"),
        (one_field(matrix(3, (1, 1), element(1, b"mine\x1b"), name=b"")), r"field: .*class mine\\x1b \(1 x 1\)"),
        (one_field(matrix(5, (1, 1), name=b"")), "class sparse"),
        (matrix(2, (2**20, 2**20)), r"class struct \(1048576 x 1048576\) where a single struct"),
        (matrix(6, (0, 0), name=b"x\x1b[31m"), r"no variable dbStruct, but x\\x1b\[31m"),
        (b"", "no variable dbStruct, but nothing"),
        (element(9, b"12345678"), "an element of type 9 where a variable should be"),
    ],
)
def test_what_means_harm(body: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    path.write_bytes(HEAD + body)
    with pytest.raises(UserError, match=message):
        read_struct(path, "dbStruct")


def test_what_inflates_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfplaces.common.matlab.MAX_BYTES", 2**16)
    path = tmp_path / "a.mat"
    data = zlib.compress(one_field(matrix(6, (2**16, 1), element(1, bytes(2**16)), name=b"")))
    path.write_bytes(HEAD + struct.pack("<II", 15, len(data)) + data)
    with pytest.raises(UserError, match="inflates to more than 65,536 bytes"):
        read_struct(path, "dbStruct")
    path.write_bytes(HEAD + struct.pack("<II", 15, 20) + data[:20])
    with pytest.raises(UserError, match="ends in the middle of compressed data"):
        read_struct(path, "dbStruct")


def test_members_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty member has 8 bytes in the file, and many times more in memory."""
    monkeypatch.setattr("tfplaces.common.matlab.MAX_BYTES", 2**13)
    path = tmp_path / "a.mat"
    path.write_bytes(HEAD + one_field(matrix(1, (500, 1), struct.pack("<II", 14, 0) * 500, name=b"")))
    with pytest.raises(UserError, match="too many members"):
        read_struct(path, "dbStruct")


def test_version_4_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"x": np.eye(30)}, format="4")
    with pytest.raises(UserError, match="save it again with -v7"):
        read_struct(path, "x")


def test_version_7_3_that_leads_elsewhere(tmp_path: Path) -> None:
    import h5py

    path = write_mat73(tmp_path / "a.mat", FIELDS)
    with h5py.File(path, "r+") as file:
        file["dbStruct"]["elsewhere"] = h5py.ExternalLink("secret.h5", "/x")
    with pytest.raises(
        UserError, match=r"elsewhere: an array of MATLAB.s class something else .*, of which none is read"
    ):
        read_struct(path, "dbStruct")
    with h5py.File(path, "r+") as file:
        del file["dbStruct"]["elsewhere"]
        file["dbStruct"].create_dataset("huge", (2**40,), "u1", chunks=(2**20,), compression="gzip")
    with pytest.raises(UserError, match="huge: its content has more than"):
        read_struct(path, "dbStruct")


@pytest.mark.parametrize("kind", ["cell", "char", "double", "single"])
def test_a_group_of_version_7_3_that_says_it_is_an_array(kind: str, tmp_path: Path) -> None:
    import h5py

    path = write_mat73(tmp_path / "a.mat", FIELDS)
    with h5py.File(path, "r+") as file:
        file["dbStruct"].create_group("group").attrs["MATLAB_class"] = np.bytes_(kind)
    with pytest.raises(UserError, match="group: an array of MATLAB's class something else"):
        read_struct(path, "dbStruct")


@pytest.mark.parametrize("name", ["pitts30k_train", "pitts30k_val", "pitts30k_test"])
def test_real_files_as_scipy_reads_them(name: str, tfplaces_data: Path) -> None:
    path = tfplaces_data / "importers" / f"{name}.mat"
    ours = read_struct(path, "dbStruct")
    theirs = scipy.io.loadmat(path, squeeze_me=True, struct_as_record=False)["dbStruct"]
    assert list(ours) == theirs._fieldnames
    assert ours["dbImageFns"] == theirs.dbImageFns.tolist()
    assert ours["qImageFns"] == theirs.qImageFns.tolist()
    np.testing.assert_array_equal(ours["utmDb"], theirs.utmDb)
    np.testing.assert_array_equal(ours["utmQ"], theirs.utmQ)
