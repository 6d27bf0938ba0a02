"""PyTorch's files since version 1.6: a zip archive with a pickle, and each storage as a member of its own."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import Malformed
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints.stored_tensor import Storage, storage_parts
from tfplaces.pretrained.checkpoints.torch_pickle import MAX_PICKLE_BYTES, read_torch_pickle

_NOTES = ("data.pkl", "byteorder", "version", ".format_version", ".storage_alignment", ".data/serialization_id")
_LOCAL_HEADER = struct.Struct("<4s22xHH")


def is_torch_zip(members: dict[str, zipfile.ZipInfo]) -> bool:
    """Whether an archive's members are those of PyTorch's files."""
    return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in members)


def read_torch_zip(file: BinaryIO, members: dict[str, zipfile.ZipInfo], source: str) -> tuple[Any, list[str]]:
    """Reads what was saved; its storages stay in the file.

    Args:
        file: the open archive.
        members: by name, as `open_zip` gives them.
        source: the file's name, for messages.

    Returns:
        What was saved, and what else is in the archive, in words.

    Raises:
        UserError: it is damaged, or holds what is not read.
    """
    folders = [name.removesuffix("data.pkl") for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise UserError(f"{source}: {len(folders)} pickles, where PyTorch writes one")
    if f"{folders[0]}constants.pkl" in members:
        raise UserError(
            f"{source}: a TorchScript archive, which holds a program; in torch, load it where you trust it, and save "
            "its state_dict() with torch.save"
        )
    archive = _Archive(file, members, folders[0], source)
    value = read_torch_pickle(io.BytesIO(archive.content("data.pkl", MAX_PICKLE_BYTES)), source, archive.storage)
    return value, archive.left_out()


class _Archive:
    """The members of an archive below its one folder."""

    def __init__(self, file: BinaryIO, members: dict[str, zipfile.ZipInfo], folder: str, source: str):
        self._file, self._members, self._folder, self._source = file, members, folder, source
        self._storages: dict[str, Storage] = {}
        self._size = file.seek(0, io.SEEK_END)
        order = self.content("byteorder", 16) if f"{folder}byteorder" in members else b"little"
        if order not in (b"little", b"big"):
            raise UserError(f"{source}: damaged: an order of bytes that is neither little nor big")
        self._big_endian = order == b"big"

    def content(self, name: str, most: int) -> bytes:
        """The bytes of a member that is read whole."""
        try:
            position, info = self._placed(name)
        except Malformed as error:
            raise UserError(f"{self._source}: {error}") from None
        if info.file_size > most:
            raise UserError(f"{self._source}: {name} has {info.file_size:,} bytes; at most {most:,} are read")
        self._file.seek(position)
        data = self._file.read(info.file_size)
        if info.CRC and zlib.crc32(data) != info.CRC:  # torch.save may leave them out
            raise UserError(f"{self._source}: damaged: {name} (its checksum)")
        return data

    def storage(self, identifier: Any) -> Storage:
        """What `('storage', type, key, location, count)` in the pickle stands for."""
        kind, key, count, _ = storage_parts(identifier)
        if key not in self._storages:
            position, info = self._placed(f"data/{key}")
            self._storages[key] = Storage(kind, count, position, self._big_endian, info.CRC or None)
            if self._storages[key].size != info.file_size:
                raise Malformed(f"damaged: a storage of {count:,} values of {kind.name} has {info.file_size:,} bytes")
        if self._storages[key].kind != kind or self._storages[key].count != count:
            raise Malformed("damaged: a storage of two sizes or types")
        return self._storages[key]

    def left_out(self) -> list[str]:
        """The members that were not used, in words; each is neither a storage of the pickle nor a note of PyTorch's."""
        used = {self._folder + name for name in (*_NOTES, *(f"data/{key}" for key in self._storages))}
        others = [printable_name(name[:60]) for name in self._members if name not in used and name[-1:] != "/"]
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        return [f"{len(others)} further members of the archive ({shown})"] if others else []

    def _placed(self, name: str) -> tuple[int, zipfile.ZipInfo]:
        """Where in the file the bytes of a member begin, and what the table of contents says of it."""
        shown = printable_name(name[:80])
        info = self._members.get(self._folder + name)
        if info is None:
            raise Malformed(f"damaged: the archive has no member {shown}")
        if info.flag_bits & 1:
            raise Malformed(f"the archive's member {shown} is encrypted")
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise Malformed(f"the archive's member {shown} is compressed, as torch.save never does; use zip -0")
        header = b""
        if 0 <= info.header_offset < self._size:
            self._file.seek(info.header_offset)
            header = self._file.read(_LOCAL_HEADER.size)
        if len(header) < _LOCAL_HEADER.size or not header.startswith(b"PK\3\4"):
            raise Malformed(f"damaged: the head of the archive's member {shown}")
        _, name_size, extra_size = _LOCAL_HEADER.unpack(header)
        position = info.header_offset + _LOCAL_HEADER.size + name_size + extra_size
        if position + info.file_size > self._size:
            raise Malformed(f"damaged: the archive's member {shown} is larger than the file")
        return position, info
