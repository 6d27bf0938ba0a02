"""Checkpoints of gmberton/CosPlace and EigenPlaces, which have one structure: a backbone, L2, GeM, a linear layer."""

from __future__ import annotations

from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import heads
from tfplaces.pretrained.kinds.base import IMAGENET, Kind, Plan, Size, has
from tfplaces.pretrained.kinds.torch_networks import torch_backbone


def recognises(checkpoint: Checkpoint) -> bool:
    return has(checkpoint, "backbone.0.weight", "aggregation.1.p", "aggregation.3.weight")


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    backbone = torch_backbone(checkpoint, "backbone.")
    options, weights = heads.gem(checkpoint, "aggregation.1.p", backbone.channels, "aggregation.3", l2_first=True)
    return Plan(
        {**backbone.arguments, **options, **IMAGENET, "norm": "torch", "input_size": input_size or (512, 512)},
        {**backbone.weights, **weights},
        resize="The source trains at 512x512 and does not resize the images that it tests.",
    )


KIND = Kind("gmberton/CosPlace or EigenPlaces", recognises, plan)
