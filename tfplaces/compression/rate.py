"""Compression to a given size: one step for all dense kernels, found by what the file that is written really takes."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfplaces.coding.channels import channel_rms
from tfplaces.coding.places import PlacesFile
from tfplaces.coding.shared_kernel import GRID_MAX
from tfplaces.coding.statistics import entropy
from tfplaces.common.errors import UserError
from tfplaces.compression.kernels import find_kernels, select_kernels, value_for
from tfplaces.compression.places import save_places
from tfplaces.compression.quantizers import rate_distortion
from tfplaces.compression.recipe import Compressed, Recipe, rescale_whitenings, share_kernels
from tfplaces.compression.second_moments import check_count, dense_kernels, second_moments
from tfplaces.datasets import Images
from tfplaces.models import PlaceNet

# A file may be so much smaller than asked for, as a part of its size.
TOLERANCE = 0.01
# Steps of the quantizer, in units of a channel's RMS, that are considered: from eight bits a weight to nearly none.
_STEPS = (2.0**-5, 2.0**4)
# Real files that are made at most; each corrects what the ones before have taught, so three or four do.
_TRIALS = 8
# Weights of a kernel that its entropy is estimated from.
_SAMPLE = 2**20


def compress_to_rate(
    model: PlaceNet, recipe: Recipe, images: Images, provenance: Mapping[str, Any] | None = None
) -> Compressed:
    """Compresses a PlaceNet to a file of a given size: dense kernels by error feedback, the others by k-means.

    The second moments of the dense layers' inputs are taken after the other kernels have been shared, so that what
    those do wrong is in them. One step, in units of the RMS of each output channel, is common to all dense kernels.

    Args:
        model: the float network; compressed in place.
        recipe: its quantizer is rate_distortion, its rate is the size, and its bits are those of the other kernels.
        images: database images for the second moments, at least 100.
        provenance: what else the file is to tell of its making.

    Returns:
        the compressed network; its file, as `save_places` writes it, takes at most `recipe.rate` bits a parameter, and
        at most 1 % less.

    Raises:
        UserError: no layer is dense, the rate cannot be reached, or there are too few images.
    """
    if recipe.rate is None:
        raise UserError("the quantizer rate_distortion needs a rate: mean bits a parameter of the file")
    chosen = select_kernels(find_kernels(model), recipe.layers)
    bits_of = value_for(chosen, recipe.bits_for, recipe.bits)
    layers = dense_kernels(model, chosen)
    if not layers:
        raise UserError("the quantizer rate_distortion needs a dense layer to compress, as a whitening is")
    check_count(images)
    rescale_whitenings(model)
    shared = share_kernels([kernel for kernel in chosen if kernel.name not in layers], bits_of, recipe.grid)
    weights = {name: layer.kernel.numpy() for name, layer in layers.items()}
    moments = second_moments(model, layers, images)
    result = Compressed(model, shared, {**recipe.to_json(), **(provenance or {})})
    estimate = _Estimate(weights)
    budget = recipe.rate * model.count_params() / 8
    low, high = _STEPS
    aim = budget * (1 - TOLERANCE / 2)
    tried: list[tuple[float, int]] = []
    step = estimate.step(aim, low, high)
    for trial in range(_TRIALS):
        for name, values in weights.items():
            shared[name] = rate_distortion.quantize(values, step, moments[name])
        size, coded = _file_bytes(result, list(layers))
        print(
            f"trial {trial + 1}: step {step:.4f} of the RMS, {8 * size / model.count_params():.4f} bits per parameter",
            file=sys.stderr,
        )
        if budget * (1 - TOLERANCE) <= size <= budget:
            for name, layer in layers.items():
                layer.kernel.assign(shared[name].weights())
            return result
        left = aim - (size - coded)
        if step in _STEPS or left <= 0:
            break
        tried.append((step, coded))
        low, high = (step, high) if size > budget else (low, step)
        step = _next_step(tried, estimate, left, low, high)
    per_parameter = 8 / model.count_params()
    raise UserError(
        f"rate={recipe.rate}: no step comes within 1 % of it; the last one tried takes {size * per_parameter:.3f} bits "
        f"per parameter, and {(size - coded) * per_parameter:.3f} of them are not those of {', '.join(layers)}"
    )


def _next_step(
    tried: Sequence[tuple[float, int]], estimate: _Estimate, target: float, low: float, high: float
) -> float:
    """The step at which the indices should take so many bytes, by what they took at the steps tried before.

    After one trial the estimate is corrected by its error there. After two, a power law goes through the last ones: at
    large steps errors that were passed on make more weights different from zero than the estimate knows of.
    """
    step, coded = tried[-1]
    if len(tried) == 1:
        return estimate.step(target * estimate.bytes(step) / max(coded, 1), low, high)
    before, coded_before = tried[-2]
    power = math.log(coded / coded_before) / math.log(step / before) if min(coded, coded_before) > 0 else 0.0
    wanted = step * (target / coded) ** (1 / power) if power < 0 else 0.0
    return wanted if low < wanted < high else math.sqrt(low * high)


def _file_bytes(compressed: Compressed, names: Sequence[str]) -> tuple[int, int]:
    """Bytes of the file, and those of the indices of some kernels in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "trial.places")
        size = save_places(path, compressed)
        with PlacesFile(path) as file:
            return size, sum(file.stored_bytes(name)[1] for name in names)


class _Estimate:
    """The entropy of kernels that are rounded to a step without feedback, from some of their rows."""

    def __init__(self, weights: Mapping[str, np.ndarray]):
        self._sizes = [values.size for values in weights.values()]
        self._samples = [
            values[:: -(-values.size // _SAMPLE)] / channel_rms(values[:, :, None]) for values in weights.values()
        ]

    def bytes(self, step: float) -> float:
        """Bytes of the indices at a step."""
        total = 0.0
        for size, sample in zip(self._sizes, self._samples, strict=True):
            integers = np.clip(np.rint(sample / np.float32(step)), -GRID_MAX, GRID_MAX).astype(np.int64)
            counts = np.bincount(integers.reshape(-1) + GRID_MAX)
            total += entropy(counts) / 8 * size / sample.size
        return total

    def step(self, target: float, low: float, high: float) -> float:
        """The smallest step within bounds at which the indices take at most so many bytes; a bound if there is none."""
        if self.bytes(low) <= target:
            return low if low == _STEPS[0] else math.sqrt(low * high)
        if self.bytes(high) >= target:
            return high if high == _STEPS[1] else math.sqrt(low * high)
        for _ in range(20):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.bytes(middle) > target else (low, middle)
        return high
