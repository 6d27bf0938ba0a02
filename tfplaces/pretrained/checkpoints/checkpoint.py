"""What a file of trained weights holds, whatever its format."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class TensorEntry:
    """A tensor of a file, of which nothing but shape and type is in memory until it is read.

    Attributes:
        shape: its shape, as the file has it.
        dtype: the type that `read` gives; float32 where the file has bfloat16, which numpy does not know.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    _read: Callable[[], np.ndarray] = dataclasses.field(repr=False, compare=False)

    def read(self) -> np.ndarray:
        """The values, as an array of their own that nothing else holds.

        Raises:
            UserError: the file is damaged here.
        """
        return self._read()


@dataclasses.dataclass
class Checkpoint:
    """An open file of trained weights. Use it in a `with`; its tensors are read while it is open.

    Attributes:
        path: the file, for messages, in printable characters.
        format: `PyTorch zip`, `PyTorch legacy`, `PyTorch tar`, `safetensors`, `npz` or `MatConvNet`.
        tensors: by their names: of PyTorch's files the state dict that was found, its prefixes taken off; of
            MatConvNet's, `LAYER/0`, `LAYER/1` and so on, in the order of the layer's weights.
        left_out: what else is in the file, in words, as in `optimizer (dict of 3)` or `epoch 29`.
        facts: plain values beside the tensors. MatConvNet's files have `layers`, a list of dictionaries with `name`,
            `type`, `pad`, `stride`, `pool`, `method` and `param` (None where a layer has none), and `average_image`,
            red, green and blue; other files have none.
    """

    path: str
    format: str
    tensors: Mapping[str, TensorEntry]
    left_out: list[str] = dataclasses.field(default_factory=list)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    _held: contextlib.ExitStack = dataclasses.field(default_factory=contextlib.ExitStack, repr=False)

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._held.close()
