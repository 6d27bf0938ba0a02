"""The names in PyTorch's pickles, and what stands for them: tensors over storages, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import (
    Buildable,
    Malformed,
    Name,
    dictionary_of,
    members_of_set,
    run_pickle,
)
from tfplaces.common.plain_pickle import NumpyNames
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints.stored_tensor import ELEMENT_TYPES, StoredTensor, tensor_over

# The pickle of a network of 1000 tensors with its optimiser has 0.3 MB and 100,000 instructions.
MAX_PICKLE_BYTES = 2**26
_MAX_INSTRUCTIONS = 1_000_000
# Where Lightning keeps what a network and its data were made with, which may be of any class.
_OF_ANY_CLASS = ("hyper_parameters", "datamodule_hyper_parameters")

_ADVICE = "; only tensors are read: in torch, load it where you trust it, and save its state_dict() alone"
# Kinds of tensors that are not read, and what to do about them.
_SPARSE = "a sparse tensor, which is not read; in torch, save its .to_dense() form"
_QUANTIZED = "a quantized tensor, which is not read; import the network as it was before it was quantized"
_COMPLEX = "complex numbers, which are not read"
_UNUSUAL = "a tensor of an unusual type (float8, uint16 or such), which is not read; in torch, save it as float32"
_REFUSED = {
    **{f"torch._utils {name}": _SPARSE for name in ("_rebuild_sparse_tensor", "_rebuild_sparse_csr_tensor")},
    "torch._utils _rebuild_qtensor": _QUANTIZED,
    **{f"torch {name}Storage": _QUANTIZED for name in ("QInt8", "QUInt8", "QInt32", "QUInt4x2", "QUInt2x4")},
    **{f"torch Complex{name}Storage": _COMPLEX for name in ("Float", "Double", "Half")},
    "torch._utils _rebuild_tensor_v3": _UNUSUAL,
    "torch.storage UntypedStorage": _UNUSUAL,
    "torch._utils _rebuild_meta_tensor_no_storage": "a tensor without values (of the device meta), which is not read",
}


class OrderedDictionary(dict, Buildable):
    """A dictionary of PyTorch's; the versions of modules, which it has beside its members, are not needed."""

    def build(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise Malformed("damaged: what a dictionary has beside its members")


class Placeholder(dict, Buildable):
    """Stands for an object of a class that is never made.

    Attributes:
        name: of its class.
        parts: what it would have been made of.
    """

    def __init__(self, name: str, *parts: Any):
        super().__init__()
        self.name, self.parts = name, list(parts)

    def build(self, state: Any) -> None:
        self.parts.append(state)


class _UnknownName(Name):
    """A name that is not known; whether it may be there is known in the end."""

    def call(self, arguments: tuple[Any, ...]) -> Any:
        raise Malformed(f"it would call {self.name}{_ADVICE}")

    def instance(self, arguments: tuple[Any, ...]) -> Placeholder:
        return Placeholder(self.name, self, *arguments)


class _TorchNames(NumpyNames):
    """What stands for the names that PyTorch writes."""

    def __init__(self) -> None:
        super().__init__(MAX_PICKLE_BYTES)
        self.unknown: list[_UnknownName] = []
        self.known |= {
            ("collections", "OrderedDict"): lambda pairs=(): OrderedDictionary(dictionary_of(pairs)),
            ("torch._utils", "_rebuild_tensor"): tensor_over,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
            ("torch", "Size"): _size,
            ("torch", "device"): lambda *_: Placeholder("torch.device"),
            ("collections", "Counter"): _counter,  # the steps of a schedule of learning rates
            ("argparse", "Namespace"): lambda *_: Placeholder("argparse.Namespace"),
            **{(module, "set"): members_of_set for module in ("builtins", "__builtin__")},
            **{(module, "bytearray"): _bytearray for module in ("builtins", "__builtin__")},
            ("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
            **{name: _only_named for name in (("torch", "Tensor"), ("torch.nn.parameter", "Parameter"))},
        }

    def __call__(self, name: str) -> Any:
        module, _, member = name.partition(" ")
        if module in ("torch", "torch.cuda"):
            for ending in ("Storage", "Tensor"):  # a tar file names a class of tensors
                if member.endswith(ending) and member.removesuffix(ending) in ELEMENT_TYPES:
                    return ELEMENT_TYPES[member.removesuffix(ending)]
        if module == "torch" and any(member == kind.name for kind in ELEMENT_TYPES.values()):
            return Name(f"torch.{member}", _only_named)
        if name in _REFUSED:
            raise Malformed(f"it holds {_REFUSED[name]}")
        if (module, member) in self.known:
            return super().__call__(name)
        found = _UnknownName(printable_name(name.replace(" ", ".", 1))[:80], lambda *_: None)
        self.unknown.append(found)
        return found


def read_torch_pickle(file: BinaryIO, source: str, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Reads one of PyTorch's pickles; the file is then behind it.

    Args:
        file: where it begins.
        source: the file's name, for messages.
        persistent: gives the storage, or what else a persistent identifier stands for.

    Returns:
        Plain data, numpy's arrays not yet made, `StoredTensor`s and `Placeholder`s.

    Raises:
        UserError: it is damaged or too large, or names what is neither tensor nor plain data. What Lightning's
            `hyper_parameters` hold may be of any class, which nothing is made of; but nothing may be called there.
    """
    names = _TorchNames()
    value = run_pickle(
        file,
        source,
        names,
        max_bytes=MAX_PICKLE_BYTES,
        max_instructions=_MAX_INSTRUCTIONS,
        persistent=persistent,
    )
    if names.unknown:
        below, elsewhere = {}, {}
        if isinstance(value, dict):
            below = _reachable([value[key] for key in _OF_ANY_CLASS if key in value])
            elsewhere = _reachable([member for key, member in value.items() if key not in _OF_ANY_CLASS])
        for found in names.unknown:
            if id(found) not in below or id(found) in elsewhere:
                raise UserError(f"{source}: a pickle that is not read: it would import {found.name}{_ADVICE}")
    return value


def unknown_names(value: Any) -> list[str]:
    """The names in a value that stand for nothing that is known, each once."""
    found = (v.name for v in _reachable([value]).values() if isinstance(v, (_UnknownName, Placeholder)))
    return sorted(set(found))


def _reachable(roots: list[Any]) -> dict[int, Any]:
    """Everything that some values hold, by identity."""
    found: dict[int, Any] = {}
    left = list(roots)
    while left:
        value = left.pop()
        if id(value) not in found:
            found[id(value)] = value
            left.extend(_members(value))
    return found


def _members(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
        if isinstance(value, Placeholder):
            yield from value.parts


def _tensor(
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _requires_grad: Any = None,
    _hooks: Any = None,
    bits: Any = None,
) -> StoredTensor:
    if bits is not None and bits != {}:  # such as {"neg": True}: its values are those of the storage, negated
        raise Malformed("it holds a tensor that is kept negated or conjugated; in torch, save its .clone()")
    return tensor_over(storage, offset, shape, strides)


def _parameter(tensor: Any, *_: Any) -> StoredTensor:
    if not isinstance(tensor, StoredTensor):
        raise Malformed("damaged: a parameter that is no tensor")
    return tensor


def _with_attributes(rebuild: Any, _kind: Any, arguments: Any, _attributes: Any) -> StoredTensor:
    """A tensor that Python attributes were given, which are not needed."""
    if not isinstance(rebuild, Name) or not isinstance(arguments, tuple):
        raise Malformed("damaged: a tensor with attributes")
    return _parameter(rebuild.call(arguments))


def _size(sides: Any = ()) -> tuple[Any, ...]:
    if not isinstance(sides, (tuple, list)):
        raise Malformed("damaged: a size")
    return tuple(sides)


def _counter(counts: Any = ()) -> dict[Any, Any]:
    if isinstance(counts, dict):
        return dict(counts)
    return dictionary_of(counts)


def _bytearray(*arguments: Any) -> bytes:
    content = arguments[0] if arguments else b""
    if not isinstance(content, bytes):
        raise Malformed("damaged: an array of bytes")
    return content


def _only_named(*_: Any) -> Any:
    raise Malformed("damaged: a call of a class that is only named")
