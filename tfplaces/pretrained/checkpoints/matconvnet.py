"""Networks of MatConvNet in `.mat` files: the variable `net`, a struct whose `layers` are a cell of structs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.matlab_value import NUMERIC, MatlabValue, in_words
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints.checkpoint import TensorEntry

# NetVLAD with its whitening has 0.6 GB.
MAX_BYTES = 2**32
_TEXTS, _NUMBERS = ("name", "type", "method"), ("pad", "stride", "pool", "param")
_MOST_NUMBERS, _MOST_LAYERS = 16, 1000
_OF_CLASSES = (
    "an object of MATLAB's that MATLAB alone can read, as the original release of NetVLAD has them; take the copy "
    'whose layers are structs (called "structed"), such as Pitts30K_struct.mat or TokyoTM_struct.mat'
)


@dataclasses.dataclass(frozen=True)
class MatConvNetwork:
    """What `read_matconvnet` finds; see `Checkpoint` for the meaning of its members."""

    tensors: dict[str, TensorEntry]
    facts: dict[str, Any]
    left_out: list[str]


def read_matconvnet(variables: Mapping[str, MatlabValue]) -> MatConvNetwork:
    """Reads the layers of a network; their weights stay in the file.

    Args:
        variables: those of the file by name.

    Raises:
        UserError: there is no network, a layer is an object of a class that MATLAB alone knows, or the file is damaged;
            the caller adds the file's name.
    """
    if "net" not in variables:
        found = ", ".join(printable_name(name[:40]) for name in list(variables)[:5])
        raise UserError(f"no variable net, which a network of MatConvNet has, but {found or 'nothing'}")
    net = _struct(variables["net"], "net")
    if "layers" not in net:
        raise UserError(f"net has no layers, but {', '.join(printable_name(name[:40]) for name in list(net)[:8])}")
    layers: list[dict[str, Any]] = []
    tensors: dict[str, TensorEntry] = {}
    others: dict[str, None] = {}
    for number, value in enumerate(_few_members(net["layers"], _MOST_LAYERS), 1):
        where = f"layer {number}"
        fields = _struct(value, where)
        layer = _within(where, _facts, fields)
        layer["name"] = layer["name"] or f"layer{number}"
        layers.append(layer)
        where = f"layer {number} ({printable_name(layer['name'][:40])})"
        found = _within(where, _weights, fields)
        for key, entry in found.items():
            name = f"{layer['name']}/{key}"
            if name in tensors:
                raise UserError(f"{where}: another layer has the same name")
            tensors[name] = entry
        others |= dict.fromkeys(fields.keys() - {*_TEXTS, *_NUMBERS, "weights"})
    variables["net"].check_end()
    if not tensors:
        raise UserError("net has no layer with weights")
    normalization, unread = _normalization(net)
    left_out = [f"net.{name}" for name in (*unread, *(name for name in net if name not in ("layers", "meta")))]
    left_out += [f"{name} of the layers" for name in sorted(others)]
    left_out += [f"variable {name}" for name in variables if name and name != "net"]
    facts = {"layers": layers, "average_image": _within("net's averageImage", _average_image, normalization)}
    return MatConvNetwork(tensors, facts, [printable_name(name[:80]) for name in left_out])


def _struct(value: MatlabValue, where: str) -> Mapping[str, MatlabValue]:
    if value.class_name not in ("struct", "cell", "char", *NUMERIC):
        raise UserError(f"{where} is {_OF_CLASSES} (class {printable_name(value.class_name[:40])})")
    return _within(where, value.fields)


def _few_members(value: MatlabValue, most: int) -> Iterator[MatlabValue]:
    if math.prod(value.shape) > most:
        raise UserError(f"{in_words(value)} where at most {most:,} members should be")
    return value.members()


def _within(where: str, read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _facts(fields: Mapping[str, MatlabValue]) -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys((*_TEXTS, *_NUMBERS))
    for name in _TEXTS:
        if name in fields and fields[name].class_name == "char":
            facts[name] = fields[name].text()
    for name in _NUMBERS:
        if name in fields and fields[name].class_name in NUMERIC and math.prod(fields[name].shape) <= _MOST_NUMBERS:
            facts[name] = tuple(fields[name].numbers().ravel(order="F").tolist())
    return facts


def _weights(fields: Mapping[str, MatlabValue]) -> dict[str, TensorEntry]:
    if "weights" not in fields:
        return {}
    if fields["weights"].class_name in NUMERIC and 0 in fields["weights"].shape:  # [], of a layer that has none
        return {}
    return {
        str(number): TensorEntry(value.shape, value.dtype, value.numbers)
        for number, value in enumerate(_few_members(fields["weights"], _MOST_NUMBERS))
        if 0 not in value.shape
    }


def _normalization(net: Mapping[str, MatlabValue]) -> tuple[Mapping[str, MatlabValue], list[str]]:
    """The struct `meta.normalization`, empty where there is none, and the names of what is beside it."""
    meta = net["meta"].fields() if "meta" in net and net["meta"].class_name == "struct" else {}
    found = meta.get("normalization")
    unread = [f"meta.{name}" for name in meta if name != "normalization"]
    if found is None or found.class_name != "struct":
        return {}, unread
    fields = found.fields()
    return fields, unread + [f"meta.normalization.{name}" for name in fields if name != "averageImage"]


def _average_image(fields: Mapping[str, MatlabValue]) -> np.ndarray | None:
    """Red, green and blue that a network wants subtracted, which NetVLAD takes from the first pixel."""
    value = fields.get("averageImage")
    if value is None or value.class_name not in NUMERIC or 0 in value.shape:
        return None
    numbers = value.numbers()
    if numbers.size == 3:
        return numbers.ravel().astype(np.float64)
    if numbers.ndim == 3 and numbers.shape[2] == 3:
        return numbers[0, 0].astype(np.float64)
    raise UserError(f"{in_words(value)}, which is no colour and no image; it should be (1 x 1 x 3)")
