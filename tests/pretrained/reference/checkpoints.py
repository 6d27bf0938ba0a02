"""A synthetic checkpoint for each kind of published file, with what its network gives for an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reference import matlab_networks, networks, weights
from reference.operations import Arrays, linear, torch_normalize
from reference.torch_files import write_safetensors, write_zip

__all__ = ["CASES", "Case", "images"]

CLUSTERS, WHITENED = 6, 24
# Clusters that hardly any feature belongs to, and the length of their residual before it is normalised.
RARE = {4: 1e-6, 5: 1e-9}


@dataclasses.dataclass(frozen=True)
class Case:
    """A file and its network.

    Attributes:
        kind: what it has to be recognised as.
        write: writes the file below a folder, and returns its path.
        run: the network, for RGB `[height, width, 3]`: what its layers give, and the descriptor as `output`.
        size: height and width of the images.
        left_out: what has to be among the things that are said to be left out.
        norm: the form of normalisation that the source has.
    """

    kind: str
    write: Callable[[Path], Path]
    run: Callable[[np.ndarray], Arrays]
    size: tuple[int, int] = (64, 96)
    left_out: tuple[str, ...] = ()
    norm: str = "torch"


def images(size: tuple[int, int], count: int = 2, seed: int = 3) -> np.ndarray:
    """Images that differ, with large and small structures: uint8 `[count, height, width, 3]`."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 120, (count, *size, 3))
    for scale in (8, 24):
        coarse = rng.integers(0, 68, (count, -(-size[0] // scale), -(-size[1] // scale), 3))
        out += coarse.repeat(scale, 1).repeat(scale, 2)[:, : size[0], : size[1]]
    return out.astype(np.uint8)


def _zip(content: Any) -> Callable[[Path], Path]:
    return lambda folder: write_zip(folder / "checkpoint.pth", content)


def _vocabulary(features: np.ndarray, bias: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """A random NetVLAD, two of whose clusters are nearly empty: weight `[K, D, 1, 1]`, centroids `[K, D]`, bias.

    Args:
        features: map of local features `[channels, height, width]` that the clusters are rare for.
        bias: whether the rarity lies in a bias, or in weights against the mean direction of the features.
    """
    rng = np.random.default_rng(7)
    channels = len(features)
    x = torch_normalize(features, 0).reshape(channels, -1)
    centroids = x[:, rng.integers(0, x.shape[1], CLUSTERS)].T + 0.3 * rng.standard_normal((CLUSTERS, channels)) / 16
    weight = 10 * centroids / np.linalg.norm(centroids, axis=1, keepdims=True)
    offsets = 0.3 * rng.standard_normal(CLUSTERS)
    mean = x.mean(1) / np.linalg.norm(x.mean(1))
    assert (mean @ x).min() > 0.05  # or no weight could make a cluster rare everywhere
    for k, length in RARE.items():
        low, high = 0.0, 3000.0
        for _ in range(60):
            middle = (low + high) / 2
            if bias:
                offsets[k] = -middle
            else:
                weight[k] = -middle * mean
            made = networks.netvlad(features, weight[:, :, None, None], centroids, offsets if bias else None)
            low, high = (middle, high) if np.linalg.norm(made["residuals"][k]) > length else (low, middle)
    made = (weight[:, :, None, None], centroids, offsets if bias else None)
    return tuple(None if array is None else array.astype(np.float32) for array in made)  # type: ignore[return-value]


def _whitening(inputs: int, dtype: str = "float32") -> tuple[np.ndarray, np.ndarray]:
    """Weight `[outputs, inputs]` and bias."""
    rng = np.random.default_rng(9)
    return rng.standard_normal((WHITENED, inputs)).astype(dtype), rng.standard_normal(WHITENED).astype(dtype)


def _vgg16_features(image: np.ndarray, scaled: Callable[[np.ndarray], np.ndarray]) -> Arrays:
    return networks.vgg16(scaled(image), weights.vgg16(), "")


def _vgg16_netvlad(
    scaled: Callable[[np.ndarray], np.ndarray], bias: bool = False, whitening: str | None = None
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray] | None, Callable]:
    """A vocabulary, a whitening, and the whole network."""
    features = _vgg16_features(images((64, 96))[0], scaled)["conv5_3"]
    vocabulary = _vocabulary(features, bias)
    wpca = _whitening(CLUSTERS * 512, whitening) if whitening else None

    def run(image: np.ndarray) -> Arrays:
        out = _vgg16_features(image, scaled)
        out |= networks.netvlad(out["conv5_3"], *vocabulary)
        out["output"] = out["netvlad"]
        if wpca:
            out["output"] = torch_normalize(wpca[0].astype(np.float64) @ out["netvlad"] + wpca[1], 0)
        return out

    return vocabulary, wpca, run


def pytorch_netvlad(bias: bool = False) -> Case:
    """A training checkpoint of two GPUs; with `bias` a plain one of vladv2."""
    (weight, centroids, offsets), _, run = _vgg16_netvlad(networks.imagenet, bias)
    module = "" if bias else "module."
    state = weights.renamed(weights.vgg16(), f"encoder.{module}")
    state |= {f"pool.{module}centroids": centroids, f"pool.{module}conv.weight": weight}
    if offsets is not None:
        state[f"pool.{module}conv.bias"] = offsets
    content = {
        "epoch": 29,
        "state_dict": state,
        "recalls": {1: np.float64(0.81), 5: np.float64(0.92)},
        "best_score": np.float64(0.92),
        "optimizer": {
            "state": {0: {"momentum_buffer": np.zeros((2, 3), np.float32)}},
            "param_groups": [{"lr": 1e-4, "nesterov": False, "params": [0]}],
        },
        "parallel": not bias,
    }
    return Case("pytorch_netvlad", _zip(content), run, left_out=("optimizer", "epoch", "recalls", "best_score"))


def patch_netvlad() -> Case:
    """Its whitening in float64, as `add_pca.py` computes it."""
    (weight, centroids, _), wpca, run = _vgg16_netvlad(networks.imagenet, whitening="float64")
    assert wpca is not None
    state = weights.renamed(weights.vgg16(), "encoder.")
    state |= {"pool.conv.weight": weight, "pool.centroids": centroids}
    state |= {"WPCA.0.weight": wpca[0][:, :, None, None], "WPCA.0.bias": wpca[1]}
    return Case("patch_netvlad", _zip({"num_pcs": WHITENED, "state_dict": state}), run, left_out=("num_pcs",))


def openibl(whitening: bool = True) -> Case:
    """The hub's file with its PCA; without, a training checkpoint of several GPUs."""

    def scaled(image: np.ndarray) -> np.ndarray:
        mean = np.array([0.48501960784313836, 0.4579568627450961, 0.4076039215686255])
        return ((image / 255 - mean) / (1 / 255)).transpose(2, 0, 1)

    (weight, centroids, _), wpca, run = _vgg16_netvlad(scaled, whitening="float32" if whitening else None)
    state = weights.renamed(weights.vgg16(), "base_model.base.")
    state |= {"net_vlad.conv.weight": weight, "net_vlad.centroids": centroids}
    if wpca:
        state |= {"pca_layer.weight": wpca[0][:, :, None, None], "pca_layer.bias": wpca[1]}
        return Case("openibl", _zip(state), run)
    content = {"state_dict": weights.renamed(state, "module."), "epoch": 4, "best_recall5": np.float64(0.97)}
    return Case("openibl", _zip(content), run, left_out=("epoch", "best_recall5"))


def matconvnet(version: int = 1, whitening: bool = True, caffenet: bool = False, alpha: float = 2e-5) -> Case:
    """`layerVLAD`, or with version 2 `layerVLADv2`, whose assignment has a bias."""
    layers = matlab_networks.caffenet_layers(alpha) if caffenet else matlab_networks.vgg16_layers()
    size = (99, 131) if caffenet else (64, 96)
    last = "conv5" if caffenet else "conv5_3"
    weight, centroids, offsets = _vocabulary(matlab_networks.run(layers, images(size)[0])[last], version == 2)
    arrays = [weight[:, :, 0, 0].T[None, None], -centroids.T[None, None]]
    if offsets is not None:
        arrays.insert(1, offsets.reshape(1, -1))
    pca = None
    if whitening:
        kernel, bias = _whitening(weight.shape[0] * weight.shape[1])
        pca = (kernel.T, bias)
    layers = layers + matlab_networks.netvlad_layers(arrays, pca)

    def run(image: np.ndarray) -> Arrays:
        """Without VGG16's poolings, which come before the ReLU there; a vector that is not whitened in our order."""
        out = matlab_networks.run(layers, image)
        if not whitening:
            out["output"] = out["output"].reshape(-1, CLUSTERS).T.reshape(-1)
        return {name: value for name, value in out.items() if not name.startswith(("pool", "relu"))}

    return Case(
        "netvlad_matconvnet",
        lambda folder: matlab_networks.write_network(folder / "network_struct.mat", layers),
        run,
        size,
        norm="matconvnet",
    )


def _resnet(image: np.ndarray, depth: int, layers: int) -> Arrays:
    return networks.resnet(networks.imagenet(image), weights.resnet(depth, layers), depth, layers)


def _gem_head(channels: int, units: int, p: str, fc: str) -> Arrays:
    made = weights.Random(11)
    made.linear(fc, units, channels)
    return {p: np.array([2.7], np.float32), **made.tensors}


def cosplace(backbone: str = "resnet18", units: int = 32, training: bool = False) -> Case:
    """CosPlace's and EigenPlaces' file from the hub; with `training` the last checkpoint of a run."""
    size = (75, 101)

    def features(image: np.ndarray) -> Arrays:
        if backbone == "vgg16":
            return _vgg16_features(image, networks.imagenet)
        return _resnet(image, int(backbone.removeprefix("resnet")), 4)

    channels = 2048 if backbone == "resnet50" else 512
    head = _gem_head(channels, units, "aggregation.1.p", "aggregation.3")
    body = weights.vgg16() if backbone == "vgg16" else weights.resnet(int(backbone.removeprefix("resnet")))
    state = weights.renamed(body, "backbone.", sequential=backbone != "vgg16") | head

    def run(image: np.ndarray) -> Arrays:
        out = features(image)
        out["local_norm"] = torch_normalize(out["conv5_3" if backbone == "vgg16" else "layer4"], 0)
        out["gem"] = networks.gem(out["local_norm"], head["aggregation.1.p"])
        out["linear"] = linear(out["gem"], head, "aggregation.3")
        return {**out, "output": torch_normalize(out["linear"], 0)}

    content: Any = state
    if training:
        content = {
            "epoch_num": 12,
            "model_state_dict": state,
            "optimizer_state_dict": {"state": {}, "param_groups": []},
            "classifiers_state_dict": [{"weight": np.zeros((3, 4), np.float32)}],
            "optimizers_state_dict": [{"state": {}}],
            "best_val_recall1": 91.2,
        }
    left_out = ("optimizer_state_dict", "classifiers_state_dict") if training else ()
    counters = () if backbone == "vgg16" else ("num_batches_tracked",)
    return Case("cosplace", _zip(content), run, size, (*left_out, *counters))


def mixvpr(lightning: bool = False) -> Case:
    """At 64 x 64 pixels, so that there are 16 positions instead of 400; with `lightning` a checkpoint of a run."""
    made = weights.Random(13)
    positions, channels, rows = 16, 48, 2
    for k in range(3):
        name = f"aggregator.mix.{k}.mix"
        made.normal(f"{name}.0.weight", positions)
        made.normal(f"{name}.0.bias", positions, scale=0.2)
        made.linear(f"{name}.1", positions, positions)
        made.linear(f"{name}.3", positions, positions)
    made.linear("aggregator.channel_proj", channels, 1024)
    made.linear("aggregator.row_proj", rows, positions)
    state = weights.renamed(weights.resnet(50, 3), "backbone.model.") | made.tensors

    def run(image: np.ndarray) -> Arrays:
        out = _resnet(image, 50, 3)
        return out | networks.mixvpr(out["layer3"], made.tensors)

    content: Any = state
    if lightning:
        content = {"epoch": 79, "global_step": 41_000, "pytorch-lightning_version": "1.8.4", "state_dict": state}
    return Case("mixvpr", _zip(content), run, (64, 64), ("num_batches_tracked",))


def gsv_cities(head: str = "convap", depth: int = 18, layers: int = 4, frozen: int | None = None) -> Case:
    """gsv-cities; with `frozen`, so many of five parts of the backbone, OpenVPRLab, 5 meaning none that are named so.

    Args:
        head: `convap`, `gem` or `cosplace`.
    """
    channels = 64 * 2 ** (layers - 1) * (1 if depth < 50 else 4)
    made = weights.Random(17)
    if head == "convap":
        made.linear("aggregator.channel_pool", 20, channels)
        made.tensors["aggregator.channel_pool.weight"] = made.tensors["aggregator.channel_pool.weight"][
            :, :, None, None
        ]
    elif head == "cosplace":
        made.tensors = _gem_head(channels, 20, "aggregator.gem.p", "aggregator.fc")
    else:
        made.tensors = {"aggregator.p": np.array([2.7], np.float32)}
    body = weights.resnet(depth, layers)
    state = weights.renamed(body, "backbone.model.") if frozen is None else _frozen(body, frozen)

    def run(image: np.ndarray) -> Arrays:
        out = _resnet(image, depth, layers)
        x = out[f"layer{layers}"]
        if head == "convap":
            return out | networks.convap(x, made.tensors)
        if head == "gem":
            out["gem"] = networks.gem(x, made.tensors["aggregator.p"])
            return {**out, "output": torch_normalize(out["gem"], 0)}
        out["local_norm"] = torch_normalize(x, 0)
        out["gem"] = networks.gem(out["local_norm"], made.tensors["aggregator.gem.p"])
        out["linear"] = linear(out["gem"], made.tensors, "aggregator.fc")
        return {**out, "output": torch_normalize(out["linear"], 0)}

    return Case(
        "gsv_cities" if frozen is None else "openvprlab",
        lambda folder: write_safetensors(folder / "model.safetensors", state | made.tensors),
        run,
        (96, 96),
        ("num_batches_tracked",),
    )


def _frozen(tensors: Arrays, count: int) -> Arrays:
    """OpenVPRLab's names: the stem and the layers, numbered in two parts; all in the second if nothing is frozen."""
    out = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        place, inner = (0, f"{['conv1', 'bn1'].index(first)}.") if first in ("conv1", "bn1") else (int(first[5:]), "")
        part, place = ("frozen", place) if place < count else ("unfrozen", place - count)
        out[f"backbone.{part}_layers.{place}.{inner}{rest}"] = tensor
    return out


def deep_vg(head: str = "netvlad", layers: int = 3) -> Case:
    """ResNet18 with `netvlad`, `netvlad+fc`, `gem` (l2 before the pooling), `gem+fc`, or `gem after` (or no l2)."""
    channels = 64 * 2 ** (layers - 1)
    state = weights.renamed(weights.resnet(18, layers), "backbone.", sequential=True)
    last = f"layer{layers}"
    within = "aggregation.0." if head.endswith("+fc") else "aggregation."
    vector = channels
    if head.startswith("netvlad"):
        vocabulary = _vocabulary(_resnet(images((64, 96))[0], 18, layers)[last])
        state |= {f"{within}conv.weight": vocabulary[0], f"{within}centroids": vocabulary[1]}
        vector = CLUSTERS * channels
    else:
        p = np.array([2.7], np.float32)
        state[f"{within}{0 if head == 'gem after' else 1}.p"] = p
    fc = weights.Random(19)
    if head.endswith("+fc"):
        fc.linear("aggregation.1", 20, vector)
        state |= fc.tensors

    def run(image: np.ndarray) -> Arrays:
        out = _resnet(image, 18, layers)
        if head.startswith("netvlad"):
            out |= networks.netvlad(out[last], vocabulary[0], vocabulary[1])
            x = out["netvlad"]
        else:
            local = out[last] if head == "gem after" else torch_normalize(out[last], 0)
            x = out["gem"] = networks.gem(local, p)
        if fc.tensors:
            x = linear(x, fc.tensors, "aggregation.1")
        return {**out, "output": torch_normalize(x, 0)}

    return Case("deep_vg", _zip(state), run, left_out=("num_batches_tracked",))


def torchvision(backbone: str = "resnet18") -> Case:
    """ImageNet's networks with their classifier; the descriptor is GeM with p = 3."""
    made = weights.Random(23)
    if backbone == "vgg16":
        state, left_out = weights.renamed(weights.vgg16(), "features."), ("classifier.6.weight",)
        made.linear("classifier.6", 10, 16)
    elif backbone == "efficientnet_lite0":
        state, left_out = dict(weights.efficientnet_lite0()), ("_fc.weight", "_conv_head.weight", "_blocks.11: ")
    else:
        state, left_out = (
            dict(weights.resnet(int(backbone.removeprefix("resnet")))),
            ("fc.weight", "fc.bias", "layer4: "),
        )
        made.linear("fc", 10, 512)
    state |= made.tensors

    def run(image: np.ndarray) -> Arrays:
        if backbone == "vgg16":
            out = _vgg16_features(image, networks.imagenet)
            x = out["conv5_3"]
        elif backbone == "efficientnet_lite0":
            scaled = ((image - 127.0) / 128).transpose(2, 0, 1)
            out = networks.efficientnet_lite0(scaled, weights.efficientnet_lite0())
            x = out["block_10"]
        else:
            out = _resnet(image, int(backbone.removeprefix("resnet")), 3)
            x = out["layer3"]
        out["gem"] = networks.gem(x, np.array([3.0]))
        return {**out, "output": torch_normalize(out["gem"], 0)}

    return Case("torchvision", _zip(state), run, (64, 96), left_out)


CASES: dict[str, Callable[[], Case]] = {
    "netvlad.mat": matconvnet,
    "netvlad.mat of layerVLADv2, without WPCA": lambda: matconvnet(version=2, whitening=False),
    "netvlad.mat of CaffeNet": lambda: matconvnet(caffenet=True),
    "pytorch-NetVlad": pytorch_netvlad,
    "pytorch-NetVlad, vladv2": lambda: pytorch_netvlad(bias=True),
    "OpenIBL": openibl,
    "OpenIBL, training": lambda: openibl(whitening=False),
    "Patch-NetVLAD": patch_netvlad,
    "CosPlace ResNet18": cosplace,
    "CosPlace ResNet18, training": lambda: cosplace(training=True),
    "EigenPlaces ResNet50": lambda: cosplace("resnet50", 64),
    "CosPlace VGG16": lambda: cosplace("vgg16"),
    "MixVPR": mixvpr,
    "MixVPR of Lightning": lambda: mixvpr(lightning=True),
    "gsv-cities ConvAP": gsv_cities,
    "gsv-cities GeM": lambda: gsv_cities("gem", layers=3),
    "gsv-cities CosPlace": lambda: gsv_cities("cosplace"),
    "OpenVPRLab ConvAP": lambda: gsv_cities(frozen=3),
    "OpenVPRLab GeM, not pretrained": lambda: gsv_cities("gem", frozen=0),
    "deep-vg NetVLAD": deep_vg,
    "deep-vg NetVLAD and fc": lambda: deep_vg("netvlad+fc"),
    "deep-vg GeM": lambda: deep_vg("gem", layers=4),
    "deep-vg GeM and fc": lambda: deep_vg("gem+fc"),
    "deep-vg GeM, l2 after": lambda: deep_vg("gem after"),
    "torchvision ResNet18": torchvision,
    "torchvision VGG16": lambda: torchvision("vgg16"),
    "EfficientNet-Lite0": lambda: torchvision("efficientnet_lite0"),
}
