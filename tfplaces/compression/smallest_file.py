"""The smallest file that keeps the accuracy: bits and share pruned of every layer, by rate and distortion.

Each layer has options, pairs of bits and share pruned, each with a rate (the entropy of its indices) and a distortion
(its squared error relative to its energy, times how much such an error moves the descriptors). For a price λ of
distortion each layer takes the option of least rate + λ · distortion (Shoham and Gersho 1988), and bisection finds the
λ that spends a given number of bits. A second bisection, around it, finds the smallest number of bits that keeps the
accuracy: each candidate is fine-tuned and measured.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Sequence

import keras
import numpy as np

from tfplaces.coding.channels import channel_rms, channel_view
from tfplaces.coding.statistics import entropy, histogram
from tfplaces.common.errors import UserError
from tfplaces.common.files import write_json
from tfplaces.common.progress import progress
from tfplaces.compression.finetuning import FineTuning
from tfplaces.compression.kernels import Kernel, find_kernels, select_kernels
from tfplaces.compression.places import load_compressed, save_places
from tfplaces.compression.pruning import prune_weights
from tfplaces.compression.quantizers.kmeans import share
from tfplaces.compression.recipe import Compressed, Recipe, compress
from tfplaces.datasets import Images, PlaceDataset, halve_by_place, take_queries
from tfplaces.describers import KerasDescriber, describe_images
from tfplaces.evaluation import score
from tfplaces.models import PlaceNet
from tfplaces.training.work_dir import WorkDir

# Of a kernel that is mostly zero, many levels are not worth their bits. There the steps are small: where one kernel has
# most of the weights, as a whitening has, the file's size goes by its options.
_SPARSE = (0.8, 0.82, 0.84, 0.86, 0.88, 0.89, 0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 0.97)
OPTIONS = tuple(
    (bits, sparsity)
    for sparsities, choices in (((0.0, 0.3, 0.5, 0.7), (2, 3, 4, 5, 6, 8)), (_SPARSE, (2, 3, 4)))
    for sparsity in sparsities
    for bits in choices
)
# Bits a weight between which the size is sought, up to all that `Recipe` allows; each trial halves the range of its
# logarithm, so after the last one the size is known to within 6 %.
RATES, TRIALS = (0.25, 8.0), 6
# An option's rate and distortion are estimated from at most so many output channels of a kernel, and so many weights of
# each. A channel has a scale of its own, which fits few weights too well: better few channels than few weights of each.
_SAMPLED_CHANNELS, _SAMPLED_WEIGHTS = 32, 4096
# Relative energy of the noise that a layer's sensitivity is measured with.
_NOISE = 0.01
# Images that sensitivities are measured on: in all, but of each data set at least as many as the second number.
_PROBES, _PROBES_OF_EACH = 48, 12


def search(
    model: PlaceNet,
    datasets: Sequence[PlaceDataset],
    target_drop: float,
    recipe: Recipe,
    tune: FineTuning,
    work_dir: WorkDir,
    seed: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Compressed:
    """The smallest compressed form of a PlaceNet whose mAP drops by at most so many points.

    Args:
        model: the float network; it is as before in the end.
        datasets: their queries are halved by place. The search judges by the first halves, and by the data set whose
            mAP drops most; it reports the drop on the second halves as well.
        target_drop: points of mAP that no data set may drop by more than.
        recipe: gives layers and grid.
        tune: fine-tunes each candidate.
        work_dir: keeps what was tried; a call that finds it goes on from there.
        seed: seed of the choice of weights and images that are looked at, and of the noise that sensitivities are
            measured with.
        callbacks: to fit with, for example a `Monitor`.

    Raises:
        UserError: no candidate is within the target.
    """
    weights = model.get_weights()
    base = _judge(model, datasets)
    print(
        f"float: mAP {np.mean(base['first']):.2f} on the places that it judges by, {np.mean(base['second']):.2f} on "
        "the others",
        file=sys.stderr,
    )
    layers = _rate_distortion(model, recipe, [dataset.database for dataset in datasets], seed)
    log, best = work_dir.file("search.json"), work_dir.file("best.places")
    tried: list[dict] = []
    if os.path.exists(log):
        with open(log, encoding="utf-8") as file:
            tried = json.load(file)
    low, high = np.log(RATES)
    for trial in range(TRIALS):
        rate = float(np.exp((low + high) / 2))
        ours = _allocate(layers, recipe, rate)
        # Rates that are close may come to the same, and what an interrupted search has tried it need not try again.
        found = next((one for one in tried if one.get("recipe") == ours.to_json()), None)
        if found is None:
            with work_dir.child(f"trial{trial}") as state:
                compressed = compress(model, ours, tune, work_dir=state, callbacks=callbacks)
                scores = _judge(model, datasets)
                drops = {f"drop_{half}_half": float(np.max(base[half] - scores[half])) for half in scores}
                path = work_dir.file("trial.places")
                size = save_places(path, dataclasses.replace(compressed, provenance={**compressed.provenance, **drops}))
                found = {"recipe": ours.to_json(), "bits_per_parameter": 8 * size / model.count_params(), **drops}
                tried.append(found)
                if drops["drop_first_half"] <= target_drop:
                    os.replace(path, best)
                write_json(log, tried)
            model.set_weights(weights)
        fits = found["drop_first_half"] <= target_drop
        low, high = (low, np.log(rate)) if fits else (np.log(rate), high)
        print(
            f"trial {trial + 1} of {TRIALS}: {found['bits_per_parameter']:.3f} bits per parameter, drop "
            f"{found['drop_first_half']:.2f} on the places that it judges by ({'within' if fits else 'beyond'} the "
            f"target), {found['drop_second_half']:.2f} on the others",
            file=sys.stderr,
        )
    if not os.path.exists(best):
        largest = max(one["bits_per_parameter"] for one in tried)
        raise UserError(
            f"none of the {len(tried)} files tried, the largest of {largest:.2f} bits per parameter, is within a drop "
            f"of {target_drop} points; fine-tune for more epochs, or allow a larger drop"
        )
    return load_compressed(best)


def _judge(model: PlaceNet, datasets: Sequence[PlaceDataset]) -> dict[str, np.ndarray]:
    """mAP of each data set on either half of its queries; the halves share no place."""
    describer = KerasDescriber(model)
    scores: dict[str, list[float]] = {"first": [], "second": []}
    for dataset in datasets:
        queries = describe_images(describer, dataset.queries, "queries")
        database = describe_images(describer, dataset.database, "database")
        for half, chosen in zip(scores, halve_by_place(dataset), strict=True):
            scores[half].append(score(take_queries(dataset, chosen), queries[chosen], database).map)
    return {half: np.array(maps) for half, maps in scores.items()}


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A kernel's options.

    Attributes:
        name: name of the kernel.
        size: its number of weights.
        rates: for each of `OPTIONS` the entropy of all indices, bits.
        distortions: expected distance that the descriptors move by, 1 − cosine.
    """

    name: str
    size: int
    rates: np.ndarray
    distortions: np.ndarray


def _rate_distortion(model: PlaceNet, recipe: Recipe, databases: Sequence[Images], seed: int) -> list[_Layer]:
    rng = np.random.default_rng(seed)
    kernels = select_kernels(find_kernels(model), recipe.layers)
    probes = _probes(databases, model.input_size, rng)
    describer = KerasDescriber(model)
    still = describer.describe(probes)
    layers = []
    with progress(len(kernels), "rate and distortion", "layer") as bar:
        for kernel in kernels:
            weights = kernel.variable.numpy()
            kernel.variable.assign(weights + _noise(weights, kernel, rng))
            sensitivity = float(np.mean(1 - np.sum(describer.describe(probes) * still, axis=1))) / _NOISE
            kernel.variable.assign(weights)
            rates, errors = _kernel_options(weights, kernel, recipe.grid, rng)
            layers.append(_Layer(kernel.name, kernel.size, rates * kernel.size, errors * sensitivity))
            bar.update()
    return layers


def _probes(databases: Sequence[Images], size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Random images of all databases, as many of each (all of it where it has fewer), `[n, height, width, 3]`."""
    count = max(_PROBES_OF_EACH, _PROBES // len(databases))
    return np.stack(
        [images.read(i, size) for images in databases for i in np.sort(rng.permutation(len(images))[:count])]
    )


def _noise(weights: np.ndarray, kernel: Kernel, rng: np.random.Generator) -> np.ndarray:
    """Noise of a hundredth of the energy of each output channel."""
    view = channel_view(weights, kernel.channel_axis)
    noise = rng.standard_normal(view.shape, np.float32)
    noise *= np.sqrt(_NOISE, dtype=np.float32) * channel_rms(view)[:, None]
    return noise.reshape(weights.shape)


def _kernel_options(
    weights: np.ndarray, kernel: Kernel, grid: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Bits a weight of each option, and its squared error relative to the energy of the channels."""
    sample = _sample(channel_view(weights, kernel.channel_axis), rng)
    rms = channel_rms(sample)[:, None]
    rates, errors = [], []
    for bits, sparsity in OPTIONS:
        pruned = sample.copy()
        prune_weights(pruned, 1, sparsity)
        shared = share(pruned, 1, bits, grid)
        rates.append(entropy(histogram(shared.indices, len(shared.levels))) / sample.size)
        errors.append(float(np.mean(np.square((shared.weights() - sample) / rms), dtype=np.float64)))
    return np.array(rates), np.array(errors)


def _sample(view: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Random weights of random channels of an `[outer, channels, inner]` view, as `[weights, channels, 1]`.

    Each channel's weights are drawn on their own: the weights of a row belong together, as those of one NetVLAD cluster
    do in a whitening, so that whole rows would say less.
    """
    outer, channels, inner = view.shape
    chosen = np.sort(rng.permutation(channels)[:_SAMPLED_CHANNELS])
    count = min(outer * inner, _SAMPLED_WEIGHTS)
    places = np.stack([rng.choice(outer * inner, count, replace=False, shuffle=False) for _ in chosen], axis=1)
    return np.ascontiguousarray(view[places // inner, chosen, places % inner])[:, :, None]


def _allocate(layers: Sequence[_Layer], recipe: Recipe, rate: float) -> Recipe:
    """The recipe of least distortion at a mean rate, in bits a weight."""
    budget = rate * sum(layer.size for layer in layers)
    low, high = -60.0, 60.0
    for _ in range(60):
        price = (low + high) / 2
        chosen = [int(np.argmin(layer.rates + np.exp(price) * layer.distortions)) for layer in layers]
        spent = sum(layer.rates[option] for layer, option in zip(layers, chosen, strict=True))
        low, high = (price, high) if spent <= budget else (low, price)
    chosen = [int(np.argmin(layer.rates + np.exp(low) * layer.distortions)) for layer in layers]
    picked = {layer.name: OPTIONS[option] for layer, option in zip(layers, chosen, strict=True)}
    return dataclasses.replace(
        recipe,
        bits_for={name: bits for name, (bits, _) in picked.items()},
        sparsity=0.0,
        sparsity_for={name: sparsity for name, (_, sparsity) in picked.items() if sparsity},
        sparsity_scope="layer",
    )
