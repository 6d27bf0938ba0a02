"""NetVLAD's networks as MatConvNet keeps them: made with random values, written as `.mat`, and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from reference.operations import Arrays, conv, matconvnet_normalize, max_pool, relu, softmax
from reference.weights import vgg16

AVERAGE = np.array([121.5, 117.25, 104.75], np.float32)
_VGG = [("1_1", 0), ("1_2", 2), ("2_1", 5), ("2_2", 7), ("3_1", 10), ("3_2", 12), ("3_3", 14)]
_VGG += [("4_1", 17), ("4_2", 19), ("4_3", 21), ("5_1", 24), ("5_2", 26), ("5_3", 28)]


def vgg16_layers() -> list[dict[str, Any]]:
    """VGG16's layers 1 to 29: the pooling comes before its ReLU there."""
    layers: list[dict[str, Any]] = []
    weights = vgg16()
    for k, (name, index) in enumerate(_VGG):
        kernel = weights[f"{index}.weight"].transpose(2, 3, 1, 0)
        layers.append(_conv(f"conv{name}", kernel, weights[f"{index}.bias"], pad=1))
        last = k + 1 == len(_VGG)
        if not last and _VGG[k + 1][0][0] != name[0]:
            layers.append({"name": f"pool{name[0]}", "type": "pool", "method": "max", "pool": 2, "stride": 2, "pad": 0})
        if not last:
            layers.append({"name": f"relu{name}", "type": "relu"})
    return layers


def caffenet_layers(alpha: float = 2e-5) -> list[dict[str, Any]]:
    """Caffe's reference network up to conv5; the normalisation's alpha is MatConvNet's, a fifth of Caffe's."""
    rng = np.random.default_rng(5)
    layers: list[dict[str, Any]] = []
    shapes = [(11, 3, 96, 4, 0), (5, 48, 256, 1, 2), (3, 256, 384, 1, 1), (3, 192, 384, 1, 1), (3, 192, 256, 1, 1)]
    for k, (size, inputs, outputs, stride, pad) in enumerate(shapes, 1):
        kernel = rng.standard_normal((size, size, inputs, outputs), np.float32) * np.sqrt(2 / (size * size * inputs))
        bias = rng.standard_normal(outputs, np.float32) * np.float32(0.05)
        layers.append(_conv(f"conv{k}", kernel, bias, stride=stride, pad=pad))
        if k < 5:
            layers.append({"name": f"relu{k}", "type": "relu"})
        if k < 3:
            layers.append({"name": f"pool{k}", "type": "pool", "method": "max", "pool": 3, "stride": 2, "pad": 0})
            layers.append({"name": f"norm{k}", "type": "normalize", "param": np.array([5, 1, alpha, 0.75])})
    return layers


def netvlad_layers(weights: list[np.ndarray], whitening: tuple[np.ndarray, np.ndarray] | None) -> list[dict[str, Any]]:
    """Layers 30 to 35."""
    channels, clusters = weights[0].shape[2:]
    layers: list[dict[str, Any]] = [
        {"name": "preL2", "type": "normalize", "param": np.array([2 * channels, 1e-12, 1, 0.5])},
        {"name": "vlad:core", "type": "custom", "weights": weights, "K": clusters, "D": channels},
        {"name": "vlad:intranorm", "type": "normalize", "param": np.array([2 * channels, 1e-12, 1, 0.5])},
        {"name": "postL2", "type": "custom"},
    ]
    if whitening:
        layers.append(_conv("WPCA", whitening[0][None, None], whitening[1]))
        layers.append({"name": "finalL2", "type": "custom"})
    return layers


def write_network(path: Path, layers: list[dict[str, Any]]) -> Path:
    """Writes the struct `net`; lists become cells."""
    cells = np.empty((1, len(layers)), object)
    for k, layer in enumerate(layers):
        cells[0, k] = {key: _cell(value) if isinstance(value, list) else value for key, value in layer.items()}
    normalization = {"imageSize": np.array([224.0, 224, 3]), "averageImage": AVERAGE.reshape(1, 1, 3)}
    with path.open("wb") as file:
        scipy.io.savemat(file, {"net": {"layers": cells, "meta": {"normalization": normalization}}})
    return path


def run(layers: list[dict[str, Any]], image: np.ndarray) -> Arrays:
    """What each layer gives, by its name; maps are `[channels, height, width]`, the descriptor is `output`."""
    out: Arrays = {}
    x = (image - AVERAGE.astype(np.float64)).transpose(2, 0, 1)
    for layer in layers:
        if layer["name"] == "vlad:core":
            x = _vlad(x, layer["weights"])
        elif layer["name"] in ("postL2", "finalL2"):
            if layer["name"] == "postL2":
                x = x.reshape(-1)  # [D, K], row by row: K runs fastest
            x = x / (np.sqrt(np.sum(x * x)) + 1e-12)
        elif layer["name"] == "WPCA":
            x = layer["weights"][0][0, 0].T.astype(np.float64) @ x + layer["weights"][1].reshape(-1)
        elif layer["type"] == "conv":
            kernel, bias = layer["weights"]
            kernel = kernel.transpose(3, 2, 0, 1)
            groups = len(x) // kernel.shape[1]
            x = conv(x, kernel, bias.reshape(-1), int(layer["stride"][0]), int(layer["pad"][0]), groups)
        elif layer["type"] == "relu":
            x = relu(x)
        elif layer["type"] == "pool":
            x = max_pool(x, layer["pool"], layer["stride"])
        else:
            size, kappa, alpha, beta = layer["param"]
            x = matconvnet_normalize(x, int(size), kappa, alpha, beta)
        out[layer["name"]] = x
    return {**out, "output": x}


def _vlad(x: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """V `[D, K]` of normalised features: Σ a · (x + w), w being the negative centroid."""
    features = x.reshape(len(x), -1)
    assignment = weights[0][0, 0].astype(np.float64)
    logits = assignment.T @ features
    if len(weights) == 3:
        logits = logits + weights[1].reshape(-1)[:, None]
    a = softmax(logits, 0)
    negative = weights[-1][0, 0].astype(np.float64)
    return np.stack([(a[k] * (features + negative[:, k : k + 1])).sum(1) for k in range(len(a))], 1)


def _conv(name: str, kernel: np.ndarray, bias: np.ndarray, stride: int = 1, pad: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "type": "conv",
        "weights": [kernel.astype(np.float32), bias.reshape(1, -1).astype(np.float32)],
        "pad": np.array([pad] * 4, np.float64),
        "stride": np.array([stride, stride], np.float64),
    }


def _cell(items: list[Any]) -> np.ndarray:
    cell = np.empty((1, len(items)), object)
    cell[0, :] = items
    return cell
