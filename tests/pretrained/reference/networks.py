"""Forward passes of the published networks; each returns what its layers give, by the names of our layers.

Maps are `[channels, height, width]`; the names of a network's stages are those under which the package has them, so
that tests can compare them one by one.
"""

from __future__ import annotations

import numpy as np

from reference.operations import (
    Arrays,
    batch_norm,
    conv,
    layer_norm,
    linear,
    max_pool,
    relu,
    relu6,
    softmax,
    torch_normalize,
)
from reference.weights import LITE0, RESNET_BLOCKS, VGG16

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def imagenet(image: np.ndarray) -> np.ndarray:
    """torchvision's preprocessing of RGB 0 to 255 `[height, width, 3]`."""
    return ((image / 255.0 - MEAN) / DEVIATION).transpose(2, 0, 1)


def vgg16(x: np.ndarray, tensors: Arrays, prefix: str) -> Arrays:
    """Up to conv5_3, before its ReLU."""
    out = {}
    block, k = 1, 1
    for index in VGG16:
        x = conv(x, tensors[f"{prefix}{index}.weight"], tensors[f"{prefix}{index}.bias"], pad=1)
        out[f"conv{block}_{k}"] = x
        if index == 28:
            break
        x = relu(x)
        if index + 2 not in VGG16:
            x, block, k = max_pool(x, 2, 2), block + 1, 1
        else:
            k += 1
    return out


def resnet(x: np.ndarray, tensors: Arrays, depth: int, layers: int) -> Arrays:
    """torchvision's names; up to `layer{layers}`."""
    out = {}
    x = relu(batch_norm(conv(x, tensors["conv1.weight"], stride=2, pad=3), tensors, "bn1", 1e-5))
    x = max_pool(x, 3, 2, 1)
    for layer, blocks in enumerate(RESNET_BLOCKS[depth][:layers], 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            stride = 2 if block == 0 and layer > 1 else 1
            kernels = 2 if depth < 50 else 3
            y = x
            for k in range(1, kernels + 1):
                kernel = tensors[f"{name}.conv{k}.weight"]
                strided = k == (1 if depth < 50 else 2)
                y = conv(y, kernel, stride=stride if strided else 1, pad=kernel.shape[2] // 2)
                y = batch_norm(y, tensors, f"{name}.bn{k}", 1e-5)
                if k < kernels:
                    y = relu(y)
            if f"{name}.downsample.0.weight" in tensors:
                x = conv(x, tensors[f"{name}.downsample.0.weight"], stride=stride)
                x = batch_norm(x, tensors, f"{name}.downsample.1", 1e-5)
            x = relu(x + y)
        out[f"layer{layer}"] = x
    return out


def efficientnet_lite0(x: np.ndarray, tensors: Arrays, blocks: int = 11) -> Arrays:
    """Its first blocks, padded as by TensorFlow: for an even size and stride 2, less before than behind."""

    def same(x: np.ndarray, size: int, stride: int) -> tuple[int, int]:
        total = max((-(-x.shape[1] // stride) - 1) * stride + size - x.shape[1], 0)
        assert total == max((-(-x.shape[2] // stride) - 1) * stride + size - x.shape[2], 0)
        return total // 2, total - total // 2

    out = {}
    x = conv(x, tensors["_conv_stem.weight"], stride=2, pad=same(x, 3, 2))
    x = relu6(batch_norm(x, tensors, "_bn0", 1e-3))
    stages = [
        (size, stride if block == 0 else 1, expansion, inputs if block == 0 else outputs, outputs)
        for repeats, size, stride, expansion, inputs, outputs in LITE0
        for block in range(repeats)
    ]
    for index, (size, stride, expansion, inputs, outputs) in enumerate(stages[:blocks]):
        name, y = f"_blocks.{index}", x
        if expansion > 1:
            y = relu6(batch_norm(conv(y, tensors[f"{name}._expand_conv.weight"]), tensors, f"{name}._bn0", 1e-3))
            out[f"block_{index}_expand_relu"] = y
        y = conv(y, tensors[f"{name}._depthwise_conv.weight"], None, stride, same(y, size, stride), len(y))
        y = relu6(batch_norm(y, tensors, f"{name}._bn1", 1e-3))
        y = batch_norm(conv(y, tensors[f"{name}._project_conv.weight"]), tensors, f"{name}._bn2", 1e-3)
        x = x + y if stride == 1 and inputs == outputs else y
        if stride == 1 and inputs == outputs:
            out[f"block_{index}"] = x
    return out


def netvlad(x: np.ndarray, weight: np.ndarray, centroids: np.ndarray, bias: np.ndarray | None = None) -> Arrays:
    """PyTorch's NetVLAD: residuals as they are written, x − c for every place and cluster.

    Args:
        x: `[channels, height, width]`.
        weight: `[clusters, channels, 1, 1]`.
        centroids: `[clusters, channels]`.
        bias: `[clusters]`.
    """
    features = torch_normalize(x, 0).reshape(len(x), -1)
    logits = weight[:, :, 0, 0].astype(np.float64) @ features
    if bias is not None:
        logits = logits + bias[:, None]
    assignment = softmax(logits, 0)
    residuals = np.stack([(assignment[k] * (features - centroids[k][:, None])).sum(1) for k in range(len(centroids))])
    vlad = torch_normalize(residuals, 1).reshape(-1)
    return {"residuals": residuals, "netvlad": torch_normalize(vlad, 0)}


def gem(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    power = float(p[0])
    return np.mean(np.maximum(x, 1e-6) ** power, axis=(1, 2)) ** (1 / power)


def mixvpr(x: np.ndarray, tensors: Arrays, prefix: str = "aggregator.") -> Arrays:
    out = {}
    x = x.reshape(len(x), -1)
    depth = 0
    while f"{prefix}mix.{depth}.mix.0.weight" in tensors:
        name = f"{prefix}mix.{depth}.mix"
        y = layer_norm(x, tensors[f"{name}.0.weight"], tensors[f"{name}.0.bias"])
        out[f"mixer_{depth}_norm"] = y
        y = linear(relu(linear(y, tensors, f"{name}.1")), tensors, f"{name}.3")
        x = out[f"mixer_{depth}_add"] = x + y
        depth += 1
    projected = out["channel_projection"] = linear(x.T, tensors, f"{prefix}channel_proj")
    rows = out["row_projection"] = linear(projected.T, tensors, f"{prefix}row_proj")
    return {**out, "output": torch_normalize(rows.reshape(-1), 0)}


def convap(x: np.ndarray, tensors: Arrays, prefix: str = "aggregator.") -> Arrays:
    pooled = conv(x, tensors[f"{prefix}channel_pool.weight"], tensors[f"{prefix}channel_pool.bias"])
    _, height, width = pooled.shape
    bins = [
        pooled[:, i * height // 2 : -(-(i + 1) * height // 2), j * width // 2 : -(-(j + 1) * width // 2)].mean((1, 2))
        for i in range(2)
        for j in range(2)
    ]
    vector = np.stack(bins, 1).reshape(-1)
    return {"channel_pooling": pooled, "average_pooling": vector, "output": torch_normalize(vector, 0)}
