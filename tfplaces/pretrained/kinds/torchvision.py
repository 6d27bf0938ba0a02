"""Backbones alone, as torchvision and the makers of EfficientNet-Lite publish them with their classifier.

What comes after the backbone is generalised mean pooling with p = 3, for which there is nothing to train.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tfplaces.models.backbones import BACKBONES
from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds.base import Kind, Plan, Size, Weight, has, made
from tfplaces.pretrained.kinds.torch_networks import found_backbone, torch_backbone
from tfplaces.pretrained.torch_backbones import torch_preprocessing

NOTE = (
    "Nothing after the backbone was trained: the descriptor is generalised mean pooling with p = 3. For a NetVLAD on "
    "this backbone: tfplaces-train --backbone={backbone} --backbone_weights={file} --dataset=..."
)
GEM: dict[str, Any] = {"aggregation": "gem", "linear": 0, "l2_first": False}
GEM_WEIGHTS = {"gem/p": Weight((), made(np.array([3.0])))}


def recognises(checkpoint: Checkpoint) -> bool:
    return (
        has(checkpoint, "conv1.weight", "layer1.0.conv1.weight")
        or has(checkpoint, "features.0.weight")
        or has(checkpoint, "_conv_stem.weight")
    )


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    prefix = "features." if has(checkpoint, "features.0.weight") else ""
    name = found_backbone(checkpoint, prefix).network
    backbone = torch_backbone(checkpoint, prefix, BACKBONES[name].cut)
    return Plan(
        {**backbone.arguments, **GEM, **torch_preprocessing(name), "input_size": input_size or (224, 224)},
        {**backbone.weights, **GEM_WEIGHTS},
        notes=[NOTE.format(backbone=name, file=checkpoint.path)],
        resize="The source resizes the shorter side to 256 and takes the middle 224x224.",
    )


KIND = Kind("ImageNet networks of torchvision, and EfficientNet-Lite", recognises, plan)
