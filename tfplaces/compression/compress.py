"""Compression of a network: prune by magnitude, fine-tune, share the rest, fine-tune again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import numpy as np

from tfplaces.compression.finetuning import PrunedTraining, SharedTraining
from tfplaces.compression.kernels import Kernel, find_kernels
from tfplaces.compression.pruning import magnitude_quantile, prune
from tfplaces.compression.sharing import SharedKernel, check_bits, share
from tfplaces.progress import progress


def compress(
    model: keras.Model,
    *,
    bits: int = 8,
    threshold: float | None = None,
    sparsity: float | None = None,
    l1: float = 0.0,
    tune: Callable[[keras.Model], None] | None = None,
) -> Compressed:
    """Compresses a network in place: prunes, fine-tunes, shares what is left, fine-tunes again.

    Args:
        model: the float network.
        bits: at most 2^bits levels a kernel, zero among them, 2 to 8.
        threshold: weights of smaller magnitude become zero.
        sparsity: or, the share of all parameters that becomes zero, 0 to 1, the smallest magnitudes first.
        l1: weight of the L1 penalty on all kernels while fine-tuning after pruning.
        tune: fits the model that it is given, a `PrunedTraining` and later a `SharedTraining` of `model`; for example
            from `distillation` or `triplet_tuning`. Without it nothing is trained.
    """
    check_bits(bits)
    masks = prune_model(model, threshold=threshold, sparsity=sparsity)
    if tune and (masks or l1):
        tune(PrunedTraining(model, masks, l1))
        if threshold and l1:
            # The penalty has pushed more weights under the threshold.
            prune_model(model, threshold=threshold)
    shared = share_model(model, bits)
    if tune:
        training = SharedTraining(model, shared)
        tune(training)
        shared = training.updated()
    return Compressed(model, shared, {"bits": bits, "threshold": threshold, "sparsity": sparsity, "l1": l1})


@dataclasses.dataclass(frozen=True)
class Compressed:
    """A compressed network.

    Attributes:
        model: the network; its kernels hold exactly the shared weights.
        shared: the sharing of each kernel, by its name.
        provenance: how it came about, plain JSON types.
    """

    model: keras.Model
    shared: dict[str, SharedKernel]
    provenance: dict

    @property
    def pruned(self) -> float:
        """Percentage of all parameters, biases included, that are kernel weights of zero."""
        zeros = sum(np.count_nonzero((s.levels == 0)[s.indices]) for s in self.shared.values())
        return 100 * zeros / self.model.count_params()


def pruning_threshold(kernels: list[Kernel], parameters: int, share_pruned: float) -> float:
    """The magnitude below which lies a given share of a network's parameters.

    Args:
        kernels: what may be pruned.
        parameters: all parameters of the network, biases included.
        share_pruned: 0 to 1, of all parameters.

    Raises:
        ValueError: the share is out of range or more than the kernels have.
    """
    if not 0 <= share_pruned < 1:
        raise ValueError(f"sparsity={share_pruned}: a share of all parameters, at least 0 and below 1")
    count = round(share_pruned * parameters)
    prunable = sum(int(np.prod(kernel.variable.shape)) for kernel in kernels)
    if count > prunable:
        raise ValueError(f"sparsity={share_pruned}: only {prunable / parameters:.3f} of the parameters can be pruned")
    return magnitude_quantile((kernel.variable.numpy() for kernel in kernels), count)


def prune_model(
    model: keras.Model, *, threshold: float | None = None, sparsity: float | None = None
) -> dict[str, np.ndarray]:
    """Prunes a model in place, by a threshold of magnitude or by the share of all parameters that is to go.

    Returns:
        for each kernel by name the mask of the survivors; empty where neither is given.
    """
    if threshold is not None and sparsity is not None:
        raise ValueError("give a threshold or a sparsity, not both")
    kernels = find_kernels(model)
    if sparsity is not None:
        threshold = pruning_threshold(kernels, model.count_params(), sparsity)
    return prune(kernels, threshold) if threshold else {}


def share_model(model: keras.Model, bits: int) -> dict[str, SharedKernel]:
    """Shares the weights of each kernel of a model, in place, among at most 2^bits levels; zeros stay zero."""
    kernels = find_kernels(model)
    shared = {}
    with progress(len(kernels), "sharing", "layer") as bar:
        for kernel in kernels:
            try:
                shared[kernel.name] = share(kernel.variable.numpy(), kernel.channel_axis, bits)
            except ValueError as error:
                raise ValueError(f"{kernel.name}: {error}") from None
            kernel.variable.assign(shared[kernel.name].weights())
            bar.update()
    return shared
