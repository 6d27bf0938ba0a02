"""Makes a PlaceNet of a checkpoint that others trained, with an account of where every weight came from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Mapping

import keras
import numpy as np

from tfplaces.coding.places import SOURCE_LENGTHS
from tfplaces.common.errors import UserError
from tfplaces.common.files import sha256
from tfplaces.common.text import printable_name
from tfplaces.models.place_net import PlaceNet
from tfplaces.pretrained.checkpoints import Checkpoint, open_checkpoint
from tfplaces.pretrained.kinds import KINDS, Weight, check_kind, find_kind

MAX_LICENCE, _MAX_FILE = SOURCE_LENGTHS["licence"], SOURCE_LENGTHS["file"]
# Tensors that only training needs: how many batches a batch norm has seen.
_COUNTER = "num_batches_tracked"
_NAMED = 4


@dataclasses.dataclass(frozen=True)
class LayerSource:
    """A layer with weights, how many, and the names of the tensors that they were made of."""

    layer: str
    parameters: int
    tensors: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Imported:
    """A network and where it came from.

    Attributes:
        model: the network, its weights set.
        kind: a key of `tfplaces.pretrained.kinds.KINDS`.
        format: of the file, for example `PyTorch zip`.
        rows: its layers that have weights, in order.
        left_out: what of the file is not in the network, in words.
        notes: what the user should know, in sentences.
    """

    model: PlaceNet
    kind: str
    format: str
    rows: list[LayerSource]
    left_out: list[str]
    notes: list[str]


def import_network(
    path: str | os.PathLike,
    kind: str | None = None,
    input_size: tuple[int, int] | None = None,
    licence: str | None = None,
) -> Imported:
    """Makes a network of a published checkpoint.

    Args:
        path: a file of PyTorch, safetensors, numpy (`.npz`) or MatConvNet (`.mat`); nothing in it is executed.
        kind: a key of `tfplaces.pretrained.kinds.KINDS`; by default it is recognised.
        input_size: (height, width) in pixels that the network is for; by default what the source trained at.
        licence: that of the weights, which goes with the model: up to 160 printable characters.

    Raises:
        UserError: the file cannot be read, is of no kind that is known or of a network that is not supported, lacks a
            tensor, or has one of another shape or with values that are not finite.
    """
    check_licence(licence)
    check_kind(kind)
    with open_checkpoint(path) as checkpoint:
        kind = find_kind(checkpoint, kind)
        plan = KINDS[kind].plan(checkpoint, input_size)
        source = {"file": _file_name(path), "sha256": sha256(path), "kind": kind}
        source |= {key: text for key, text in (("licence", licence), ("note", plan.resize)) if text}
        try:
            model = PlaceNet(**plan.arguments, source=source)
        except UserError as error:
            raise UserError(f"{checkpoint.path}: {error}") from None
        rows = list(_set_weights(checkpoint, model, plan.weights))
        used = {name for row in rows for name in row.tensors}
        left_out = [*_left_out(checkpoint, used), *checkpoint.left_out]
        return Imported(model, kind, checkpoint.format, rows, left_out, [*plan.notes, *filter(None, [plan.resize])])


def check_licence(licence: str | None) -> None:
    """Raises UserError unless a licence is a short text on one line, or None."""
    if licence is not None and not (0 < len(licence) <= MAX_LICENCE and licence.isprintable()):
        raise UserError(f"licence {printable_name(licence)[:40]!r}: expected 1 to {MAX_LICENCE} printable characters")


def _file_name(path: str | os.PathLike) -> str:
    name = printable_name(os.path.basename(os.fsdecode(path)))
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= _MAX_FILE else f"{name[: _MAX_FILE - 1]}…"


def _set_weights(checkpoint: Checkpoint, model: PlaceNet, weights: Mapping[str, Weight]) -> Iterator[LayerSource]:
    """Sets every variable of the network, one after the other: a whitening may have half a gigabyte."""
    for layer in model.layers:
        if not layer.weights:
            continue
        tensors: list[str] = []
        for variable in layer.weights:
            weight = weights[f"{layer.name}/{variable.name}"]
            variable.assign(_value(checkpoint, layer, variable, weight))
            tensors += [name for name in weight.sources if name not in tensors]
        if layer.name == "whitening":
            layer.rescale()
        yield LayerSource(layer.name, layer.count_params(), tuple(tensors))


def _value(checkpoint: Checkpoint, layer: keras.layers.Layer, variable: keras.Variable, weight: Weight) -> np.ndarray:
    """A weight in float32 and in the shape of the variable.

    Raises:
        UserError: it has another shape, or values that are not finite in float32.
    """
    value = weight.read()
    names = ", ".join(map(printable_name, weight.sources))
    if value.shape != tuple(variable.shape):
        raise UserError(
            f"{checkpoint.path}: {names} makes {list(value.shape)}, and {layer.name} needs {list(variable.shape)}"
        )
    if value.dtype.kind not in "fiu":
        raise UserError(f"{checkpoint.path}: {names} holds {value.dtype}, not numbers")
    with np.errstate(over="ignore"):
        value = np.ascontiguousarray(value, np.float32)
    # The sum is a cheap look at all values: it is finite unless one is not, or they are too large for any network.
    if not np.isfinite(value.sum(dtype=np.float64)):
        raise UserError(f"{checkpoint.path}: {names} has values that are not finite")
    return value


def _left_out(checkpoint: Checkpoint, used: Collection[str]) -> Iterator[str]:
    """The tensors that nothing was made of: each by its name, those of a part of which nothing was used together."""
    unused = [name for name in checkpoint.tensors if name not in used]
    counters = [name for name in unused if name.rpartition(".")[2] == _COUNTER]
    if counters:
        yield f"{len(counters)} tensors {_COUNTER}: batches that were counted in training"
    parts_used = {part for name in used for part in _parts(name)}
    groups: dict[str, list[str]] = {}
    for name in unused:
        if name.rpartition(".")[2] != _COUNTER:
            group = next((part for part in _parts(name) if part not in parts_used), name)
            groups.setdefault(group, []).append(name)
    for group, names in groups.items():
        if len(names) <= _NAMED:
            for name in names:
                yield f"{printable_name(name)} {list(checkpoint.tensors[name].shape)}"
        else:
            yield f"{printable_name(group)}: {len(names)} tensors, from {printable_name(names[0])} on"


def _parts(name: str) -> Iterator[str]:
    """The modules that a tensor is in, the outermost first, and itself."""
    components = name.split(".")
    return (".".join(components[:count]) for count in range(1, len(components) + 1))
