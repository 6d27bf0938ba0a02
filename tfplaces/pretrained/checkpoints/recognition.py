"""Opens a file of trained weights, whose format is recognised by its content."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.files import open_regular
from tfplaces.common.matlab import is_mat, open_variables
from tfplaces.common.npz_file import NpzFile
from tfplaces.common.text import printable_name
from tfplaces.common.zip_archive import open_zip
from tfplaces.pretrained.checkpoints.checkpoint import Checkpoint, TensorEntry
from tfplaces.pretrained.checkpoints.matconvnet import MAX_BYTES, read_matconvnet
from tfplaces.pretrained.checkpoints.npz_arrays import npz_entries
from tfplaces.pretrained.checkpoints.safetensors_file import is_safetensors, read_safetensors
from tfplaces.pretrained.checkpoints.state_dict import entries, find_state_dict, without_prefixes
from tfplaces.pretrained.checkpoints.torch_legacy import is_torch_legacy, read_torch_legacy
from tfplaces.pretrained.checkpoints.torch_tar import is_tar, read_torch_tar
from tfplaces.pretrained.checkpoints.torch_zip import is_torch_zip, read_torch_zip

# VGG16 with NetVLAD and its whitening has 0.6 GB, and three times as much with the state of an optimiser.
MAX_FILE_BYTES = 2**33
_LEAST_INFLATED, _MOST_INFLATED = 2**26, 100
_KNOWN = "PyTorch's files (.pth, .ckpt, .pth.tar), .safetensors and .npz files, and NetVLAD's .mat files"


def open_checkpoint(path: str | os.PathLike) -> Checkpoint:
    """Opens a file of trained weights. Nothing in it is run, and no tensor is read before it is asked for.

    Args:
        path: a regular file of PyTorch (in any of its three formats), safetensors, numpy's `.npz` or MatConvNet's
            `.mat`; which of them it is is seen from its content, whatever its name.

    Returns:
        The open file; use it in a `with`.

    Raises:
        UserError: it is none of these, is damaged, or holds what is not read; the message says what to do.
        MissingExtraError: a `.mat` file of version 7.3 needs h5py, which is not installed.
    """
    shown = printable_name(os.fsdecode(path))
    with contextlib.ExitStack() as held:
        file = held.enter_context(open_regular(path, MAX_FILE_BYTES))
        checkpoint = _opened(file, path, shown, held)
        checkpoint._held = held.pop_all()
        return checkpoint


def _opened(file: BinaryIO, path: str | os.PathLike, shown: str, held: contextlib.ExitStack) -> Checkpoint:
    start = file.read(1024)
    if start.startswith(b"PK"):
        archive, members = open_zip(file, shown, "a zip archive that is whole")
        held.callback(archive.close)
        if is_torch_zip(members):
            value, others = read_torch_zip(file, members, shown)
            tensors, left_out = find_state_dict(value, shown)
            return Checkpoint(shown, "PyTorch zip", entries(tensors, file, shown), left_out + others)
        if members and all(name.endswith(".npy") for name in members):
            npz = held.enter_context(NpzFile(path))
            found, left_out = npz_entries(npz)
            return Checkpoint(shown, "npz", found, left_out)
        first = ", ".join(printable_name(name[:40]) for name in list(members)[:3])
        raise UserError(f"{shown}: a zip archive of something else ({first or 'empty'}); {_KNOWN} are read")
    if is_torch_legacy(start):
        value, behind = read_torch_legacy(file, shown)
        tensors, left_out = find_state_dict(value, shown)
        left_out += [f"{behind:,} bytes behind the last tensor"] if behind else []
        return Checkpoint(shown, "PyTorch legacy", entries(tensors, file, shown), left_out)
    if is_tar(start):
        tensors, left_out = find_state_dict(read_torch_tar(file, shown), shown)
        return Checkpoint(shown, "PyTorch tar", entries(tensors, file, shown), left_out)
    if is_safetensors(start):
        tensors, left_out = read_safetensors(file, shown)
        return Checkpoint(shown, "safetensors", entries(without_prefixes(tensors, shown), file, shown), left_out)
    if is_mat(start):
        with _naming(shown):
            # Weights hardly compress: a small file that inflates to gigabytes is none.
            most = min(MAX_BYTES, _LEAST_INFLATED + _MOST_INFLATED * file.seek(0, os.SEEK_END))
            network = read_matconvnet(held.enter_context(open_variables(file, most)))
        tensors_of_mat = {
            name: TensorEntry(entry.shape, entry.dtype, functools.partial(_read_naming, entry, shown))
            for name, entry in network.tensors.items()
        }
        return Checkpoint(shown, "MatConvNet", tensors_of_mat, network.left_out, network.facts)
    raise UserError(f"{shown}: {_guess(start)}; {_KNOWN} are read")


@contextlib.contextmanager
def _naming(shown: str) -> Iterator[None]:
    """Adds the file's name to what is wrong with it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{shown}: {error}") from None


def _read_naming(entry: TensorEntry, shown: str) -> np.ndarray:
    with _naming(shown):
        return entry.read()


def _guess(start: bytes) -> str:
    """What a file seems to be that is not read."""
    if not start:
        return "it is empty"
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file, such as Keras's .h5 or OpenIBL's principal components"
    if start[:1] == b"\x80":
        return "a pickle that torch.save did not write"
    if start.lstrip()[:1] == b"<":
        return "a web page, perhaps of a download that failed"
    return "no file of weights that is known"
