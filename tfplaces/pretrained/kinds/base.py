"""What a kind of checkpoint has to tell, and what all kinds need."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name
from tfplaces.models.backbones import BACKBONES
from tfplaces.pretrained.checkpoints import Checkpoint, TensorEntry

# (height, width) in pixels.
Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Weight:
    """Where one weight of ours comes from.

    Attributes:
        sources: names of the tensors that it is made of.
        read: makes it, float in any precision, in the shape of our variable.
    """

    sources: tuple[str, ...]
    read: Callable[[], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A network of ours for a checkpoint.

    Attributes:
        arguments: arguments of `PlaceNet`, with `input_size`.
        weights: for each variable of the network, `LAYER/VARIABLE`, where it comes from.
        notes: what the user should know, in sentences.
        resize: how the source brings images to their size, where that is not what our pipeline does; goes with the
            model as a note.
    """

    arguments: Mapping[str, Any]
    weights: Mapping[str, Weight]
    notes: Sequence[str] = ()
    resize: str = ""


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of checkpoint.

    Attributes:
        title: what people call it.
        recognises: whether a checkpoint is of this kind, judged by the names of its tensors; no other kind may agree.
        plan: takes the checkpoint and the size of images that is asked for, None for the one that the source trained
            at; raises UserError where a tensor is missing, of another shape, or of a network that is not supported.
    """

    title: str
    recognises: Callable[[Checkpoint], bool]
    plan: Callable[[Checkpoint, Size | None], Plan]


# torchvision's preprocessing of ImageNet, whatever the backbone.
IMAGENET = {"scale": BACKBONES["resnet18"].scale, "offset": BACKBONES["resnet18"].offset}


def require(checkpoint: Checkpoint, name: str, *shape: int | None) -> TensorEntry:
    """The tensor of a name, which has to have a shape.

    Args:
        shape: its sides, None for any.

    Raises:
        UserError: there is no such tensor, it has another shape, or holds something else than floating-point numbers.
    """
    entry = checkpoint.tensors.get(name)
    if entry is None:
        raise UserError(f"{checkpoint.path}: no tensor {name!r}, which a network of this kind has")
    sides = tuple(entry.shape)
    if len(sides) != len(shape) or any(want not in (None, side) for want, side in zip(shape, sides, strict=True)):
        expected = ", ".join("any" if side is None else str(side) for side in shape)
        raise UserError(f"{checkpoint.path}: {name} has shape {list(sides)}, expected [{expected}]")
    if np.dtype(entry.dtype).kind != "f":
        raise UserError(f"{checkpoint.path}: {name} holds {entry.dtype}, not floating-point numbers")
    return entry


def made(array: np.ndarray) -> Callable[[], np.ndarray]:
    """A reader of what is in memory already."""
    return lambda: array


def flat(entry: TensorEntry) -> Callable[[], np.ndarray]:
    """A reader of a tensor without its shape."""
    return lambda: entry.read().reshape(-1)


def has(checkpoint: Checkpoint, *names: str) -> bool:
    """Whether a checkpoint has tensors of all these names."""
    return all(name in checkpoint.tensors for name in names)


def seen(checkpoint: Checkpoint, count: int = 4) -> str:
    """The first tensors of a checkpoint with their shapes, for messages."""
    names = list(checkpoint.tensors)
    shown = [f"{printable_name(name)[:80]} {list(checkpoint.tensors[name].shape)}" for name in names[:count]]
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return (", ".join(shown) + more) or "no tensors"
