"""Which backbone the tensors of a PyTorch file are of, and what they are called there.

Names are those of torchvision (`layer1.0.conv1.weight`; `0.weight` of VGG16's `features`) and, of EfficientNet-Lite0,
of the published PyTorch file, all below any prefix. A ResNet may also be a Sequential of its children
(`4.0.conv1.weight`), as in CosPlace, or lie in `frozen_layers` and `unfrozen_layers`, as in OpenVPRLab.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np

from tfplaces.common.errors import UserError
from tfplaces.common.text import printable_name

# torchvision's ResNets, those that there are none of here as well, so that they can be named.
_RESNETS = {
    (False, (2, 2, 2, 2)): "resnet18",
    (False, (3, 4, 6, 3)): "resnet34",
    (True, (3, 4, 6, 3)): "resnet50",
    (True, (3, 4, 23, 3)): "resnet101",
    (True, (3, 8, 36, 3)): "resnet152",
}
ALEXNET = "torchvision's AlexNet"


class TensorEntry(Protocol):
    """A tensor of a file, of which shape and type are known before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape in the file."""

    def read(self) -> np.ndarray:
        """Its values."""


Tensors = Mapping[str, "np.ndarray | TensorEntry"]


@dataclasses.dataclass(frozen=True)
class FoundBackbone:
    """The backbone that tensors are of.

    Attributes:
        network: its name in torchvision, also where there is none of that name in `tfplaces.models.BACKBONES`.
        prefix: what all its names begin with, empty or with a dot at the end.
        rename: gives the source's name, without the prefix, by torchvision's.
    """

    network: str
    prefix: str
    rename: Callable[[str], str]

    def name(self, name: str) -> str:
        """The source's name of what torchvision calls `name`."""
        return self.prefix + self.rename(name)


def find_backbone(tensors: Tensors, prefix: str | None = None) -> FoundBackbone | None:
    """Finds the backbone among tensors by their names and shapes.

    Args:
        tensors: by name.
        prefix: what its names begin with; by default all prefixes are tried.

    Returns:
        None where there is none.

    Raises:
        UserError: there are several.
    """
    found = []
    for marker, follower, stem, make in _MARKERS:
        for name in tensors:
            start = name.removesuffix(marker)
            if start == name or (start and not start.endswith(".")) or (prefix is not None and start != prefix):
                continue
            if tuple(tensors[name].shape) == stem and start + follower in tensors:
                found.append(make(tensors, start))
    if len(found) > 1:
        which = " and ".join(f"{f.network} below {printable_name(f.prefix)!r}" for f in found[:3])
        raise UserError(f"there are several backbones, {which}: a file of one network is expected")
    return found[0] if found else None


def _named_resnet(tensors: Tensors, prefix: str) -> FoundBackbone:
    return _as_resnet(tensors, prefix, lambda name: name)


def _sequential_resnet(tensors: Tensors, prefix: str) -> FoundBackbone:
    """Of `Sequential(conv1, bn1, relu, maxpool, layer1, …)`."""

    def rename(name: str) -> str:
        first, _, rest = name.partition(".")
        return f"{int(first[5:]) + 3 if first.startswith('layer') else int(first == 'bn1')}.{rest}"

    return _as_resnet(tensors, prefix, rename)


def _parted_resnet(tensors: Tensors, prefix: str) -> FoundBackbone:
    """Of `Sequential(Sequential(conv1, bn1, relu, maxpool), layer1, …)` in two parts, the first perhaps empty."""
    pattern = re.compile(re.escape(prefix) + r"frozen_layers\.([0-9]{1,3})\.")
    frozen = max((int(match[1]) + 1 for match in map(pattern.match, tensors) if match), default=0)

    def rename(name: str) -> str:
        first, _, rest = name.partition(".")
        place = int(first[5:]) if first.startswith("layer") else 0
        rest = rest if place else f"{int(first == 'bn1')}.{rest}"
        return f"frozen_layers.{place}.{rest}" if place < frozen else f"unfrozen_layers.{place - frozen}.{rest}"

    return _as_resnet(tensors, prefix, rename)


def _as_resnet(tensors: Tensors, prefix: str, rename: Callable[[str], str]) -> FoundBackbone:
    """Which ResNet it is: by its blocks in the stages that are there, the smallest that has them."""

    def blocks() -> Iterator[int]:
        for stage in range(1, 5):
            count = 0
            while prefix + rename(f"layer{stage}.{count}.conv1.weight") in tensors:
                count += 1
            if not count:
                return
            yield count

    counts = tuple(blocks())
    bottleneck = prefix + rename("layer1.0.conv3.weight") in tensors
    names = [name for (kind, known), name in _RESNETS.items() if kind == bottleneck and known[: len(counts)] == counts]
    network = names[0] if names and counts else f"a ResNet of {', '.join(map(str, counts)) or 'no'} blocks"
    return FoundBackbone(network, prefix, rename)


def _plain(network: str) -> Callable[[Tensors, str], FoundBackbone]:
    return lambda tensors, prefix: FoundBackbone(network, prefix, lambda name: name)


# How a backbone is told: the name that the first kernel ends in, another name that is there, the kernel's shape, and
# what then says which it is.
_MARKERS: tuple[tuple[str, str, tuple[int, ...], Callable[[Tensors, str], FoundBackbone]], ...] = (
    ("conv1.weight", "bn1.weight", (64, 3, 7, 7), _named_resnet),
    ("0.weight", "4.0.conv1.weight", (64, 3, 7, 7), _sequential_resnet),
    ("frozen_layers.0.0.weight", "frozen_layers.0.1.weight", (64, 3, 7, 7), _parted_resnet),
    ("unfrozen_layers.0.0.weight", "unfrozen_layers.0.1.weight", (64, 3, 7, 7), _parted_resnet),
    ("0.weight", "2.weight", (64, 3, 3, 3), _plain("vgg16")),
    ("0.weight", "3.weight", (64, 3, 11, 11), _plain(ALEXNET)),
    ("_conv_stem.weight", "_bn0.weight", (32, 3, 3, 3), _plain("efficientnet_lite0")),
)
