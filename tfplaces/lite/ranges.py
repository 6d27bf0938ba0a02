"""Ranges of activations, from images: those that 8 bits represent with the least error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.processors import usable_processors
from tfplaces.common.progress import progress
from tfplaces.describers.litert import open_interpreter
from tfplaces.lite.calibration import Batch

# Bins of a tensor's histogram, and the shares of its whole range that are tried.
_BINS = 2048
_SHARES = np.linspace(1.0, 0.2, 81)


def activation_ranges(path: str | os.PathLike, batches: Sequence[Batch]) -> dict[str, tuple[float, float]]:
    """The range (least, largest) of each activation that 255 steps over it represent with the least squared error.

    A wide range makes coarse steps, a narrow one clips. Zero is always within. What fills a batch up is left out.

    Args:
        path: a float32 `.tflite`.
        batches: inputs of the model.

    Raises:
        UserError: an activation is not finite.
    """
    runner = open_interpreter(os.fspath(path), usable_processors(), keep_tensors=True)
    runner.allocate_tensors()
    (image,) = runner.get_input_details()
    batch_size = int(image["shape"][0])

    def activations() -> Iterator[tuple[str, np.ndarray]]:
        for batch in batches:
            runner.set_tensor(image["index"], batch.images.astype(image["dtype"]))
            runner.invoke()
            for index in computed:
                values = runner.get_tensor(index)
                # The first axis is that of the images, or that of images and features together.
                if values.ndim and len(values) % batch_size == 0:
                    values = values[: len(values) // batch_size * batch.count]
                yield details[index]["name"], values
            bar.update()

    details = {detail["index"]: detail for detail in runner.get_tensor_details()}
    outputs = {int(index) for op in runner._get_ops_details() for index in op["outputs"]}
    computed = sorted(i for i in outputs & set(details) if details[i]["dtype"] == np.float32)
    extremes: dict[str, tuple[float, float]] = {}
    with progress(2 * len(batches), "ranges", "batch") as bar:
        for name, values in activations():
            low, high = extremes.get(name, (0.0, 0.0))
            extremes[name] = min(low, float(np.min(values))), max(high, float(np.max(values)))
            if not np.isfinite([float(np.min(values)), float(np.max(values))]).all():
                raise UserError(
                    f"the network computes values that are not finite on the calibration images, first in {name}: its "
                    "weights are too large, or the network is broken; train it again"
                )
        counts = {name: np.zeros(_BINS, np.int64) for name in extremes}
        for name, values in activations():
            low, high = extremes[name]
            width = high - low
            bins = (values.reshape(-1).astype(np.float64) - low) * (_BINS / width if width else 0.0)
            counts[name] += np.bincount(np.minimum(bins.astype(np.int32), _BINS - 1), minlength=_BINS)
    return {name: _narrowed(counts[name], *extremes[name]) for name in extremes}


def _narrowed(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The share of a range, towards zero, of least squared error for values of this histogram."""
    values = low + (np.arange(_BINS) + 0.5) * ((high - low) / _BINS)
    errors = []
    for share in _SHARES:
        clipped = values - np.clip(values, share * low, share * high)
        step = share * (high - low) / 255
        errors.append(np.dot(counts, np.where(clipped == 0, step * step / 12, np.square(clipped))))
    share = float(_SHARES[np.argmin(errors)])
    return share * low, share * high
