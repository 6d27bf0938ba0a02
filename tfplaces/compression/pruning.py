"""Pruning by magnitude: which weights become, and stay, zero."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tfplaces.coding.channels import ChannelAxis, channel_rms, channel_view, row_blocks
from tfplaces.common.errors import UserError
from tfplaces.compression.kernels import Kernel, find_kernels, select_kernels, value_for
from tfplaces.training.model_training import check_no_moving_average, optimizers_of

# step -> (should prune at this step, threshold or sparsity), as TF-MOT's PolynomialDecay and ConstantSparsity.
Schedule = Callable[[int], tuple[bool, float]]

SCOPES = ("global", "layer")
# Kernels of up to so many weights are compared weight by weight.
_EXACT = 2**17


class EmptyKernelError(UserError):
    """Pruning would leave nothing of a kernel."""


def prune_model(
    model: keras.Model,
    *,
    threshold: float | None = None,
    sparsity: float | None = None,
    sparsity_for: Mapping[str, float] | None = None,
    scope: str = "global",
    layers: str = "*",
    kernels: Sequence[Kernel] | None = None,
) -> None:
    """Zeroes the smallest weights of a model's kernels, in place.

    By threshold, magnitudes are taken as they are. By sparsity, they are taken relative to the RMS of their output
    channel: of a PCA whitening, whose outputs differ in scale by an order of magnitude, plain magnitudes would prune
    the leading dimensions altogether. Where the share is of all parameters, kernels are compared by LAMP scores (Lee et
    al., ICLR 2021): the square of a weight over the sum of the squares of its kernel's weights that are not smaller.
    The scale of a kernel does not matter, large kernels are pruned more than small ones, and none is pruned away.

    Args:
        model: any Keras model.
        threshold: weights of smaller magnitude become zero.
        sparsity: or, a share, at least 0 and below 1: of all parameters of the model, biases included, where the scope
            is global; of the weights of each kernel where it is layer.
        sparsity_for: where the scope is layer, the share of some layers, by shell globs, see `value_for`.
        scope: global or layer.
        layers: globs of the layers to prune, see `select_kernels`.
        kernels: all kernels of the model, where `find_kernels` has found them before.

    Raises:
        EmptyKernelError: nothing would survive in some kernel; the model is then as it was.
        UserError: neither or both of threshold and sparsity, a number out of range, or a kernel that is not float32.
    """
    if (threshold is None) == (sparsity is None):
        raise UserError("give a threshold or a sparsity")
    if threshold is not None and not threshold >= 0:
        raise UserError(f"threshold={threshold}: a magnitude, at least 0")
    for share in (sparsity or 0, *(sparsity_for or {}).values()):
        if not 0 <= share < 1:
            raise UserError(f"sparsity={share}: a share, at least 0 and below 1")
    if scope not in SCOPES:
        raise UserError(f"scope {scope!r}: {' or '.join(SCOPES)}")
    if sparsity_for and scope != "layer":
        raise UserError("sparsities of single layers need the scope layer")
    kernels = select_kernels(find_kernels(model) if kernels is None else kernels, layers)
    scores = [_Scores(k.variable.numpy(), k.channel_axis, relative=sparsity is not None) for k in kernels]
    if sparsity is None:
        limits = [np.float32(threshold)] * len(scores)
        counts = [score.count_below(limit) for score, limit in zip(scores, limits, strict=True)]
    elif scope == "layer":
        shares = value_for(kernels, sparsity_for or {}, sparsity)
        counts = [round(shares[kernel.name] * kernel.size) for kernel in kernels]
    else:
        count, prunable = round(sparsity * model.count_params()), sum(kernel.size for kernel in kernels)
        if count > prunable:
            limit = prunable / model.count_params()
            raise UserError(f"sparsity={sparsity}: only {limit:.3f} of the parameters can be pruned")
        counts = _lamp_counts(scores, count)
    if sparsity is not None:
        limits = [magnitude_quantile(s.blocks, count) for s, count in zip(scores, counts, strict=True)]
    for kernel, score, limit, count in zip(kernels, scores, limits, counts, strict=True):
        if count == kernel.size:
            largest = max(float(np.max(block)) for block in score.blocks())
            raise EmptyKernelError(
                f"pruning below {limit:g} leaves nothing of {kernel.name} (largest magnitude {largest:g}): lower the "
                "threshold or the sparsity, or leave the layer out"
            )
    for kernel, score, limit, count in zip(kernels, scores, limits, counts, strict=True):
        if count:
            score.zero_below(limit, count)
            kernel.variable.assign(score.weights)


class _Scores:
    """The magnitudes of a kernel by which it is pruned, in blocks."""

    def __init__(self, weights: np.ndarray, channel_axis: ChannelAxis, relative: bool):
        self.weights = weights
        self._view = channel_view(weights, channel_axis)
        self._factors = 1 / channel_rms(self._view) if relative else np.ones(1, np.float32)

    def blocks(self) -> Iterator[np.ndarray]:
        for rows in row_blocks(self._view):
            yield np.abs(self._view[rows]) * self._factors[:, None]

    def distribution(self) -> tuple[np.ndarray, np.ndarray]:
        """Magnitudes, ascending, and how many there are of each; of a large kernel to within 1 %."""
        if self.weights.size <= _EXACT:
            return np.unique(np.concatenate([block.ravel() for block in self.blocks()]), return_counts=True)
        counts = _histogram(bits >> 16 for bits in map(_magnitude_bits, self.blocks()))
        used = np.flatnonzero(counts)
        # Zero is a value of its own; of the others the middle of the bin.
        middle = np.where(used > 0, (used << 16) + 2**15, 0).astype(np.uint32)
        return middle.view(np.float32), counts[used]

    def count_below(self, limit: np.float32) -> int:
        return sum(int(np.count_nonzero(block < limit)) for block in self.blocks())

    def zero_below(self, limit: np.float32, count: int) -> None:
        """Zeroes so many weights below a limit; where there are more, the first of those next to it stay."""
        spared = self.count_below(limit) - count
        for rows, block in zip(row_blocks(self._view), self.blocks(), strict=True):
            below = block < limit
            if spared:
                ties = np.flatnonzero(block == np.nextafter(limit, np.float32(0)))[:spared]
                below.flat[ties] = False
                spared -= len(ties)
            self._view[rows][below] = 0


def _lamp_counts(kernels: Sequence[_Scores], count: int) -> list[int]:
    """How many weights of each kernel are among so many of the smallest LAMP scores of all."""
    lamps, numbers, owners = [], [], []
    for owner, kernel in enumerate(kernels):
        magnitudes, number = kernel.distribution()
        power = np.square(magnitudes.astype(np.float64))
        not_smaller = np.cumsum((power * number)[::-1])[::-1]
        lamps.append(power / np.maximum(not_smaller, np.finfo(np.float64).tiny))
        numbers.append(number)
        owners.append(np.full(len(number), owner))
    order = np.argsort(np.concatenate(lamps), kind="stable")
    number_of, owner_of = np.concatenate(numbers)[order], np.concatenate(owners)[order]
    before = np.cumsum(number_of) - number_of
    taken = np.clip(count - before, 0, number_of)
    return np.bincount(owner_of, taken, minlength=len(kernels)).astype(np.int64).tolist()


def prune_weights(weights: np.ndarray, channel_axis: ChannelAxis, sparsity: float) -> None:
    """Zeroes a share of a kernel's weights in place, those of least magnitude relative to their channel's RMS."""
    scores, count = _Scores(weights, channel_axis, relative=True), round(sparsity * weights.size)
    scores.zero_below(magnitude_quantile(scores.blocks, count), count)


def magnitude_quantile(blocks: Callable[[], Iterable[np.ndarray]], count: int) -> np.float32:
    """The smallest threshold below which at least `count` magnitudes lie, found without sorting or copying all.

    Magnitudes of float32 order like their bit patterns, so the upper and then the lower 16 bits are counted.

    Args:
        blocks: called twice, gives the values, float32 of any shape, in parts.
        count: 0 to the number of values.
    """
    if count <= 0:
        return np.float32(0)
    high = _histogram(bits >> 16 for bits in map(_magnitude_bits, blocks()))
    prefix = int(np.searchsorted(np.cumsum(high), count))
    below = int(high[:prefix].sum())
    low = _histogram(bits[bits >> 16 == prefix] & 0xFFFF for bits in map(_magnitude_bits, blocks()))
    suffix = int(np.searchsorted(np.cumsum(low), count - below))
    # The next float above the count-th smallest magnitude.
    return np.uint32((prefix << 16) + suffix + 1).view(np.float32)


def _magnitude_bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint32) & np.uint32(0x7FFFFFFF)


def _histogram(parts: Iterable[np.ndarray]) -> np.ndarray:
    counts = np.zeros(2**16, np.int64)
    for part in parts:
        counts += np.bincount(part, minlength=2**16)
    return counts


class Pruning(keras.callbacks.Callback):
    """Prunes while a model is fitted, when and as far as a schedule says; pruned weights stay zero.

    For anybody's `fit`. On a `PrunedTraining` the step itself keeps the zeros; on any other model this callback does
    after every batch, at the price of a mask for each kernel; list it before callbacks that save after a batch. What is
    zero when the fit begins stays zero as well, but for kernels that are all zero: a fit can be taken up again.

    Args:
        threshold: a schedule of thresholds, for example TF-MOT's `PolynomialDecay(0, 0.01, 0, 1000)`: called with the
            number of steps taken, gives whether to prune now and below what magnitude.
        sparsity: or, a schedule of shares.
        scope, layers: see `prune_model`.

    Raises:
        UserError: both schedules or none. From `fit`: the optimizer has `use_ema`, which would bring back what was
            pruned, or a model other than a `PrunedTraining` is compiled with `steps_per_execution` above 1.
    """

    def __init__(
        self,
        *,
        threshold: Schedule | None = None,
        sparsity: Schedule | None = None,
        scope: str = "global",
        layers: str = "*",
    ):
        super().__init__()
        schedule = sparsity if threshold is None else threshold
        if schedule is None or (threshold is not None and sparsity is not None):
            raise UserError("give a schedule of thresholds or one of sparsities")
        self._what, self._schedule = "sparsity" if threshold is None else "threshold", schedule
        self._scope, self._layers = scope, layers
        self._masks: Sequence[tuple] = ()

    def on_train_begin(self, logs=None):
        from tfplaces.compression.finetuning import PrunedTraining, SharedTraining

        if isinstance(self.model, SharedTraining):
            raise UserError("the weights are shared already: prune before sharing")
        check_no_moving_average(self.model)
        self._step_keeps_zeros = isinstance(self.model, PrunedTraining)
        if not self._step_keeps_zeros and self.model.steps_per_execution != 1:
            raise UserError(
                "with steps_per_execution above 1 no callback keeps zeros between steps: fit a PrunedTraining of the "
                "model, whose steps do"
            )
        self._pruned = self.model.model if self._step_keeps_zeros else self.model
        self._next_step = self._taken()
        self._keep_zeros()

    def on_train_batch_begin(self, batch, logs=None):
        # Of all steps since the last call, as an execution may be of several.
        due = [
            value for should, value in map(self._schedule, range(self._next_step, self._taken() + 1)) if bool(should)
        ]
        self._next_step = self._taken() + 1
        if due:
            limit: dict[str, Any] = {self._what: float(due[-1])}
            prune_model(self._pruned, **limit, scope=self._scope, layers=self._layers)
            self._keep_zeros()

    def on_train_batch_end(self, batch, logs=None):
        for variable, mask in self._masks:
            variable.assign(ops.where(mask, variable, 0.0))

    def _taken(self) -> int:
        """Steps that the optimizer has taken; its count goes on where an interrupted fit is taken up again."""
        return int(optimizers_of(self.model)[0].iterations.numpy())

    def _keep_zeros(self) -> None:
        if not self._step_keeps_zeros:
            kernels = [kernel.variable for kernel in select_kernels(find_kernels(self._pruned), self._layers)]
            masks = ((kernel, ops.not_equal(kernel, 0)) for kernel in kernels)
            self._masks = [(kernel, mask) for kernel, mask in masks if bool(ops.any(mask))]
