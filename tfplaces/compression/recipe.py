"""Compression of a network: prune by magnitude, fine-tune, share the rest, fine-tune again."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfplaces.coding import SharedKernel
from tfplaces.common.errors import UserError
from tfplaces.common.keras_private import flat_layers
from tfplaces.common.progress import progress
from tfplaces.compression.finetuning import FineTuning, PrunedTraining, SharedTraining
from tfplaces.compression.kernels import Kernel, find_kernels, select_kernels, value_for
from tfplaces.compression.pruning import SCOPES, Pruning, prune_model
from tfplaces.compression.quantizers import QUANTIZERS
from tfplaces.compression.quantizers.kmeans import GRIDS, check_bits, share
from tfplaces.layers import PCAWhitening
from tfplaces.training.checkpoint import Checkpoint
from tfplaces.training.work_dir import WorkDir

# Pruning along the steps ends when this part of them is done, and prunes so often until then.
_RAMP, _RAMP_PRUNINGS = 0.6, 20
# Weights that the penalty has pushed below the threshold are pruned after every so many steps.
_CONSTANT_FREQUENCY = 100

# Beyond eight bits a weight there is nothing to gain: this leaves room for what a file keeps in float32.
MAX_RATE = 16
SCHEDULES = ("constant", "polynomial")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is compressed.

    Attributes:
        bits: a kernel has at most 2^bits levels, zero among them; 2 to 8.
        bits_for: other bits for some layers, by shell globs; the last glob that matches a layer counts.
        threshold: weights of smaller magnitude become zero; a finite number, at least 0.
        sparsity: instead of a threshold, the share of all parameters that becomes zero, the smallest first, at least 0
            and below 1; see `prune_model`.
        sparsity_for: where the scope is layer, another share for some layers, by shell globs.
        sparsity_scope: global means that the sparsity is a share of all parameters, layer that it is one of each
            kernel.
        layers: globs of the layers to compress, separated by commas; `!` excludes. The other layers stay as they are.
        schedule: when weights are pruned where the network is fine-tuned: constant prunes all before the first step,
            polynomial prunes more and more along the steps.
        l1: weight λ of the L1 penalty on all kernels while the network is fine-tuned after pruning; at least 0.
        l1_for: another λ for some layers, by shell globs.
        grid: int8 puts levels where an int8 TFLite can hold them exactly, none leaves them free.
        refresh: number of steps of fine-tuning after which weights are assigned to levels anew; 0 means never.
        quantizer: kmeans, or rate_distortion for a file of a given rate, see `compress_to_rate`: dense kernels are
            rounded with error feedback, and bits are those of the other kernels.
        rate: with rate_distortion, the mean bits a parameter of the whole file, above 0 and at most 16.

    Raises:
        UserError: a value is out of range or not a number, or two values exclude each other.
    """

    bits: int = 8
    bits_for: Mapping[str, int] = dataclasses.field(default_factory=dict)
    threshold: float | None = None
    sparsity: float | None = None
    sparsity_for: Mapping[str, float] = dataclasses.field(default_factory=dict)
    sparsity_scope: str = "global"
    layers: str = "*"
    schedule: str = "constant"
    l1: float = 0.0
    l1_for: Mapping[str, float] = dataclasses.field(default_factory=dict)
    grid: str = "int8"
    refresh: int = 0
    quantizer: str = "kmeans"
    rate: float | None = None

    def __post_init__(self) -> None:
        for bits in (self.bits, *self.bits_for.values()):
            check_bits(bits)
        _check_count("refresh", self.refresh)
        for l1 in (self.l1, *self.l1_for.values()):
            _check_range("l1", l1, math.inf, "a finite number, at least 0")
        if self.threshold is not None:
            _check_range("threshold", self.threshold, math.inf, "a finite magnitude, at least 0")
        for sparsity in (0.0 if self.sparsity is None else self.sparsity, *self.sparsity_for.values()):
            _check_range("sparsity", sparsity, 1.0, "a share, at least 0 and below 1")
        if self.threshold is not None and self.sparsity is not None:
            raise UserError("give a threshold or a sparsity, not both")
        if self.sparsity_for and (self.sparsity is None or self.sparsity_scope != "layer"):
            raise UserError("sparsities of single layers need a sparsity for the others and the scope layer")
        if self.sparsity_for and self.schedule != "constant":
            raise UserError("sparsities of single layers are pruned at once: the schedule has to be constant")
        for key, known in (
            ("sparsity_scope", SCOPES), ("schedule", SCHEDULES), ("grid", GRIDS), ("quantizer", QUANTIZERS)
        ):  # fmt: skip
            if getattr(self, key) not in known:
                raise UserError(f"{key} {getattr(self, key)!r}: {' or '.join(known)}")
        self._check_rate()

    def _check_rate(self) -> None:
        """Raises UserError where the quantizer and the rate do not go together, or with the rest."""
        if self.quantizer == "kmeans":
            if self.rate is not None:
                raise UserError("a rate needs the quantizer rate_distortion; with kmeans give bits")
            return
        if isinstance(self.rate, bool) or not isinstance(self.rate, numbers.Real) or not 0 < self.rate <= MAX_RATE:
            raise UserError(f"rate={self.rate!r}: mean bits a parameter of the file, above 0 and at most {MAX_RATE}")
        if self.prunes or self.l1 or self.l1_for or self.refresh or self.schedule != "constant":
            raise UserError("the quantizer rate_distortion neither prunes nor fine-tunes: its rate decides on zeros")
        if self.grid != "int8":
            raise UserError("the quantizer rate_distortion puts levels on the int8 grid: leave the grid as it is")

    @property
    def prunes(self) -> bool:
        return bool(self.threshold or self.sparsity or self.sparsity_for)

    def to_json(self) -> dict[str, Any]:
        """The bits, and every other value that is not the default, as plain JSON types."""
        values = dataclasses.asdict(self)
        return {"bits": self.bits} | {
            field.name: values[field.name] for field in dataclasses.fields(self)
            if field.name != "bits" and values[field.name] not in (field.default, {})
        }  # fmt: skip


def _check_range(name: str, value: float, limit: float, expected: str) -> None:
    """Raises UserError unless a value is a number from 0 to below a limit; NaN is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 <= value < limit:
        raise UserError(f"{name}={value!r}: {expected}")


def _check_count(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 0:
        raise UserError(f"{name}={value!r}: a whole number, at least 0")


@dataclasses.dataclass(frozen=True)
class Compressed:
    """A compressed network.

    Attributes:
        model: the network; its kernels hold exactly the shared weights.
        shared: the sharing of each compressed kernel, by the kernel's name.
        provenance: what the network was compressed with, as plain JSON types.
    """

    model: keras.Model
    shared: dict[str, SharedKernel]
    provenance: dict

    @property
    def pruned(self) -> float:
        """Percentage of all parameters, biases included, that are kernel weights of zero."""
        zeros = sum(k.size - np.count_nonzero(k.variable.numpy()) for k in find_kernels(self.model))
        return 100 * zeros / self.model.count_params()


def compress(
    model: keras.Model,
    recipe: Recipe,
    tune: FineTuning | None = None,
    *,
    work_dir: WorkDir | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Compressed:
    """Compresses a network in place: prunes, fine-tunes, shares what is left, fine-tunes again.

    Args:
        model: the float network.
        recipe: what to do to it.
        tune: how to fine-tune; without it nothing is trained.
        work_dir: folder where fine-tuning keeps its state after every epoch. A call with the same network, recipe and
            fine-tuning that finds it there goes on from it, to the same result. The caller removes it.
        callbacks: to fit with, for example a `Monitor`.

    Raises:
        UserError: the recipe does not fit the network, which may then be pruned already.
    """
    # Before any work: globs that match nothing.
    value_for(select_kernels(find_kernels(model), recipe.layers), recipe.bits_for, recipe.bits)
    if recipe.quantizer != "kmeans":
        raise UserError(f"the quantizer {recipe.quantizer} goes by a rate: call compress_to_rate")
    rescale_whitenings(model)
    target: dict[str, Any] = {"threshold": recipe.threshold} if recipe.threshold else {"sparsity": recipe.sparsity}
    options: dict[str, Any] = {"scope": recipe.sparsity_scope, "layers": recipe.layers}
    if recipe.sparsity_for:
        options["sparsity_for"] = recipe.sparsity_for
    ramps = bool(tune) and recipe.prunes and recipe.schedule == "polynomial"
    if recipe.prunes and not ramps:
        prune_model(model, **target, **options)
    if tune and (recipe.prunes or recipe.l1 or recipe.l1_for):
        # A share that is pruned before stays pruned; below a threshold the penalty brings ever more weights.
        pruning = [Pruning(**_schedule(target, tune.steps, ramps), **options)] if ramps or recipe.threshold else []
        fitted = PrunedTraining(tune.model, recipe.l1, recipe.l1_for)
        tune.fit(fitted, [*pruning, *callbacks], _checkpoint(work_dir, "pruned"), keep_best=not ramps)
        if recipe.prunes:
            prune_model(model, **target, **options)
    shared = share_model(model, recipe.bits, bits_for=recipe.bits_for, grid=recipe.grid, layers=recipe.layers)
    if tune:
        fitted = SharedTraining(tune.model, shared, recipe.refresh)
        tune.fit(fitted, callbacks, _checkpoint(work_dir, "shared"), keep_best=True)
        shared = fitted.settle()
    return Compressed(model, shared, recipe.to_json())


def rescale_whitenings(model: keras.Model) -> None:
    """Gives every whitening the RMS that thresholds are meant for; the descriptors stay as they are."""
    for layer in flat_layers(model):
        if isinstance(layer, PCAWhitening):
            layer.rescale()


def _checkpoint(work_dir: WorkDir | None, name: str) -> Checkpoint | None:
    return None if work_dir is None else work_dir.checkpoint(name)


def _schedule(target: Mapping[str, float], steps: int, ramps: bool) -> dict[str, Any]:
    from tfplaces.compression.tfmot import import_tfmot

    schedules = import_tfmot().sparsity.keras
    ((what, value),) = target.items()
    if not ramps:
        return {what: schedules.ConstantSparsity(value, 0, frequency=_CONSTANT_FREQUENCY)}
    end = max(1, int(_RAMP * steps))
    return {what: schedules.PolynomialDecay(0.0, value, 0, end, frequency=max(1, end // _RAMP_PRUNINGS))}


def share_model(
    model: keras.Model,
    bits: int = 8,
    *,
    bits_for: Mapping[str, int] | None = None,
    grid: str = "int8",
    layers: str = "*",
) -> dict[str, SharedKernel]:
    """Shares the weights of each kernel of a model, in place, among at most 2^bits levels; zeros stay zero.

    Args:
        model: any Keras model.
        bits: 2 to 8.
        bits_for: other bits for some layers, by shell globs, see `value_for`.
        grid: see `share`.
        layers: globs of the layers to share, see `select_kernels`.

    Returns:
        the sharing of each kernel by its name.
    """
    kernels = select_kernels(find_kernels(model), layers)
    return share_kernels(kernels, value_for(kernels, bits_for or {}, bits), grid)


def share_kernels(kernels: Sequence[Kernel], bits_of: Mapping[str, int], grid: str) -> dict[str, SharedKernel]:
    """As `share_model`, for kernels that are chosen, with the bits of each by its name."""
    shared = {}
    with progress(sum(kernel.size for kernel in kernels), "sharing", "weight") as bar:
        for kernel in kernels:
            try:
                ours = share(kernel.variable.numpy(), kernel.channel_axis, bits_of[kernel.name], grid)
            except ValueError as error:
                raise UserError(f"{kernel.name}: {error}") from None
            shared[kernel.name] = ours
            kernel.variable.assign(ours.weights())
            bar.update(kernel.size)
    return shared
