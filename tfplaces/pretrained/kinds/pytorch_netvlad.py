"""Checkpoints of Nanne/pytorch-NetVlad: VGG16 and NetVLAD, with or without a bias in its assignment (vladv2)."""

from __future__ import annotations

from tfplaces.pretrained.checkpoints import Checkpoint
from tfplaces.pretrained.kinds import heads
from tfplaces.pretrained.kinds.base import IMAGENET, Kind, Plan, Size, has
from tfplaces.pretrained.kinds.torch_networks import torch_backbone


def recognises(checkpoint: Checkpoint) -> bool:
    return has(checkpoint, "encoder.0.weight", "pool.centroids") and not has(checkpoint, "WPCA.0.weight")


def plan(checkpoint: Checkpoint, input_size: Size | None) -> Plan:
    backbone = torch_backbone(checkpoint, "encoder.")
    options, weights = heads.netvlad(checkpoint, "pool.", backbone.channels)
    return Plan(
        {**backbone.arguments, **options, **IMAGENET, "norm": "torch", "input_size": input_size or (480, 640)},
        {**backbone.weights, **weights},
        resize="The source does not resize images.",
    )


KIND = Kind("Nanne/pytorch-NetVlad", recognises, plan)
