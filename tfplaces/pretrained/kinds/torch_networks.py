"""The backbone of a PyTorch checkpoint, as a part of a plan."""

from __future__ import annotations

import dataclasses
from typing import Any

from tfplaces.common.errors import UserError
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds.base import Weight, made, seen
from tfplaces.pretrained.torch_backbones import TORCH_BACKBONES, backbone_arrays
from tfplaces.pretrained.torch_names import FoundBackbone, find_backbone


@dataclasses.dataclass(frozen=True)
class TorchBackbone:
    """A backbone up to its cut.

    Attributes:
        arguments: `backbone` and `cut` of a `PlaceNet`.
        channels: of its last map.
        stride: pixels of the image between neighbouring places of its last map.
        weights: those of its layers.
    """

    arguments: dict[str, Any]
    channels: int
    stride: int
    weights: dict[str, Weight]


def torch_backbone(checkpoint: Checkpoint, prefix: str, cut: str | None = None) -> TorchBackbone:
    """Finds the backbone below a prefix and makes the weights of its layers.

    Args:
        prefix: what its tensors' names begin with.
        cut: our layer that it ends with; by default the last stage of a ResNet that the checkpoint has, and conv5_3.

    Raises:
        UserError: there is none that we have, or a tensor is missing or of another shape.
    """
    found = found_backbone(checkpoint, prefix)
    convolutions = TORCH_BACKBONES[found.network]()
    stage = 0
    if cut is None and found.network.startswith("resnet"):
        while stage < 4 and found.name(f"layer{stage + 1}.0.conv1.weight") in checkpoint.tensors:
            stage += 1
        cut = f"layer{stage}"
    elif cut is None:
        cut = convolutions[-1].layer
    arrays = backbone_arrays(checkpoint.tensors, found.network, cut, prefix=prefix, source=checkpoint.path)
    weights = {name: Weight(arrays.made_of[name], made(array)) for name, array in arrays.arrays.items()}
    last = [c for c in convolutions if c.layer == cut or c.layer.startswith(f"{cut}_")][-1]
    return TorchBackbone({"backbone": found.network, "cut": cut}, last.shape[0], 2 ** (stage + 1), weights)


def found_backbone(checkpoint: Checkpoint, prefix: str) -> FoundBackbone:
    """Which backbone lies below a prefix; raises UserError unless it is one of ours."""
    try:
        found = find_backbone(checkpoint.tensors, prefix)
    except UserError as error:
        raise UserError(f"{checkpoint.path}: {error}") from None
    if found is None or found.network not in TORCH_BACKBONES:
        network = f"is {found.network}" if found else f"is none that is known ({seen(checkpoint)})"
        raise UserError(
            f"{checkpoint.path}: its backbone, below {prefix!r}, {network}; {', '.join(TORCH_BACKBONES)} can be "
            "imported"
        )
    return found
