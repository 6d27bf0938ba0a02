"""The state dict in what PyTorch saved: found, its prefixes taken off; and what else there is, in words."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.pickle_machine import Malformed
from tfplaces.common.plain_pickle import PickledArray
from tfplaces.common.text import printable_name
from tfplaces.pretrained.checkpoints.checkpoint import TensorEntry
from tfplaces.pretrained.checkpoints.stored_tensor import StoredTensor
from tfplaces.pretrained.checkpoints.torch_pickle import Placeholder, unknown_names

# Where training programs keep the state dict beside their other state; Lightning, pytorch-NetVlad and others first.
_KEYS = ("state_dict", "model_state_dict", "model")
# What DataParallel and torch.compile put into names.
_WRAPPERS = ("module", "_orig_mod")
# What Lightning programs that keep their network as `self.model` have before every name.
_LIGHTNING = "model."


def find_state_dict(value: Any, source: str) -> tuple[dict[str, StoredTensor], list[str]]:
    """Finds the tensors of a network in what was saved.

    Args:
        value: as `read_torch_pickle` gives it.
        source: the file, for messages.

    Returns:
        The tensors by name, prefixes taken off, and what else there is, in words.

    Raises:
        UserError: there is no state dict, or two of its tensors have one name once the prefixes are off.
    """
    if not isinstance(value, dict) or isinstance(value, Placeholder):
        raise UserError(f"{source}: it holds {in_words(value)}, no state dict; in torch, save a network's state_dict()")
    key = next((key for key in _KEYS if _has_tensors(value.get(key))), None)
    state = value if key is None else value[key]
    if not _has_tensors(state):
        found = ", ".join(f"{_shown(name)} {in_words(member)}" for name, member in list(value.items())[:8])
        raise UserError(f"{source}: no state dict: it holds {found or 'nothing'}")
    left_out = [] if key is None else _left_out(value, lambda name, _: name != key)
    left_out += _left_out(state, lambda _, member: not isinstance(member, StoredTensor))
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, StoredTensor)}
    if not all(isinstance(name, str) for name in tensors):
        raise UserError(f"{source}: a state dict with names that are no texts")
    return without_prefixes(tensors, source), left_out


def without_prefixes(tensors: dict[str, Any], source: str) -> dict[str, Any]:
    """Takes off what DataParallel, torch.compile and Lightning put before names.

    Raises:
        UserError: two tensors have one name then.
    """
    names = {name: ".".join(part for part in name.split(".") if part not in _WRAPPERS) for name in tensors}
    while names and all(name.startswith(_LIGHTNING) for name in names.values()):
        names = {name: short.removeprefix(_LIGHTNING) for name, short in names.items()}
    twice = next((name for name, count in collections.Counter(names.values()).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"{source}: two tensors are called {_shown(twice)} once prefixes such as module. are taken off")
    return {names[name]: tensor for name, tensor in tensors.items()}


def entries(tensors: dict[str, StoredTensor], file: Any, source: str) -> dict[str, TensorEntry]:
    """The tensors of a state dict, to be read from their file one by one."""

    def reader(tensor: StoredTensor) -> Callable[[], np.ndarray]:
        return lambda: tensor.read(file, source)

    return {name: TensorEntry(tensor.shape, tensor.dtype, reader(tensor)) for name, tensor in tensors.items()}


def in_words(value: Any) -> str:
    """A value that is left out, so that its user knows what it was: `29`, `(dict of 3)`."""
    if value is None or isinstance(value, (bool, float)):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "(a large number)"
    if isinstance(value, str):
        return f"'{printable_name(value[:60])}{'...' if len(value) > 60 else ''}'"
    if isinstance(value, StoredTensor):
        return f"(tensor of shape {value.shape})"
    if isinstance(value, PickledArray):
        return _array_in_words(value)
    if isinstance(value, Placeholder):
        return f"({value.name})"
    if isinstance(value, (dict, list, tuple, set)):
        names = unknown_names(value)
        more = f", with {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}, not read" if names else ""
        kind = "dict" if isinstance(value, dict) else type(value).__name__
        return f"({kind} of {len(value)}{more})"
    if isinstance(value, (bytes, bytearray)):
        return f"({len(value):,} bytes)"
    return f"({getattr(value, 'name', 'something else')})"


def _array_in_words(value: PickledArray) -> str:
    try:
        array = value.array(lambda member: None)
    except (Malformed, ValueError, TypeError):
        return "(an array that is not read)"
    if array.ndim == 0 and array.dtype.kind in "biuf":
        return str(array[()])
    return f"(array of shape {array.shape})"


def _left_out(values: dict[Any, Any], chosen: Callable[[Any, Any], bool]) -> list[str]:
    return [f"{_shown(name)} {in_words(value)}" for name, value in values.items() if chosen(name, value)]


def _has_tensors(value: Any) -> bool:
    return isinstance(value, dict) and any(isinstance(member, StoredTensor) for member in value.values())


def _shown(name: Any) -> str:
    return printable_name(name[:80]) if isinstance(name, str) else in_words(name)
