"""Checkpoints of every format: what is found in them, and what is refused, in one line and with nothing run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.pretrained.checkpoints.torch_files import (
    Raw,
    Tensor,
    write_torch_legacy,
    write_torch_tar,
    write_torch_zip,
)
from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import Checkpoint, open_checkpoint

RAMP = np.arange(6, dtype=np.float32).reshape(2, 3)
WRITERS: list[Callable[..., Path]] = [write_torch_zip, write_torch_legacy]


def refused(path: Path, message: str) -> None:
    with pytest.raises(UserError, match=rf"\A[^\n]*{message}[^\n]*\Z") as caught:
        open_and_read(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 700


def open_and_read(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as checkpoint:
        return {name: entry.read() for name, entry in checkpoint.tensors.items()}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", None])
def test_the_state_dict_is_found(key: str | None, write: Callable[..., Path], tmp_path: Path) -> None:
    value = {"w": RAMP, "b": RAMP[0]}
    path = write(tmp_path / "a", value if key is None else {"epoch": 3, key: value, "mu": RAMP})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.left_out == ([] if key is None else ["epoch 3", "mu (tensor of shape (2, 3))"])
        assert checkpoint.tensors["w"].shape == (2, 3)
        np.testing.assert_array_equal(checkpoint.tensors["w"].read(), RAMP)
        np.testing.assert_array_equal(checkpoint.tensors["b"].read(), RAMP[0])
        assert checkpoint.facts == {}


def names(path: Path) -> list[str]:
    with open_checkpoint(path) as checkpoint:
        return list(checkpoint.tensors)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["module.encoder.0.weight", "module.pool.conv.weight"], ["encoder.0.weight", "pool.conv.weight"]),
        (["encoder.module.0.weight", "pool.module.centroids"], ["encoder.0.weight", "pool.centroids"]),
        (["_orig_mod.module.a", "_orig_mod.b"], ["a", "b"]),
        (["model.a", "model.b.model.c"], ["a", "b.model.c"]),
        # gsv-cities has backbone.model.layer1: no prefix of all names.
        (["backbone.model.conv1.weight", "aggregator.p"], ["backbone.model.conv1.weight", "aggregator.p"]),
        (["model.a", "b"], ["model.a", "b"]),
        (["modules.a"], ["modules.a"]),
    ],
)
def test_prefixes(given: list[str], expected: list[str], tmp_path: Path) -> None:
    assert names(write_torch_zip(tmp_path / "a", dict.fromkeys(given, RAMP))) == expected
    assert names(write_safetensors(tmp_path / "b", dict.fromkeys(given, RAMP))) == expected


def test_two_tensors_of_one_name(tmp_path: Path) -> None:
    refused(write_torch_zip(tmp_path / "a", {"module.a": RAMP, "a": RAMP}), "two tensors are called a once prefixes")


def test_what_is_left_out_is_said_in_words(tmp_path: Path) -> None:
    value = {
        "state_dict": {"w": RAMP, "_extra_state": b"123", "none": None},
        "list": [1, 2], "text": "a" * 99, "name\x1b[31m": 1, 7: 2.5, "large": 10**90, "array": Raw(
            pickle.dumps(np.arange(3), 2)[2:-1].replace(b"numpy._core.", b"numpy.core.")
        ),
    }  # fmt: skip
    with open_checkpoint(write_torch_zip(tmp_path / "a", value)) as checkpoint:
        assert checkpoint.left_out == [
            "list (list of 2)", f"text '{'a' * 60}...'", r"name\x1b[31m 1", "7 2.5", "large (a large number)",
            "array (array of shape (3,))", "_extra_state (3 bytes)", "none None",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"net": {"w": RAMP}, "epoch": 3}, r"no state dict: it holds net \(dict of 1\), epoch 3"),
        ({}, "no state dict: it holds nothing"),
        (RAMP, r"it holds \(tensor of shape \(2, 3\)\), no state dict"),
        ([{"w": RAMP}], r"it holds \(list of 1\), no state dict"),
        (None, "it holds None, no state dict"),
        ({1: RAMP}, "names that are no texts"),
    ],
)
def test_no_state_dict(value: Any, message: str, tmp_path: Path) -> None:
    refused(write_torch_zip(tmp_path / "a", value), message)


def test_types_and_byte_orders(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "a", {"a": RAMP, "b": RAMP.astype("f2"), "c": Tensor(RAMP.T)}, byteorder=b"big")
    read = open_and_read(path)
    np.testing.assert_array_equal(read["a"], RAMP.byteswap())
    np.testing.assert_array_equal(read["b"], RAMP.astype("f2").byteswap())
    assert read["a"].dtype.isnative
    # bfloat16 is the upper half of float32: 0x3FC0 is 1.5; and truth values are not only 0 and 1 in a stranger's file.
    values = {
        "b": Tensor(np.array([0x3FC0, -0x4000, 0x7F80], np.int16), kind="BFloat16Storage"),
        "t": Tensor(np.array([0, 1, 2, 255], np.uint8), kind="BoolStorage"),
    }  # fmt: skip
    read = open_and_read(write_torch_zip(tmp_path / "b", values))
    np.testing.assert_array_equal(read["b"], np.array([1.5, -2, np.inf], np.float32))
    assert read["t"].tolist() == [False, True, True, True]


def test_tensors_over_one_storage(tmp_path: Path) -> None:
    for write in WRITERS:
        storage = np.arange(12, dtype=np.float32)
        value = {
            "whole": Tensor(storage, (3, 4), (4, 1)),
            "turned": Tensor(storage, (4, 3), (1, 4)),
            "corner": Tensor(storage, (2, 2), (4, 1), 5),
            "steps": Tensor(storage, (4,), (3,), 2),
            "none": Tensor(storage, (0, 5), (9, 9), 12),
        }
        read = open_and_read(write(tmp_path / "a", value))
        np.testing.assert_array_equal(read["whole"], storage.reshape(3, 4))
        np.testing.assert_array_equal(read["turned"], storage.reshape(3, 4).T)
        assert read["corner"].tolist() == [[5, 6], [9, 10]]
        assert read["steps"].tolist() == [2, 5, 8, 11]
        assert read["none"].shape == (0, 5)
        assert all(array.flags.owndata or array.base.flags.owndata for array in read.values())


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ"


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (Tensor(RAMP, (10**6, 10**6), (10**6, 1)), "a tensor of shape .* over a storage of 6 values"),
        (Tensor(RAMP, (10**6, 10**6), (0, 0)), "expanded; in torch, save its .contiguous"),
        (Tensor(RAMP, (2, 3), (3, 1), 1), "lies outside of its storage of 6 values"),
        (Tensor(RAMP, (2, 3), (4, 1)), "lies outside of its storage"),
        (Tensor(RAMP, (2, 3), (-3, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (2, -3), (3, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (-2, -3), (3, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (2, 3), (3, 1), -1), "negative, too large or no number"),
        (Tensor(RAMP, (2, 3), (2**63, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (0, 2**70), (1, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (2.0, 3), (3, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (True, 3), (3, 1)), "negative, too large or no number"),
        (Tensor(RAMP, (2, 3), (3,)), "shape .* and strides"),
        (Tensor(RAMP, (1,) * 33, (1,) * 33), "the shape or the strides"),
        (Tensor(RAMP, count=10**12), "damaged: a storage of"),
        (Tensor(RAMP, count=5), "a storage of"),
        (Tensor(RAMP, count=-6), "negative, too large or no number"),
        (Tensor(RAMP, count="6"), "negative, too large or no number"),
        (Tensor(RAMP, kind="DoubleStorage"), "damaged: "),
        (Tensor(RAMP, kind="QInt8Storage"), "a quantized tensor, which is not read"),
        (Tensor(RAMP, kind="ComplexFloatStorage"), "complex numbers, which are not read"),
        (Tensor(RAMP, kind="UnknownStorage"), r"it would import torch\.UnknownStorage|something else than a storage"),
        (Raw(b"ctorch._utils\n_rebuild_sparse_tensor\n"), "a sparse tensor, which is not read"),
        (Raw(b"ctorch._utils\n_rebuild_qtensor\n"), "a quantized tensor, which is not read"),
        (Raw(b"ctorch._utils\n_rebuild_tensor_v3\n"), "of an unusual type"),
        (Raw(b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x00))tR"), "a tensor without a storage"),
        (Raw(b"ctorch._utils\n_rebuild_parameter\n(K\x01K\x00)tR"), "a parameter that is no tensor"),
        (Raw(b"ctorch._utils\n_rebuild_tensor_v2\n)R"), "damaged"),
        (Raw(b"ctorch._utils\n_rebuild_tensor_v2\n(NNNNNN}X\x03\x00\x00\x00neg\x88stR"), "kept negated or conjugated"),
        (Raw(b"K\x07Q"), "a reference to something else than a storage"),
        (Raw(b"(X\x06\x00\x00\x00modulecmine\nNet\nX\x01\x00\x00\x00aX\x01\x00\x00\x00btQ"), "a whole network"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("write", WRITERS)
def test_tensors_that_do_not_fit(tensor: Any, message: str, write: Callable[..., Path], tmp_path: Path) -> None:
    refused(write(tmp_path / "a", {"w": tensor}), message)


def called(text: str) -> bytes:
    """The call of os.system, as a pickle writes it."""
    return b"cposix\nsystem\nX" + struct.pack("<I", len(text)) + text.encode() + b"\x85R"


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("place", ["top", "w", "hyper_parameters", "beside"])
def test_pickles_that_call(place: str, write: Callable[..., Path], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = Raw(called(f"touch {mark}"))
    value: Any = {"top": evil, "w": {"w": evil}}.get(place, {"state_dict": {"w": RAMP}, place: evil})
    refused(write(tmp_path / "a", value), r"it would (call|import) posix\.system")
    assert not mark.exists()


NEW = b"cmine\nThing\n)\x81}X\x01\x00\x00\x00aK\x01sb"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"state_dict": {"w": RAMP}, "args": Raw(NEW)}, r"import mine\.Thing; only tensors are read"),
        ({"state_dict": {"w": RAMP}, "args": [{"a": (Raw(b"cmine\nThing\n"),)}]}, r"import mine\.Thing"),
        ({"state_dict": {"w": RAMP, "x": Raw(NEW)}}, r"import mine\.Thing"),
        (Raw(NEW), r"import mine\.Thing"),
        # Thrown away again, or used in both places.
        ({"state_dict": {"w": RAMP}, "a": Raw(b"cmine\nThing\n0K\x01")}, r"import mine\.Thing"),
        ({"hyper_parameters": Raw(NEW + b"q\x01"), "x": Raw(b"h\x01"), "w": RAMP}, r"import mine\.Thing"),
        ({"w": RAMP, "x": Raw(b"cbuiltins\neval\nX\x01\x00\x00\x001\x85R")}, r"it would call builtins\.eval"),
        ({"w": RAMP, "x": Raw(b"cargparse\nNamespace\ncos\nsystem\n\x85\x81")}, r"import os\.system"),
        ({"w": RAMP, "x": Raw(b"(imine\nThing\n")}, "instruction INST"),
        ({"w": RAMP, "x": Raw(b"\x82\x01")}, "instruction EXT1"),
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_named(value: Any, message: str, tmp_path: Path) -> None:
    for write in WRITERS:
        refused(write(tmp_path / "a", value), message)


def test_hyper_parameters_of_any_class_are_left_alone(tmp_path: Path) -> None:
    value = {"hyper_parameters": {"a": Raw(NEW), "b": Raw(b"cmine\nThing\n")}, "state_dict": {"w": RAMP}}
    with open_checkpoint(write_torch_zip(tmp_path / "a", value)) as checkpoint:
        assert checkpoint.left_out == ["hyper_parameters (dict of 2, with mine.Thing, not read)"]


def test_what_weights_only_knows(tmp_path: Path) -> None:
    values = {
        "state_dict": {"w": Raw(b"ctorch._utils\n_rebuild_parameter\n")},
        "size": Raw(b"ctorch\nSize\n(K\x01K\x02t\x85R"),
        "set": Raw(b"c__builtin__\nset\n](K\x01K\x02e\x85R"),
        "bytes": Raw(b"c__builtin__\nbytearray\nc_codecs\nencode\nX\x01\x00\x00\x00aX\x06\x00\x00\x00latin1\x86R\x85R"),
        "class": [Raw(b"ctorch.nn.parameter\nParameter\n"), Raw(b"ctorch\nTensor\n")],
    }
    values["state_dict"] = {"w": RAMP}
    with open_checkpoint(write_torch_zip(tmp_path / "a", values)) as checkpoint:
        assert checkpoint.left_out == ["size (tuple of 2)", "set (set of 2)", "bytes (1 bytes)", "class (list of 2)"]


def test_pickles_of_later_protocols(tmp_path: Path) -> None:
    """torch.save takes a protocol; the names then come from the stack."""
    path = write_torch_zip(tmp_path / "a", {"state_dict": {"w": RAMP}, "set": Raw(b"\x8f(K\x01K\x02\x90")})
    assert open_and_read(path).keys() == {"w"}
    pickled = pickle.dumps({"state_dict": {}, "system": os.system}, 4)
    refused(write_torch_zip(tmp_path / "b", {}, **{"data.pkl": pickled}), r"it would import (posix|nt)\.system")


def member(path: Path, change: Callable[[zipfile.ZipInfo], None], name: str = "archive/data/0") -> Path:
    """Writes an archive again, one member changed."""
    with zipfile.ZipFile(path) as archive:
        content = [(info, archive.read(info)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in content:
            if info.filename == name:
                change(info)
            archive.writestr(info, data, compress_type=info.compress_type)
    return path


def test_archives_that_torch_does_not_write(tmp_path: Path) -> None:
    def bomb(info: zipfile.ZipInfo) -> None:
        info.compress_type = zipfile.ZIP_DEFLATED

    for name in ("archive/data/0", "archive/data.pkl", "archive/byteorder"):
        refused(member(write_torch_zip(tmp_path / "a", {"w": RAMP}), bomb, name), "is compressed")
    path = write_torch_zip(tmp_path / "a", {"w": RAMP})
    data = path.read_bytes()
    encrypted = bytearray(data)
    encrypted[data.rindex(b"PK\1\2", 0, data.index(b"archive/data/0", data.index(b"PK\1\2"))) + 8] |= 1
    path.write_bytes(encrypted)
    refused(path, "archive's member data/0 is encrypted")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("archive/data.pkl", b"")
    refused(path, r"two members called archive/data\.pkl")
    refused(write_torch_zip(tmp_path / "a", {"w": RAMP}, byteorder=b"middle"), "neither little nor big")
    refused(write_torch_zip(tmp_path / "a", {"w": RAMP}, **{"constants.pkl": b""}), "a TorchScript archive")


def test_members_of_an_archive_that_nothing_refers_to(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "a", {"w": RAMP}, **{"extra/notes.txt": b"", "data/7": b"1234"})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.left_out == ["2 further members of the archive (archive/extra/notes.txt, archive/data/7)"]


def test_archives_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("photo\x1b.jpg", b"")
    refused(path, r"a zip archive of something else \(photo\\x1b.jpg\); PyTorch's files")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"")
        archive.writestr("b/data.pkl", b"")
    refused(path, "2 pickles, where PyTorch writes one")


def test_a_table_of_contents_without_end(tmp_path: Path) -> None:
    """zipfile makes 15 times its size of it."""
    path = tmp_path / "a"
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    table = entry * 100_000
    path.write_bytes(b"PK\3\4" + table + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(table), 4, 0))
    refused(path, "table of contents has more than 4,194,304 bytes")


def test_damage_in_the_values_is_seen(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "a", {"w": RAMP})
    data = bytearray(path.read_bytes())
    data[data.index(RAMP.tobytes())] ^= 1
    path.write_bytes(data)
    refused(path, "the values of a tensor of shape .* checksum")


def test_a_file_that_shrinks_while_it_is_open(tmp_path: Path) -> None:
    for write in WRITERS:
        path = write(tmp_path / "a", {"w": np.zeros(2**16)})
        with open_checkpoint(path) as checkpoint:
            os.truncate(path, 10)
            with pytest.raises(UserError, match="cut off"):
                checkpoint.tensors["w"].read()


def test_the_legacy_format(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with open_checkpoint(write_torch_legacy(path, {"w": RAMP})) as checkpoint:
        assert checkpoint.format == "PyTorch legacy"
    path.write_bytes(path.read_bytes() + b"1234")
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.left_out == ["4 bytes behind the last tensor"]
    pickled = pickle.dumps
    values = struct.pack("<q", 6) + RAMP.tobytes()
    for parts, message in [
        ({"version": pickled(1002, 2)}, "another version than 1001"),
        ({"keys": pickled(5, 2)}, "no list of storages"),
        ({"keys": pickled([[]], 2)}, "no list of storages"),
        ({"keys": pickled([], 2)}, "0 storages, where 1 are used"),
        ({"keys": pickled(["0", "1"], 2)}, "2 storages, where 1 are used"),
        ({"keys": pickled(["0", "0"], 2)}, "2 storages, where 1 are used"),
        ({"storages": values[:-1]}, "cut off"),
        ({"storages": values[:5]}, "cut off"),
        ({"storages": struct.pack("<q", 5) + RAMP.tobytes()}, "a storage of 5 values, where 6 are announced"),
        ({"storages": struct.pack("<q", -1) + RAMP.tobytes()}, "a storage of -1 values"),
        ({"pickled": b""}, "damaged"),
        ({"machine": b"\x80\x02X\xff\xff\xff\x7f"}, "damaged"),
    ]:
        refused(write_torch_legacy(path, {"w": RAMP}, **parts), message)


def test_the_legacy_format_with_views(tmp_path: Path) -> None:
    """Before version 0.4 a storage could be part of another: (key, first value, count)."""
    view = b"(X\x01\x00\x00\x00vK%bK%bt"
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06%btQ"

    def write(first: int, count: int) -> Path:
        made = storage % (view % (bytes([first]), bytes([count])))
        tensor = Raw(b"ctorch._utils\n_rebuild_tensor\n(" + made + b"K\x00K\x02\x85K\x01\x85tR")
        return write_torch_legacy(tmp_path / "a", {"whole": RAMP, "part": tensor})

    assert open_and_read(write(3, 2))["part"].tolist() == [3, 4]
    refused(write(5, 2), "a part of 2 values that lies outside of its storage of 6")


def test_the_oldest_format(tmp_path: Path) -> None:
    arrays = {"w": RAMP, "turned": np.arange(4, dtype=np.int64).reshape(2, 2).T, "b": np.float64(3).reshape(())}
    path = write_torch_tar(tmp_path / "a", {"w": RAMP, "b": arrays["b"]})
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "PyTorch tar"
        np.testing.assert_array_equal(checkpoint.tensors["w"].read(), RAMP)
        assert checkpoint.tensors["b"].read() == 3
    whole = path.read_bytes()
    one = pickle.dumps(1, 2)
    tensor = one + pickle.dumps((1, 0, 3), 2)
    for parts, message in [
        ({"storages": b""}, "damaged"),
        ({"storages": pickle.dumps(-1, 2)}, "a number of tensors"),
        ({"storages": pickle.dumps(10**9, 2)}, "damaged"),
        ({"storages": one + pickle.dumps((1, 2, 3), 2)}, "a storage"),
        ({"tensors": one + pickle.dumps((1, 2, 3), 2)}, "a tensor"),
        ({"tensors": tensor + struct.pack("<q", 10**6)}, "a tensor of 1000000 dimensions"),
        ({"tensors": tensor + struct.pack("<4q", 1, 10**12, 1, 0)}, "over a storage of 6 values"),
        ({"tensors": tensor + struct.pack("<2q", 1, 5)}, "unpack requires|damaged"),
        ({"pickle": b"\x80\x02}(X\x01\x00\x00\x00wK\x63Qu."}, "a tensor that there is not"),
        ({"pickle": b"\x80\x02" + called("true") + b"."}, r"it would call posix\.system"),
    ]:  # fmt: skip
        refused(write_torch_tar(path, {"w": RAMP}, **parts), message)
    for damaged, message in [
        (whole[:600], "without the member storages, or one that is cut off"),
        (whole[:512], "without the member storages"),
        (whole.replace(b"00000", b"9" * 5), "damaged: a tar archive"),
        (whole.replace(b"tensors\0", b"pickle\0\0"), "two members called pickle"),
    ]:
        path.write_bytes(damaged)
        refused(path, message)


def write_safetensors(path: Path, arrays: dict[str, np.ndarray], **parts: Any) -> Path:
    """Writes safetensors; `parts` are further entries of its table of contents."""
    kinds = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "i4": "I32", "i2": "I16", "i1": "I8", "u1": "U8"}
    table: dict[str, Any] = {}
    at = 0
    for name, array in arrays.items():
        offsets = [at, at + array.nbytes]
        table[name] = {"dtype": kinds[array.dtype.str[1:]], "shape": array.shape, "data_offsets": offsets}
        at += array.nbytes
    header = json.dumps({**table, **parts}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(a.tobytes() for a in arrays.values()))
    return path


def one(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24], **changes}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (one(shape=[3, 3]), r"24 bytes for values of type F32 and shape \(3, 3\)"),
        (one(shape=[10**6, 10**6]), "24 bytes for values"),
        (one(shape=[-2, -3]), "its shape"),
        (one(shape=[2.0, 3]), "its shape"),
        (one(shape=[True, 6]), "its shape"),
        (one(shape="23"), "its shape"),
        (one(shape=[1] * 40 + [6]), "41 dimensions"),
        (one(data_offsets=[4, 28]), "outside of the file"),
        (one(data_offsets=[0, 10**13]), "outside of the file"),
        (one(data_offsets=[24, 0]), "outside of the file"),
        (one(data_offsets=[-24, 0]), "outside of the file"),
        (one(data_offsets=[0, 20], shape=[5]), "4 bytes behind its last tensor"),
        (one(data_offsets=[4, 24], shape=[5]), "leave bytes between them"),
        (one(data_offsets=[0]), "its place"),
        (one(data_offsets=[0.0, 24]), "its place"),
        (one(dtype="F8_E4M3"), "values of the type F8_E4M3, which are not read"),
        (one(dtype="C64"), "values of the type C64"),
        (one(dtype=["F32"]), "values of the type of none"),
        (one(more=1), "its entry"),
        ([], "its entry"),
    ],
)
def test_safetensors_that_do_not_fit(entry: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    header = json.dumps({"w": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + RAMP.tobytes())
    refused(path, message)


def test_safetensors_whose_table_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for length, header, message in [
        (None, b'{"w":1,"w":2}', 'the key "w" is there twice'),
        (None, b"{" * 200, "no JSON"),
        (None, b'{"w":' + b"[" * 100_000, "nested too deeply"),
        (None, b'{"w":NaN}', "NaN is no number"),
        (None, b'{"\xff":1}', "save it as UTF-8"),
        (None, b'{"__metadata__":[1]}', "__metadata__"),
        (10**14, b"{}", "cut off in its table of contents of 100,000,000,000,000 bytes"),
        (2**40, b"{}", "cut off in its table of contents"),
        (2**22 + 1, b"{" + b" " * (2**22 + 1), "at most 4,194,304 are read"),
    ]:
        path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header)
        refused(path, message)
    overlap = {"a": one(), "b": one()}
    header = json.dumps(overlap).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + RAMP.tobytes())
    refused(path, "overlap")


def test_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(
        path, **{"a/b": RAMP, "big": RAMP.astype(">f4"), "text": np.array("a"), "f": np.asfortranarray(RAMP)}
    )
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.format == "npz"
        assert checkpoint.left_out == ["text (array of type <U1)"]
        assert checkpoint.tensors["big"].dtype == np.float32
        for name in ("a/b", "big", "f"):
            read = checkpoint.tensors[name].read()
            np.testing.assert_array_equal(read, RAMP)
            read += 1
    np.savez(path, a=np.array([{}], object))
    refused(path, "a cannot be read .it holds Python objects")


def test_an_npz_that_is_a_bomb(tmp_path: Path) -> None:
    """A table of contents that announces 8 TB of an array, and an array that agrees."""
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(118) + b"\n"
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
        archive.infolist()[0].file_size = 2**43
    refused(path, "more than such an archive can hold")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty; PyTorch's files"),
        (b"hello", "no file of weights that is known"),
        (b"<!DOCTYPE html>", "a web page, perhaps of a download that failed"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (pickle.dumps({"a": 1}), "a pickle that torch.save did not write"),
        (b"PK\3\4", "not a zip archive that is whole"),
        (bytes(2000), "no file of weights"),
    ],
)
def test_files_of_another_kind(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(data)
    refused(path, message)


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no such file")
    refused(tmp_path, "a folder, not a regular file")
    os.mkfifo(tmp_path / "fifo")
    refused(tmp_path / "fifo", "a FIFO, not a regular file")
    os.symlink(tmp_path / "fifo", tmp_path / "link")
    refused(tmp_path / "link", "a FIFO, not a regular file")
    os.symlink(write_torch_zip(tmp_path / "a", {"w": RAMP}), tmp_path / "good")
    assert open_and_read(tmp_path / "good").keys() == {"w"}


def test_nothing_is_left_open(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "a", {"w": RAMP})
    before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
    for _ in range(3):
        checkpoint: Checkpoint = open_checkpoint(path)
        checkpoint.close()
        with pytest.raises(UserError):
            open_checkpoint(write_torch_zip(tmp_path / "b", {"w": Raw(NEW)}))
    after = len(os.listdir("/proc/self/fd")) if before else 0
    assert after == before
